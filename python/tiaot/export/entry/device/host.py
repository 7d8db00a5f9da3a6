"""The host's part of an entry for CUDA: a function that puts fills, copies and kernels on a stream, as LLVM IR text for
a CPU. See `tiaot_cuda_code` in module.h. Knows no signatures.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from ...abi import index_name
from ..code import Code

_LAUNCH = "i32 (i8*, i32, i64, i32, i8**)*"
_FILL = "i32 (i8*, i8*, i64)*"
_COPY = "i32 (i8*, i8*, i8*, i64)*"
TYPES = f"%tiaot.cuda.host = type {{ {_LAUNCH}, {_FILL}, {_COPY}, i8* }}"

Value = tuple[str, str]  # (type, value) of a parameter of a kernel


class HostCode(Code):
    """The instructions of such a function, whose parameters are %rows, %dims, %arrays, %on_host, %workspace, %host."""

    def __init__(self) -> None:
        super().__init__({})
        self.kernels: dict[str, None] = {}  # that it launches
        self._rooms: list[str] = []
        self._labels = 0

    def room(self, kind: str) -> str:
        """Memory on the stack, whatever block is being written."""
        name = f"%room{len(self._rooms)}"
        self._rooms.append(f"  {name} = alloca {kind}")
        return name

    @contextlib.contextmanager
    def when(self, condition: str) -> Iterator[None]:
        """What is written within runs where `condition`, an i1, holds."""
        self._labels += 1
        inside, behind = f"yes{self._labels}", f"behind{self._labels}"
        self.do(f"br i1 {condition}, label %{inside}, label %{behind}")
        self.label(inside)
        yield
        self.do(f"br label %{behind}")
        self.label(behind)

    def _ask(self, place: int, kind: str, arguments: str) -> None:
        """Calls a function of the host, and gives up with its result where that is not 0."""
        slot = self.add(f"getelementptr %tiaot.cuda.host, %tiaot.cuda.host* %host, i32 0, i32 {place}")
        function = self.add(f"load {kind}, {kind}* {slot}")
        user_slot = self.add("getelementptr %tiaot.cuda.host, %tiaot.cuda.host* %host, i32 0, i32 3")
        user = self.add(f"load i8*, i8** {user_slot}")
        result = self.add(f"call i32 {function}(i8* {user}, {arguments})")
        self.do(f"store i32 {result}, i32* %outcome")
        bad = self.add(f"icmp ne i32 {result}, 0")
        self._labels += 1
        self.do(f"br i1 {bad}, label %give_up, label %go_on{self._labels}")
        self.label(f"go_on{self._labels}")

    def fill(self, target: str, size: str) -> None:
        self._ask(1, _FILL, f"i8* {target}, i64 {size}")

    def copy(self, target: str, source: str, size: str) -> None:
        self._ask(2, _COPY, f"i8* {target}, i8* {source}, i64 {size}")

    def launch(self, kernel: str, threads: str, *, exact: bool, parameters: Sequence[Value]) -> None:
        """Launches a kernel; `threads` as tiaot_cuda_host::launch takes them."""
        self.kernels[kernel] = None
        count = len(parameters)
        table = self.room(f"[{max(count, 1)} x i8*]")
        for place, (kind, value) in enumerate(parameters):
            room = self.room(kind)
            self.do(f"store {kind} {value}, {kind}* {room}")
            raw = self.add(f"bitcast {kind}* {room} to i8*")
            slot = self.add(f"getelementptr [{count} x i8*], [{count} x i8*]* {table}, i64 0, i64 {place}")
            self.do(f"store i8* {raw}, i8** {slot}")
        first = self.add(f"getelementptr [{max(count, 1)} x i8*], [{max(count, 1)} x i8*]* {table}, i64 0, i64 0")
        index = self.add(f"load i32, i32* @{index_name(kernel)}")
        self._ask(0, _LAUNCH, f"i32 {index}, i64 {threads}, i32 {int(exact)}, i8** {first}")

    def text(self, symbol: str) -> str:
        """The function, with what it needs declared."""
        head = (
            f"define hidden i32 @{symbol}(i64 %rows, i64* %dims, i8** %arrays, i64 %on_host, i8* %workspace, "
            "%tiaot.cuda.host* %host) {"
        )
        first = ["first:", *self._rooms, "  %outcome = alloca i32", "  store i32 0, i32* %outcome"]
        last = ["  ret i32 0", "give_up:", "  %what = load i32, i32* %outcome", "  ret i32 %what", "}"]
        indices = [f"@{index_name(kernel)} = external hidden constant i32" for kernel in self.kernels]
        return "\n".join([*indices, head, *first, *self.lines, *last])
