"""Equinox modules, which map one example to its outputs.

>>> import equinox as eqx, jax, ntkbias as nb
>>> model = eqx.nn.MLP(2, 3, 8, 1, key=jax.random.key(0))
>>> f, params = nb.adapters.equinox(model)
>>> f(params, jax.numpy.ones((4, 2))).shape
(4, 3)
"""

import inspect
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array

from ntkbias.adapters.adapted import Adapted, Method, called, require_one_array, require_type
from ntkbias.types import Params

__all__ = ["equinox"]


def equinox(
    model: Any,
    state: eqx.nn.State | None = None,
    *,
    filter_spec: Any = eqx.is_inexact_array,
    method: Method = None,
    **options: Any,
) -> tuple[Adapted, Params]:
    """The function `f(params, x)` of an `eqx.Module` that maps one example, and its parameters.

    `params` is the model with None in place of all other leaves. `f` is `model(x, **options)`, vectorized over the
    batch, in `eqx.nn.inference_mode`. With a `state`, as `eqx.nn.make_with_state` returns for a model with BatchNorm,
    `f` returns the outputs of `model(x, state, **options)` and drops the new state. If the model has an argument `key`
    without a default, it gets None, as dropout expects at inference.

    `filter_spec` says which leaves are parameters; the others are frozen. As in `eqx.partition`, it is a function or a
    pytree of booleans. `method` is another method's name, or a function to call instead of the model, with `(model, x)`
    and the other arguments. `eqx.combine(params, model)` is the model with other parameters. After training,
    `eqx.filter(model, filter_spec)` gives the new parameters.

    Raises `InputTypeError` if `model` is no module, and `InputError` if it has no such method. `f` raises `InputError`
    if the outputs are not one array.

    >>> import jax, equinox as eqx, ntkbias as nb
    >>> f, params = nb.adapters.equinox(eqx.nn.MLP(2, 3, width_size=8, depth=1, key=jax.random.key(0)))
    >>> nb.empirical_ntk(f, params)(jax.numpy.ones((4, 2))).shape
    (4, 4)
    """
    advice = "Make a model by its class: eqx.nn.MLP(..., key=key)."
    require_type(model, eqx.Module, "model to be an equinox.Module", advice)
    params, rest = eqx.partition(eqx.nn.inference_mode(model), filter_spec)
    key = inspect.signature(called(model, method)).parameters.get("key")
    if key is not None and key.default is key.empty:
        options = {"key": None, **options}
    fixed = rest, state, method, options
    return Adapted(_outputs, fixed, model=model, made_by="adapters.equinox(model)", params=params), params


def _outputs(fixed: Any, params: Params, x: Array) -> Array:
    rest, state, method, options = fixed
    model = eqx.combine(params, rest)
    call = called(model, method)
    scalar = getattr(model, "in_size", None) == "scalar"

    def example(x: Array) -> Array:
        x = x[0] if scalar and x.shape == (1,) else x
        outputs = call(x, **options) if state is None else call(x, state, **options)[0]
        return require_one_array(outputs)

    return jax.vmap(example)(x)
