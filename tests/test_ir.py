"""The model of LLVM IR: reader and writer on what LLVM prints after many passes, what they refuse, the model itself."""

from __future__ import annotations

import importlib.util
import random
import re
from pathlib import Path

import pytest

llvm = pytest.importorskip("llvmlite.binding")

from tiaot.export.ir import types as t  # noqa: E402
from tiaot.export.ir.builder import Builder  # noqa: E402
from tiaot.export.ir.instructions import Binary, Call, GetElementPointer, Load, Phi, Store  # noqa: E402
from tiaot.export.ir.model import Function, Module  # noqa: E402
from tiaot.export.ir.reader import read, read_function  # noqa: E402
from tiaot.export.ir.values import Constant, Local, LoweringError, integer, zero  # noqa: E402
from tiaot.export.ir.writer import write, write_function, write_instruction  # noqa: E402

TASKS = sorted((Path(__file__).parent / "ir").glob("*.ll"))

# Passes of LLVM 15, by what llvmlite calls them; "O..." are its own pipelines, with both vectorisers.
PIPELINES = {
    "none": "",
    "mem2reg": "sroa",
    "simplifycfg": "sroa cfg_simplification",
    "loops": "sroa loop_simplification loop_rotate lcssa licm",
    "gvn": "sroa cfg_simplification gvn instruction_combining",
    "unrolled": "sroa instruction_combining loop_simplification lcssa loop_unroll cfg_simplification",
    "scalar": "sroa sccp reassociate_expressions aggressive_instruction_combining jump_threading merge_returns",
    "strength": "sroa instruction_combining loop_simplification lcssa loop_strength_reduce sink",
    "inlined": "always_inliner sroa cfg_simplification tail_call_elimination",
    "memory": "sroa instruction_combining memcpy_optimization dead_store_elimination demote_register_to_memory",
    "lowered": "lower_atomic lower_switch break_critical_edges instruction_namer",
    "O1": "O1",
    "O2": "O2",
    "O3": "O3",
}


def machine():
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    target = llvm.Target.from_triple("x86_64-unknown-linux-gnu")
    return target.create_target_machine(cpu="x86-64-v3", features="", opt=0, reloc="pic")


def parse(text: str):
    return llvm.parse_assembly(text, llvm.create_context())  # where names of types are its own


def run_passes(text: str, pipeline: str) -> str:
    """What LLVM prints after some passes."""
    module = parse(re.sub(r"(?m)^target .*\n", "", text))
    names = pipeline.split()
    if names and names[0].startswith("O"):
        options = llvm.create_pipeline_tuning_options(int(names[0][1:]))
        options.loop_vectorization = options.slp_vectorization = True
        builder = llvm.create_pass_builder(machine(), options)
        builder.getModulePassManager().run(module, builder)
    elif names:
        manager = llvm.create_module_pass_manager()
        for name in names:
            getattr(manager, f"add_{name}_pass")()
        manager.run(module)
    module.verify()
    return str(module)


def functions_of(text: str) -> dict[str, str]:
    """The functions that LLVM has read from a text, as it prints them, without metadata, comments and attributes."""
    found = {}
    for function in parse(text).functions:
        lines = str(function).splitlines()
        lines = [line for line in lines if not re.search(r"@llvm\.(dbg|experimental\.noalias)", line)]
        lines = [re.sub(r"( #\d+|,? ![\w.]+ !\d+|\s*;.*)", "", line) for line in lines]
        found[function.name] = "\n".join(line for line in lines if line)
    return found


def check_round_trip(text: str) -> Module:
    """Reading and writing gives the same functions, as LLVM sees them, and so does reading what was written."""
    module = read(text)
    written = write(module)
    assert functions_of(written) == functions_of(text)
    assert read(written) == module
    return module


@pytest.mark.parametrize("pipeline", PIPELINES)
@pytest.mark.parametrize("path", TASKS, ids=lambda path: path.stem)
def test_tasks_after_passes_are_read_and_written_as_they_are(path: Path, pipeline: str):
    text = run_passes(path.read_text(), PIPELINES[pipeline])
    module = check_round_trip(text)
    assert module.definitions
    assert object_of(write(module)) == object_of(without_metadata(text))


def without_metadata(text: str) -> str:
    return "\n".join(re.sub(r",? ![\w.]+ !\d+", "", line) for line in text.splitlines() if not line.startswith("!"))


def object_of(text: str) -> bytes:
    return machine().emit_object(parse(re.sub(r"(?m)^(source_filename|target) .*\n", "", text)))


@pytest.mark.parametrize("pipeline", ["none", "loops", "gvn", "O2"])
def test_functions_of_the_runtime_are_read_and_written_as_they_are(pipeline: str):
    package = importlib.util.find_spec("taichi")
    if package is None or package.origin is None:
        pytest.skip("no Taichi")
    file = Path(package.origin).parent / "_lib" / "runtime" / "runtime_x64.bc"
    text = str(llvm.parse_bitcode(file.read_bytes(), llvm.create_context()))
    text = re.sub(r"(?m)^(attributes #\d+ = \{).*(\})$", r"\1 nounwind \2", text)  # without noinline and optnone
    names = re.findall(r"(?m)^define .*?@([\w.$]+)\(", text)
    kept = set(random.Random(7).sample(names, 120))  # the others stay declared
    lines, skipping = [], False
    for line in text.splitlines():
        if match := re.match(r"define .*?@([\w.$]+)\(", line):
            skipping = match[1] not in kept
            if skipping:
                head = re.sub(r"define (linkonce_odr |weak_odr |internal |weak |dso_local |hidden )*", "declare ", line)
                lines.append(re.sub(r" %\d+(?=[,)])| comdat(\(.*\))?| \{$|personality .*", "", head))
        if not skipping:
            lines.append(line)
        skipping = skipping and line != "}"
    module = check_round_trip(run_passes("\n".join(lines), PIPELINES[pipeline]))
    assert len(module.definitions) > 60


# ---- what is refused ----

HEAD = """%struct.S = type { i32, float* }
%struct.O = type opaque
declare i32 @f(i32)
define void @g(i32 %a, float* %p, %struct.S* %s, <4 x float> %v, i8* %b, void (i32)* %c) {
"""
REFUSED = {
    "%x = frobnicate i32 %a, 1": "the instruction 'frobnicate'",
    "%x = invoke i32 @f(i32 %a) to label %y unwind label %z": "the instruction 'invoke'",
    "%x = landingpad { i8*, i32 } cleanup": "the instruction 'landingpad'",
    "indirectbr i8* %b, [label %y]": "the instruction 'indirectbr'",
    "%x = va_arg i8** null, i32": "the instruction 'va_arg'",
    'call void asm "exit;", ""()': "assembly",
    '%x = call i32 @f(i32 %a) [ "deopt"(i32 1) ]': "bundles",
    "%x = call i32 @f(metadata i32 %a)": "metadata",
    "%x = load i32, ptr %b": "without a type",
    "%x = load i32": "expected ','",
    "load float, float* %p": "no name",
    "%x = store float 1.0, float* %p": "which is not the same",
    "%x = load float, float* %p, align 4, nonsense": "',' is not understood",
    "%x = add i32 %a, ?": "a character",
    "%x = add i32 %a, @@": "a character",
    "%x = add nsv i32 %a, 1": "the type 'nsv'",
    "%x = add fast i32 %a, 1": "the type 'fast'",
    "%x = add i32 %a, 1 extra": "'extra' is not understood",
    "%x = add i32 %a, blockaddress(@g, %y)": "the value 'blockaddress'",
    "%x = icmp lt i32 %a, 1": "the comparison 'lt'",
    "%x = fcmp slt float 1.0, 2.0": "the comparison 'slt'",
    "%x = atomicrmw fmax float* %p, float 1.0 seq_cst, align 4": "the atomic operation 'fmax'",
    "%x = atomicrmw add i32* null, i32 1 relaxed": "an ordering",
    "%x = cmpxchg i32* null, i32 0, i32 1 seq_cst": "ends too early",
    "%x = getelementptr %struct.S, %struct.S* %s, i32 0, i32 2": "no member 2",
    "%x = getelementptr %struct.S, %struct.S* %s, i32 0, i32 %a": "no member",
    "%x = getelementptr %struct.O, %struct.O* null, i32 0, i32 1": "is not defined",
    "%x = getelementptr float, float* %p, i32 0, i32 1": "has no members",
    "%x = getelementptr float, <4 x float*> zeroinitializer, i32 0": "vectors of pointers",
    "%x = shufflevector <4 x float> %v, <4 x float> %v, i32 1": "no constant vector",
    "%x = extractvalue %struct.S zeroinitializer": "place of a member",
    "%x = add i32 %missing, 1": "no %missing of the type i32",
    "%x = add i64 %a, 1": "no %a of the type i64",
    "br label %nowhere": "no block 'nowhere'",
    "ret void\n  ret void": "ends in another place",
    "%a = add i32 1, 1": "gives a name twice",
    "": "is empty",
    "%x = add i32 1, 1": "ends in another place",
    "switch i32 %a, label %entry [\n  i32 1": "a switch has no end",
}
UNENDED = ("", "%x = add i32 1, 1", "br label %nowhere")


@pytest.mark.parametrize("line", REFUSED)
def test_what_is_not_understood_is_refused_with_its_line(line: str):
    text = HEAD + f"entry:\n  {line}\n" + ("}" if line in UNENDED else "  ret void\n}")
    with pytest.raises(LoweringError) as refused:
        read(text)
    assert REFUSED[line] in str(refused.value)
    if "twice" not in REFUSED[line] and "empty" not in REFUSED[line]:
        assert re.search(r"line \d+: ", str(refused.value))


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('module asm "nop"', "no such part"),
        ("define void @f() {\nret void", "has no end"),
        ("define void @f() {\n}", "no instructions"),
        ("define void @f(ptr %p) {\nret void\n}", "without a type"),
        ("define void @f(i32 %p) nonsense {\nret void\n}", "expected '{'"),
        ('declare void @f(i32) gc "x"', "'gc' is not understood"),
        ("%t = type { i32", "expected ','"),
        ("declare void @f(i32 nonsense)", "expected ','"),
    ],
)
def test_other_parts_of_a_module_are_refused(text: str, what: str):
    with pytest.raises(LoweringError, match=re.escape(what)):
        read(text)


def test_one_function_is_found_by_its_name():
    text = "define void @f() {\nret void\n}\ndefine void @g() {\nret void\n}"
    assert read_function(text, "g").name == "g"
    with pytest.raises(LoweringError, match="expected one function, got 2"):
        read_function(text)
    with pytest.raises(LoweringError, match="expected a function 'h'"):
        read_function(text, "h")


# ---- the model ----

LOOP = """
define float @sum(float* noalias readonly %x, i64 %n) alwaysinline {
entry:
  %some = icmp sgt i64 %n, 0
  br i1 %some, label %loop, label %done
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
  %s = phi float [ 0.000000e+00, %entry ], [ %t, %loop ]
  %p = getelementptr inbounds float, float* %x, i64 %i
  %v = load float, float* %p, align 4
  %t = fadd contract float %s, %v
  %next = add nuw nsw i64 %i, 1
  %more = icmp slt i64 %next, %n
  br i1 %more, label %loop, label %done
done:
  %r = phi float [ 0.000000e+00, %entry ], [ %t, %loop ]
  ret float %r
}
"""


def test_a_function_knows_its_definitions_users_and_predecessors():
    function = read_function(LOOP)
    assert [each.value.name for each in function.parameters] == ["x", "n"]
    assert function.parameters[0].attributes == ("noalias", "readonly")
    sum_ = Local(t.FLOAT, "t")
    added = function.definition(sum_)
    assert isinstance(added, Binary) and (added.opcode, added.flags) == ("fadd", ("contract",))
    assert function.definition(function.parameters[0].value) is None
    assert [type(each) for each in function.users(sum_)] == [Phi, Phi]
    assert len(function.users(Local(t.I64, "n"))) == 2
    assert function.predecessors == {"entry": (), "loop": ("entry", "loop"), "done": ("entry", "loop")}
    assert [each.result.name for each in function.by_label["loop"].phis] == ["i", "s"]
    assert function.by_label["loop"].end.targets == ("loop", "done")
    assert function.type == t.FunctionType(t.FLOAT, (t.Pointer(t.FLOAT), t.I64))


def test_instructions_are_rewritten_and_the_rest_is_shared():
    function = read_function(LOOP)

    def double(instruction):
        if isinstance(instruction, Load):
            return [instruction, Binary(Local(t.FLOAT, "w"), "fmul", instruction.result, Constant(t.FLOAT, "2.0"))]
        if isinstance(instruction, Binary) and instruction.opcode == "fadd":
            return instruction.with_operands(lambda v: Local(v.type, "w") if str(v) == "%v" else v)
        return None

    changed = function.rewritten(double)
    assert "  %w = fmul float %v, 2.0\n  %t = fadd contract float %s, %w\n" in write_function(changed)
    assert changed.blocks[0].instructions[0] is function.blocks[0].instructions[0]
    assert write_function(function) == LOOP.strip()
    assert write_function(function.rewritten(lambda each: [] if isinstance(each, Store) else None)) == LOOP.strip()


def test_numbers_for_names_are_replaced_where_one_is_missing():
    text = "define i32 @f(i32 %0) {\n  %2 = add i32 %0, 1\n  %3 = add i32 %0, 2\n  br label %4\n4:\n  ret i32 %3\n}"
    function = read_function(text)
    assert function.blocks[0].label == "1"
    assert write_function(function) == text.replace("    ", "  ")
    fewer = function.rewritten(lambda each: [] if each.result and each.result.name == "2" else None)
    written = write_function(fewer)
    parse(written).verify()
    assert "n1:\n  %n3 = add i32 %n0, 2\n  br label %n4\nn4:" in written


def test_labels_are_changed_everywhere():
    function = read_function(LOOP)
    end, phi = function.by_label["loop"].end, function.by_label["loop"].phis[0]
    assert end.with_labels(str.upper).targets == ("LOOP", "DONE")
    assert write_instruction(phi.with_labels(str.upper)) == "%i = phi i64 [ 0, %ENTRY ], [ %next, %LOOP ]"
    switch = (
        read_function(
            "define void @f(i32 %a) {\ne:\n  switch i32 %a, label %d [\n    i32 1, label %d\n  ]\nd:\n  ret void\n}"
        )
        .blocks[0]
        .end
    )
    assert switch.with_labels(str.upper).targets == ("D", "D")


def test_constants_have_values():
    assert [Constant(t.I32, text).integer for text in ("7", "-3", "undef")] == [7, -3, None]
    assert integer(t.I1, 1) == Constant(t.I1, "true") and Constant(t.I1, "false").integer == 0
    assert Constant(t.FLOAT, "1.0").integer is None
    kinds = (t.I32, t.FLOAT, t.HALF, t.Pointer(t.I8), t.Vector(4, t.FLOAT), t.Array(2, t.I8))
    texts = ["0", "0.000000e+00", "0xH0000", "null", "zeroinitializer", "zeroinitializer"]
    assert [zero(kind).text for kind in kinds] == texts


def test_types_are_spelled_and_compared():
    struct = t.Struct((t.I32, t.Pointer(t.FLOAT)))
    assert str(t.Pointer(t.FunctionType(t.VOID, (t.Pointer(t.I8), t.I64), variadic=True))) == "void (i8*, i64, ...)*"
    assert [str(each) for each in (struct, t.Struct((), packed=True), t.Pointer(struct, 1))] == [
        "{ i32, float* }",
        "<{}>",
        "{ i32, float* } addrspace(1)*",
    ]
    assert t.Vector(4, t.FLOAT).is_float and t.with_element(t.Vector(4, t.FLOAT), t.I1) == t.Vector(4, t.I1)


def test_a_builder_writes_what_llvm_takes():
    struct = t.Named("S")
    types = {"S": t.Struct((t.I32, t.Array(2, t.FLOAT)))}
    x, n = Local(t.Pointer(struct), "x"), Local(t.I32, "n")
    b = Builder(["x", "n"], types)
    b.block("entry")
    slot = b.element_pointer(x, 0, 1, n, name="slot")
    value = b.load(slot, align=4, name="n")  # the name is taken
    assert value.name == "n.1"
    room = b.alloca(t.FLOAT)
    b.store(value, room)
    wide = b.cast("fpext", value, t.DOUBLE)
    root = Function("llvm.sqrt.f64", t.DOUBLE, read("declare double @llvm.sqrt.f64(double)").declarations[0].parameters)
    result = b.call(root, wide)
    less = b.compare("olt", result, Constant(t.DOUBLE, "1.0"))
    chosen = b.select(less, result, b.unary("fneg", result), flags=["nsz"])
    pair = b.insert_value(Constant(t.Struct((t.DOUBLE,)), "undef"), chosen, 0)
    vector = b.insert_element(Constant(t.Vector(2, t.DOUBLE), "undef"), b.extract_value(pair, 0), integer(t.I32, 0))
    element = b.extract_element(vector, integer(t.I32, 0))
    b.switch(n, "done", [(integer(t.I32, 3), "again")])
    again = b.block("again")
    b.branch("done")
    b.block("done")
    b.ret(b.phi(t.DOUBLE, (element, "entry"), (zero(t.DOUBLE), again)))
    parameters = read("%S = type { i32, [2 x float] }\ndeclare void @d(%S*, i32)").declarations[0].parameters
    named = tuple(type(each)(Local(each.value.type, name)) for each, name in zip(parameters, "xn", strict=True))
    function = Function("f", t.DOUBLE, named, b.finish())
    text = write(Module(types, {"f": function, root.name: root}))
    parse(text).verify()
    assert read(text).functions["f"] == function
    with pytest.raises(LoweringError, match="fadd of float and double"):
        b.binary("fadd", value, wide)
    with pytest.raises(LoweringError, match="is no pointer"):
        b.load(value)
    with pytest.raises(LoweringError, match="is no function"):
        b.call(Local(t.Pointer(t.I8), "x"))


def test_calls_and_element_pointers_are_known():
    text = (
        HEAD.replace("define", "define internal")
        + """
  %r = tail call i32 @f(i32 signext %a) #3, !dbg !4
  call void %c(i32 %r)
  %q = getelementptr inbounds %struct.S, %struct.S* %s, i64 1, i32 1
  ret void, !tbaa !1
}
attributes #3 = { nounwind }
!1 = !{}"""
    )
    module = read(text)
    function = module.definitions[0]
    call, other, pointer, _ = function.instructions
    assert isinstance(call, Call) and (call.name, call.tail, call.attributes) == ("f", "tail", (("signext",),))
    assert call.after == ("#3",) and module.attributes == {"#3": "nounwind"}
    assert isinstance(other, Call) and other.name == "" and not other.is_intrinsic
    assert isinstance(pointer, GetElementPointer) and pointer.result.type == t.Pointer(t.Pointer(t.FLOAT))
    assert "!" not in write(module)
