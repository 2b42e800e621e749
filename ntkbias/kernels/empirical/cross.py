"""The kernel between two functions of the same parameters: how a step on one of them moves the other.

    K(x, x')[a, b] = <d f_a(x) / d params, d g_b(x') / d params>,      K = J_f J_g^T

It is no kernel of one function: not symmetric, and without eigenvalues. Two heads of one network, a network and its
derivative by the inputs, a task and another are such pairs. The matrix of all such blocks, of several functions with
themselves and each other, is a kernel again: `block_ntk`.

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
from ntkbias.kernels.evaluation import Worker, gram, worker_of, workers_of
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

    `cross_ntk(f, g, params)(x1, x2)` is `(n, m)`, for `x1` `(n, ...)` that f takes and `x2` `(m, ...)` that g takes;
    the two may have different shapes. `outputs` says what becomes of the outputs, o of f and c of g: "all" gives `(n,
    o, m, c)`; "each" `(o, n, m)`, "sum" and "mean" `(n, m)` pair each output of f with the same one of g, of which
    there have to be as many. Where f is g it is `empirical_ntk`.

    A parameter that both functions use in the same way is contracted as in `empirical_ntk`, at the same cost but for
    the mean and sum over outputs, which take o times what they do there; of any other parameter both Jacobians are
    formed, within `memory_budget`, of n o p numbers each. A parameter that only one of them uses adds nothing. Other
    arguments are those of `empirical_ntk`.

    Raises `InputError` as `empirical_ntk` does, for either function; on a call with one set of inputs; and where
    outputs are paired of which there are not as many.
    """
    require_choice("outputs", outputs, Outputs)
    apart: Outputs = "all" if outputs == "all" else "each"  # folded outputs of one function do not fit the other's
    sides = [Gradients.of(function, params, apart, precision, memory_budget, wrt) for function in (f, g)]
    return CrossNTK(outputs, *sides)


class CrossNTK(Described):
    """The inner products of two functions' gradients; made by `cross_ntk`. A pytree whose leaves are the parameters."""

    outputs: Outputs = eqx.field(static=True)
    left: Gradients
    right: Gradients

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
                "symmetric; got one. For the kernel of one function use empirical_ntk, for that of several block_ntk."
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
                f"Expected f and g to have as many outputs, for outputs={self.outputs!r}; got {num_outputs[0]} and "
                f"{num_outputs[1]}. Use outputs='all', which gives the kernel between all of them."
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
        """The matrix by blocks, on all devices; in one program where that is small."""
        traced = not are_known((self, x1, x2))
        num_devices, num_processes = (1, 1) if traced else (jax.local_device_count(), jax.process_count())
        longest = max(len(x1), len(x2))
        places = num_processes * num_devices
        rows = min(sides.left.block_rows(x1), sides.right.block_rows(x2), most_rows)
        rows = min(rows, -(-longest // (2 * places if places > 1 else 1)))
        passes = min(sides.left.pass_rows(x1), sides.right.pass_rows(x2))
        if places == 1 and longest <= min(rows, passes // 2):
            return _in_one_program(sides, x1, x2)
        made = [[worker_of(side)] if traced else workers_of(side) for side in sides]
        workers = [Worker(one.features, one.contract, other.features) for one, other in zip(*made, strict=True)]
        return gram(workers, x1, x2, rows=rows, outputs=self.outputs, num_processes=num_processes)

    def _sides(self, x1: Array, x2: Array) -> "Sides | None":
        """Both functions' gradients by the parameters that they share; None if they share none."""
        left, right = sides_of([self.left, self.right], [x1, x2], self.outputs)
        shared = {*left.matched, *left.formed} & {*right.matched, *right.formed}
        return Sides(left.among(shared), right.among(shared)) if shared else None

    def _zeros(self, x1: Array, x2: Array, num_outputs: tuple[int, int]) -> Array:
        """What two functions of different parameters are to each other."""
        n, m, (o, c) = len(x1), len(x2), num_outputs
        shapes = {"all": (n, o, m, c), "each": (o, n, m)}
        dtype = jnp.result_type(*(leaf.dtype for leaf in jax.tree.leaves(self.left.params)))
        return jnp.zeros(shapes.get(self.outputs, (n, m)), jnp.finfo(dtype).dtype)


class Sides(NamedTuple):
    """Both functions of a kernel."""

    left: Side
    right: Side


@compiled
def _in_one_program(sides: Sides, x1: Array, x2: Array) -> Array:
    with jax.default_matmul_precision("highest"):
        return sides.left.contract(sides.left.features(x1), sides.right.features(x2))
