"""The interface of a factor: it represents the gradients by one parameter, and contracts them with other gradients.

A kernel is a sum over parameters of the inner products of gradients. A factor gives its parameter's part of that sum,
and multiplies vectors by its gradients. It forms the gradients only if that is cheaper.

>>> import jax.numpy as jnp
>>> from ntkbias.kernels.factors import FullJacobian
>>> factor = FullJacobian(2.0, jnp.ones((3, 2, 5)))  # the scale, and the gradients of 3 examples and 2 outputs
>>> (gram,) = factor.blocks(None, [(slice(3), slice(3))], "sum")
>>> gram.shape, float(gram[0, 0])
((3, 3), 40.0)
"""

import abc
import dataclasses
import math
from typing import Any, Self

import equinox as eqx
import jax
from jaxtyping import Array, Float

from ntkbias.kernels.factors.pieces import Parts
from ntkbias.types import Outputs

__all__ = ["Factor"]


class Factor(eqx.Module):
    """The gradients of a set of examples by one parameter, in factored form."""

    scale: float = eqx.field(static=True)  # the gradient is `scale` times the gradient that the arrays represent

    @abc.abstractmethod
    def blocks(self, other: Any, parts: Parts, outputs: Outputs) -> list[Array]:
        """This parameter's part of some blocks of the Gram matrix with the examples of `other`.

        `other` is a factor of the same kind, or None for this factor itself. `parts` are the rows and columns of each
        block. "mean" is computed as "sum".
        """

    @abc.abstractmethod
    def operations(self, num_others: int, outputs: Outputs) -> float:
        """The number of multiplications to contract these examples with `num_others` examples."""

    @abc.abstractmethod
    def describe(self, num_others: int, outputs: Outputs) -> str:
        """The order of contraction, in words."""

    @abc.abstractmethod
    def pull(self, vectors: Float[Array, "n r k"]) -> Float[Array, "q k"]:
        """J^T v for k vectors: from the rows `(n, r, k)` to the coordinates of the gradient `(q, k)`.

        If outputs have separate rows, then r = o and q = p. If the kernel sums over outputs, then r = 1, and each
        output has its own coordinates: q = o p.
        """

    @abc.abstractmethod
    def push(self, tangents: Float[Array, "q k"], rows: int) -> Float[Array, "n r k"]:
        """J u for k vectors: from coordinates to the r = `rows` rows of each example. The transpose of `pull`."""

    @abc.abstractmethod
    def squares(self) -> Float[Array, "n o"]:
        """The squared norm of each gradient: the diagonal of this parameter's part of the kernel."""

    @abc.abstractmethod
    def num_coordinates(self, rows: int) -> int:
        """The number q of coordinates if an example has `rows` rows."""

    @abc.abstractmethod
    def operations_per_vector(self) -> float:
        """The number of multiplications per example to pull or push one vector."""

    @abc.abstractmethod
    def layer_operations(self) -> float:
        """The number of multiplications per example to apply this layer in the forward pass."""

    @property
    def num_examples(self) -> int:
        """The number of examples."""
        return len(jax.tree.leaves(self)[0])

    @property
    @abc.abstractmethod
    def num_outputs(self) -> int:
        """The number of gradients per example. It is less than the number of outputs if those were folded."""

    @property
    def terms(self) -> tuple["Factor", ...]:
        """The factors that this one is the sum of: itself, if the parameter is used in one way."""
        return (self,)

    def kept(self) -> "Factor":
        """The form to keep until the contraction: this factor, or its gradients if they are smaller."""
        return self

    def scaled(self, factor: float) -> Self:
        """The factor that represents `factor` times the gradient."""
        return dataclasses.replace(self, scale=self.scale * factor)

    def row_bytes(self) -> int:
        """Bytes per example."""
        return sum(_row_bytes(array) for array in jax.tree.leaves(self))

    def __getitem__(self, examples: slice) -> Self:
        return jax.tree.map(lambda array: array[examples], self)


def _row_bytes(array: Array | jax.ShapeDtypeStruct) -> int:
    return math.prod(array.shape[1:]) * array.dtype.itemsize
