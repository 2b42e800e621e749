"""A kernel on disk: blocks that are computed once, survive what kills a job, and are read back piece by piece.

A store is a folder: `manifest.json` says what it holds, and each block of the Gram matrix is one `.npy` file, of the
upper triangle alone where both sets of inputs are the same. A block appears under its name whole or not at all, so
the store resumes after any end of the process: the same call computes what is missing. Several processes, on machines
that share the folder, fill one store when each makes that call. A complete store depends on its contents alone: byte
for byte the same, whichever process computed which block, in whatever order.

>>> import pathlib, tempfile, jax.numpy as jnp, ntkbias as nb
>>> folder = pathlib.Path(tempfile.mkdtemp()) / "kernel"
>>> store = nb.kernel_on_disk(folder, nb.infinite_ntk(nb.nets.mlp(depth=1)), jnp.eye(5), rows=2)
>>> store.shape, store[1:3].shape, (store @ jnp.ones(5)).shape
((5, 5), (2, 5), (5,))
>>> nb.open_kernel(folder).trace() == store.trace()
True
"""

import contextlib
import dataclasses
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
from typing import Any

import jax.numpy as jnp
import numpy as np
import scipy.sparse.linalg
from jax.typing import ArrayLike
from jaxtyping import Float, Shaped

from ntkbias.checks import require_array, require_positive
from ntkbias.errors import InputError, InputTypeError
from ntkbias.files import PART, StorageError, reason_of, storage_errors
from ntkbias.kernels import manifest as manifests
from ntkbias.kernels.claims import Claim, claim, claimed
from ntkbias.kernels.kernel import EXAMPLE_AXES, Kernel
from ntkbias.kernels.tiles import Tiles, blocks, pairs_of
from ntkbias.progress import progress
from ntkbias.types import Outputs

__all__ = ["KernelOnDisk", "kernel_on_disk", "open_kernel"]

MAX_ENTRIES = 4096**2  # of a block, 64 MiB in float32: what is lost at most when a process dies
PATIENCE = 0.2  # seconds between looks at blocks that other processes compute
TRANSPOSED = {"mean": (1, 0), "sum": (1, 0), "each": (0, 2, 1), "all": (2, 3, 0, 1)}  # of (x1, x2), for (x2, x1)
CHECKSUM = ".sha256"  # the suffix of a block's checksum, until all of them move into the manifest

Pair = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class KernelOnDisk:
    """A Gram matrix in a folder; made by `kernel_on_disk` and `open_kernel`, read back piece by piece.

    `shape` is that of `kernel(x1, x2)`, and what is read is laid out like it: `numpy.asarray(store)` is all of it,
    `store[i]`, `store[i:j]` and `store.rows(i, j)` a strip, for which its own blocks alone are read.
    """

    path: Path
    outputs: Outputs
    shape: tuple[int, ...]
    dtype: np.dtype
    block_shape: tuple[int, int]  # examples of x1 and of x2 in a block; the last ones hold what remains
    symmetric: bool  # the kernel of x1 with itself: its lower triangle is read from the upper

    @property
    def ndim(self) -> int:
        """The number of axes of the array."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("Expected leave to copy; got copy=False. A kernel on disk is copied to memory.")
        whole = self.rows(0, self._num_examples(0))
        return whole if dtype is None else whole.astype(dtype, copy=False)

    def __getitem__(self, index: Any) -> np.ndarray | np.generic:
        """One row, or a slice of rows of step one, and of those what NumPy's further indices choose."""
        first, *rest = index if isinstance(index, tuple) else (index,)
        if self.outputs == "each":
            raise InputError(
                "Expected a kernel whose first axis is that of examples to index; got outputs='each', (o, n, m). "
                "Use store.rows(start, stop), or numpy.asarray(store)."
            )
        n = self._num_examples(0)
        if isinstance(first, int | np.integer) and not isinstance(first, bool):
            if not -n <= first < n:
                raise IndexError(f"Expected a row from 0 to {n - 1}; got {first}.")
            strip = self.rows(int(first) % n, int(first) % n + 1)[0]
            return strip[tuple(rest)] if rest else strip
        if isinstance(first, slice) and first.step in (None, 1):
            start, stop, _ = first.indices(n)
            return self.rows(start, max(start, stop))[(slice(None), *rest)]
        raise InputTypeError(
            f"Expected a row's number, or a slice of rows of step one; got {first!r}. "
            "Use numpy.asarray(store)[...], which reads all of it."
        )

    def rows(self, start: int, stop: int) -> Shaped[np.ndarray, "..."]:
        """The kernel of the examples `start` .. `stop - 1` of x1 with all of x2, laid out as the whole is.

        Reads the blocks of these rows alone; holds the result, and maps one block at a time.
        """
        axis, other = EXAMPLE_AXES[self.outputs]
        if not 0 <= start <= stop <= self.shape[axis]:
            raise InputError(f"Expected rows between 0 and {self.shape[axis]}; got {start} to {stop}.")
        strip = np.empty([stop - start if a == axis else size for a, size in enumerate(self.shape)], self.dtype)
        target, source = [[slice(None)] * self.ndim for _ in range(2)]
        for i in range(start // self.block_shape[0], -(-stop // self.block_shape[0]) if start < stop else 0):
            whole = self._bounds(0, i)
            part = slice(max(start, whole.start), min(stop, whole.stop))
            target[axis] = slice(part.start - start, part.stop - start)
            source[axis] = slice(part.start - whole.start, part.stop - whole.start)
            for j in range(self._num_blocks(1)):
                target[other] = self._bounds(1, j)
                strip[tuple(target)] = self._block(i, j)[tuple(source)]
        return strip

    def diagonal(self) -> Shaped[np.ndarray, "..."]:
        """The kernel of each example with itself: `(n,)`; `(o, n)` for outputs="each", `(n, o)` for "all".

        Reads a page of memory an entry, of the blocks on the diagonal.
        """
        if not self.symmetric:
            raise InputError("Expected the kernel of inputs with themselves, for its diagonal; got one of x1 and x2.")
        rule = {"each": "onn->on", "all": "nono->no"}.get(self.outputs, "nn->n")
        parts = [np.einsum(rule, self._block(i, i)) for i in range(self._num_blocks(0))]
        return np.concatenate(parts, axis=EXAMPLE_AXES[self.outputs][0])

    def trace(self) -> float:
        """The sum of the diagonal; for outputs="all" that of the matrix `(n o, n o)`."""
        self._require_matrix("trace")
        return float(np.sum(self.diagonal(), dtype=float))

    def __matmul__(self, vectors: ArrayLike) -> Float[np.ndarray, "n *t"]:
        """The matrix times `(m,)` or `(m, t)`; for outputs="all" the matrix `(n o, m o)` times `(m o, ...)`.

        Reads each stored block once. Products are taken in the wider type of both, float32 at least.
        """
        return self._product(vectors, adjoint=False)

    def to_scipy(self) -> scipy.sparse.linalg.LinearOperator:
        """The matrix as SciPy's linear operator, for `eigsh`, `cg` and the like: each product reads all blocks once.

        Of shape `(n, m)`, and `(n o, m o)` for outputs="all".
        """
        self._require_matrix("to_scipy")

        def product(vectors: Any) -> np.ndarray:
            return self._product(vectors, adjoint=False)

        def adjoint(vectors: Any) -> np.ndarray:
            return self._product(vectors, adjoint=True)

        shape = self._matrix_size(0), self._matrix_size(1)
        return scipy.sparse.linalg.LinearOperator(
            shape, matvec=product, rmatvec=adjoint, matmat=product, rmatmat=adjoint, dtype=self._wide_dtype()
        )

    def verify(self) -> None:
        """Read every block, and raise a `StorageError` that names those missing or not as they were written."""
        bad = manifests.listed(_name(*pair) for pair in [*self._missing(), *self._damaged()])
        if bad:
            raise StorageError(
                f"Expected the blocks in {self.path} as they were written; got damaged or missing ones: {bad}. "
                "Call kernel_on_disk with the same arguments: it computes those again."
            )

    def _product(self, vectors: Any, adjoint: bool) -> np.ndarray:
        self._require_matrix("products")
        vectors = np.asarray(vectors if isinstance(vectors, np.ndarray) else require_array(vectors, "vectors"))
        size = self._matrix_size(0 if adjoint else 1)
        if vectors.ndim not in (1, 2) or len(vectors) != size or vectors.dtype.kind in "OSUMmc":
            raise InputError(
                f"Expected real vectors of shape ({size},) or ({size}, t) to multiply by; "
                f"got {vectors.dtype} of shape {vectors.shape}."
            )
        vectors = vectors.astype(np.result_type(self._wide_dtype(), vectors.dtype), copy=False)
        result = np.zeros((self._matrix_size(1 if adjoint else 0), *vectors.shape[1:]), vectors.dtype)
        for i, j in self._pairs():
            block = self._block(i, j)
            rows, columns = (self._entries(side, index) for side, index in ((0, i), (1, j)))
            block = block.reshape(rows.stop - rows.start, -1).astype(self._wide_dtype(), copy=False)
            if not adjoint or self.symmetric:
                result[rows] += block @ vectors[columns]
            if (adjoint and not self.symmetric) or (self.symmetric and i != j):
                result[columns] += block.T @ vectors[rows]
        return result

    def _block(self, i: int, j: int) -> np.ndarray:
        """One block, mapped from its file, or from that across the diagonal."""
        if self.symmetric and i > j:
            return self._block(j, i).transpose(TRANSPOSED[self.outputs])
        file = self.path / _name(i, j)
        try:
            block = np.load(file, mmap_mode="r", allow_pickle=False)
            block = block.view(self.dtype) if block.dtype.kind == "V" else block  # types that NumPy's files do not know
            if (block.shape, block.dtype) != (self._shape_of(i, j), self.dtype):
                raise ValueError(f"it holds {block.dtype} of shape {block.shape}")
            return block
        except (OSError, ValueError, EOFError) as error:
            raise StorageError(
                f"Expected a block of {self.dtype} of shape {self._shape_of(i, j)} in {file}; got: "
                f"{reason_of(error)}. Call kernel_on_disk with the same arguments: it computes that block again."
            ) from error

    def _pairs(self) -> list[Pair]:
        """The blocks that are stored."""
        columns = range(self._num_blocks(1))
        return [(i, j) for i in range(self._num_blocks(0)) for j in columns if j >= i or not self.symmetric]

    def _missing(self) -> list[Pair]:
        """The blocks that no process has finished."""
        there = {entry.name for entry in os.scandir(self.path)}
        return [pair for pair in self._pairs() if _name(*pair) not in there]

    def _damaged(self) -> list[Pair]:
        """The blocks that are there, and not as they were written."""
        there = sorted(set(self._pairs()) - set(self._missing()))
        known = _checksums(self.path)
        return [pair for pair in progress(there, "checking blocks") if not self._is_intact(pair, known)]

    def _is_intact(self, pair: Pair, checksums: dict[str, str]) -> bool:
        """Whether a block's file has the checksum that was written beside it; missing ones are not wrong."""
        try:
            with open(self.path / _name(*pair), "rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == checksums.get(_name(*pair))
        except FileNotFoundError:
            return True
        except OSError as error:
            raise StorageError(
                f"Expected to read {self.path / _name(*pair)}; got: {reason_of(error)}. Remove that file if it cannot "
                "be read: it is computed again."
            ) from error

    def _shape_of(self, i: int, j: int) -> tuple[int, ...]:
        shape = list(self.shape)
        for side, index in ((0, i), (1, j)):
            bounds = self._bounds(side, index)
            shape[EXAMPLE_AXES[self.outputs][side]] = bounds.stop - bounds.start
        return tuple(shape)

    def _num_examples(self, side: int) -> int:
        return self.shape[EXAMPLE_AXES[self.outputs][side]]

    def _num_blocks(self, side: int) -> int:
        return -(-self._num_examples(side) // self.block_shape[side])

    def _bounds(self, side: int, index: int) -> slice:
        """The examples of one side of a block."""
        length = self.block_shape[side]
        return slice(index * length, min((index + 1) * length, self._num_examples(side)))

    def _entries(self, side: int, index: int) -> slice:
        """The rows or columns of the matrix that a block fills."""
        bounds, o = self._bounds(side, index), self._matrix_size(side) // self._num_examples(side)
        return slice(bounds.start * o, bounds.stop * o)

    def _matrix_size(self, side: int) -> int:
        return self._num_examples(side) * (self.shape[1] if self.outputs == "all" else 1)

    def _wide_dtype(self) -> np.dtype:
        return np.promote_types(self.dtype, np.float32)  # narrower sums lose all their digits

    def _require_matrix(self, what: str) -> None:
        if self.outputs == "each":
            raise InputError(
                f"Expected one matrix, of outputs 'mean', 'sum' or 'all', for {what}; got outputs='each', one an "
                "output. Use store.diagonal(), store.rows(start, stop) or numpy.asarray(store)."
            )


def kernel_on_disk(
    path: str | Path, kernel: Kernel, x1: ArrayLike, x2: ArrayLike | None = None, *, rows: int | None = None
) -> KernelOnDisk:
    """The Gram matrix `kernel(x1, x2)` in the folder `path`, computed as far as it is not there yet.

    `x1` `(n, ...)` and `x2` `(m, ...)` may be `numpy.memmap`s: they are read piece by piece. `rows` is how many
    examples a side of a block has at most; by default as many as the kernel's memory budget allows, and not more than
    make a block of 64 MiB in float32. Beside the kernel's own budget one block is held in memory. Costs what
    `kernel(x1, x2)` does, and reading each time what is there already, to check it; `open_kernel` does not.

    The same call goes on where an earlier one was stopped or killed; a block that is damaged is computed again, with a
    warning. Several processes may make it at once, and each returns when the store is complete: a block is computed
    by one of them, and by another if that one dies. The folder has to lie on a file system with locks.

    Raises `InputError`, naming what differs, if the folder holds a kernel of other parameters, inputs, outputs or
    types; if blocks are missing, and it was begun by other versions, on another device or with another memory budget,
    which may round otherwise; and if it holds something else. A function `f` cannot be compared: its kernel of the
    first two and three inputs is, up to the square root of the precision. Raises `StorageError`, which is also an
    `OSError`, if the disk is full or fails: what is finished stays, and the same call goes on. Raises `InputError` on
    a block with NaN.
    """
    folder = _checked_path(path)
    if not isinstance(kernel, Kernel):
        raise InputTypeError(
            f"Expected a kernel, e.g. empirical_ntk(f, params); got {type(kernel).__name__}. "
            "An array is saved by ntkbias.save or numpy.save."
        )
    if rows is not None:
        require_positive("rows", rows)
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
        there = manifests.begun(folder, here | passes)
    manifests.require_same_kernel(folder, there, here)
    store = _opened(folder, there)
    _require_rows(store, sides, rows)
    _remove_damaged(store)
    if missing := store._missing():
        manifests.require_same_versions(folder, there, here)
        _require_budget(store, kernel, sides, rows, there["pass_rows"])
        _require_space(store, missing)
        _fill(store, kernel, inputs1.x, None if inputs2 is None else inputs2.x)
    _finish(store)
    return store


def open_kernel(path: str | Path) -> KernelOnDisk:
    """The kernel that `kernel_on_disk(path, ...)` computed, to read; its blocks are not checked, see `verify`.

    Raises `InputError` if there is none, or if blocks are missing.
    """
    folder = _checked_path(path)
    manifest = manifests.manifest_of(folder)
    if manifest is None:
        raise InputError(f"Expected a kernel on disk at {folder}; there is none. Make it by kernel_on_disk.")
    store = _opened(folder, manifest)
    if missing := store._missing():
        raise InputError(
            f"Expected a complete kernel in {folder}; {len(missing)} of {len(store._pairs())} blocks are missing. "
            "Call kernel_on_disk with the same path, kernel and inputs: it computes those alone."
        )
    return store


def _checked_path(path: Any) -> Path:
    if not isinstance(path, str | Path) or not str(path).strip() or "\0" in str(path):
        raise InputTypeError(f"Expected the path of a folder; got {path!r}.")
    return Path(path)


def _opened(folder: Path, manifest: dict[str, Any]) -> KernelOnDisk:
    rows, columns = manifest["block_shape"]
    return KernelOnDisk(
        path=folder,
        outputs=manifest["outputs"],
        shape=tuple(manifest["shape"]),
        dtype=jnp.dtype(manifest["dtype"]),
        block_shape=(rows, columns),
        symmetric=manifest["symmetric"],
    )


def _default_rows(kernel: Kernel, sides: tuple[np.ndarray, np.ndarray], shape: list[int]) -> int:
    entries = math.prod(shape) // math.prod(len(x) for x in sides)  # of one pair of examples
    return max(1, min(kernel.block_rows(jnp.asarray(sides[0][:1])), math.isqrt(MAX_ENTRIES // entries)))


def _pass_rows(kernel: Kernel, sides: tuple[np.ndarray, np.ndarray], block_shape: Sequence[int]) -> list[int]:
    """Of how many examples the features of each side of a block are computed at once."""
    most = kernel.pass_rows(jnp.asarray(sides[0][:1]))
    return [Tiles(np.empty(length, np.bool_), most).rows for length in block_shape]


def _require_rows(store: KernelOnDisk, sides: tuple[np.ndarray, np.ndarray], rows: int | None) -> None:
    """Raise an `InputError` if blocks are to have other rows than they have."""
    if rows is not None and tuple(Tiles(x, rows).rows for x in sides) != store.block_shape:
        raise InputError(
            f"Expected rows={max(store.block_shape)}, as in {store.path}, to go on with it; got {rows}. Leave rows "
            "out, or choose another folder."
        )


def _require_budget(
    store: KernelOnDisk,
    kernel: Kernel,
    sides: tuple[np.ndarray, np.ndarray],
    rows: int | None,
    pass_rows: list[int],
) -> None:
    """Raise an `InputError` if blocks do not fit the kernel's budget, or would be computed in other passes by it."""
    largest, fitting = max(store.block_shape), kernel.block_rows(jnp.asarray(sides[0][:1]))
    if rows is None and fitting < largest:
        raise InputError(
            f"Expected a memory budget for the blocks of {largest} rows in {store.path}; got one for {fitting}. Raise "
            "the kernel's memory_budget, or choose another folder."
        )
    here = _pass_rows(kernel, sides, store.block_shape)
    if here != pass_rows:
        raise InputError(
            f"Expected the memory budget with which {store.path} was begun, for passes of {max(pass_rows)} rows; got "
            f"one for {max(here)}, which may round otherwise. Give the kernel that memory_budget, or choose another "
            "folder."
        )


def _require_space(store: KernelOnDisk, missing: list[Pair]) -> None:
    needed = sum(math.prod(store._shape_of(*pair)) * store.dtype.itemsize for pair in missing)
    free = shutil.disk_usage(store.path).free
    if needed > free:
        failure = StorageError(
            f"Expected {needed / 2**30:.3g} GiB of free space for the {len(missing)} missing blocks in {store.path}; "
            f"got {free / 2**30:.3g} GiB. Make room on that disk, or choose a folder on another."
        )
        failure.errno = errno.ENOSPC
        raise failure


def _remove_damaged(store: KernelOnDisk) -> None:
    """Remove the blocks that are not as they were written, with a warning: they are missing then."""
    for pair in store._damaged():
        path = store.path / _name(*pair)
        with claimed(path, wait=True):
            if store._is_intact(pair, _checksums(store.path)):  # mended by another process
                continue
            with storage_errors(path):
                path.unlink(missing_ok=True)
        warnings.warn(
            f"Expected {path} as it was written; got another checksum. It is computed again: check that disk.",
            stacklevel=3,
        )


def _fill(store: KernelOnDisk, kernel: Kernel, x1: np.ndarray, x2: np.ndarray | None) -> None:
    """Compute the blocks that no other process does, until none is missing."""
    first = Tiles(x1, store.block_shape[0])
    second = None if x2 is None else Tiles(x2, store.block_shape[1])
    workers = kernel.workers()
    absent = set(store._missing())
    missing = dict.fromkeys(pair for pair in pairs_of(first, second) if pair in absent)
    held: dict[Pair, Claim] = {}

    def claimed_pairs() -> Iterator[Pair]:
        for pair in list(missing):
            path = store.path / _name(*pair)
            if not path.exists() and (right := claim(path)) is not None:
                held[pair] = right
                if not path.exists():  # not finished just before
                    yield pair
                    continue
                held.pop(pair).release()
            if path.exists():
                finish(pair)

    def finish(pair: Pair) -> None:
        del missing[pair]
        bar.update()

    total = len(store._pairs())
    with progress(None, "kernel blocks on disk", unit="block", total=total, initial=total - len(missing)) as bar:
        try:
            while missing:
                for pair, block in blocks(workers, first, second, claimed_pairs()):
                    _write_block(store, pair, np.asarray(block), held[pair])
                    held.pop(pair).release()
                    finish(pair)
                if missing:  # in the hands of others; if those die, in nobody's
                    time.sleep(PATIENCE)
        finally:
            for right in held.values():
                right.release()


def _write_block(store: KernelOnDisk, pair: Pair, block: np.ndarray, right: Claim) -> None:
    """Write a block without the rows that fill up the last pieces, and its checksum beside it."""
    block = np.ascontiguousarray(block[tuple(slice(size) for size in store._shape_of(*pair))])
    if not np.isfinite(block).all():
        rows, columns = (store._bounds(side, index) for side, index in enumerate(pair))
        raise InputError(
            f"Expected finite values of the kernel; got NaN or infinity for the inputs {rows.start} to {rows.stop - 1} "
            f"with {columns.start} to {columns.stop - 1}. Check the scale of inputs and parameters, or use float64."
        )
    header, data = _header(block), block.reshape(-1).view(np.uint8).data
    digest = hashlib.sha256(header)
    digest.update(data)

    def write_checksum() -> None:
        with claimed(right.path.with_name(right.path.name + CHECKSUM), wait=True) as beside:
            if beside is not None:
                beside.write(f"{digest.hexdigest()}\n".encode())

    right.write(header, data, before=write_checksum)  # before: so that no block is seen without its checksum


def _header(block: np.ndarray) -> bytes:
    """What its `.npy` file begins with; a type that NumPy's files do not know, as bfloat16, is bytes there."""
    dtype = np.dtype(f"V{block.dtype.itemsize}") if block.dtype.kind == "V" else block.dtype
    header = io.BytesIO()
    description = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": block.shape}
    np.lib.format.write_array_header_1_0(header, description)
    return header.getvalue()


def _name(i: int, j: int) -> str:
    return f"{i:04}-{j:04}.npy"


def _checksums(folder: Path) -> dict[str, str]:
    """The checksum of each block by its name: those beside new blocks, and those in the manifest."""
    fresh = {}
    for name in os.listdir(folder):
        if name.endswith(CHECKSUM):
            with contextlib.suppress(FileNotFoundError):  # it has moved into the manifest, which is read after
                fresh[name.removesuffix(CHECKSUM)] = (folder / name).read_text().strip()
    manifest = manifests.manifest_of(folder) or {}
    return dict(sorted((manifest.get("sha256", {}) | fresh).items()))


def _finish(store: KernelOnDisk) -> None:
    """Move the checksums into the manifest, and remove what a complete store does not need."""
    names = os.listdir(store.path)
    checksums = _checksums(store.path)
    manifest = manifests.manifest_of(store.path)
    if manifest is not None and manifest.get("sha256") != checksums:
        manifests.rewrite(store.path, manifest | {"sha256": checksums})
    for name in names:
        path = store.path / name
        if name.endswith(CHECKSUM):
            with storage_errors(path):
                path.unlink(missing_ok=True)
        elif name.endswith(PART):  # of a process that died: those of others are locked
            with claimed(path.with_name(name.removesuffix(PART))):
                pass
