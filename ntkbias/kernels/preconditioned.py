"""Kernels of training that is not plain gradient descent, made from the empirical NTK of a function in its place.

Preconditioned: where a step is -rate P gradient, with P diagonal and positive, outputs move by the kernel

    K_P(x, x') = J(x) P J(x')^T,      the NTK of f(theta + sqrt(P) phi) in phi at zero.

For Adam without momentum P is 1 / (sqrt(v) + eps), v its running mean of squared gradients, taken as it stands at one
step: K_P says how outputs begin to move from there, as long as v stays. Sign descent has another kernel (Malladi et al.
2023, arXiv 2210.05643), and momentum adds what it remembers.

Loss-weighted: near a point where the loss has the Hessian H(x) = S S^T in the outputs of one input, the residuals r
decay by r' = -H K r / n, and

    K_H(x, x') = S(x)^T K(x, x') S(x'),      the NTK of S^T f with S held fixed,

has the eigenvalues of that decay, which are those of the Gauss-Newton matrix J^T H J / n (Fort and Ganguli 2019, arXiv
1910.05929): the largest of them is the sharpness, as far as f is linear.

>>> import jax, jax.numpy as jnp, ntkbias as nb
>>> from ntkbias.kernels.preconditioned import loss_weighted_ntk, preconditioned_ntk
>>> net = nb.nets.mlp(width=8, depth=1, num_outputs=3)
>>> params, x = net.init(jax.random.key(0), (2,)), jnp.eye(2)
>>> twice = preconditioned_ntk(net.apply, params, jax.tree.map(lambda p: jnp.full_like(p, 2.0), params))
>>> bool(jnp.allclose(twice(x), 2 * nb.empirical_ntk(net.apply, params)(x), rtol=1e-5))
True
>>> loss_weighted_ntk(net.apply, params, "cross_entropy")(x).shape
(2, 3, 2, 3)
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from ntkbias.checks import require_array, require_finite
from ntkbias.errors import InputError, InputTypeError
from ntkbias.kernels.empirical import EmpiricalNTK, empirical_ntk
from ntkbias.kernels.structure import factor_shapes, signature
from ntkbias.losses import Loss, named
from ntkbias.types import ApplyFunction, Outputs, Params, Precision

__all__ = ["adam_preconditioner", "loss_weighted_ntk", "ntk_of_some", "preconditioned_ntk", "used_paths"]


def preconditioned_ntk(
    f: ApplyFunction,
    params: Params,
    preconditioner: Params,
    *,
    outputs: Outputs = "mean",
    memory_budget: int | None = None,
    precision: Precision = "highest",
) -> EmpiricalNTK:
    """The kernel J P J^T of steps -rate P gradient: P a pytree like `params` of numbers of zero or more.

    One compiled program serves all parameters and preconditioners of a function. P has no structure that f's layers
    could share, so the Jacobian is formed by blocks within `memory_budget`: slower than the NTK. Other arguments and
    errors are those of `empirical_ntk`; raises `InputError` on a preconditioner of another structure or shape, with NaN
    or with numbers below zero.
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
            raise InputError(f"Expected numbers of zero or more in {name}; got some below.")
        roots.append(jnp.sqrt(array).astype(jnp.result_type(leaf)))
    moves = jax.tree.map(jnp.zeros_like, params)
    variables = {"moves": moves, "params": params, "roots": jax.tree.unflatten(jax.tree.structure(params), roots)}
    kernel = empirical_ntk(Rescaled(f), variables, outputs=outputs, memory_budget=memory_budget, precision=precision)
    moved = tuple(jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(variables))
    return dataclasses.replace(kernel, only=tuple(path for path in moved if path.startswith("['moves']")))


def adam_preconditioner(optimizer_state: Any, *, eps: float = 1e-8, b2: float = 0.999) -> Params:
    """P = 1 / (sqrt(v) + eps) of an optimiser of optax with Adam's state in it, v corrected for its start by b2.

    Steps of Adam with b1 = 0 are -rate P gradient. Raises `InputError` where there is no such state, and where it has
    taken no step yet, v being zero.
    """
    found = [
        node
        for node in jax.tree.leaves(optimizer_state, is_leaf=lambda node: isinstance(node, optax.ScaleByAdamState))
        if isinstance(node, optax.ScaleByAdamState)
    ]
    if len(found) != 1:
        raise InputError(
            f"Expected an optimiser's state with that of optax.scale_by_adam in it; got {len(found)} of them. Give the "
            "preconditioner itself."
        )
    (adam,) = found
    if int(adam.count) == 0:
        raise InputError("Expected the state of Adam after a step or more; got the one it starts with, of zeros.")
    correction = 1 - b2 ** float(adam.count)
    return jax.tree.map(lambda v: 1 / (jnp.sqrt(v / correction) + eps), adam.nu)


def loss_weighted_ntk(
    f: ApplyFunction,
    params: Params,
    loss: str | Loss,
    *,
    memory_budget: int | None = None,
    precision: Precision = "highest",
) -> EmpiricalNTK:
    """The kernel S(x)^T K(x, x') S(x') of all outputs, `(n, o, m, o)`, with S S^T the loss's Hessian in the outputs.

    `loss` is a `losses.Loss` or the name of one: "mse" (S is one: the NTK itself), "logistic" (o = 1, S^2 = p (1 - p)),
    "cross_entropy" (S S^T = diag p - p p^T, of rank o - 1). Its eigenvalues on n inputs are those of the Gauss-Newton
    matrix of the mean loss. Costs what the NTK of outputs="all" costs. Other arguments and errors are those of
    `empirical_ntk`; raises `InputError` on a loss whose Hessian is zero almost everywhere.
    """
    if not callable(f):
        raise InputTypeError(f"Expected f to be a function f(params, x), e.g. net.apply; got {type(f).__name__}.")
    return empirical_ntk(
        Weighted(f, _with_hessian(loss)), params, outputs="all", memory_budget=memory_budget, precision=precision
    )


def ntk_of_some(f: ApplyFunction, variables: Params, prefix: str, x: Array, **options: Any) -> EmpiricalNTK:
    """The NTK of `f` in those of its variables whose path begins with `prefix`, for inputs like `x`.

    Variables among them that f does not use, whose part is zero, are left out.
    """
    kernel = empirical_ntk(f, variables, **options)
    used = used_paths(f, variables, x, kernel.outputs, kernel.precision)
    paths = tuple(path for path in used if path.startswith(prefix))
    if not paths:
        raise InputError(f"Expected f to depend on its variables {prefix}; got outputs that are the same for all.")
    return dataclasses.replace(kernel, only=paths)


def used_paths(
    f: ApplyFunction, variables: Params, x: Array, outputs: Outputs = "mean", precision: Precision = "highest"
) -> tuple[str, ...]:
    """The paths of the variables on which the outputs of `f` depend, for inputs like `x`."""
    kernel = empirical_ntk(f, variables, outputs=outputs, precision=precision)
    return tuple(factor_shapes(kernel.f, signature(variables, x), outputs, precision))


@dataclasses.dataclass(frozen=True)
class Rescaled:
    """f at params + roots * moves."""

    f: ApplyFunction

    def __call__(self, variables: Params, x: Array) -> Array:
        moved = jax.tree.map(
            lambda theta, root, move: theta + root * move, *(variables[name] for name in ("params", "roots", "moves"))
        )
        return self.f(moved, x)


@dataclasses.dataclass(frozen=True)
class Weighted:
    """S^T f, where the S of the loss at f is a constant to derivatives."""

    f: ApplyFunction
    loss: Loss

    def __call__(self, params: Params, x: Array) -> Array:
        outputs = self.f(params, x).reshape(len(x), -1)
        return self.loss.root_times(jax.lax.stop_gradient(outputs), outputs)


def _with_hessian(loss: Any) -> Loss:
    """The loss that knows the root of its Hessian, or an error."""
    found = named(loss)
    if not isinstance(found, Loss):
        raise InputTypeError(
            f"Expected the name of a loss, or a losses.Loss with the root of its Hessian; got {type(found).__name__}."
        )
    if found.root is None:
        raise InputError(
            f"Expected a loss with a Hessian to weigh the kernel by, as 'logistic'; got {found.name!r}, whose Hessian "
            "is zero almost everywhere, or not known."
        )
    return found
