"""The Jacobian J of the outputs by the parameters at given inputs, which multiplies vectors and is never held.

It goes batch by batch on the host, in one compiled program for each half, of one size whatever n is. There are two ways
to pull vectors over the rows to the parameters, J^T v, and to push them back, J u:

    by passes     one backward pass (VJP) and one forward (JVP) through the network for each vector
    by gradients  the factors of the gradients: a backward pass for each output, then matrix products

>>> import jax.numpy as jnp, numpy as np
>>> from ntkbias.kernels.gradients import Gradients
>>> x = np.arange(6.0, dtype=np.float32).reshape(2, 3)
>>> jacobian = Jacobian(Gradients.of(lambda params, x: x @ params, jnp.ones((3, 1))), x)   # J is x
>>> pulled = jacobian.pull(jacobian.layout.pack(np.ones((2, 1), np.float32)))
>>> pulled[""][:, 0].tolist()
[3.0, 5.0, 7.0]
"""

import math
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ntkbias.compilation import compiled
from ntkbias.errors import InputError
from ntkbias.function import has_forward_derivative
from ntkbias.kernels.factors import Factor
from ntkbias.kernels.gradients import Gradients
from ntkbias.kernels.operators import by_gradients
from ntkbias.kernels.operators.by_gradients import Coordinates
from ntkbias.kernels.operators.by_passes import pulled_by_passes, pushed_by_passes
from ntkbias.kernels.operators.layout import Layout, over_devices
from ntkbias.kernels.outputs import rows_of_each
from ntkbias.kernels.tiles import Tiles

__all__ = ["HELD_SHARE", "TANGENT_SHARE", "Jacobian"]

BATCH, BATCH_ON_ACCELERATOR = 128, 4096  # most examples of a pass for single vectors: larger ones leave a CPU's caches
TANGENT_SHARE = 4  # the part of the memory budget, one in so many, that a block of vectors over the parameters may take
HELD_SHARE = 8  # and the part that factors kept from product to product may take


class Jacobian:
    """J of `gradients` at the inputs `x` `(n, ...)`, by batches, on all devices.

    Vectors over rows are packed as its `layout` says. What is read off the inputs is kept for the next time, where that
    fits: it is the same each time, and takes no second reading. `keeps` says whether to keep the factors; by default
    where they fit their share of the memory budget.
    """

    def __init__(self, gradients: Gradients, x: np.ndarray, keeps: bool | None = None) -> None:
        one = jnp.asarray(np.zeros((1, *x.shape[1:]), jax.dtypes.canonicalize_dtype(x.dtype)))
        outputs = gradients.num_outputs(one)
        self.gradients, self.x = gradients, x
        self.num_outputs = rows_of_each(outputs, gradients.outputs)
        self.summed = outputs // self.num_outputs  # outputs behind one row
        self.factors: dict[str, Factor] = jax.eval_shape(gradients.features, one)
        # At least float32, as everywhere that products are summed up over many examples.
        self.dtype = np.dtype(
            jnp.result_type(np.float32, *(leaf for factor in self.factors.values() for leaf in _numbers(factor)))
        )
        self.pass_bytes = self.summed * sum(_pass_bytes(factor) for factor in gradients.shapes(one).values())
        largest = BATCH if jax.default_backend() == "cpu" else BATCH_ON_ACCELERATOR
        largest = min(largest, max(1, self.pass_rows(1)))
        small = min(gradients.pass_rows(one), gradients.block_rows(one), largest)
        self.layout = Layout.of(len(x), self.num_outputs, small, max(small, largest))
        self.placed = self.layout.replicated(gradients)
        self.keeps = self._can_keep() if keeps is None else keeps
        self._held: list[Any] | None = None  # the factors of all batches
        self._squares: Array | None = None  # norms of the rows, which the diagonal is made of
        if gradients.looks_up_promised(one):
            _require_rows(gradients, x, self.layout.large)

    @property
    def sizes(self) -> dict[str, int]:
        """The number of coordinates of each parameter's gradient, by its path."""
        return {path: factor.num_coordinates(self.num_outputs) for path, factor in self.factors.items()}

    @property
    def num_parameters(self) -> int:
        """The number of columns of J: the parameters, for "mean" and "sum" those of every output apart."""
        return sum(self.sizes.values())

    def vectors_at_once(self) -> int:
        """How many vectors over the parameters fit their share of the memory budget."""
        return max(1, self.gradients.memory_budget // (TANGENT_SHARE * self.num_parameters * self.dtype.itemsize))

    def pass_rows(self, num_vectors: int) -> int:
        """Of how many examples passes for so many vectors at once fit their share of the memory budget."""
        return self.gradients.memory_budget // (TANGENT_SHARE * num_vectors * self.pass_bytes)

    @cached_property
    def has_passes(self) -> bool:
        """Whether passes give J^T v and J u to the precision of this Jacobian: not in narrower parameters."""
        chosen, _ = self.gradients.split_params()
        one = jax.ShapeDtypeStruct((1, *self.x.shape[1:]), jax.dtypes.canonicalize_dtype(self.x.dtype))
        wide = all(leaf.dtype == self.dtype for leaf in chosen)
        return wide and has_forward_derivative(self.gradients.f, self.gradients.params, one)

    @property
    def bytes_of_each(self) -> int:
        """What the factors of an example take."""
        return sum(factor.row_bytes() for factor in self.factors.values())

    def _can_keep(self) -> bool:
        """Whether the factors of all examples fit their share of the memory budget."""
        return self.bytes_of_each * self.layout.share <= self.gradients.memory_budget // HELD_SHARE

    def batches(self) -> Iterator[tuple[Any, np.ndarray]]:
        """The factors of each batch and where it begins; the first reading also finds the norms of the rows."""
        if self._held is not None:
            yield from self._held
            return
        mesh = self.layout.mesh
        squares = self._zeros(1) if self._squares is None else None
        kept: list[Any] = []
        for x, start in self._inputs(self.layout.small):
            found = by_gradients.factors(self.placed, mesh, x)
            if squares is not None:
                squares = by_gradients.squared((found, start, mesh), squares)
            if self.keeps:
                kept.append((found, start))
            yield found, start
        self._held = kept if self.keeps else None
        self._squares = squares if self._squares is None else self._squares

    def _inputs(self, size: int) -> Iterator[tuple[Array, np.ndarray]]:
        return self.layout.batches(self.x, size)

    def squares(self) -> Float[Array, "devices share o one"]:
        """The squared norms of the rows."""
        if self._squares is None:
            for _ in self.batches():
                pass
        assert self._squares is not None
        return self._squares

    def pull(self, vectors: Float[Array, "devices share o k"]) -> Coordinates:
        """J^T v by gradients, on every device."""
        total: Any = self._zero_coordinates(vectors.shape[-1])
        for found, start in self.batches():
            total = by_gradients.pulled((found, vectors, start, self.layout.mesh), total)
        return over_devices(total, self.layout.mesh)

    def push(self, tangents: Coordinates) -> Float[Array, "devices share o k"]:
        """J u by gradients."""
        result = self._zeros(next(iter(tangents.values())).shape[-1])
        for found, start in self.batches():
            result = by_gradients.pushed((found, tangents, start, self.layout.mesh), result)
        return result

    def pulled_and_pushed(self, tangents: Coordinates, squares: Float[Array, "devices share o one"]) -> Coordinates:
        """J^T D J u by gradients, in one reading of the data, for the diagonal D of `squares`."""
        total: Any = self._zero_coordinates(next(iter(tangents.values())).shape[-1])
        for found, start in self.batches():
            total = by_gradients.pulled_and_pushed((found, tangents, squares, start, self.layout.mesh), total)
        return over_devices(total, self.layout.mesh)

    def pull_by_passes(self, vectors: Float[Array, "devices share o k"]) -> Any:
        """J^T v by backward passes: like the parameters that count, with the vectors (times outputs) first."""
        chosen, _ = self.gradients.split_params()
        count = vectors.shape[-1] * self.summed
        devices = self.layout.num_devices
        total = [
            self.layout.spread(
                (devices, count, *leaf.shape),
                lambda _, leaf=leaf: np.zeros((count, *leaf.shape), leaf.dtype),  # type: ignore[misc]
            )
            for leaf in chosen
        ]
        for x, start in self._inputs(self.layout.large):
            total = pulled_by_passes((self.placed, x, vectors, start, self.layout.mesh), total)
        return over_devices(total, self.layout.mesh)

    def push_by_passes(self, tangents: Any) -> Float[Array, "devices share o k"]:
        """J u by forward passes."""
        result = self._zeros(tangents[0].shape[0] // self.summed)
        for x, start in self._inputs(self.layout.large):
            result = pushed_by_passes((self.placed, x, tangents, start, self.layout.mesh), result)
        return result

    def _zeros(self, num_vectors: int) -> Array:
        """Vectors over the rows, to put products into."""
        return self.layout.pack(np.zeros((len(self.x) * self.num_outputs, num_vectors), self.dtype))

    def _zero_coordinates(self, num_vectors: int) -> Coordinates:
        """Each device's sums, to be added up over devices at the end."""
        return {
            path: self.layout.spread(
                (self.layout.num_devices, size, num_vectors),
                lambda _, size=size: np.zeros((size, num_vectors), self.dtype),  # type: ignore[misc]
            )
            for path, size in self.sizes.items()
        }


def _require_rows(gradients: Gradients, x: np.ndarray, size: int) -> None:
    """Raise an `InputError` if ids lie outside of their table: J u and J^T v would not be of one matrix."""
    pieces = Tiles(x, min(size, len(x)))
    if any(bool(_are_outside(gradients, pieces[index])) for index in range(len(pieces))):
        raise InputError(
            "Expected ids in x that lie within the tables of f; got some outside, where JAX's derivatives are not "
            "defined. Number them from zero on, or look them up by jax.numpy.take(table, ids, axis=0, mode='clip')."
        )


@compiled
def _are_outside(gradients: Gradients, x: Array) -> Array:
    return gradients.are_outside(x)


def _pass_bytes(factor: Factor) -> int:
    """Bytes that an example takes in a pass for one output: inputs of the layer and derivatives by what it gives."""
    *inputs, gradients = jax.tree.leaves(factor)
    rows = [math.prod(leaf.shape[1:]) * leaf.dtype.itemsize for leaf in (*inputs, gradients)]
    return sum(rows[:-1]) + rows[-1] // gradients.shape[1]


def _numbers(factor: Factor) -> list[Any]:
    return [leaf for leaf in jax.tree.leaves(factor) if jnp.issubdtype(leaf.dtype, jnp.floating)]
