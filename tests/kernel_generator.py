"""Writes random Taichi kernels, the same for a seed: loops in loops, locals that change, conditions on data, gathers,
scatters, updates in place. Knows nothing of how they are run.

No kernel has a race: in a parallel loop an array is only read, or only added to, or only raised or lowered atomically,
or each iteration touches its own elements alone.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from kernel_text import Argument, Function, Kernel, Statement


@dataclass
class Scope:
    """What can be named at a place of a kernel."""

    reals: list[str] = field(default_factory=list)
    vectors: list[str] = field(default_factory=list)
    matrices: list[str] = field(default_factory=list)
    integers: list[str] = field(default_factory=list)  # of any value
    below: dict[str, str] = field(default_factory=dict)  # integers by name, and the dimension that they are indices of
    fixed: set[str] = field(default_factory=set)  # what must not be assigned to: indices of loops
    own: tuple[str, ...] = ()  # the indices of the parallel loop
    own_dimensions: tuple[str, ...] = ()
    modes: dict[str, str] = field(default_factory=dict)  # what may be done to each array: read, own, add, max, min, any
    loops: int = 0  # around, within the task
    breakable: bool = False

    def inner(self) -> Scope:
        copies = {
            name: type(value)(value)
            for name, value in vars(self).items()
            if isinstance(value, (list, dict, set)) and name != "modes"
        }
        return replace(self, **copies)


class Generator:
    """Writes one kernel."""

    def __init__(self, seed: int, name: str) -> None:
        self.rng = random.Random(f"{seed} {name}")
        self.name = name
        self.count = 0
        self.functions: list[Function] = []
        self.budget = 0
        self.arguments: list[Argument] = []

    # ---- small things

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def fresh(self, stem: str) -> str:
        self.count += 1
        return f"{stem}{self.count}"

    def pick(self, choices: list[tuple[float, Callable[[], str]]]) -> str:
        """One of several ways, each with its weight."""
        weights = [weight for weight, _ in choices]
        return self.rng.choices([make for _, make in choices], weights)[0]()

    def literal(self) -> str:
        return self.rng.choice(["0.25", "0.5", "0.75", "1.25", "1.5", "-0.5", "-1.0", "2.0"])

    def size_text(self, dimension: str) -> str:
        """An array's shape in a dimension, which every kernel can name."""
        for each in self.arguments:
            if dimension in each.shape:
                return f"{each.name}.shape[{each.shape.index(dimension)}]"
        raise AssertionError(dimension)

    # ---- expressions

    def integer(self, scope: Scope) -> str:
        names = [*scope.below, *scope.integers] or ["1"]
        a = self.rng.choice(names)
        return self.rng.choice([a, a, f"({a} + 1)", f"(2 * {a} + 1)", f"({a} % 3)"])

    def index(self, scope: Scope, dimension: str) -> str:
        size = self.size_text(dimension)
        right = [name for name, of in scope.below.items() if of == dimension]
        choices: list[tuple[float, Callable[[], str]]] = [
            (1, lambda: f"{self.integer(scope)} % {size}"),
            (0.5, lambda: "0"),
        ]
        if right:
            name = self.rng.choice(right)
            choices.append((5, lambda: name))
            choices.append((1, lambda: f"ti.min({name} + 1, {size} - 1)"))
            choices.append((0.5, lambda: f"{size} - 1 - {name}"))
        for each in self.arguments:
            if each.kind == "integer" and each.shape and each.below == dimension and self.readable(scope, each):
                choices.append((2, lambda each=each: f"{each.name}[{self.index_for_reading(scope, each)}]"))
        return self.pick(choices)

    def index_for_reading(self, scope: Scope, array: Argument) -> str:
        if scope.modes.get(array.name) == "own":
            return self.own_index(scope, array)
        own = [] if not self.chance(0.5) else list(scope.own)
        if len(own) == len(array.shape) and scope.own_dimensions == array.shape:
            return ", ".join(own)
        return ", ".join(self.index(scope, each) for each in array.shape)

    def own_index(self, scope: Scope, array: Argument) -> str:
        """An element that belongs to the iteration: the loop's indices first."""
        rest = array.shape[len(scope.own) :]
        return ", ".join([*scope.own, *(self.index(scope, each) for each in rest)])

    def readable(self, scope: Scope, array: Argument) -> bool:
        return scope.modes.get(array.name) in ("read", "own", "any")

    def element(self, scope: Scope, kind: str) -> str | None:
        arrays = [each for each in self.arguments if each.kind == kind and each.shape and self.readable(scope, each)]
        if not arrays:
            return None
        array = self.rng.choice(arrays)
        return f"{array.name}[{self.index_for_reading(scope, array)}]"

    def leaf(self, scope: Scope) -> str:
        choices: list[tuple[float, Callable[[], str]]] = [(1, self.literal)]
        if scope.reals:
            choices.append((6, lambda: self.rng.choice(scope.reals)))
        element = self.element(scope, "real")
        if element:
            choices.append((5, lambda: element))
        vector = self.vector_leaf(scope)
        if vector:
            choices.append((2, lambda: f"{vector}[{self.rng.choice('01')}]"))
            if vector in scope.vectors and scope.below:
                choices.append((0.5, lambda: f"{vector}[{self.rng.choice([*scope.below])} % 2]"))
            choices.append((1, lambda: f"{vector}.norm_sqr()"))
            choices.append((0.5, lambda: f"{vector}.norm(0.5)"))
        if scope.matrices:
            matrix = self.rng.choice(scope.matrices)
            choices.append(
                (1.5, lambda: self.rng.choice([f"{matrix}[0, 1]", f"{matrix}.determinant()", f"{matrix}.trace()"]))
            )
        numbers = [each.name for each in self.arguments if not each.shape and each.kind == "real"]
        if numbers and not scope.modes.get("function"):
            choices.append((1.5, lambda: self.rng.choice(numbers)))
        if scope.below or scope.integers:
            choices.append((1, lambda: f"0.125 * ti.cast({self.integer(scope)}, real)"))
        return self.pick(choices)

    def vector_leaf(self, scope: Scope) -> str | None:
        element = self.element(scope, "vector")
        names = [*scope.vectors, *([element] if element else [])]
        return self.rng.choice(names) if names else None

    def real(self, scope: Scope, depth: int = 2) -> str:
        if depth == 0 or self.chance(0.2):
            return self.leaf(scope)

        def sub() -> str:
            return self.real(scope, depth - 1)

        choices: list[tuple[float, Callable[[], str]]] = [
            (3, lambda: f"({sub()} + {sub()})"),
            (2, lambda: f"({sub()} - {sub()})"),
            (4, lambda: f"{sub()} * {sub()}"),
            (1, lambda: f"{sub()} / (1.5 + ({sub()}) ** 2)"),
            (1.5, lambda: f"ti.sin({sub()})"),
            (1, lambda: f"ti.cos({sub()})"),
            (1, lambda: f"ti.tanh({sub()})"),
            (0.7, lambda: f"ti.exp(-({sub()}) ** 2)"),
            (0.5, lambda: f"ti.sqrt(1.0 + ({sub()}) ** 2)"),
            (0.5, lambda: f"ti.log(1.5 + ({sub()}) ** 2)"),
            (0.3, lambda: f"ti.atan2({sub()}, 2.0 + ti.sin({sub()}))"),
            (0.3, lambda: f"ti.pow(1.5 + ti.sin({sub()}), 2.5)"),
            (0.3, lambda: f"ti.asin(0.75 * ti.cos({sub()}))"),
            (0.7, lambda: f"ti.max({sub()}, {sub()})"),
            (0.7, lambda: f"ti.min({sub()}, {sub()})"),
            (0.5, lambda: f"ti.abs({sub()})"),
            (0.5, lambda: f"ti.select({self.condition(scope)}, {sub()}, {sub()})"),
            (0.5, lambda: f"({sub()} if {self.condition(scope)} else {sub()})"),
        ]
        if self.functions and not scope.modes.get("function"):
            function = self.rng.choice(self.functions)
            choices.append((2, lambda: f"{function.name}({', '.join(sub() for _ in function.parameters)})"))
        return self.pick(choices)

    def vector(self, scope: Scope) -> str:
        leaf = self.vector_leaf(scope)
        choices: list[tuple[float, Callable[[], str]]] = [
            (2, lambda: f"ti.Vector([{self.real(scope, 1)}, {self.real(scope, 1)}])")
        ]
        if leaf:
            choices.append((2, lambda: f"{leaf} * {self.leaf(scope)}"))
            choices.append((1, lambda: f"{leaf} + {self.vector(scope)}"))
            choices.append((1, lambda: f"{leaf} - {self.vector(scope)}"))
            if scope.matrices:
                choices.append((3, lambda: f"{self.rng.choice(scope.matrices)} @ {leaf}"))
        return self.pick(choices)

    def condition(self, scope: Scope) -> str:
        a = self.leaf(scope)
        choices: list[tuple[float, Callable[[], str]]] = [
            (2, lambda: f"{a} {self.rng.choice('<>')} {self.leaf(scope)}")
        ]
        if scope.below or scope.integers:
            choices.append((1, lambda: f"{self.integer(scope)} % 2 == 0"))
            choices.append((1, lambda: f"{self.integer(scope)} > 2"))
        return self.pick(choices)

    # ---- statements

    def statements(self, scope: Scope, depth: int, most: int) -> list[Statement]:
        found: list[Statement] = []
        for _ in range(self.rng.randint(1, most)):
            self.budget -= 1
            if self.budget < 0:
                break
            found += self.statement(scope, depth)
        return found

    def statement(self, scope: Scope, depth: int) -> list[Statement]:
        ways: list[tuple[float, Callable[[], list[Statement]]]] = [
            (3, lambda: self.new_real(scope)),
            (1, lambda: self.new_vector(scope)),
            (0.5, lambda: self.new_matrix(scope)),
            (0.5, lambda: self.new_integer(scope)),
            (5, lambda: self.change(scope)),
        ]
        if not scope.modes.get("function"):
            ways.append((5, lambda: self.write(scope)))
        if depth > 0:
            ways.append((2, lambda: self.condition_block(scope, depth)))
            ways.append((4, lambda: self.loop(scope, depth)))
            ways.append((0.7, lambda: self.while_loop(scope, depth)))
        if scope.breakable:
            ways.append((0.7, lambda: [Statement(f"if {self.condition(scope)}:", [Statement("break")])]))
            ways.append((0.5, lambda: [Statement(f"if {self.condition(scope)}:", [Statement("continue")])]))
        weights = [weight for weight, _ in ways]
        return self.rng.choices([make for _, make in ways], weights)[0]()

    def new_real(self, scope: Scope) -> list[Statement]:
        value = self.real(scope)
        scope.reals.append(name := self.fresh("a"))
        return [Statement(f"{name} = {value}", plain=f"{name} = 0.0 + {value}")]

    def new_vector(self, scope: Scope) -> list[Statement]:
        value = self.vector(scope)
        scope.vectors.append(name := self.fresh("v"))
        return [Statement(f"{name} = {value}", plain=f"{name} = copied({value})")]

    def new_matrix(self, scope: Scope) -> list[Statement]:
        a, b, c, d = (self.real(scope, 1) for _ in range(4))
        scope.matrices.append(name := self.fresh("M"))
        return [Statement(f"{name} = ti.Matrix([[{a}, {b}], [{c}, {d}]])")]

    def new_integer(self, scope: Scope) -> list[Statement]:
        value = self.rng.choice(["0", self.integer(scope), f"ti.cast(ti.floor(3.0 * {self.leaf(scope)}), ti.i32)"])
        scope.integers.append(name := self.fresh("k"))
        return [Statement(f"{name} = {value}", plain=f"{name} = int({value})")]

    def change(self, scope: Scope) -> list[Statement]:
        """Assigns to a local."""
        kinds = (
            ["reals"] * 4 * bool(scope.reals)
            + ["vectors"] * 2 * bool(scope.vectors)
            + ["matrices"] * bool(scope.matrices)
        )
        changeable = [name for name in scope.integers if name not in scope.fixed]
        kinds += ["integers"] * bool(changeable)
        if not kinds:
            return self.new_real(scope)
        kind = self.rng.choice(kinds)
        if kind == "integers":
            name = self.rng.choice(changeable)
            return [Statement(self.rng.choice([f"{name} += 1", f"{name} = {name} + {self.integer(scope)}"]))]
        name = self.rng.choice(getattr(scope, kind))
        if kind == "reals":
            return [
                Statement(
                    self.pick(
                        [
                            (3, lambda: f"{name} = {self.real(scope)}"),
                            (3, lambda: f"{name} += {self.real(scope)}"),
                            (1, lambda: f"{name} -= {self.real(scope)}"),
                            (1, lambda: f"{name} *= {self.real(scope, 1)}"),
                            (1, lambda: f"{name} = ti.max({name}, {self.real(scope, 1)})"),
                            (2, lambda: f"{name} = ti.sin({name}) + {self.real(scope, 1)}"),
                        ]
                    )
                )
            ]
        if kind == "vectors":
            return [
                self.rng.choice(
                    [
                        Statement(f"{name} = {(value := self.vector(scope))}", plain=f"{name} = copied({value})"),
                        Statement(f"{name} += {self.vector(scope)}"),
                        Statement(f"{name}[{self.rng.choice('01')}] = {self.real(scope, 1)}"),
                        Statement(f"{name}[{self.integer(scope)} % 2] += {self.real(scope, 1)}"),
                    ]
                )
            ]
        other = self.rng.choice(scope.matrices)
        return [
            Statement(
                self.rng.choice(
                    [
                        f"{name} = {name} @ {other}",
                        f"{name} = {name} * {self.leaf(scope)} + {other}",
                        f"{name}[1, 0] = {self.real(scope, 1)}",
                        f"{name} = {name} @ {other}.transpose() * 0.5",
                    ]
                )
            )
        ]

    def write(self, scope: Scope) -> list[Statement]:
        """To an array, as its mode allows."""
        arrays = [
            each
            for each in self.arguments
            if each.is_output and scope.modes.get(each.name) in ("own", "add", "max", "min", "any")
        ]
        if not arrays:
            return self.change(scope)
        array = self.rng.choice(arrays)
        mode = scope.modes[array.name]
        index = self.own_index(scope, array) if mode == "own" else self.index_for_reading(scope, array)
        target = f"{array.name}[{index}]"
        if array.kind == "vector":
            value = self.vector(scope)
            if mode == "add":
                return [Statement(f"{target} += {value}")]
            ways = [f"{target} = {value}", f"{target} += {value}", f"{target}[1] += {self.real(scope, 1)}"]
            return [Statement(self.rng.choice(ways))]
        value = self.real(scope)
        if mode in ("max", "min"):
            return [Statement(f"ti.atomic_{mode}({target}, {value})")]
        if mode == "add":
            return [
                Statement(
                    self.rng.choice(
                        [f"{target} += {value}", f"ti.atomic_add({target}, {value})", f"{target} -= {value}"]
                    )
                )
            ]
        ways = [f"{target} = {value}"] * 3 + [f"{target} += {value}"] * 3 + [f"{target} *= {self.real(scope, 1)}"]
        ways += [f"{target} = {target} * {self.real(scope, 1)} + {self.leaf(scope)}"]
        return [Statement(self.rng.choice(ways))]

    def condition_block(self, scope: Scope, depth: int) -> list[Statement]:
        found = [Statement(f"if {self.condition(scope)}:", self.statements(scope.inner(), depth - 1, 3))]
        if self.chance(0.4):
            found.append(Statement("else:", self.statements(scope.inner(), depth - 1, 3)))
        return found

    def loop(self, scope: Scope, depth: int) -> list[Statement]:
        inner = scope.inner()
        name = self.fresh("j")
        inner.fixed.add(name)
        inner.loops += 1
        inner.breakable = True
        if self.chance(0.15):
            inner.integers.append(name)
            inner.breakable = False
            return [
                Statement(
                    f"for {name} in ti.static(range({self.rng.randint(2, 3)})):", self.statements(inner, depth - 1, 3)
                )
            ]
        used = sorted({dimension for each in self.arguments for dimension in each.shape if dimension != "n"})
        if used and not scope.modes.get("function") and self.chance(0.45):
            dimension = self.rng.choice(used)
            inner.below[name] = dimension
            length = self.size_text(dimension)
        else:
            length = self.length(scope)
            inner.integers.append(name)
        return [Statement(f"for {name} in range({length}):", self.statements(inner, depth - 1, 4))]

    def length(self, scope: Scope) -> str:
        """Of a loop: from a constant, an argument, an array, or an index around it."""
        choices = [str(self.rng.randint(2, 4))]
        names = [*scope.below, *(name for name in scope.integers if name in scope.fixed)]
        if names:
            name = self.rng.choice(names)
            choices += [f"{name} % 3 + 1", f"ti.min({name} + 1, 4)"]
        if not scope.modes.get("function"):
            choices += [each.name for each in self.arguments if each.kind == "integer" and not each.shape] * 2
            for each in self.arguments:
                if each.kind == "integer" and each.shape and not each.below and self.readable(scope, each):
                    choices += [f"{each.name}[{self.index_for_reading(scope, each)}]"] * 2
        return self.rng.choice(choices)

    def while_loop(self, scope: Scope, depth: int) -> list[Statement]:
        """With a count, so that it ends."""
        inner = scope.inner()
        name = self.fresh("w")
        inner.integers.append(name)
        inner.fixed.add(name)
        inner.loops += 1
        inner.breakable = True
        head = f"while {name} < {self.rng.choice(['2', '4', self.length(scope)])}"
        if self.chance(0.6):
            head += f" and {self.condition(inner)}"
        body = [Statement(f"{name} += 1"), *self.statements(inner, depth - 1, 3)]
        return [Statement(f"{name} = 0"), Statement(f"{head}:", body)]

    # ---- whole kernels

    def function(self) -> Function:
        name, parameters = self.fresh(f"{self.name}_part"), ["p", "q"][: self.rng.randint(1, 2)]
        scope = Scope(reals=list(parameters), modes={"function": "yes"})
        self.budget = 4
        body = self.new_real(scope)
        local = scope.reals[-1]
        scope.reals = [*parameters, local]
        # Parameters are not assigned to.
        changing = Scope(reals=[local], modes=scope.modes)
        value = self.real(scope, 1)
        body.append(Statement(f"{local} = {local} * {value}"))
        if self.chance(0.5):
            body.append(
                Statement(f"if {parameters[0]} > {self.literal()}:", [Statement(f"{local} += {self.real(scope, 1)}")])
            )
        if self.chance(0.5):
            body.append(Statement(f"for _ in range({self.rng.randint(2, 3)}):", self.change(changing)))
        body.append(Statement(f"return {local}"))
        return Function(name, parameters, body)

    def declare(self, batch: bool) -> None:
        """The arguments; every dimension is that of an input."""
        draw = self.rng.random
        found = [Argument("x", "real", ("n",)), Argument("w", "real", ("m",))]
        if draw() < 0.5:
            found.append(Argument("z", "real", ("n", "m")))
        if draw() < 0.35:
            found.append(Argument("u", "vector", ("n",)))
        if draw() < 0.5:
            found.append(Argument("place", "integer", ("n",), below="m"))
        if draw() < 0.5:
            found.append(Argument("count", "integer", ("n",)))
        if draw() < 0.4:
            found.append(Argument("turns", "integer", ()))
        if draw() < 0.4:
            found.append(Argument("s", "real", ()))
        outputs = [Argument("y", "real", ("n",), is_input=False, is_output=True)]
        if draw() < 0.4:
            outputs.append(Argument("r", "real", ("n", "k"), is_input=False, is_output=True))
        if draw() < 0.25:
            outputs.append(Argument("f", "vector", ("n",), is_input=False, is_output=True))
        if not batch and draw() < 0.5:
            outputs.append(Argument("total", "real", ("k",), is_input=False, is_output=True))
        if any("k" in each.shape for each in outputs):
            found.append(Argument("b", "real", ("k",)))
        if draw() < 0.35:
            places = [i for i, each in enumerate(found) if each.differentiable and (each.shape[0] == "n" or not batch)]
            place = self.rng.choice(places)
            found[place] = replace(found[place], is_output=True)
        self.arguments = [*found, *outputs]

    def task(self, batch: bool, written: set[str]) -> list[Statement]:
        self.budget = self.rng.randint(4, 12)
        scope = Scope(integers=[each.name for each in self.arguments if each.kind == "integer" and not each.shape])
        scope.fixed.update(scope.integers)
        arrays = [each for each in self.arguments if each.shape]
        serial = not batch and self.chance(0.2)
        head, dimensions = self.head(batch)
        names = [self.fresh("i") for _ in dimensions]
        head = head.replace("INDICES", ", ".join(names))
        # A sample's index is no value: a batch is cut into blocks, and the index is that within one.
        if not batch:
            scope.below.update(zip(names, dimensions, strict=True))
        scope.fixed.update(names)
        for each in arrays:
            if batch:
                scope.modes[each.name] = "own" if each.shape[0] == "n" else "read"
            elif serial:
                scope.modes[each.name] = "any" if each.is_output else "read"
            elif not each.is_output:
                scope.modes[each.name] = "read"
            else:
                owned = each.shape[: len(dimensions)] == dimensions
                choices = (
                    ["own"] * 4 * owned
                    + ["add"] * (1 if owned else 3)
                    + ["read"] * (each.is_input or each.name in written)
                )
                if each.kind == "real":
                    choices += self.rng.choice([["max"], ["min"], []])
                scope.modes[each.name] = self.rng.choice(choices)
        if not any(each.is_output and scope.modes[each.name] != "read" for each in arrays):
            scope.modes["y"] = "own" if dimensions == ("n",) else "add"
        scope.own, scope.own_dimensions = ((), ()) if serial else (tuple(names), dimensions)
        body = self.statements(scope, 3, 6)
        body += self.last(scope)
        written.update(each.name for each in arrays if scope.modes[each.name] not in ("read",))
        return [*([Statement("ti.loop_config(serialize=True)")] if serial else []), Statement(head, body)]

    def last(self, scope: Scope) -> list[Statement]:
        """Writes what the locals have come to, so that little of the task is for nothing."""
        parts = [
            *scope.reals,
            *(f"{name}.sum()" for name in scope.vectors),
            *(f"{name}[1, 1]" for name in scope.matrices),
        ]
        if not parts:
            return self.write(scope)
        scope.reals.append(name := self.fresh("a"))
        first = Statement(f"{name} = {' + '.join(parts)}", plain=f"{name} = 0.0 + {' + '.join(parts)}")
        scope.vectors, scope.reals = [], [name]
        return [first, *self.write(scope)]

    def head(self, batch: bool) -> tuple[str, tuple[str, ...]]:
        """Of an outermost loop: INDICES for its indices, and the dimensions that they are indices of."""
        n, m = self.size_text("n"), self.size_text("m")
        ways = [("for INDICES in y:", ("n",)), (f"for INDICES in range({n}):", ("n",))] * 2
        if not batch:
            ways += [(f"for INDICES in range(1, {n}):", ("n",)), (f"for INDICES in ti.ndrange({n}, {m}):", ("n", "m"))]
            ways += [(f"for INDICES in range({m}):", ("m",))]
            if any(each.name == "r" for each in self.arguments):
                ways.append(("for INDICES in r:", ("n", "k")))
        return self.rng.choice(ways)

    def kernel(self) -> Kernel:
        batch = self.chance(0.25)
        self.declare(batch)
        if self.chance(0.35):
            self.functions.append(self.function())
        body: list[Statement] = []
        written: set[str] = set()
        for _ in range(1 if batch else self.rng.choice([1, 1, 2, 2, 3])):
            body += self.task(batch, written)
        return Kernel(self.name, self.arguments, self.functions, body, batch)


def generate(seed: int, number: int) -> Kernel:
    """The kernel of a number, of those of a seed."""
    return Generator(seed, f"kernel_{number}").kernel()
