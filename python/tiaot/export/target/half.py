"""Conversions of float16 as LLVM IR text: what x86-64-v2 has no instructions for, under the names that LLVM calls them.

They round to the nearest, ties to even, as IEEE 754 asks. Taichi goes to and from float64 by way of float32.
"""

DEFINITIONS = """
define weak hidden float @__extendhfsf2(half %h) {
  %bits = bitcast half %h to i16
  %wide = zext i16 %bits to i32
  %magnitude = and i32 %wide, 32767
  %shifted = shl i32 %magnitude, 13
  %exponent = and i32 %shifted, 260046848
  %biased = add i32 %shifted, 939524096
  %is.special = icmp eq i32 %exponent, 260046848
  %special = add i32 %biased, 939524096
  %is.small = icmp eq i32 %exponent, 0
  %above = add i32 %biased, 8388608
  %above.float = bitcast i32 %above to float
  %small.float = fsub float %above.float, 0x3F10000000000000
  %small = bitcast float %small.float to i32
  %finite = select i1 %is.small, i32 %small, i32 %biased
  %unsigned = select i1 %is.special, i32 %special, i32 %finite
  %sign = and i32 %wide, 32768
  %sign.up = shl i32 %sign, 16
  %signed = or i32 %unsigned, %sign.up
  %result = bitcast i32 %signed to float
  ret float %result
}
define weak hidden half @__truncsfhf2(float %f) {
  %bits = bitcast float %f to i32
  %sign = and i32 %bits, -2147483648
  %magnitude = xor i32 %bits, %sign
  %is.large = icmp uge i32 %magnitude, 1199570944
  %is.nan = icmp ugt i32 %magnitude, 2139095040
  %large = select i1 %is.nan, i32 32256, i32 31744
  %is.small = icmp ult i32 %magnitude, 947912704
  %magnitude.float = bitcast i32 %magnitude to float
  %small.float = fadd float %magnitude.float, 5.000000e-01
  %small.bits = bitcast float %small.float to i32
  %small = sub i32 %small.bits, 1056964608
  %shifted = lshr i32 %magnitude, 13
  %odd = and i32 %shifted, 1
  %biased = add i32 %magnitude, -939520001
  %rounded = add i32 %biased, %odd
  %normal = lshr i32 %rounded, 13
  %finite = select i1 %is.small, i32 %small, i32 %normal
  %unsigned = select i1 %is.large, i32 %large, i32 %finite
  %sign.down = lshr i32 %sign, 16
  %signed = or i32 %unsigned, %sign.down
  %narrow = trunc i32 %signed to i16
  %result = bitcast i16 %narrow to half
  ret half %result
}
"""
