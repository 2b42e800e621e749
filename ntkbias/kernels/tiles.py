"""Split inputs into pieces of one length, and assemble matrices from small tiles, or from strips, in one program.

If both sets of inputs are the same, only the upper triangle is computed.

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

__all__ = ["Tiles", "block_indices", "in_one_program", "mirrored", "strips"]

# The upper triangle of a square block is computed in strips. More strips save work, but narrow ones run slower.
MOST_STRIPS = 8
LEAST_STRIP, LEAST_STRIP_ON_ACCELERATOR = 240, 1024  # rows: narrower strips lose more speed than they save work


class Tiles:
    """Inputs `(n, ...)` in pieces of one length, at most `rows`. The last is padded with copies of its first input.

    Inputs on disk (`numpy.memmap`) are read piece by piece.
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
        """The range of examples that a piece holds."""
        return slice(index * self.rows, min((index + 1) * self.rows, len(self.x)))


def block_indices(first: Tiles, second: Tiles | None) -> list[tuple[int, int]]:
    """The indices of the blocks to compute, row by row: all of them, or the upper triangle if `second` is None."""
    if second is None:
        return [(i, j) for i in range(len(first)) for j in range(i, len(first))]
    return [(i, j) for i in range(len(first)) for j in range(len(second))]


def in_one_program(
    tile: Callable[[Array, Array, Array | None], Array], x1: Array, x2: Array | None, rows: int
) -> Array:
    """The matrix `(n, m)` of `tile(piece of x1, piece of x2, same)`, computed tile by tile in one compiled program.

    Small tiles keep their temporaries in a CPU's cache. A tile has at most `rows` examples per side. Without `x2` only
    the upper triangle is computed, and `same` marks the entries of an example with itself; with `x2` it is None.
    Derivatives compute each tile again, so that they need no more memory.
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

    def write(matrix: Array, place: tuple[Array, Array]) -> tuple[Array, None]:
        i, j = place
        found = block(i, j)
        matrix = jax.lax.dynamic_update_slice(matrix, found, (i, j))
        if x2 is None:
            matrix = jax.lax.dynamic_update_slice(matrix, found.T, (j, i))
        return matrix, None

    # The last tile overlaps the one before it, so there is no padding to add or to cut off.
    places = [
        (min(i * step1, len(x1) - step1), min(j * step2, len(columns) - step2))
        for i, j in block_indices(first, None if x2 is None else second)
    ]
    rows_at, columns_at = np.array(places, np.int32).T
    dtype = jax.eval_shape(block, rows_at[0], columns_at[0]).dtype
    matrix = jnp.zeros((len(x1), len(columns)), dtype)
    matrix, _ = jax.lax.scan(write, matrix, (jnp.asarray(rows_at), jnp.asarray(columns_at)))
    return matrix


def strips(num_examples: int, rows_per_example: int = 1) -> list[tuple[slice, slice]]:
    """The slices of examples, (rows, columns), of the strips that cover the upper triangle of a square block.

    Together they cover a little more than half of the block. `rows_per_example` is the number of matrix rows per
    example.
    """
    least = LEAST_STRIP if jax.default_backend() == "cpu" else LEAST_STRIP_ON_ACCELERATOR
    count = max(1, min(MOST_STRIPS, num_examples * rows_per_example // least, num_examples))
    ends = [num_examples * index // count for index in range(count + 1)]
    return [(slice(start, end), slice(start, num_examples)) for start, end in pairwise(ends)]


def mirrored(parts: Sequence[Array], outputs: Outputs) -> Array:
    """The square block, given the strips (see `strips`) that hold its upper triangle."""
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
