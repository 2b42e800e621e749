"""What the gradient of a layer's weights is made of: an activation and a cotangent, at one position or at many.

The gradient of an output with respect to a weight matrix is an outer product of an activation a and a cotangent c,
summed over positions t: J = sum_t a_t c_t^T. Its block of the kernel by pairs of positions is

    sum over t, s of <a_t, a'_s> <c_t, c'_s>

cheapest where there is one position. A table's rows are looked up, as if a were rows of the identity; a convolution's
gradient is a product over patches, and always formed.

>>> import jax.numpy as jnp
>>> from ntkbias.kernels.layer_factors import Product
>>> factor = Product(1.0, jnp.ones((3, 1, 1, 5)), jnp.ones((3, 2, 1, 1, 4)))  # 3 examples, 2 outputs, a 5 x 4 matrix
>>> (gram,) = factor.blocks(None, [(slice(3), slice(3))], "sum")
>>> gram.shape, float(gram[0, 0])
((3, 3), 40.0)
"""

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from ntkbias.kernels.factors import (
    UNCACHED,
    Factor,
    Formable,
    Parts,
    Whole,
    blocks_of_products,
    divisor,
    pairs_of,
    split,
    summed,
)
from ntkbias.types import Outputs

PATCHED = 2**22  # bytes of patches that are held at once, on a CPU
MOST_SLICES = 32  # of inputs, that make patches at once
MOST_FORMED = 2**25  # bytes of a convolution's gradients that are multiplied by vectors at once, on a CPU

__all__ = ["Convolution", "Lookup", "Product"]


class Product(Formable):
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

    def blocks(self, other: Any, parts: Parts, outputs: Outputs) -> list[Array]:
        if self.activation.shape[2] > 1:
            return super().blocks(other, parts, outputs)
        return self._outer(self if other is None else other, parts, outputs)

    def block_by_pairs(self, other: Any, outputs: Outputs) -> Array:
        inner = partial(jnp.einsum, "bti,mbsi->mtbs")
        left, right = (self.activation, self.cotangent), (other.activation, other.cotangent)
        return _by_positions(inner, left, right, outputs)

    @property
    def divides_cotangents(self) -> bool:
        _, o, _, _, j = self.cotangent.shape
        return o > 1 or j < self.activation.shape[-1]

    def formed(self) -> Whole:
        n, o = self.cotangent.shape[:2]
        activation, cotangent = self.activation, jnp.moveaxis(self.cotangent, 1, 3)  # (n, b, t, i) and (n, b, t, o, j)
        # CPUs have to transpose the first operand of the product, and its free axes come out first.
        left, right = (cotangent, activation) if self.divides_cotangents else (activation, cotangent)
        gradients = lax.dot_general(left, right, (((2,), (2,)), ((0, 1), (0, 1))))
        if left is activation:  # (n, b, i, 1, j)
            return Whole(self.scale, gradients.reshape(n, 1, -1))
        return Whole(self.scale, jnp.moveaxis(gradients, 2, 1).reshape(n, o, -1))  # from (n, b, o, j, i)

    def gradient_bytes(self) -> int:
        _, o, b, _, j = self.cotangent.shape
        return o * b * self.activation.shape[-1] * j * self.cotangent.dtype.itemsize

    def kept(self) -> Factor:
        return self if self.activation.shape[2] == 1 else super().kept()  # an outer product is never formed

    def operations_by_pairs(self, num_others: int, outputs: Outputs) -> float:
        n, (_, o, b, t, j) = len(self.activation), self.cotangent.shape
        pairs = pairs_of(o, outputs)
        if self.shared:  # the products of cotangents are numbers
            return n * num_others * b * (self.activation.shape[-1] + pairs)
        return n * num_others * b * t * t * (self.activation.shape[-1] + pairs * j + pairs)

    def operations_by_gradients(self, num_others: int, outputs: Outputs) -> float:
        n, o, b, t, j = self.cotangent.shape
        i = self.activation.shape[-1]
        if t == 1:
            return math.inf  # an outer product is never formed
        return (n + num_others) * o * b * t * i * j + n * num_others * pairs_of(o, outputs) * b * i * j

    def describe(self, num_others: int, outputs: Outputs) -> str:
        return "outer product" if self.activation.shape[2] == 1 else super().describe(num_others, outputs)

    def pull(self, vectors: Array) -> Array:
        cotangent, example = (self.cotangent[0], "") if self.shared else (self.cotangent, "n")
        if self._summed_outputs(vectors.shape[1]):
            weighted = jnp.einsum(f"{example}obtj,nk->bntojk", cotangent, vectors[:, 0])
        else:
            weighted = jnp.einsum(f"{example}obtj,nok->bntjk", cotangent, vectors)
        b, n, t = weighted.shape[:3]
        # As plain matrix products, of all examples and positions at once.
        activation = jnp.moveaxis(self.activation, 1, 0).reshape(b, n * t, -1)
        found = jnp.swapaxes(activation, 1, 2) @ weighted.reshape(b, n * t, -1)
        return self.scale * found.reshape(-1, vectors.shape[-1])

    def push(self, tangents: Array, rows: int) -> Array:
        cotangent, example = (self.cotangent[0], "") if self.shared else (self.cotangent, "n")
        n, b, t, i = self.activation.shape
        activation = jnp.moveaxis(self.activation, 1, 0).reshape(b, n * t, i)
        moved = activation @ tangents.reshape(b, i, -1)
        shape = (b, n, t, -1, cotangent.shape[-1], tangents.shape[-1])
        if self._summed_outputs(rows):
            return self.scale * jnp.einsum(f"{example}obtj,bntojk->nk", cotangent, moved.reshape(shape))[:, None]
        return self.scale * jnp.einsum(f"{example}obtj,bntjk->nok", cotangent, moved.reshape(*shape[:3], *shape[4:]))

    def _summed_outputs(self, rows: int) -> bool:
        return rows < self.cotangent.shape[1]

    def squares(self) -> Array:
        if self.activation.shape[2] == 1:
            inner, outer = jnp.sum(self.activation[:, :, 0] ** 2, -1), jnp.sum(self.cotangent[..., 0, :] ** 2, -1)
            return self.scale**2 * jnp.sum(inner[:, None] * outer, -1)
        return self.formed().squares()

    def num_coordinates(self, rows: int) -> int:
        _, o, b, _, j = self.cotangent.shape
        return o // rows * b * self.activation.shape[-1] * j

    def operations_a_vector(self) -> float:
        _, o, b, t, j = self.cotangent.shape
        return b * t * j * (self.activation.shape[-1] + o)

    def operations_of_layer(self) -> float:
        _, _, b, t, j = self.cotangent.shape
        return b * t * self.activation.shape[-1] * j

    def _outer(self, other: "Product", parts: Parts, outputs: Outputs) -> list[Array]:
        """One position: the Gram matrix of activations times that of cotangents, entry by entry."""
        total: list[Any] = [0.0] * len(parts)
        own = [(slice(None), slice(None))] if self.shared else parts
        for b in range(self.activation.shape[1]):
            inner = blocks_of_products(self.activation[:, b], other.activation[:, b], parts, "sum")
            if outputs == "all":
                inner = [block[:, None, :, None] for block in inner]
            left, right = self.cotangent[:, :, b, 0], other.cotangent[:, :, b, 0]
            outer = blocks_of_products(left, right, own, outputs) * (len(parts) if self.shared else 1)
            total = [t + i * o for t, i, o in zip(total, inner, outer, strict=True)]
        return [self.scale**2 * block for block in total]


class Lookup(Formable):
    """Rows of a table, looked up at indices `(n, t, 1)`: activations that are rows of the identity.

    An index outside of 0 to `num_rows` - 1 stands for no row.
    """

    activation: Int[Array, "n t 1"]
    cotangent: Float[Array, "n o t j"]
    num_rows: int = eqx.field(static=True)

    def block_by_pairs(self, other: Any, outputs: Outputs) -> Array:
        def inner(one: Array, others: Array) -> Array:
            known = (one >= 0) & (one < self.num_rows)
            equal = (one == others[:, None, :, 0]) & known
            return equal[:, :, None].astype(self.cotangent.dtype)

        left, right = ((side.activation, side.cotangent[:, :, None]) for side in (self, other))
        return _by_positions(inner, left, right, outputs)

    def formed(self) -> Whole:
        n, o, _, j = self.cotangent.shape

        def one(known: Array, cotangents: Array) -> Array:
            return jnp.zeros((o, self.num_rows, j), cotangents.dtype).at[:, known].add(cotangents, mode="drop")

        return Whole(self.scale, jax.vmap(one)(self._known(), self.cotangent).reshape(n, o, -1))

    def gradient_bytes(self) -> int:
        _, o, _, j = self.cotangent.shape
        return o * self.num_rows * j * self.cotangent.dtype.itemsize

    def operations_by_pairs(self, num_others: int, outputs: Outputs) -> float:
        n, o, t, j = self.cotangent.shape
        pairs = pairs_of(o, outputs)
        return n * num_others * t * t * (pairs * j + pairs + 1)

    def operations_by_gradients(self, num_others: int, outputs: Outputs) -> float:
        n, o, t, j = self.cotangent.shape
        return (n + num_others) * o * t * j + n * num_others * pairs_of(o, outputs) * self.num_rows * j

    def pull(self, vectors: Array) -> Array:
        apart = vectors.shape[1] == self.cotangent.shape[1]
        rule = "notj,nok->ntjk" if apart else "notj,nrk->ntojk"
        weighted = jnp.einsum(rule, self.cotangent, vectors)  # rows of the table, each with what follows it
        table = jnp.zeros((self.num_rows, *weighted.shape[2:]), weighted.dtype)
        table = table.at[self._known()].add(weighted, mode="drop")
        return self.scale * table.reshape(-1, weighted.shape[-1])

    def push(self, tangents: Array, rows: int) -> Array:
        _, o, _, j = self.cotangent.shape
        table = tangents.reshape(self.num_rows, o // rows, j, -1)
        found = jnp.take(table, self._known(), axis=0, mode="fill", fill_value=0)  # (n, t, o or 1, j, k)
        if rows == o:
            return self.scale * jnp.einsum("notj,ntjk->nok", self.cotangent, found[:, :, 0])
        return self.scale * jnp.einsum("notj,ntojk->nk", self.cotangent, found)[:, None]

    def _known(self) -> Int[Array, "n t"]:
        """The indices, those before the table put behind it: a negative one would count from the end."""
        indices = self.activation[..., 0]
        return jnp.where(indices < 0, self.num_rows, indices)

    def squares(self) -> Array:
        known = self._known()
        equal = (known[:, :, None] == known[:, None, :]) & (known < self.num_rows)[:, None]
        pairs = jnp.einsum("notj,nosj->nots", self.cotangent, self.cotangent)
        return self.scale**2 * jnp.einsum("nots,nts->no", pairs, equal.astype(pairs.dtype))

    def num_coordinates(self, rows: int) -> int:
        _, o, _, j = self.cotangent.shape
        return o // rows * self.num_rows * j

    def operations_a_vector(self) -> float:
        _, o, t, j = self.cotangent.shape
        return o * t * j

    def operations_of_layer(self) -> float:
        return self.cotangent.shape[2] * self.cotangent.shape[3]


class Convolution(Formable):
    """The gradient of a window, from padded inputs `(n, b, *positions, i)` and cotangents `(n, o, b, *q, j)`.

    With stride s and dilation d the gradient at offset f is the sum over q of input[f * s + q * d] times
    cotangent[q]: s is what the forward pass calls dilation, and d its stride.
    """

    activation: Float[Array, "n b *positions i"]
    cotangent: Float[Array, "n o b *q j"]
    window: tuple[int, ...] = eqx.field(static=True)
    strides: tuple[int, ...] = eqx.field(static=True)
    dilation: tuple[int, ...] = eqx.field(static=True)

    @property
    def divides_cotangents(self) -> bool:
        return False

    def block_by_pairs(self, other: Any, outputs: Outputs) -> Array:
        return self._blocks_by_gradients(other, [(slice(None), slice(None))], outputs)[0]

    def formed(self) -> Whole:
        sides = self.activation, self.cotangent
        if jax.default_backend() == "cpu":
            num_patches = math.prod(self.cotangent.shape[2:-1]) * math.prod(self.window)
            patch_bytes = num_patches * self.activation.shape[-1] * self.cotangent.dtype.itemsize
            gradients = lax.map(lambda side: self._gradient(*side), sides, batch_size=max(1, PATCHED // patch_bytes))
        else:
            gradients = jax.vmap(self._gradient)(*sides)
        return Whole(self.scale, gradients.reshape(*self.cotangent.shape[:2], -1))

    def gradient_bytes(self) -> int:
        o, i, j = self.cotangent.shape[1], self.activation.shape[-1], self.cotangent.shape[-1]
        return o * math.prod(self.window) * i * j * self.cotangent.dtype.itemsize

    def operations_by_pairs(self, num_others: int, outputs: Outputs) -> float:
        return math.inf

    def operations_by_gradients(self, num_others: int, outputs: Outputs) -> float:
        n, o = self.cotangent.shape[:2]
        size = math.prod(self.window) * self.activation.shape[-1] * self.cotangent.shape[-1]
        forming = (n + num_others) * o * size * math.prod(self.cotangent.shape[2:-1])
        return forming + n * num_others * pairs_of(o, outputs) * size

    def pull(self, vectors: Array) -> Array:
        pieces = [split(array, 0, self._piece_count()) for array in (self.activation, self.cotangent, vectors)]

        def of_piece(piece: list[Array]) -> list[Array]:
            return [self._of(*piece[:2]).formed().pull(piece[2])]

        return summed(of_piece, pieces)[0]

    def push(self, tangents: Array, rows: int) -> Array:
        count = self._piece_count()
        if count == 1:
            return self.formed().push(tangents, rows)
        pieces = [split(array, 0, count) for array in (self.activation, self.cotangent)]
        found = lax.map(lambda piece: self._of(*piece).formed().push(tangents, rows), pieces)
        return found.reshape(-1, *found.shape[2:])

    def squares(self) -> Array:
        pieces = [split(array, 0, self._piece_count()) for array in (self.activation, self.cotangent)]
        return lax.map(lambda piece: self._of(*piece).formed().squares(), pieces).reshape(self.cotangent.shape[:2])

    def _of(self, activation: Array, cotangent: Array) -> "Convolution":
        return dataclasses.replace(self, activation=activation, cotangent=cotangent)

    def _piece_count(self) -> int:
        """Into how many pieces of examples to divide those whose gradients are formed and used at once."""
        limit = MOST_FORMED if jax.default_backend() == "cpu" else UNCACHED
        return divisor(self.num_examples, -(-self.num_examples * self.gradient_bytes() // limit))

    def num_coordinates(self, rows: int) -> int:
        size = math.prod(self.window) * self.activation.shape[-1] * self.cotangent.shape[-1]
        return self.cotangent.shape[1] // rows * size

    def operations_a_vector(self) -> float:
        return self.num_coordinates(1)

    def operations_of_layer(self) -> float:
        positions = math.prod(self.cotangent.shape[2:-1])
        return positions * math.prod(self.window) * self.activation.shape[-1] * self.cotangent.shape[-1]

    def _gradient(self, inputs: Float[Array, "b *positions i"], cotangent: Float[Array, "o b *q j"]) -> Array:
        """One example's gradient `(o, *window i, j)`, as one matrix product with the patches of its inputs.

        Those of a large window are put together axis by axis: compilers take long over many pieces. They have the
        positions last, so that what is copied is long.
        """
        o, j = len(cotangent), cotangent.shape[-1]
        cotangents = jnp.moveaxis(cotangent, 0, -2).reshape(-1, o * j)  # (b *q, o j)
        large = math.prod(self.window) > MOST_SLICES
        slices = [jnp.moveaxis(inputs, -1, 0) if large else inputs]
        for axis in range(len(self.window), 0, -1):
            step, stride, length = self.strides[axis - 1], self.dilation[axis - 1], cotangent.shape[axis + 1]
            reach, place = (length - 1) * stride + 1, axis - inputs.ndim + (1 if large else 0)
            starts = [index * step for index in range(self.window[axis - 1])]
            slices = [lax.slice_in_dim(s, at, at + reach, stride, place) for at in starts for s in slices]
            slices = [jnp.stack(slices)] if large else slices
        if large:
            patches = slices[0].reshape(-1, len(cotangents))  # (*window i, b *q)
        else:
            patches = jnp.concatenate([piece.reshape(len(cotangents), -1) for piece in slices], 1)
        # The barrier: XLA on CPUs would make them again where the product reads them, entry by entry.
        patches = lax.optimization_barrier(patches)
        gradient = lax.dot_general(patches, cotangents, (((1 if large else 0,), (0,)), ((), ())))
        return jnp.moveaxis(gradient.reshape(-1, o, j), 1, 0)


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
