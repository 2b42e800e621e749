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
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ntkbias.checks import are_known, in_native_order, require_array, require_finite, require_positive
from ntkbias.errors import InputError
from ntkbias.kernels import operators
from ntkbias.kernels.evaluation import (
    Worker,
    gram,
    gram_in_one_program,
    require_finite_gram,
    require_inputs_alike,
    worker_of,
    workers_of,
)
from ntkbias.kernels.inputs import checked, of_one_array, planned
from ntkbias.kernels.operators import MANY_PRODUCTS, BlockOperator, KernelOperator, Source
from ntkbias.kernels.outputs import arrangement, transposed
from ntkbias.kernels.tiles import Tiles
from ntkbias.packing import Layout, are_several
from ntkbias.tables import Described
from ntkbias.types import Outputs

__all__ = ["Kernel"]

PIECE_BYTES = 2**24  # of inputs that are checked at a time


class Kernel(Described):
    """A symmetric positive semi-definite function of two inputs.

    `kernel(x1, x2)` gives `(n, m)` for `outputs` "mean" and "sum", `(o, n, m)` for "each" and `(n, o, m, o)` for "all".
    A subclass says how to compute one block from the features of its two sides, and how many examples a side may have.
    """

    outputs: Outputs = eqx.field(static=True)
    form = '{0.__class__.__name__}, outputs "{0.outputs}"'  # what printing shows

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

    def packed(self, layout: Layout) -> "Kernel":
        """The same kernel of inputs that are packed so; an `InputError` if it takes one array alone."""
        raise InputError(
            f"Expected inputs of this kernel as one array of real numbers (n, ...); got {layout}. Kernels of functions "
            "f(params, x), as empirical_ntk, take those."
        )

    def unpacked(self, x: Any) -> Any:
        """Inputs as the user's function takes them, where this is a kernel of packed ones; else as they are."""
        return x

    def __call__(self, x1: Any, x2: Any = None) -> Float[Array, "..."]:
        """The Gram matrix of `x1` `(n, ...)` and `x2` `(m, ...)`; of `x1` with itself, at half the work, without `x2`.

        Where the function of an empirical kernel takes several arrays, x1 and x2 are such pytrees, dictionaries say,
        with the examples on the first axis of each array.

        Raises `InputError` on empty inputs, NaN or infinite values, and inputs whose shapes differ.
        """
        if are_several(x1) or are_several(x2):
            kernel, x1 = of_one_array(self, x1, "x1")
            kernel, x2 = (kernel, None) if x2 is None else of_one_array(kernel, x2, "x2")
            return kernel(x1, x2)
        x1, plan = planned(self, x1, "x1")
        if x2 is not None:
            x2, _ = planned(self, x2, "x2")
            require_inputs_alike(x1, x2)
        # Where values are traced the work belongs to the surrounding program, on whatever devices that runs.
        traced = not are_known((self, x1, x2))
        num_devices, num_processes = (1, 1) if traced else (jax.local_device_count(), jax.process_count())
        longest = max(len(x1), 0 if x2 is None else len(x2))
        # Twice as many columns as devices, so that each has a share of the triangle.
        places = num_processes * num_devices
        rows = min(plan.block_rows, -(-longest // (2 * places if places > 1 else 1)))
        # In one program where that is small: on CPUs the memory of a large one is mapped anew at each call.
        if places == 1 and longest <= min(rows, plan.pass_rows // 2):
            found = gram_in_one_program(self, x1, x2)
        else:
            workers = [worker_of(self)] if traced else self.workers()
            found = gram(workers, x1, x2, rows=rows, outputs=self.outputs, num_processes=num_processes)
        if are_known(found):
            require_finite_gram(found, lambda: self.blamed(x1, *(() if x2 is None else (x2,))))
        return found

    def blamed(self, *sides: Any) -> str:
        """What is not finite at these inputs, as far as the kernel can tell, and what to do."""
        return "Check the scale of inputs and parameters."

    def workers(self) -> list[Worker]:
        """This kernel's compiled programs on each device of this process; blocks come back to the first."""
        return workers_of(self)

    def operator(self, x: Any, *, num_products: int = MANY_PRODUCTS) -> KernelOperator:
        """The kernel of the inputs `x` `(n, ...)` with themselves as a linear operator: products, never the matrix.

        Of `(n, n)`, and `(n o, n o)` for outputs="all". An empirical NTK multiplies by its Jacobian: for a vector at
        the cost of a backward and a forward pass over the inputs ("mean" and "sum": one of each an output), and less
        for each of a block. Where gradients fit an eighth of the memory budget, they are kept from product to product,
        if that pays for `num_products` of them: say 1 for a single one. Sums and multiples of kernels are those of
        operators; any other kernel takes its products from blocks, half of the matrix each time. Memory stays within
        the kernel's `memory_budget`. `x` may be a `numpy.memmap`, read piece by piece. The kernel of one layer,
        `empirical_ntk_by_layer(...)[path]`, is that of one block of columns of the Jacobian.

        Raises `InputError` on the inputs that calling the kernel refuses, and for outputs="each".
        """
        if are_several(x):
            kernel, x = of_one_array(self, x, "x")
            return kernel.operator(x, num_products=num_products)
        if self.outputs == "each":
            raise InputError(
                "Expected a kernel that is one matrix, of outputs 'mean', 'sum' or 'all'; got outputs='each', one "
                "matrix an output. Make f return one output to take its own."
            )
        if not are_known((self, x)):
            raise InputError(
                "Expected values to make an operator of; got ones that are traced, as under jit, vmap or grad. Make "
                "the operator outside, or evaluate the kernel itself."
            )
        require_positive("num_products", num_products)
        x = in_native_order(x) if isinstance(x, np.ndarray) else x
        if isinstance(x, np.ndarray) and x.ndim >= 2 and x.size:
            length = max(1, PIECE_BYTES // (x.nbytes // len(x)))
            for start in range(0, len(x), length):
                checked(self, x[start : start + length], "x")
        else:
            x = np.asarray(checked(self, x, "x"))
        return self._operator(x, Source(self, x), num_products)

    def _operator(self, x: np.ndarray, source: Source, num_products: int) -> KernelOperator:
        """The operator of checked inputs, of which `source` says what it is of."""
        one = self._gram_of_one(x)
        dtype = jnp.result_type(one.dtype, np.float32)  # the kernel's: its inputs may be narrower than its parameters
        rows = min(self.block_rows(jnp.asarray(x[:1])), len(x))
        return BlockOperator(self.workers(), x, rows, self.rows_an_example(x), dtype, source)

    def rows_an_example(self, x: Array | np.ndarray) -> int:
        """How many rows of the matrix each of these examples has: its outputs for "all", one for "mean" and "sum"."""
        return self._gram_of_one(x).shape[1] if self.outputs == "all" else 1

    def _gram_of_one(self, x: Array | np.ndarray) -> jax.ShapeDtypeStruct:
        one = jax.ShapeDtypeStruct((1, *x.shape[1:]), jax.dtypes.canonicalize_dtype(x.dtype))
        return jax.eval_shape(lambda one: self.contract(self.features(one), None), one)

    def centered(self, reference: Any) -> "Centered":
        """The kernel of this one's features less their mean over the inputs `reference` `(r, ...)`.

            K(x, x') - mean_i K(x, r_i) - mean_i K(r_i, x') + mean_ij K(r_i, r_j)

        Its Gram matrix on the reference itself has rows that sum to zero. For "all" and "each" every output is
        centered alone. Building it costs the Gram matrix of the reference, and each call that of its inputs with the
        reference. Raises `InputError` on the inputs that calling the kernel refuses.
        """
        kernel, reference = of_one_array(self, reference, "reference")
        reference = checked(kernel, reference, "reference")
        mean = jnp.mean(kernel(reference), arrangement(self.outputs).axes, keepdims=True)
        return Centered(self.outputs, kernel, reference, mean)

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


class Sum(Kernel):
    """The sum of two kernels of the same kind of outputs; write `kernel1 + kernel2`."""

    left: Kernel
    right: Kernel
    form = "{0.left} + {0.right}"

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

    def packed(self, layout: Layout) -> Kernel:
        return Sum(self.outputs, self.left.packed(layout), self.right.packed(layout))

    def unpacked(self, x: Any) -> Any:
        return self.left.unpacked(x)

    def _operator(self, x: np.ndarray, source: Source, num_products: int) -> KernelOperator:
        left, right = (part._operator(x, Source(part, x), num_products) for part in (self.left, self.right))
        return operators.Sum(left, right, source)


class Scaled(Kernel):
    """A kernel times a number; write `factor * kernel`."""

    kernel: Kernel
    factor: float | Array
    form = "{0.factor:.4g} * ({0.kernel})"

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

    def packed(self, layout: Layout) -> Kernel:
        return Scaled(self.outputs, self.kernel.packed(layout), self.factor)

    def unpacked(self, x: Any) -> Any:
        return self.kernel.unpacked(x)

    def _operator(self, x: np.ndarray, source: Source, num_products: int) -> KernelOperator:
        return self.kernel._operator(x, Source(self.kernel, x), num_products) * float(self.factor)


class Centered(Kernel):
    """A kernel whose features have mean zero over the inputs `reference`; write `kernel.centered(reference)`."""

    kernel: Kernel
    reference: Array
    mean: Array  # of the kernel over pairs of reference inputs, with their axes kept
    form = "{0.kernel}, centered on {0.reference.shape[0]} inputs"

    def features(self, x: Array) -> Any:
        own = self.kernel.features(x)
        pieces = Tiles(self.reference, min(self.block_rows(x), len(self.reference)))
        axes = arrangement(self.outputs).axes
        total: Any = 0.0
        for index in range(len(pieces)):
            block = self.kernel.contract(own, self.kernel.features(pieces[index]))
            bounds = pieces.bounds(index)
            block = jax.lax.slice_in_dim(block, 0, bounds.stop - bounds.start, axis=axes[1])
            total += jnp.sum(block, axes[1], keepdims=True)
        # Examples first, as in all features.
        return own, jnp.moveaxis(total / len(self.reference), axes[0], 0)

    def contract(self, features1: Any, features2: Any | None) -> Array:
        axis = arrangement(self.outputs).axes[0]
        left, right = (jnp.moveaxis(side[1], 0, axis) for side in (features1, features2 or features1))
        gram = self.kernel.contract(features1[0], None if features2 is None else features2[0])
        return gram - left - transposed(right, self.outputs) + self.mean

    def block_rows(self, x: Array) -> int:
        return self.kernel.block_rows(x)

    def pass_rows(self, x: Array) -> int:
        return self.kernel.pass_rows(x)

    def _operator(self, x: np.ndarray, source: Source, num_products: int) -> KernelOperator:
        if x.shape == self.reference.shape and np.array_equal(x, self.reference):
            return operators.Centered(self.kernel._operator(x, Source(self.kernel, x), num_products), source)
        return super()._operator(x, source, num_products)

    def packed(self, layout: Layout) -> Kernel:
        return Centered(self.outputs, self.kernel.packed(layout), self.reference, self.mean)

    def unpacked(self, x: Any) -> Any:
        return self.kernel.unpacked(x)

    def check(self, x: Array, name: str) -> None:
        self.kernel.check(x, name)
        if x.shape[1:] != self.reference.shape[1:]:
            raise InputError(
                f"Expected {name} to hold inputs like those the kernel is centered on, of shape "
                f"{self.reference.shape[1:]}; got {x.shape[1:]}."
            )
