"""Lanes: IR functions that transpose a block of samples so that the batch lies along the vector lanes, and back.

A block is `rows` samples of `size` elements, row-major as the caller has it. In lanes it is [size][STRIDE], element k
of sample i at k * STRIDE + i: a loop over the samples then loads and stores whole vectors. Rows beyond `rows`, up to
a whole vector, repeat the last sample; what is computed for them goes nowhere.

Groups of as many columns as fit 128 bits are transposed in registers: 128-bit pieces of the rows are laid side by side
and interleaved within each 128-bit lane, which every CPU level has one-instruction shuffles for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from ..code import Code


def definitions(kind: str, vector: int, stride: int, few: Sequence[int] = ()) -> str:
    """`@to_lanes` and `@from_lanes` (source, target, size, rows), and `@zero_lanes` (target, size, rows).

    Args:
        kind: the element type, "float" or "double".
        vector: elements in a vector, a power of two; `rows` is rounded up to a multiple of it.
        stride: elements between neighbouring columns in lanes.
        few: elements in narrower vectors, for each of which there are functions `@to_lanes_few4` and so on, for 1 to so
            many rows.
    """
    texts = []
    for length in (vector, *few):
        writer = _Writer(kind, length, stride)
        suffix = f"_few{length}" if length in few else ""
        write = writer.function_for_few if suffix else writer.function
        texts += [write("to_lanes"), write("from_lanes"), writer.zero(suffix)]
    return "\n".join(texts)


def straight_definitions(kind: str, vector: int, few: Sequence[int], sizes: Iterable[int]) -> str:
    """The same without a loop, for a vector of samples: `@to_lanes_of_8` and so on, for samples of each of the sizes.

    Args:
        kind: as above.
        vector: elements in a vector, which are as many as `rows`.
        few: elements in narrower vectors, for which functions are called `@to_lanes_few4_of_8`; `rows` is 1 at least,
            and of more than so many the first are taken.
        sizes: numbers in a sample.
    """
    texts = []
    for length, suffix in ((vector, ""), *((each, f"_few{each}") for each in few)):
        writer = _Writer(kind, length, vector)
        for size in sorted(set(sizes)):
            for name in ("to_lanes", "from_lanes"):
                texts.append(writer.straight_function(name, suffix, size))
            texts.append(writer.straight_zero(suffix, size))
    return "\n".join(texts)


class _Writer(Code):
    def __init__(self, kind: str, vector: int, stride: int) -> None:
        super().__init__({})
        self.kind, self.vector, self.stride = kind, vector, stride
        self.group = {"float": 4, "double": 2}[kind]

    def function(self, name: str) -> str:
        """Loops over tiles of `vector` rows, whole ones first, then one whose row indices are held at the last row."""
        self.lines = []
        tile, vector = self._tile(name), self.vector
        self.do(f"%whole = and i64 %rows, {-vector}")
        self.do("%some = icmp sgt i64 %whole, 0")
        self.do("br i1 %some, label %tile, label %rest")
        self.label("tile")
        self.do("%i = phi i64 [ 0, %entry ], [ %i.next, %tile.end ]")
        bases = [self.add("mul nsw i64 %i, %size")]
        for _ in range(vector - 1):
            bases.append(self.add(f"add nsw i64 {bases[-1]}, %size"))
        self._columns("tile", "%i", bases, tile)
        self.do(f"%i.next = add nsw i64 %i, {vector}")
        self.do("%i.more = icmp slt i64 %i.next, %whole")
        self.do("br i1 %i.more, label %tile, label %rest")
        self.label("rest")
        self.do("%partial = icmp slt i64 %whole, %rows")
        self.do("br i1 %partial, label %edge, label %done")
        self.label("edge")
        self.do("%left = sub nsw i64 %rows, %whole")
        self._edge("%whole", "%left", tile)
        self.do("br label %done")
        self.lines += ["done:", "  ret void"]
        return self._definition(name)

    def straight_function(self, name: str, suffix: str, size: int) -> str:
        self.lines = []
        bases = [str(row * size) for row in range(self.vector)]
        if suffix:
            bases = self._held("0", "%rows")
        grouped = size // self.group * self.group
        for k in range(0, grouped, self.group):
            self._tile(name)(str(k), "0", bases, self.group)
        for k in range(grouped, size):
            self._tile(name)(str(k), "0", bases, 1)
        self.do("ret void")
        return self._definition(f"{name}{suffix}_of_{size}")

    def straight_zero(self, suffix: str, size: int) -> str:
        self.lines = []
        for k in range(size):
            kind, pointer = self._column("%target", str(k), 0, "0")
            self.do(f"store {kind} zeroinitializer, {kind}* {pointer}, align {self._align()}")
        self.do("ret void")
        parameters = f"{self.kind}* noalias %target, i64 %size, i64 %rows"
        head = f"define internal void @zero_lanes{suffix}_of_{size}({parameters}) alwaysinline {{"
        return "\n".join([head, "entry:", *self.lines, "}"])

    def function_for_few(self, name: str) -> str:
        """For 1 to `vector` rows."""
        self.lines = []
        self._edge("0", "%rows", self._tile(name))
        self.do("ret void")
        return self._definition(f"{name}_few{self.vector}")

    def _tile(self, name: str) -> Callable[..., None]:
        return {"to_lanes": self._tile_in, "from_lanes": self._tile_out}[name]

    def _edge(self, first: str, left: str, tile: Callable[..., None]) -> None:
        """A tile whose row indices are held at the last of the `left` rows."""
        self._columns("edge", first, self._held(first, left), tile)

    def _held(self, first: str, left: str) -> list[str]:
        """Where the rows of such a tile start."""
        # Row by row from the one before: a chain that LLVM does not turn into slower vectors of addresses.
        bases = [self.add(f"mul nsw i64 {first}, %size")]
        for row in range(1, self.vector):
            following = self.add(f"add nsw i64 {bases[-1]}, %size")
            inside = self.add(f"icmp sgt i64 {left}, {row}")
            bases.append(self.add(f"select i1 {inside}, i64 {following}, i64 {bases[-1]}"))
        return bases

    def _definition(self, name: str) -> str:
        kind = self.kind
        head = (
            f"define internal void @{name}({kind}* noalias %source, {kind}* noalias %target, i64 %size, i64 %rows)"
            " alwaysinline {"
        )
        return "\n".join([head, "entry:", *self.lines, "}"])

    def _columns(self, label: str, first: str, bases: list[str], tile: Callable[..., None]) -> None:
        """All columns of a tile whose rows start at `bases`, by `group`, then one by one. Ends in block LABEL.end."""
        for part, width, start, limit in (
            ("group", self.group, "0", f"%{label}.whole"),
            ("single", 1, f"%{label}.whole", "%size"),
        ):
            if part == "group":
                self.do(f"%{label}.whole = and i64 %size, {-self.group}")
            loop, end = f"{label}.{part}", f"{label}.end" if part == "single" else f"{label}.singles"
            origin = f"{label}.from.{part}"
            self.do(f"br label %{origin}")
            self.label(origin)
            self.do(f"%{loop}.some = icmp slt i64 {start}, {limit}")
            self.do(f"br i1 %{loop}.some, label %{loop}, label %{end}")
            self.label(loop)
            self.do(f"%{loop}.k = phi i64 [ {start}, %{origin} ], [ %{loop}.next, %{loop} ]")
            tile(f"%{loop}.k", first, bases, width)
            self.do(f"%{loop}.next = add nsw i64 %{loop}.k, {width}")
            self.do(f"%{loop}.more = icmp slt i64 %{loop}.next, {limit}")
            self.do(f"br i1 %{loop}.more, label %{loop}, label %{end}")
            self.label(end)

    def _vector(self, width: int) -> str:
        return f"<{width} x {self.kind}>"

    def _piece(self, array: str, base: str, k: str, width: int) -> tuple[str, str]:
        """(type, pointer) of `width` elements at column k of the row that starts at `base`."""
        offset = self.add(f"add nsw i64 {base}, {k}")
        pointer = self.add(f"getelementptr {self.kind}, {self.kind}* {array}, i64 {offset}")
        if width == 1:
            return self.kind, pointer
        kind = self._vector(width)
        return kind, self.add(f"bitcast {self.kind}* {pointer} to {kind}*")

    def _column(self, array: str, k: str, index: int, first: str) -> tuple[str, str]:
        """(type, pointer) of a vector of rows from `first` on, of column k + index, in lanes."""
        column = self.add(f"add nsw i64 {k}, {index}")
        offset = self.add(f"add nsw i64 {self.add(f'mul nsw i64 {column}, {self.stride}')}, {first}")
        pointer = self.add(f"getelementptr {self.kind}, {self.kind}* {array}, i64 {offset}")
        kind = self._vector(self.vector)
        return kind, self.add(f"bitcast {self.kind}* {pointer} to {kind}*")

    def _tile_in(self, k: str, first: str, bases: list[str], width: int) -> None:
        pieces = []
        for base in bases:
            kind, pointer = self._piece("%source", base, k, width)
            pieces.append(self.add(f"load {kind}, {kind}* {pointer}, align {self._align()}"))
        if width == 1:
            columns = [self._gather(pieces)]
        else:
            columns = self._interleave([self._concatenate(pieces[i::width], width) for i in range(width)])
        for index, column in enumerate(columns):
            kind, pointer = self._column("%target", k, index, first)
            self.do(f"store {kind} {column}, {kind}* {pointer}, align {self._align()}")

    def _tile_out(self, k: str, first: str, bases: list[str], width: int) -> None:
        columns = []
        for index in range(width):
            kind, pointer = self._column("%source", k, index, first)
            columns.append(self.add(f"load {kind}, {kind}* {pointer}, align {self._align()}"))
        pieces = self._interleave(columns) if width > 1 else columns
        # Backwards: of the rows that are held at the last sample the sample itself is written last.
        for row, base in reversed(list(enumerate(bases))):
            kind, pointer = self._piece("%target", base, k, width)
            if width == 1:
                value = self.add(f"extractelement {self._vector(self.vector)} {pieces[0]}, i32 {row}")
            else:
                lane, member = divmod(row, width)
                value = self._shuffle(pieces[member], pieces[member], range(lane * width, (lane + 1) * width))
            self.do(f"store {kind} {value}, {kind}* {pointer}, align {self._align()}")

    def _align(self) -> int:
        return {"float": 4, "double": 8}[self.kind]

    def _shuffle(self, a: str, b: str, mask: range | list[int], width: int | None = None) -> str:
        kind = self._vector(width or self.vector)
        indices = ", ".join(f"i32 {index}" for index in mask)
        return self.add(f"shufflevector {kind} {a}, {kind} {b}, <{len(mask)} x i32> <{indices}>")

    def _gather(self, scalars: list[str]) -> str:
        value = "undef"
        for index, scalar in enumerate(scalars):
            value = self.add(f"insertelement {self._vector(self.vector)} {value}, {self.kind} {scalar}, i32 {index}")
        return value

    def _concatenate(self, pieces: list[str], width: int) -> str:
        while len(pieces) > 1:
            pieces = [
                self._shuffle(a, b, range(2 * width), width) for a, b in zip(pieces[::2], pieces[1::2], strict=True)
            ]
            width *= 2
        return pieces[0]

    def _interleave(self, rows: list[str]) -> list[str]:
        """Transpose `group` x `group` elements within each 128-bit lane; its own inverse."""
        if self.group == 2:
            a, b = rows
            return [self._mix(a, b, [0], [0]), self._mix(a, b, [1], [1])]
        a, b, c, d = rows
        low, high = self._mix(a, b, [0, 1], [0, 1], 1), self._mix(c, d, [0, 1], [0, 1], 1)
        first = [self._mix(low, high, [0, 1], [0, 1]), self._mix(low, high, [2, 3], [2, 3])]
        low, high = self._mix(a, b, [2, 3], [2, 3], 1), self._mix(c, d, [2, 3], [2, 3], 1)
        return [*first, self._mix(low, high, [0, 1], [0, 1]), self._mix(low, high, [2, 3], [2, 3])]

    def _mix(self, a: str, b: str, from_a: list[int], from_b: list[int], run: int = 0) -> str:
        """In each 128-bit lane the elements `from_a` of a and `from_b` of b, in alternating runs (0: one of each)."""
        run = run or len(from_a)
        mask = []
        for lane in range(0, self.vector, self.group):
            for start in range(0, len(from_a), run):
                mask += [lane + i for i in from_a[start : start + run]]
                mask += [self.vector + lane + i for i in from_b[start : start + run]]
        return self._shuffle(a, b, mask)

    def zero(self, suffix: str) -> str:
        self.lines = []
        kind = self._vector(self.vector)
        self.do("%some = icmp sgt i64 %size, 0")
        self.do("%any = icmp sgt i64 %rows, 0")
        self.do("%both = and i1 %some, %any")
        self.do("br i1 %both, label %column, label %done")
        self.label("column")
        self.do("%k = phi i64 [ 0, %entry ], [ %k.next, %column.end ]")
        self.do(f"%start = mul nsw i64 %k, {self.stride}")
        self.do("br label %row")
        self.label("row")
        self.do("%i = phi i64 [ 0, %column ], [ %i.next, %row ]")
        offset = self.add("add nsw i64 %start, %i")
        pointer = self.add(f"getelementptr {self.kind}, {self.kind}* %target, i64 {offset}")
        vector = self.add(f"bitcast {self.kind}* {pointer} to {kind}*")
        self.do(f"store {kind} zeroinitializer, {kind}* {vector}, align {self._align()}")
        self.do(f"%i.next = add nsw i64 %i, {self.vector}")
        self.do("%i.more = icmp slt i64 %i.next, %rows")
        self.do("br i1 %i.more, label %row, label %column.end")
        self.label("column.end")
        self.do("%k.next = add nsw i64 %k, 1")
        self.do("%k.more = icmp slt i64 %k.next, %size")
        self.do("br i1 %k.more, label %column, label %done")
        self.lines += ["done:", "  ret void"]
        parameters = f"{self.kind}* noalias %target, i64 %size, i64 %rows"
        head = f"define internal void @zero_lanes{suffix}({parameters}) alwaysinline {{"
        return "\n".join([head, "entry:", *self.lines, "}"])
