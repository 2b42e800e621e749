"""Kernels of sign descent, whose steps are -rate sign(gradient): the limit of Adam with short memory.

With one example x' per step the gradient is r' df(x')/dtheta for a number r', and outputs move by -rate sign(r') times

    K_A(x, x') = J(x) sign(J(x'))^T,            the asymmetric kernel, and nearly so by
    K_S(x, x') = sign(J(x)) sign(J(x'))^T,      which is symmetric      (Malladi et al. 2023, arXiv 2210.05643).

With all examples in each step, sign descent is preconditioned by P = 1 / |gradient|, and its kernel is J P J^T:
`preconditioned_ntk(f, params, sign_preconditioner(gradient))`.

K_S is computed as the NTK of the function phi -> sign(J(x)) phi, and K_A as the kernel between f and this function.

>>> import jax, jax.numpy as jnp, ntkbias as nb
>>> net = nb.nets.mlp(width=8, depth=1)
>>> params, x = net.init(jax.random.key(0), (2,)), jnp.eye(2)
>>> K = nb.kernels.sign_ntk(net.apply, params)(x)
>>> K.shape, bool(K[0, 0] <= 24)        # at most the number of parameters
((2, 2), True)
"""

import dataclasses
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ntkbias.checks import require_array, require_finite
from ntkbias.errors import InputTypeError
from ntkbias.function import checked_function, real_outputs
from ntkbias.kernels.empirical.cross import CrossNTK, cross_ntk
from ntkbias.kernels.empirical.ntk import EmpiricalNTK, empirical_ntk
from ntkbias.parameters import Which, chosen_paths, partitioned, paths_of, with_real_params
from ntkbias.types import ApplyFunction, Outputs, Params, Precision
from ntkbias.wrappers import Wrapper

__all__ = ["asymmetric_sign_ntk", "sign_ntk", "sign_preconditioner"]

MOVES = "['moves']"


def sign_ntk(
    f: ApplyFunction,
    params: Params,
    *,
    outputs: Outputs = "mean",
    memory_budget: int | None = None,
    precision: Precision = "highest",
    wrt: Which | None = None,
) -> EmpiricalNTK:
    """The kernel sign(J(x)) sign(J(x'))^T of the signs of each example's gradients; a zero gradient has the sign zero.

    Its diagonal counts the parameters with a gradient that is not zero. Each output has its own signs. The kernel does
    not change if outputs are multiplied by positive numbers. Where gradients change their signs it jumps, and gradients
    that are zero but for rounding have random signs: such numbers differ from device to device. The Jacobian is formed
    in blocks; costs what `preconditioned_ntk` costs. Other arguments and errors are those of `empirical_ntk`.

    >>> import jax.numpy as jnp
    >>> f, x = (lambda params, x: x @ params), jnp.array([[1.0, 2.0], [3.0, -4.0]])
    >>> sign_ntk(f, jnp.ones((2, 1)))(x).tolist()
    [[2.0, 0.0], [0.0, 2.0]]
    """
    f, variables = _variables(f, params, wrt)
    options: dict[str, Any] = {"outputs": outputs, "memory_budget": memory_budget, "precision": precision}
    return empirical_ntk(Signed(f), variables, wrt=MOVES, **options)


def asymmetric_sign_ntk(
    f: ApplyFunction,
    params: Params,
    *,
    outputs: Outputs = "mean",
    memory_budget: int | None = None,
    precision: Precision = "highest",
    wrt: Which | None = None,
) -> CrossNTK:
    """The kernel J(x1) sign(J(x2))^T: how a step of sign descent on each of `x2` alone moves the outputs on `x1`.

    It is called with two sets of inputs, and has the shapes of `cross_ntk`. Its matrix is not symmetric, so it is not a
    `Kernel`. A step of rate h on one example x' with the residual r' moves f(x) by -h sign(r') K_A(x, x') to first
    order, if f has one output. Costs, arguments and errors are those of `cross_ntk`.

    >>> import jax.numpy as jnp
    >>> f, x = (lambda params, x: x @ params), jnp.array([[1.0, 2.0], [3.0, -4.0]])
    >>> asymmetric_sign_ntk(f, jnp.ones((2, 1)))(x, x).tolist()
    [[3.0, -1.0], [-1.0, 7.0]]
    """
    f, variables = _variables(f, params, wrt)
    options: dict[str, Any] = {"outputs": outputs, "memory_budget": memory_budget, "precision": precision}
    return cross_ntk(Moved(f), Signed(f), variables, wrt=MOVES, **options)


def sign_preconditioner(gradient: Params) -> Params:
    """The diagonal preconditioner P = 1 / |gradient| of sign descent; zero where the gradient is zero.

    `gradient` is a pytree like the parameters, such as the gradient of the loss over all training examples. Then
    P gradient = sign(gradient), and `preconditioned_ntk` with P says how one step of sign descent begins to move the
    outputs: by -rate K r / n for the residuals r. P is large where gradients are small, so K needs float64 if gradients
    differ by many orders of magnitude. Raises `InputError` on NaN, and `InputTypeError` on whole numbers.

    >>> sign_preconditioner(jnp.array([-0.5, 0.0, 4.0])).tolist()
    [2.0, 0.0, 0.25]
    """
    return jax.tree_util.tree_map_with_path(_reciprocal, gradient)


def _reciprocal(path: Any, leaf: Any) -> Array:
    name = f"gradient{jax.tree_util.keystr(path)}"
    array = require_array(leaf, name)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise InputTypeError(f"Expected floating-point numbers in {name}; got {array.dtype}.")
    require_finite(array, name)
    return jnp.where(array == 0, 0.0, 1 / jnp.where(array == 0, 1.0, jnp.abs(array)))


def _variables(f: ApplyFunction, params: Params, wrt: Which | None) -> tuple[ApplyFunction, Params]:
    """f, and its parameters beside moves of the selected ones, which are zero."""
    checked_function(f, params, wrt)
    f, params = with_real_params(f, params)
    chosen, _ = partitioned(params, chosen_paths(params, wrt) or paths_of(params))
    return f, {"moves": jax.tree.map(jnp.zeros_like, chosen), "params": params}


@dataclasses.dataclass(frozen=True)
class Moved(Wrapper):
    """f at params + moves, as a function of both, with real outputs. Parameters without a move stay."""

    saved_as: ClassVar[str] = "kernels.asymmetric_sign_ntk"

    f: ApplyFunction

    def __call__(self, variables: Params, x: Any) -> Array:
        moves, (chosen, rest) = variables["moves"], _split(variables)
        return real_outputs(self.f(eqx.combine(jax.tree.map(jnp.add, chosen, moves), rest), x))


@dataclasses.dataclass(frozen=True)
class Signed(Wrapper):
    """sign(J(x)) moves, where J(x) is the Jacobian of f by the parameters that have a move."""

    saved_as: ClassVar[str] = "kernels.sign_ntk"

    f: ApplyFunction

    @property
    def on_batches(self) -> Moved:
        """f itself, with the same variables."""
        return Moved(self.f)

    def __call__(self, variables: Params, x: Any) -> Array:
        chosen, rest = jax.lax.stop_gradient(_split(variables))

        def outputs(chosen: Params, one: Any) -> Array:
            found = self.f(eqx.combine(chosen, rest), jax.tree.map(lambda leaf: leaf[None], one))
            return real_outputs(found).reshape(-1)

        def moved(one: Any) -> Array:
            jacobian = jax.jacrev(outputs)(chosen, one)
            parts = jax.tree.map(
                lambda part, move: jnp.sign(part.reshape(len(part), -1)) @ move.reshape(-1),
                jacobian,
                variables["moves"],
            )
            return sum(jax.tree.leaves(parts))  # type: ignore[return-value]  # there is one parameter or more

        return jax.vmap(moved)(x)


def _split(variables: Params) -> tuple[Params, Params]:
    """The parameters that have a move, and the others, with None for leaves of the other."""
    has = jax.tree.map(lambda move: move is not None, variables["moves"], is_leaf=lambda leaf: leaf is None)
    return eqx.partition(variables["params"], has)
