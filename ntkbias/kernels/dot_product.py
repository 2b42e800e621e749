"""Kernels that are a function of the angle between inputs, such as the Laplace kernel on the sphere.

>>> import jax.numpy as jnp
>>> laplace = DotProductKernel(lambda cosine: jnp.exp(-jnp.sqrt(2 - 2 * cosine)))
>>> print(laplace(jnp.eye(2))[0])
[1.0000 0.2431]
"""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array

from ntkbias.checks import widened
from ntkbias.compilation import Function
from ntkbias.errors import InputTypeError
from ntkbias.kernels.kernel import Kernel
from ntkbias.memory import default_memory_budget
from ntkbias.tables import name_of

__all__ = ["DotProductKernel"]

LIVE_ARRAYS = 8  # arrays of a block's size that are alive at once
MARGIN = 4  # eps: rounding error of a cosine of 1


class DotProductKernel(Kernel):
    """K(x, x') = profile(cos t), where t is the angle between the inputs `(n, ...)`, flattened.

    The profile takes and returns a JAX array of any shape, e.g. the Laplace kernel on the unit sphere,
    `DotProductKernel(lambda cosine: jnp.exp(-jnp.sqrt(2 - 2 * cosine)))`. It has to be a positive definite function on
    the sphere, which is not checked. Each new lambda is compiled again; pass one function to reuse its program.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> kernel = nb.kernels.DotProductKernel(lambda cosine: cosine**2)
    >>> kernel(jnp.eye(2)).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """

    profile: Function

    def __init__(self, profile: Callable[[Array], Array]) -> None:
        if not callable(profile):
            raise InputTypeError(f"Expected a function of the cosine; got {type(profile).__name__}.")
        self.outputs = "mean"
        self.profile = Function.of(profile)

    def described(self) -> str:
        return f"dot-product kernel of {name_of(self.profile)}"

    def features(self, x: Array) -> Array:
        flat = widened(x).reshape(len(x), -1)
        return flat / jnp.linalg.norm(flat, axis=1, keepdims=True)

    def contract(self, features1: Array, features2: Array | None) -> Array:
        cosine = features1 @ (features1 if features2 is None else features2).T
        near_end = jnp.abs(cosine) > 1 - MARGIN * jnp.finfo(cosine.dtype).eps
        return self.profile(jnp.where(near_end, jnp.sign(cosine), cosine))

    def block_rows(self, x: Array) -> int:
        return max(1, int((default_memory_budget() // (LIVE_ARRAYS * x.dtype.itemsize)) ** 0.5))
