"""The contract of a factor: what is kept of one parameter's gradients, and how two of them are contracted.

A kernel is a sum over parameters of the inner products of gradients. A factor gives its parameter's part of that sum,
and multiplies vectors by its gradients, without forming those where that is dearer.

>>> import jax.numpy as jnp
>>> from ntkbias.kernels.factors import Whole
>>> factor = Whole(2.0, jnp.ones((3, 2, 5)))  # the gradients of 3 examples and 2 outputs, of 5 numbers, and a scale
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
    """What one parameter's block of the kernel is made of, for a set of examples."""

    scale: float = eqx.field(static=True)  # the gradient is this times what the arrays say

    @abc.abstractmethod
    def blocks(self, other: Any, parts: Parts, outputs: Outputs) -> list[Array]:
        """This parameter's part of the Gram matrix of some of these examples with some of `other`, or of these.

        `other` is a factor of the same kind, or None; `parts` are the rows and columns of each block. "mean" is done
        as "sum".
        """

    @abc.abstractmethod
    def operations(self, num_others: int, outputs: Outputs) -> float:
        """Multiplications that contracting these examples with `num_others` takes."""

    @abc.abstractmethod
    def describe(self, num_others: int, outputs: Outputs) -> str:
        """The order of contraction, for people to read."""

    @abc.abstractmethod
    def pull(self, vectors: Float[Array, "n r k"]) -> Float[Array, "q k"]:
        """J^T v: what k vectors over rows are over coordinates of the gradient.

        An example has r = o rows where outputs are apart, of q = p coordinates, and r = 1 where the kernel is summed
        over them: then each output has coordinates of its own, q = o p.
        """

    @abc.abstractmethod
    def push(self, tangents: Float[Array, "q k"], rows: int) -> Float[Array, "n r k"]:
        """J u: what k vectors over coordinates are over the `rows` r of each example; the transpose of `pull`."""

    @abc.abstractmethod
    def squares(self) -> Float[Array, "n o"]:
        """The squared norm of each gradient: the diagonal of this parameter's part of the kernel."""

    @abc.abstractmethod
    def num_coordinates(self, rows: int) -> int:
        """The number q of coordinates, where an example has `rows` rows."""

    @abc.abstractmethod
    def operations_a_vector(self) -> float:
        """Multiplications that an example takes in pulling, or pushing, one vector."""

    @abc.abstractmethod
    def operations_of_layer(self) -> float:
        """Multiplications that an example takes where its layer is applied in the forward pass."""

    @property
    def num_examples(self) -> int:
        """How many examples there are."""
        return len(jax.tree.leaves(self)[0])

    @property
    @abc.abstractmethod
    def num_outputs(self) -> int:
        """How many gradients an example has; fewer than the network's outputs where those were folded."""

    def kept(self) -> "Factor":
        """What to keep of this factor until it is contracted: itself, or its gradients where those are smaller."""
        return self

    def scaled(self, factor: float) -> Self:
        """The factor of `factor` times the gradient."""
        return dataclasses.replace(self, scale=self.scale * factor)

    def row_bytes(self) -> int:
        """Bytes that an example takes."""
        return sum(_row_bytes(array) for array in jax.tree.leaves(self))

    def __getitem__(self, examples: slice) -> Self:
        return jax.tree.map(lambda array: array[examples], self)


def _row_bytes(array: Array | jax.ShapeDtypeStruct) -> int:
    return math.prod(array.shape[1:]) * array.dtype.itemsize
