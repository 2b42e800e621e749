"""Products from the blocks of a kernel, which are computed anew for every product: for kernels without a cheaper way.

>>> import jax.numpy as jnp, numpy as np
>>> from ntkbias.kernels.evaluation import DevicePrograms
>>> inner_products = DevicePrograms(lambda x: x, lambda a, b: a @ (a if b is None else b).T)
>>> operator = BlockOperator([inner_products], np.eye(3, dtype=np.float32), rows=2, num_outputs=1, dtype=np.float32)
>>> (operator @ np.ones(3)).tolist()
[1.0, 1.0, 1.0]
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Array

from ntkbias.kernels.evaluation import DevicePrograms, blocks
from ntkbias.kernels.operators.operator import KernelOperator, Source
from ntkbias.kernels.tiles import Tiles, block_indices

__all__ = ["BlockOperator"]

DIAGONAL_ROWS = 8  # examples per side of the blocks from which only the diagonal is used


class BlockOperator(KernelOperator):
    """The kernel of inputs `x`, from the programs of each device. Each product computes half of the matrix.

    One block, of at most `rows` examples per side, is held per device at a time. If there are several processes, each
    computes its share.
    """

    def __init__(
        self,
        programs: Sequence[DevicePrograms],
        x: np.ndarray,
        rows: int,
        num_outputs: int,
        dtype: Any,
        source: Source | None = None,
    ) -> None:
        super().__init__(len(x), num_outputs, dtype, source)
        self.programs = programs
        self.pieces = Tiles(x, rows)

    def __getstate__(self) -> dict[str, Any]:  # programs belong to the devices of this process
        return {**vars(self), "programs": self.programs if self.source is None else None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if self.source is not None:
            self.programs = self.source.kernel.device_programs()

    def product(self, vectors: Array) -> Array:
        host = np.asarray(vectors)
        result = np.zeros_like(host)
        count, o = jax.process_count(), self.num_outputs
        share = block_indices(self.pieces, None)[jax.process_index() :: count]
        for (i, j), block in blocks(self.programs, self.pieces, None, share):
            rows, columns = self._entries(i), self._entries(j)
            gram = np.asarray(block).reshape(self.pieces.rows * o, -1)
            gram = gram[: rows.stop - rows.start, : columns.stop - columns.start]
            result[rows] += gram @ host[columns]
            if i != j:
                result[columns] += gram.T @ host[rows]
        total = result if count == 1 else np.sum(multihost_utils.process_allgather(result), 0)
        return jnp.asarray(total.astype(self.dtype, copy=False))

    def diagonal(self) -> np.ndarray:
        small = Tiles(self.pieces.x, min(DIAGONAL_ROWS, self.pieces.rows))
        found = [
            np.diagonal(np.asarray(block).reshape(small.rows * self.num_outputs, -1))
            for _, block in blocks(self.programs, small, None, [(i, i) for i in range(len(small))])
        ]
        return np.concatenate(found)[: self.shape[0]]

    def _entries(self, index: int) -> slice:
        """The rows of the matrix that belong to a piece."""
        bounds = self.pieces.bounds(index)
        return slice(bounds.start * self.num_outputs, bounds.stop * self.num_outputs)
