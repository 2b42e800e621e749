"""A large kernel by blocks: how many examples fit a memory budget, and how blocks become one array.

The upper triangle alone is computed where both sets of inputs are the same. Blocks have one shape, so that one compiled
program serves them all: the last ones are filled up with copies of an example, whose rows are cut off again.

>>> import jax.numpy as jnp
>>> from ntkbias.kernels.tiles import gram
>>> x = jnp.arange(5.0)
>>> gram(jnp.sin, lambda a, b: jnp.outer(a, a if b is None else b), x, None, rows=2, axes=(0, 1)).shape
(5, 5)
"""

import os
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ntkbias.types import require_positive

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # in a notebook without ipywidgets the bar is made of text
    from tqdm.auto import tqdm

__all__ = ["default_memory_budget", "gram", "progress"]

SHARE = 0.25  # of a device's memory, for one block: its temporaries and the result have to fit beside it


def default_memory_budget() -> int:
    """Bytes that the factors of one block may take: a quarter of the memory of the device, or of this machine."""
    stats = jax.local_devices()[0].memory_stats() or {}
    total = stats.get("bytes_limit") or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = Path("/sys/fs/cgroup/memory.max")  # a container's own limit, on Linux
    if not stats and limit.is_file() and (text := limit.read_text().strip()).isdigit():
        total = min(total, int(text))
    return int(SHARE * total)


def gram(
    features: Callable[[Array], Any],
    contract: Callable[[Any, Any | None], Array],
    x1: Array,
    x2: Array | None,
    *,
    rows: int,
    axes: tuple[int, int],
) -> Array:
    """The array `contract(features(x1), features(x2))`, from blocks of at most `rows` examples a side.

    Without `x2` it is that of x1 with itself, and `contract(left, None)` a block of one strip with itself. `axes` are
    the result's axes of the first and of the second set of inputs. The features of a strip serve all of its blocks;
    those of two strips are held at a time.
    """
    require_positive("rows", rows)
    n, m = len(x1), len(x1 if x2 is None else x2)
    first = _tiles(x1, rows)
    second = first if x2 is None else _tiles(x2, rows)
    pairs = [(i, j) for i in range(len(first)) for j in range(len(second)) if x2 is not None or j >= i]
    blocks = {}
    strip = -1
    for i, j in progress(pairs, "kernel blocks"):
        if i != strip:
            strip, left = i, features(first[i])
        blocks[i, j] = contract(left, None if x2 is None and i == j else features(second[j]))
        if x2 is None and i != j:
            blocks[j, i] = _transpose(blocks[i, j], axes)
    strips = (jnp.concatenate([blocks.pop((i, j)) for j in range(len(second))], axes[1]) for i in range(len(first)))
    whole = jnp.concatenate(list(strips), axes[0])
    return jax.lax.slice_in_dim(jax.lax.slice_in_dim(whole, 0, n, axis=axes[0]), 0, m, axis=axes[1])


def progress(items: Iterable, label: str) -> Iterable:
    """The items, with a bar in a terminal or notebook once it takes longer than two seconds.

    TQDM_DISABLE=1 in the environment silences it; where output goes to a file it is silent anyway.
    """
    notebook = tqdm.__mro__[0].__module__.endswith("notebook")
    return tqdm(items, desc=label, delay=2.0, leave=False, disable=False if notebook else None)


def _tiles(x: Array, rows: int) -> list[Array]:
    """Pieces of equal length, at most `rows`; the last is filled up with copies of its first example."""
    count = -(-len(x) // rows)
    size = -(-len(x) // count)
    pieces = [x[start : start + size] for start in range(0, len(x), size)]
    missing = size - len(pieces[-1])
    if missing:
        pieces[-1] = jnp.concatenate([pieces[-1], jnp.repeat(pieces[-1][:1], missing, axis=0)])
    return pieces


def _transpose(block: Array, axes: tuple[int, int]) -> Array:
    """The block of (x2, x1), given that of (x1, x2): swap the examples' axes, and the outputs' with them."""
    first, second = axes
    order = list(range(block.ndim))
    if second - first == 1:
        order[first], order[second] = second, first
    else:  # (n, o, m, o): each example's axis carries an axis of outputs
        order = [2, 3, 0, 1]
    return jnp.transpose(block, order)
