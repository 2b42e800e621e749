"""A kernel on given inputs as a linear operator: products K v, and never the matrix.

Rows are examples; for `outputs="all"` examples times outputs, of which the output runs fastest. Operators add, scale,
and centre. Made by `kernel.operator(x)`: an empirical NTK multiplies by its Jacobian (`jacobian.py`), other kernels by
their blocks, each computed, used and forgotten. `as_operator` takes matrices, stores on disk and SciPy's operators.

>>> import jax.numpy as jnp, ntkbias as nb
>>> kernel = nb.infinite_ntk(nb.nets.mlp(depth=1))
>>> operator = kernel.operator(jnp.eye(3)) + 0.5 * nb.as_operator(jnp.eye(3))
>>> operator.shape, bool(jnp.allclose(operator @ jnp.ones(3), kernel(jnp.eye(3)) @ jnp.ones(3) + 0.5))
((3, 3), True)
"""

import abc
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse.linalg
from jax.experimental import multihost_utils
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from ntkbias.checks import require_array, require_finite, require_weights
from ntkbias.errors import InputError, InputTypeError
from ntkbias.kernels import tiles

if TYPE_CHECKING:
    from ntkbias.kernels.kernel import Kernel

__all__ = ["KernelOperator", "as_operator", "block_operator"]

DIAGONAL_ROWS = 8  # of a block of which the diagonal alone is used


class KernelOperator(abc.ABC):
    """A symmetric matrix over examples, times outputs, known by its products with vectors.

    `operator @ v` takes a vector `(rows,)` or a block `(rows, k)`: k vectors at once cost far less than k products.
    A subclass holds vectors as suits its devices: `pack` brings `(rows, k)` there, with the k vectors on the last axis
    and zeros wherever there is no row, and `unpack` brings them back.
    """

    def __init__(self, num_examples: int, num_outputs: int, dtype: Any) -> None:
        self.num_examples, self.num_outputs = num_examples, num_outputs
        self.dtype = np.dtype(dtype)
        self.source: tuple[Kernel, np.ndarray] | None = None  # the kernel and inputs that it is of, if it has them

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, rows)."""
        return self.num_examples * self.num_outputs, self.num_examples * self.num_outputs

    @abc.abstractmethod
    def product(self, vectors: Float[Array, "... k"]) -> Float[Array, "... k"]:
        """The matrix times packed vectors."""

    @abc.abstractmethod
    def diagonal(self) -> Float[np.ndarray, " rows"]:
        """The diagonal, exactly."""

    def matrix(self) -> Float[np.ndarray, "rows rows"]:
        """The matrix itself: by a product with the identity, where there is no shorter way."""
        return self.unpack(self.product(self.pack(np.eye(self.shape[0], dtype=self.dtype))))

    def pack(self, rows: Float[np.ndarray, "rows k"]) -> Float[Array, "... k"]:
        """Vectors where `product` takes them."""
        return jnp.asarray(rows)

    def unpack(self, vectors: Float[Array, "... k"]) -> Float[np.ndarray, "rows k"]:
        """Packed vectors on the host."""
        return np.asarray(vectors)

    def trace(self) -> float:
        """The sum of the diagonal."""
        return float(np.sum(self.diagonal(), dtype=np.float64))

    def __matmul__(self, vectors: ArrayLike) -> Float[np.ndarray, "rows *k"]:
        v = require_array(vectors, "the vectors")
        if v.ndim not in (1, 2) or len(v) != self.shape[1] or not v.size:
            raise InputError(
                f"Expected a vector ({self.shape[1]},) or a block ({self.shape[1]}, k); got shape {v.shape}. "
                "Rows are examples, times outputs for outputs='all': reshape (n, o) to (n * o,)."
            )
        require_finite(v, "the vectors")
        block = np.asarray(v, self.dtype).reshape(len(v), -1)
        result = self.unpack(self.product(self.pack(block))).reshape(v.shape)
        if not np.all(np.isfinite(result)):
            raise InputError(
                "Expected inputs at which the kernel is finite; got NaN or infinity in its product with the vectors. "
                "Check the scale of inputs, parameters and vectors."
            )
        return result

    def quadratic_forms(self, vectors: Float[np.ndarray, "rows k"]) -> Float[np.ndarray, " k"]:
        """v^T K v of each vector."""
        products = self.unpack(self.product(self.pack(vectors.astype(self.dtype))))
        return np.sum(vectors.astype(np.float64) * products, 0)

    def to_scipy(self) -> scipy.sparse.linalg.LinearOperator:
        """The operator for SciPy's solvers: `eigsh`, `cg`, `lobpcg`."""

        def times(vectors: np.ndarray) -> np.ndarray:
            return self @ vectors

        return scipy.sparse.linalg.LinearOperator(
            self.shape, matvec=times, matmat=times, rmatvec=times, rmatmat=times, dtype=self.dtype
        )

    def centered(self) -> "KernelOperator":
        """C K C, where C takes off each output's mean over the examples: the kernel of centred features."""
        return Centered(self)

    def weighted(self, weights: ArrayLike) -> "KernelOperator":
        """W^1/2 K W^1/2, for weights `(n,)` of the examples that are positive and sum to one."""
        return self.conjugated(np.sqrt(np.asarray(require_weights(weights, self.num_examples))))

    def conjugated(self, scales: Float[np.ndarray, " n"]) -> "KernelOperator":
        """D K D, for a diagonal D with one number an example."""
        return Conjugated(self, scales)

    def __add__(self, other: "KernelOperator") -> "KernelOperator":
        if not isinstance(other, KernelOperator):
            return NotImplemented
        if (self.num_examples, self.num_outputs) != (other.num_examples, other.num_outputs):
            sizes = [f"{op.num_examples} examples of {op.num_outputs} outputs" for op in (self, other)]
            raise InputError(f"Expected operators on the same rows to add; got {sizes[0]} and {sizes[1]}.")
        return Sum(self, other)

    def __mul__(self, factor: ArrayLike) -> "KernelOperator":
        if not isinstance(factor, int | float | np.number | np.ndarray | jax.Array) or np.ndim(factor):
            return NotImplemented
        require_finite(require_array(factor, "the factor of an operator"), "the factor of an operator")
        return Scaled(self, float(factor))

    __rmul__ = __mul__

    def __truediv__(self, divisor: ArrayLike) -> "KernelOperator":
        if np.ndim(divisor) == 0 and not np.asarray(divisor):
            raise InputError("Expected a divisor that is not zero; got 0.")
        return self * (1 / divisor)

    def __neg__(self) -> "KernelOperator":
        return self * -1.0

    def __sub__(self, other: "KernelOperator") -> "KernelOperator":
        return self + -other if isinstance(other, KernelOperator) else NotImplemented

    def __repr__(self) -> str:
        return f"{type(self).__name__} of shape {self.shape}, {self.dtype}"


class _Derived(KernelOperator):
    """An operator on another's vectors."""

    def __init__(self, operator: KernelOperator) -> None:
        super().__init__(operator.num_examples, operator.num_outputs, operator.dtype)
        self.operator = operator

    def pack(self, rows: np.ndarray) -> Array:
        return self.operator.pack(rows)

    def unpack(self, vectors: Array) -> np.ndarray:
        return self.operator.unpack(vectors)


class Scaled(_Derived):
    """An operator times a number."""

    def __init__(self, operator: KernelOperator, factor: float) -> None:
        super().__init__(operator)
        self.factor = factor
        if operator.source is not None:
            kernel, x = operator.source
            self.source = factor * kernel, x

    def product(self, vectors: Array) -> Array:
        return self.factor * self.operator.product(vectors)

    def diagonal(self) -> np.ndarray:
        return self.factor * self.operator.diagonal()


class Sum(_Derived):
    """The sum of two operators; vectors are held as the first holds them."""

    def __init__(self, operator: KernelOperator, other: KernelOperator) -> None:
        super().__init__(operator)
        self.dtype = np.result_type(operator.dtype, other.dtype)
        self.other = other

    def product(self, vectors: Array) -> Array:
        second = self.other.product(self.other.pack(self.unpack(vectors).astype(self.other.dtype)))
        first = self.operator.product(vectors.astype(self.operator.dtype))
        return first + self.pack(self.other.unpack(second).astype(self.dtype))

    def diagonal(self) -> np.ndarray:
        return self.operator.diagonal() + self.other.diagonal()


class Conjugated(_Derived):
    """D K D for a diagonal D."""

    def __init__(self, operator: KernelOperator, scales: np.ndarray) -> None:
        super().__init__(operator)
        self.scales = np.repeat(scales, self.num_outputs).astype(self.dtype)
        self.packed = operator.pack(self.scales[:, None])

    def product(self, vectors: Array) -> Array:
        return self.packed * self.operator.product(self.packed * vectors)

    def diagonal(self) -> np.ndarray:
        return self.scales**2 * self.operator.diagonal()

    def matrix(self) -> np.ndarray:
        return self.scales[:, None] * self.operator.matrix() * self.scales


class Centered(_Derived):
    """C K C for the projection C on what has mean zero over the examples, output by output."""

    def __init__(self, operator: KernelOperator) -> None:
        super().__init__(operator)
        constants = np.tile(np.eye(self.num_outputs, dtype=self.dtype), (self.num_examples, 1))
        self.constants = operator.pack(constants / self.num_examples**0.5)  # one an output, orthonormal

    def product(self, vectors: Array) -> Array:
        return _without(self.operator.product(_without(vectors, self.constants)), self.constants)

    def diagonal(self) -> np.ndarray:
        # (C K C)_ii = K_ii - 2 (K e)_i / n + e^T K e / n^2, for the vector e of ones of the row's output.
        products = self.operator.unpack(self.operator.product(self.constants)) / self.num_examples**0.5
        means = products.reshape(self.num_examples, self.num_outputs, -1)
        own = np.einsum("noo->no", means)
        return self.operator.diagonal() - (2 * own - own.mean(0)).ravel()


@jax.jit
def _without(vectors: Array, constants: Array) -> Array:
    """The part of the vectors that is orthogonal to the orthonormal constants."""
    flat, basis = vectors.reshape(-1, vectors.shape[-1]), constants.reshape(-1, constants.shape[-1])
    inner = jnp.matmul(basis.T, flat, precision="highest")
    return (flat - jnp.matmul(basis, inner, precision="highest")).reshape(vectors.shape)


class Matrix(KernelOperator):
    """A matrix `(rows, rows)` that is held in memory."""

    def __init__(self, matrix: Array, num_outputs: int = 1) -> None:
        super().__init__(len(matrix) // num_outputs, num_outputs, matrix.dtype)
        self.array = matrix

    def product(self, vectors: Array) -> Array:
        return _times(self.array, vectors)

    def diagonal(self) -> np.ndarray:
        return np.asarray(jnp.diagonal(self.array))

    def matrix(self) -> np.ndarray:
        return np.asarray(self.array)


@jax.jit
def _times(matrix: Array, vectors: Array) -> Array:
    return jnp.matmul(matrix, vectors, precision="highest")


class Products(KernelOperator):
    """A matrix known by a function of the host's blocks `(rows, k)`, and its diagonal by another."""

    def __init__(
        self,
        num_examples: int,
        num_outputs: int,
        dtype: Any,
        times: Callable[[np.ndarray], np.ndarray],
        diagonal: Callable[[], np.ndarray],
    ) -> None:
        super().__init__(num_examples, num_outputs, dtype)
        self.times, self.diagonal_of = times, diagonal

    def product(self, vectors: Array) -> Array:
        return jnp.asarray(self.times(np.asarray(vectors)).astype(self.dtype, copy=False))

    def diagonal(self) -> np.ndarray:
        return np.asarray(self.diagonal_of())


def as_operator(matrix: Any) -> KernelOperator:
    """A symmetric matrix in another form as a `KernelOperator`.

    `matrix` is an operator already, an array `(n, n)` or `(n, o, n, o)`, a kernel on disk, of which each product reads
    all blocks once, or SciPy's `LinearOperator`, whose diagonal costs a product with the identity, by blocks. That it
    is symmetric is not checked here; `top_modes` notices where it is not.

    Raises `InputTypeError` on anything else, and `InputError` on what is not square or holds NaN.
    """
    if isinstance(matrix, KernelOperator):
        return matrix
    if callable(getattr(matrix, "to_scipy", None)):  # a kernel on disk
        num_outputs = matrix.shape[1] if len(matrix.shape) == 4 else 1
        linear = matrix.to_scipy()
        _require_square(linear.shape)
        rows = linear.shape[0]
        return Products(
            rows // num_outputs, num_outputs, linear.dtype, lambda v: matrix @ v, lambda: matrix.diagonal().ravel()
        )
    if isinstance(matrix, scipy.sparse.linalg.LinearOperator):
        _require_square(matrix.shape)
        if np.issubdtype(matrix.dtype, np.complexfloating):
            raise InputTypeError(f"Expected an operator of real numbers; got {matrix.dtype}. Take its real part.")
        dtype = jax.dtypes.canonicalize_dtype(np.result_type(matrix.dtype, np.float32))
        return Products(matrix.shape[0], 1, dtype, matrix.matmat, lambda: _diagonal_by_products(matrix, dtype))
    if callable(matrix) or getattr(matrix, "ndim", None) is None:
        raise InputTypeError(
            "Expected a kernel on inputs: kernel.operator(x), a matrix (n, n), a kernel on disk or SciPy's "
            f"LinearOperator; got {type(matrix).__name__}."
        )
    array = require_array(matrix, "the matrix")
    if array.ndim not in (2, 4) or array.shape[: array.ndim // 2] != array.shape[array.ndim // 2 :] or not array.size:
        raise InputError(f"Expected a matrix (n, n), or (n, o, n, o) for all outputs; got shape {array.shape}.")
    require_finite(array, "the matrix")
    if not jnp.issubdtype(array.dtype, jnp.floating):
        array = array.astype(float)
    num_outputs = array.shape[1] if array.ndim == 4 else 1
    rows = len(array) * num_outputs
    return Matrix(array.reshape(rows, rows), num_outputs)


def block_operator(kernel: "Kernel", x: Any, num_outputs: int) -> KernelOperator:
    """Products from the kernel's blocks: half of the matrix is computed a product, and a block is held at a time.

    Of several processes each computes its share of the blocks.
    """
    pieces = tiles.Tiles(x, min(kernel.block_rows(jnp.asarray(x[:1])), len(x)))
    pairs = tiles.pairs_of(pieces, None)
    count = jax.process_count()
    share = pairs[jax.process_index() :: count]

    def entries(index: int) -> slice:
        bounds = pieces.bounds(index)
        return slice(bounds.start * num_outputs, bounds.stop * num_outputs)

    def times(vectors: np.ndarray) -> np.ndarray:
        result = np.zeros_like(vectors)
        for (i, j), block in tiles.blocks(kernel.workers(), pieces, None, share):
            rows, columns = entries(i), entries(j)
            gram = np.asarray(block).reshape(pieces.rows * num_outputs, -1)
            gram = gram[: rows.stop - rows.start, : columns.stop - columns.start]
            result[rows] += gram @ vectors[columns]
            if i != j:
                result[columns] += gram.T @ vectors[rows]
        return result if count == 1 else np.sum(multihost_utils.process_allgather(result), 0)

    def diagonal() -> np.ndarray:
        small = tiles.Tiles(x, min(DIAGONAL_ROWS, pieces.rows))
        found = [
            np.diagonal(np.asarray(block).reshape(small.rows * num_outputs, -1))
            for _, block in tiles.blocks(kernel.workers(), small, None, [(i, i) for i in range(len(small))])
        ]
        return np.concatenate(found)[: len(x) * num_outputs]

    # The type of the kernel: its inputs may be narrower than its parameters.
    gram = jax.eval_shape(lambda one: kernel.contract(kernel.features(one), None), jnp.asarray(x[:1]))
    dtype = jnp.result_type(gram.dtype, np.float32)
    return Products(len(x), num_outputs, dtype, times, diagonal)


def _require_square(shape: tuple[int, ...]) -> None:
    if len(shape) != 2 or shape[0] != shape[1]:
        raise InputError(
            f"Expected a square matrix, the kernel of inputs with themselves; got one of shape {shape}. "
            "Make it without x2."
        )


def _diagonal_by_products(matrix: scipy.sparse.linalg.LinearOperator, dtype: Any, columns: int = 64) -> np.ndarray:
    found = []
    for start in range(0, matrix.shape[0], columns):
        chosen = np.arange(start, min(start + columns, matrix.shape[0]))
        block = np.zeros((matrix.shape[0], len(chosen)), dtype)
        block[chosen, np.arange(len(chosen))] = 1
        found.append(matrix.matmat(block)[chosen, np.arange(len(chosen))])
    return np.concatenate(found)
