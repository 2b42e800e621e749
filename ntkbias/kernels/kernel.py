"""Kernel: the value that every way to a kernel returns.

A kernel is a function of two sets of inputs; calling it gives their Gram matrix as a plain array. It is immutable and a
pytree whose leaves are its parameters, so it passes through `jit`, `vmap` and `grad` as an argument or from outside;
kernels add and scale.

>>> import jax, jax.numpy as jnp, ntkbias as nb
>>> limit = nb.infinite_ntk(nb.nets.mlp(depth=1)) + 0.5 * nb.infinite_nngp(nb.nets.mlp(depth=1))
>>> limit(jnp.eye(3)).shape, limit(jnp.eye(3), jnp.ones((2, 3))).shape
((3, 3), (3, 2))
>>> jax.grad(lambda x: limit(x)[0, 1])(jnp.eye(3)).shape
(3, 3)
"""

import abc
import contextlib
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ntkbias.checks import is_known, require_array, require_finite
from ntkbias.compilation import compiled
from ntkbias.errors import InputError
from ntkbias.kernels import tiles
from ntkbias.kernels.operator import KernelOperator, block_operator
from ntkbias.types import Outputs

__all__ = ["Kernel", "checked"]

EXAMPLE_AXES: dict[str, tuple[int, int]] = {"mean": (0, 1), "sum": (0, 1), "each": (1, 2), "all": (0, 2)}
MOST_REMEMBERED = 256  # structures of kernels and inputs
PIECE_BYTES = 2**24  # of inputs that are checked at a time


class Kernel(eqx.Module):
    """A symmetric positive semi-definite function of two inputs.

    `kernel(x1, x2)` gives `(n, m)` for `outputs` "mean" and "sum", `(o, n, m)` for "each" and `(n, o, m, o)` for "all".
    A subclass says how to compute one block from the features of its two sides, and how many examples a side may have.
    """

    outputs: Outputs = eqx.field(static=True)

    def features(self, x: Array) -> Any:
        """What is computed once for a set of inputs and used in every block with another: by default the inputs.

        A pytree of arrays whose first axis is that of the inputs; one of length 1 may be the same for all of them.
        """
        return x

    @abc.abstractmethod
    def contract(self, features1: Any, features2: Any | None) -> Array:
        """The Gram matrix of two sets of inputs, given their features; of the first with itself without the second."""

    @abc.abstractmethod
    def block_rows(self, x: Array) -> int:
        """How many examples like those of `x` a side of one block may have, within the memory budget."""

    def pass_rows(self, x: Array) -> int:
        """Of how many examples the features are computed at once; those of a side are put together."""
        return self.block_rows(x)

    def check(self, x: Array, name: str) -> None:
        """Raise an `InputError` if this kernel cannot take inputs of the shape and type of `x`.

        It is asked once for each shape; numbers are looked at elsewhere, each time.
        """

    def __call__(self, x1: Any, x2: Any = None) -> Float[Array, "..."]:
        """The Gram matrix of `x1` `(n, ...)` and `x2` `(m, ...)`; of `x1` with itself, at half the work, without `x2`.

        Raises `InputError` on empty inputs, NaN or infinite values, and inputs whose shapes differ.
        """
        x1, plan = _planned(self, x1, "x1")
        if x2 is not None:
            x2, _ = _planned(self, x2, "x2")
            if x1.shape[1:] != x2.shape[1:]:
                raise InputError(
                    f"Expected x1 and x2 to hold inputs of one shape; got {x1.shape[1:]} and {x2.shape[1:]} "
                    "after the batch axis."
                )
        # Where values are traced the work belongs to the surrounding program, on whatever devices that runs.
        traced = _is_traced((self, x1, x2))
        num_devices, num_processes = (1, 1) if traced else (jax.local_device_count(), jax.process_count())
        longest = max(len(x1), 0 if x2 is None else len(x2))
        # Twice as many columns as devices, so that each has a share of the triangle.
        places = num_processes * num_devices
        rows = min(plan.block_rows, -(-longest // (2 * places if places > 1 else 1)))
        # In one program where that is small: on CPUs the memory of a large one is mapped anew at each call.
        if places == 1 and longest <= min(rows, plan.pass_rows // 2):
            gram = _gram(self, x1, x2)
        else:
            workers = [self._worker()] if traced else self.workers()
            axes = EXAMPLE_AXES[self.outputs]
            gram = tiles.gram(workers, x1, x2, rows=rows, axes=axes, num_processes=num_processes)
        if not _is_traced(gram) and not _all_finite(gram):
            raise InputError(
                "Expected inputs at which the kernel is finite; got NaN or infinity in its Gram matrix. "
                "Check the scale of inputs and parameters."
            )
        return gram

    def workers(self) -> list[tiles.Worker]:
        """This kernel's compiled functions on each device of this process; blocks come back to the first."""
        devices = jax.local_devices()
        if len(devices) == 1:
            return [self._worker()]
        return [_on(device, self)._worker(device, devices[0]) for device in devices]

    def _worker(self, device: jax.Device | None = None, home: jax.Device | None = None) -> tiles.Worker:
        def features(piece: Array) -> Any:
            x = piece if device is None else jax.device_put(piece, device)
            passes = -(-len(x) // self.pass_rows(x))
            if passes == 1:
                return _features(self, x)
            # Each pass is put in its place once the next one has begun; the last reaches back over the one before it.
            rows = -(-len(x) // passes)
            starts = [np.int32(min(index * rows, len(x) - rows)) for index in range(passes)]
            with contextlib.nullcontext() if device is None else jax.default_device(device):
                whole = _room(self, x)
            found = _features_of_rows(self, x, starts[0], rows)
            for start, following in pairwise(starts):
                next_found = _features_of_rows(self, x, following, rows)
                whole, found = _put(rows, start, found, whole), next_found
            return _put(rows, starts[-1], found, whole)

        def contract(left: Any, right: Any | None) -> Array:
            block = _contract(self, left, right)
            return block if home is None else jax.device_put(block, home)

        return tiles.Worker(features, contract)

    def operator(self, x: Any) -> KernelOperator:
        """The kernel of the inputs `x` `(n, ...)` with themselves as a linear operator: products, never the matrix.

        Of `(n, n)`, and `(n o, n o)` for outputs="all". An empirical NTK multiplies by its Jacobian: for a vector at
        the cost of a backward and a forward pass over the inputs ("mean" and "sum": one of each an output), and less
        for each of a block. Sums and multiples of kernels are those of operators; any other kernel takes its products
        from blocks, half of the matrix each time. Memory stays within the kernel's `memory_budget`. `x` may be a
        `numpy.memmap`, read piece by piece. The kernel of one layer, `empirical_ntk_by_layer(...)[path]`, is that of
        one block of columns of the Jacobian.

        Raises `InputError` on the inputs that calling the kernel refuses, and for outputs="each".
        """
        if self.outputs == "each":
            raise InputError(
                "Expected a kernel that is one matrix, of outputs 'mean', 'sum' or 'all'; got outputs='each', one "
                "matrix an output. Make f return one output to take its own."
            )
        if _is_traced((self, x)):
            raise InputError(
                "Expected values to make an operator of; got ones that are traced, as under jit, vmap or grad. Make "
                "the operator outside, or evaluate the kernel itself."
            )
        if isinstance(x, np.ndarray) and x.ndim >= 2 and x.size:
            length = max(1, PIECE_BYTES // (x.nbytes // len(x)))
            for start in range(0, len(x), length):
                checked(self, x[start : start + length], "x")
        else:
            x = np.asarray(checked(self, x, "x"))
        operator = self._operator(x)
        operator.source = self, x
        return operator

    def _operator(self, x: np.ndarray) -> KernelOperator:
        return block_operator(self, x, self.rows_an_example(x))

    def rows_an_example(self, x: Array | np.ndarray) -> int:
        """How many rows of the matrix each of these examples has: its outputs for "all", one for "mean" and "sum"."""
        if self.outputs != "all":
            return 1
        one = jax.ShapeDtypeStruct((1, *x.shape[1:]), jax.dtypes.canonicalize_dtype(x.dtype))
        return jax.eval_shape(lambda one: self.contract(self.features(one), None), one).shape[1]

    def centered(self, reference: Any) -> "Centered":
        """The kernel of this one's features less their mean over the inputs `reference` `(r, ...)`.

            K(x, x') - mean_i K(x, r_i) - mean_i K(r_i, x') + mean_ij K(r_i, r_j)

        Its Gram matrix on the reference itself has rows that sum to zero. For "all" and "each" every output is
        centred alone. Building it costs the Gram matrix of the reference, and each call that of its inputs with the
        reference. Raises `InputError` on the inputs that calling the kernel refuses.
        """
        reference = checked(self, reference, "reference")
        first, second = EXAMPLE_AXES[self.outputs]
        mean = jnp.mean(self(reference), (first, second), keepdims=True)
        return Centered(self.outputs, self, reference, mean)

    def __add__(self, other: "Kernel") -> "Kernel":
        if not isinstance(other, Kernel):
            return NotImplemented
        if self.outputs != other.outputs:
            raise InputError(
                f"Expected kernels with the same outputs to add; got {self.outputs!r} and {other.outputs!r}."
            )
        return Sum(self.outputs, self, other)

    def __radd__(self, other: object) -> "Kernel":
        return self if isinstance(other, int) and other == 0 else NotImplemented  # so that sum(kernels) works

    def __mul__(self, factor: float | Array) -> "Kernel":
        if not isinstance(factor, int | float | np.number | np.ndarray | jax.Array) or np.ndim(factor):
            return NotImplemented
        require_finite(require_array(factor, "the factor of a kernel"), "the factor of a kernel")
        return Scaled(self.outputs, self, factor)

    __rmul__ = __mul__

    def __truediv__(self, divisor: float | Array) -> "Kernel":
        return self * (1 / divisor)


class Plan(NamedTuple):
    """What a kernel makes of inputs of one shape, once they are found to be right: the sizes of blocks and passes."""

    block_rows: int
    pass_rows: int


_plans: dict[tuple, Plan] = {}  # by a kernel's structure, shapes and types, and those of inputs


def checked(kernel: Kernel, x: Any, name: str) -> Array:
    """The inputs as an array; an `InputError` if they are none that this kernel takes."""
    return _planned(kernel, x, name)[0]


def _planned(kernel: Kernel, x: Any, name: str) -> tuple[Array, Plan]:
    """The inputs as an array, and how to go about them; an `InputError` if they are none that this kernel takes."""
    x = require_array(x, name)
    if x.ndim < 2:
        raise InputError(
            f"Expected {name} to be a batch of inputs, with two axes or more; got shape {x.shape}. "
            "One input of d features is (1, d); n inputs of one feature are (n, 1)."
        )
    if x.size == 0:
        raise InputError(f"Expected at least one input in {name}; got shape {x.shape}.")
    require_finite(x, name)
    leaves, treedef = jax.tree.flatten((kernel, x))
    shapes = (type(leaf) if isinstance(leaf, int | float) else _shape(leaf) for leaf in leaves)
    key = treedef, tuple(shapes), jnp.result_type(float)
    plan = _plans.get(key)
    if plan is None:
        kernel.check(x, name)
        plan = Plan(kernel.block_rows(x), kernel.pass_rows(x))
        if not _is_traced((kernel, x)):  # some of what is checked takes values
            if len(_plans) >= MOST_REMEMBERED:
                _plans.clear()
            _plans[key] = plan
    return x, plan


def _shape(leaf: Any) -> Any:
    """The shape and type of an array; anything else itself."""
    return (leaf.shape, leaf.dtype) if eqx.is_array(leaf) else leaf


def _on(device: jax.Device, kernel: Kernel) -> Kernel:
    """The kernel with its arrays on a device."""
    return jax.tree.map(lambda leaf: jax.device_put(leaf, device) if isinstance(leaf, jax.Array) else leaf, kernel)


def _is_traced(values: Any) -> bool:
    """Whether any array among the leaves has no values yet, as inside jit, vmap and grad."""
    return not all(is_known(leaf) for leaf in jax.tree.leaves(values) if isinstance(leaf, jax.Array))


@jax.jit
def _all_finite(gram: Array) -> Array:
    return jnp.isfinite(jnp.max(jnp.abs(gram)))  # without a second array of that size


@compiled
def _gram(kernel: Kernel, x1: Array, x2: Array | None) -> Array:
    """One block in one program."""
    with jax.default_matmul_precision("highest"):
        return kernel.contract(kernel.features(x1), None if x2 is None else kernel.features(x2))


@compiled
def _features(kernel: Kernel, x: Array) -> Any:
    with jax.default_matmul_precision("highest"):
        return kernel.features(x)


@compiled
def _contract(kernel: Kernel, features1: Any, features2: Any | None) -> Array:
    with jax.default_matmul_precision("highest"):
        return kernel.contract(features1, features2)


@compiled
def _room(kernel: Kernel, x: Array) -> Any:
    """The features of these inputs, before they are known."""
    with jax.default_matmul_precision("highest"):
        shapes = jax.eval_shape(kernel.features, x)
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)


@compiled
def _features_of_rows(kernel: Kernel, x: Array, start: Array, rows: int) -> Any:
    with jax.default_matmul_precision("highest"):
        return kernel.features(jax.lax.dynamic_slice_in_dim(x, start, rows))


@partial(jax.jit, static_argnums=0, donate_argnums=3)
def _put(rows: int, start: Array, found: Any, whole: Any) -> Any:
    """The features of all inputs, in their own memory, with those of `rows` of them put in their place."""

    def put(part: Array, whole: Array) -> Array:
        if len(part) < rows:  # the same for all
            return part
        return jax.lax.dynamic_update_slice_in_dim(whole, part, start, 0)

    return jax.tree.map(put, found, whole)


class Sum(Kernel):
    """The sum of two kernels of the same kind of outputs; write `kernel1 + kernel2`."""

    left: Kernel
    right: Kernel

    def features(self, x: Array) -> Any:
        return self.left.features(x), self.right.features(x)

    def contract(self, features1: Any, features2: Any | None) -> Array:
        left, right = zip(features1, (None, None) if features2 is None else features2, strict=True)
        grams = self.left.contract(*left), self.right.contract(*right)
        if grams[0].shape != grams[1].shape:
            raise InputError(
                "Expected kernels of as many outputs to add; got blocks of shapes "
                f"{grams[0].shape} and {grams[1].shape}."
            )
        return grams[0] + grams[1]

    def block_rows(self, x: Array) -> int:
        return min(self.left.block_rows(x), self.right.block_rows(x))

    def pass_rows(self, x: Array) -> int:
        return min(self.left.pass_rows(x), self.right.pass_rows(x))

    def check(self, x: Array, name: str) -> None:
        self.left.check(x, name)
        self.right.check(x, name)

    def _operator(self, x: np.ndarray) -> KernelOperator:
        return self.left._operator(x) + self.right._operator(x)


class Scaled(Kernel):
    """A kernel times a number; write `factor * kernel`."""

    kernel: Kernel
    factor: float | Array

    def features(self, x: Array) -> Any:
        return self.kernel.features(x)

    def contract(self, features1: Any, features2: Any | None) -> Array:
        return self.factor * self.kernel.contract(features1, features2)

    def block_rows(self, x: Array) -> int:
        return self.kernel.block_rows(x)

    def pass_rows(self, x: Array) -> int:
        return self.kernel.pass_rows(x)

    def check(self, x: Array, name: str) -> None:
        self.kernel.check(x, name)

    def _operator(self, x: np.ndarray) -> KernelOperator:
        return self.kernel._operator(x) * float(self.factor)


class Centered(Kernel):
    """A kernel whose features have mean zero over the inputs `reference`; write `kernel.centered(reference)`."""

    kernel: Kernel
    reference: Array
    mean: Array  # of the kernel over pairs of reference inputs, with their axes kept

    def features(self, x: Array) -> Any:
        own = self.kernel.features(x)
        tiles_of = tiles.Tiles(self.reference, min(self.block_rows(x), len(self.reference)))
        axis = EXAMPLE_AXES[self.outputs][1]
        total: Any = 0.0
        for index in range(len(tiles_of)):
            block = self.kernel.contract(own, self.kernel.features(tiles_of[index]))
            bounds = tiles_of.bounds(index)
            total += jnp.sum(jax.lax.slice_in_dim(block, 0, bounds.stop - bounds.start, axis=axis), axis, keepdims=True)
        # Examples first, as in all features.
        return own, jnp.moveaxis(total / len(self.reference), EXAMPLE_AXES[self.outputs][0], 0)

    def contract(self, features1: Any, features2: Any | None) -> Array:
        axes = EXAMPLE_AXES[self.outputs]
        left, right = (jnp.moveaxis(side[1], 0, axes[0]) for side in (features1, features2 or features1))
        gram = self.kernel.contract(features1[0], None if features2 is None else features2[0])
        return gram - left - tiles.transpose(right, axes) + self.mean

    def block_rows(self, x: Array) -> int:
        return self.kernel.block_rows(x)

    def pass_rows(self, x: Array) -> int:
        return self.kernel.pass_rows(x)

    def _operator(self, x: np.ndarray) -> KernelOperator:
        if x.shape == self.reference.shape and np.array_equal(x, self.reference):
            return self.kernel._operator(x).centered()
        return super()._operator(x)

    def check(self, x: Array, name: str) -> None:
        self.kernel.check(x, name)
        if x.shape[1:] != self.reference.shape[1:]:
            raise InputError(
                f"Expected {name} to hold inputs like those the kernel is centred on, of shape "
                f"{self.reference.shape[1:]}; got {x.shape[1:]}."
            )
