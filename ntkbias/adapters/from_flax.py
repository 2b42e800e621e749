"""Flax modules, of `flax.nnx` (which hold their parameters) and of `flax.linen` (which do not).

>>> import jax, ntkbias as nb
>>> from flax import linen, nnx
>>> x = jax.numpy.ones((4, 2))
>>> f, params = nb.adapters.flax_nnx(nnx.Linear(2, 3, rngs=nnx.Rngs(0)))
>>> nb.empirical_ntk(f, params, outputs="each")(x).shape
(3, 4, 4)
>>> module = linen.Dense(3)
>>> f, params = nb.adapters.flax_linen(module, module.init(jax.random.key(0), x))
>>> nb.empirical_ntk(f, params, outputs="each")(x).shape
(3, 4, 4)
"""

from collections.abc import Mapping
from typing import Any

from jaxtyping import Array

from ntkbias.adapters.adapted import Adapted, Method, called, library, require_one_array, require_type
from ntkbias.errors import InputError, InputTypeError
from ntkbias.types import Params

__all__ = ["flax_linen", "flax_nnx"]


def flax_nnx(model: Any, *, wrt: Any = None, method: Method = None, **options: Any) -> tuple[Adapted, Params]:
    """The function `f(params, x)` of an `nnx.Module`, and its parameters, an `nnx.State`.

    `f` is `model(x, **options)` for a copy in evaluation mode (`model.eval()`): dropout off, BatchNorm on its stored
    statistics. A variable that layers share is one parameter. (`nnx.MultiHeadAttention` without an `attention_fn` calls
    JAX's attention, whose softmax is in float32 whatever the type of its inputs.)

    `wrt` is a filter that says which variables are parameters, as in `nnx.Optimizer`; the default is `nnx.Param`. All
    others are fixed, including running statistics and counters of random numbers. `method` is another method's name, or
    a function to call instead of the model, with `(model, x, **options)`. After training, `f` takes the new parameters
    `nnx.state(model, nnx.Param)`; running statistics stay as they were when the model was adapted.

    Raises `InputTypeError` if `model` is no module, and `InputError` if it has no such method or variables. `f` raises
    `InputError` if the outputs are not one array.

    >>> import jax, ntkbias as nb
    >>> from flax import nnx
    >>> f, params = nb.adapters.flax_nnx(nnx.Linear(2, 3, rngs=nnx.Rngs(0)))
    >>> nb.empirical_ntk(f, params)(jax.numpy.ones((4, 2))).shape
    (4, 4)
    """
    nnx = library("flax.nnx")
    advice = "For a flax.linen module use flax_linen, with its variables."
    require_type(model, nnx.Module, "model to be a flax.nnx.Module", advice)
    inference = nnx.clone(model)
    inference.eval()
    called(inference, method)
    graph, params, rest = nnx.split(inference, nnx.Param if wrt is None else wrt, ...)
    if not params:
        name = "nnx.Param" if wrt is None else repr(wrt)
        raise InputError(
            f"Expected {type(model).__name__} to hold variables of {name}; got none. "
            "Choose them by wrt=, a filter of nnx."
        )
    return Adapted(
        _nnx_outputs,
        (graph, rest, method, options),
        model=model,
        made_by="adapters.flax_nnx(model)",
        params=params,
    ), params


def flax_linen(
    module: Any, variables: Mapping[str, Any], *, method: Method = None, **options: Any
) -> tuple[Adapted, Params]:
    """The function `f(params, x)` of a `linen.Module`, and its parameters, the collection "params" of its `variables`.

    `f` is `module.apply(variables, x, method=method, **options)`. All other collections, such as `batch_stats`, are
    fixed. No collection is mutable, and there are no random numbers. Pass the option that switches your module to
    inference, e.g. `train=False` or `deterministic=True`. `method` is another method's name, or a function of
    `(module, x, **options)`.

    Raises `InputTypeError` if `module` is no module or `variables` is not what `module.init` returns. `f` raises
    `InputError` if the module is not at inference, does not fit the variables, or its outputs are not one array.

    >>> import jax, ntkbias as nb
    >>> from flax import linen
    >>> module, x = linen.Dense(3), jax.numpy.ones((4, 2))
    >>> f, params = nb.adapters.flax_linen(module, module.init(jax.random.key(0), x))
    >>> nb.empirical_ntk(f, params)(x).shape
    (4, 4)
    """
    linen = library("flax.linen")
    advice = "For a flax.nnx module use flax_nnx, without variables."
    require_type(module, linen.Module, "module to be a flax.linen.Module", advice)
    if not isinstance(variables, Mapping) or not isinstance(variables.get("params"), Mapping):
        names = ", ".join(sorted(map(str, variables))) if isinstance(variables, Mapping) else type(variables).__name__
        raise InputTypeError(
            f"Expected variables to hold the collection 'params'; got {names or 'none'}. Pass what module.init(key, x) "
            "returned, or {'params': params}."
        )
    collections = {name: collection for name, collection in variables.items() if name != "params"}
    f = Adapted(
        _linen_outputs,
        (module, collections, method, options),
        model=module,
        made_by="adapters.flax_linen(module, variables)",
        params=variables["params"],
    )
    return f, variables["params"]


def _nnx_outputs(fixed: Any, params: Params, x: Array) -> Array:
    graph, rest, method, options = fixed
    model = library("flax.nnx").merge(graph, params, rest)
    return require_one_array(called(model, method)(x, **options))


def _linen_outputs(fixed: Any, params: Params, x: Array) -> Array:
    module, collections, method, options = fixed
    errors = library("flax.errors")
    try:
        outputs = module.apply({**collections, "params": params}, x, method=method, **options)
    except (errors.ModifyScopeVariableError, errors.InvalidRngError) as error:
        raise InputError(
            f"Expected {type(module).__name__} at inference, with no state to write and nothing random; got: "
            f"{_sentence(error)} Pass the option that switches that off, e.g. train=False, deterministic=True or "
            "use_running_average=True, as the module names it."
        ) from error
    except errors.FlaxError as error:
        raise InputError(
            f"Expected {type(module).__name__} to apply to its variables and x of shape {x.shape}; got: "
            f"{_sentence(error)}"
        ) from error
    return require_one_array(outputs)


def _sentence(error: Exception) -> str:
    """The first sentence of a flax error. Messages of flax end with a link."""
    return str(error).split("\n")[0].split(" (https://")[0].rstrip(". ") + "."
