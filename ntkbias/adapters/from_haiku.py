"""Haiku functions, as `hk.transform` and `hk.transform_with_state` return them.

>>> import haiku as hk, jax, ntkbias as nb
>>> x = jax.numpy.ones((4, 2))
>>> net = hk.transform(lambda x: hk.Linear(3)(x))
>>> f, params = nb.adapters.haiku(net, net.init(jax.random.key(0), x))
>>> f(params, x).shape
(4, 3)
"""

import inspect
from collections.abc import Mapping
from typing import Any

from jaxtyping import Array

from ntkbias.adapters.adapted import Adapted, library, require_type
from ntkbias.errors import InputError, InputTypeError
from ntkbias.types import Params

__all__ = ["haiku"]


def haiku(transformed: Any, params: Params, state: Any = None, **options: Any) -> tuple[Adapted, Params]:
    """The function `f(params, x)` of a transformed function, and `params` unchanged.

    `f` is `transformed.apply(params, None, x, **options)`, without random numbers. Functions from
    `hk.without_apply_rng`, which take no random numbers, work too. `hk.transform_with_state` needs a `state`. `f` then
    returns the outputs of `transformed.apply(params, state, None, x, **options)` and drops the new state. Pass the
    option that switches your function to inference, e.g. `is_training=False`.

    Raises `InputTypeError` if `transformed` is not transformed or `params` are not what its `init` returns, and
    `InputError` if a state is missing or superfluous.

    >>> import jax, haiku as hk, ntkbias as nb
    >>> net, x = hk.transform(lambda x: hk.Linear(3)(x)), jax.numpy.ones((4, 2))
    >>> f, params = nb.adapters.haiku(net, net.init(jax.random.key(0), x))
    >>> nb.empirical_ntk(f, params)(x).shape
    (4, 4)
    """
    hk = library("haiku")
    stateful = isinstance(transformed, hk.TransformedWithState)
    advice = "Transform the function first: hk.transform(function)."
    kind = hk.TransformedWithState if stateful else hk.Transformed
    require_type(transformed, kind, "transformed to be what hk.transform returns", advice)
    if not isinstance(params, Mapping):
        raise InputTypeError(
            f"Expected params to be a mapping of modules; got {type(params).__name__}. Pass what "
            "transformed.init(key, x) returned. With a state this is a pair: params, state = transformed.init(key, x)."
        )
    if stateful and state is None:
        raise InputError(
            "Expected state, since transformed came from hk.transform_with_state; got none. Pass what init returned: "
            "params, state = transformed.init(key, x)."
        )
    if not stateful and state is not None:
        raise InputError(
            f"Expected no state, since transformed came from hk.transform; got {type(state).__name__}. Leave it "
            "out, or use hk.transform_with_state."
        )
    run = _stateful_outputs if stateful else _outputs
    made_by = "adapters.haiku(transformed, params)"
    return Adapted(run, (transformed, state, options), model=transformed, made_by=made_by, params=params), params


def _outputs(fixed: Any, params: Params, x: Array) -> Any:
    transformed, _, options = fixed
    return transformed.apply(params, *_no_rng(transformed, 1), x, **options)


def _stateful_outputs(fixed: Any, params: Params, x: Array) -> Any:
    transformed, state, options = fixed
    return transformed.apply(params, state, *_no_rng(transformed, 2), x, **options)[0]


def _no_rng(transformed: Any, place: int) -> tuple[None, ...]:
    """`(None,)` if `apply` takes random numbers at this place of its arguments, else `()`."""
    return (None,) if list(inspect.signature(transformed.apply).parameters)[place] == "rng" else ()
