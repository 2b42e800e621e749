"""A Gram matrix by blocks, on all devices of all processes.

Blocks have one shape, so that one compiled program serves them all: the last ones are filled up with copies of an
example, whose rows are cut off again.

>>> import jax.numpy as jnp
>>> from ntkbias.kernels.evaluation import Worker, gram
>>> worker = Worker(jnp.sin, lambda a, b: jnp.outer(a, a if b is None else b))
>>> gram([worker], jnp.arange(5.0), None, rows=2, outputs="mean").shape
(5, 5)
"""

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Array

from ntkbias.compilation import compiled
from ntkbias.errors import InputError
from ntkbias.kernels.outputs import arrangement, transposed
from ntkbias.kernels.tiles import Tiles, places_of
from ntkbias.progress import progress
from ntkbias.types import Outputs

__all__ = [
    "Contractible",
    "Worker",
    "blocks",
    "gram",
    "gram_in_one_program",
    "placed",
    "require_finite_gram",
    "require_inputs_alike",
    "worker_of",
    "workers_of",
]


@runtime_checkable
class Contractible(Protocol):
    """What blocks are evaluated of: a pytree that says what to compute once for inputs, and how two sets contract."""

    def features(self, x: Array) -> Any:
        """What is computed once for a set of inputs."""

    def contract(self, features1: Any, features2: Any | None) -> Array:
        """The block of two sets of inputs, given their features."""

    def pass_rows(self, x: Array) -> int:
        """Of how many examples features are computed at once."""


class Worker(NamedTuple):
    """The programs of one device: the features of a piece of inputs, and the block of two pieces given theirs."""

    features: Callable[[Array], Any]
    contract: Callable[[Any, Any | None], Array]  # None: of a piece with itself
    features_of_columns: Callable[[Array], Any] | None = None  # where those of the second inputs are others


def workers_of(kernel: Contractible) -> list[Worker]:
    """The programs of each device of this process; blocks come back to the first."""
    devices = jax.local_devices()
    if len(devices) == 1:
        return [worker_of(kernel)]
    return [worker_of(_on(device, kernel), device, devices[0]) for device in devices]


def worker_of(kernel: Contractible, device: jax.Device | None = None, home: jax.Device | None = None) -> Worker:
    """The programs of a device, or of none in particular; blocks go `home`."""

    def features(piece: Array) -> Any:
        x = piece if device is None else jax.device_put(piece, device)
        passes = -(-len(x) // kernel.pass_rows(x))
        if passes == 1:
            return _features(kernel, x)
        # Each pass is put in its place once the next one has begun; the last reaches back over the one before it.
        rows = -(-len(x) // passes)
        starts = [np.int32(min(index * rows, len(x) - rows)) for index in range(passes)]
        with contextlib.nullcontext() if device is None else jax.default_device(device):
            whole = _room(kernel, x)
        found = _features_of_rows(kernel, x, starts[0], rows)
        for start, following in pairwise(starts):
            next_found = _features_of_rows(kernel, x, following, rows)
            whole, found = _put(rows, start, found, whole), next_found
        return _put(rows, starts[-1], found, whole)

    def contract(left: Any, right: Any | None) -> Array:
        block = _contract(kernel, left, right)
        return block if home is None else jax.device_put(block, home)

    return Worker(features, contract)


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
        features = worker.features_of_columns or worker.features
        right = None if own else features((first if second is None else second)[j])
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
    outputs: Outputs,
    num_processes: int = 1,
) -> Array:
    """The array `contract(features(x1), features(x2))`, from blocks of at most `rows` examples a side.

    Without `x2` it is that of x1 with itself, and `contract(left, None)` a block of one piece with itself. The features
    of a row of blocks serve all of them; those of two pieces are held at a time. Of several processes, all of which
    have to call this with the same arguments, each computes its share of the blocks, and all get the whole.
    """
    axes = arrangement(outputs).axes
    first = Tiles(x1, rows)
    second = None if x2 is None else Tiles(x2, rows)
    pairs = places_of(first, second)
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
        whole = placed(whole, block, *(place.start for place in places), axes)
        if x2 is None and i != j:
            whole = placed(whole, transposed(block, outputs), *(place.start for place in places[::-1]), axes)
    return whole


@partial(jax.jit, static_argnums=4, donate_argnums=0)
def placed(whole: Array, block: Array, row: Any, column: Any, axes: tuple[int, int]) -> Array:
    """The array with a block put into it, in its own memory: from this row and column on, which are these axes."""
    starts: list[Any] = [0] * whole.ndim
    starts[axes[0]], starts[axes[1]] = row, column
    return jax.lax.dynamic_update_slice(whole, block, starts)


def _exchanged(own: Sequence[Array], pairs: Sequence[tuple[int, int]]) -> dict[tuple[int, int], Array]:
    """The blocks of all processes, dealt out in turn, given those of this one."""
    gathered = multihost_utils.process_allgather(np.stack([np.asarray(block) for block in own]))
    num_processes = len(gathered)
    return {pair: jnp.asarray(gathered[k % num_processes, k // num_processes]) for k, pair in enumerate(pairs)}


@compiled
def gram_in_one_program(kernel: Contractible, x1: Array, x2: Array | None) -> Array:
    """The whole array as one block, in one program."""
    with jax.default_matmul_precision("highest"):
        return kernel.contract(kernel.features(x1), None if x2 is None else kernel.features(x2))


@compiled
def _features(kernel: Contractible, x: Array) -> Any:
    with jax.default_matmul_precision("highest"):
        return kernel.features(x)


@compiled
def _contract(kernel: Contractible, features1: Any, features2: Any | None) -> Array:
    with jax.default_matmul_precision("highest"):
        return kernel.contract(features1, features2)


@compiled
def _room(kernel: Contractible, x: Array) -> Any:
    """The features of these inputs, before they are known."""
    with jax.default_matmul_precision("highest"):
        shapes = jax.eval_shape(kernel.features, x)
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)


@compiled
def _features_of_rows(kernel: Contractible, x: Array, start: Array, rows: int) -> Any:
    with jax.default_matmul_precision("highest"):
        return kernel.features(jax.lax.dynamic_slice_in_dim(x, start, rows))


@partial(jax.jit, static_argnums=0, donate_argnums=3)
def _put(rows: int, start: Array, found: Any, whole: Any) -> Any:
    """The features of all inputs, in their own memory, with those of `rows` of them put in their place."""

    def put(part: Array, whole: Array) -> Array:
        if len(part) < rows:  # the same for all
            return part
        return jax.lax.dynamic_update_slice_in_dim(whole, part, start, 0)

    return jax.tree.map(put, found, whole)


def _on(device: jax.Device, kernel: Contractible) -> Contractible:
    """The kernel with its arrays on a device."""
    return jax.tree.map(lambda leaf: jax.device_put(leaf, device) if isinstance(leaf, jax.Array) else leaf, kernel)


def require_inputs_alike(x1: Array, x2: Array) -> None:
    """Raise an `InputError` if the inputs of two sets differ in shape."""
    if x1.shape[1:] != x2.shape[1:]:
        raise InputError(
            f"Expected x1 and x2 to hold inputs of one shape; got {x1.shape[1:]} and {x2.shape[1:]} "
            "after the batch axis."
        )


def require_finite_gram(gram: Array, reason: Callable[[], str]) -> None:
    """Raise an `InputError` if a Gram matrix holds NaN or infinity; `reason` then finds out why, and what to do."""
    if not _all_finite(gram):
        raise InputError(
            f"Expected inputs at which the kernel is finite; got NaN or infinity in its Gram matrix. {reason()}"
        )


@jax.jit
def _all_finite(gram: Array) -> Array:
    return jnp.isfinite(jnp.max(jnp.abs(gram)))  # without a second array of that size
