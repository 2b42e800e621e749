"""Evaluate a Gram matrix in blocks, on all devices of all processes.

All blocks have one shape, so that one compiled program serves them all: the last blocks are padded with copies of an
example, whose rows are then cut off.

>>> import jax.numpy as jnp
>>> from ntkbias.kernels.evaluation import DevicePrograms, gram
>>> programs = DevicePrograms(jnp.sin, lambda a, b: jnp.outer(a, a if b is None else b))
>>> gram([programs], jnp.arange(5.0), None, rows=2, outputs="mean").shape
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
from ntkbias.kernels.tiles import Tiles, block_indices
from ntkbias.progress import progress
from ntkbias.types import Outputs

__all__ = [
    "Contractible",
    "DevicePrograms",
    "blocks",
    "gram",
    "gram_in_one_program",
    "place_block",
    "programs_of_device",
    "programs_per_device",
    "require_finite_gram",
    "require_inputs_alike",
]


@runtime_checkable
class Contractible(Protocol):
    """A pytree that computes features of a set of inputs, and contracts the features of two sets to their block."""

    def features(self, x: Array) -> Any:
        """Compute what each block of a set of inputs shares."""

    def contract(self, features1: Any, features2: Any | None) -> Array:
        """The block of two sets of inputs, given their features."""

    def pass_rows(self, x: Array) -> int:
        """How many examples the features are computed for at once."""


class DevicePrograms(NamedTuple):
    """The compiled programs of one device: features of a piece of inputs, and the block of two pieces' features."""

    features: Callable[[Array], Any]
    contract: Callable[[Any, Any | None], Array]  # None: the block of a piece with itself
    column_features: Callable[[Array], Any] | None = None  # features of the second inputs; None: as of the first


def programs_per_device(kernel: Contractible) -> list[DevicePrograms]:
    """The programs of each device of this process. Blocks are moved to the first device."""
    devices = jax.local_devices()
    if len(devices) == 1:
        return [programs_of_device(kernel)]
    return [programs_of_device(_on(device, kernel), device, devices[0]) for device in devices]


def programs_of_device(
    kernel: Contractible, device: jax.Device | None = None, home: jax.Device | None = None
) -> DevicePrograms:
    """The programs of a device (None: JAX's default). Blocks are moved to the device `home`."""

    def features(piece: Array) -> Any:
        x = piece if device is None else jax.device_put(piece, device)
        passes = -(-len(x) // kernel.pass_rows(x))
        if passes == 1:
            return _features(kernel, x)
        # Each pass is written to its place once the next has begun. The last one overlaps the one before it.
        rows = -(-len(x) // passes)
        starts = [np.int32(min(index * rows, len(x) - rows)) for index in range(passes)]
        with contextlib.nullcontext() if device is None else jax.default_device(device):
            result = _zero_features(kernel, x)
        found = _features_of_rows(kernel, x, starts[0], rows)
        for start, following in pairwise(starts):
            next_found = _features_of_rows(kernel, x, following, rows)
            result, found = _write_rows(rows, start, found, result), next_found
        return _write_rows(rows, starts[-1], found, result)

    def contract(left: Any, right: Any | None) -> Array:
        block = _contract(kernel, left, right)
        return block if home is None else jax.device_put(block, home)

    return DevicePrograms(features, contract)


def blocks(
    programs: Sequence[DevicePrograms], first: Tiles, second: Tiles | None, pairs: Iterable[tuple[int, int]]
) -> Iterator[tuple[tuple[int, int], Array]]:
    """Yield the block of each of `pairs`, in order and with its padding. If `second` is None, both sides are `first`.

    With d devices, column j is computed by device j modulo d. Each device keeps the features of its current row. Up to
    d blocks are started before the first is yielded, so that all devices are busy.
    """
    rows: dict[int, tuple[int, Any]] = {}  # by device: the current row and its features
    started: deque[tuple[tuple[int, int], Array]] = deque()
    for i, j in pairs:
        place = j % len(programs)
        device = programs[place]
        if rows.get(place, (None, None))[0] != i:
            rows.pop(place, None)  # frees these features before the next are computed
            rows[place] = (i, device.features(first[i]))
        left = rows[place][1]
        on_diagonal = second is None and i == j
        features = device.column_features or device.features
        right = None if on_diagonal else features((first if second is None else second)[j])
        started.append(((i, j), device.contract(left, right)))
        del right
        if len(started) >= len(programs):
            yield started.popleft()
    yield from started


def gram(
    programs: Sequence[DevicePrograms],
    x1: Array,
    x2: Array | None,
    *,
    rows: int,
    outputs: Outputs,
    num_processes: int = 1,
) -> Array:
    """The array `contract(features(x1), features(x2))`, from blocks of at most `rows` examples per side.

    Without `x2` this is the Gram matrix of x1 with itself, and `contract(left, None)` is a block of one piece with
    itself. All blocks of a row share its features; the features of two pieces are held at a time. If there are several
    processes, all have to call this with the same arguments. Each computes its share of the blocks, and all get the
    complete array.
    """
    axes = arrangement(outputs).axes
    first = Tiles(x1, rows)
    second = None if x2 is None else Tiles(x2, rows)
    pairs = block_indices(first, second)
    # Every process computes the same number of blocks: in the last round some repeat the first blocks.
    own = range(
        jax.process_index() if num_processes > 1 else 0, -(-len(pairs) // num_processes) * num_processes, num_processes
    )
    share = [pairs[index % len(pairs)] for index in own]
    found: Iterable = blocks(programs, first, second, progress(share, "kernel blocks"))
    if num_processes > 1:
        found = _gathered_blocks([block for _, block in found], pairs).items()
    result: Any = None
    for (i, j), block in found:
        places = first.bounds(i), (first if second is None else second).bounds(j)
        for axis, place in zip(axes, places, strict=True):
            block = jax.lax.slice_in_dim(block, 0, place.stop - place.start, axis=axis)
        if result is None:
            sizes = {axes[0]: len(x1), axes[1]: len(x1 if x2 is None else x2)}
            result = jnp.zeros([sizes.get(axis, size) for axis, size in enumerate(block.shape)], block.dtype)
        result = place_block(result, block, *(place.start for place in places), axes)
        if x2 is None and i != j:
            result = place_block(result, transposed(block, outputs), *(place.start for place in places[::-1]), axes)
    return result


@partial(jax.jit, static_argnums=4, donate_argnums=0)
def place_block(array: Array, block: Array, row: Any, column: Any, axes: tuple[int, int]) -> Array:
    """Write a block into the array, in place, starting at `row` and `column` of the axes `axes`."""
    starts: list[Any] = [0] * array.ndim
    starts[axes[0]], starts[axes[1]] = row, column
    return jax.lax.dynamic_update_slice(array, block, starts)


def _gathered_blocks(own: Sequence[Array], pairs: Sequence[tuple[int, int]]) -> dict[tuple[int, int], Array]:
    """The blocks of all processes, given those of this one. Block k belongs to process k modulo their number."""
    gathered = multihost_utils.process_allgather(np.stack([np.asarray(block) for block in own]))
    num_processes = len(gathered)
    return {pair: jnp.asarray(gathered[k % num_processes, k // num_processes]) for k, pair in enumerate(pairs)}


@compiled
def gram_in_one_program(kernel: Contractible, x1: Array, x2: Array | None) -> Array:
    """The Gram matrix as a single block, in one program."""
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
def _zero_features(kernel: Contractible, x: Array) -> Any:
    """Zeros in the shape of the features of these inputs, to write the features into."""
    with jax.default_matmul_precision("highest"):
        shapes = jax.eval_shape(kernel.features, x)
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)


@compiled
def _features_of_rows(kernel: Contractible, x: Array, start: Array, rows: int) -> Any:
    with jax.default_matmul_precision("highest"):
        return kernel.features(jax.lax.dynamic_slice_in_dim(x, start, rows))


@partial(jax.jit, static_argnums=0, donate_argnums=3)
def _write_rows(rows: int, start: Array, found: Any, features: Any) -> Any:
    """Write the features of `rows` inputs into those of all inputs, in place."""

    def write(part: Array, features: Array) -> Array:
        if len(part) < rows:  # all inputs share it
            return part
        return jax.lax.dynamic_update_slice_in_dim(features, part, start, 0)

    return jax.tree.map(write, found, features)


def _on(device: jax.Device, kernel: Contractible) -> Contractible:
    """The kernel, with its arrays moved to a device."""
    return jax.tree.map(lambda leaf: jax.device_put(leaf, device) if isinstance(leaf, jax.Array) else leaf, kernel)


def require_inputs_alike(x1: Array, x2: Array) -> None:
    """Raise an `InputError` if the inputs of two sets have different shapes."""
    if x1.shape[1:] != x2.shape[1:]:
        raise InputError(
            f"Expected x1 and x2 to hold inputs of one shape; got {x1.shape[1:]} and {x2.shape[1:]} "
            "after the batch axis."
        )


def require_finite_gram(gram: Array, reason: Callable[[], str]) -> None:
    """Raise an `InputError` if a Gram matrix holds NaN or infinity. `reason()` is then called to explain it."""
    if not _all_finite(gram):
        raise InputError(
            f"Expected inputs at which the kernel is finite; got NaN or infinity in its Gram matrix. {reason()}"
        )


@jax.jit
def _all_finite(gram: Array) -> Array:
    return jnp.isfinite(jnp.max(jnp.abs(gram)))  # needs no second array of that size
