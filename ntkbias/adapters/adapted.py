"""Adapted: a model as a function f(params, x) that can be compared with others.

JAX and the kernels keep compiled programs per function. A new closure is a new function and compiles again. An
`Adapted` equals another one that runs the same program with the same fixed arrays, and so shares its programs.

>>> import jax.numpy as jnp
>>> from ntkbias.adapters.adapted import Adapted
>>> shift = jnp.ones(3)
>>> run = lambda fixed, params, x: x * params + fixed["shift"]
>>> f, again = Adapted(run, {"shift": shift}), Adapted(run, {"shift": shift})
>>> f(2.0, jnp.ones((1, 3))).tolist(), f == again
([[3.0, 3.0, 3.0]], True)
"""

import importlib
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ntkbias.compilation import Equal
from ntkbias.errors import InputError, InputTypeError
from ntkbias.types import Params

__all__ = ["Adapted", "Method", "called", "library", "require_one_array", "require_type"]

Method = str | Callable | None  # what to call: a method's name, a function of (model, x, **options), or the model


class Adapted(Equal):
    """`f(params, x)`, which is `run(fixed, params, x)`; `fixed` is any pytree: a model's structure, state, options.

    Arrays in `fixed` are told apart by identity, which is safe since JAX's are immutable, and all else by value. For
    files it has the name of the model's type, the adapter that it is `made_by`, and the structure of its parameters.
    """

    def __init__(
        self,
        run: Callable[[Any, Params, Array], Any],
        fixed: Any,
        *,
        model: Any = None,
        made_by: str = "",
        params: Params = None,
    ):
        self.__name__ = type(model).__name__ if made_by else "adapted"
        self.made_by, self.structure = made_by, jax.tree.structure(params) if made_by else None
        leaves, self._treedef = jax.tree.flatten(fixed)
        self._run = run
        self._leaves = [jnp.array(leaf) if isinstance(leaf, np.ndarray) else leaf for leaf in leaves]
        values = ((type(leaf), id(leaf) if isinstance(leaf, jax.Array) else leaf) for leaf in self._leaves)
        self.equality: Any = (run, self._treedef, *values)
        try:
            hash(self.equality)
        except TypeError:  # a model with, for example, a list in a static field equals only itself
            self.equality = object()

    def __call__(self, params: Params, x: Array) -> Any:
        """The outputs `(n, ...)` for a batch `x` `(n, ...)`."""
        # Each call gets a new pytree, so changes that a model makes to its state do not persist.
        return self._run(jax.tree.unflatten(self._treedef, self._leaves), params, x)

    def __reduce__(self) -> tuple:
        """By pytrees. The structure of an equinox module holds a marker that is another one where it is loaded."""
        fixed = jax.tree.unflatten(self._treedef, self._leaves)
        structure = self.structure
        params = None if structure is None else jax.tree.unflatten(structure, [0] * structure.num_leaves)
        return _rebuilt, (self._run, fixed, self.__name__, self.made_by, params)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Adapted) and self.equality == other.equality

    def __hash__(self) -> int:
        return hash(self.equality)


def _rebuilt(run: Callable, fixed: Any, name: str, made_by: str, params: Any) -> Adapted:
    found = Adapted(run, fixed)
    found.__name__, found.made_by = name, made_by
    found.structure = jax.tree.structure(params) if made_by else None
    return found


def called(model: Any, method: Method) -> Callable:
    """The function to call with inputs. Raises `InputError` if the model has no such method."""
    if callable(method):
        return partial(method, model)
    name = method or "__call__"
    found = getattr(model, name, None)
    if found is None:
        raise InputError(
            f"Expected {type(model).__name__} to have the method {name}; it has none. Choose what to call by "
            "method=: a method's name, or a function of (model, x)."
        )
    return found


def library(name: str) -> Any:
    """The module of this name. Raises an `ImportError` that says how to install it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.split(".")[0].replace("haiku", "dm-haiku")
        raise ImportError(
            f"Expected {package} to be installed; got: {error}. Install the libraries of models: "
            "pip install 'ntkbias[models]'."
        ) from error


def require_type(value: object, kind: type, name: str, advice: str) -> None:
    """Raise an `InputTypeError` unless `value` is an instance of `kind`; the message calls it `name`."""
    if isinstance(value, kind):
        return
    got = f"the class {value.__name__}, not an instance of it" if isinstance(value, type) else type(value).__name__
    raise InputTypeError(
        f"Expected {name}; got {got}. {advice} Each library has its adapter; a plain function f(params, x) needs none."
    )


def require_one_array(outputs: object) -> Any:
    """The outputs of a model. Raises `InputError` if they are not one array."""
    if isinstance(outputs, jax.Array | np.ndarray):
        return outputs
    raise InputError(
        f"Expected the model to return one array; got {type(outputs).__name__}. Choose one, e.g. by "
        "method=lambda model, x: model(x)[0]."
    )
