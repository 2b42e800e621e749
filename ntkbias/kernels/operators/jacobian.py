"""The Jacobian J of the outputs by the parameters at given inputs. It multiplies vectors, and is never formed.

A loop on the host goes over batches, with one compiled program for each half, whose size does not depend on n. There
are two ways to pull vectors over the rows to the parameters, J^T v, and to push them back, J u:

    by VJP and JVP   one backward and one forward pass through the network per vector
    by gradients     the factors of per-example gradients: one backward pass per output, then matrix products

>>> import jax.numpy as jnp, numpy as np
>>> from ntkbias.kernels.gradients import Gradients
>>> x = np.arange(6.0, dtype=np.float32).reshape(2, 3)
>>> jacobian = Jacobian(Gradients.of(lambda params, x: x @ params, jnp.ones((3, 1))), x)   # J is x
>>> pulled = jacobian.pull(jacobian.layout.pack(np.ones((2, 1), np.float32)))
>>> pulled[""][:, 0].tolist()
[3.0, 5.0, 7.0]
"""

import math
from collections.abc import Callable, Iterator
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
from ntkbias.kernels.operators.by_vjp import add_vjp, write_jvp
from ntkbias.kernels.operators.layout import Layout, sum_over_devices
from ntkbias.kernels.outputs import rows_per_example
from ntkbias.kernels.tiles import Tiles

__all__ = ["HELD_SHARE", "TANGENT_SHARE", "Jacobian"]

BATCH, BATCH_ON_ACCELERATOR = 128, 4096  # most examples in a VJP or JVP: larger batches do not fit a CPU's caches
TANGENT_SHARE = 4  # a block of vectors over the parameters may take one part in this many of the memory budget
HELD_SHARE = 8  # factors kept between products may take one part in this many


class Jacobian:
    """J of `gradients` at the inputs `x` `(n, ...)`, batch by batch, on all devices.

    Vectors over rows are packed as `layout` says. The factors do not change between products, so they are kept for the
    next one, without a second reading of the data. `keeps` says whether to keep them; by default they are kept if they
    fit their share of the memory budget.
    """

    def __init__(self, gradients: Gradients, x: np.ndarray, keeps: bool | None = None) -> None:
        one = jnp.asarray(np.zeros((1, *x.shape[1:]), jax.dtypes.canonicalize_dtype(x.dtype)))
        outputs = gradients.num_outputs(one)
        self.gradients, self.x = gradients, x
        self.num_outputs = rows_per_example(outputs, gradients.outputs)
        self.summed = outputs // self.num_outputs  # how many outputs each row sums over
        self.factors: dict[str, Factor] = jax.eval_shape(gradients.features, one)
        # Float32 or wider, as for all sums over many examples.
        self.dtype = np.dtype(
            jnp.result_type(np.float32, *(leaf for factor in self.factors.values() for leaf in _numbers(factor)))
        )
        self.pass_bytes = self.summed * sum(_pass_bytes(factor) for factor in gradients.shapes(one).values())
        largest = BATCH if jax.default_backend() == "cpu" else BATCH_ON_ACCELERATOR
        largest = min(largest, max(1, self.pass_rows(1)))
        small = min(gradients.pass_rows(one), gradients.block_rows(one), largest)
        self.layout = Layout.of(len(x), self.num_outputs, small, max(small, largest))
        self.replicated = self.layout.replicated(gradients)
        self.keeps = self._can_keep() if keeps is None else keeps
        self._held: list[Any] | None = None  # the factors of all batches
        self._gram: np.ndarray | None = None  # J J^T, once it was asked for
        self._squares: Array | None = None  # squared norms of the rows: the diagonal
        if gradients.has_unchecked_lookups(one):
            _require_rows(gradients, x, self.layout.large)

    @property
    def sizes(self) -> dict[str, int]:
        """The number of coordinates of each parameter's gradient, by its path."""
        return {path: factor.num_coordinates(self.num_outputs) for path, factor in self.factors.items()}

    @property
    def num_parameters(self) -> int:
        """The number of columns of J: one per parameter, or for "mean" and "sum" one per parameter and output."""
        return sum(self.sizes.values())

    def vectors_at_once(self) -> int:
        """How many vectors over the parameters fit their share of the memory budget at once."""
        return max(1, self.gradients.memory_budget // (TANGENT_SHARE * self.num_parameters * self.dtype.itemsize))

    def pass_rows(self, num_vectors: int) -> int:
        """How many examples a VJP or JVP of this many vectors may have within its share of the memory budget."""
        return self.gradients.memory_budget // (TANGENT_SHARE * num_vectors * self.pass_bytes)

    @cached_property
    def supports_vjp(self) -> bool:
        """Whether VJPs and JVPs are available in the precision of this Jacobian: not for narrower parameters."""
        chosen, _ = self.gradients.split_params()
        one = jax.ShapeDtypeStruct((1, *self.x.shape[1:]), jax.dtypes.canonicalize_dtype(self.x.dtype))
        wide = all(leaf.dtype == self.dtype for leaf in chosen)
        return wide and has_forward_derivative(self.gradients.f, self.gradients.params, one)

    @property
    def bytes_per_example(self) -> int:
        """Bytes of the factors of one example."""
        return sum(factor.row_bytes() for factor in self.factors.values())

    def _can_keep(self) -> bool:
        """Whether the factors of all examples fit their share of the memory budget."""
        return self.bytes_per_example * self.layout.share <= self.gradients.memory_budget // HELD_SHARE

    def batches(self) -> Iterator[tuple[Any, np.ndarray]]:
        """Yield the factors of each batch, and where it begins. The first reading also finds the norms of the rows."""
        if self._held is not None:
            yield from self._held
            return
        mesh = self.layout.mesh
        squares = self._zeros(1) if self._squares is None else None
        kept: list[Any] = []
        for x, start in self._inputs(self.layout.small):
            found = by_gradients.factors(self.replicated, mesh, x)
            if squares is not None:
                squares = by_gradients.write_squares((found, start, mesh), squares)
            if self.keeps:
                kept.append((found, start))
            yield found, start
        self._held = kept if self.keeps else None
        self._squares = squares if self._squares is None else self._squares

    def _inputs(self, size: int) -> Iterator[tuple[Array, np.ndarray]]:
        return self.layout.batches(self.x, size)

    def gram(self, evaluate: Callable[[np.ndarray], Array]) -> np.ndarray:
        """J J^T as `evaluate` computes it from the inputs. It is kept."""
        if self._gram is None:
            self._gram = np.asarray(evaluate(self.x))
        return self._gram

    def squares(self) -> Float[Array, "devices share o one"]:
        """The squared norms of the rows."""
        if self._squares is None:
            for _ in self.batches():
                pass
        assert self._squares is not None
        return self._squares

    def pull(self, vectors: Float[Array, "devices share o k"]) -> Coordinates:
        """J^T v by per-example gradients; every device gets it."""
        total: Any = self._zero_coordinates(vectors.shape[-1])
        for found, start in self.batches():
            total = by_gradients.add_pulled((found, vectors, start, self.layout.mesh), total)
        return sum_over_devices(total, self.layout.mesh)

    def push(self, tangents: Coordinates) -> Float[Array, "devices share o k"]:
        """J u by per-example gradients."""
        result = self._zeros(next(iter(tangents.values())).shape[-1])
        for found, start in self.batches():
            result = by_gradients.write_pushed((found, tangents, start, self.layout.mesh), result)
        return result

    def push_and_pull(self, tangents: Coordinates, squares: Float[Array, "devices share o one"]) -> Coordinates:
        """J^T D J u by per-example gradients, in one reading of the data, where D has the diagonal `squares`."""
        total: Any = self._zero_coordinates(next(iter(tangents.values())).shape[-1])
        for found, start in self.batches():
            total = by_gradients.add_pushed_and_pulled((found, tangents, squares, start, self.layout.mesh), total)
        return sum_over_devices(total, self.layout.mesh)

    def pull_by_vjp(self, vectors: Float[Array, "devices share o k"]) -> Any:
        """J^T v by VJPs, in the shapes of the selected parameters, with a first axis of vectors (times outputs)."""
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
            total = add_vjp((self.replicated, x, vectors, start, self.layout.mesh), total)
        return sum_over_devices(total, self.layout.mesh)

    def push_by_jvp(self, tangents: Any) -> Float[Array, "devices share o k"]:
        """J u by JVPs."""
        result = self._zeros(tangents[0].shape[0] // self.summed)
        for x, start in self._inputs(self.layout.large):
            result = write_jvp((self.replicated, x, tangents, start, self.layout.mesh), result)
        return result

    def _zeros(self, num_vectors: int) -> Array:
        """Zero vectors over the rows, to write products into."""
        return self.layout.pack(np.zeros((len(self.x) * self.num_outputs, num_vectors), self.dtype))

    def _zero_coordinates(self, num_vectors: int) -> Coordinates:
        """Zero sums on each device. They are added over devices at the end."""
        return {
            path: self.layout.spread(
                (self.layout.num_devices, size, num_vectors),
                lambda _, size=size: np.zeros((size, num_vectors), self.dtype),  # type: ignore[misc]
            )
            for path, size in self.sizes.items()
        }


def _require_rows(gradients: Gradients, x: np.ndarray, size: int) -> None:
    """Raise an `InputError` if ids are out of bounds: J u and J^T v would then not belong to one matrix."""
    pieces = Tiles(x, min(size, len(x)))
    if any(bool(_are_out_of_bounds(gradients, pieces[index])) for index in range(len(pieces))):
        raise InputError(
            "Expected ids in x that lie within the tables of f; got some outside, where JAX's derivatives are not "
            "defined. Number ids from zero, or look them up with jax.numpy.take(table, ids, axis=0, mode='clip')."
        )


@compiled
def _are_out_of_bounds(gradients: Gradients, x: Array) -> Array:
    return gradients.out_of_bounds(x)


def _pass_bytes(factor: Factor) -> int:
    """Bytes per example in a pass for one output: the inputs of the layer, and the derivatives by its outputs."""
    if len(factor.terms) > 1:
        return sum(map(_pass_bytes, factor.terms))
    *inputs, gradients = jax.tree.leaves(factor)
    rows = [math.prod(leaf.shape[1:]) * leaf.dtype.itemsize for leaf in (*inputs, gradients)]
    return sum(rows[:-1]) + rows[-1] // gradients.shape[1]


def _numbers(factor: Factor) -> list[Any]:
    return [leaf for leaf in jax.tree.leaves(factor) if jnp.issubdtype(leaf.dtype, jnp.floating)]
