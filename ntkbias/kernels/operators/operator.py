"""The interface of a kernel on given inputs as a linear operator, which computes products K v and no matrix.

Rows are examples, or for `outputs="all"` examples times outputs; the output runs fastest. Operators can be added,
scaled and centered. A subclass says how to compute products.

>>> import jax.numpy as jnp, ntkbias as nb
>>> kernel = nb.infinite_ntk(nb.nets.mlp(depth=1))
>>> operator = kernel.operator(jnp.eye(3)) + 0.5 * nb.kernels.as_operator(jnp.eye(3))
>>> operator.shape, bool(jnp.allclose(operator @ jnp.ones(3), kernel(jnp.eye(3)) @ jnp.ones(3) + 0.5))
((3, 3), True)
"""

import abc
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from ntkbias.checks import require_array, require_finite, require_weights
from ntkbias.errors import InputError

__all__ = ["MANY_PRODUCTS", "Centered", "Conjugated", "KernelOperator", "Scaled", "Source", "Sum"]

MANY_PRODUCTS = 16  # the default number of expected products: about what an iterative solver takes


class Source(NamedTuple):
    """The kernel and the inputs from which an operator was made. Operators pass them on, and never evaluate them."""

    kernel: Any
    x: np.ndarray

    def scaled(self, factor: float) -> "Source":
        """The source of the operator times a number: the scaled kernel on the same inputs."""
        return Source(factor * self.kernel, self.x)


class KernelOperator(abc.ABC):
    """A symmetric matrix over examples (times outputs), known by its products with vectors.

    `operator @ v` takes a vector `(rows,)` or a block `(rows, k)`. A block of k vectors costs far less than k products.
    A subclass chooses how its devices hold vectors: `pack` brings `(rows, k)` into that form, with the k vectors on the
    last axis and zeros as padding, and `unpack` brings them back. `definite` says that no eigenvalue is below zero, as
    for every kernel; functions that rely on it refuse a negative one.

    >>> import ntkbias as nb
    >>> circle = nb.domains.Circle()
    >>> x, weights = circle.quadrature(16)
    >>> operator = nb.infinite_ntk(nb.nets.mlp(depth=1, b_std=0.1)).operator(x)
    >>> operator.shape, (operator @ x).shape, operator.diagonal().shape
    ((16, 16), (16, 2), (16,))
    """

    definite = True
    meaning_of_rows = "Rows are examples, times outputs for outputs='all': reshape (n, o) to (n * o,)."

    def __init__(self, num_examples: int, num_outputs: int, dtype: Any, source: Source | None = None) -> None:
        self.num_examples, self.num_outputs = num_examples, num_outputs
        self.dtype = np.dtype(dtype)
        self.epsilon = float(jnp.finfo(self.dtype).eps)  # of the type in which the entries were computed
        self.source = source

    @property
    def shape(self) -> tuple[int, int]:
        """The shape (rows, rows)."""
        return self.num_examples * self.num_outputs, self.num_examples * self.num_outputs

    @abc.abstractmethod
    def product(self, vectors: Float[Array, "... k"]) -> Float[Array, "... k"]:
        """The matrix times packed vectors."""

    @abc.abstractmethod
    def diagonal(self) -> Float[np.ndarray, " rows"]:
        """The diagonal, exactly."""

    def matrix(self) -> Float[np.ndarray, "rows rows"]:
        """The matrix itself. Costs a product with the identity, unless a subclass has a cheaper way."""
        return self.unpack(self.product(self.pack(np.eye(self.shape[0], dtype=self.dtype))))

    def pack(self, rows: Float[np.ndarray, "rows k"]) -> Float[Array, "... k"]:
        """Vectors in the form that `product` takes."""
        return jnp.asarray(rows)

    def unpack(self, vectors: Float[Array, "... k"]) -> Float[np.ndarray, "rows k"]:
        """Packed vectors as `(rows, k)` on the host."""
        return np.asarray(vectors)

    def trace(self) -> float:
        """The sum of the diagonal."""
        return float(np.sum(self.diagonal(), dtype=np.float64))

    def __matmul__(self, vectors: ArrayLike) -> Float[np.ndarray, "rows *k"]:
        v = require_array(vectors, "the vectors")
        if v.ndim not in (1, 2) or len(v) != self.shape[1] or not v.size:
            raise InputError(
                f"Expected a vector ({self.shape[1]},) or a block ({self.shape[1]}, k); got shape {v.shape}. "
                f"{self.meaning_of_rows}"
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
        """v^T K v for each vector v."""
        products = self.unpack(self.product(self.pack(vectors.astype(self.dtype))))
        return np.sum(vectors.astype(np.float64) * products, 0)

    def to_scipy(self) -> Any:
        """The operator for SciPy's solvers: `eigsh`, `cg`, `lobpcg`."""

        def times(vectors: np.ndarray) -> np.ndarray:
            return self @ vectors

        import scipy.sparse.linalg  # slow to import, and rarely needed

        return scipy.sparse.linalg.LinearOperator(
            self.shape, matvec=times, matmat=times, rmatvec=times, rmatmat=times, dtype=self.dtype
        )

    def centered(self) -> "KernelOperator":
        """C K C, where C subtracts the mean over the examples from each output: the kernel of centered features."""
        return Centered(self)

    def weighted(self, weights: ArrayLike) -> "KernelOperator":
        """W^1/2 K W^1/2, for weights `(n,)` of the examples, which are positive and sum to one."""
        return self.conjugated(np.sqrt(np.asarray(require_weights(weights, self.num_examples))))

    def conjugated(self, scales: Float[np.ndarray, " n"]) -> "KernelOperator":
        """D K D, for a diagonal D with one number per example."""
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
        return self._times_number(float(factor))

    def _times_number(self, factor: float) -> "KernelOperator":
        return Scaled(self, factor)

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
    """An operator that holds vectors as another operator does."""

    def __init__(self, operator: KernelOperator, source: Source | None = None, dtype: Any = None) -> None:
        dtype = operator.dtype if dtype is None else dtype
        super().__init__(operator.num_examples, operator.num_outputs, dtype, source)
        self.operator, self.epsilon = operator, max(self.epsilon, operator.epsilon)
        self.definite = operator.definite

    def pack(self, rows: np.ndarray) -> Array:
        return self.operator.pack(rows)

    def unpack(self, vectors: Array) -> np.ndarray:
        return self.operator.unpack(vectors)


class Scaled(_Derived):
    """An operator times a number."""

    def __init__(self, operator: KernelOperator, factor: float) -> None:
        super().__init__(operator, None if operator.source is None else operator.source.scaled(factor))
        self.factor = factor

    def product(self, vectors: Array) -> Array:
        return self.factor * self.operator.product(vectors)

    def diagonal(self) -> np.ndarray:
        return self.factor * self.operator.diagonal()

    def trace(self) -> float:
        return self.factor * self.operator.trace()


class Sum(_Derived):
    """The sum of two operators, which holds vectors as the first one does."""

    def __init__(self, operator: KernelOperator, other: KernelOperator, source: Source | None = None) -> None:
        super().__init__(operator, source, np.result_type(operator.dtype, other.dtype))
        self.other, self.epsilon = other, max(operator.epsilon, other.epsilon)
        self.definite = operator.definite and other.definite

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
    """C K C, where C projects each output onto vectors with mean zero over the examples."""

    def __init__(self, operator: KernelOperator, source: Source | None = None) -> None:
        super().__init__(operator, source)
        constants = np.tile(np.eye(self.num_outputs, dtype=self.dtype), (self.num_examples, 1))
        self.constants = operator.pack(constants / self.num_examples**0.5)  # one per output, orthonormal

    def product(self, vectors: Array) -> Array:
        return _without(self.operator.product(_without(vectors, self.constants)), self.constants)

    def diagonal(self) -> np.ndarray:
        # (C K C)_ii = K_ii - 2 (K e)_i / n + e^T K e / n^2, where e is one on the rows of the same output, else zero.
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
