"""A stand-in for the CUDA driver: with it Taichi generates code for CUDA on a machine that has no GPU. It does nothing,
and answers what Taichi asks before it compiles.

The answers do not reach the code: what Taichi would launch with them is the runtime's to decide.
"""

from __future__ import annotations

import os
from pathlib import Path

from ..module.link import link_library
from ..taichi.trace import Mode
from ..target import native
from ..target.compile import compile_text

_CAPABILITY = (7, 5)  # of the device: Taichi's code for it runs on every later one
# By CUdevice_attribute. 115 is whether it has memory pools: where not, Taichi reads a flag that it never wrote.
_ATTRIBUTES = {75: _CAPABILITY[0], 76: _CAPABILITY[1], 16: 64, 39: 1024, 97: 65536, 115: 1}
_OTHER_ATTRIBUTES = 1024
_MEMORY = 8 << 30  # what the device is said to have, bytes

# Functions that store a number through their first argument.
_STORES = {
    "cuDriverGetVersion": ("i32", 12000),
    "cuDeviceGetCount": ("i32", 1),
    "cuDeviceGet": ("i32", 0),
    "cuDeviceGetName": ("i8", 0),
    "cuDevicePrimaryCtxRetain": ("i64", 1),
    "cuCtxGetCurrent": ("i64", 1),
    "cuModuleLoadDataEx": ("i64", 1),
    "cuModuleGetFunction": ("i64", 1),
    "cuOccupancyMaxActiveBlocksPerMultiprocessor": ("i32", 4),
    "cuFuncGetAttribute": ("i32", 32),
    "cuEventCreate": ("i64", 1),
    "cuStreamCreate": ("i64", 1),
    "cuDeviceGetDefaultMemPool": ("i64", 1),
}
_ALLOCATE = ("cuMemAlloc_v2", "cuMemAllocAsync", "cuMemAllocManaged")
_TO_HOST = ("cuMemcpyDtoH_v2", "cuMemcpyDtoHAsync_v2")
_SUCCEED = """
    cuInit cuCtxCreate_v2 cuCtxSetCurrent cuCtxSetLimit cuEventDestroy cuEventElapsedTime cuEventRecord
    cuEventSynchronize cuExternalMemoryGetMappedBuffer cuExternalMemoryGetMappedMipmappedArray
    cuFuncSetAttribute cuImportExternalMemory cuImportExternalSemaphore cuLaunchKernel cuMemAdvise cuMemFree_v2
    cuMemFreeAsync cuMemPoolSetAttribute cuMemcpyDtoD_v2 cuMemcpyHtoDAsync_v2 cuMemcpyHtoD_v2 cuMemsetD32_v2
    cuMemsetD8_v2 cuMipmappedArrayGetLevel cuPointerGetAttribute cuSignalExternalSemaphoresAsync
    cuStreamSynchronize cuSurfObjectCreate cuWaitExternalSemaphoresAsync
"""


def _environment(folder: Path) -> dict[str, str]:
    """Puts the driver into a folder; what a process needs to find it there."""
    write_driver(folder)
    return {"LD_LIBRARY_PATH": os.pathsep.join([str(folder), os.environ.get("LD_LIBRARY_PATH", "")])}


CUDA = Mode("cuda", _environment)


def write_driver(folder: Path) -> None:
    """Write the library `libcuda.so` into a folder, for LD_LIBRARY_PATH."""
    Path(folder, "libcuda.so").write_bytes(link_library([compile_text(_text(), native())], native()))


def _text() -> str:
    functions = [f"define i32 @{name}() {{\n  ret i32 0\n}}" for name in _SUCCEED.split()]
    for name, (kind, value) in _STORES.items():
        functions.append(f"define i32 @{name}({kind}* %to) {{\n  store {kind} {value}, {kind}* %to\n  ret i32 0\n}}")
    for name in _ALLOCATE:
        functions.append(
            f"""define i32 @{name}(i8** %to, i64 %bytes) {{
  %many = icmp ugt i64 %bytes, 1048576
  %some = select i1 %many, i64 1048576, i64 %bytes
  %memory = call i8* @calloc(i64 1, i64 %some)
  store i8* %memory, i8** %to
  ret i32 0
}}"""
        )
    for name in _TO_HOST:
        functions.append(
            f"""define i32 @{name}(i8* %to, i8* %from, i64 %bytes) {{
  call void @llvm.memset.p0i8.i64(i8* %to, i8 0, i64 %bytes, i1 false)
  ret i32 0
}}"""
        )
    for name in ("cuGetErrorName", "cuGetErrorString"):
        functions.append(
            f"""define i32 @{name}(i32 %error, i8** %to) {{
  store i8* getelementptr ([9 x i8], [9 x i8]* @error, i64 0, i64 0), i8** %to
  ret i32 0
}}"""
        )
    cases = " ".join(f"i32 {attribute}, label %case{attribute}" for attribute in _ATTRIBUTES)
    values = ", ".join(f"[ {value}, %case{attribute} ]" for attribute, value in _ATTRIBUTES.items())
    labels = "\n".join(f"case{attribute}:\n  br label %found" for attribute in _ATTRIBUTES)
    return "\n".join(
        [
            '@error = private constant [9 x i8] c"stand-in\\00"',
            "declare i8* @calloc(i64, i64)",
            "declare void @llvm.memset.p0i8.i64(i8*, i8, i64, i1)",
            *functions,
            f"""define i32 @cuMemGetInfo_v2(i64* %free, i64* %total) {{
  store i64 {_MEMORY}, i64* %free
  store i64 {_MEMORY}, i64* %total
  ret i32 0
}}
define i32 @cuDeviceGetAttribute(i32* %to, i32 %attribute, i32 %device) {{
entry:
  switch i32 %attribute, label %found [ {cases} ]
{labels}
found:
  %value = phi i32 [ {_OTHER_ATTRIBUTES}, %entry ], {values}
  store i32 %value, i32* %to
  ret i32 0
}}""",
        ]
    )
