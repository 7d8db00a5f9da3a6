"""What the parameters of a Taichi kernel are: read from its annotations and held against a signature. Knows no IR."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..dtypes import ELEMENT_TYPES
from .signature import DTYPES, REAL_DTYPES, Signature

if TYPE_CHECKING:
    from .declare import Implementation


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One parameter of a traced kernel, in the order of Taichi's argument struct.

    `role` is "input", "output", "updated" (an input that is also an output), "cotangent" (of output `name`), "gradient"
    (of input `name`), "scratch", "kept" (a copy that our adjoint keeps of an array), or "result" for what a kernel
    returns, which is no member of the struct. Where `gradient` is set, Taichi's struct holds a second pointer: the
    gradient of an input, the cotangent of an output.
    """

    name: str
    role: str
    dtype: str
    rank: int  # axes of the ndarray, without those of its elements
    element: tuple[int, ...] = ()  # axes of a vector or matrix element
    by_value: bool = False  # its elements stand in the struct themselves
    gradient: bool = False
    shape: tuple[str, ...] = ()  # scratch: the size of each axis, an expression

    @property
    def element_count(self) -> int:
        return math.prod(self.element)

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> Parameter:
        """A parameter from its fields as JSON has them."""
        return cls(**{**record, "element": tuple(record["element"]), "shape": tuple(record["shape"])})


def is_template(argument: Any) -> bool:
    """Whether a Taichi kernel's argument is a template."""
    return is_template_type(argument.annotation)


def is_template_type(annotation: Any) -> bool:
    import taichi as ti

    return annotation is ti.template or isinstance(annotation, ti.template)


def is_array(argument: Any) -> bool:
    """Whether a Taichi kernel's argument is an ndarray."""
    from taichi.types.ndarray_type import NdarrayType

    return isinstance(argument.annotation, NdarrayType)


def dtype_name(kernel: str, what: str, dtype: Any) -> str:
    """The name of one of Taichi's element types; ValueError for one that no module has."""
    import taichi as ti
    from taichi.types.texture_type import RWTextureType, TextureType

    if isinstance(dtype, TextureType | RWTextureType):
        raise ValueError(f"{kernel}: {what} is a texture, which cannot be exported: pass its data as an array")

    config = ti.lang.impl.current_cfg()
    if dtype is float:
        dtype = config.default_fp
    elif dtype is int:
        dtype = config.default_ip
    names = {str(type_): name for name, type_ in _taichi_dtypes().items()}
    if str(dtype) not in names:
        raise ValueError(f"{kernel}: {what}: expected one of {', '.join(DTYPES)}, got Taichi's type {dtype}")
    return names[str(dtype)]


def _taichi_dtypes() -> dict[str, Any]:
    """Taichi's element type of each name. Not by `ti.f32`, which the gate makes mean another type (gate/twin.py)."""
    from taichi.types import primitive_types

    return {each.name: getattr(primitive_types, each.taichi) for each in ELEMENT_TYPES}


def real_types() -> list[Any]:
    """Taichi's types of real numbers."""
    return [type_ for name, type_ in _taichi_dtypes().items() if name in REAL_DTYPES]


def taichi_type(dtype: str, element: tuple[int, ...]) -> Any:
    """Taichi's type of a number of that name, or of a vector or matrix of them."""
    import taichi as ti

    number = _taichi_dtypes()[dtype]
    if not element:
        return number
    return (ti.types.vector if len(element) == 1 else ti.types.matrix)(*element, number)


def _describe(kernel: str, what: str, annotation: Any, dtype: str) -> tuple[str, tuple[int, ...]]:
    """(element type, element shape) of an annotation: of an ndarray, or of a value. `dtype` is for one without."""
    from taichi.lang.matrix import MatrixType
    from taichi.types.ndarray_type import NdarrayType

    if is_template_type(annotation):
        raise ValueError(
            f"{kernel}: {what} is a ti.template(), but an argument in the signature: annotate it with the type of its "
            "array, as ti.types.ndarray(ti.f32, ndim=1), or leave it out of the signature and give its value in "
            "constants={...}"
        )
    inner = annotation.dtype if isinstance(annotation, NdarrayType) else annotation
    if inner is None:
        return dtype, ()
    if isinstance(inner, MatrixType):
        element = (inner.n,) if inner.ndim == 1 else (inner.n, inner.m)
        return (dtype if inner.dtype is None else dtype_name(kernel, what, inner.dtype)), element
    return dtype_name(kernel, what, inner), ()


def argument_dtypes(kernel: Any, signature: Signature, given: Mapping[str, str]) -> dict[str, str]:
    """The element type of every argument of a signature, from a Taichi kernel's annotations.

    Raises:
        ValueError: when the kernel and the signature do not fit; it names the parameter.
    """
    name = kernel.__name__
    for argument, dtype in given.items():
        if dtype not in DTYPES:
            raise ValueError(f"{name}: dtypes: {argument!r}: expected one of {', '.join(DTYPES)}, got {dtype!r}")
    types = {}
    arguments = {each.name: each for each in kernel._primal.arguments}
    for each in signature.arguments:
        if each.name in arguments:
            what = f"parameter {each.name!r}"
            types[each.name] = _describe(name, what, arguments[each.name].annotation, given.get(each.name, "float32"))[
                0
            ]
        elif each in signature.outputs and (returned := _returned(kernel)) is not None:
            types[each.name] = _describe(name, "the returned value", returned, "float32")[0]
        elif each in signature.inputs and each.name == "seed" and not each.dims:
            types[each.name] = "int64"  # of the random numbers, which Taichi itself takes from its state
        else:
            raise ValueError(
                f"{name}: the signature's argument {each.name!r} is not a parameter of the kernel, whose parameters "
                f"are {', '.join(arguments) or 'none'}"
            )
    return types


def _returned(kernel: Any) -> Any:
    """The annotation of the one value that a kernel returns; None when it returns none."""
    returned = getattr(kernel._primal, "return_type", None)
    if not returned:
        return None
    if len(returned) > 1:
        raise ValueError(f"{kernel.__name__}: returns {len(returned)} values: only one can be exported; use arrays")
    return returned[0]


def derive_signature(kernel: Any) -> str:
    """The signature of a kernel that has no arrays: its numbers, vectors and matrices; `result` for what it returns.

    Raises:
        ValueError: when it has an array, whose shape only the author knows.
    """
    name = kernel.__name__
    inputs = []
    for each in kernel._primal.arguments:
        if is_template(each):
            continue
        if is_array(each):
            raise ValueError(
                f"{name}: parameter {each.name!r} is an array: give the kernel a signature that says its shape"
            )
        inputs.append(each.name + _brackets(_describe(name, f"parameter {each.name!r}", each.annotation, "float32")[1]))
    returned = _returned(kernel)
    if returned is None:
        return f"{', '.join(inputs)} ->".strip()
    result = "result" + _brackets(_describe(name, "the returned value", returned, "float32")[1])
    return f"{', '.join(inputs)} -> {result}".strip()


def _brackets(element: tuple[int, ...]) -> str:
    return f"[{', '.join(str(size) for size in element)}]" if element else ""


def parameters_of(
    signature: Signature,
    kernel: Any,
    implementation: Implementation,
    wrt: tuple[str, ...],
    differentiate: bool,
    dtypes: Mapping[str, str],
) -> list[Parameter]:
    """What each parameter of a Taichi kernel is, by its name; last what it returns.

    Args:
        wrt: the inputs that the kernel is for the gradient of; () for a forward kernel.
        differentiate: Taichi is to make the adjoint, for which arrays have gradients.
        dtypes: the element type of every argument of the signature.
    """
    inputs = {argument.name: argument for argument in signature.inputs}
    outputs = {argument.name: argument for argument in signature.outputs}
    updated = signature.updated
    name = kernel.__name__
    parameters = []
    for each in kernel._primal.arguments:
        if is_template(each):
            if each.name not in implementation.constants:
                raise ValueError(f"{name}: parameter {each.name!r} is a template: give its value in constants={{...}}")
            continue
        _describe(name, f"parameter {each.name!r}", each.annotation, "float32")  # says what cannot be exported at all
        plain = each.name.removeprefix("grad_")
        if each.name in updated:
            role, of, gradient = "updated", each.name, differentiate
        elif each.name in inputs:
            role, of, gradient = "input", each.name, differentiate and each.name in wrt
        elif each.name in outputs:
            role, of, gradient = "output", each.name, differentiate
        elif plain != each.name and plain in outputs:
            role, of, gradient = "cotangent", plain, False
        elif plain != each.name and plain in wrt:
            role, of, gradient = "gradient", plain, False
        elif each.name in implementation.scratch:
            role, of, gradient = "scratch", each.name, differentiate
            if differentiate and is_array(each) and each.annotation.needs_grad is False:
                raise ValueError(
                    f"{name}: scratch {each.name!r} is annotated needs_grad=False, and so loses the gradient of what "
                    "goes through it: leave needs_grad out of its annotation"
                )
        else:
            raise ValueError(
                f"{name}: parameter {each.name!r} is none of the signature's arguments "
                f"{', '.join((*inputs, *outputs))}, nor a grad_ of one that this kernel differentiates, nor declared "
                "as scratch"
            )
        what = f"parameter {each.name!r}"
        known = dtypes.get(of, "float32")
        dtype, element = _describe(name, what, each.annotation, known)
        if role == "scratch":
            shape = implementation.scratch[each.name]
            dims = list(shape)
        else:
            shape, dims = (), list(signature.argument(of).dims)
            if dtype != known:
                raise ValueError(f"{name}: {what}: expected {known}, as {of!r} has, got {dtype}")
        if not is_array(each):
            _check_axes(name, what, dims, element)
            parameters.append(Parameter(of, role, dtype, 0, element, by_value=True))
            continue
        rank = len(dims) - len(element)
        declared = each.annotation.ndim
        if rank < 0 or (declared is not None and declared != rank):
            total = len(element) + (declared if declared is not None else 0)
            raise ValueError(
                f"{name}: {what}: has {total} axes with those of its elements, but {len(dims)} in the signature"
            )
        _check_axes(name, what, dims[rank:], element)
        gradient = (gradient and dtype in REAL_DTYPES) or bool(each.annotation.needs_grad)
        parameters.append(Parameter(of, role, dtype, rank, element, gradient=gradient, shape=shape[:rank]))
    results = [each for each in outputs.values() if each.name not in {parameter.name for parameter in parameters}]
    if kernel is implementation.forward and not differentiate and results:
        if len(results) > 1:
            raise ValueError(
                f"{name}: outputs {', '.join(each.name for each in results)} are no parameters of the kernel"
            )
        dtype, element = _describe(name, "the returned value", _returned(kernel), "float32")
        _check_axes(name, "the returned value", list(results[0].dims), element)
        parameters.append(Parameter(results[0].name, "result", dtype, 0, element))
    return parameters


def _check_axes(kernel: str, what: str, dims: list[str], element: tuple[int, ...]) -> None:
    """Raise where the last axes of the signature are not the numbers that the element's shape has."""
    wanted = [str(size) for size in element]
    if dims != wanted:
        expected = f"axes {', '.join(wanted)} of its elements" if wanted else "no axes: it is a scalar"
        raise ValueError(f"{kernel}: {what}: expected {expected} in the signature, got {', '.join(dims) or 'none'}")


def example_arguments(kernel: Any, parameters: list[Parameter], constants: Mapping[str, Any]) -> list[Any]:
    """Arguments that Taichi compiles a kernel for, with the types of `parameters`."""
    import taichi as ti

    remaining = iter(parameters)
    arguments: list[Any] = []
    for each in kernel._primal.arguments:
        if is_template(each):
            arguments.append(constants[each.name])
            continue
        parameter = next(remaining)
        whole = taichi_type(parameter.dtype, parameter.element)
        if not parameter.by_value:
            # Shapes are no part of the code, but for a kernel that asserts on them: 2 is right wherever 1 would be.
            arguments.append(ti.ndarray(whole, (2,) * parameter.rank, needs_grad=parameter.gradient))
        elif parameter.element:
            arguments.append(whole(0))
        else:
            arguments.append(0.0 if parameter.dtype in REAL_DTYPES else 0)
    return arguments
