"""Inputs in pieces of one length, and matrices that one program puts together from small tiles or from strips.

Where both sets of inputs are the same, the upper triangle alone is computed.

>>> import jax.numpy as jnp
>>> from ntkbias.kernels.tiles import Tiles, in_one_program
>>> [piece.tolist() for piece in Tiles(jnp.arange(5), 2)]                     # pieces have one length
[[0, 1], [2, 3], [4, 4]]
>>> in_one_program(lambda a, b, same: jnp.outer(a, b), jnp.arange(5.0), None, rows=2).shape
(5, 5)
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ntkbias.checks import require_positive
from ntkbias.kernels.outputs import arrangement, transposed
from ntkbias.types import Outputs

__all__ = ["Tiles", "in_one_program", "mirrored", "places_of", "strips"]

# A square block's upper triangle is computed in strips: more of them save work, narrow ones lose speed.
MOST_STRIPS = 8
LEAST_STRIP, LEAST_STRIP_ON_ACCELERATOR = 240, 1024  # rows: shorter ones lose what they save


class Tiles:
    """Inputs `(n, ...)` in pieces of one length, at most `rows`; the last is filled up with copies of its first.

    Inputs that lie on disk (`numpy.memmap`) are read piece by piece.
    """

    def __init__(self, x: Array | np.ndarray, rows: int) -> None:
        require_positive("rows", rows)
        self.x = x
        self.rows = -(-len(x) // -(-len(x) // rows))

    def __len__(self) -> int:
        return -(-len(self.x) // self.rows)

    def __getitem__(self, index: int) -> Array:
        piece = jnp.asarray(self.x[self.bounds(index)])
        missing = self.rows - len(piece)
        return jnp.concatenate([piece, jnp.repeat(piece[:1], missing, axis=0)]) if missing else piece

    def __iter__(self) -> Iterator[Array]:
        return (self[index] for index in range(len(self)))

    def bounds(self, index: int) -> slice:
        """Which examples a piece holds."""
        return slice(index * self.rows, min((index + 1) * self.rows, len(self.x)))


def places_of(first: Tiles, second: Tiles | None) -> list[tuple[int, int]]:
    """The blocks to compute, row by row: all, or the upper triangle where there is no `second`."""
    if second is None:
        return [(i, j) for i in range(len(first)) for j in range(i, len(first))]
    return [(i, j) for i in range(len(first)) for j in range(len(second))]


def in_one_program(
    tile: Callable[[Array, Array, Array | None], Array], x1: Array, x2: Array | None, rows: int
) -> Array:
    """The matrix `(n, m)` of `tile(piece of x1, piece of x2, same)`, one tile after the other in one compiled program.

    For work that wants small tiles, whose temporaries stay in a cache; a tile has at most `rows` examples a side.
    Without `x2` the upper triangle alone is computed, and `same` says which entries are of an example with itself
    (None with `x2`). Derivatives compute each tile again, so that they need no more memory.
    """
    first = Tiles(x1, rows)
    second = first if x2 is None else Tiles(x2, rows)
    if len(first) == len(second) == 1:
        return tile(x1, x1 if x2 is None else x2, jnp.eye(len(x1), dtype=bool) if x2 is None else None)
    step1, step2 = first.rows, second.rows
    columns = x1 if x2 is None else x2

    @jax.checkpoint
    def block(i: Array, j: Array) -> Array:
        piece1 = jax.lax.dynamic_slice_in_dim(x1, i, step1)
        piece2 = jax.lax.dynamic_slice_in_dim(columns, j, step2)
        if x2 is not None:
            return tile(piece1, piece2, None)
        own = i + jnp.arange(step1)[:, None] == j + jnp.arange(step2)
        return tile(piece1, piece2, own)

    def put(whole: Array, place: tuple[Array, Array]) -> tuple[Array, None]:
        i, j = place
        found = block(i, j)
        whole = jax.lax.dynamic_update_slice(whole, found, (i, j))
        if x2 is None:
            whole = jax.lax.dynamic_update_slice(whole, found.T, (j, i))
        return whole, None

    # The last tile reaches back over the one before it: nothing is filled up, and the result is not cut.
    places = [
        (min(i * step1, len(x1) - step1), min(j * step2, len(columns) - step2))
        for i, j in places_of(first, None if x2 is None else second)
    ]
    rows_at, columns_at = np.array(places, np.int32).T
    dtype = jax.eval_shape(block, rows_at[0], columns_at[0]).dtype
    whole = jnp.zeros((len(x1), len(columns)), dtype)
    whole, _ = jax.lax.scan(put, whole, (jnp.asarray(rows_at), jnp.asarray(columns_at)))
    return whole


def strips(num_examples: int, rows_of_each: int = 1) -> list[tuple[slice, slice]]:
    """The examples of each strip, by rows and by columns, that cover the upper triangle of a square block.

    They are a little over half of it. `rows_of_each`: how many rows of the matrix an example has.
    """
    least = LEAST_STRIP if jax.default_backend() == "cpu" else LEAST_STRIP_ON_ACCELERATOR
    count = max(1, min(MOST_STRIPS, num_examples * rows_of_each // least, num_examples))
    ends = [num_examples * index // count for index in range(count + 1)]
    return [(slice(start, end), slice(start, num_examples)) for start, end in pairwise(ends)]


def mirrored(parts: Sequence[Array], outputs: Outputs) -> Array:
    """The square block whose upper triangle the `strips` hold."""
    if len(parts) == 1:
        return parts[0]
    axes = arrangement(outputs).axes
    rows = []
    starts = [parts[0].shape[axes[1]] - part.shape[axes[1]] for part in parts]
    for index, part in enumerate(parts):
        height = part.shape[axes[0]]
        below = [
            transposed(
                jax.lax.slice_in_dim(parts[k], starts[index] - start, starts[index] - start + height, axis=axes[1]),
                outputs,
            )
            for k, start in enumerate(starts[:index])
        ]
        rows.append(jnp.concatenate([*below, part], axes[1]))
    return jnp.concatenate(rows, axes[0])
