"""The kernel of one parameter from what its gradient is made of, without the gradient where that is dearer.

The gradient of an output with respect to a weight matrix is an outer product of an activation a and a cotangent c,
summed over positions t: J = sum_t a_t c_t^T. Its block of the kernel has two orders of contraction:

    by gradients   <J, J'>                                    form J for each example, then one matrix product
    by pairs       sum over t, s of <a_t, a'_s> <c_t, c'_s>   J is never formed; cheapest where there is one position

`Product` counts the operations of both and takes the cheaper. A convolution's gradient is a product over patches.

>>> import jax.numpy as jnp
>>> from ntkbias.kernels.factors import Product
>>> factor = Product(jnp.ones((3, 1, 1, 5)), jnp.ones((3, 2, 1, 1, 4)), 1.0)  # 3 examples, 2 outputs, a 5 x 4 matrix
>>> factor.contract(factor, "mean").shape, float(factor.contract(factor, "mean")[0, 0])
((3, 3), 20.0)
"""

import abc
import math
from typing import Self

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ntkbias.types import Outputs

__all__ = ["Convolution", "Factor", "Product", "Whole"]


class Factor(eqx.Module):
    """What one parameter's block of the kernel is made of, for a set of examples."""

    @abc.abstractmethod
    def contract(self, other: Self, outputs: Outputs) -> Array:
        """This parameter's part of the Gram matrix, of these examples with those of `other`."""

    @abc.abstractmethod
    def row_bytes(self) -> int:
        """Bytes an example takes: its arrays, and its gradient where contraction forms it."""

    @abc.abstractmethod
    def operations(self, num_others: int, outputs: Outputs) -> int:
        """Multiplications that contracting these examples with `num_others` takes."""

    @abc.abstractmethod
    def describe(self, num_others: int, outputs: Outputs) -> str:
        """The order of contraction, for people to read."""


class Whole(Factor):
    """The gradient itself, `(n, o, p)`: right for any parameter."""

    jacobian: Float[Array, "n o p"]

    def contract(self, other: "Whole", outputs: Outputs) -> Array:
        return inner_products(self.jacobian, other.jacobian, outputs)

    def row_bytes(self) -> int:
        return _row_bytes(self.jacobian)

    def operations(self, num_others: int, outputs: Outputs) -> int:
        n, o, p = self.jacobian.shape
        return n * num_others * _pairs_of(o, outputs) * p

    def describe(self, num_others: int, outputs: Outputs) -> str:
        return "whole Jacobian"


class Product(Factor):
    """An activation `(n, b, t, i)` and a cotangent `(n, o, b, t, j)`: the gradient is scale * sum_t a_t c_t^T."""

    activation: Float[Array, "n b t i"]
    cotangent: Float[Array, "n o b t j"]
    scale: float = eqx.field(static=True)  # of the gradient

    def contract(self, other: "Product", outputs: Outputs) -> Array:
        if self.by_pairs(len(other.activation), outputs):
            return self.scale**2 * self._pairs(other, outputs)
        return self.scale**2 * inner_products(self.gradients(), other.gradients(), outputs)

    def by_pairs(self, num_others: int, outputs: Outputs) -> bool:
        """Whether contracting by pairs of positions takes fewer operations than forming gradients."""
        return self._operations_by_pairs(num_others, outputs) <= self._operations_by_gradients(num_others, outputs)

    def operations(self, num_others: int, outputs: Outputs) -> int:
        counts = (self._operations_by_pairs(num_others, outputs), self._operations_by_gradients(num_others, outputs))
        return min(counts)

    def _operations_by_pairs(self, num_others: int, outputs: Outputs) -> int:
        n, o, b, t, j = self.cotangent.shape
        pairs = _pairs_of(o, outputs)
        return n * num_others * b * t * t * (self.activation.shape[-1] + pairs * j + pairs)

    def _operations_by_gradients(self, num_others: int, outputs: Outputs) -> int:
        n, o, b, t, j = self.cotangent.shape
        i = self.activation.shape[-1]
        return (n + num_others) * o * b * t * i * j + n * num_others * _pairs_of(o, outputs) * b * i * j

    def gradients(self) -> Float[Array, "n o p"]:
        """The gradients of these examples, one flat row an output."""
        n, o = self.cotangent.shape[:2]
        return jnp.einsum("nbti,nobtj->nobij", self.activation, self.cotangent).reshape(n, o, -1)

    def row_bytes(self) -> int:
        _, o, b, t, j = self.cotangent.shape
        i = self.activation.shape[-1]
        own = _row_bytes(self.activation) + _row_bytes(self.cotangent)
        return own if t == 1 else own + o * b * i * j * self.cotangent.dtype.itemsize

    def describe(self, num_others: int, outputs: Outputs) -> str:
        if not self.by_pairs(num_others, outputs):
            return "gradients formed"
        return "outer product" if self.activation.shape[2] == 1 else "pairs of positions"

    def _pairs(self, other: "Product", outputs: Outputs) -> Array:
        if self.activation.shape[2] == 1:
            inner = jnp.einsum("nbti,mbti->bnm", self.activation, other.activation)
            if outputs == "each":
                outer = jnp.einsum("nobtj,mobtj->bonm", self.cotangent, other.cotangent)
                return jnp.einsum("bnm,bonm->onm", inner, outer)
            if outputs == "all":
                outer = jnp.einsum("nabtj,mcbtj->bnamc", self.cotangent, other.cotangent)
                return jnp.einsum("bnm,bnamc->namc", inner, outer)
            outer = jnp.einsum("nobtj,mobtj->bnm", self.cotangent, other.cotangent)
            total = jnp.einsum("bnm,bnm->nm", inner, outer)
            return total / self.cotangent.shape[1] if outputs == "mean" else total
        rule = {"each": "obtj,mobsj->omtbs", "all": "abtj,mcbsj->amctbs"}.get(outputs, "obtj,mobsj->mtbs")
        total_rule = {"each": "mtbs,omtbs->om", "all": "mtbs,amctbs->amc"}.get(outputs, "mtbs,mtbs->m")

        def row(example: tuple[Array, Array]) -> Array:  # one example with all others: bounds the memory
            inner = jnp.einsum("bti,mbsi->mtbs", example[0], other.activation)
            return jnp.einsum(total_rule, inner, jnp.einsum(rule, example[1], other.cotangent))

        rows = lax.map(row, (self.activation, self.cotangent))
        if outputs == "each":
            return jnp.moveaxis(rows, 0, 1)
        return rows / self.cotangent.shape[1] if outputs == "mean" else rows


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
    scale: float = eqx.field(static=True)

    def contract(self, other: "Convolution", outputs: Outputs) -> Array:
        gradients = self.gradients()
        return self.scale**2 * inner_products(gradients, gradients if other is self else other.gradients(), outputs)

    def gradients(self) -> Float[Array, "n o p"]:
        """The gradients of these examples: a product of each one's patches with its cotangents, example by example."""
        num_examples, num_outputs = self.cotangent.shape[:2]

        def one(example: tuple[Array, Array]) -> Array:
            patches = self._patches(example[0])
            cotangent = jnp.moveaxis(example[1], 0, -2).reshape(len(patches), -1)
            gradient = patches.T @ cotangent
            return jnp.moveaxis(gradient.reshape(len(gradient), num_outputs, -1), 1, 0)

        return lax.map(one, (self.inputs, self.cotangent)).reshape(num_examples, num_outputs, -1)

    def row_bytes(self) -> int:
        o, i, j = self.cotangent.shape[1], self.inputs.shape[-1], self.cotangent.shape[-1]
        gradient = o * math.prod(self.window) * i * j * self.cotangent.dtype.itemsize
        return _row_bytes(self.inputs) + _row_bytes(self.cotangent) + gradient

    def operations(self, num_others: int, outputs: Outputs) -> int:
        n, o = self.cotangent.shape[:2]
        size = math.prod(self.window) * self.inputs.shape[-1] * self.cotangent.shape[-1]
        forming = (n + num_others) * o * size * math.prod(self.cotangent.shape[2:-1])
        return forming + n * num_others * _pairs_of(o, outputs) * size

    def describe(self, num_others: int, outputs: Outputs) -> str:
        return "gradients formed"

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


def inner_products(a: Float[Array, "n o p"], b: Float[Array, "m o p"], outputs: Outputs) -> Array:
    """Inner products over the last axis, laid out as `outputs` says."""
    if outputs == "each":
        return jnp.einsum("nop,mop->onm", a, b)
    if outputs == "all":
        return jnp.einsum("nap,mbp->namb", a, b)
    total = a.reshape(len(a), -1) @ b.reshape(len(b), -1).T
    return total / a.shape[1] if outputs == "mean" else total


def _pairs_of(num_outputs: int, outputs: Outputs) -> int:
    return num_outputs**2 if outputs == "all" else num_outputs


def _offsets(window: tuple[int, ...]) -> list[tuple[int, ...]]:
    offsets: list[tuple[int, ...]] = [()]
    for size in window:
        offsets = [(*offset, step) for offset in offsets for step in range(size)]
    return offsets


def _row_bytes(array: Array | jax.ShapeDtypeStruct) -> int:
    return math.prod(array.shape[1:]) * array.dtype.itemsize
