"""What a failed check of an index leaves behind: functions for the code of entries, and the record, as LLVM IR text.

The record is one for the module, `tiaot_fault` of module.h: the runtime reads it where an entry returns 4. Its first
word is 1 while a thread writes and 2 where it is whole; who finds it being written leaves it.
"""

from __future__ import annotations

from ..ir.passes.bounds import FAILED, MOST, OUT_OF_RANGE

_RECORD = f"{{ i32, i32, i8*, [{MOST} x i64] }}"
_WORD = f"bitcast ({_RECORD}* @tiaot_fault to i32*)"

RECORD = f"@tiaot_fault = global {_RECORD} zeroinitializer"

_WORD_OF_CALL = """  %f = bitcast %struct.LLVMRuntime* %r to %tiaot.frame*
  %p = getelementptr %tiaot.frame, %tiaot.frame* %f, i32 0, i32 2
  %w = load i32*, i32** %p"""

DEFINITIONS = f"""
@tiaot_fault = external global {_RECORD}
define internal i1 @{FAILED}(%struct.LLVMRuntime* %r) alwaysinline {{
{_WORD_OF_CALL}
  %v = load atomic i32, i32* %w monotonic, align 4
  %failed = icmp ne i32 %v, 0
  ret i1 %failed
}}
define internal void @{OUT_OF_RANGE}(%struct.LLVMRuntime* %r, i8* %text, i32 %count, i64* %values) noinline {{
{_WORD_OF_CALL}
  store atomic i32 4, i32* %w monotonic, align 4
  %old = atomicrmw xchg i32* {_WORD}, i32 1 acquire
  %other = icmp eq i32 %old, 1
  br i1 %other, label %done, label %write
write:
  %count_at = getelementptr {_RECORD}, {_RECORD}* @tiaot_fault, i32 0, i32 1
  store i32 %count, i32* %count_at
  %text_at = getelementptr {_RECORD}, {_RECORD}* @tiaot_fault, i32 0, i32 2
  store i8* %text, i8** %text_at
  br label %copy
copy:
  %i = phi i32 [ 0, %write ], [ %next, %one ]
  %more = icmp slt i32 %i, %count
  br i1 %more, label %one, label %end
one:
  %from = getelementptr i64, i64* %values, i32 %i
  %to = getelementptr {_RECORD}, {_RECORD}* @tiaot_fault, i32 0, i32 3, i32 %i
  %value = load i64, i64* %from
  store i64 %value, i64* %to
  %next = add i32 %i, 1
  br label %copy
end:
  store atomic i32 2, i32* {_WORD} release, align 4
  br label %done
done:
  ret void
}}"""
