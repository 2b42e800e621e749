"""A factor of activations and cotangents, with two orders of contraction: gradients may be formed, but need not be.

    by gradients   form J for each example, in pieces that fit a CPU's caches, then multiply: <J, J'>
    by pairs       sum over pairs of positions, since J is a sum over positions: J is never formed

The cheaper order, by the number of operations, is used. A subclass says how to form its gradients, and what both orders
cost.

>>> import jax.numpy as jnp
>>> from ntkbias.kernels.factors import Product
>>> at_three_positions = Product(1.0, jnp.ones((8, 1, 3, 50)), jnp.ones((8, 1, 1, 3, 50)))
>>> at_three_positions.describe(8, "sum")
'pairs of positions'
"""

import abc
import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from ntkbias.kernels.factors.factor import Factor
from ntkbias.kernels.factors.full_jacobian import FullJacobian
from ntkbias.kernels.factors.pieces import UNCACHED, Parts, divisor, split, summed
from ntkbias.types import Outputs

__all__ = ["Formable"]

CACHED = 2**21  # bytes of gradients that are formed at once on a CPU


class Formable(Factor):
    """Activations `(n, ..., i)` and cotangents `(n, o, ..., j)`, from which gradients can be formed."""

    activation: eqx.AbstractVar[Array]
    cotangent: eqx.AbstractVar[Array]

    @property
    def num_outputs(self) -> int:
        return self.cotangent.shape[1]

    @abc.abstractmethod
    def block_by_pairs(self, other: Any, outputs: Outputs) -> Array:
        """The Gram matrix without `scale`, computed by pairs of positions."""

    @abc.abstractmethod
    def formed(self) -> FullJacobian:
        """The gradients themselves."""

    @abc.abstractmethod
    def gradient_bytes(self) -> int:
        """Bytes of the gradients of one example."""

    @abc.abstractmethod
    def operations_by_pairs(self, num_others: int, outputs: Outputs) -> float:
        """The number of multiplications to contract these examples with `num_others` by pairs of positions."""

    @abc.abstractmethod
    def operations_by_gradients(self, num_others: int, outputs: Outputs) -> float:
        """The number of multiplications to form the gradients of both sides, and to contract them."""

    def pairs_are_cheaper(self, num_others: int, outputs: Outputs) -> bool:
        """Whether contraction by pairs of positions takes no more operations than by gradients."""
        return self.operations_by_pairs(num_others, outputs) <= self.operations_by_gradients(num_others, outputs)

    def operations(self, num_others: int, outputs: Outputs) -> float:
        counts = self.operations_by_pairs(num_others, outputs), self.operations_by_gradients(num_others, outputs)
        return min(counts)

    def describe(self, num_others: int, outputs: Outputs) -> str:
        return "pairs of positions" if self.pairs_are_cheaper(num_others, outputs) else "gradients formed"

    def kept(self) -> Factor:
        """The smaller of this factor and its gradients.

        If the gradients are smaller, they are also cheaper to contract: with t positions, their size o i j is then at
        most t (i + o j), and by pairs of positions a pair of examples costs t times that.
        """
        return self.formed() if self.gradient_bytes() <= self.row_bytes() else self

    def blocks(self, other: Any, parts: Parts, outputs: Outputs) -> list[Array]:
        right = self if other is None else other
        if not self.pairs_are_cheaper(right.num_examples, outputs):
            return self._blocks_by_gradients(other, parts, outputs)
        return [self.scale**2 * self[rows].block_by_pairs(right[columns], outputs) for rows, columns in parts]

    @property
    def splits_cotangents(self) -> bool:
        """Whether to split gradients by columns of the cotangents, if possible, rather than of the activations.

        Split the side that the product has to rearrange: the other side would be rearranged again for every piece.
        """
        return True

    def _blocks_by_gradients(self, other: Any, parts: Parts, outputs: Outputs) -> list[Array]:
        """The blocks by gradients, formed in pieces (some outputs, some of the weights) that fit a CPU's caches."""
        sides = [self] if other is None else [self, other]
        num_bytes = sum(side.num_examples * side.gradient_bytes() for side in sides)
        wanted = -(-num_bytes // (CACHED if jax.default_backend() == "cpu" else UNCACHED))
        per_output = 1 if outputs == "all" else divisor(self.cotangent.shape[1], wanted)
        wanted = -(-wanted // per_output)
        i, j = self.activation.shape[-1], self.cotangent.shape[-1]
        by_cotangents = j >= min(i, wanted) if self.splits_cotangents else i < min(j, wanted)

        def of_piece(cotangents: list[Array], activations: list[Array]) -> list[Array]:
            formed = [
                dataclasses.replace(side, activation=activation, cotangent=cotangent).formed()
                for side, activation, cotangent in zip(sides, activations, cotangents, strict=True)
            ]
            return formed[0].blocks(None if other is None else formed[1], parts, outputs)

        activations = [side.activation for side in sides]

        def of_outputs(cotangents: list[Array]) -> list[Array]:
            if by_cotangents:
                pieces = [split(cotangent, -1, wanted) for cotangent in cotangents]
                return summed(lambda piece: of_piece(piece, activations), pieces)
            pieces = [split(activation, -1, wanted) for activation in activations]
            return summed(lambda piece: of_piece(cotangents, piece), pieces)

        cotangents = [split(side.cotangent, 1, per_output) for side in sides]
        if outputs != "each":
            return summed(of_outputs, cotangents)
        return [jnp.concatenate(list(block)) for block in lax.map(of_outputs, cotangents)]
