"""The kernel of preconditioned training, computed as the empirical NTK of a reparameterized network.

If a step is -rate P gradient, with a diagonal and positive P, outputs change according to the kernel

    K_P(x, x') = J(x) P J(x')^T,      the NTK of f(theta + sqrt(P) phi) by phi at zero.

For Adam without momentum, P = 1 / (sqrt(v) + eps), where v is the running mean of squared gradients. With v taken at
one step, K_P says how outputs begin to change from there, until v changes. Sign descent has a different kernel (Malladi
et al. 2023, arXiv 2210.05643), and momentum adds a contribution of earlier gradients.

>>> import jax, jax.numpy as jnp, ntkbias as nb
>>> net = nb.nets.mlp(width=8, depth=1, num_outputs=3)
>>> params, x = net.init(jax.random.key(0), (2,)), jnp.eye(2)
>>> twice = nb.preconditioned_ntk(net.apply, params, jax.tree.map(lambda p: jnp.full_like(p, 2.0), params))
>>> bool(jnp.allclose(twice(x), 2 * nb.empirical_ntk(net.apply, params)(x), rtol=1e-5))
True
"""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from ntkbias.checks import require_array, require_finite
from ntkbias.errors import InputError
from ntkbias.function import checked_function
from ntkbias.kernels.empirical.ntk import EmpiricalNTK
from ntkbias.kernels.gradients import Gradients
from ntkbias.parameters import Which, paths_of
from ntkbias.types import ApplyFunction, Outputs, Params, Precision
from ntkbias.wrappers import Wrapper

__all__ = ["adam_preconditioner", "preconditioned_ntk"]


def preconditioned_ntk(
    f: ApplyFunction,
    params: Params,
    preconditioner: Params,
    *,
    outputs: Outputs = "mean",
    memory_budget: int | None = None,
    precision: Precision = "highest",
    wrt: Which | None = None,
) -> EmpiricalNTK:
    """The kernel J P J^T of steps -rate P gradient, for a diagonal P given as a pytree like `params`, nowhere negative.

    One compiled program serves all parameters and preconditioners of a function. P breaks the structure of layers that
    the NTK exploits, so the Jacobian is formed, in blocks within `memory_budget`; this is slower than the NTK. Other
    arguments and errors are those of `empirical_ntk`. Raises `InputError` if the preconditioner differs from `params`
    in structure or shape, holds NaN, or is negative anywhere.

    >>> import jax, ntkbias as nb
    >>> f, params, x = (lambda p, x: x @ p), jax.numpy.ones((2, 1)), jax.numpy.array([[1.0, 2.0]])
    >>> nb.preconditioned_ntk(f, params, jax.numpy.array([[1.0], [0.5]]))(x).tolist()  # 1 * 1^2 + 0.5 * 2^2
    [[3.0]]
    """
    wanted, given = str(jax.tree.structure(params)), str(jax.tree.structure(preconditioner))
    if wanted != given:
        raise InputError(f"Expected a preconditioner like params, {wanted}; got {given}.")
    roots = []
    places = jax.tree_util.tree_leaves_with_path(params)
    for (path, leaf), scale in zip(places, jax.tree.leaves(preconditioner), strict=True):
        name = f"preconditioner{jax.tree_util.keystr(path)}"
        array = require_array(scale, name)
        if array.shape != jnp.shape(leaf):
            raise InputError(f"Expected {name} of the parameter's shape, {jnp.shape(leaf)}; got {array.shape}.")
        require_finite(array, name)
        if bool(jnp.any(array < 0)):
            raise InputError(f"Expected numbers of zero or more in {name}; got negative ones.")
        roots.append(jnp.sqrt(array).astype(jnp.result_type(leaf)))
    moves = jax.tree.map(jnp.zeros_like, params)
    variables = {"moves": moves, "params": params, "roots": jax.tree.unflatten(jax.tree.structure(params), roots)}
    gradients = Gradients.of(Rescaled(f), variables, outputs, precision, memory_budget)
    _, own, only = checked_function(f, params, wrt)
    moved = tuple("['moves']" + path for path in only or paths_of(own))
    return EmpiricalNTK(gradients.by(moved))


def adam_preconditioner(optimizer_state: Any, *, eps: float = 1e-8, b2: float = 0.999) -> Params:
    """The diagonal preconditioner P = 1 / (sqrt(v) + eps) of Adam, from the state of an optax optimizer.

    v is the running mean of squared gradients, with the bias correction of `b2`. A step of Adam with b1 = 0 is
    -rate P gradient. Raises `InputError` unless the state contains that of one Adam, and if no step has been taken,
    since v is then zero.

    >>> adam = optax.adam(0.1)
    >>> _, state = adam.update(jnp.array([2.0]), adam.init(jnp.zeros(1)))
    >>> round(float(adam_preconditioner(state)[0]), 3)  # 1 / |gradient| after one step
    0.5
    """
    found = [
        node
        for node in jax.tree.leaves(optimizer_state, is_leaf=lambda node: isinstance(node, optax.ScaleByAdamState))
        if isinstance(node, optax.ScaleByAdamState)
    ]
    if len(found) != 1:
        raise InputError(
            f"Expected an optimizer's state that contains one of optax.scale_by_adam; got {len(found)} of them. Pass "
            "the preconditioner itself to preconditioned_ntk."
        )
    (adam,) = found
    if int(adam.count) == 0:
        raise InputError("Expected the state of Adam after one step or more; got its initial state, of zeros.")
    correction = 1 - b2 ** float(adam.count)
    return jax.tree.map(lambda v: 1 / (jnp.sqrt(v / correction) + eps), adam.nu)


@dataclasses.dataclass(frozen=True)
class Rescaled(Wrapper):
    """f at params + roots * moves."""

    saved_as: ClassVar[str] = "preconditioned_ntk"

    f: ApplyFunction

    def __call__(self, variables: Params, x: Array) -> Array:
        moved = jax.tree.map(_moved, *(variables[name] for name in ("params", "roots", "moves")))
        return self.f(moved, x)


def _moved(theta: Array, root: Array, move: Array) -> Array:
    return theta + root * move if jnp.issubdtype(theta.dtype, jnp.inexact) else theta
