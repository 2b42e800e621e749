"""The empirical NTK as an operator K = J J^T, whose products have two halves, J^T v and J u (`jacobian.py`).

There are two ways to multiply by J: VJPs and JVPs, usually cheaper for single vectors, and per-example gradients,
usually cheaper for blocks. The one with fewer operations is used. If there are fewer parameters than rows, J^T J has
the same nonzero eigenvalues on shorter vectors, and reads the data once per product (`on_parameters`).

>>> import jax, jax.numpy as jnp, ntkbias as nb
>>> net = nb.nets.mlp(width=32, depth=1, num_outputs=3)
>>> x = jax.random.normal(jax.random.key(0), (20, 2))
>>> kernel = nb.empirical_ntk(net.apply, net.init(jax.random.key(1), (2,)), outputs="all")
>>> operator = kernel.operator(x)
>>> operator.shape, bool(jnp.allclose(operator @ jnp.ones(60), kernel(x).reshape(60, 60) @ jnp.ones(60), rtol=1e-4))
((60, 60), True)
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ntkbias.checks import are_known
from ntkbias.errors import InputError
from ntkbias.kernels.operators.by_gradients import Coordinates
from ntkbias.kernels.operators.jacobian import Jacobian
from ntkbias.kernels.operators.operator import MANY_PRODUCTS, KernelOperator, Source

__all__ = ["JacobianOperator", "ParameterOperator"]

FEW_ROWS = 5_000  # a matrix of more rows is not formed in place of products


class JacobianOperator(KernelOperator):
    """J J^T of `f(params, x)`, batch by batch; made by `kernel.operator(x)` of an empirical NTK.

    `scales` `(n,)` multiply the rows of each example, so that weighting and scaling give another operator of this kind,
    which shares the Jacobian. `evaluate(x)` returns the matrix itself, from the blocks of the kernel. Products use the
    way that is cheaper for `num_products` of them.
    """

    def __init__(
        self,
        jacobian: Jacobian,
        evaluate: Callable[[np.ndarray], Array],
        scales: np.ndarray | None = None,
        num_products: int = MANY_PRODUCTS,
        source: Source | None = None,
    ) -> None:
        super().__init__(len(jacobian.x), jacobian.num_outputs, jacobian.dtype, source)
        self.jacobian, self.evaluate, self.num_products = jacobian, evaluate, num_products
        self.scales = np.ones(self.num_examples, self.dtype) if scales is None else np.asarray(scales, self.dtype)
        self.roots = self.pack(np.repeat(self.scales, self.num_outputs)[:, None])

    @property
    def num_parameters(self) -> int:
        """The number of columns of J: one per parameter, or for "mean" and "sum" one per parameter and output."""
        return self.jacobian.num_parameters

    def pack(self, rows: np.ndarray) -> Array:
        return self.jacobian.layout.pack(rows)

    def unpack(self, vectors: Array) -> np.ndarray:
        return self.jacobian.layout.unpack(vectors)

    def conjugated(self, scales: np.ndarray) -> "JacobianOperator":
        return self._with(self.jacobian, self.scales * scales)

    def _times_number(self, factor: float) -> KernelOperator:
        if not factor > 0:
            return super()._times_number(factor)
        source = None if self.source is None else self.source.scaled(factor)
        return self._with(self.jacobian, self.scales * factor**0.5, source)

    def _with(self, jacobian: Jacobian, scales: np.ndarray, source: Source | None = None) -> "JacobianOperator":
        return JacobianOperator(jacobian, self.evaluate, scales, self.num_products, source)

    def matrix(self) -> np.ndarray:
        scales = np.repeat(self.scales, self.num_outputs)
        return scales[:, None] * self.jacobian.gram(self.evaluate).reshape(self.shape) * scales

    def on_parameters(self) -> "ParameterOperator":
        """J^T J over the parameters, the Gauss-Newton matrix of the squared error: the same nonzero eigenvalues."""
        return ParameterOperator(self)

    def product(self, vectors: Array) -> Array:
        count = vectors.shape[-1]
        if are_known(vectors) and self.uses_matrix(count, halves=2):
            found = self.matrix().astype(np.float64) @ self.unpack(vectors)
            return self.pack(found.astype(self.dtype))
        pull, push, step = self._way(count)
        parts = [push(pull(vectors[..., start : start + step])) for start in range(0, count, step)]
        return parts[0] if len(parts) == 1 else jnp.concatenate(parts, -1)

    def quadratic_forms(self, vectors: np.ndarray) -> np.ndarray:
        """||J^T v||^2 of each vector, which needs only half of a product."""
        if self.uses_matrix(vectors.shape[1], halves=1):
            products = self.matrix().astype(np.float64) @ vectors
            return np.sum(vectors.astype(np.float64) * products, 0)
        pull, _, step = self._way(vectors.shape[1])
        found = []
        for start in range(0, vectors.shape[1], step):
            piece = vectors[:, start : start + step].astype(self.dtype)
            found.append(_squares_of(pull(self.pack(piece)), piece.shape[1]))
        return np.concatenate(found).astype(np.float64)

    def _way(self, num_vectors: int) -> tuple[Callable, Callable, int]:
        """The functions that pull and push this many vectors, and how many vectors they take at a time."""
        if self.uses_vjp(num_vectors):
            return self.pull_by_vjp, self.push_by_jvp, self._vectors_per_pass(num_vectors)
        return self.pull, self.push, self.jacobian.vectors_at_once()

    def _vectors_per_pass(self, num_vectors: int) -> int:
        """How many vectors a VJP or JVP takes at a time: one on a CPU, where more would save nothing."""
        return 1 if jax.default_backend() == "cpu" else min(num_vectors, self.jacobian.vectors_at_once())

    def uses_matrix(self, num_vectors: int, halves: int) -> bool:
        """Whether to multiply this many vectors, by J^T and J or by one of these `halves`, by the matrix itself.

        For few examples and many vectors it takes fewer operations. A product on its own counts; those that follow are
        free, because the matrix is kept.
        """
        jacobian, n = self.jacobian, self.num_examples
        if self.shape[0] > FEW_ROWS:
            return False
        layers, applied, outputs = self._counts()
        side = min(n, jacobian.gradients.block_rows(jnp.asarray(jacobian.x[:1])))
        readings = 1 + (-(-n // side) - 1) / 2  # features of columns are computed again for each row of blocks
        own = sum(factor.operations(n, jacobian.gradients.outputs) for factor in jacobian.factors.values()) / 2
        matrix = readings * (1 + 2 * outputs) * layers + own
        if self.uses_vjp(num_vectors):
            products = halves * layers * (1 + 2 * num_vectors * jacobian.summed)
        else:
            readings = 1 / self.num_products if jacobian.keeps else halves
            sums = self.num_parameters / jacobian.layout.small  # each batch adds to sums of a number per coordinate
            products = readings * (1 + 2 * outputs) * layers + halves * num_vectors * (applied + sums)
        return matrix < products

    def _counts(self) -> tuple[float, float, int]:
        """Multiplications per example of the layers, and of one vector by its gradients; and the number of outputs."""
        jacobian = self.jacobian
        layers = sum(factor.layer_operations() for factor in jacobian.factors.values())
        applied = sum(factor.operations_per_vector() for factor in jacobian.factors.values())
        return layers, applied, jacobian.summed * jacobian.num_outputs

    def uses_vjp(self, num_vectors: int) -> bool:
        """Whether to multiply this many vectors by VJPs and JVPs: they are available, fit, and take fewer operations.

        The cost of factors that are kept is spread over all expected products.
        """
        jacobian = self.jacobian
        layers, applied, outputs = self._counts()
        # VJP and JVP are two programs: each runs forward once, and then, per vector, by inputs and by weights.
        passes = 2 * layers + 4 * num_vectors * jacobian.summed * layers
        readings = 1 / self.num_products if jacobian.keeps else 2
        formed = readings * (1 + 2 * outputs) * layers
        cheaper = passes < formed + 2 * num_vectors * applied
        fits = jacobian.layout.large <= jacobian.pass_rows(self._vectors_per_pass(num_vectors))
        # With several outputs per row their cotangents would be batched, which is slower on a CPU than gradients.
        slow = jacobian.summed > 1 and jax.default_backend() == "cpu"
        return cheaper and fits and not slow and jacobian.supports_vjp

    def pull(self, vectors: Float[Array, "devices share o k"]) -> Coordinates:
        """J^T v by per-example gradients; every device gets it."""
        return self.jacobian.pull(self.roots * vectors)

    def push(self, tangents: Coordinates) -> Float[Array, "devices share o k"]:
        """J u by per-example gradients."""
        return self.roots * self.jacobian.push(tangents)

    def push_and_pull(self, tangents: Coordinates) -> Coordinates:
        """J^T J u by per-example gradients, in one reading of the data."""
        return self.jacobian.push_and_pull(tangents, self.roots**2)

    def pull_by_vjp(self, vectors: Float[Array, "devices share o k"]) -> Any:
        """J^T v by VJPs, in the shapes of the selected parameters, with a first axis of vectors (times outputs)."""
        return self.jacobian.pull_by_vjp(self.roots * vectors)

    def push_by_jvp(self, tangents: Any) -> Float[Array, "devices share o k"]:
        """J u by JVPs."""
        return self.roots * self.jacobian.push_by_jvp(tangents)

    def diagonal(self) -> np.ndarray:
        return self.unpack(self.roots**2 * self.jacobian.squares())[:, 0]


class ParameterOperator(KernelOperator):
    """J^T J over the coordinates of the gradients `(q, k)`; made by `JacobianOperator.on_parameters`.

    The coordinates are the parameters, in an order of their own. If the kernel sums over outputs, each output has its
    own coordinates. `lift` maps vectors over coordinates to vectors over the rows of J J^T.
    """

    def __init__(self, operator: JacobianOperator) -> None:
        super().__init__(operator.num_parameters, 1, operator.dtype)
        self.operator = operator
        self.sizes = operator.jacobian.sizes
        self.ends = np.cumsum(list(self.sizes.values()))[:-1].tolist()

    def pack(self, rows: np.ndarray) -> Array:
        return self.operator.jacobian.layout.replicated(jnp.asarray(rows))

    def unpack(self, vectors: Array) -> np.ndarray:
        return np.asarray(vectors)

    def product(self, vectors: Array) -> Array:
        step = self.operator.jacobian.vectors_at_once()
        parts = [
            _joined(self.operator.push_and_pull(self._split(vectors[..., start : start + step])))
            for start in range(0, vectors.shape[-1], step)
        ]
        return parts[0] if len(parts) == 1 else jnp.concatenate(parts, -1)

    def lift(self, vectors: Array) -> Array:
        """J u, as packed vectors over the rows of J J^T."""
        return self.operator.push(self._split(vectors))

    def diagonal(self) -> np.ndarray:
        raise InputError("Expected a call of trace(); got one of diagonal(), which J^T J does not have. Use trace().")

    def trace(self) -> float:
        return self.operator.trace()

    def _split(self, vectors: Array) -> Coordinates:
        return dict(zip(self.sizes, _split_at(vectors, tuple(self.ends)), strict=True))


@partial(jax.jit, static_argnums=1)
def _split_at(vectors: Array, ends: tuple[int, ...]) -> list[Array]:
    return jnp.split(vectors, ends)


@jax.jit
def _joined(coordinates: Coordinates) -> Array:
    return jnp.concatenate(list(coordinates.values()))


@partial(jax.jit, static_argnums=1)
def _squares_of(pulled: Any, num_vectors: int) -> Array:
    """The squared norms of vectors over the parameters: the axis of vectors is last in coordinates, first in VJPs."""
    if isinstance(pulled, dict):
        squares = [jnp.sum(leaf**2, 0) for leaf in pulled.values()]
    else:
        squares = [jnp.sum(leaf.reshape(num_vectors, -1) ** 2, 1) for leaf in pulled]
    return sum(squares[1:], squares[0])
