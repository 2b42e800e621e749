"""The cross-kernel of two functions of the same parameters: how a gradient step on one changes the other.

    K(x, x')[a, b] = <d f_a(x) / d params, d g_b(x') / d params>,      K = J_f J_g^T

Such pairs are two heads of one network, a network and its derivative by the inputs, or two tasks. The matrix is not
symmetric and has no spectrum, so it is not a `Kernel`. The matrix of all blocks, of several functions with themselves
and each other, is positive semi-definite again: `block_ntk`.

>>> import jax.numpy as jnp, ntkbias as nb
>>> f = lambda params, x: jnp.tanh(x @ params["trunk"]) @ params["head"]
>>> g = lambda params, x: jnp.tanh(x @ params["trunk"]) @ params["other"]
>>> params = {"trunk": jnp.ones((3, 5)), "head": jnp.ones((5, 2)), "other": jnp.ones((5, 4))}
>>> nb.cross_ntk(f, g, params, outputs="all")(jnp.ones((6, 3)), jnp.ones((7, 3))).shape
(6, 2, 7, 4)
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ntkbias.checks import are_known, require_choice
from ntkbias.compilation import compiled
from ntkbias.errors import InputError, InputTypeError
from ntkbias.kernels.empirical.matched import Side, sides_of, square_rows
from ntkbias.kernels.empirical.ntk import EmpiricalNTK
from ntkbias.kernels.evaluation import DevicePrograms, gram, programs_of_device, programs_per_device
from ntkbias.kernels.gradients import Gradients
from ntkbias.kernels.inputs import checked, of_one_array
from ntkbias.parameters import Which
from ntkbias.tables import Described, name_of
from ntkbias.types import ApplyFunction, Outputs, Params, Precision

__all__ = ["CrossNTK", "cross_ntk"]


def cross_ntk(
    f: ApplyFunction,
    g: ApplyFunction,
    params: Params,
    *,
    outputs: Outputs = "mean",
    memory_budget: int | None = None,
    precision: Precision = "highest",
    wrt: Which | None = None,
) -> "CrossNTK":
    """The inner products of the gradients of `f` with those of `g`, two functions of the same `params`.

    `cross_ntk(f, g, params)(x1, x2)` takes `x1` `(n, ...)` for f and `x2` `(m, ...)` for g, which may have different
    shapes. With o outputs of f and c of g it is `(n, o, m, c)` for outputs="all". "each" `(o, n, m)`, "sum" and "mean"
    `(n, m)` pair output a of f with output a of g, so they need o = c. For g = f the result is that of
    `empirical_ntk`.

    A parameter that both functions use in the same way costs what it costs in `empirical_ntk`; for "mean" and "sum" it
    costs o times that. For any other parameter both Jacobians are formed within `memory_budget`, of n o p numbers
    each. A parameter that only one function uses adds nothing. Other arguments are those of `empirical_ntk`.

    Raises `InputError` as `empirical_ntk` does for either function, and for outputs other than "all" if f and g have
    different numbers of outputs. A call with one set of inputs raises `InputTypeError`.

    >>> import jax.numpy as jnp
    >>> f, g = (lambda params, x: x @ params), (lambda params, x: 2.0 * x @ params)
    >>> cross_ntk(f, g, jnp.ones((2, 1)))(jnp.eye(2), jnp.array([[1.0, 2.0]])).tolist()
    [[2.0], [4.0]]
    """
    require_choice("outputs", outputs, Outputs)
    unfolded: Outputs = "all" if outputs == "all" else "each"  # folded outputs of f would not match those of g
    sides = [Gradients.of(function, params, unfolded, precision, memory_budget, wrt) for function in (f, g)]
    return CrossNTK(outputs, *sides)


class CrossNTK(Described):
    """The inner products of two functions' gradients; made by `cross_ntk`. A pytree whose leaves are the parameters.

    >>> import jax, ntkbias as nb
    >>> kernel = nb.cross_ntk(lambda p, x: x @ p, lambda p, x: 2 * x @ p, jax.numpy.ones((2, 1)))
    >>> isinstance(kernel, nb.kernels.CrossNTK), kernel(jax.numpy.eye(2), jax.numpy.eye(2)).tolist()
    (True, [[2.0, 0.0], [0.0, 2.0]])
    """

    outputs: Outputs = eqx.field(static=True)
    left: Gradients
    right: Gradients
    no_kernel = "whose matrix is not symmetric; use jax.numpy.linalg.svd(cross(x1, x2))"

    def described(self) -> str:
        """The functions, and what becomes of their outputs."""
        left, right = name_of(self.left.f), self.right.described()
        return f"NTK between {left} and {right}"

    def __call__(self, x1: Any, x2: Any = None) -> Float[Array, "..."]:
        """The matrix of `x1` `(n, ...)`, given to the first function, and `x2` `(m, ...)`, given to the second.

        Raises `InputError` on empty inputs, NaN or infinite values, and on inputs that a function refuses.
        """
        if x2 is None:
            raise InputTypeError(
                "Expected two sets of inputs, x1 for f and x2 for g, since the kernel between two functions is not "
                "symmetric; got one. For one function use empirical_ntk, for the joint kernel of several block_ntk."
            )
        (left, x1), (right, x2) = (
            of_one_array(EmpiricalNTK(gradients), x, name)
            for gradients, x, name in ((self.left, x1, "x1"), (self.right, x2, "x2"))
        )
        packed = CrossNTK(self.outputs, left.gradients, right.gradients)
        return packed._of_arrays(checked(left, x1, "x1"), checked(right, x2, "x2"))

    def _of_arrays(self, x1: Array, x2: Array) -> Array:
        num_outputs = self.left.num_outputs(x1), self.right.num_outputs(x2)
        if self.outputs != "all" and num_outputs[0] != num_outputs[1]:
            raise InputError(
                f"Expected f and g to have the same number of outputs for outputs={self.outputs!r}; got "
                f"{num_outputs[0]} and {num_outputs[1]}. Use outputs='all' for the kernel between all of them."
            )
        sides = self._sides(x1, x2)
        if sides is None:
            return self._zeros(x1, x2, num_outputs)
        found = self._evaluated(sides, x1, x2, square_rows(self.left.memory_budget, num_outputs, self.outputs))
        if are_known(found) and not bool(jnp.all(jnp.isfinite(found))):
            raise InputError(
                "Expected inputs at which the kernel is finite; got NaN or infinity in its matrix. "
                "Check the scale of inputs and parameters."
            )
        return found

    def _evaluated(self, sides: "Sides", x1: Array, x2: Array, most_rows: int) -> Array:
        """The matrix, in blocks on all devices; a small one in a single program."""
        traced = not are_known((self, x1, x2))
        num_devices, num_processes = (1, 1) if traced else (jax.local_device_count(), jax.process_count())
        longest = max(len(x1), len(x2))
        places = num_processes * num_devices
        rows = min(sides.left.block_rows(x1), sides.right.block_rows(x2), most_rows)
        rows = min(rows, -(-longest // (2 * places if places > 1 else 1)))
        passes = min(sides.left.pass_rows(x1), sides.right.pass_rows(x2))
        if places == 1 and longest <= min(rows, passes // 2):
            return _in_one_program(sides, x1, x2)
        made = [[programs_of_device(side)] if traced else programs_per_device(side) for side in sides]
        programs = [DevicePrograms(a.features, a.contract, b.features) for a, b in zip(*made, strict=True)]
        return gram(programs, x1, x2, rows=rows, outputs=self.outputs, num_processes=num_processes)

    def _sides(self, x1: Array, x2: Array) -> "Sides | None":
        """The gradients of both functions by the parameters that they share; None if they share none."""
        left, right = sides_of([self.left, self.right], [x1, x2], self.outputs)
        shared = {*left.matched, *left.formed} & {*right.matched, *right.formed}
        return Sides(left.among(shared), right.among(shared)) if shared else None

    def _zeros(self, x1: Array, x2: Array, num_outputs: tuple[int, int]) -> Array:
        """The zero kernel of two functions that share no parameter."""
        n, m, (o, c) = len(x1), len(x2), num_outputs
        shapes = {"all": (n, o, m, c), "each": (o, n, m)}
        dtype = jnp.result_type(jnp.float32, *(leaf.dtype for leaf in jax.tree.leaves(self.left.params)))
        return jnp.zeros(shapes.get(self.outputs, (n, m)), jnp.finfo(dtype).dtype)


class Sides(NamedTuple):
    """The gradients of both functions of a cross-kernel."""

    left: Side
    right: Side


@compiled
def _in_one_program(sides: Sides, x1: Array, x2: Array) -> Array:
    with jax.default_matmul_precision("highest"):
        return sides.left.contract(sides.left.features(x1), sides.right.features(x2))
