"""The factor of a convolution's window. Its gradient, a product over patches of the inputs, is always formed.

>>> import jax.numpy as jnp
>>> factor = Convolution(1.0, jnp.ones((2, 1, 5, 3)), jnp.ones((2, 1, 1, 3, 4)), (3,), (1,), (1,))
>>> factor.formed().jacobian.shape, float(factor.squares()[0, 0])  # a window of 3, from 3 channels to 4
((2, 1, 36), 324.0)
"""

import dataclasses
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ntkbias.kernels.factors.formable import Formable
from ntkbias.kernels.factors.full_jacobian import FullJacobian
from ntkbias.kernels.factors.pieces import UNCACHED, divisor, split, summed
from ntkbias.kernels.outputs import num_pairs
from ntkbias.types import Outputs

__all__ = ["Convolution"]

PATCHED = 2**22  # bytes of patches that are held at once on a CPU
MOST_SLICES = 32  # slices of inputs that are joined to patches at once
MOST_FORMED = 2**25  # bytes of gradients that are formed and multiplied by vectors at once on a CPU


class Convolution(Formable):
    """The gradient by a window, from padded inputs `(n, b, *positions, i)` and cotangents `(n, o, b, *q, j)`.

    With stride s and dilation d, the gradient at offset f is the sum over q of input[f * s + q * d] times cotangent[q].
    In the forward pass, s is the dilation of the window, and d its stride.
    """

    activation: Float[Array, "n b *positions i"]
    cotangent: Float[Array, "n o b *q j"]
    window: tuple[int, ...] = eqx.field(static=True)
    strides: tuple[int, ...] = eqx.field(static=True)
    dilation: tuple[int, ...] = eqx.field(static=True)

    @property
    def splits_cotangents(self) -> bool:
        return False

    def block_by_pairs(self, other: Any, outputs: Outputs) -> Array:
        return self._blocks_by_gradients(other, [(slice(None), slice(None))], outputs)[0]

    def formed(self) -> FullJacobian:
        sides = self.activation, self.cotangent
        if jax.default_backend() == "cpu":
            num_patches = math.prod(self.cotangent.shape[2:-1]) * math.prod(self.window)
            patch_bytes = num_patches * self.activation.shape[-1] * self.cotangent.dtype.itemsize
            gradients = lax.map(lambda side: self._gradient(*side), sides, batch_size=max(1, PATCHED // patch_bytes))
        else:
            gradients = jax.vmap(self._gradient)(*sides)
        return FullJacobian(self.scale, gradients.reshape(*self.cotangent.shape[:2], -1))

    def gradient_bytes(self) -> int:
        o, i, j = self.cotangent.shape[1], self.activation.shape[-1], self.cotangent.shape[-1]
        return o * math.prod(self.window) * i * j * self.cotangent.dtype.itemsize

    def operations_by_pairs(self, num_others: int, outputs: Outputs) -> float:
        return math.inf

    def operations_by_gradients(self, num_others: int, outputs: Outputs) -> float:
        n, o = self.cotangent.shape[:2]
        size = math.prod(self.window) * self.activation.shape[-1] * self.cotangent.shape[-1]
        forming = (n + num_others) * o * size * math.prod(self.cotangent.shape[2:-1])
        return forming + n * num_others * num_pairs(o, outputs) * size

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
        """The number of pieces of the examples, such that the gradients of one piece fit the limit for forming them."""
        limit = MOST_FORMED if jax.default_backend() == "cpu" else UNCACHED
        return divisor(self.num_examples, -(-self.num_examples * self.gradient_bytes() // limit))

    def num_coordinates(self, rows: int) -> int:
        size = math.prod(self.window) * self.activation.shape[-1] * self.cotangent.shape[-1]
        return self.cotangent.shape[1] // rows * size

    def operations_per_vector(self) -> float:
        return self.num_coordinates(1)

    def layer_operations(self) -> float:
        positions = math.prod(self.cotangent.shape[2:-1])
        return positions * math.prod(self.window) * self.activation.shape[-1] * self.cotangent.shape[-1]

    def _gradient(self, inputs: Float[Array, "b *positions i"], cotangent: Float[Array, "o b *q j"]) -> Array:
        """One example's gradient `(o, *window i, j)`, as one matrix product with the patches of its inputs.

        The patches of a large window are joined axis by axis, because many slices are slow to compile. They have the
        positions last, so that contiguous copies are long.
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
        # Without the barrier, XLA on CPUs would make the patches again, entry by entry, inside the product.
        patches = lax.optimization_barrier(patches)
        gradient = lax.dot_general(patches, cotangents, (((1 if large else 0,), (0,)), ((), ())))
        return jnp.moveaxis(gradient.reshape(-1, o, j), 1, 0)
