"""Compute the blocks of a Gram matrix on disk. Several processes may share the work; each block is computed by one.

>>> import pathlib, tempfile, jax.numpy as jnp, ntkbias as nb
>>> folder = pathlib.Path(tempfile.mkdtemp()) / "gram"
>>> store = nb.gram_on_disk(folder, nb.infinite_ntk(nb.nets.mlp(depth=1)), jnp.eye(5), rows=2)
>>> sorted(path.name for path in folder.glob("*.npy"))[:3]
['0000-0000.npy', '0000-0001.npy', '0000-0002.npy']
"""

import errno
import hashlib
import io
import math
import os
import shutil
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from ntkbias.checks import require_known, require_positive
from ntkbias.claims import Claim, claim, claimed
from ntkbias.errors import InputError, InputTypeError
from ntkbias.files import PART, StorageError, storage_errors
from ntkbias.kernels.disk import manifest as manifests
from ntkbias.kernels.disk.entries import CHECKSUM, is_checksum, is_part
from ntkbias.kernels.disk.reader import (
    GramOnDisk,
    Pair,
    block_name,
    checked_path,
    checksums_in,
    store_in,
)
from ntkbias.kernels.evaluation import blocks
from ntkbias.kernels.form import SymmetricForm
from ntkbias.kernels.inputs import of_one_array
from ntkbias.kernels.tiles import Tiles, block_indices
from ntkbias.progress import progress
from ntkbias.types import Inputs

__all__ = ["gram_on_disk"]

MAX_ENTRIES = 4096**2  # per block, which is 64 MiB in float32; a process that dies loses one block at most
POLL_SECONDS = 0.2  # between checks for blocks that other processes compute


def gram_on_disk(
    path: str | Path, kernel: SymmetricForm, x1: Inputs, x2: Inputs | None = None, *, rows: int | None = None
) -> GramOnDisk:
    """Compute the Gram matrix `kernel(x1, x2)` in the folder `path`, as far as it is not there yet, and return it.

    `x1` `(n, ...)` and `x2` `(m, ...)` may be `numpy.memmap`s, which are read piece by piece. `rows` is the largest
    number of examples on a side of a block. By default it is what the kernel's memory budget allows, but at most what
    makes a block of 64 MiB in float32.

    The same call resumes after an earlier one was stopped or killed. Damaged blocks are computed again, with a warning.
    Several processes may make the same call at once. Each block is computed by one of them, or by another if that one
    dies, and every call returns when the matrix is complete. The folder has to be on a file system with locks.

    Costs as much as `kernel(x1, x2)`. Each call also reads all finished blocks to check them; `open_gram` does not.
    Memory holds one block in addition to the kernel's budget.

    Raises `InputError` in these cases:

    - The folder holds the matrix of other parameters, inputs, outputs or types. The error names the differences. A
      function `f` cannot be compared, so its kernel is: at the first inputs, at others spread over the data and at
      random ones, up to the square root of the machine precision.
    - Blocks are missing, and the others were made by other versions, on another device or with another memory budget,
      which may round differently.
    - The folder holds other files, a block has NaN or infinite values, or arrays are traced.

    Raises `StorageError`, which is also an `OSError`, if the disk is full or fails. Finished blocks stay, and the same
    call resumes.

    >>> import pathlib, tempfile, ntkbias as nb
    >>> folder = pathlib.Path(tempfile.mkdtemp()) / "gram"
    >>> store = gram_on_disk(folder, nb.infinite_ntk(nb.nets.mlp(depth=1)), jnp.eye(5), rows=2)
    >>> store.shape, store.block_shape
    ((5, 5), (2, 2))
    """
    folder = checked_path(path)
    if not isinstance(kernel, SymmetricForm):
        raise InputTypeError(
            f"Expected a kernel, e.g. empirical_ntk(f, params); got {type(kernel).__name__}. "
            "To save an array use ntkbias.save or numpy.save."
        )
    if rows is not None:
        require_positive("rows", rows)
    require_known((kernel, x1, x2), "gram_on_disk", "it writes files")
    kernel, x1 = of_one_array(kernel, x1, "x1")
    kernel, x2 = (kernel, None) if x2 is None else of_one_array(kernel, x2, "x2")
    there = manifests.manifest_of(folder)
    inputs1 = manifests.checked_inputs(kernel, x1, "x1")
    inputs2 = None if x2 is None else manifests.checked_inputs(kernel, x2, "x2")
    sides = inputs1.x, (inputs1 if inputs2 is None else inputs2).x
    if sides[0].shape[1:] != sides[1].shape[1:]:
        raise InputError(
            f"Expected x1 and x2 to hold inputs of one shape; got {sides[0].shape[1:]} and {sides[1].shape[1:]} "
            "after the batch axis."
        )
    here = manifests.description(kernel, inputs1, inputs2)
    if there is None:
        limit = _default_rows(kernel, sides, here["shape"]) if rows is None else rows
        shape = [Tiles(x, limit).rows for x in sides]
        passes = {"block_shape": shape, "pass_rows": _pass_rows(kernel, sides, shape)}
        there = manifests.begin(folder, here | passes)
    manifests.require_same_kernel(folder, there, here)
    store = store_in(folder, there)
    _require_rows(store, sides, rows)
    _remove_damaged(store)
    if missing := store.missing():
        manifests.require_same_versions(folder, there, here)
        _require_budget(store, kernel, sides, rows, there["pass_rows"])
        _require_space(store, missing)
        _fill(store, kernel, inputs1.x, None if inputs2 is None else inputs2.x)
    _finish(store)
    return store


def _default_rows(kernel: SymmetricForm, sides: tuple[np.ndarray, np.ndarray], shape: list[int]) -> int:
    entries = math.prod(shape) // math.prod(len(x) for x in sides)  # of one pair of examples
    return max(1, min(kernel.block_rows(jnp.asarray(sides[0][:1])), math.isqrt(MAX_ENTRIES // entries)))


def _pass_rows(kernel: SymmetricForm, sides: tuple[np.ndarray, np.ndarray], block_shape: Sequence[int]) -> list[int]:
    """For each side of a block, how many examples the features are computed for at once."""
    most = kernel.pass_rows(jnp.asarray(sides[0][:1]))
    return [Tiles(np.empty(length, np.bool_), most).rows for length in block_shape]


def _require_rows(store: GramOnDisk, sides: tuple[np.ndarray, np.ndarray], rows: int | None) -> None:
    """Raise an `InputError` if `rows` is not that of the blocks in the store."""
    if rows is not None and tuple(Tiles(x, rows).rows for x in sides) != store.block_shape:
        raise InputError(
            f"Expected rows={max(store.block_shape)}, as in {store.path}; got {rows}. Leave rows out, or choose "
            "another folder."
        )


def _require_budget(
    store: GramOnDisk,
    kernel: SymmetricForm,
    sides: tuple[np.ndarray, np.ndarray],
    rows: int | None,
    pass_rows: list[int],
) -> None:
    """Raise an `InputError` if the kernel's memory budget is too small for the blocks, or leads to other passes."""
    largest, fitting = max(store.block_shape), kernel.block_rows(jnp.asarray(sides[0][:1]))
    if rows is None and fitting < largest:
        raise InputError(
            f"Expected a memory budget for the blocks of {largest} rows in {store.path}; got one for {fitting} rows. "
            "Raise the kernel's memory_budget, or choose another folder."
        )
    here = _pass_rows(kernel, sides, store.block_shape)
    if here != pass_rows:
        raise InputError(
            f"Expected the memory budget with which {store.path} was begun, for passes of {max(pass_rows)} rows; got "
            f"one for {max(here)} rows, which may round differently. Use that memory_budget for the kernel, or choose "
            "another folder."
        )


def _require_space(store: GramOnDisk, missing: list[Pair]) -> None:
    needed = sum(math.prod(store.shape_of(*pair)) * store.dtype.itemsize for pair in missing)
    free = shutil.disk_usage(store.path).free
    if needed > free:
        failure = StorageError(
            f"Expected {needed / 2**30:.3g} GiB of free space for the {len(missing)} missing blocks in {store.path}; "
            f"got {free / 2**30:.3g} GiB. Free space on that disk, or choose a folder on another."
        )
        failure.errno = errno.ENOSPC
        raise failure


def _remove_damaged(store: GramOnDisk) -> None:
    """Remove the damaged blocks with a warning, so that they are computed again."""
    for pair in store.damaged():
        path = store.path / block_name(*pair)
        with claimed(path, wait=True):
            if store.is_intact(pair, checksums_in(store.path)):  # repaired by another process
                continue
            with storage_errors(path):
                path.unlink(missing_ok=True)
        warnings.warn(
            f"Expected {path} as it was written; got another checksum. The block is computed again: check that disk.",
            stacklevel=3,
        )


def _fill(store: GramOnDisk, kernel: SymmetricForm, x1: np.ndarray, x2: np.ndarray | None) -> None:
    """Compute the blocks that no other process computes, until none is missing."""
    first = Tiles(x1, store.block_shape[0])
    second = None if x2 is None else Tiles(x2, store.block_shape[1])
    programs = kernel.device_programs()
    absent = set(store.missing())
    missing = dict.fromkeys(pair for pair in block_indices(first, second) if pair in absent)
    held: dict[Pair, Claim] = {}

    def claimed_pairs() -> Iterator[Pair]:
        for pair in list(missing):
            path = store.path / block_name(*pair)
            if not path.exists() and (right := claim(path)) is not None:
                held[pair] = right
                if not path.exists():  # another process may have finished it just before the claim
                    yield pair
                    continue
                held.pop(pair).release()
            if path.exists():
                finish(pair)

    def finish(pair: Pair) -> None:
        del missing[pair]
        bar.update()

    total = len(store.pairs())
    with progress(None, "blocks on disk", unit="block", total=total, initial=total - len(missing)) as bar:
        try:
            while missing:
                for pair, block in blocks(programs, first, second, claimed_pairs()):
                    _write_block(store, pair, np.asarray(block), held[pair])
                    held.pop(pair).release()
                    finish(pair)
                if missing:  # other processes compute these; if one dies, its claim is free again
                    time.sleep(POLL_SECONDS)
        finally:
            for right in held.values():
                right.release()


def _write_block(store: GramOnDisk, pair: Pair, block: np.ndarray, right: Claim) -> None:
    """Write a block and its checksum. Rows that only pad the last blocks are left out."""
    block = np.ascontiguousarray(block[tuple(slice(size) for size in store.shape_of(*pair))])
    if not np.isfinite(block).all():
        rows, columns = (store.bounds(side, index) for side, index in enumerate(pair))
        raise InputError(
            f"Expected finite values of the kernel; got NaN or infinity for inputs {rows.start} to {rows.stop - 1} "
            f"with inputs {columns.start} to {columns.stop - 1}. Check the scale of inputs and parameters, or use "
            "float64."
        )
    header, data = _header(block), block.reshape(-1).view(np.uint8).data
    digest = hashlib.sha256(header)
    digest.update(data)

    def write_checksum() -> None:
        with claimed(right.path.with_name(right.path.name + CHECKSUM), wait=True) as beside:
            if beside is not None:
                beside.write(f"{digest.hexdigest()}\n".encode())

    right.write(header, data, before=write_checksum)  # so that no block appears without its checksum


def _header(block: np.ndarray) -> bytes:
    """The header of the block's `.npy` file. Types that such files do not know, like bfloat16, are raw bytes there."""
    dtype = np.dtype(f"V{block.dtype.itemsize}") if block.dtype.kind == "V" else block.dtype
    header = io.BytesIO()
    description = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": block.shape}
    np.lib.format.write_array_header_1_0(header, description)
    return header.getvalue()


def _finish(store: GramOnDisk) -> None:
    """Move the checksums into the manifest, and remove the files that a complete store does not need."""
    names = os.listdir(store.path)
    checksums = checksums_in(store.path)
    manifest = manifests.manifest_of(store.path)
    if manifest is not None and manifest.get("sha256") != checksums:
        manifests.rewrite(store.path, manifest | {"sha256": checksums})
    for name in names:
        path = store.path / name
        if is_checksum(name):
            with storage_errors(path):
                path.unlink(missing_ok=True)
        elif is_part(name):  # the claim removes the part of a process that died, but not that of a live one
            with claimed(path.with_name(name.removesuffix(PART))):
                pass
