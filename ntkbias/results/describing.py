"""Turn a value into JSON and arrays.

    array, number, text, None     are stored as they are
    list, tuple, dict             hold values
    a module of a public type     is stored as the name of the type and the fields
    a function                    is an index into a list of functions, so that each function is stored once

A function is the `apply` of a network of layers, a wrapper of this package around another function, or a user's
function. For a user's function, the file has a name and a trial; see `functions`. If two arrays are the same object,
it is stored once.

>>> import jax.numpy as jnp, ntkbias as nb
>>> from ntkbias.results.describing import Writer
>>> writer = Writer()
>>> writer.value({"net": nb.layers.Relu(), "x": jnp.ones(3)}, "value")
{'dict': {'net': {'type': 'layers.Relu', 'fields': {}}, 'x': {'array': '0.value.x'}}}
"""

import dataclasses
import inspect
import json
import re
from functools import cache
from typing import Any

import equinox as eqx
import jax
import numpy as np

from ntkbias.checks import in_native_order, require_known
from ntkbias.compilation import Function
from ntkbias.errors import InputError, InputTypeError
from ntkbias.function import RealOutputs
from ntkbias.packing import Layout
from ntkbias.parameters import RealAndImaginary
from ntkbias.results import functions
from ntkbias.results.keeping import renamed
from ntkbias.results.names import name_of_constant, public_name
from ntkbias.wrappers import Wrapper

__all__ = ["METHOD", "OPTIONAL", "Writer", "saved_fields"]

METHOD = "apply"  # the only method of layers that files know
OPTIONAL = "without_function"  # key in a field's metadata; makes the placeholder if a function is missing
PARAMETERS = "params", "direction"  # fields whose pytrees may come from any library; the user's function knows which
WIDEST = {"b": 1, "i": 8, "u": 8, "f": 8, "c": 16}  # the widest type, in bytes, of each kind that can be saved
WRITES = "it writes files"  # why save needs values
DEEPEST = 100  # the deepest nesting of lists, because Python and its JSON recurse
LARGEST = 10**4000  # bound on integers; Python refuses to parse more than 4,300 digits


class Writer:
    """The content of one save: arrays by name, and the functions of its values, which it tries at inputs `x`."""

    def __init__(self, x: Any = None) -> None:
        self.x = x
        self.arrays: dict[str, np.ndarray] = {}
        self.functions: list[Any] = []
        # Stored arrays and their names by id. Holding the array keeps its id from being reused.
        self._stored: dict[int, tuple[Any, str]] = {}
        # Each function, or None for a kept description, and whether it contains a user's function.
        self._known: list[tuple[Function | None, bool]] = []
        self._offsets: dict[str, int] = {}  # the first index of the functions of each other file in the list
        self._trials: dict[Any, Any] = {}
        # Networks have many layers of the same type.
        self._named = cache(public_name)
        self._fields = cache(saved_fields)

    def value(self, value: Any, name: str, depth: int = 0, inputs: Any = None, any_library: bool = False) -> Any:
        """The JSON form of a value; its arrays go to `arrays` under their path.

        `inputs` are the inputs of the enclosing value. With `any_library`, pytrees may belong to other libraries.
        """
        if depth > DEEPEST:
            raise InputTypeError(f"Expected values nested at most {DEEPEST} deep to save; got more at {name[:60]}...")
        if isinstance(value, int) and abs(value) >= LARGEST:
            raise InputTypeError(f"Expected whole numbers of at most 4,000 digits to save; got a larger one at {name}.")
        if value is None or isinstance(value, bool | int | str):
            return value
        if isinstance(value, float):
            return {"float": repr(float(value))}  # JSON has no NaN or infinity
        if isinstance(value, jax.Array | np.ndarray | np.generic):
            return {"array": self._array(value, name)}

        def within(item: Any, at: object) -> Any:
            return self.value(item, f"{name}.{at}", depth + 1, inputs, any_library)

        if isinstance(value, eqx.Module | dict) and (public := self._named(type(value))) is not None:
            return {"type": public} | self._content(value, name, depth, inputs)
        if isinstance(value, RealAndImaginary):
            return {"complex": [within(value.real, "real"), within(value.imag, "imag")]}
        if isinstance(value, Layout):
            return {"layout": self._layout(value.example, name, depth)}
        if (constant := name_of_constant(value)) is not None:
            return {"constant": constant}
        if any_library and _is_of_another_library(value):
            found = jax.tree_util.tree_leaves_with_path(value, is_leaf=lambda n: isinstance(n, RealAndImaginary))
            places = [jax.tree_util.keystr(path) for path, _ in found]
            leaves = [within(leaf, place) for place, (_, leaf) in zip(places, found, strict=True)]
            return {"pytree": leaves, "at": places}
        if isinstance(value, dict) and all(isinstance(key, str) for key in value):
            return {"dict": {key: within(item, key) for key, item in value.items()}}
        if isinstance(value, list | tuple):
            kind = "list" if isinstance(value, list) else "tuple"
            return {kind: [within(item, index) for index, item in enumerate(value)]}
        raise InputTypeError(
            f"Expected arrays, numbers, strings and values of ntkbias to save; got {type(value).__name__} at {name}."
        )

    def _array(self, value: Any, name: str) -> str:
        """Store an array once, and return its name in the archive."""
        require_known(value, "save", WRITES)
        if id(value) not in self._stored:
            key = f"{len(self.arrays)}.{re.sub(r'[^A-Za-z0-9_.-]', '_', name)[:100]}"  # safe as a name in an archive
            self.arrays[key] = _checked_array(value, name)
            self._stored[id(value)] = value, key
        return self._stored[id(value)][1]

    def _content(self, value: Any, name: str, depth: int, inputs: Any) -> dict[str, Any]:
        """The fields of a module, or the entries of one of our dictionary types, and the trials of their functions."""
        if isinstance(value, dict):
            return {
                "fields": {key: self.value(item, f"{name}.{key}", depth + 1, inputs) for key, item in value.items()}
            }
        own = vars(value)
        for known in ("x", "reference"):  # the inputs of a spectrum, and of a centered kernel
            inputs = inputs if own.get(known) is None else own[known]
        fields, trials = {}, {}
        for field in self._fields(type(value)):  # type: ignore[arg-type]  # types have hashes
            item, at = getattr(value, field.name), f"{name}.{field.name}"
            if isinstance(item, Function):
                params = own.get("params")
                fields[field.name] = self._function(item, at, depth, params)
                if self._known[fields[field.name]["function"]][1]:
                    trials[field.name] = self._trial(item, params, at, depth, inputs)
            elif OPTIONAL in field.metadata and item is not None:
                fields[field.name] = self._optional(item, at, depth, inputs)
            else:
                fields[field.name] = self.value(item, at, depth + 1, inputs, field.name in PARAMETERS)
        return {"fields": fields} | ({"trials": trials} if trials else {})

    def _optional(self, value: Any, name: str, depth: int, inputs: Any) -> Any:
        """A value, or the reason for leaving it out if it cannot be saved."""
        if (reason := getattr(value, "left_out", None)) is not None:
            return self._kept(value.description, value.arrays, name) if value.description else {"left out": reason}
        before = {key: val.copy() for key, val in vars(self).items() if isinstance(val, dict | list)}
        try:
            return self.value(value, name, depth + 1, inputs)
        except InputError as error:
            vars(self).update(before)
            sentence = f"Expected a kernel that was saved with its spectrum; it was left out: {error}"
            return {"left out": f"{sentence} Put it back by eqx.tree_at(lambda s: s.kernel, spectrum, kernel)."}

    def _kept(self, description: str, arrays: dict[str, Any], name: str) -> Any:
        """The description of a value that could not be built, together with the functions of its file."""
        found = json.loads(description)
        names = {key: self._array(array, f"{name}.kept") for key, array in arrays.items()}
        text = json.dumps(found["functions"])
        if text not in self._offsets:
            self._offsets[text] = len(self.functions)
            for node in found["functions"]:
                node = renamed(node, names, self._offsets[text])
                own = {"user": self._own_name(node["user"])} if "user" in node else {}
                self.functions.append(node | own)
                self._known.append((None, False))
        return renamed(found["value"], names, self._offsets[text])

    def _own_name(self, name: str) -> str:
        """A name that no other function of the file has."""
        taken, own, number = [node.get("user") for node in self.functions], name, 2
        while own in taken:
            own, number = f"{name} ({number})", number + 1
        return own

    def _layout(self, example: Any, name: str, depth: int) -> Any:
        """The shapes and types of the arrays of one example, in nested dictionaries, lists and tuples."""
        if isinstance(example, jax.ShapeDtypeStruct):
            return {"shape": list(example.shape[1:]), "dtype": example.dtype.name}
        if type(example) is dict:
            return {"dict": {key: self._layout(item, f"{name}.{key}", depth) for key, item in example.items()}}
        if type(example) in (list, tuple):
            kind = type(example).__name__
            return {kind: [self._layout(item, f"{name}.{index}", depth) for index, item in enumerate(example)]}
        raise InputTypeError(
            f"Expected inputs in dictionaries, lists and tuples to save; got {type(example).__name__} at {name}."
        )

    # -- functions ---------------------------------------------------------------------------------------------------

    def _function(self, function: Function, name: str, depth: int, params: Any) -> dict[str, Any]:
        """The index of a function in the list, which gets it if it is new, and whether its outputs are made real."""
        plain = Function.of(function.f)
        known = [other for other, _ in self._known]
        if plain not in known:
            node, is_users = self._described(plain.f, name, depth, params)
            self.functions.append(node)
            self._known.append((plain, is_users))
            known = [other for other, _ in self._known]
        index = known.index(plain)
        return {"function": index} | ({"real": True} if isinstance(function, RealOutputs) else {})

    def _described(self, f: Any, name: str, depth: int, params: Any) -> tuple[Any, bool]:
        """The JSON form of a function, and whether it contains a user's function, which needs a trial."""
        if isinstance(f, Wrapper):
            names = [field.name for field in dataclasses.fields(f) if field.name != "f"]  # type: ignore[arg-type]
            inner = self._function(Function.of(f.f), f"{name}.f", depth + 1, params)  # type: ignore[attr-defined]
            rest = {each: self.value(getattr(f, each), f"{name}.{each}", depth + 1) for each in names}
            return {"around": f.saved_as, "f": inner["function"], "fields": rest}, self._known[inner["function"]][1]
        owner = getattr(f, "__self__", None)
        if isinstance(owner, eqx.Module) and getattr(f, "__name__", "") == METHOD:
            before = {key: val.copy() for key, val in vars(self).items() if isinstance(val, dict | list)}
            try:
                return {"method": self.value(owner, f"{name}.__self__", depth + 1)}, False
            except InputTypeError:  # its types belong to another library
                vars(self).update(before)
        own = self._own_name(functions.name_of(f))
        written = _maker(f) or (own if own.isidentifier() else "f")
        if not _maker(f) and not _is_plain(params):
            written = f"({written}, params)"
        return {"user": own, "params": "" if params is None else functions.summary(params), "written": written}, True

    def _trial(self, function: Function, params: Any, name: str, depth: int, inputs: Any) -> Any:
        """The description of a function's results at a few inputs, together with these inputs."""
        require_known((params, inputs, self.x), "save", WRITES)
        key = function, id(params)
        if key not in self._trials:
            x = None if params is None else self._trial_inputs(function, params, name, inputs)
            if params is not None:
                found = functions.trial_of(function, params, x)
            else:
                try:
                    found = functions.trial_at_points(function)
                except Exception as error:  # a user's function may raise anything
                    raise InputTypeError(
                        f"Expected a function of arrays of any shape, which save can try; got {function!r} at {name}, "
                        f"which raises: {str(error).splitlines()[0] if str(error) else type(error).__name__}."
                    ) from error
            trial = self.value({"x": x} | found, f"{name}.trial", depth + 1)
            self._trials[key] = trial, params  # holding params keeps their id from being reused
        return self._trials[key][0]

    def _trial_inputs(self, function: Function, params: Any, name: str, inputs: Any) -> Any:
        """A few inputs that the function accepts: of the known inputs, or else vectors."""
        given = list(self.x.values()) if isinstance(self.x, dict) else []
        for x in (
            *(functions.sample_inputs(x) for x in (inputs, self.x, *given) if x is not None),
            *functions.candidate_inputs(params),
        ):
            if not functions.accepts(function, params, x):
                return x
        raise InputTypeError(
            f"Expected a few inputs x= that the function {functions.name_of(function)} at {name} accepts, so that load "
            f"can recognize it; got {'none' if self.x is None else 'others'}. Write save(path, value, x=x[:3])."
        )


def saved_fields(cls: type) -> list[dataclasses.Field]:
    """The fields of a module that its constructor takes, except those whose metadata excludes them from files."""
    taken = inspect.signature(cls.__init__).parameters  # type: ignore[misc]
    return [field for field in dataclasses.fields(cls) if field.name in taken and field.metadata.get("saved", True)]


def _maker(f: Any) -> str:
    """The call that makes an adapter's function, as a user writes it; "" for any other function."""
    made_by = getattr(f, "made_by", "")
    return f"nb.{made_by}" if made_by else ""


def _is_of_another_library(value: Any) -> bool:
    """Whether a value is a pytree node that JSON cannot represent."""
    if isinstance(value, dict):
        return type(value) is not dict or not all(isinstance(key, str) for key in value)
    return type(value) not in (list, tuple) and not jax.tree_util.all_leaves([value])


def _is_plain(params: Any) -> bool:
    """Whether parameters consist only of dictionaries, lists and tuples of arrays."""
    if params is None or isinstance(params, RealAndImaginary):
        return True
    if _is_of_another_library(params):
        return False
    parts = params.values() if isinstance(params, dict) else params if isinstance(params, list | tuple) else ()
    return all(map(_is_plain, parts))


def _checked_array(value: Any, name: str) -> np.ndarray:
    """The array in native byte order; an `InputTypeError` unless all machines can read its type."""
    if isinstance(value, np.ma.MaskedArray):
        raise InputTypeError(
            f"Expected arrays of numbers to save; got a masked one at {name}. Fill it, as .filled(0), or save its mask "
            "as a separate array."
        )
    kind = "key" if jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key) else np.dtype(value.dtype).kind
    if kind not in WIDEST or value.dtype.itemsize > WIDEST[kind]:
        raise InputTypeError(
            f"Expected arrays of numbers to save; got {value.dtype} at {name}. "
            "Convert it first: bfloat16 to float32, extended precision to float64, a key by jax.random.key_data."
        )
    return in_native_order(np.asarray(value))
