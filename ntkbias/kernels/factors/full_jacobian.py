"""The factor of a parameter that is used in an unknown way: its full gradient, which is right for any parameter.

>>> import jax.numpy as jnp
>>> FullJacobian(2.0, jnp.ones((3, 2, 5))).squares().tolist()
[[20.0, 20.0], [20.0, 20.0], [20.0, 20.0]]
"""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from ntkbias.kernels.factors.factor import Factor
from ntkbias.kernels.factors.pieces import Parts, blocks_of_products
from ntkbias.kernels.outputs import num_pairs
from ntkbias.types import Outputs

__all__ = ["FullJacobian"]


class FullJacobian(Factor):
    """The full gradient `(n, o, p)`, which is right for any parameter."""

    jacobian: Float[Array, "n o p"]

    @property
    def num_outputs(self) -> int:
        return self.jacobian.shape[1]

    def blocks(self, other: Any, parts: Parts, outputs: Outputs) -> list[Array]:
        left, right = self.jacobian, (self if other is None else other).jacobian
        return [self.scale**2 * block for block in blocks_of_products(left, right, parts, outputs)]

    def operations(self, num_others: int, outputs: Outputs) -> float:
        n, o, p = self.jacobian.shape
        return n * num_others * num_pairs(o, outputs) * p

    def describe(self, num_others: int, outputs: Outputs) -> str:
        return "full Jacobian"

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

    def operations_per_vector(self) -> float:
        return self.jacobian.shape[1] * self.jacobian.shape[2]

    def layer_operations(self) -> float:
        return self.jacobian.shape[2]
