"""Rebuild a value from its JSON and arrays, by the constructors of types with a public name and nothing else.

>>> from ntkbias.results.building import Reader
>>> Reader({}, [], None, "a file").value({"type": "layers.Scale", "fields": {"factor": {"float": "0.5"}}})
Scale(0.5)
"""

import dataclasses
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ntkbias.compilation import Function
from ntkbias.errors import InputError, InputTypeError
from ntkbias.function import RealOutputs
from ntkbias.packing import Layout
from ntkbias.parameters import RealAndImaginary
from ntkbias.results import functions
from ntkbias.results.describing import METHOD, OPTIONAL
from ntkbias.results.functions import FunctionNeeded
from ntkbias.results.keeping import kept
from ntkbias.results.names import constant_of, type_of, wrapper_of

__all__ = ["Reader"]


class Reader:
    """The source of one load: arrays by name, the file's list of functions, and the functions `given` by the user.

    `place` is the name of the file in messages. Raises `InputError` if the given functions are not those of the file,
    `FunctionNeeded` if one is missing, and any exception on a description that `save` did not write.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray], nodes: list[Any], given: Any, place: str) -> None:
        self.arrays, self.nodes, self.place = arrays, nodes, place
        self.users = {node["user"]: node for node in nodes if "user" in node}
        self._built: dict[int, Function] = {}
        self._loaded: dict[str, Any] = {}
        self._repeated_trials: set[Any] = set()
        self._type_of = cache(type_of)  # networks have many layers of the same type
        self.given, self._structures = self._checked_functions(given)

    def value(self, node: Any, structure: Any = None) -> Any:
        """The value of a description. `structure` is the pytree structure of parameters from another library."""
        if not isinstance(node, dict):
            return node
        if not node:
            raise ValueError("an empty description")
        kind, content = next(iter(node.items()))
        if kind == "type":
            return self._typed(node, structure)
        if kind == "float":
            return float(content)
        if kind == "array":
            return self._array(content)
        if kind == "dict":
            return {key: self.value(item, structure) for key, item in content.items()}
        if kind in ("list", "tuple"):
            items = [self.value(item, structure) for item in content]
            return items if kind == "list" else tuple(items)
        if kind == "complex":
            return RealAndImaginary(*(self.value(item) for item in content))
        if kind == "layout":
            return Layout(_example(content))
        if kind == "constant" and (found := constant_of(content)) is not None:
            return found
        if kind == "pytree":
            return self._of_another_library(content, node["at"], structure)
        raise ValueError(f"ntkbias knows no value of the kind {kind} {content}"[:200])

    def _array(self, name: str) -> Any:
        if name not in self._loaded:
            array = jnp.asarray(self.arrays[name])
            # Keep the NumPy array if JAX would lose digits.
            self._loaded[name] = array if array.dtype == self.arrays[name].dtype else self.arrays[name]
        return self._loaded[name]

    def _typed(self, node: dict[str, Any], structure: Any) -> Any:
        """A module of a public type, or one of our dictionary types, after checking that its functions are the same."""
        name, fields = node["type"], node["fields"]
        if (found := self._type_of(str(name))) is None:
            raise ValueError(f"ntkbias has no type {name}")
        if not issubclass(found, eqx.Module):
            return found({key: self.value(item, structure) for key, item in fields.items()})  # type: ignore[call-arg]
        own = fields.get("f") if isinstance(fields.get("f"), dict) else None
        if own is not None and "function" in own:
            structure = self._structures.get(self._user_of(own["function"]) or "", structure)
        metadata = {field.name: field.metadata for field in dataclasses.fields(found)}
        values = {}
        for field, item in fields.items():
            if isinstance(item, dict) and "function" in item:
                values[field] = self._function(item["function"], bool(item.get("real")))
            elif OPTIONAL in metadata.get(field, {}) and item is not None:
                values[field] = self._optional(item, metadata[field][OPTIONAL], structure)
            else:
                values[field] = self.value(item, structure)
        if name.startswith("kernels."):  # kernels compute with JAX arrays, in the types that JAX is set to
            values = jax.tree.map(lambda leaf: jnp.asarray(leaf) if isinstance(leaf, np.ndarray) else leaf, values)
        for field, trial in node.get("trials", {}).items():
            self._require_same(values[field], values.get("params"), trial, fields[field]["function"])
        return found(**values)

    def _optional(self, node: Any, without: Callable[..., Any], structure: Any) -> Any:
        """A value, or its placeholder if a function is missing."""
        if isinstance(node, dict) and "left out" in node:
            return without(str(node["left out"]))
        try:
            return self.value(node, structure)
        except FunctionNeeded as error:
            description, names = kept(node, self.nodes, self.arrays)
            return without(str(error), description, {name: self._array(name) for name in names})

    def _of_another_library(self, leaves: list[Any], places: list[str], structure: Any) -> Any:
        """Parameters of another library, in the structure that belongs to the given function."""
        known = list(self._structures.values())
        structure = known[0] if structure is None and len(known) == 1 else structure
        if structure is None:
            raise FunctionNeeded(
                "Expected f= to be the pair (f, params) of a function and parameters like those saved, because another "
                f"library defines their structure; got {'the function alone' if self.given else 'none'}. Load it as "
                f"nb.load({self.place!r}, f=(f, params))."
            )
        numbered = jax.tree.unflatten(structure, range(structure.num_leaves))
        given_places = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(numbered)]
        if given_places != places:
            raise InputError(
                f"Expected f= with parameters like those saved, {_listed(places)}; got {_listed(given_places)}. Give "
                "the function and the parameters of the same model."
            )
        return jax.tree.unflatten(structure, [self.value(leaf) for leaf in leaves])

    # -- functions ---------------------------------------------------------------------------------------------------

    def _checked_functions(self, given: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The given functions by their names in the file, and the known structures of their parameters."""
        if given is None:
            return {}, {}
        named = dict(given) if isinstance(given, Mapping) else None
        if named is None:
            if len(self.users) > 1:
                raise InputError(f"Expected f= to be a dictionary of functions, {self._asked()}; got one function.")
            named = {next(iter(self.users), ""): given}
        elif unknown := [name for name in named if name not in self.users]:
            raise InputError(
                f"Expected f= to name functions of this file, {', '.join(map(repr, self.users)) or 'which has none'}; "
                f"got the name {unknown[0]!r}."
            )
        found, structures = {}, {}
        for name, f in named.items():
            params = None
            if isinstance(f, tuple) and len(f) == 2:
                f, params = f
                structures[name] = jax.tree.structure(params)
            if not callable(f):
                raise InputTypeError(f"Expected f= to be a function, f(params, x); got {type(f).__name__}.")
            if params is None and getattr(f, "structure", None) is not None:  # an adapted model knows it
                structures[name] = f.structure
            found[name] = f
        return found, structures

    def require_used(self) -> None:
        """Raise an `InputError` if a function was given for a file that does not use it."""
        if "" in self.given and not any(Function.of(self.given[""]) == f for f in self._built.values()):
            raise InputError(
                f"Expected no f= for {self.place}, which needs no user's function; got "
                f"{functions.name_of(self.given[''])}. Leave it out."
            )

    def _asked(self) -> str:
        """The functions to give, written as the argument f={...}."""
        return "f={" + ", ".join(f"{name!r}: {node['written']}" for name, node in self.users.items()) + "}"

    def _user_of(self, index: int) -> str | None:
        """The name of the user's function at this index of the list, or inside the wrapper there; None if neither."""
        for _ in self.nodes:
            node = self.nodes[index]
            if "f" not in node:
                return node.get("user")
            index = node["f"]
        return None

    def _function(self, index: int, real: bool = False) -> Function:
        if index not in self._built:
            self._built[index] = Function.of(self._made(self.nodes[index]))
        plain = self._built[index]
        return RealOutputs.of(plain) if real else plain

    def _made(self, node: dict[str, Any]) -> Any:
        kind, content = next(iter(node.items()))
        if kind == "method":
            return getattr(self.value(content), METHOD)
        if kind == "around":
            if (found := wrapper_of(content)) is None:
                raise ValueError(f"ntkbias has no wrapper named {content}")
            rest = {name: self.value(item) for name, item in node["fields"].items()}
            return found(f=self._function(node["f"]).f, **rest)  # type: ignore[call-arg]
        if kind != "user":
            raise ValueError(f"ntkbias knows no function of the kind {kind}")
        if content not in self.given:
            params = f" of params {node['params']}" if node["params"] else ""
            asked = self._asked() if len(self.users) > 1 else f"f={node['written']}"
            raise FunctionNeeded(
                f"Expected f=, the function {content!r}{params}, because files hold no functions of users; got none. "
                f"Load it as nb.load({self.place!r}, {asked})."
            )
        return self.given[content]

    def _require_same(self, f: Function, params: Any, trial: Any, index: int) -> None:
        """Raise an `InputError` unless the function repeats the saved trial: the same results at the same inputs."""
        key = index, repr(trial)
        if key in self._repeated_trials:
            return
        saved = self.value(trial)
        x, name = saved.pop("x"), self._user_of(index)
        saved = {part: np.asarray(value) for part, value in saved.items()}
        if params is not None and (reason := functions.accepts(f, params, x)):
            raise InputError(
                f"Expected f= to be the function {name!r} that was saved, of params {functions.summary(params)} and "
                f"inputs of shape {_shapes(x)}; got one that does not accept them: {reason}"
            )
        try:
            current = functions.trial_at_points(f) if params is None else functions.trial_of(f, params, x)
        except Exception as error:  # a user's function may raise anything
            reason = f"at the file's inputs it raises {type(error).__name__}"
        else:
            reason = functions.difference(saved, current)
        if reason:
            raise InputError(f"Expected f= to be the function {name!r} that was saved; got another one: {reason}.")
        self._repeated_trials.add(key)


def _shapes(x: Any) -> str:
    return str(jax.tree.map(np.shape, x))


def _listed(places: list[str]) -> str:
    return ", ".join(places[: functions.MOST_SHOWN]) + (" ..." if len(places) > functions.MOST_SHOWN else "")


def _example(node: Any) -> Any:
    if "shape" in node:
        return jax.ShapeDtypeStruct((1, *node["shape"]), np.dtype(node["dtype"]))
    kind, content = next(iter(node.items()))
    if kind == "dict":
        return {key: _example(item) for key, item in content.items()}
    if kind not in ("list", "tuple"):
        raise ValueError(f"a layout of the kind {kind}")
    items = [_example(item) for item in content]
    return items if kind == "list" else tuple(items)
