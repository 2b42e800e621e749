"""The kernel of one parameter from what its gradient is made of, without the gradient where that is dearer.

A factor holds that for a set of examples, and knows two orders of contraction (`layer_factors.py` has one a layer):

    by gradients   <J, J'>, formed for each example, in pieces that a CPU's caches hold, then one matrix product
    by pairs       over pairs of positions, of which J is a sum: J is never formed

The operations of both are counted, and the cheaper is taken.

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
from collections.abc import Callable, Sequence
from typing import Any, Self

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ntkbias.types import Outputs

CACHED, UNCACHED = 2**21, 2**28  # bytes of gradients that are formed at once, on a CPU and on an accelerator
WIDEST = 2**21  # bytes of one side of a matrix product along what it sums over, on a CPU
LEAST_WIDTH = 512  # numbers that a product sums over at least: fewer are slower
Parts = Sequence[tuple[slice, slice]]

__all__ = [
    "UNCACHED",
    "Factor",
    "Formable",
    "Parts",
    "Whole",
    "blocks_of_products",
    "divisor",
    "inner_products",
    "pairs_of",
    "split",
    "summed",
]


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


class Whole(Factor):
    """The gradient itself, `(n, o, p)`: right for any parameter."""

    jacobian: Float[Array, "n o p"]

    @property
    def num_outputs(self) -> int:
        return self.jacobian.shape[1]

    def blocks(self, other: Any, parts: Parts, outputs: Outputs) -> list[Array]:
        left, right = self.jacobian, (self if other is None else other).jacobian
        return [self.scale**2 * block for block in blocks_of_products(left, right, parts, outputs)]

    def operations(self, num_others: int, outputs: Outputs) -> float:
        n, o, p = self.jacobian.shape
        return n * num_others * pairs_of(o, outputs) * p

    def describe(self, num_others: int, outputs: Outputs) -> str:
        return "whole Jacobian"

    def pull(self, vectors: Array) -> Array:
        n, rows, k = vectors.shape
        return self.scale * (self.jacobian.reshape(n * rows, -1).T @ vectors.reshape(n * rows, k))

    def push(self, tangents: Array, rows: int) -> Array:
        n = len(self.jacobian)
        return self.scale * (self.jacobian.reshape(n * rows, -1) @ tangents).reshape(n, rows, -1)

    def squares(self) -> Array:
        return self.scale**2 * jnp.sum(self.jacobian**2, -1)

    def num_coordinates(self, rows: int) -> int:
        return self.jacobian.shape[1] // rows * self.jacobian.shape[2]

    def operations_a_vector(self) -> float:
        return self.jacobian.shape[1] * self.jacobian.shape[2]

    def operations_of_layer(self) -> float:
        return self.jacobian.shape[2]


class Formable(Factor):
    """Activations `(n, ..., i)` and cotangents `(n, o, ..., j)` of which gradients can be formed, or need not."""

    activation: eqx.AbstractVar[Array]
    cotangent: eqx.AbstractVar[Array]

    @property
    def num_outputs(self) -> int:
        return self.cotangent.shape[1]

    @abc.abstractmethod
    def block_by_pairs(self, other: Any, outputs: Outputs) -> Array:
        """The Gram matrix without forming gradients, but for the scale."""

    @abc.abstractmethod
    def formed(self) -> Whole:
        """The gradients themselves."""

    @abc.abstractmethod
    def gradient_bytes(self) -> int:
        """Bytes that an example's gradients take."""

    @abc.abstractmethod
    def operations_by_pairs(self, num_others: int, outputs: Outputs) -> float:
        """Multiplications of contracting these examples with `num_others` without forming gradients."""

    @abc.abstractmethod
    def operations_by_gradients(self, num_others: int, outputs: Outputs) -> float:
        """The same for both sides' gradients, and their product."""

    def by_pairs(self, num_others: int, outputs: Outputs) -> bool:
        """Whether contracting by pairs of positions takes fewer operations than forming gradients."""
        return self.operations_by_pairs(num_others, outputs) <= self.operations_by_gradients(num_others, outputs)

    def operations(self, num_others: int, outputs: Outputs) -> float:
        counts = self.operations_by_pairs(num_others, outputs), self.operations_by_gradients(num_others, outputs)
        return min(counts)

    def describe(self, num_others: int, outputs: Outputs) -> str:
        return "pairs of positions" if self.by_pairs(num_others, outputs) else "gradients formed"

    def kept(self) -> Factor:
        """The smaller of this factor and its gradients.

        Gradients that are the smaller are the cheaper to contract, too: with t positions their size o i j is then at
        most t (i + o j), a t-th of what a pair of examples costs by pairs of positions.
        """
        return self.formed() if self.gradient_bytes() <= self.row_bytes() else self

    def blocks(self, other: Any, parts: Parts, outputs: Outputs) -> list[Array]:
        right = self if other is None else other
        if not self.by_pairs(right.num_examples, outputs):
            return self._blocks_by_gradients(other, parts, outputs)
        return [self.scale**2 * self[rows].block_by_pairs(right[columns], outputs) for rows, columns in parts]

    @property
    def divides_cotangents(self) -> bool:
        """Whether pieces of the gradients are better of some cotangents' columns than of some activations'.

        What is arranged anew for the product had better be divided: the other side is, too, for each piece.
        """
        return True

    def _blocks_by_gradients(self, other: Any, parts: Parts, outputs: Outputs) -> list[Array]:
        """By gradients, formed in pieces that fit a CPU's caches: of some outputs, and a part of the weights."""
        sides = [self] if other is None else [self, other]
        num_bytes = sum(side.num_examples * side.gradient_bytes() for side in sides)
        wanted = -(-num_bytes // (CACHED if jax.default_backend() == "cpu" else UNCACHED))
        per_output = 1 if outputs == "all" else divisor(self.cotangent.shape[1], wanted)
        wanted = -(-wanted // per_output)
        i, j = self.activation.shape[-1], self.cotangent.shape[-1]
        by_cotangents = j >= min(i, wanted) if self.divides_cotangents else i < min(j, wanted)

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


def split(array: Array, axis: int, most: int) -> Array:
    """An axis in at most so many equal parts, which come first; the last is filled up with zeros."""
    axis %= array.ndim
    width = -(-array.shape[axis] // most)
    count = -(-array.shape[axis] // width)
    missing = count * width - array.shape[axis]
    if missing:
        array = jnp.pad(array, [(0, missing if place == axis else 0) for place in range(array.ndim)])
    shape = (*array.shape[:axis], count, width, *array.shape[axis + 1 :])
    return jnp.moveaxis(array.reshape(shape), axis, 0)


def divisor(number: int, least: int) -> int:
    """The smallest divisor of `number` that is at least `least`; itself, if none is."""
    return next((count for count in range(min(least, number), number) if number % count == 0), number)


def summed(function: Callable[[list[Array]], list[Array]], pieces: list[Array]) -> list[Array]:
    """The sum of a function over the first axis of `pieces`, one after the other."""
    first = function([piece[0] for piece in pieces])
    if len(pieces[0]) == 1:
        return first

    def add(total: list[Array], piece: list[Array]) -> tuple[list[Array], None]:
        return jax.tree.map(jnp.add, total, function(piece)), None

    return lax.scan(add, first, [piece[1:] for piece in pieces])[0]


def inner_products(a: Float[Array, "n o p"], b: Float[Array, "m o p"], outputs: Outputs) -> Array:
    """Inner products over the last axis, laid out as `outputs` says; "mean" is done as "sum"."""
    if outputs == "each":
        return jnp.einsum("nop,mop->onm", a, b)
    # As a product of two matrices, by rows: with more axes XLA on CPUs transposes the second.
    (n, o, _), m = a.shape, len(b)
    rows = (n * o, m * o) if outputs == "all" else (n, m)
    products = lax.dot_general(a.reshape(rows[0], -1), b.reshape(rows[1], -1), (((1,), (1,)), ((), ())))
    return products.reshape(n, o, m, o) if outputs == "all" else products


def blocks_of_products(
    left: Float[Array, "n o p"], right: Float[Array, "m o p"], parts: Parts, outputs: Outputs
) -> list[Array]:
    """The `inner_products` of some rows with some columns, summed over pieces of p that a CPU's caches hold.

    The rows and columns of strips are copied for their products: whole ones would be more memory than a process keeps
    from call to call, and to get it anew takes as long as a good part of the products.
    """

    def of(left: Array, right: Array) -> list[Array]:
        return [inner_products(left[rows], right[columns], outputs) for rows, columns in parts]

    if outputs not in ("each", "all"):
        left, right = (side.reshape(len(side), 1, -1) for side in (left, right))
    (_, o, p), rows = left.shape, max(len(left), len(right))
    count = p // max(LEAST_WIDTH, WIDEST // (rows * o * left.dtype.itemsize))
    if jax.default_backend() != "cpu" or count < 2:
        return of(left, right)
    width = p // count

    def add(total: list[Array], start: Array) -> tuple[list[Array], None]:
        pieces = [lax.dynamic_slice_in_dim(side, start, width, 2) for side in (left, right)]
        return [t + block for t, block in zip(total, of(*pieces), strict=True)], None

    rest = p % width + width
    return lax.scan(add, of(left[..., :rest], right[..., :rest]), jnp.arange(rest, p, width))[0]


def pairs_of(num_outputs: int, outputs: Outputs) -> int:
    """Pairs of outputs whose products the kernel has."""
    return num_outputs**2 if outputs == "all" else num_outputs


def _row_bytes(array: Array | jax.ShapeDtypeStruct) -> int:
    return math.prod(array.shape[1:]) * array.dtype.itemsize
