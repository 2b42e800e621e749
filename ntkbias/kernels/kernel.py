"""Kernel: a positive semi-definite function of two inputs. All functions that make kernels return one.

If you call a kernel with two sets of inputs, it returns their Gram matrix as a plain array. A kernel is an immutable
pytree whose leaves are its parameters, so `jit`, `vmap` and `grad` can take it as an argument or close over it. Kernels
can be added, and multiplied by numbers. `form.py` has the code that evaluates them.

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
    """A symmetric positive semi-definite function of two inputs: its Gram matrices have no negative eigenvalues.

    `kernel(x1, x2)` is `(n, m)` for `outputs` "mean" and "sum", `(o, n, m)` for "each" and `(n, o, m, o)` for "all".
    Sums and multiples of kernels are of this class too, even with a negative factor, because a difference can be
    positive semi-definite, such as NTK - NNGP. Functions that need a positive kernel check its eigenvalues. A subclass
    computes one block from the features of its two sides, and says how many examples a side may have.

    >>> import ntkbias as nb
    >>> circle = nb.domains.Circle()
    >>> x, weights = circle.quadrature(16)
    >>> kernel = nb.infinite_ntk(nb.nets.mlp(depth=1, b_std=0.1))
    >>> kernel(x).shape, kernel(x[:4], x).shape
    ((16, 16), (4, 16))
    >>> (kernel + 2.0 * kernel)(x).shape  # sums and multiples are kernels
    (16, 16)
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
    """The sum of two kernels with the same `outputs`; write `kernel1 + kernel2`.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> kernel = nb.infinite_ntk(nb.nets.mlp(depth=1))
    >>> both = kernel + kernel
    >>> type(both).__name__, bool(jnp.allclose(both(jnp.eye(2)), 2 * kernel(jnp.eye(2))))
    ('Sum', True)
    """

    left: Kernel
    right: Kernel


class Scaled(FormScaled, Kernel):
    """A kernel times a number; write `factor * kernel`.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> kernel = nb.infinite_ntk(nb.nets.mlp(depth=1))
    >>> type(3 * kernel).__name__, bool(jnp.allclose((3 * kernel)(jnp.eye(2)), 3 * kernel(jnp.eye(2))))
    ('Scaled', True)
    """

    kernel: Kernel


class Centered(FormCentered, Kernel):
    """A kernel whose features have mean zero over the inputs `reference`; write `kernel.centered(reference)`.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> x = jnp.eye(2)
    >>> K = nb.infinite_ntk(nb.nets.mlp(depth=1)).centered(x)(x)
    >>> bool(abs(K.sum(0)).max() < 1e-6)
    True
    """

    kernel: Kernel


def require_kernel(value: Any, otherwise: str = "For a matrix use nb.eigen.eigh(K).") -> None:
    """Raise an `InputTypeError` unless `value` is a `Kernel`. `otherwise` ends the message with advice."""
    refuse_forms(value)
    if not isinstance(value, Kernel):
        if isinstance(value, Layer):
            otherwise = "For a network use infinite_ntk(net), or empirical_ntk(net.apply, params)."
        raise InputTypeError(
            f"Expected a kernel, e.g. empirical_ntk(f, params); got {type(value).__name__}. {otherwise}"
        )


def refuse_forms(value: Any) -> None:
    """Raise an `InputTypeError` with the reason if `value` is a form but not a `Kernel`, or an operator of one."""
    source = getattr(value, "source", None)
    value = source.kernel if isinstance(source, Source) else value
    reason = getattr(value, "no_kernel", None)
    if reason is not None and not isinstance(value, Kernel):
        raise InputTypeError(f"Expected a positive semi-definite kernel; got {type(value).__name__}, {reason}.")
