"""One order of arguments: a kernel and its inputs come first, or a value that knows its inputs replaces both.

    gradient_flow(kernel, x, targets, times)
    gradient_flow(spectrum, targets, times)        also an operator, or a Gram matrix in memory or on disk

Write the function for the first form. The decorator `@on_inputs` then accepts both forms and passes x=None in the
second one. A caller may give `x=` as a keyword. A call of another form raises an error that shows the right form.

>>> import jax.numpy as jnp, ntkbias as nb
>>> from ntkbias.kernels.on_inputs import on_inputs, operator_on
>>> @on_inputs
... def total(kernel, x, factor):
...     return factor * operator_on(kernel, x).trace()
>>> kernel, x = nb.infinite_nngp(nb.nets.mlp(depth=1)), jnp.eye(3)
>>> [round(value, 3) for value in (total(kernel, x, 2.0), total(kernel, 2.0, x=x), total(kernel.operator(x), 2.0))]
[1.0, 1.0, 1.0]
>>> try:
...     total(kernel, 2.0)
... except nb.InputError as error:
...     print(error)
Expected total(kernel, x, factor); got no factor. The inputs x come second, after a kernel.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, overload, runtime_checkable

import numpy as np

from ntkbias.checks import require_wide
from ntkbias.errors import InputError, InputTypeError
from ntkbias.kernels.kernel import Kernel, refuse_forms
from ntkbias.kernels.operators import KernelOperator, as_operator
from ntkbias.mistaken import is_own
from ntkbias.types import Inputs

__all__ = ["kernel_on", "on_inputs", "on_inputs_keeping_x", "operator_on", "symmetric_matrix"]

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)


@runtime_checkable
class OnInputs(Protocol[P, R_co]):
    """A function of a kernel and its inputs, or of one value that replaces both, and of further arguments."""

    @overload
    def __call__(self, kernel: Kernel, x: Inputs, /, *args: P.args, **kwargs: P.kwargs) -> R_co: ...
    @overload
    def __call__(self, kernel: Any, /, *args: P.args, **kwargs: P.kwargs) -> R_co: ...


def on_inputs(function: Callable[Concatenate[Any, Any, P], R_co], *, keeps_x: bool = False) -> OnInputs[P, R_co]:
    """Let a function `(kernel, x, ...)` also accept one value that knows its inputs in place of `kernel, x`.

    The function then receives x=None. With `keeps_x`, a caller may also give `x=` together with a matrix. The function
    must have positional arguments without defaults and keyword-only arguments with defaults. A superfluous x is then
    one positional argument too many, which the error reports.
    """
    signature = inspect.signature(function)
    first, second = list(signature.parameters)[:2]
    needed = [each for each, parameter in signature.parameters.items() if parameter.default is parameter.empty]
    name = function.__name__

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        kernel = args[0] if args else kwargs.get(first)
        refuse_forms(kernel)
        takes_inputs = _takes_inputs(kernel)
        if not takes_inputs and not keeps_x and kwargs.get(second) is not None:
            raise InputTypeError(
                f"Expected inputs {second}= only with a Kernel; got them with {type(kernel).__name__}. Leave them out, "
                "or give a kernel, e.g. empirical_ntk(f, params)."
            )
        if args and (second in kwargs or not takes_inputs):
            args = (kernel, kwargs.pop(second, None), *args[1:])
        elif not takes_inputs:
            kwargs.setdefault(second, None)
        wrong = _what_is_wrong(signature, needed, args, kwargs)
        if takes_inputs and not wrong and signature.bind(*args, **kwargs).arguments[second] is None:
            wrong = f"{second}=None"
        if takes_inputs and not wrong and is_own(given := signature.bind(*args, **kwargs).arguments[second]):
            what = "a Kernel" if isinstance(given, Kernel) else type(given).__name__
            raise InputTypeError(f"Expected inputs {second} second; got {what}. Write {name}({', '.join(needed)}).")
        if wrong and takes_inputs:
            raise InputTypeError(
                f"Expected {name}({', '.join(needed)}); got {wrong}. The inputs {second} come second, after a kernel."
            )
        if wrong:
            known = [first, *(each for each in needed if each not in (first, second))]
            raise InputTypeError(
                f"Expected {name}({', '.join(needed)}) with a Kernel, e.g. empirical_ntk(f, params), or "
                f"{name}({', '.join(known)}) with an operator or matrix, which knows its inputs; got {wrong}, with "
                f"{type(kernel).__name__} as {first}."
            )
        return function(*args, **kwargs)

    return call  # type: ignore[return-value]


def on_inputs_keeping_x(function: Callable[Concatenate[Any, Any, P], R_co]) -> OnInputs[P, R_co]:
    """Like `on_inputs`, for a function that can also use `x=` together with a matrix."""
    return on_inputs(function, keeps_x=True)


def _takes_inputs(kernel: Any) -> bool:
    """Whether this is a kernel, or a dictionary with a kernel among its values."""
    parts = kernel.values() if isinstance(kernel, Mapping) else [kernel]
    return any(isinstance(part, Kernel) for part in parts)


def _what_is_wrong(signature: inspect.Signature, needed: list[str], args: Any, kwargs: Any) -> str:
    """The mismatch with the signature in words; empty if there is none."""
    try:
        bound = signature.bind_partial(*args, **kwargs)
    except TypeError as error:
        return str(error).removeprefix("got ")
    return " and ".join(f"no {name}" for name in needed if name not in bound.arguments)


def operator_on(kernel: Any, x: Inputs | None) -> KernelOperator:
    """The operator of a kernel on x, or of a value that replaces both: an operator, a matrix, nested lists, a file."""
    refuse_forms(kernel)
    if isinstance(kernel, Kernel):
        return kernel.operator(x)
    return as_operator(require_wide(kernel, "the matrix") if isinstance(kernel, list | tuple) else kernel)


def kernel_on(kernel: Any, x: Inputs | None) -> tuple[Kernel, Inputs]:
    """The kernel and its inputs, given directly or through an operator made of them; an `InputTypeError` otherwise."""
    refuse_forms(kernel)
    if isinstance(kernel, Kernel):
        return kernel, x
    source = getattr(kernel, "source", None)
    if source is None:
        raise InputTypeError(
            f"Expected a kernel with its inputs, or the operator kernel.operator(x); got {type(kernel).__name__}, "
            "which does not come from a kernel. For a matrix use nb.eigen.eigh(K)."
        )
    return source.kernel, source.x  # x is packed if the kernel takes packed inputs


def symmetric_matrix(operator: KernelOperator) -> np.ndarray:
    """A new copy of the matrix in float64; an `InputError` if it is not symmetric."""
    matrix = operator.matrix().astype(np.float64)
    difference, largest = np.max(np.abs(matrix - matrix.T)), np.max(np.abs(matrix))
    if difference > operator.epsilon**0.5 * largest:
        raise InputError(
            f"Expected a symmetric matrix; got entries that differ from their mirror image by up to {difference:.2g}, "
            f"compared with a largest entry of {largest:.2g}. Evaluate the kernel on one set of inputs, kernel(x)."
        )
    return matrix
