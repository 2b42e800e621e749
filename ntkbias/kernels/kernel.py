"""Kernel: the value that every way to a kernel returns.

A kernel is a function of two sets of inputs; calling it gives their Gram matrix as a plain array. It is immutable and a
pytree whose leaves are its parameters, so it passes through `jit`, `vmap` and `grad` as an argument or from outside;
kernels add and scale. How it is evaluated is in `form.py`.

>>> import jax, jax.numpy as jnp, ntkbias as nb
>>> limit = nb.infinite_ntk(nb.nets.mlp(depth=1)) + 0.5 * nb.infinite_nngp(nb.nets.mlp(depth=1))
>>> limit(jnp.eye(3)).shape, limit(jnp.eye(3), jnp.ones((2, 3))).shape
((3, 3), (3, 2))
>>> jax.grad(lambda x: limit(x)[0, 1])(jnp.eye(3)).shape
(3, 3)
"""

from typing import Any

from jaxtyping import Array

from ntkbias.errors import InputTypeError
from ntkbias.kernels.form import FormCentered, FormScaled, FormSum, SymmetricForm
from ntkbias.kernels.operators import Source
from ntkbias.layers import Layer

__all__ = ["Centered", "Kernel", "Scaled", "Sum", "refuse_forms", "require_kernel"]


class Kernel(SymmetricForm):
    """A symmetric positive semi-definite function of two inputs: no Gram matrix of it has a negative eigenvalue.

    `kernel(x1, x2)` gives `(n, m)` for `outputs` "mean" and "sum", `(o, n, m)` for "each" and `(n, o, m, o)` for "all".
    Sums and multiples of kernels are kernels, also with a negative factor: a difference may be positive, as NTK - NNGP
    is, and what needs a positive one looks at its eigenvalues. A subclass says how to compute one block from the
    features of its two sides, and how many examples a side may have.
    """

    def centered(self, reference: Any) -> "Centered":
        """See `SymmetricForm.centered`."""
        form = super().centered(reference)
        return Centered(form.outputs, form.kernel, form.reference, form.mean)  # type: ignore[arg-type]  # as self is

    def __add__(self, other: Any) -> Any:
        form = super().__add__(other)
        return Sum(form.outputs, form.left, form.right) if isinstance(other, Kernel) else form

    def __mul__(self, factor: float | Array) -> "Kernel":
        form = super().__mul__(factor)
        return form if form is NotImplemented else Scaled(form.outputs, form.kernel, form.factor)

    __rmul__ = __mul__


class Sum(FormSum, Kernel):
    """The sum of two kernels of the same kind of outputs; write `kernel1 + kernel2`."""

    left: Kernel
    right: Kernel


class Scaled(FormScaled, Kernel):
    """A kernel times a number; write `factor * kernel`."""

    kernel: Kernel


class Centered(FormCentered, Kernel):
    """A kernel whose features have mean zero over the inputs `reference`; write `kernel.centered(reference)`."""

    kernel: Kernel


def require_kernel(value: Any, otherwise: str = "For a matrix use nb.eigen.eigh(K).") -> None:
    """Raise an `InputTypeError` unless this is a `Kernel`; `otherwise` says what to do with anything else."""
    refuse_forms(value)
    if not isinstance(value, Kernel):
        if isinstance(value, Layer):
            otherwise = "For a network use infinite_ntk(net), or empirical_ntk(net.apply, params)."
        raise InputTypeError(
            f"Expected a kernel, e.g. empirical_ntk(f, params); got {type(value).__name__}. {otherwise}"
        )


def refuse_forms(value: Any) -> None:
    """Raise an `InputTypeError`, with the reason, if `value` is a form that is no `Kernel`, or an operator of one."""
    source = getattr(value, "source", None)
    value = source.kernel if isinstance(source, Source) else value
    reason = getattr(value, "no_kernel", None)
    if reason is not None and not isinstance(value, Kernel):
        raise InputTypeError(f"Expected a positive semi-definite kernel; got {type(value).__name__}, {reason}.")
