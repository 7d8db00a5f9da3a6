"""A thread of a grid and how many there are, as LLVM IR text."""

from __future__ import annotations

BLOCK = 128  # threads of a block: TIAOT_CUDA_BLOCK of module.h

THREADS = f"""
declare i32 @llvm.nvvm.read.ptx.sreg.tid.x()
declare i32 @llvm.nvvm.read.ptx.sreg.ctaid.x()
declare i32 @llvm.nvvm.read.ptx.sreg.nctaid.x()
define internal i64 @tiaot_thread() alwaysinline {{
  %c = call i32 @llvm.nvvm.read.ptx.sreg.ctaid.x()
  %cw = zext i32 %c to i64
  %b = mul nuw nsw i64 %cw, {BLOCK}
  %t = call i32 @llvm.nvvm.read.ptx.sreg.tid.x()
  %tw = zext i32 %t to i64
  %r = add nuw nsw i64 %b, %tw
  ret i64 %r
}}
define internal i64 @tiaot_threads() alwaysinline {{
  %c = call i32 @llvm.nvvm.read.ptx.sreg.nctaid.x()
  %cw = zext i32 %c to i64
  %r = mul nuw nsw i64 %cw, {BLOCK}
  ret i64 %r
}}"""
