"""Programs that multiply vectors by the Jacobian of a batch, given the factors of its per-example gradients.

They suit blocks of vectors. The factors cost one backward pass per output, for one vector or for a hundred. After that,
each vector costs only matrix products.

>>> import jax.numpy as jnp
>>> from ntkbias.kernels.gradients import Gradients
>>> gradients = Gradients.of(lambda params, x: x @ params, jnp.ones((3, 1)))
>>> found = factors(gradients, None, jnp.ones((1, 5, 3)))                     # five examples on one device
>>> add_pulled((found, jnp.ones((1, 5, 1, 2)), 0, None), {"": jnp.zeros((1, 3, 2))})[""].shape
(1, 3, 2)
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float

from ntkbias.compilation import compiled
from ntkbias.kernels.factors import Factor
from ntkbias.kernels.gradients import Gradients
from ntkbias.kernels.operators.layout import on_devices

__all__ = ["Coordinates", "add_pulled", "add_pushed_and_pulled", "factors", "write_pushed", "write_squares"]

Coordinates = dict[str, Float[Array, "... k"]]  # k vectors `(q, k)` over each parameter, by path; maybe one per device


@compiled
def factors(gradients: Gradients, mesh: Mesh | None, x: Array) -> dict[str, Factor]:
    """The factors of a batch, on each device."""
    arrays, static = eqx.partition(gradients, eqx.is_array)

    def function(arrays: Any, x: Array) -> Any:
        return eqx.combine(arrays, static).features(x)

    with jax.default_matmul_precision("highest"):
        return on_devices(function, mesh, False, True)(arrays, x)


@compiled(donate_rest=True)
def add_pulled(of: tuple, total: Coordinates) -> Coordinates:
    """Add J^T v of a batch to the sum on each device."""
    found, vectors, start, mesh = of

    def function(found: dict[str, Factor], vectors: Array, start: Array, total: Coordinates) -> Coordinates:
        v = _batch(vectors, start, _length(found))
        return {path: total[path] + factor.pull(v) for path, factor in found.items()}

    with jax.default_matmul_precision("highest"):
        return on_devices(function, mesh, True, True, False, True)(found, vectors, start, total)


@compiled(donate_rest=True)
def write_pushed(of: tuple, result: Array) -> Array:
    """Write J u of a batch into the result."""
    found, tangents, start, mesh = of

    def function(found: dict[str, Factor], tangents: Coordinates, start: Array, result: Array) -> Array:
        return jax.lax.dynamic_update_slice_in_dim(result, _times(found, tangents, result.shape[1]), start, 0)

    with jax.default_matmul_precision("highest"):
        return on_devices(function, mesh, True, False, False, True)(found, tangents, start, result)


@compiled(donate_rest=True)
def add_pushed_and_pulled(of: tuple, total: Coordinates) -> Coordinates:
    """Add J^T D J u of a batch to the sum on each device, where D holds the squared scales of the rows."""
    found, tangents, squares, start, mesh = of

    def function(
        found: dict[str, Factor], tangents: Coordinates, squares: Array, start: Array, total: Coordinates
    ) -> Coordinates:
        rows = _batch(squares, start, _length(found))
        v = rows * _times(found, tangents, rows.shape[1])
        return {path: total[path] + factor.pull(v) for path, factor in found.items()}

    with jax.default_matmul_precision("highest"):
        return on_devices(function, mesh, True, False, True, False, True)(found, tangents, squares, start, total)


@compiled(donate_rest=True)
def write_squares(of: tuple, result: Array) -> Array:
    """Write the squared norms of a batch's rows into the result."""
    found, start, mesh = of

    def function(found: dict[str, Factor], start: Array, result: Array) -> Array:
        squares: Any = sum(
            jnp.sum(factor.squares(), -1, keepdims=True) if result.shape[1] == 1 else factor.squares()
            for factor in found.values()
        )
        return jax.lax.dynamic_update_slice_in_dim(result, squares[..., None].astype(result.dtype), start, 0)

    with jax.default_matmul_precision("highest"):
        return on_devices(function, mesh, True, False, True)(found, start, result)


def _times(found: dict[str, Factor], tangents: Coordinates, rows: int) -> Float[Array, "n r k"]:
    """J u for the examples of these factors."""
    parts = [factor.push(tangents[path], rows) for path, factor in found.items()]
    return sum(parts[1:], parts[0])


def _length(found: dict[str, Factor]) -> int:
    return next(iter(found.values())).num_examples


def _batch(array: Array, start: Array, size: int) -> Array:
    return jax.lax.dynamic_slice_in_dim(array, start, size)
