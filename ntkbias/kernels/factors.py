"""The kernel of one parameter from what its gradient is made of, without the gradient where that is dearer.

The gradient of an output with respect to a weight matrix is an outer product of an activation a and a cotangent c,
summed over positions t: J = sum_t a_t c_t^T. Its block of the kernel has two orders of contraction:

    by gradients   <J, J'>                                    form J for each example, then one matrix product
    by pairs       sum over t, s of <a_t, a'_s> <c_t, c'_s>   J is never formed; cheapest where there is one position

The operations of both are counted, and the cheaper is taken. A convolution's gradient is a product over patches.

>>> import jax.numpy as jnp
>>> from ntkbias.kernels.factors import Product
>>> factor = Product(1.0, jnp.ones((3, 1, 1, 5)), jnp.ones((3, 2, 1, 1, 4)))  # 3 examples, 2 outputs, a 5 x 4 matrix
>>> factor.contract(factor, "sum").shape, float(factor.contract(factor, "sum")[0, 0])
((3, 3), 40.0)
"""

import abc
import dataclasses
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Self

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from ntkbias.types import Outputs

__all__ = ["Convolution", "Factor", "Lookup", "Product", "Whole", "inner_products"]


class Factor(eqx.Module):
    """What one parameter's block of the kernel is made of, for a set of examples."""

    scale: float = eqx.field(static=True)  # the gradient is this times what the arrays say

    @abc.abstractmethod
    def contract(self, other: Self, outputs: Outputs) -> Array:
        """This parameter's part of the Gram matrix, of these examples with those of `other`; "mean" is done as "sum".

        Both sides have to be `ready` for each other.
        """

    @abc.abstractmethod
    def gradient_bytes(self) -> int:
        """Bytes that an example's gradient takes; zero where it is never formed."""

    @abc.abstractmethod
    def formed(self) -> "Whole":
        """The gradients themselves."""

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
        """Multiplications that contracting these examples with `num_others` takes."""
        return min(self.operations_by_pairs(num_others, outputs), self.operations_by_gradients(num_others, outputs))

    def ready(self, num_others: int, outputs: Outputs) -> "Factor":
        """This factor in the form in which it is cheapest to contract with `num_others` examples."""
        return self if self.by_pairs(num_others, outputs) else self.formed()

    def kept(self) -> "Factor":
        """The smaller of this factor and its gradients.

        Gradients that are the smaller are the cheaper to contract, too: with t positions their size o i j is then at
        most t (i + o j), a t-th of what a pair of examples costs by pairs of positions.
        """
        return self.formed() if self.gradient_bytes() <= self.row_bytes() else self

    def scaled(self, factor: float) -> Self:
        """The factor of `factor` times the gradient."""
        return dataclasses.replace(self, scale=self.scale * factor)

    def row_bytes(self) -> int:
        """Bytes that an example takes."""
        return sum(_row_bytes(array) for array in jax.tree.leaves(self))

    def __getitem__(self, examples: slice) -> Self:
        return jax.tree.map(lambda array: array[examples], self)

    def joined(self, others: Sequence["Factor"]) -> Self:
        """The factor of these examples and then those of `others`."""
        return jax.tree.map(lambda *arrays: jnp.concatenate(arrays), self, *others)

    def describe(self, num_others: int, outputs: Outputs) -> str:
        """The order of contraction, for people to read."""
        return "pairs of positions" if self.by_pairs(num_others, outputs) else "gradients formed"


class Whole(Factor):
    """The gradient itself, `(n, o, p)`: right for any parameter."""

    jacobian: Float[Array, "n o p"]

    def contract(self, other: "Whole", outputs: Outputs) -> Array:
        return self.scale * other.scale * inner_products(self.jacobian, other.jacobian, outputs)

    def gradient_bytes(self) -> int:
        return self.row_bytes()

    def formed(self) -> "Whole":
        return self

    def kept(self) -> "Whole":
        return self

    def operations_by_pairs(self, num_others: int, outputs: Outputs) -> float:
        return math.inf

    def operations_by_gradients(self, num_others: int, outputs: Outputs) -> float:
        n, o, p = self.jacobian.shape
        return n * num_others * _pairs_of(o, outputs) * p

    def describe(self, num_others: int, outputs: Outputs) -> str:
        return "whole Jacobian"


class Product(Factor):
    """An activation `(n, b, t, i)` and a cotangent `(n, o, b, t, j)`: the gradient is sum_t a_t c_t^T.

    With one position the cotangent may be `(1, o, b, 1, j)`: the same for all examples, as a linear read-out's is.
    """

    activation: Float[Array, "n b t i"]
    cotangent: Float[Array, "#n o b t j"]

    @property
    def shared(self) -> bool:
        """Whether all examples have one cotangent."""
        return len(self.cotangent) < len(self.activation)

    def __getitem__(self, examples: slice) -> "Product":
        cotangent = self.cotangent if self.shared else self.cotangent[examples]
        return Product(self.scale, self.activation[examples], cotangent)

    def joined(self, others: Sequence["Factor"]) -> "Product":
        joined = super().joined(others)
        return Product(self.scale, joined.activation, self.cotangent) if self.shared else joined

    def contract(self, other: "Product", outputs: Outputs) -> Array:
        if self.activation.shape[2] == 1:
            return self.scale * other.scale * self._outer(other, outputs)
        inner = partial(jnp.einsum, "bti,mbsi->mtbs")
        left, right = (self.activation, self.cotangent), (other.activation, other.cotangent)
        return self.scale * other.scale * _by_positions(inner, left, right, outputs)

    def formed(self) -> Whole:
        n, o = self.cotangent.shape[:2]
        gradients = jnp.einsum("nbti,nobtj->nobij", self.activation, self.cotangent)
        return Whole(self.scale, gradients.reshape(n, o, -1))

    def gradient_bytes(self) -> int:
        _, o, b, t, j = self.cotangent.shape
        return 0 if t == 1 else o * b * self.activation.shape[-1] * j * self.cotangent.dtype.itemsize

    def kept(self) -> Factor:
        return self if self.activation.shape[2] == 1 else super().kept()  # an outer product is never formed

    def operations_by_pairs(self, num_others: int, outputs: Outputs) -> float:
        n, (_, o, b, t, j) = len(self.activation), self.cotangent.shape
        pairs = _pairs_of(o, outputs)
        if self.shared:  # the products of cotangents are numbers
            return n * num_others * b * (self.activation.shape[-1] + pairs)
        return n * num_others * b * t * t * (self.activation.shape[-1] + pairs * j + pairs)

    def operations_by_gradients(self, num_others: int, outputs: Outputs) -> float:
        n, o, b, t, j = self.cotangent.shape
        i = self.activation.shape[-1]
        if t == 1:
            return math.inf
        return (n + num_others) * o * b * t * i * j + n * num_others * _pairs_of(o, outputs) * b * i * j

    def describe(self, num_others: int, outputs: Outputs) -> str:
        return "outer product" if self.activation.shape[2] == 1 else super().describe(num_others, outputs)

    def _outer(self, other: "Product", outputs: Outputs) -> Array:
        """One position: the Gram matrix of activations times that of cotangents, entry by entry."""
        total: Any = 0.0
        for b in range(self.activation.shape[1]):
            inner = self.activation[:, b, 0] @ other.activation[:, b, 0].T
            outer = inner_products(self.cotangent[:, :, b, 0], other.cotangent[:, :, b, 0], outputs)
            if outputs == "all":
                inner = inner[:, None, :, None]
            total += inner * outer
        return total


class Lookup(Factor):
    """Rows of a table, looked up at indices `(n, t)`: activations that are rows of the identity.

    An index outside of 0 to `num_rows` - 1 stands for no row.
    """

    indices: Int[Array, "n t"]
    cotangent: Float[Array, "n o t j"]
    num_rows: int = eqx.field(static=True)

    def contract(self, other: "Lookup", outputs: Outputs) -> Array:
        def inner(one: Array, others: Array) -> Array:
            known = (one >= 0) & (one < self.num_rows)
            equal = (one[:, None] == others[:, None]) & known[:, None]
            return equal[:, :, None].astype(self.cotangent.dtype)

        left, right = ((side.indices, side.cotangent[:, :, None]) for side in (self, other))
        return self.scale * other.scale * _by_positions(inner, left, right, outputs)

    def formed(self) -> Whole:
        n, o, _, j = self.cotangent.shape

        def one(indices: Array, cotangents: Array) -> Array:
            known = jnp.where(indices < 0, self.num_rows, indices)  # a negative index would count from the end
            return jnp.zeros((o, self.num_rows, j), cotangents.dtype).at[:, known].add(cotangents, mode="drop")

        return Whole(self.scale, jax.vmap(one)(self.indices, self.cotangent).reshape(n, o, -1))

    def gradient_bytes(self) -> int:
        _, o, _, j = self.cotangent.shape
        return o * self.num_rows * j * self.cotangent.dtype.itemsize

    def operations_by_pairs(self, num_others: int, outputs: Outputs) -> float:
        n, o, t, j = self.cotangent.shape
        pairs = _pairs_of(o, outputs)
        return n * num_others * t * t * (pairs * j + pairs + 1)

    def operations_by_gradients(self, num_others: int, outputs: Outputs) -> float:
        n, o, t, j = self.cotangent.shape
        return (n + num_others) * o * t * j + n * num_others * _pairs_of(o, outputs) * self.num_rows * j


class Convolution(Factor):
    """The gradient of a window, from padded inputs `(n, b, *positions, i)` and cotangents `(n, o, b, *q, j)`.

    With stride s and dilation d the gradient at offset f is the sum over q of input[f * s + q * d] times
    cotangent[q]: s is what the forward pass calls dilation, and d its stride.
    """

    inputs: Float[Array, "n b *positions i"]
    cotangent: Float[Array, "n o b *q j"]
    window: tuple[int, ...] = eqx.field(static=True)
    strides: tuple[int, ...] = eqx.field(static=True)
    dilation: tuple[int, ...] = eqx.field(static=True)

    def contract(self, other: "Convolution", outputs: Outputs) -> Array:
        return self.formed().contract(other.formed(), outputs)

    def formed(self) -> Whole:
        """A product of each example's patches with its cotangents, example by example."""
        num_examples, num_outputs = self.cotangent.shape[:2]

        def one(example: tuple[Array, Array]) -> Array:
            patches = self._patches(example[0])
            cotangent = jnp.moveaxis(example[1], 0, -2).reshape(len(patches), -1)
            gradient = patches.T @ cotangent
            return jnp.moveaxis(gradient.reshape(len(gradient), num_outputs, -1), 1, 0)

        gradients = lax.map(one, (self.inputs, self.cotangent))
        return Whole(self.scale, gradients.reshape(num_examples, num_outputs, -1))

    def gradient_bytes(self) -> int:
        o, i, j = self.cotangent.shape[1], self.inputs.shape[-1], self.cotangent.shape[-1]
        return o * math.prod(self.window) * i * j * self.cotangent.dtype.itemsize

    def operations_by_pairs(self, num_others: int, outputs: Outputs) -> float:
        return math.inf

    def operations_by_gradients(self, num_others: int, outputs: Outputs) -> float:
        n, o = self.cotangent.shape[:2]
        size = math.prod(self.window) * self.inputs.shape[-1] * self.cotangent.shape[-1]
        forming = (n + num_others) * o * size * math.prod(self.cotangent.shape[2:-1])
        return forming + n * num_others * _pairs_of(o, outputs) * size

    def _patches(self, inputs: Float[Array, "b *positions i"]) -> Float[Array, "bq fi"]:
        """A row for each position that the window is put on: slices at each offset, which need no gathering."""
        positions = self.cotangent.shape[3:-1]
        patches = []
        for offset in _offsets(self.window):
            start = [f * s for f, s in zip(offset, self.strides, strict=True)]
            stop = [a + (q - 1) * d + 1 for a, q, d in zip(start, positions, self.dilation, strict=True)]
            limits = [inputs.shape[0], *stop, inputs.shape[-1]]
            patches.append(lax.slice(inputs, [0, *start, 0], limits, [1, *self.dilation, 1]))
        return jnp.concatenate(patches, -1).reshape(-1, len(patches) * inputs.shape[-1])


def _by_positions(
    inner: Callable[[Array, Array], Array], side1: tuple[Array, Array], side2: tuple[Array, Array], outputs: Outputs
) -> Array:
    """The sum over pairs of positions of products of activations, by `inner`, times products of cotangents."""
    rule = {"each": "obtj,mobsj->omtbs", "all": "abtj,mcbsj->amctbs"}.get(outputs, "obtj,mobsj->mtbs")
    total_rule = {"each": "mtbs,omtbs->om", "all": "mtbs,amctbs->amc"}.get(outputs, "mtbs,mtbs->m")

    def row(example: tuple[Array, Array]) -> Array:  # one example with all others: bounds the memory
        outer = jnp.einsum(rule, example[1], side2[1])
        return jnp.einsum(total_rule, inner(example[0], side2[0]), outer)

    rows = lax.map(row, side1)
    return jnp.moveaxis(rows, 0, 1) if outputs == "each" else rows


def inner_products(a: Float[Array, "n o p"], b: Float[Array, "m o p"], outputs: Outputs) -> Array:
    """Inner products over the last axis, laid out as `outputs` says; "mean" is done as "sum"."""
    if outputs == "each":
        return jnp.einsum("nop,mop->onm", a, b)
    if outputs == "all":
        return jnp.einsum("nap,mbp->namb", a, b)
    return a.reshape(len(a), -1) @ b.reshape(len(b), -1).T


def _pairs_of(num_outputs: int, outputs: Outputs) -> int:
    return num_outputs**2 if outputs == "all" else num_outputs


def _offsets(window: tuple[int, ...]) -> list[tuple[int, ...]]:
    offsets: list[tuple[int, ...]] = [()]
    for size in window:
        offsets = [(*offset, step) for offset in offsets for step in range(size)]
    return offsets


def _row_bytes(array: Array | jax.ShapeDtypeStruct) -> int:
    return math.prod(array.shape[1:]) * array.dtype.itemsize
