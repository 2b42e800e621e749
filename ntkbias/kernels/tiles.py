"""A large kernel by blocks: how many examples fit a memory budget, and how blocks become one array.

The upper triangle alone is computed where both sets of inputs are the same. Blocks have one shape, so that one compiled
program serves them all: the last ones are filled up with copies of an example, whose rows are cut off again.

>>> import jax.numpy as jnp
>>> from ntkbias.kernels.tiles import Worker, gram
>>> worker = Worker(jnp.sin, lambda a, b: jnp.outer(a, a if b is None else b))
>>> gram([worker], jnp.arange(5.0), None, rows=2, axes=(0, 1)).shape
(5, 5)
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Array

from ntkbias.checks import require_positive
from ntkbias.progress import progress

__all__ = [
    "Tiles",
    "Worker",
    "blocks",
    "gram",
    "in_one_program",
    "mirrored",
    "pairs_of",
    "strips",
    "transpose",
]

# A square block's upper triangle is computed in strips: more of them save work, narrow ones lose speed.
MOST_STRIPS = 8
LEAST_STRIP, LEAST_STRIP_ON_ACCELERATOR = 240, 1024  # rows: shorter ones lose what they save


class Worker(NamedTuple):
    """A kernel on one device: the features of a piece of inputs, and the block of two pieces given their features."""

    features: Callable[[Array], Any]
    contract: Callable[[Any, Any | None], Array]  # None: of a piece with itself


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

    def bounds(self, index: int) -> slice:
        """Which examples a piece holds."""
        return slice(index * self.rows, min((index + 1) * self.rows, len(self.x)))


def pairs_of(first: Tiles, second: Tiles | None) -> list[tuple[int, int]]:
    """The blocks to compute, row by row: all, or the upper triangle where there is no `second`."""
    if second is None:
        return [(i, j) for i in range(len(first)) for j in range(i, len(first))]
    return [(i, j) for i in range(len(first)) for j in range(len(second))]


def blocks(
    workers: Sequence[Worker], first: Tiles, second: Tiles | None, pairs: Iterable[tuple[int, int]]
) -> Iterator[tuple[tuple[int, int], Array]]:
    """The block of each of `pairs`, in their order, whole pieces long; without `second` both sides are `first`.

    Column j is the work of worker j modulo their number; each keeps the features of the row at hand. `pairs` is read
    one ahead for each worker, so that all of them have something to do.
    """
    rows: dict[int, tuple[int, Any]] = {}
    started: deque[tuple[tuple[int, int], Array]] = deque()
    for i, j in pairs:
        place = j % len(workers)
        worker = workers[place]
        if rows.get(place, (None, None))[0] != i:
            rows.pop(place, None)  # before the next ones are made
            rows[place] = (i, worker.features(first[i]))
        left = rows[place][1]
        own = second is None and i == j
        right = None if own else worker.features((first if second is None else second)[j])
        started.append(((i, j), worker.contract(left, right)))
        del right
        if len(started) >= len(workers):
            yield started.popleft()
    yield from started


def gram(
    workers: Sequence[Worker],
    x1: Array,
    x2: Array | None,
    *,
    rows: int,
    axes: tuple[int, int],
    num_processes: int = 1,
) -> Array:
    """The array `contract(features(x1), features(x2))`, from blocks of at most `rows` examples a side.

    Without `x2` it is that of x1 with itself, and `contract(left, None)` a block of one piece with itself. `axes` are
    the result's axes of the first and of the second set of inputs. The features of a row of blocks serve all of them;
    those of two pieces are held at a time. Of several processes, all of which have to call this with the same
    arguments, each computes its share of the blocks, and all get the whole.
    """
    first = Tiles(x1, rows)
    second = None if x2 is None else Tiles(x2, rows)
    pairs = pairs_of(first, second)
    # Every process takes as many; where the last round has too few blocks, it begins again.
    own = range(
        jax.process_index() if num_processes > 1 else 0, -(-len(pairs) // num_processes) * num_processes, num_processes
    )
    share = [pairs[index % len(pairs)] for index in own]
    found: Iterable = blocks(workers, first, second, progress(share, "kernel blocks"))
    if num_processes > 1:
        found = _exchanged([block for _, block in found], pairs).items()
    whole: Any = None
    for (i, j), block in found:
        places = first.bounds(i), (first if second is None else second).bounds(j)
        for axis, place in zip(axes, places, strict=True):
            block = jax.lax.slice_in_dim(block, 0, place.stop - place.start, axis=axis)
        if whole is None:
            sizes = {axes[0]: len(x1), axes[1]: len(x1 if x2 is None else x2)}
            whole = jnp.zeros([sizes.get(axis, size) for axis, size in enumerate(block.shape)], block.dtype)
        whole = _placed(whole, block, *(place.start for place in places), axes)
        if x2 is None and i != j:
            whole = _placed(whole, transpose(block, axes), *(place.start for place in places[::-1]), axes)
    return whole


@partial(jax.jit, static_argnums=4, donate_argnums=0)
def _placed(whole: Array, block: Array, row: Any, column: Any, axes: tuple[int, int]) -> Array:
    """The array with a block put into it, in its own memory."""
    starts: list[Any] = [0] * whole.ndim
    starts[axes[0]], starts[axes[1]] = row, column
    return jax.lax.dynamic_update_slice(whole, block, starts)


def _exchanged(own: Sequence[Array], pairs: Sequence[tuple[int, int]]) -> dict[tuple[int, int], Array]:
    """The blocks of all processes, dealt out in turn, given those of this one."""
    gathered = multihost_utils.process_allgather(np.stack([np.asarray(block) for block in own]))
    num_processes = len(gathered)
    return {pair: jnp.asarray(gathered[k % num_processes, k // num_processes]) for k, pair in enumerate(pairs)}


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
        for i, j in pairs_of(first, None if x2 is None else second)
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


def mirrored(parts: Sequence[Array], axes: tuple[int, int]) -> Array:
    """The square block whose upper triangle the `strips` hold."""
    if len(parts) == 1:
        return parts[0]
    rows = []
    starts = [parts[0].shape[axes[1]] - part.shape[axes[1]] for part in parts]
    for index, part in enumerate(parts):
        height = part.shape[axes[0]]
        below = [
            transpose(
                jax.lax.slice_in_dim(parts[k], starts[index] - start, starts[index] - start + height, axis=axes[1]),
                axes,
            )
            for k, start in enumerate(starts[:index])
        ]
        rows.append(jnp.concatenate([*below, part], axes[1]))
    return jnp.concatenate(rows, axes[0])


def transpose(block: Array, axes: tuple[int, int]) -> Array:
    """The block of (x2, x1), given that of (x1, x2): swap the examples' axes, and the outputs' with them."""
    first, second = axes
    order = list(range(block.ndim))
    if second - first == 1:
        order[first], order[second] = second, first
    else:  # (n, o, m, o): each example's axis carries an axis of outputs
        order = [2, 3, 0, 1]
    return jnp.transpose(block, order)
