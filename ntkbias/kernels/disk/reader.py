"""GramOnDisk: a Gram matrix in a folder, which is read block by block.

A store is a folder. `manifest.json` describes the matrix, and each block is one `.npy` file. If both sets of inputs are
the same, only the upper triangle is stored. Blocks are written atomically. So if a process ends for any reason, the
same call computes the missing blocks. Several processes fill one store if each makes that call, also on several
machines that share the folder. A complete store is the same byte for byte, whichever process computed which block.
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
    "store_in",
]

DIGITS = 64  # of a checksum
MOST_HEADER = 2**16  # bytes of a block's file before its numbers

Pair = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class GramOnDisk:
    """A Gram matrix in a folder, which is read block by block. `gram_on_disk` and `open_gram` make it.

    `shape` is the shape of `kernel(x1, x2)`. `numpy.asarray(store)` reads the whole matrix. `store[i]`, `store[i:j]`
    and `store.rows(i, j)` read only the blocks of these rows. `store @ vectors` and `to_scipy()` multiply by it.

    >>> import jax, tempfile, ntkbias as nb
    >>> store = nb.gram_on_disk(tempfile.mkdtemp() + "/K", nb.infinite_ntk(nb.nets.mlp(depth=1)), jax.numpy.eye(4))
    >>> store.shape, store[:2].shape
    ((4, 4), (2, 4))
    """

    path: Path
    outputs: Outputs
    shape: tuple[int, ...]
    dtype: np.dtype
    block_shape: tuple[int, int]  # examples of x1 and of x2 per block; the last blocks may have fewer
    symmetric: bool  # whether x2 is x1; then the lower triangle is read from the upper one

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("Expected copy=True or None; got copy=False. A Gram matrix on disk is copied to memory.")
        matrix = self.rows(0, self._num_examples(0))
        return matrix if dtype is None else matrix.astype(dtype, copy=False)

    def __getitem__(self, index: Any) -> np.ndarray | np.generic:
        """Read one row, or a slice of rows with step one. Further indices apply to these rows as in NumPy."""
        first, *rest = index if isinstance(index, tuple) else (index,)
        if self.outputs == "each":
            raise InputError(
                "Expected a Gram matrix with examples on its first axis for an index; got outputs='each', (o, n, m). "
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
            f"Expected the index of a row, or a slice of rows with step one; got {first!r}. "
            "Use numpy.asarray(store)[...], which reads the whole matrix."
        )

    def rows(self, start: int, stop: int) -> Shaped[np.ndarray, "..."]:
        """The rows of the examples `start` to `stop - 1` of x1, with the same axes as the whole matrix.

        Reads only the blocks of these rows. Memory holds the result, and maps one block at a time.
        """
        axis, other = arrangement(self.outputs).axes
        if not 0 <= start <= stop <= self.shape[axis]:
            raise InputError(f"Expected rows between 0 and {self.shape[axis]}; got {start} to {stop}.")
        strip = np.empty([stop - start if a == axis else size for a, size in enumerate(self.shape)], self.dtype)
        target, source = [[slice(None)] * self.ndim for _ in range(2)]
        for i in range(start // self.block_shape[0], -(-stop // self.block_shape[0]) if start < stop else 0):
            block = self.bounds(0, i)
            part = slice(max(start, block.start), min(stop, block.stop))
            target[axis] = slice(part.start - start, part.stop - start)
            source[axis] = slice(part.start - block.start, part.stop - block.start)
            for j in range(self._num_blocks(1)):
                target[other] = self.bounds(1, j)
                strip[tuple(target)] = self._block(i, j)[tuple(source)]
        return strip

    def diagonal(self) -> Shaped[np.ndarray, "..."]:
        """The kernel of each example with itself: `(n,)`, or `(o, n)` for outputs="each" and `(n, o)` for "all".

        Reads one page of memory per entry, from the blocks on the diagonal. Raises `InputError` if x2 is not x1.
        """
        if not self.symmetric:
            raise InputError("Expected the Gram matrix of one set of inputs for a diagonal; got one of x1 and x2.")
        rule = arrangement(self.outputs).diagonal
        parts = [np.einsum(rule, self._block(i, i)) for i in range(self._num_blocks(0))]
        return np.concatenate(parts, axis=arrangement(self.outputs).axes[0])

    def trace(self) -> float:
        """The sum of the diagonal. For outputs="all" it is the trace of the matrix `(n o, n o)`."""
        self._require_matrix("trace")
        return float(np.sum(self.diagonal(), dtype=float))

    def __matmul__(self, vectors: ArrayLike) -> Float[np.ndarray, "n *t"]:
        """The matrix times `(m,)` or `(m, t)`. For outputs="all" it is the matrix `(n o, m o)` times `(m o, ...)`.

        Reads each stored block once. Products use the wider type of matrix and vectors, and float32 at least.
        """
        return self._product(vectors, adjoint=False)

    def to_scipy(self) -> Any:
        """The matrix as a linear operator of SciPy, for `eigsh`, `cg` and the like.

        Its shape is `(n, m)`, or `(n o, m o)` for outputs="all". Each product reads all stored blocks once.
        """
        self._require_matrix("to_scipy")

        def product(vectors: Any) -> np.ndarray:
            return self._product(vectors, adjoint=False)

        def adjoint(vectors: Any) -> np.ndarray:
            return self._product(vectors, adjoint=True)

        shape = self._matrix_size(0), self._matrix_size(1)
        import scipy.sparse.linalg  # here, because the import is slow and few need it

        return scipy.sparse.linalg.LinearOperator(
            shape, matvec=product, rmatvec=adjoint, matmat=product, rmatmat=adjoint, dtype=self._wide_dtype()
        )

    def verify(self) -> None:
        """Read every block, and raise a `StorageError` that names the missing and the damaged ones."""
        bad = listed(block_name(*pair) for pair in [*self.missing(), *self.damaged()])
        if bad:
            raise StorageError(
                f"Expected the blocks in {self.path} as they were written; got damaged or missing ones: {bad}. "
                "Call gram_on_disk with the same arguments: it computes these blocks again."
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
        """Map one block from its file, or from the file of its transpose."""
        if self.symmetric and i > j:
            return self._block(j, i).transpose(arrangement(self.outputs).transposed)
        file = self.path / block_name(i, j)
        try:
            if not file.is_file():  # opening a pipe would wait forever
                raise ValueError("no file" if not os.path.lexists(file) else "no plain file")
            block = np.load(file, mmap_mode="r", allow_pickle=False)
            block = block.view(self.dtype) if block.dtype.kind == "V" else block  # types that .npy files do not know
            if (block.shape, block.dtype) != (self.shape_of(i, j), self.dtype):
                raise ValueError(f"it holds {block.dtype} of shape {block.shape}")
            return block
        except (OSError, ValueError, EOFError) as error:
            raise StorageError(
                f"Expected a block of {self.dtype} of shape {self.shape_of(i, j)} in {file}; got: "
                f"{reason_of(error)}. Call gram_on_disk with the same arguments: it computes that block again."
            ) from error

    def pairs(self) -> list[Pair]:
        """The indices of all blocks of the store, finished or not."""
        columns = range(self._num_blocks(1))
        return [(i, j) for i in range(self._num_blocks(0)) for j in columns if j >= i or not self.symmetric]

    def missing(self) -> list[Pair]:
        """The indices of the blocks that no process has finished."""
        there = {entry.name for entry in os.scandir(self.path)}
        return [pair for pair in self.pairs() if block_name(*pair) not in there]

    def damaged(self) -> list[Pair]:
        """The indices of the blocks that are present but differ from what was written. Reads every block."""
        there = sorted(set(self.pairs()) - set(self.missing()))
        known = checksums_in(self.path)
        return [pair for pair in progress(there, "checking blocks") if not self.is_intact(pair, known)]

    def is_intact(self, pair: Pair, checksums: dict[str, str]) -> bool:
        """Whether a block's file has the checksum that was recorded for it. A missing file counts as intact."""
        path = self.path / block_name(*pair)
        try:
            if not path.is_file():
                return not os.path.lexists(path)
            if path.stat().st_size > math.prod(self.shape_of(*pair)) * self.dtype.itemsize + MOST_HEADER:
                return False  # without reading a file of any length
            with open(path, "rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == checksums.get(block_name(*pair))
        except FileNotFoundError:
            return True
        except OSError as error:
            raise StorageError(
                f"Expected to read {path}; got: {reason_of(error)}. If it stays unreadable, remove that file: the "
                "block is then computed again."
            ) from error

    def shape_of(self, i: int, j: int) -> tuple[int, ...]:
        """The shape of one block."""
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
        """The range of examples that a block covers on one side, 0 or 1."""
        length = self.block_shape[side]
        return slice(index * length, min((index + 1) * length, self._num_examples(side)))

    def _entries(self, side: int, index: int) -> slice:
        """The range of rows (side 0) or columns (side 1) of the matrix that a block covers."""
        bounds, o = self.bounds(side, index), self._matrix_size(side) // self._num_examples(side)
        return slice(bounds.start * o, bounds.stop * o)

    def _matrix_size(self, side: int) -> int:
        return self._num_examples(side) * rows_per_example(self.shape[1], self.outputs)

    def _wide_dtype(self) -> np.dtype:
        return np.promote_types(self.dtype, np.float32)  # sums in narrower types lose too many digits

    def _require_matrix(self, what: str) -> None:
        if self.outputs == "each":
            raise InputError(
                f"Expected a single matrix, with outputs 'mean', 'sum' or 'all', for {what}; got outputs='each', one "
                "matrix per output. Use store.diagonal(), store.rows(start, stop) or numpy.asarray(store)."
            )


def open_gram(path: str | Path) -> GramOnDisk:
    """Open the Gram matrix that `gram_on_disk(path, ...)` computed, to read it.

    It does not check the contents of blocks; `verify` does. Raises `InputError` if the folder holds no Gram matrix, or
    if blocks are missing.

    >>> import pathlib, tempfile, jax.numpy as jnp, ntkbias as nb
    >>> folder = pathlib.Path(tempfile.mkdtemp()) / "gram"
    >>> store = nb.gram_on_disk(folder, nb.infinite_ntk(nb.nets.mlp(depth=1)), jnp.eye(5), rows=2)
    >>> store.shape, store[1:3].shape, (store @ jnp.ones(5)).shape
    ((5, 5), (2, 5), (5,))
    >>> nb.open_gram(folder).trace() == store.trace()
    True
    """
    folder = checked_path(path)
    manifest = manifest_of(folder)
    if manifest is None:
        raise InputError(f"Expected a Gram matrix on disk at {folder}; there is none. Make one by gram_on_disk.")
    store = store_in(folder, manifest)
    if missing := store.missing():
        raise InputError(
            f"Expected a complete Gram matrix in {folder}; {len(missing)} of {len(store.pairs())} blocks are missing. "
            "Call gram_on_disk with the same path, kernel and inputs: it computes only these blocks."
        )
    return store


def checked_path(path: Any) -> Path:
    """The path of a folder as a `Path`. Raises `InputTypeError` on anything but a path."""
    if not isinstance(path, str | Path) or not str(path).strip() or "\0" in str(path):
        raise InputTypeError(f"Expected the path of a folder; got {path!r}.")
    return Path(path)


def store_in(folder: Path, manifest: dict[str, Any]) -> GramOnDisk:
    """The store in a folder with this manifest."""
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
    """The name of the file of block (i, j)."""
    return f"{i:04}-{j:04}.npy"


def checksums_in(folder: Path) -> dict[str, str]:
    """The checksum of each block by the name of its file, from the files beside new blocks and from the manifest."""
    fresh = {}
    for name in os.listdir(folder):
        if is_checksum(name) and (folder / name).is_file():
            with contextlib.suppress(FileNotFoundError), open(folder / name, "rb") as file:
                # If another process removes the file now, its checksum is in the manifest, which is read later.
                fresh[name.removesuffix(CHECKSUM)] = file.read(2 * DIGITS).decode("latin-1").strip()
    manifest = manifest_of(folder) or {}
    return dict(sorted((manifest.get("sha256", {}) | fresh).items()))
