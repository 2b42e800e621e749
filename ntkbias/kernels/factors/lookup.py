"""The factor of a table whose rows are looked up (an embedding): a product with activations that are one-hot rows.

>>> import jax.numpy as jnp
>>> factor = Lookup(1.0, jnp.array([[[2], [2]], [[0], [2]]]), jnp.ones((2, 1, 2, 4)), num_rows=3)
>>> (gram,) = factor.blocks(None, [(slice(2), slice(2))], "sum")  # pairs of equal indices, times 4
>>> gram.tolist()
[[16.0, 8.0], [8.0, 8.0]]
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ntkbias.kernels.factors.formable import Formable
from ntkbias.kernels.factors.full_jacobian import FullJacobian
from ntkbias.kernels.outputs import num_pairs, sum_over_positions
from ntkbias.types import Outputs

__all__ = ["Lookup"]


class Lookup(Formable):
    """Rows of a table, looked up at indices `(n, t, 1)`, which stand for one-hot activations.

    An index outside of 0 to `num_rows` - 1 stands for no row.
    """

    activation: Int[Array, "n t 1"]
    cotangent: Float[Array, "n o t j"]
    num_rows: int = eqx.field(static=True)
    assumes_in_bounds: bool = eqx.field(static=True, default=False)  # whether f promises that no index is out of bounds

    def out_of_bounds(self) -> Array:
        """Which indices `(n, t, 1)` stand for no row."""
        return (self.activation < 0) | (self.activation >= self.num_rows)

    def block_by_pairs(self, other: Any, outputs: Outputs) -> Array:
        def inner(one: Array, others: Array) -> Array:
            known = (one >= 0) & (one < self.num_rows)
            equal = (one == others[:, None, :, 0]) & known
            return equal[:, :, None].astype(self.cotangent.dtype)

        left, right = ((side.activation, side.cotangent[:, :, None]) for side in (self, other))
        return sum_over_positions(inner, left, right, outputs)

    def formed(self) -> FullJacobian:
        n, o, _, j = self.cotangent.shape

        def one(known: Array, cotangents: Array) -> Array:
            return jnp.zeros((o, self.num_rows, j), cotangents.dtype).at[:, known].add(cotangents, mode="drop")

        return FullJacobian(self.scale, jax.vmap(one)(self._known(), self.cotangent).reshape(n, o, -1))

    def gradient_bytes(self) -> int:
        _, o, _, j = self.cotangent.shape
        return o * self.num_rows * j * self.cotangent.dtype.itemsize

    def operations_by_pairs(self, num_others: int, outputs: Outputs) -> float:
        n, o, t, j = self.cotangent.shape
        pairs = num_pairs(o, outputs)
        return n * num_others * t * t * (pairs * j + pairs + 1)

    def operations_by_gradients(self, num_others: int, outputs: Outputs) -> float:
        n, o, t, j = self.cotangent.shape
        return (n + num_others) * o * t * j + n * num_others * num_pairs(o, outputs) * self.num_rows * j

    def pull(self, vectors: Array) -> Array:
        apart = vectors.shape[1] == self.cotangent.shape[1]
        rule = "notj,nok->ntjk" if apart else "notj,nrk->ntojk"
        weighted = jnp.einsum(rule, self.cotangent, vectors)
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
        """The indices, with negative ones moved past the last row, since JAX would count them from the end.

        If f promises that all are in bounds, the others have a cotangent of NaN. They name the first row, so that the
        NaN is not dropped.
        """
        indices, outside = self.activation[..., 0], self.out_of_bounds()[..., 0]
        return jnp.where(outside, 0 if self.assumes_in_bounds else self.num_rows, indices)

    def squares(self) -> Array:
        known = self._known()
        equal = (known[:, :, None] == known[:, None, :]) & (known < self.num_rows)[:, None]
        pairs = jnp.einsum("notj,nosj->nots", self.cotangent, self.cotangent)
        return self.scale**2 * jnp.einsum("nots,nts->no", pairs, equal.astype(pairs.dtype))

    def num_coordinates(self, rows: int) -> int:
        _, o, _, j = self.cotangent.shape
        return o // rows * self.num_rows * j

    def operations_per_vector(self) -> float:
        _, o, t, j = self.cotangent.shape
        return o * t * j

    def layer_operations(self) -> float:
        return self.cotangent.shape[2] * self.cotangent.shape[3]
