"""The part of the empirical NTK that some of the parameters contribute: the sum over all of them is the kernel.

>>> import jax, jax.numpy as jnp, ntkbias as nb
>>> net = nb.nets.mlp(width=8, depth=1)
>>> params, x = net.init(jax.random.key(0), (2,)), jnp.eye(2)
>>> parts = empirical_ntk_by_layer(net.apply, params)
>>> bool(jnp.allclose(sum(parts.values())(x), nb.empirical_ntk(net.apply, params)(x), rtol=1e-5))
True
"""

from typing import Any

from jaxtyping import Array

from ntkbias.errors import InputError
from ntkbias.kernels.empirical.ntk import EmpiricalNTK
from ntkbias.kernels.gradients import Gradients
from ntkbias.parameters import Which
from ntkbias.types import ApplyFunction, Outputs, Params, Precision

__all__ = ["empirical_ntk_by_layer", "ntk_of_some", "used_paths"]


def empirical_ntk_by_layer(
    f: ApplyFunction,
    params: Params,
    *,
    outputs: Outputs = "mean",
    memory_budget: int | None = None,
    precision: Precision = "highest",
    wrt: Which | None = None,
) -> "dict[str, EmpiricalNTK]":
    """The part of the empirical NTK that each parameter contributes, by its path in `params`; their sum is the kernel.

    A kernel of one parameter is the NTK of training that parameter alone. Arguments and errors are those of
    `empirical_ntk`; a parameter that `f` does not use is named when its kernel is called.

    >>> import jax.numpy as jnp
    >>> f = lambda params, x: jnp.tanh(x @ params["hidden"]) @ params["out"]
    >>> params = {"hidden": jnp.ones((3, 5)), "out": jnp.ones((5, 1))}
    >>> sorted(empirical_ntk_by_layer(f, params))
    ["['hidden']", "['out']"]
    """
    gradients = Gradients.of(f, params, outputs, precision, memory_budget, wrt)
    return {path: EmpiricalNTK(gradients.by((path,))) for path in gradients.only or gradients.paths}


def ntk_of_some(f: ApplyFunction, variables: Params, prefix: str, x: Array, **options: Any) -> EmpiricalNTK:
    """The NTK of `f` in those of its variables whose path begins with `prefix`, for inputs like `x`.

    Variables among them that f does not use, whose part is zero, are left out.
    """
    gradients = Gradients.of(f, variables, wrt=prefix, **options)
    if not set(gradients.only or ()) & set(gradients.shapes(x)):
        raise InputError(f"Expected f to depend on its variables {prefix}; got outputs that are the same for all.")
    return EmpiricalNTK(gradients)


def used_paths(
    f: ApplyFunction,
    variables: Params,
    x: Array,
    outputs: Outputs = "mean",
    precision: Precision = "highest",
    wrt: Which | None = None,
) -> tuple[str, ...]:
    """The paths of the variables on which the outputs of `f` depend, for inputs like `x`."""
    return tuple(Gradients.of(f, variables, outputs, precision, wrt=wrt).shapes(x))
