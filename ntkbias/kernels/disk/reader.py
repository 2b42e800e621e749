"""A Gram matrix on disk: blocks that are computed once, survive what kills a job, and are read back piece by piece.

A store is a folder: `manifest.json` says what it holds, and each block of the Gram matrix is one `.npy` file, of the
upper triangle alone where both sets of inputs are the same. A block appears under its name whole or not at all, so
the store resumes after any end of the process: the same call computes what is missing. Several processes, on machines
that share the folder, fill one store when each makes that call. A complete store depends on its contents alone: byte
for byte the same, whichever process computed which block, in whatever order.

>>> import pathlib, tempfile, jax.numpy as jnp, ntkbias as nb
>>> folder = pathlib.Path(tempfile.mkdtemp()) / "gram"
>>> store = nb.gram_on_disk(folder, nb.infinite_ntk(nb.nets.mlp(depth=1)), jnp.eye(5), rows=2)
>>> store.shape, store[1:3].shape, (store @ jnp.ones(5)).shape
((5, 5), (2, 5), (5,))
>>> nb.open_gram(folder).trace() == store.trace()
True
"""

import contextlib
import dataclasses
import hashlib
import math
import os
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float, Shaped

from ntkbias.checks import require_array
from ntkbias.errors import InputError, InputTypeError
from ntkbias.files import StorageError, reason_of
from ntkbias.kernels.disk.entries import CHECKSUM, is_checksum
from ntkbias.kernels.disk.manifest import listed, manifest_of
from ntkbias.kernels.outputs import arrangement, rows_per_example
from ntkbias.progress import progress
from ntkbias.types import Outputs

__all__ = [
    "GramOnDisk",
    "Pair",
    "block_name",
    "checked_path",
    "checksums_in",
    "open_gram",
    "opened",
]

DIGITS = 64  # of a checksum
MOST_HEADER = 2**16  # bytes before the numbers of a block, at most

Pair = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class GramOnDisk:
    """A Gram matrix in a folder; made by `gram_on_disk` and `open_gram`, read back piece by piece.

    `shape` is that of `kernel(x1, x2)`, and what is read is laid out like it: `numpy.asarray(store)` is all of it,
    `store[i]`, `store[i:j]` and `store.rows(i, j)` a strip, for which its own blocks alone are read.
    """

    path: Path
    outputs: Outputs
    shape: tuple[int, ...]
    dtype: np.dtype
    block_shape: tuple[int, int]  # examples of x1 and of x2 in a block; the last ones hold what remains
    symmetric: bool  # of x1 with itself: its lower triangle is read from the upper

    @property
    def ndim(self) -> int:
        """The number of axes of the array."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("Expected leave to copy; got copy=False. A Gram matrix on disk is copied to memory.")
        whole = self.rows(0, self._num_examples(0))
        return whole if dtype is None else whole.astype(dtype, copy=False)

    def __getitem__(self, index: Any) -> np.ndarray | np.generic:
        """One row, or a slice of rows of step one, and of those what NumPy's further indices choose."""
        first, *rest = index if isinstance(index, tuple) else (index,)
        if self.outputs == "each":
            raise InputError(
                "Expected a Gram matrix whose first axis is that of examples to index; got outputs='each', (o, n, m). "
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
        """The rows of the examples `start` .. `stop - 1` of x1, with all of x2, laid out as the whole is.

        Reads the blocks of these rows alone; holds the result, and maps one block at a time.
        """
        axis, other = arrangement(self.outputs).axes
        if not 0 <= start <= stop <= self.shape[axis]:
            raise InputError(f"Expected rows between 0 and {self.shape[axis]}; got {start} to {stop}.")
        strip = np.empty([stop - start if a == axis else size for a, size in enumerate(self.shape)], self.dtype)
        target, source = [[slice(None)] * self.ndim for _ in range(2)]
        for i in range(start // self.block_shape[0], -(-stop // self.block_shape[0]) if start < stop else 0):
            whole = self.bounds(0, i)
            part = slice(max(start, whole.start), min(stop, whole.stop))
            target[axis] = slice(part.start - start, part.stop - start)
            source[axis] = slice(part.start - whole.start, part.stop - whole.start)
            for j in range(self._num_blocks(1)):
                target[other] = self.bounds(1, j)
                strip[tuple(target)] = self._block(i, j)[tuple(source)]
        return strip

    def diagonal(self) -> Shaped[np.ndarray, "..."]:
        """The kernel of each example with itself: `(n,)`; `(o, n)` for outputs="each", `(n, o)` for "all".

        Reads a page of memory an entry, of the blocks on the diagonal.
        """
        if not self.symmetric:
            raise InputError("Expected the Gram matrix of one set of inputs, for its diagonal; got one of x1 and x2.")
        rule = arrangement(self.outputs).diagonal
        parts = [np.einsum(rule, self._block(i, i)) for i in range(self._num_blocks(0))]
        return np.concatenate(parts, axis=arrangement(self.outputs).axes[0])

    def trace(self) -> float:
        """The sum of the diagonal; for outputs="all" that of the matrix `(n o, n o)`."""
        self._require_matrix("trace")
        return float(np.sum(self.diagonal(), dtype=float))

    def __matmul__(self, vectors: ArrayLike) -> Float[np.ndarray, "n *t"]:
        """The matrix times `(m,)` or `(m, t)`; for outputs="all" the matrix `(n o, m o)` times `(m o, ...)`.

        Reads each stored block once. Products are taken in the wider type of both, float32 at least.
        """
        return self._product(vectors, adjoint=False)

    def to_scipy(self) -> Any:
        """The matrix as SciPy's linear operator, for `eigsh`, `cg` and the like: each product reads all blocks once.

        Of shape `(n, m)`, and `(n o, m o)` for outputs="all".
        """
        self._require_matrix("to_scipy")

        def product(vectors: Any) -> np.ndarray:
            return self._product(vectors, adjoint=False)

        def adjoint(vectors: Any) -> np.ndarray:
            return self._product(vectors, adjoint=True)

        shape = self._matrix_size(0), self._matrix_size(1)
        import scipy.sparse.linalg  # it takes long, and few need it

        return scipy.sparse.linalg.LinearOperator(
            shape, matvec=product, rmatvec=adjoint, matmat=product, rmatmat=adjoint, dtype=self._wide_dtype()
        )

    def verify(self) -> None:
        """Read every block, and raise a `StorageError` that names those missing or not as they were written."""
        bad = listed(block_name(*pair) for pair in [*self.missing(), *self.damaged()])
        if bad:
            raise StorageError(
                f"Expected the blocks in {self.path} as they were written; got damaged or missing ones: {bad}. "
                "Call gram_on_disk with the same arguments: it computes those again."
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
        for i, j in self.pairs():
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
            return self._block(j, i).transpose(arrangement(self.outputs).transposed)
        file = self.path / block_name(i, j)
        try:
            if not file.is_file():  # opening a pipe would wait for ever
                raise ValueError("no file" if not os.path.lexists(file) else "no plain file")
            block = np.load(file, mmap_mode="r", allow_pickle=False)
            block = block.view(self.dtype) if block.dtype.kind == "V" else block  # types that NumPy's files do not know
            if (block.shape, block.dtype) != (self.shape_of(i, j), self.dtype):
                raise ValueError(f"it holds {block.dtype} of shape {block.shape}")
            return block
        except (OSError, ValueError, EOFError) as error:
            raise StorageError(
                f"Expected a block of {self.dtype} of shape {self.shape_of(i, j)} in {file}; got: "
                f"{reason_of(error)}. Call gram_on_disk with the same arguments: it computes that block again."
            ) from error

    def pairs(self) -> list[Pair]:
        """The blocks that are stored."""
        columns = range(self._num_blocks(1))
        return [(i, j) for i in range(self._num_blocks(0)) for j in columns if j >= i or not self.symmetric]

    def missing(self) -> list[Pair]:
        """The blocks that no process has finished."""
        there = {entry.name for entry in os.scandir(self.path)}
        return [pair for pair in self.pairs() if block_name(*pair) not in there]

    def damaged(self) -> list[Pair]:
        """The blocks that are there, and not as they were written."""
        there = sorted(set(self.pairs()) - set(self.missing()))
        known = checksums_in(self.path)
        return [pair for pair in progress(there, "checking blocks") if not self.is_intact(pair, known)]

    def is_intact(self, pair: Pair, checksums: dict[str, str]) -> bool:
        """Whether a block's file has the checksum that was written beside it; missing ones are not wrong."""
        path = self.path / block_name(*pair)
        try:
            if not path.is_file():
                return not os.path.lexists(path)
            if path.stat().st_size > math.prod(self.shape_of(*pair)) * self.dtype.itemsize + MOST_HEADER:
                return False  # however long it is
            with open(path, "rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == checksums.get(block_name(*pair))
        except FileNotFoundError:
            return True
        except OSError as error:
            raise StorageError(
                f"Expected to read {path}; got: {reason_of(error)}. Remove that file if it cannot be read: it is "
                "computed again."
            ) from error

    def shape_of(self, i: int, j: int) -> tuple[int, ...]:
        shape = list(self.shape)
        for side, index in ((0, i), (1, j)):
            bounds = self.bounds(side, index)
            shape[arrangement(self.outputs).axes[side]] = bounds.stop - bounds.start
        return tuple(shape)

    def _num_examples(self, side: int) -> int:
        return self.shape[arrangement(self.outputs).axes[side]]

    def _num_blocks(self, side: int) -> int:
        return -(-self._num_examples(side) // self.block_shape[side])

    def bounds(self, side: int, index: int) -> slice:
        """The examples of one side of a block."""
        length = self.block_shape[side]
        return slice(index * length, min((index + 1) * length, self._num_examples(side)))

    def _entries(self, side: int, index: int) -> slice:
        """The rows or columns of the matrix that a block fills."""
        bounds, o = self.bounds(side, index), self._matrix_size(side) // self._num_examples(side)
        return slice(bounds.start * o, bounds.stop * o)

    def _matrix_size(self, side: int) -> int:
        return self._num_examples(side) * rows_per_example(self.shape[1], self.outputs)

    def _wide_dtype(self) -> np.dtype:
        return np.promote_types(self.dtype, np.float32)  # narrower sums lose all their digits

    def _require_matrix(self, what: str) -> None:
        if self.outputs == "each":
            raise InputError(
                f"Expected one matrix, of outputs 'mean', 'sum' or 'all', for {what}; got outputs='each', one an "
                "output. Use store.diagonal(), store.rows(start, stop) or numpy.asarray(store)."
            )


def open_gram(path: str | Path) -> GramOnDisk:
    """The Gram matrix that `gram_on_disk(path, ...)` computed, to read; its blocks are not checked, see `verify`.

    Raises `InputError` if there is none, or if blocks are missing.
    """
    folder = checked_path(path)
    manifest = manifest_of(folder)
    if manifest is None:
        raise InputError(f"Expected a Gram matrix on disk at {folder}; there is none. Make it by gram_on_disk.")
    store = opened(folder, manifest)
    if missing := store.missing():
        raise InputError(
            f"Expected a complete Gram matrix in {folder}; {len(missing)} of {len(store.pairs())} blocks are missing. "
            "Call gram_on_disk with the same path, kernel and inputs: it computes those alone."
        )
    return store


def checked_path(path: Any) -> Path:
    """The path of a folder, or an `InputTypeError`."""
    if not isinstance(path, str | Path) or not str(path).strip() or "\0" in str(path):
        raise InputTypeError(f"Expected the path of a folder; got {path!r}.")
    return Path(path)


def opened(folder: Path, manifest: dict[str, Any]) -> GramOnDisk:
    """The store of which this is the manifest."""
    rows, columns = manifest["block_shape"]
    return GramOnDisk(
        path=folder,
        outputs=manifest["outputs"],
        shape=tuple(manifest["shape"]),
        dtype=jnp.dtype(manifest["dtype"]),
        block_shape=(rows, columns),
        symmetric=manifest["symmetric"],
    )


def block_name(i: int, j: int) -> str:
    """The name of a block's file."""
    return f"{i:04}-{j:04}.npy"


def checksums_in(folder: Path) -> dict[str, str]:
    """The checksum of each block by its name: those beside new blocks, and those in the manifest."""
    fresh = {}
    for name in os.listdir(folder):
        if is_checksum(name) and (folder / name).is_file():
            with contextlib.suppress(FileNotFoundError), open(folder / name, "rb") as file:
                # Where it is not there, it has moved into the manifest, which is read after.
                fresh[name.removesuffix(CHECKSUM)] = file.read(2 * DIGITS).decode("latin-1").strip()
    manifest = manifest_of(folder) or {}
    return dict(sorted((manifest.get("sha256", {}) | fresh).items()))
