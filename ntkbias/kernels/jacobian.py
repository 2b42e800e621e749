"""The empirical NTK as an operator: K = J J^T, with J the Jacobian of the outputs by the parameters, never held.

A product is J (J^T v), batch by batch on the host, in one compiled program for each half, of one size whatever n is.
There are two ways to multiply by J, and the one of fewer operations is taken:

    by passes     one backward pass (VJP) and one forward (JVP) through the network for each vector
    by gradients  the factors of the gradients (`structure.py`): a backward pass for each output, then matrix products

The second serves blocks: its passes are the same for one vector and for a hundred. Where there are fewer parameters
than rows, J^T J has the same eigenvalues on shorter vectors, and one reading of the data a product (`on_parameters`).

On several devices each has an equal share of the examples. A product then takes one all-reduce, of one number a
parameter and vector; nothing else is sent.

>>> import jax, jax.numpy as jnp, ntkbias as nb
>>> net = nb.nets.mlp(width=32, depth=1, num_outputs=3)
>>> x = jax.random.normal(jax.random.key(0), (20, 2))
>>> kernel = nb.empirical_ntk(net.apply, net.init(jax.random.key(1), (2,)), outputs="all")
>>> operator = kernel.operator(x)
>>> operator.shape, bool(jnp.allclose(operator @ jnp.ones(60), kernel(x).reshape(60, 60) @ jnp.ones(60), rtol=1e-4))
((60, 60), True)
"""

import dataclasses
import math
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from ntkbias.compilation import compiled
from ntkbias.errors import InputError
from ntkbias.kernels.factors import Factor
from ntkbias.kernels.operator import KernelOperator, Scaled
from ntkbias.kernels.structure import factor_shapes, signature
from ntkbias.types import ApplyFunction, Params

if TYPE_CHECKING:
    from ntkbias.kernels.empirical import EmpiricalNTK

__all__ = ["JacobianOperator", "ParameterOperator"]

DEVICES = "devices"  # the axis of the mesh
BATCH, BATCH_ON_ACCELERATOR = 128, 4096  # most examples of a pass for single vectors: larger ones leave a CPU's caches
TANGENT_SHARE = 4  # the part of the memory budget, one in so many, that a block of vectors over the parameters may take
HELD_SHARE = 8  # and the part that factors kept from product to product may take

Coordinates = dict[str, Float[Array, "... k"]]  # vectors `(q, k)` over each parameter, by path; perhaps a device's own


@dataclasses.dataclass(frozen=True)
class Layout:
    """How vectors over the examples lie on devices: `(devices, examples of each, o, k)`, filled up with zeros.

    `small` and `large` are the examples of a batch by gradients and by passes; the first divides the second, and that
    the examples of a device.
    """

    num_examples: int
    num_outputs: int
    small: int
    large: int
    num_batches: int  # large ones, of each device
    mesh: Mesh | None

    @classmethod
    def of(cls, num_examples: int, num_outputs: int, small: int, large: int) -> "Layout":
        """The layout on all devices there are, of batches of at most these numbers of examples."""
        devices = jax.devices()
        share = -(-num_examples // len(devices))
        small = -(-share // -(-share // min(small, share)))
        multiple = max(1, min(large // small, -(-share // small)))
        num_batches = -(-share // (small * multiple))
        multiple = -(-share // (num_batches * small))
        mesh = Mesh(np.array(devices), (DEVICES,)) if len(devices) > 1 else None
        return cls(num_examples, num_outputs, small, small * multiple, num_batches, mesh)

    @property
    def num_devices(self) -> int:
        """On how many devices the examples are."""
        return 1 if self.mesh is None else self.mesh.size

    @property
    def share(self) -> int:
        """Examples of each device, with those that fill up."""
        return self.large * self.num_batches

    def spread(self, shape: tuple[int, ...], piece: Callable[[int], np.ndarray]) -> Array:
        """An array `(devices, ...)`, of which `piece(device)` is each device's part, asked for where it lies."""
        if self.mesh is None:
            return jnp.asarray(piece(0))[None]

        def own(index: Any) -> np.ndarray:
            return piece(index[0].start or 0)[None]

        return jax.make_array_from_callback(shape, NamedSharding(self.mesh, PartitionSpec(DEVICES)), own)

    def replicated(self, values: Any) -> Any:
        """The arrays of a pytree on every device."""
        if self.mesh is None:
            return values
        sharding = NamedSharding(self.mesh, PartitionSpec())

        def put(leaf: Any) -> Any:
            if not eqx.is_array_like(leaf):
                return leaf
            host = np.asarray(leaf)
            return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

        return jax.tree.map(put, values)

    def pack(self, rows: np.ndarray) -> Float[Array, "devices share o k"]:
        """Vectors `(rows, k)`."""
        shaped = np.asarray(rows).reshape(self.num_examples, self.num_outputs, -1)

        def piece(device: int) -> np.ndarray:
            own = shaped[device * self.share : (device + 1) * self.share]
            return np.concatenate([own, np.zeros((self.share - len(own), *own.shape[1:]), own.dtype)])

        return self.spread((self.num_devices, self.share, *shaped.shape[1:]), piece)

    def unpack(self, vectors: Array) -> np.ndarray:
        """Vectors of this layout as `(rows, k)`, on every host."""
        if self.mesh is not None and not vectors.is_fully_addressable:
            vectors = jax.jit(lambda v: v, out_shardings=NamedSharding(self.mesh, PartitionSpec()))(vectors)
        host = np.asarray(vectors)
        return host.reshape(-1, *host.shape[2:])[: self.num_examples].reshape(-1, host.shape[-1])

    def batches(self, x: Any, size: int) -> Iterator[tuple[Array, np.ndarray]]:
        """The inputs `(devices, size, ...)` batch by batch, filled up with the first, and where each batch begins."""
        dtype = jax.dtypes.canonicalize_dtype(x.dtype)
        for start in range(0, self.share, size):

            def piece(device: int, start: int = start) -> np.ndarray:
                begin = device * self.share + start
                own = np.asarray(x[begin : begin + size], dtype)
                if len(own) == size:
                    return own
                return np.concatenate([own, np.repeat(np.asarray(x[:1], dtype), size - len(own), axis=0)])

            yield self.spread((self.num_devices, size, *x.shape[1:]), piece), np.asarray(start, np.int32)


class JacobianOperator(KernelOperator):
    """J J^T of `f(params, x)`, by batches; made by `kernel.operator(x)` of an empirical NTK.

    `scales` `(n,)` multiply the rows of each example: weighting and scaling give an operator of the same kind.
    """

    def __init__(self, kernel: "EmpiricalNTK", x: np.ndarray, scales: np.ndarray | None = None) -> None:
        one = jnp.zeros((1, *x.shape[1:]), jax.dtypes.canonicalize_dtype(x.dtype))
        outputs = kernel.num_outputs(one)
        self.summed = 1 if kernel.outputs == "all" else outputs
        self.factors: dict[str, Factor] = jax.eval_shape(kernel.features, one)
        # At least float32, as everywhere that products are summed up over many examples.
        dtype = jnp.result_type(np.float32, *(leaf for factor in self.factors.values() for leaf in _numbers(factor)))
        super().__init__(len(x), outputs // self.summed, dtype)
        self.kernel = kernel
        largest = BATCH if jax.default_backend() == "cpu" else BATCH_ON_ACCELERATOR
        shapes = factor_shapes(kernel.f, signature(kernel.params, one), kernel.outputs, kernel.precision)
        self.pass_bytes = self.summed * sum(_pass_bytes(factor) for factor in shapes.values())
        largest = min(largest, max(1, self._pass_rows(1)))
        small = min(kernel.pass_rows(one), kernel.block_rows(one), largest)
        self.layout = Layout.of(len(x), self.num_outputs, small, max(small, largest))
        self.x = x
        self.scales = np.ones(len(x), self.dtype) if scales is None else np.asarray(scales, self.dtype)
        self.placed = self.layout.replicated(kernel)
        self.roots = self.layout.pack(np.repeat(self.scales, self.num_outputs)[:, None])
        self.held: list[Any] | None = None  # factors, once they were formed, if they fit
        self.squares: Array | None = None  # norms of the rows, once all were read
        self.num_products = 0

    @property
    def sizes(self) -> dict[str, int]:
        """The number of coordinates of each parameter's gradient, by its path."""
        return {path: factor.num_coordinates(self.num_outputs) for path, factor in self.factors.items()}

    @property
    def num_parameters(self) -> int:
        """The number of columns of J: the parameters, for "mean" and "sum" those of every output apart."""
        return sum(self.sizes.values())

    def pack(self, rows: np.ndarray) -> Array:
        return self.layout.pack(rows)

    def unpack(self, vectors: Array) -> np.ndarray:
        return self.layout.unpack(vectors)

    def conjugated(self, scales: np.ndarray) -> "JacobianOperator":
        return self._scaled(scales)

    def __mul__(self, factor: ArrayLike) -> KernelOperator:
        scaled = super().__mul__(factor)
        if not isinstance(scaled, Scaled) or not scaled.factor > 0:
            return scaled
        product = self._scaled(scaled.factor**0.5)
        product.source = scaled.source
        return product

    __rmul__ = __mul__

    def _scaled(self, scales: float | np.ndarray) -> "JacobianOperator":
        other = JacobianOperator(self.kernel, self.x, self.scales * scales)
        other.held, other.squares = self.held, self.squares
        return other

    def matrix(self) -> np.ndarray:
        scales = np.repeat(self.scales, self.num_outputs)
        return scales[:, None] * np.asarray(self.kernel(self.x)).reshape(self.shape) * scales

    def on_parameters(self) -> "ParameterOperator":
        """J^T J, the Gauss-Newton matrix of the squared error: the same eigenvalues but for zeros, over parameters."""
        return ParameterOperator(self)

    def product(self, vectors: Array) -> Array:
        count = vectors.shape[-1]
        pull, push, step = self._way(count)
        parts = [push(pull(vectors[..., start : start + step])) for start in range(0, count, step)]
        return parts[0] if len(parts) == 1 else jnp.concatenate(parts, -1)

    def quadratic_forms(self, vectors: np.ndarray) -> np.ndarray:
        """||J^T v||^2: the half of a product."""
        pull, _, step = self._way(vectors.shape[1])
        found = []
        for start in range(0, vectors.shape[1], step):
            piece = vectors[:, start : start + step].astype(self.dtype)
            found.append(_squares_of(pull(self.pack(piece)), piece.shape[1]))
        return np.concatenate(found).astype(np.float64)

    def _way(self, num_vectors: int) -> tuple[Callable, Callable, int]:
        """How to pull and to push so many vectors, and how many at a time."""
        self.num_products += 1
        if self.held is None and self.by_passes(num_vectors):
            return self.pull_by_passes, self.push_by_passes, self._passes_at_once(num_vectors)
        return self.pull, self.push, self._vectors_at_once()

    def _passes_at_once(self, num_vectors: int) -> int:
        """How many vectors go through the network together: on a CPU, where that saves nothing, one by one."""
        return 1 if jax.default_backend() == "cpu" else min(num_vectors, self._vectors_at_once())

    def _vectors_at_once(self) -> int:
        """How many vectors over the parameters fit their share of the memory budget."""
        return max(1, self.kernel.memory_budget // (TANGENT_SHARE * self.num_parameters * self.dtype.itemsize))

    def by_passes(self, num_vectors: int) -> bool:
        """Whether a product with so many vectors takes fewer operations by passes, which fit, and which f has."""
        layers = sum(factor.operations_of_layer() for factor in self.factors.values())
        outputs = self.summed * self.num_outputs
        # Forward; then, for each vector, by inputs and by weights. Two programs: backward, and forward again.
        passes = 2 * layers + 4 * num_vectors * self.summed * layers
        formed = 2 * (1 + 2 * outputs) * layers
        if self._can_hold():  # for the products to come as well: of those, as many are expected as there were
            formed /= 2 * (1 + self.num_products)
        applied = sum(factor.operations_a_vector() for factor in self.factors.values())
        cheaper = passes < formed + 2 * num_vectors * applied
        fits = self.layout.large <= self._pass_rows(self._passes_at_once(num_vectors))
        # The cotangents of several outputs would go together, which on a CPU is slower than to form gradients.
        slow = self.summed > 1 and jax.default_backend() == "cpu"
        return cheaper and fits and not slow and self._has_passes()

    def _pass_rows(self, num_vectors: int) -> int:
        """Of how many examples passes for so many vectors at once fit their share of the memory budget."""
        return self.kernel.memory_budget // (TANGENT_SHARE * num_vectors * self.pass_bytes)

    def _has_passes(self) -> bool:
        """Whether passes give J^T v and J u to the precision of this operator: not in narrower parameters."""
        chosen, _ = self.kernel.split_params()
        dtype = jax.dtypes.canonicalize_dtype(self.x.dtype)
        found = signature(self.kernel.params, jnp.zeros((1, *self.x.shape[1:]), dtype))
        return all(leaf.dtype == self.dtype for leaf in chosen) and _has_forward_derivative(self.kernel.f, found)

    def _can_hold(self) -> bool:
        """Whether the factors of all examples fit their share of the memory budget."""
        a_row = sum(factor.row_bytes() for factor in self.factors.values())
        return a_row * self.layout.share <= self.kernel.memory_budget // HELD_SHARE

    def batches(self) -> Iterator[tuple[Any, np.ndarray]]:
        """The factors of each batch and where it begins: kept from product to product if they fit.

        The first reading also finds the norms of the rows, which the diagonal is made of.
        """
        squares = self.layout.pack(np.zeros((self.shape[0], 1), self.dtype)) if self.squares is None else None
        kept: list[Any] | None = [] if self.held is None and self._can_hold() else None
        fresh = ((_factors(self.placed, self.layout.mesh, x), start) for x, start in self._inputs(self.layout.small))
        for found, start in fresh if self.held is None else self.held:
            if squares is not None:
                squares = _squared((found, start, self.layout.mesh), squares)
            if kept is not None:
                kept.append((found, start))
            yield found, start
        self.held = self.held if kept is None else kept
        self.squares = squares if self.squares is None else self.squares

    def _inputs(self, size: int) -> Iterator[tuple[Array, np.ndarray]]:
        return self.layout.batches(self.x, size)

    def pull(self, vectors: Float[Array, "devices share o k"]) -> Coordinates:
        """J^T v by gradients, on every device."""
        total: Any = self._zeros(vectors.shape[-1])
        scaled = self.roots * vectors
        for found, start in self.batches():
            total = _pulled((found, scaled, start, self.layout.mesh), total)
        return _over_devices(total, self.layout.mesh)

    def push(self, tangents: Coordinates) -> Float[Array, "devices share o k"]:
        """J u by gradients."""
        count = next(iter(tangents.values())).shape[-1]
        result = self.layout.pack(np.zeros((self.shape[0], count), self.dtype))
        for found, start in self.batches():
            result = _pushed((found, tangents, start, self.layout.mesh), result)
        return self.roots * result

    def pulled_and_pushed(self, tangents: Coordinates) -> Coordinates:
        """J^T J u by gradients, in one reading of the data."""
        total: Any = self._zeros(next(iter(tangents.values())).shape[-1])
        squares = self.roots**2
        for found, start in self.batches():
            total = _pulled_and_pushed((found, tangents, squares, start, self.layout.mesh), total)
        return _over_devices(total, self.layout.mesh)

    def _zeros(self, num_vectors: int) -> Coordinates:
        """Each device's sums, to be added up over devices at the end."""
        return {
            path: self.layout.spread(
                (self.layout.num_devices, size, num_vectors),
                lambda _, size=size: np.zeros((size, num_vectors), self.dtype),  # type: ignore[misc]
            )
            for path, size in self.sizes.items()
        }

    def pull_by_passes(self, vectors: Float[Array, "devices share o k"]) -> Any:
        """J^T v by backward passes: like the parameters that count, with the vectors (times outputs) first."""
        chosen, _ = self.kernel.split_params()
        count = vectors.shape[-1] * self.summed
        devices = self.layout.num_devices
        total = [
            self.layout.spread(
                (devices, count, *leaf.shape),
                lambda _, leaf=leaf: np.zeros((count, *leaf.shape), leaf.dtype),  # type: ignore[misc]
            )
            for leaf in chosen
        ]
        scaled = self.roots * vectors
        for x, start in self._inputs(self.layout.large):
            total = _pulled_by_passes((self.placed, x, scaled, start, self.layout.mesh), total)
        return _over_devices(total, self.layout.mesh)

    def push_by_passes(self, tangents: Any) -> Float[Array, "devices share o k"]:
        """J u by forward passes."""
        count = tangents[0].shape[0] // self.summed
        result = self.layout.pack(np.zeros((self.shape[0], count), self.dtype))
        for x, start in self._inputs(self.layout.large):
            result = _pushed_by_passes((self.placed, x, tangents, start, self.layout.mesh), result)
        return self.roots * result

    def diagonal(self) -> np.ndarray:
        if self.squares is None:
            for _ in self.batches():
                pass
        squares: Any = self.squares
        return self.unpack(self.roots**2 * squares)[:, 0]


class ParameterOperator(KernelOperator):
    """J^T J over the coordinates of the gradients, `(q, k)`; made by `JacobianOperator.on_parameters`.

    Coordinates are the parameters', in an order of their own; for kernels that sum over outputs each output has its
    own. `lift` takes vectors over them to vectors over the rows of J J^T.
    """

    def __init__(self, operator: JacobianOperator) -> None:
        super().__init__(operator.num_parameters, 1, operator.dtype)
        self.operator = operator
        self.ends = np.cumsum(list(operator.sizes.values()))[:-1].tolist()

    def pack(self, rows: np.ndarray) -> Array:
        return self.operator.layout.replicated(jnp.asarray(rows))

    def unpack(self, vectors: Array) -> np.ndarray:
        return np.asarray(vectors)

    def product(self, vectors: Array) -> Array:
        step = self.operator._vectors_at_once()
        parts = [
            _joined(self.operator.pulled_and_pushed(self._split(vectors[..., start : start + step])))
            for start in range(0, vectors.shape[-1], step)
        ]
        return parts[0] if len(parts) == 1 else jnp.concatenate(parts, -1)

    def lift(self, vectors: Array) -> Array:
        """J u: packed vectors over the rows."""
        return self.operator.push(self._split(vectors))

    def diagonal(self) -> np.ndarray:
        raise InputError("Expected the trace of J^T J; got a request for its diagonal, which is not made. Use trace().")

    def trace(self) -> float:
        return self.operator.trace()

    def _split(self, vectors: Array) -> Coordinates:
        return dict(zip(self.operator.sizes, _split_at(vectors, tuple(self.ends)), strict=True))


@partial(jax.jit, static_argnums=1)
def _split_at(vectors: Array, ends: tuple[int, ...]) -> list[Array]:
    return jnp.split(vectors, ends)


@jax.jit
def _joined(coordinates: Coordinates) -> Array:
    return jnp.concatenate(list(coordinates.values()))


@lru_cache(maxsize=256)
def _has_forward_derivative(f: ApplyFunction, found: tuple) -> bool:
    """Whether f, given a `signature`, has one: JAX refuses that of a custom_vjp, once it makes a program of it."""
    treedef, leaves, example, _ = found

    def forward(leaves: list[Array], x: Array) -> Array:
        return jax.jvp(lambda leaves: f(jax.tree.unflatten(treedef, leaves), x), (leaves,), (leaves,))[1]

    try:
        jax.jit(forward).lower(list(leaves), jax.ShapeDtypeStruct((1, *example.shape), example.dtype))
    except TypeError:
        return False
    return True


def _on_devices(function: Callable, mesh: Mesh | None, *specs: bool) -> Callable:
    """The function of each device's part, without the axis of devices; `specs`: which arguments have that axis."""

    def of_part(*values: Any) -> Any:
        values = tuple(
            jax.tree.map(lambda leaf: leaf[0], value) if own else value
            for value, own in zip(values, specs, strict=True)
        )
        return jax.tree.map(lambda leaf: leaf[None], function(*values))

    if mesh is None:
        return of_part
    parts = tuple(PartitionSpec(DEVICES) if own else PartitionSpec() for own in specs)
    return jax.shard_map(of_part, mesh=mesh, in_specs=parts, out_specs=PartitionSpec(DEVICES), check_vma=False)


def _batch(array: Array, start: Array, size: int) -> Array:
    return jax.lax.dynamic_slice_in_dim(array, start, size)


@compiled
def _factors(kernel: "EmpiricalNTK", mesh: Mesh | None, x: Array) -> dict[str, Factor]:
    """The factors of a batch on each device."""
    arrays, static = eqx.partition(kernel, eqx.is_array)

    def function(arrays: Any, x: Array) -> Any:
        return eqx.combine(arrays, static).features(x)

    with jax.default_matmul_precision("highest"):
        return _on_devices(function, mesh, False, True)(arrays, x)


@compiled(donate_rest=True)
def _pulled(of: tuple, total: Coordinates) -> Coordinates:
    """Each device's sum, and J^T v of a batch."""
    found, vectors, start, mesh = of

    def function(found: dict[str, Factor], vectors: Array, start: Array, total: Coordinates) -> Coordinates:
        v = _batch(vectors, start, _length(found))
        return {path: total[path] + factor.pull(v) for path, factor in found.items()}

    with jax.default_matmul_precision("highest"):
        return _on_devices(function, mesh, True, True, False, True)(found, vectors, start, total)


@compiled(donate_rest=True)
def _pushed(of: tuple, result: Array) -> Array:
    """The result with J u of a batch put into it."""
    found, tangents, start, mesh = of

    def function(found: dict[str, Factor], tangents: Coordinates, start: Array, result: Array) -> Array:
        return jax.lax.dynamic_update_slice_in_dim(result, _times(found, tangents, result.shape[1]), start, 0)

    with jax.default_matmul_precision("highest"):
        return _on_devices(function, mesh, True, False, False, True)(found, tangents, start, result)


@compiled(donate_rest=True)
def _pulled_and_pushed(of: tuple, total: Coordinates) -> Coordinates:
    """Each device's sum, and J^T D J u of a batch, for the squares D of its rows' scales."""
    found, tangents, squares, start, mesh = of

    def function(
        found: dict[str, Factor], tangents: Coordinates, squares: Array, start: Array, total: Coordinates
    ) -> Coordinates:
        rows = _batch(squares, start, _length(found))
        v = rows * _times(found, tangents, rows.shape[1])
        return {path: total[path] + factor.pull(v) for path, factor in found.items()}

    with jax.default_matmul_precision("highest"):
        return _on_devices(function, mesh, True, False, True, False, True)(found, tangents, squares, start, total)


@compiled(donate_rest=True)
def _squared(of: tuple, result: Array) -> Array:
    """The result with the squared norms of a batch's rows put into it."""
    found, start, mesh = of

    def function(found: dict[str, Factor], start: Array, result: Array) -> Array:
        squares: Any = sum(
            jnp.sum(factor.squares(), -1, keepdims=True) if result.shape[1] == 1 else factor.squares()
            for factor in found.values()
        )
        return jax.lax.dynamic_update_slice_in_dim(result, squares[..., None].astype(result.dtype), start, 0)

    with jax.default_matmul_precision("highest"):
        return _on_devices(function, mesh, True, False, True)(found, start, result)


def _times(found: dict[str, Factor], tangents: Coordinates, rows: int) -> Float[Array, "n r k"]:
    """J u of the examples whose factors these are."""
    parts = [factor.push(tangents[path], rows) for path, factor in found.items()]
    return sum(parts[1:], parts[0])


def _length(found: dict[str, Factor]) -> int:
    return next(iter(found.values())).num_examples


@compiled(donate_rest=True)
def _pulled_by_passes(of: tuple, total: list[Array]) -> list[Array]:
    """Each device's sum, and J^T v of a batch, by one backward pass a vector."""
    kernel, x, vectors, start, mesh = of
    arrays, static = eqx.partition(kernel, eqx.is_array)

    def function(arrays: Any, x: Array, vectors: Array, start: Array, total: list[Array]) -> list[Array]:
        outputs_of, chosen = _function_of_chosen(eqx.combine(arrays, static), x)
        outputs, pullback = jax.vjp(outputs_of, chosen)
        v = _batch(vectors, start, len(x))
        if outputs.shape[1] > v.shape[1]:  # summed over outputs: each of them by itself
            eye = jnp.eye(outputs.shape[1], dtype=v.dtype)
            v = jnp.einsum("bk,oc->bokc", v[:, 0], eye).reshape(len(x), len(eye), -1)
        if v.shape[-1] == 1:  # without the batching rules, which convolutions pay for
            found = jax.tree.map(lambda leaf: leaf[None], pullback(v[..., 0].astype(outputs.dtype))[0])
        else:
            found = jax.vmap(lambda cotangent: pullback(cotangent)[0], in_axes=-1)(v.astype(outputs.dtype))
        return jax.tree.map(jnp.add, total, found)

    with jax.default_matmul_precision("highest"):
        return _on_devices(function, mesh, False, True, True, False, True)(arrays, x, vectors, start, total)


@compiled(donate_rest=True)
def _pushed_by_passes(of: tuple, result: Array) -> Array:
    """The result with J u of a batch put into it, by one forward pass a vector."""
    kernel, x, tangents, start, mesh = of
    arrays, static = eqx.partition(kernel, eqx.is_array)

    def function(arrays: Any, x: Array, tangents: list[Array], start: Array, result: Array) -> Array:
        outputs_of, chosen = _function_of_chosen(eqx.combine(arrays, static), x)
        if tangents[0].shape[0] == 1:
            found = jax.jvp(outputs_of, (chosen,), (jax.tree.map(lambda leaf: leaf[0], tangents),))[1][..., None]
        else:
            found = jax.vmap(jax.linearize(outputs_of, chosen)[1], out_axes=-1)(tangents)  # (b, o, k c)
        if found.shape[1] > result.shape[1]:
            apart = found.reshape(*found.shape[:2], -1, found.shape[1])
            found = jnp.einsum("boko->bk", apart)[:, None]
        return jax.lax.dynamic_update_slice_in_dim(result, found.astype(result.dtype), start, 0)

    with jax.default_matmul_precision("highest"):
        return _on_devices(function, mesh, False, True, False, False, True)(arrays, x, tangents, start, result)


def _function_of_chosen(kernel: "EmpiricalNTK", x: Array) -> tuple[Callable, list[Array]]:
    """The outputs `(b, o)`, divided for "mean", as a function of the parameters that count, and those."""
    chosen, whole = kernel.split_params()
    outputs = math.prod(jax.eval_shape(kernel.f, kernel.params, x).shape[1:])
    scale = outputs**-0.5 if kernel.outputs == "mean" else 1.0

    def function(chosen: list[Array]) -> Array:
        with jax.default_matmul_precision(kernel.precision):
            return scale * kernel.f(whole(chosen), x).reshape(len(x), -1)

    return function, chosen


def _over_devices(total: Params, mesh: Mesh | None) -> Any:
    """The sum over the axis of devices: the one message of a product."""
    if mesh is None:
        return jax.tree.map(lambda leaf: leaf[0], total)
    return _reduced(total, NamedSharding(mesh, PartitionSpec()))


@partial(jax.jit, static_argnums=1)
def _squares_of(pulled: Any, num_vectors: int) -> Array:
    """The squared norms of vectors over the parameters: the vectors come last by gradients, and first by passes."""
    if isinstance(pulled, dict):
        squares = [jnp.sum(leaf**2, 0) for leaf in pulled.values()]
    else:
        squares = [jnp.sum(leaf.reshape(num_vectors, -1) ** 2, 1) for leaf in pulled]
    return sum(squares[1:], squares[0])


@partial(jax.jit, static_argnums=1)
def _reduced(total: Any, sharding: NamedSharding) -> Any:
    leaves, treedef = jax.tree.flatten(total)
    joined = jnp.concatenate([leaf.reshape(len(leaf), -1) for leaf in leaves], 1)
    summed = jax.lax.with_sharding_constraint(jnp.sum(joined, 0), sharding)
    parts = jnp.split(summed, np.cumsum([leaf[0].size for leaf in leaves])[:-1])
    return jax.tree.unflatten(treedef, [part.reshape(leaf.shape[1:]) for part, leaf in zip(parts, leaves, strict=True)])


def _pass_bytes(factor: Factor) -> int:
    """Bytes that an example takes in a pass for one output: inputs of the layer and derivatives by what it gives."""
    *inputs, gradients = jax.tree.leaves(factor)
    rows = [math.prod(leaf.shape[1:]) * leaf.dtype.itemsize for leaf in (*inputs, gradients)]
    return sum(rows[:-1]) + rows[-1] // gradients.shape[1]


def _numbers(factor: Factor) -> list[Any]:
    return [leaf for leaf in jax.tree.leaves(factor) if jnp.issubdtype(leaf.dtype, jnp.floating)]
