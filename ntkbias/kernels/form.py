"""SymmetricForm: a symmetric function of two sets of inputs, whose calls give Gram matrices.

The derivative of a kernel is symmetric, but it has negative eigenvalues, so it is no kernel. It can be called,
multiplied by vectors and stored on disk; `spectrum` refuses it. `Kernel` is the positive semi-definite subclass. A form
is an immutable pytree whose leaves are its parameters. Forms can be added, and multiplied by numbers.
"""

import abc
from typing import Any, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ntkbias.checks import are_known, in_native_order, require_array, require_finite, require_positive
from ntkbias.errors import InputError
from ntkbias.kernels import operators
from ntkbias.kernels.evaluation import (
    DevicePrograms,
    gram,
    gram_in_one_program,
    programs_of_device,
    programs_per_device,
    require_finite_gram,
    require_inputs_alike,
)
from ntkbias.kernels.inputs import checked, of_one_array, planned
from ntkbias.kernels.operators import MANY_PRODUCTS, BlockOperator, KernelOperator, Source
from ntkbias.kernels.outputs import arrangement, transposed
from ntkbias.kernels.tiles import Tiles
from ntkbias.packing import Layout, are_several
from ntkbias.tables import Described
from ntkbias.types import Outputs

__all__ = ["FormCentered", "FormScaled", "FormSum", "SymmetricForm"]

PIECE_BYTES = 2**24  # bytes of inputs that are checked at a time


class SymmetricForm(Described):
    """A symmetric function of two inputs; `Kernel` is one that is positive semi-definite.

    `form(x1, x2)` is `(n, m)` for `outputs` "mean" and "sum", `(o, n, m)` for "each" and `(n, o, m, o)` for "all".
    A subclass computes one block from the features of its two sides, and says how many examples a side may have.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> f, params = lambda params, x: jnp.sin(x @ params), jnp.ones(2)
    >>> kernel, velocity = nb.empirical_ntk(f, params), nb.ntk_velocity(f, params, direction=params)
    >>> ahead = kernel + 0.1 * velocity    # to first order, the kernel at params + 0.1 direction
    >>> isinstance(velocity, nb.Kernel), isinstance(ahead, nb.Kernel), ahead(jnp.eye(2)).shape
    (False, False, (2, 2))
    """

    outputs: Outputs = eqx.field(static=True)
    no_kernel = "whose Gram matrix may have negative eigenvalues; use jax.numpy.linalg.eigh(form(x))"
    form = '{0.__class__.__name__}, outputs "{0.outputs}"'  # what printing shows

    def features(self, x: Array) -> Any:
        """Compute what all blocks of a set of inputs share; by default the inputs themselves.

        The result is a pytree of arrays whose first axis is that of the inputs. An array that all inputs share may have
        length 1 there.
        """
        return x

    @abc.abstractmethod
    def contract(self, features1: Any, features2: Any | None) -> Array:
        """The Gram matrix of two sets of inputs, given their features. With None, it is that of the first set alone."""

    @abc.abstractmethod
    def block_rows(self, x: Array) -> int:
        """How many examples like those of `x` each side of a block may have within the memory budget."""

    def pass_rows(self, x: Array) -> int:
        """How many examples the features are computed for at once. The features of a block's side are then joined."""
        return self.block_rows(x)

    def check(self, x: Array, name: str) -> None:
        """Raise an `InputError` if this kernel cannot take inputs of the shape and type of `x`.

        It is called once per shape. The values of inputs are checked elsewhere, at every call.
        """

    def packed(self, layout: Layout) -> Self:
        """The same kernel as a function of packed inputs. Raises `InputError` if it takes only one array."""
        raise InputError(
            f"Expected inputs of this kernel as one array of real numbers (n, ...); got {layout}. Only kernels of "
            "functions f(params, x), e.g. empirical_ntk, take several arrays."
        )

    def unpacked(self, x: Any) -> Any:
        """Inputs as the user's function takes them: unpacked if this is a kernel of packed inputs."""
        return x

    def __call__(self, x1: Any, x2: Any = None) -> Float[Array, "..."]:
        """The Gram matrix of `x1` `(n, ...)` and `x2` `(m, ...)`. Without `x2`: of `x1` with itself, at half the cost.

        If f takes several arrays, `x1` and `x2` are pytrees of arrays with the examples on their first axes, such as
        dictionaries.

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
        # Under tracing, the work becomes part of the surrounding program, and runs on that program's devices.
        traced = not are_known((self, x1, x2))
        num_devices, num_processes = (1, 1) if traced else (jax.local_device_count(), jax.process_count())
        longest = max(len(x1), 0 if x2 is None else len(x2))
        # Twice as many columns of blocks as devices, so that each device has a share of the triangle.
        all_devices = num_processes * num_devices
        rows = min(plan.block_rows, -(-longest // (2 * all_devices if all_devices > 1 else 1)))
        # One program makes only small matrices: on CPUs the memory of a large one is mapped anew at each call.
        if all_devices == 1 and longest <= min(rows, plan.pass_rows // 2):
            found = gram_in_one_program(self, x1, x2)
        else:
            programs = [programs_of_device(self)] if traced else self.device_programs()
            found = gram(programs, x1, x2, rows=rows, outputs=self.outputs, num_processes=num_processes)
        if are_known(found):
            require_finite_gram(found, lambda: self.nonfinite_reason(x1, *(() if x2 is None else (x2,))))
        return found

    def nonfinite_reason(self, *sides: Any) -> str:
        """Say what is not finite at these inputs, if the kernel can tell, and what to do."""
        return "Check the scale of inputs and parameters."

    def device_programs(self) -> list[DevicePrograms]:
        """This kernel's compiled programs on each device of this process. Blocks are moved to the first device."""
        return programs_per_device(self)

    def operator(self, x: Any, *, num_products: int = MANY_PRODUCTS) -> KernelOperator:
        """The Gram matrix of the inputs `x` `(n, ...)` as a linear operator, which computes products and no matrix.

        Its shape is `(n, n)`, or `(n o, n o)` for outputs="all". An empirical NTK multiplies by its Jacobian: a vector
        costs a backward and a forward pass over the inputs (for "mean" and "sum" one of each per output), and less in a
        block of vectors. Per-example gradients are kept between products if they fit an eighth of the memory budget;
        they are used if that is cheaper for `num_products` products. Pass 1 for a single one. Sums and multiples of
        kernels become those of operators. Other kernels compute half of their matrix, block by block, for each product.
        Memory stays within the kernel's `memory_budget`. `x` may be a `numpy.memmap`, which is read piece by piece. The
        operator of `empirical_ntk_by_layer(...)[path]` multiplies by that layer's columns of the Jacobian.

        Raises `InputError` on inputs that the kernel refuses, and for outputs="each".
        """
        if are_several(x):
            kernel, x = of_one_array(self, x, "x")
            return kernel.operator(x, num_products=num_products)
        if self.outputs == "each":
            raise InputError(
                "Expected a kernel that is one matrix, of outputs 'mean', 'sum' or 'all'; got outputs='each', one "
                "matrix per output. For a single output make f return only that one."
            )
        if not are_known((self, x)):
            raise InputError(
                "Expected concrete arrays for an operator; got traced ones, as under jit, vmap or grad. Make the "
                "operator outside, or call the kernel itself."
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
        """The operator of checked inputs. `source` is the kernel and inputs that it reports as its own."""
        one = self._gram_of_one(x)
        dtype = jnp.result_type(one.dtype, np.float32)  # the kernel's type: inputs may be narrower than parameters
        rows = min(self.block_rows(jnp.asarray(x[:1])), len(x))
        return BlockOperator(self.device_programs(), x, rows, self.rows_per_example(x), dtype, source)

    def rows_per_example(self, x: Array | np.ndarray) -> int:
        """How many rows of the matrix belong to each example: one per output for "all", otherwise one."""
        return self._gram_of_one(x).shape[1] if self.outputs == "all" else 1

    def _gram_of_one(self, x: Array | np.ndarray) -> jax.ShapeDtypeStruct:
        one = jax.ShapeDtypeStruct((1, *x.shape[1:]), jax.dtypes.canonicalize_dtype(x.dtype))
        return jax.eval_shape(lambda one: self.contract(self.features(one), None), one)

    def centered(self, reference: Any) -> "FormCentered":
        """The kernel of features minus their mean over the inputs `reference` `(r, ...)`.

            K(x, x') - mean_i K(x, r_i) - mean_i K(r_i, x') + mean_ij K(r_i, r_j)

        The rows of its Gram matrix on the reference sum to zero. For "all" and "each" every output is centered alone.
        Making it costs the Gram matrix of the reference; each call also costs that of its inputs with the reference.
        Raises `InputError` on inputs that the kernel refuses.
        """
        kernel, reference = of_one_array(self, reference, "reference")
        reference = checked(kernel, reference, "reference")
        mean = jnp.mean(kernel(reference), arrangement(self.outputs).axes, keepdims=True)
        return FormCentered(self.outputs, kernel, reference, mean)

    def __add__(self, other: Any) -> Any:  # a Kernel where both are
        if not isinstance(other, SymmetricForm):
            return NotImplemented
        if self.outputs != other.outputs:
            raise InputError(
                f"Expected kernels with the same outputs to add; got {self.outputs!r} and {other.outputs!r}."
            )
        return FormSum(self.outputs, self, other)

    def __radd__(self, other: object) -> Any:
        return self if isinstance(other, int) and other == 0 else NotImplemented  # sum(kernels) begins with 0

    def __mul__(self, factor: float | Array) -> Any:  # a Kernel where this is one
        if not isinstance(factor, int | float | np.number | np.ndarray | jax.Array) or np.ndim(factor):
            return NotImplemented
        require_finite(require_array(factor, "the factor of a kernel"), "the factor of a kernel")
        return FormScaled(self.outputs, self, factor)

    __rmul__ = __mul__

    def __truediv__(self, divisor: float | Array) -> Any:
        return self * (1 / divisor)


class FormSum(SymmetricForm):
    """The sum of two forms with the same `outputs`; write `form1 + form2`."""

    left: SymmetricForm
    right: SymmetricForm
    form = "{0.left} + {0.right}"

    def features(self, x: Array) -> Any:
        return self.left.features(x), self.right.features(x)

    def contract(self, features1: Any, features2: Any | None) -> Array:
        left, right = zip(features1, (None, None) if features2 is None else features2, strict=True)
        grams = self.left.contract(*left), self.right.contract(*right)
        if grams[0].shape != grams[1].shape:
            raise InputError(
                "Expected kernels with the same number of outputs to add; got blocks of shapes "
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

    def packed(self, layout: Layout) -> Self:
        return type(self)(self.outputs, self.left.packed(layout), self.right.packed(layout))

    def unpacked(self, x: Any) -> Any:
        return self.left.unpacked(x)

    def _operator(self, x: np.ndarray, source: Source, num_products: int) -> KernelOperator:
        left, right = (part._operator(x, Source(part, x), num_products) for part in (self.left, self.right))
        return operators.Sum(left, right, source)


class FormScaled(SymmetricForm):
    """A form times a number; write `factor * form`."""

    kernel: SymmetricForm
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

    def packed(self, layout: Layout) -> Self:
        return type(self)(self.outputs, self.kernel.packed(layout), self.factor)

    def unpacked(self, x: Any) -> Any:
        return self.kernel.unpacked(x)

    def _operator(self, x: np.ndarray, source: Source, num_products: int) -> KernelOperator:
        return self.kernel._operator(x, Source(self.kernel, x), num_products) * float(self.factor)


class FormCentered(SymmetricForm):
    """A form whose features have mean zero over the inputs `reference`; write `form.centered(reference)`."""

    kernel: SymmetricForm
    reference: Array
    mean: Array  # of the kernel over pairs of reference inputs; their axes are kept, with length 1
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
        # Features have the examples on their first axis.
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

    def packed(self, layout: Layout) -> Self:
        return type(self)(self.outputs, self.kernel.packed(layout), self.reference, self.mean)

    def unpacked(self, x: Any) -> Any:
        return self.kernel.unpacked(x)

    def check(self, x: Array, name: str) -> None:
        self.kernel.check(x, name)
        if x.shape[1:] != self.reference.shape[1:]:
            raise InputError(
                f"Expected {name} to hold inputs like the reference inputs of the centered kernel, of shape "
                f"{self.reference.shape[1:]}; got {x.shape[1:]}."
            )
