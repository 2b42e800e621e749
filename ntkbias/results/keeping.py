"""Keep the description of a kernel that `load` could not build, so that it can be saved again.

>>> from ntkbias.results.keeping import arrays_in, renamed
>>> node = {"dict": {"array": {"array": "0.value"}, "f": {"function": 0}}}
>>> arrays_in(node), renamed(node, {"0.value": "5.value"}, 3)
(['0.value'], {'dict': {'array': {'array': '5.value'}, 'f': {'function': 3}}})
"""

import json
from collections.abc import Mapping
from typing import Any

__all__ = ["arrays_in", "kept", "renamed"]

NAMED = "dict", "fields", "trials"  # entries that hold other descriptions by name
LISTED = "list", "tuple", "complex", "pytree"  # entries that hold a list of other descriptions


def kept(node: Any, functions: list[Any], arrays: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """A description and all functions of its file as JSON, and the arrays that they use."""
    names = dict.fromkeys([name for each in (node, *functions) for name in arrays_in(each)])
    return json.dumps({"value": node, "functions": functions}), {name: arrays[name] for name in names}


def arrays_in(node: Any) -> list[str]:
    """The names of the arrays in a description."""
    found: list[str] = []
    _mapped(node, lambda name: found.append(name) or name, 0)  # type: ignore[func-returns-value]
    return found


def renamed(node: Any, arrays: Mapping[str, str], first: int) -> Any:
    """The description with renamed arrays, and with `first` added to the indices of its functions."""
    return _mapped(node, arrays.__getitem__, first)


def _mapped(node: Any, name_of: Any, first: int) -> Any:
    if not isinstance(node, dict):
        return node
    found = dict(node)
    kind = next(iter(node), "")
    if kind == "array":
        found["array"] = name_of(node["array"])
    elif kind == "function":
        found["function"] = node["function"] + first
    elif kind == "method":
        found["method"] = _mapped(node["method"], name_of, first)
    elif kind == "around":
        found["f"] = node["f"] + first
    for entry in NAMED:
        if entry in node and kind in ("dict", "type", "around"):
            found[entry] = {key: _mapped(item, name_of, first) for key, item in node[entry].items()}
    if kind in LISTED:
        found[kind] = [_mapped(item, name_of, first) for item in node[kind]]
    return found
