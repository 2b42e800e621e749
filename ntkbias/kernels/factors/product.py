"""The factor of a weight matrix, whose gradient is a sum over positions t of outer products.

    J = sum over t of a_t c_t^T,      <J, J'> = sum over t, s of <a_t, a'_s> <c_t, c'_s>

For activations a and cotangents c, the second formula contracts by pairs of positions. It is cheapest for one position:
the entrywise product of the Gram matrix of activations and that of cotangents.

>>> import jax.numpy as jnp
>>> factor = Product(1.0, jnp.ones((3, 1, 1, 5)), jnp.ones((3, 2, 1, 1, 4)))  # 3 examples, 2 outputs, a 5 x 4 matrix
>>> (gram,) = factor.blocks(None, [(slice(3), slice(3))], "sum")
>>> gram.shape, float(gram[0, 0])
((3, 3), 40.0)
"""

import math
from functools import partial
from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ntkbias.kernels.factors.factor import Factor
from ntkbias.kernels.factors.formable import Formable
from ntkbias.kernels.factors.full_jacobian import FullJacobian
from ntkbias.kernels.factors.pieces import Parts, blocks_of_products, summed
from ntkbias.kernels.outputs import num_pairs, sum_over_positions
from ntkbias.types import Outputs

__all__ = ["Product"]


class Product(Formable):
    """An activation `(n, b, t, i)` and a cotangent `(n, o, b, t, j)`: the gradient is sum_t a_t c_t^T.

    With one position the cotangent may be `(1, o, b, 1, j)`: all examples share it, as for a linear read-out.
    """

    activation: Float[Array, "n b t i"]
    cotangent: Float[Array, "#n o b t j"]

    @property
    def shared(self) -> bool:
        """Whether all examples share one cotangent."""
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
        return sum_over_positions(inner, left, right, outputs)

    @property
    def splits_cotangents(self) -> bool:
        _, o, _, _, j = self.cotangent.shape
        return o > 1 or j < self.activation.shape[-1]

    def formed(self) -> FullJacobian:
        n, o = self.cotangent.shape[:2]
        activation, cotangent = self.activation, jnp.moveaxis(self.cotangent, 1, 3)  # (n, b, t, i) and (n, b, t, o, j)
        # On a CPU the product has to transpose its first operand, whose free axes come first in the result.
        left, right = (cotangent, activation) if self.splits_cotangents else (activation, cotangent)
        gradients = lax.dot_general(left, right, (((2,), (2,)), ((0, 1), (0, 1))))
        if left is activation:  # (n, b, i, 1, j)
            return FullJacobian(self.scale, gradients.reshape(n, 1, -1))
        return FullJacobian(self.scale, jnp.moveaxis(gradients, 2, 1).reshape(n, o, -1))  # from (n, b, o, j, i)

    def gradient_bytes(self) -> int:
        _, o, b, _, j = self.cotangent.shape
        return o * b * self.activation.shape[-1] * j * self.cotangent.dtype.itemsize

    def kept(self) -> Factor:
        return self if self.activation.shape[2] == 1 else super().kept()  # an outer product is never formed

    def operations_by_pairs(self, num_others: int, outputs: Outputs) -> float:
        n, (_, o, b, t, j) = len(self.activation), self.cotangent.shape
        pairs = num_pairs(o, outputs)
        if self.shared:  # the product of two cotangents is the same number for all pairs of examples
            return n * num_others * b * (self.activation.shape[-1] + pairs)
        return n * num_others * b * t * t * (self.activation.shape[-1] + pairs * j + pairs)

    def operations_by_gradients(self, num_others: int, outputs: Outputs) -> float:
        n, o, b, t, j = self.cotangent.shape
        i = self.activation.shape[-1]
        if t == 1:
            return math.inf  # an outer product is never formed
        return (n + num_others) * o * b * t * i * j + n * num_others * num_pairs(o, outputs) * b * i * j

    def describe(self, num_others: int, outputs: Outputs) -> str:
        return "outer product" if self.activation.shape[2] == 1 else super().describe(num_others, outputs)

    def pull(self, vectors: Array) -> Array:
        cotangent, example = (self.cotangent[0], "") if self.shared else (self.cotangent, "n")
        if self._summed_outputs(vectors.shape[1]):
            weighted = jnp.einsum(f"{example}obtj,nk->bntojk", cotangent, vectors[:, 0])
        else:
            weighted = jnp.einsum(f"{example}obtj,nok->bntjk", cotangent, vectors)
        b, n, t = weighted.shape[:3]
        # One plain matrix product over all examples and positions.
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
        o, _, t, j = self.cotangent.shape[1:]
        i = self.activation.shape[-1]
        if t * (i + o * j) > o * i * j:
            return self.formed().squares()
        inner = jnp.einsum("nbti,nbsi->nbts", self.activation, self.activation)
        outer = jnp.einsum("nobtj,nobsj->nobts", self.cotangent, self.cotangent)
        return self.scale**2 * jnp.einsum("nbts,nobts->no", inner, outer)

    def num_coordinates(self, rows: int) -> int:
        _, o, b, _, j = self.cotangent.shape
        return o // rows * b * self.activation.shape[-1] * j

    def operations_per_vector(self) -> float:
        _, o, b, t, j = self.cotangent.shape
        return b * t * j * (self.activation.shape[-1] + o)

    def layer_operations(self) -> float:
        _, _, b, t, j = self.cotangent.shape
        return b * t * self.activation.shape[-1] * j

    def _outer(self, other: "Product", parts: Parts, outputs: Outputs) -> list[Array]:
        """For one position: the entrywise product of the Gram matrices of activations and of cotangents."""
        own = [(slice(None), slice(None))] if self.shared else parts

        def of_one(sides: list[Array]) -> list[Array]:
            activations, others, cotangents, other_cotangents = sides
            inner = blocks_of_products(activations, others, parts, "sum")
            if outputs == "all":
                inner = [block[:, None, :, None] for block in inner]
            outer = blocks_of_products(cotangents, other_cotangents, own, outputs)
            return [i * o for i, o in zip(inner, outer * (len(parts) if self.shared else 1), strict=True)]

        # A loop over b, because the unrolled program of a hundred layers would take minutes to compile.
        activations = [jnp.moveaxis(side.activation, 1, 0) for side in (self, other)]
        cotangents = [jnp.moveaxis(side.cotangent[:, :, :, 0], 2, 0) for side in (self, other)]
        return [self.scale**2 * block for block in summed(of_one, [*activations, *cotangents])]
