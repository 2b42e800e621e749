"""A kernel on inputs, known by its diagonal and some of its columns, which are computed in strips on the host."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from ntkbias.kernels import Kernel
from ntkbias.kernels.tiles import Tiles

__all__ = ["Problem", "epsilon_of", "inverse_root", "products", "root_of"]

STRIP_BYTES = 2**26  # size of one strip of columns in float64


@dataclasses.dataclass(frozen=True)
class Problem:
    """A kernel on inputs, known by its diagonal and its columns. Matrices on the host are `(n o, m o)`."""

    kernel: Kernel
    x: np.ndarray
    measure: np.ndarray  # (n,), float64
    diagonal: np.ndarray  # (n, o), float64

    @property
    def num_outputs(self) -> int:
        """The number of outputs, o: each input has o rows."""
        return self.diagonal.shape[1]

    def columns(self, chosen: np.ndarray, among: np.ndarray | None = None) -> Float[np.ndarray, "rows columns"]:
        """The kernel between all inputs (or those at the places `among`) and the chosen ones, computed in strips."""
        x, o = self.x if among is None else self.x[among], self.num_outputs
        # Each strip computes the features of the columns again, so strips are several times as long as wide.
        pieces = Tiles(x, min(len(x), max(4 * len(chosen), STRIP_BYTES // (8 * len(chosen) * o * o))))
        landmarks = self.x[chosen]
        found: Any = None
        for index in range(len(pieces)):
            bounds = pieces.bounds(index)
            block = np.asarray(self.kernel(pieces[index], landmarks)).reshape(pieces.rows * o, -1)
            if found is None:
                found = np.empty((len(x) * o, block.shape[1]), block.dtype)
            found[bounds.start * o : bounds.stop * o] = block[: (bounds.stop - bounds.start) * o]
        return found

    def rows(self, chosen: np.ndarray) -> Int[np.ndarray, " rows"]:
        """The row numbers of the chosen inputs."""
        return (chosen[:, None] * self.num_outputs + np.arange(self.num_outputs)).ravel()

    def missing(self, columns: np.ndarray, root: np.ndarray) -> Float[np.ndarray, "n o"]:
        """The diagonal of K - K_S, for K_S = F F^T with the landmarks' features F = columns @ root."""
        squares = [np.sum(strip**2, 1) for _, strip in products(columns, root)]
        return np.maximum(self.diagonal - np.concatenate(squares).reshape(self.diagonal.shape), 0)


def products(columns: np.ndarray, matrix: np.ndarray) -> Iterator[tuple[slice, Float[np.ndarray, "rows r"]]]:
    """Yield the product of columns with a matrix in float64, as pairs of a slice of rows and the strip for it."""
    length = max(1, STRIP_BYTES // (8 * max(1, columns.shape[1])))
    for start in range(0, len(columns), length):
        place = slice(start, start + length)
        yield place, columns[place].astype(np.float64) @ matrix


def inverse_root(block: np.ndarray, floor: float) -> Float[np.ndarray, "rows r"]:
    """R such that R R^T is the inverse of a symmetric matrix, restricted to eigenvalues above `floor`.

    Eigenvalues below `floor` are rounding. Dividing by them would magnify errors in the columns. Adding a multiple of
    the identity instead would lower all eigenvalues.
    """
    values, vectors = np.linalg.eigh((block + block.T) / 2)
    kept = values > floor
    return vectors[:, kept] / np.sqrt(values[kept])


def root_of(problem: Problem, chosen: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The inverse root of the kernel between the landmarks, to the precision of the columns."""
    own = columns[problem.rows(chosen)].astype(np.float64)
    return inverse_root(own, epsilon_of(columns) * float(np.linalg.norm(own)))


def epsilon_of(columns: np.ndarray) -> float:
    """The relative rounding error of eigenvalues: that of the kernel's type plus that of float64."""
    return float(jnp.finfo(columns.dtype).eps) + float(np.finfo(np.float64).eps)
