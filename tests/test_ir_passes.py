"""The passes on the model of LLVM IR: small texts in, texts out, and what each refuses. Without Taichi."""

from __future__ import annotations

import re

import pytest
from task_texts import ARRAYS, ELEMENT, body, function, text
from tiaot.export.ir.origins import CONTEXT, LOCAL, RESULT, UNKNOWN, Array, Origins, Root, Temporary
from tiaot.export.ir.passes.atomics import depends_on_order, plain_additions, plain_extrema
from tiaot.export.ir.passes.contraction import contract
from tiaot.export.ir.passes.lookups import place_lookups
from tiaot.export.ir.passes.offsets import widen_offsets
from tiaot.export.ir.passes.reassociation import only_adds, reassociate_sums
from tiaot.export.ir.passes.repeated import without_repetitions
from tiaot.export.ir.passes.scaling import point_to_copies, scale_offsets
from tiaot.export.ir.passes.stacks import fix_stacks, grow_stacks
from tiaot.export.ir.passes.summed import added_type, summed
from tiaot.export.ir.passes.temporaries import Private, Summed, point_temporaries, temporaries_bytes
from tiaot.export.ir.types import FLOAT
from tiaot.export.ir.values import LoweringError
from tiaot.export.ir.writer import write_function
from tiaot.export.state import Dense
from tiaot.export.target.nvidia.loads import plain_loads

# ---- what pointers point into ----

POINTERS = {
    "%q = getelementptr float, float* %x, i32 %i": Array(0, 1),
    "%q = bitcast float* %dx to i32*": Array(0, 2),
    "%q = select i1 true, float* %x, float* %x": Array(0, 1),
    "%q = select i1 true, float* %x, float* %dx": UNKNOWN,
    "%q = getelementptr i32, i32* %k, i64 7": Array(1, 1),
    "%q = alloca float, align 4": LOCAL,
    "%q = getelementptr i8, i8* %local, i64 8": LOCAL,
    "%q = bitcast i32* %rows.at to i8*": CONTEXT,
    "%q = call i8* @get_temporary_pointer(%struct.LLVMRuntime* %runtime, i64 8)": Temporary(8),
    "%n = sext i32 %i to i64\n%q = call i8* @get_temporary_pointer(%struct.LLVMRuntime* %runtime, i64 %n)": UNKNOWN,
    "%q = call i64* @RuntimeContext_get_result_buffer(%struct.RuntimeContext* %context)": RESULT,
    "%q = inttoptr i64 8 to float*": UNKNOWN,
    "%q = call float* @somewhere()": UNKNOWN,
    "%r = getelementptr float*, float** %x.at, i32 1\n%q = load float*, float** %r, align 8": UNKNOWN,
    "%r = alloca float*, align 8\n%q = load float*, float** %r, align 8": UNKNOWN,
    "%q = load float*, float** inttoptr (i64 8 to float**), align 8": UNKNOWN,
    "%r = call i8* @LLVMRuntime_get_roots(%struct.LLVMRuntime* %runtime, i32 0)\n"
    "%s = call i8* @get_ch_S0_to_S5(i8* %r)\n%q = call i8* @get_ch_S5_to_S6(i8* %s)": Root(5),
    "%q = call i8* @LLVMRuntime_get_roots(%struct.LLVMRuntime* %runtime, i32 0)": UNKNOWN,
    "%r = alloca [8 x i8], align 4\n%s = bitcast [8 x i8]* %r to i8*\n"
    "%q = call i8* @stack_top_primal(i8* %s, i64 4)": LOCAL,
}


@pytest.mark.parametrize("lines", POINTERS)
def test_it_is_known_or_unknown_what_a_pointer_points_into(lines: str):
    found = function(ARRAYS + lines)
    last = found.blocks[0].instructions[-2]
    assert last.result is not None
    assert Origins(found, roots=(5,)).of(last.result) == POINTERS[lines]


def test_a_pointer_that_follows_from_itself_is_unknown():
    found = function("br label %loop\nloop:\n%q = phi i8* [ %q, %loop ], [ %local, %entry ]\nbr label %loop\nend:")
    assert Origins(found).of(found.blocks[1].phis[0].result) is UNKNOWN


def test_other_parameters_and_other_structs_are_unknown():
    found = function("%q = getelementptr i8, i8* %other, i32 1", "%struct.RuntimeContext* %c, i8* %local, i8* %other")
    assert Origins(found).of(found.blocks[0].instructions[0].result) is UNKNOWN
    behind = ARRAYS.replace("%args, i32 0, i32 0\n%x.at", "%args, i32 1, i32 0\n%x.at")  # the struct behind the first
    assert behind != ARRAYS
    found = function(behind + "%q = bitcast float* %x to i8*")
    assert Origins(found).of(found.blocks[0].instructions[-2].result) is UNKNOWN


# ---- offsets ----


def rows_first(index: int, field: int):
    return (2 if index == 0 else 1), None


def in_lanes(index: int, field: int):
    return (2, 64) if index == 0 else (1, None)


def test_offsets_are_recomputed_in_64_bits():
    before = ARRAYS + ELEMENT.replace("%dp", "%q").replace("float* %dx", "float* %other")
    before = before.replace("%q = getelementptr float, float* %other, i32 %o3\n", "")
    changed = widen_offsets(function(before + "store float 1.0, float* %p, align 4"), rows_first)
    chain = before.replace("%p = getelementptr float, float* %x, i32 %o3\n", "")
    assert body(changed, chain) == text("""
        %widep.p0 = sext i32 %i to i64
        %widep.i0 = add nsw i64 %widep.p0, 0
        %widep.p1 = sext i32 %j to i64
        %widep.i1 = add nsw i64 %widep.p1, 0
        %widep.s1 = sext i32 %columns to i64
        %widep.m1 = mul nsw i64 %widep.i0, %widep.s1
        %widep.t1 = add nsw i64 %widep.m1, %widep.i1
        %widep = add nsw i64 %widep.t1, 0
        %p = getelementptr float, float* %x, i64 %widep
        store float 1.0, float* %p, align 4
    """)


def test_offsets_in_steps():
    shifted = ELEMENT.replace("%o2, %j", "%o2, %j1")
    lines = ARRAYS + "%j1 = add i32 %j, 3\n"
    changed = widen_offsets(
        function(lines + shifted + "store float 1.0, float* %p, align 4"), rows_first, in_steps=True
    )
    steps = """
        %widep.size = sext i32 %columns to i64
        %widep.offset = mul nsw i64 %widep.rows, %widep.size
        %widep.row = getelementptr float, float* %x, i64 %widep.offset
        %widep.index = sext i32 %j to i64
        %widep.place = getelementptr float, float* %widep.row, i64 %widep.index
        %p = getelementptr float, float* %widep.place, i64 3
    """
    assert text(steps) in body(changed, "")


def test_constants_of_an_index_move_into_the_offset_and_other_arithmetic_stays():
    lines = "%i1 = add i32 %i, 3\n%i2 = add i32 -1, %i1\n%j1 = mul i32 %j, 2\n"
    element = ELEMENT.replace("%o0, %i", "%o0, %i2").replace("%o2, %j", "%o2, %j1")
    found = body(widen_offsets(function(ARRAYS + lines + element), rows_first), ARRAYS + lines)
    assert "%widep.p0 = sext i32 %i to i64\n%widep.i0 = add nsw i64 %widep.p0, 2\n" in found
    assert "%widep.p1 = sext i32 %j1 to i64\n%widep.i1 = add nsw i64 %widep.p1, 0\n" in found


def test_an_addition_that_says_that_it_does_not_wrap_is_no_constant_to_move():
    lines = "%i1 = add nsw i32 %i, 3\n"
    element = ELEMENT.replace("%o0, %i", "%o0, %i1")
    assert "%widep.p0 = sext i32 %i1 to i64" in body(widen_offsets(function(ARRAYS + lines + element), rows_first))


OTHER_OFFSETS = {
    "%o = add i32 %i, %j\n%q = getelementptr float, float* %x, i32 %o": "no chain",
    "%q = getelementptr float, float* %x, i32 5": "a constant",
    "%w = sext i32 %i to i64\n%q = getelementptr float, float* %x, i64 %w": "64 bits",
    "%o0 = mul i32 %i, %rows\n%o1 = add i32 %o0, %i\n%o2 = mul i32 %o1, %columns\n%o3 = add i32 %o2, %j\n"
    "%q = getelementptr float, float* %x, i32 %o3": "a start that is not 0",
    "%v = bitcast float* %x to i32*\n%q0 = getelementptr i32, i32* %v, i32 %i\n"
    "%q = bitcast i32* %q0 to float*": "another type",
    ELEMENT + "%q = getelementptr float, float* %p, i64 1": "a neighbour",
    "%q = inttoptr i64 8 to float*": "unknown",
}


@pytest.mark.parametrize("lines", OTHER_OFFSETS)
def test_other_offsets_stay_and_are_refused_in_arrays_in_lanes(lines: str):
    found = function(ARRAYS + lines + "\n%v.read = load float, float* %q, align 4")
    assert "wideq" not in body(widen_offsets(found, rows_first))
    with pytest.raises(LoweringError, match=r"element of a batched array.*load float, float\* %q.*line \d+"):
        widen_offsets(found, in_lanes, lanes=True)


def test_elements_in_lanes_are_reached_by_their_indices():
    found = function(ARRAYS + ELEMENT + "store float 1.0, float* %p, align 4")
    lines = body(widen_offsets(found, in_lanes, lanes=True))
    assert "%widep.m1 = mul nsw i64 %widep.i0, 64" in lines  # the batch, the first axis, is the last
    assert "%widep.p0 = sext i32 %j to i64" in lines and "%widep.p1 = sext i32 %i to i64" in lines


def test_copies_of_an_array_lie_element_by_element():
    constant = "%q = getelementptr float, float* %dx, i32 5\nstore float 1.0, float* %q, align 4\n"
    found = function(ARRAYS + ELEMENT + "store float 1.0, float* %dp, align 4\n" + constant)
    lines = body(widen_offsets(found, rows_first, lanes=True, copies=lambda index, field: 16 if field == 2 else 1))
    assert "%widedp.m2 = mul nsw i64 %widedp.t1, 16\n%widedp.t2 = add nsw i64 %widedp.m2, 0\n" in lines
    assert "%q = getelementptr float, float* %dx, i64 80" in lines
    assert "widep.m2" not in lines  # the array itself has none


def test_an_array_with_copies_is_reached_by_its_indices():
    for lines in ("%v = load float, float* %dx, align 4", "%v = call float @peek(float* %dx)"):
        with pytest.raises(LoweringError, match="not reached by its indices"):
            widen_offsets(function(ARRAYS + lines), rows_first, lanes=True, copies=lambda index, field: 2)


def test_a_call_that_is_given_an_array_in_lanes_is_refused():
    found = function(ARRAYS + "%v = call float @peek(float* %x)")
    with pytest.raises(LoweringError, match="batched array"):
        widen_offsets(found, in_lanes, lanes=True)


# ---- arithmetic ----


def test_arithmetic_may_be_contracted():
    lines = "%a = fmul float 1.0, 2.0\n%b = fneg float %a\n%c = fadd reassoc float %a, %b\n%d = frem float %c, %a\n"
    once = contract(function(lines + "%e = add i32 %i, 1"))
    assert body(once) == text("""
        %a = fmul contract float 1.0, 2.0
        %b = fneg contract float %a
        %c = fadd reassoc contract float %a, %b
        %d = frem float %c, %a
        %e = add i32 %i, 1
    """)
    assert contract(once) == once


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("%v = load float, float* %dp\n%s = fadd float %v, 1.0\nstore float %s, float* %dp", True),
        ("%v = load float, float* %dp\n%s = fadd float 1.0, %v\nstore float %s, float* %dp", True),
        ("%v = load float, float* %p\n%s = fadd float %v, 1.0\nstore float %s, float* %p", False),  # no sum's array
        ("%v = load float, float* %p\n%s = fadd float %v, 1.0\nstore float %s, float* %dp", False),  # no sum
        ("%v = load float, float* %dp\n%s = fsub float %v, 1.0\nstore float %s, float* %dp", False),
    ],
)
def test_only_sums_into_the_arrays_in_question_are_reassociated(lines: str, expected: bool):
    changed = reassociate_sums(function(ARRAYS + ELEMENT + lines), lambda index, field: (index, field) == (0, 2))
    assert ("reassoc" in body(changed)) == expected


PLAIN_SUM = "%v = load float, float* %dp, align 4\n%w = fadd float %v, 1.0\nstore float %w, float* %dp, align 4\n"
NOT_ONLY_ADDED_TO = {
    "%r = fmul float %v, 2.0": "what was there is used otherwise",
    "%r = load float, float* %dp, align 4": "it is read",
    "store float 0.0, float* %dp, align 4": "it is overwritten",
    "%r = call float @peek(float* %dp)": "a call is given it",
    "%u = inttoptr i64 8 to float*\nstore float 0.0, float* %u, align 4": "unknown memory is written to",
}


def test_an_array_may_be_added_to_alone():
    assert only_adds(function(ARRAYS + ELEMENT + PLAIN_SUM), lambda index, field: field == 2)


@pytest.mark.parametrize("lines", NOT_ONLY_ADDED_TO)
def test_an_array_is_not_added_to_alone(lines: str):
    assert not only_adds(function(ARRAYS + ELEMENT + PLAIN_SUM + lines), lambda index, field: field == 2)


# ---- atomics ----


def test_atomic_additions_become_plain_ones():
    lines = text("""
        %a = atomicrmw fadd float* %p, float 1.0 seq_cst, align 4
        %b = atomicrmw add i32* %k, i32 1 seq_cst, align 4
        %c = atomicrmw max i32* %k, i32 1 seq_cst, align 4
        %d = atomicrmw fsub float* %p, float 1.0 seq_cst, align 4
        %e = atomicrmw volatile add i32* %k, i32 1 seq_cst, align 4
    """)
    before = ARRAYS + ELEMENT
    found = function(before + lines)
    assert body(plain_additions(found), before) == text("""
        %a = load float, float* %p, align 4
        %suma = fadd float %a, 1.0
        store float %suma, float* %p, align 4
        %b = load i32, i32* %k, align 4
        %sumb = add i32 %b, 1
        store i32 %sumb, i32* %k, align 4
    """) + "\n" + "\n".join(lines.splitlines()[2:])
    only_floats = body(plain_additions(found, whole_numbers=False), before)
    assert "%suma = fadd" in only_floats and "%b = atomicrmw add" in only_floats


def test_atomic_minima_and_maxima_become_plain_ones():
    lines = text("""
        %a = call float @atomic_max_f32(float* %p, float 1.0)
        %b = call float @atomic_min_f32(float* %p, float 1.0)
        %c = call i32 @atomic_max_i32(i32* %k, i32 1)
    """)
    before = ARRAYS + ELEMENT
    assert body(plain_extrema(function(before + lines)), before) == text("""
        %a = load float, float* %p
        %staysa = fcmp ole float 1.0, %a
        %extremuma = select i1 %staysa, float %a, float 1.0
        store float %extremuma, float* %p
        %b = load float, float* %p
        %staysb = fcmp oge float 1.0, %b
        %extremumb = select i1 %staysb, float %b, float 1.0
        store float %extremumb, float* %p
        %c = call i32 @atomic_max_i32(i32* %k, i32 1)
    """)


ORDER = {
    "store float 1.0, float* %p": False,
    "%a = atomicrmw add i32* %k, i32 1 seq_cst": False,
    "%a = atomicrmw umin i32* %k, i32 1 seq_cst": False,
    "%a = atomicrmw add i32* %k, i32 1 seq_cst\nstore i32 %a, i32* %k": True,  # the old value is used
    "%a = atomicrmw fadd float* %p, float 1.0 seq_cst": True,
    "%a = atomicrmw fsub float* %p, float 1.0 seq_cst": True,
    "%a = atomicrmw xchg i32* %k, i32 1 seq_cst": True,
    "%a = atomicrmw nand i32* %k, i32 1 seq_cst": True,
    "%a = cmpxchg i32* %k, i32 0, i32 1 seq_cst seq_cst": True,
    "fence seq_cst": True,
    "%a = load volatile i32, i32* %k": True,
    "store atomic i32 1, i32* %k monotonic, align 4": True,
    "%a = call float @atomic_min_f32(float* %p, float 1.0)": False,
    "%a = call float @atomic_min_f32(float* %p, float 1.0)\nstore float %a, float* %p": True,
    "%a = call i32 @atomic_add_i32(i32* %k, i32 1)": False,
    "%a = call float @atomic_add_f32(float* %p, float 1.0)": True,
    "%a = call float @atomic_mul_f32(float* %p, float 1.0)": True,
    "%a = call float @reduce_max_f32(float* %p, float 1.0)": False,
    "%a = call float @reduce_add_f32(float* %p, float 1.0)": True,
    "call void @lock_something(i8* %local)\ncall void @mutex_lock_i32(i8* null)": False,  # of the thread's own
    "%b = bitcast i32* %k to i8*\ncall void @mutex_lock_i32(i8* %b)": True,
    "%a = call float @something_new(float* %p)": True,
    "%a = call float @tanh_f32(float 1.0)": False,
    "%a = call float @rand_f32(%struct.RuntimeContext* %context)\nstore float %a, float* %p": False,
}


@pytest.mark.parametrize("lines", ORDER)
def test_whether_results_depend_on_the_order_of_threads(lines: str):
    assert depends_on_order([function(ARRAYS + ELEMENT + lines)]) == ORDER[lines]


SUM = "%a = atomicrmw fadd float* %p, float 1.0 seq_cst\n"
TEMPORARY = (
    "%t = call i8* @get_temporary_pointer(%struct.LLVMRuntime* %runtime, i64 8)\n%tf = bitcast i8* %t to float*\n"
)
SUMS = {
    SUM: [Array(0, 1)],
    "%a = atomicrmw fadd float* %dp, float 1.0 seq_cst\n" + SUM.replace("%a", "%b"): [Array(0, 2), Array(0, 1)],
    TEMPORARY + "%a = atomicrmw fadd float* %tf, float 1.0 seq_cst": [Temporary(8)],
    "store float 1.0, float* %p": [],
    SUM + "store float 1.0, float* %dp": [Array(0, 1)],
    SUM + "%v = load float, float* %p": None,  # read beside it
    SUM + "store float 1.0, float* %p": None,
    SUM + "%v = load volatile float, float* %p": None,
    SUM + "%v = load <2 x float>, <2 x float>* %pv": None,
    SUM + "%b = atomicrmw max i32* %k, i32 1 seq_cst": [Array(0, 1)],
    SUM + "%b = atomicrmw xchg i32* %k, i32 1 seq_cst": None,
    SUM + "store float %a, float* %dp": None,  # the old value is used
    SUM + "%v = call float @peek(float* %p)": None,
    SUM + "%u = inttoptr i64 8 to float*\n%v = load float, float* %u": None,  # may be the same array
    SUM + "%u = ptrtoint float* %p to i64": None,
    "%u = inttoptr i64 8 to float*\n%a = atomicrmw fadd float* %u, float 1.0 seq_cst": None,
    "%a = atomicrmw fadd half* null, half 0xH3C00 seq_cst": None,
    SUM + "%b = atomicrmw fadd float* null, float 1.0 seq_cst": None,
}


@pytest.mark.parametrize("lines", SUMS)
def test_what_a_loop_only_adds_to(lines: str):
    before = ARRAYS + ELEMENT + "%pv = bitcast float* %p to <2 x float>*\n"
    assert summed([function(before + lines)]) == SUMS[lines]


def test_what_a_loop_adds_to_is_asked_of_all_its_functions():
    one, other = function(ARRAYS + ELEMENT + SUM), function(ARRAYS + ELEMENT + "%v = load float, float* %p")
    assert summed([one, one]) == [Array(0, 1)]
    assert summed([one, other]) is None
    assert added_type([other, one], Array(0, 1)) == FLOAT and added_type([other], Array(0, 1)) is None


# ---- stacks ----

STACK = (
    text("""
    %5 = alloca [264 x i8], align 4
    %6 = alloca i32, align 4
    %7 = bitcast [264 x i8]* %5 to i8*
    call void @stack_init(i8* %7)
    call void @stack_push(i8* %7, i64 32, i64 4)
    %8 = call i8* @stack_top_primal(i8* %7, i64 4)
    %9 = call i8* @stack_top_adjoint(i8* %7, i64 4)
    call void @stack_pop(i8* %7)
""")
    .replace("%5", "%s")
    .replace("%6", "%o")
    .replace("%7", "%c")
    .replace("%8", "%t")
    .replace("%9", "%d")
)


def test_stacks_grow():
    assert body(grow_stacks(function(STACK))) == text("""
        %s = alloca [256 x i8], align 4
        %stacks.count = alloca i64
        %stacks.table = alloca %tiaot.stack
        %o = alloca i32, align 4
        call void @tiaot_stack_create(%tiaot.stack* %stacks.table, %struct.RuntimeContext* %context)
        %c = bitcast [256 x i8]* %s to i8*
        call void @tiaot_stack_init(i8* %c, i64* %stacks.count, %tiaot.stack* %stacks.table)
        call void @tiaot_stack_push(i8* %c, i64* %stacks.count, %tiaot.stack* %stacks.table, i64 4)
        %t = call i8* @tiaot_stack_top_primal(i8* %c, i64* %stacks.count, %tiaot.stack* %stacks.table, i64 4)
        %d = call i8* @tiaot_stack_top_adjoint(i8* %c, i64* %stacks.count, %tiaot.stack* %stacks.table, i64 4)
        call void @tiaot_stack_pop(i8* %c, i64* %stacks.count, %tiaot.stack* %stacks.table)
        call void @tiaot_stack_destroy(%tiaot.stack* %stacks.table)
    """)


def test_stacks_are_fixed_on_a_device():
    lines = body(fix_stacks(function(STACK), 128))
    assert lines.startswith("%stacks.count = alloca i64\n%s = alloca [1024 x i8], align 4\n")
    assert "%c = bitcast [1024 x i8]* %s to i8*\ncall void @tiaot_stack_init(i8* %c, i64* %stacks.count)\n" in lines
    assert "%t = call i8* @tiaot_stack_top_primal(i8* %c, i64* %stacks.count, i64 4)" in lines


def test_functions_without_stacks_stay():
    plain = function("%a = add i32 %i, 1")
    assert grow_stacks(plain) is plain and fix_stacks(plain, 32) is plain


@pytest.mark.parametrize("grow", [grow_stacks, lambda f: fix_stacks(f, 32)])
@pytest.mark.parametrize(
    ("lines", "what"),
    [
        (STACK.replace("%c = bitcast [264 x i8]* %s to i8*", "%c = getelementptr i8, i8* %local, i32 0"), "not where"),
        (STACK.replace("i64 32, i64 4", "i64 32, i64 8"), "no one size"),
        ("%s = alloca [264 x i8]\n%c = bitcast [264 x i8]* %s to i8*\ncall void @stack_init(i8* %c)", "no known size"),
        (STACK + "\n%n = load i8, i8* %c, align 4", "used in another way"),
        (STACK + "\n%n = getelementptr [264 x i8], [264 x i8]* %s, i32 0, i32 0", "used in another way"),
    ],
)
def test_stacks_that_are_not_known_are_refused(grow, lines: str, what: str):
    with pytest.raises(LoweringError, match=what):
        grow(function(lines))


def test_a_stack_that_grows_needs_the_context():
    with pytest.raises(LoweringError, match="has no context"):
        grow_stacks(function(STACK, "i8* %local"))


# ---- fields ----

NODE = text("""
    %m = alloca %struct.DenseMeta, align 8
    %root = getelementptr i8, i8* %local, i64 0
    %s = bitcast %struct.DenseMeta* %m to %struct.StructMeta*
    call void @StructMeta_set_snode_id(%struct.StructMeta* %s, i32 5)
    call void @DenseMeta_set_morton_dim(%struct.DenseMeta* %m, i32 0)
    %b = bitcast %struct.DenseMeta* %m to i8*
""")
NODES = {5: Dense(8, (4, 6))}
KEPT = "\n".join(line for line in NODE.splitlines() if "call" not in line)


def test_lookups_become_sums():
    lines = "%r = mul i32 %i, 6\n%o = add i32 %j, %r\n%e = call i8* @Dense_lookup_element(i8* %b, i8* %root, i32 %o)"
    changed = place_lookups(function(f"{NODE}\n{lines}"), NODES)
    assert body(changed, KEPT + "\n" + "\n".join(lines.splitlines()[:2])) == text("""
        %ate.p0 = sext i32 %i to i64
        %ate.m0 = mul nsw i64 %ate.p0, 6
        %ate.t0 = add nsw i64 %ate.m0, 0
        %ate.p1 = sext i32 %j to i64
        %ate.m1 = mul nsw i64 %ate.p1, 1
        %ate.t1 = add nsw i64 %ate.m1, %ate.t0
        %ate = mul nsw i64 %ate.t1, 8
        %e = getelementptr inbounds i8, i8* %root, i64 %ate
    """)


@pytest.mark.parametrize(
    ("lines", "flat"),
    [
        ("%q = sdiv i32 %i, 6\n%m6 = srem i32 %i, 6", True),
        ("%q = sdiv i32 %i, 6\n%m6 = srem i32 %j, 6", False),  # of another number
        ("%q = sdiv i32 %i, 7\n%m6 = srem i32 %i, 6", False),
        ("%q = ashr i32 %i, -1\n%m6 = srem i32 %i, 6", False),
    ],
)
def test_a_loop_over_all_elements_is_seen(lines: str, flat: bool):
    lines += "\n%r = mul i32 %q, 6\n%o = add i32 %r, %m6\n"
    lines += "%e = call i8* @Dense_lookup_element(i8* %b, i8* %root, i32 %o)"
    found = body(place_lookups(function(f"{NODE}\n{lines}"), NODES))
    assert ("%ate.p0 = sext i32 %i to i64" in found and "%ate.p1" not in found) == flat


@pytest.mark.parametrize(
    ("lines", "what"),
    [
        (
            NODE.replace("i32 5)", "i32 7)") + "\n%e = call i8* @Dense_lookup_element(i8* %b, i8* %root, i32 %i)",
            "which element",
        ),
        ("%e = call i8* @Dense_lookup_element(i8* %local, i8* %local, i32 %i)", "which element"),
        (NODE + "\n%n = call i32 @Dense_get_num_elements(i8* %b, i8* %root)", "which element"),
        (NODE.replace("i32 5)", "i32 %i)"), "which node"),
        (NODE + "\ncall void @StructMeta_set_snode_id(%struct.StructMeta* %s, i32 6)", "which node"),
    ],
)
def test_lookups_that_are_not_known_are_refused(lines: str, what: str):
    with pytest.raises(LoweringError, match=what):
        place_lookups(function(lines), NODES)


# ---- devices ----


def test_temporaries_are_pointed_to_where_they_are():
    lines = "".join(
        f"%t{at} = call i8* @get_temporary_pointer(%struct.LLVMRuntime* %runtime, i64 {at})\n" for at in (0, 8, 16)
    )
    found = function(ARRAYS + lines)
    assert body(point_temporaries(found, {0: Private(), 8: Summed(2, 4)}), ARRAYS) == text("""
        %t0 = call i8* @tiaot_private_pointer(%struct.LLVMRuntime* %runtime, i64 0)
        %t8 = call i8* @tiaot_summed_pointer(%struct.LLVMRuntime* %runtime, i64 2, i64 4)
        %t16 = call i8* @get_temporary_pointer(%struct.LLVMRuntime* %runtime, i64 16)
    """)
    assert temporaries_bytes([found]) == 80 and temporaries_bytes([function("")]) == 0
    matrix = function(
        ARRAYS + "%t = call i8* @get_temporary_pointer(%struct.LLVMRuntime* %runtime, i64 8)\n"
        "%m = bitcast i8* %t to [16 x double]*"
    )
    assert temporaries_bytes([matrix]) == 8 + 16 * 8
    unknown = function(ARRAYS + "%t = call i8* @get_temporary_pointer(%struct.LLVMRuntime* %runtime, i64 undef)")
    with pytest.raises(LoweringError, match="which temporary"):
        temporaries_bytes([unknown])
    with pytest.raises(LoweringError, match="which temporary"):
        point_temporaries(unknown, {})


IN_ROOTS = """
%r = call i8* @LLVMRuntime_get_roots(%struct.LLVMRuntime* %runtime, i32 0)
%five = call i8* @get_ch_S0_to_S5(i8* %r)
%f5 = bitcast i8* %five to float*
%nine = call i8* @get_ch_S0_to_S9(i8* %r)
%f9 = bitcast i8* %nine to float*
"""


def test_what_goes_to_a_root_that_is_copied_goes_to_the_threads_copy():
    before = ARRAYS + IN_ROOTS
    lines = "%v = load float, float* %f5, align 4\nstore float %v, float* %f9, align 4\nstore float %v, float* %x"
    found = point_to_copies(function(before + lines), {9: 3}, (5, 9))
    assert body(found, before) == text("""
        %v = load float, float* %f5, align 4
        %shared = bitcast float* %f9 to i8*
        %copied = call i8* @tiaot_copied(%struct.RuntimeContext* %context, i8* %shared, i64 3)
        %own = bitcast i8* %copied to float*
        store float %v, float* %own, align 4
        store float %v, float* %x
    """)
    with pytest.raises(LoweringError, match="not reached by offsets"):
        point_to_copies(function(before + "%n = ptrtoint float* %f9 to i64"), {9: 3}, (5, 9))


def test_cached_loads_are_plain_ones():
    task = (
        "  %a = call double @llvm.nvvm.ldg.global.f.f64.p0f64(double* %p, i32 64)\n"
        "  %b = call i8 @llvm.nvvm.ldg.global.i.i8.p0i8(i8* %q, i32 8) #3\n"
    )
    assert plain_loads(task) == "  %a = load double, double* %p, align 8\n  %b = load i8, i8* %q, align 1\n"


def gradient_of_0(index: int, field: int) -> bool:
    return (index, field) == (0, 2)


def test_elements_that_are_added_to_lie_as_far_apart_as_there_are_threads():
    before = ARRAYS + ELEMENT.replace("%dp = getelementptr float, float* %dx, i32 %o3\n", "")
    lines = "%dp = getelementptr float, float* %dx, i32 %o3\nstore float 1.0, float* %dp\nstore float 1.0, float* %p"
    assert body(scale_offsets(function(before + lines), gradient_of_0), before) == text("""
        %apartdp.w = sext i32 %o3 to i64
        %apartdp.n = call i64 @tiaot_threads()
        %apartdp = mul nsw i64 %apartdp.w, %apartdp.n
        %dp = getelementptr float, float* %dx, i64 %apartdp
        store float 1.0, float* %dp
        store float 1.0, float* %p
    """)


def test_offsets_that_are_added_to_one_another_are_all_scaled():
    lines = body(
        scale_offsets(function(ARRAYS + ELEMENT + "%q = getelementptr float, float* %dp, i64 2"), gradient_of_0)
    )
    assert lines.endswith("%apartq = mul nsw i64 2, %apartq.n\n%q = getelementptr float, float* %dp, i64 %apartq")


@pytest.mark.parametrize(
    "lines",
    [
        "store float 1.0, float* %dx",
        "%q = bitcast float* %dx to i32*\nstore i32 1, i32* %q",
        "%q = bitcast float* %dx to i32*\n%r = getelementptr i32, i32* %q, i32 1",
        "%v = call float @peek(float* %dx)",
        "%q = inttoptr i64 8 to float*\nstore float 1.0, float* %q",
    ],
)
def test_elements_that_are_added_to_and_reached_otherwise_are_refused(lines: str):
    with pytest.raises(LoweringError, match="not reached by offsets"):
        scale_offsets(function(ARRAYS + lines), gradient_of_0)


# ---- repetitions ----


def again(lines: str) -> str:
    """The lines with another name for each of their values."""
    return re.sub(r"%(?!context|struct|i\b|j\b)([a-z]\w*(?:\.at)?)", r"%again.\1", lines)


def test_what_is_calculated_again_is_calculated_once():
    """With the addresses and loads of arguments; an element is loaded again, since a store may have changed it."""
    first = "%y = load float, float* %p, align 4\n%z = fmul float %y, %y\nstore float %z, float* %p, align 4"
    twice = function(f"{ARRAYS}{ELEMENT}{first}{again(ARRAYS)}{again(ELEMENT)}{again(first)}")
    found = body(without_repetitions(twice), ARRAYS + ELEMENT)
    runtime = "%again.runtime = call %struct.LLVMRuntime* @RuntimeContext_get_runtime(%struct.RuntimeContext* %context)"
    assert found == f"{first}\n{runtime}\n" + first.replace("%y", "%again.y").replace("%z", "%again.z")


DIFFERENT = {
    "a flag": "%a = add i32 %i, %j\n%b = add nsw i32 %i, %j",
    "the order": "%a = sub i32 %i, %j\n%b = sub i32 %j, %i",
    "a predicate": "%a = icmp slt i32 %i, %j\n%b = icmp sgt i32 %i, %j",
    "the type of a cast": "%a = sext i32 %i to i64\n%b = sext i32 %i to i128",
    "the type of a constant": "%a = zext i8 1 to i64\n%b = zext i16 1 to i64",
    "a call": "%a = call i32 @f(i32 %i)\n%b = call i32 @f(i32 %i)",
    "volatile": ARRAYS
    + "%a = load volatile i32, i32* %rows.at, align 4\n%b = load volatile i32, i32* %rows.at, align 4",
    "an element at a constant place": ARRAYS + "%a = load float, float* %x, align 4\n"
    "store float 1.0, float* %p, align 4\n%b = load float, float* %x, align 4",
    "another field of the context": "%s = getelementptr %struct.RuntimeContext, %struct.RuntimeContext* %context, "
    "i32 0, i32 2\n%a = load i32, i32* %s, align 4\n%b = load i32, i32* %s, align 4",
    "another block": "%a = add i32 %i, %j\nbr label %next\nnext:\n%b = add i32 %i, %j",
}


@pytest.mark.parametrize("lines", DIFFERENT.values(), ids=DIFFERENT)
def test_what_differs_is_kept(lines: str):
    given = function(lines.replace("%p,", "%x,"))
    assert without_repetitions(given) is given


def test_uses_before_and_behind_are_of_the_first():
    """A phi at the start of a loop, and another block."""
    given = function(
        "br label %loop\nloop:\n%k = phi i32 [ 0, %entry ], [ %next.again, %loop ]\n%next = add i32 %k, 1\n"
        "%next.again = add i32 %k, 1\n%more = icmp slt i32 %next.again, %i\nbr i1 %more, label %loop, label %done\n"
        "done:\n%last = mul i32 %next.again, 2"
    )
    found = write_function(without_repetitions(given))
    assert "next.again" not in found
    assert "phi i32 [ 0, %entry ], [ %next, %loop ]" in found and "mul i32 %next, 2" in found
