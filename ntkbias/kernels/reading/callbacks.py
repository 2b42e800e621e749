"""Give host callbacks a batching rule, so that the program of one example can be mapped over all examples.

`jax.vmap` refuses a `jax.pure_callback` whose author has not said how to batch it. Calling it once per example is
always right, because the function is pure.

>>> import jax, jax.numpy as jnp, numpy as np
>>> call = lambda x: jax.pure_callback(np.sin, jax.ShapeDtypeStruct(x.shape, x.dtype), x)
>>> (equation,) = jax.make_jaxpr(call)(jnp.ones(3)).jaxpr.eqns
>>> equation.params["vmap_method"], one_by_one(equation).params["vmap_method"]
(None, 'sequential')
"""

from typing import Any

import jax.extend.core as jex

__all__ = ["one_by_one"]


def one_by_one(equation: Any) -> Any:
    """The equation, with every host callback that has no `vmap_method` set to be called once per example."""
    params = {name: _mapped(value) for name, value in equation.params.items()}
    if equation.primitive.name == "pure_callback" and params.get("vmap_method", "") is None:
        params["vmap_method"] = "sequential"
    same = all(value is equation.params[name] for name, value in params.items())
    return equation if same else equation.replace(params=params)


def _mapped(value: Any) -> Any:
    """A parameter of an equation, with the callbacks in its jaxprs changed in the same way."""
    if isinstance(value, jex.Jaxpr):
        equations = [one_by_one(equation) for equation in value.eqns]
        same = all(new is old for new, old in zip(equations, value.eqns, strict=True))
        return value if same else value.replace(eqns=equations)
    if isinstance(value, jex.ClosedJaxpr):
        inner = _mapped(value.jaxpr)
        return value if inner is value.jaxpr else jex.ClosedJaxpr(inner, value.consts)
    if type(value) is tuple:  # branches
        found = tuple(map(_mapped, value))
        return value if all(new is old for new, old in zip(found, value, strict=True)) else found
    return value
