"""Descriptions that stay descriptions: of a kernel that `load` could not build, so that it can be saved again.

>>> from ntkbias.results.keeping import arrays_in, renamed
>>> node = {"dict": {"array": {"array": "0.value"}, "f": {"function": 0}}}
>>> arrays_in(node), renamed(node, {"0.value": "5.value"}, 3)
(['0.value'], {'dict': {'array': {'array': '5.value'}, 'f': {'function': 3}}})
"""

import json
from collections.abc import Mapping
from typing import Any

__all__ = ["arrays_in", "kept", "renamed"]

NAMED = "dict", "fields", "trials"  # entries of a description that hold others by name
LISTED = "list", "tuple", "complex", "pytree"  # and one after the other


def kept(node: Any, functions: list[Any], arrays: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The JSON of a description with all functions of its file, and the arrays in them."""
    names = dict.fromkeys([name for each in (node, *functions) for name in arrays_in(each)])
    return json.dumps({"value": node, "functions": functions}), {name: arrays[name] for name in names}


def arrays_in(node: Any) -> list[str]:
    """The names of the arrays of a description."""
    found: list[str] = []
    _walked(node, lambda name: found.append(name) or name, 0)  # type: ignore[func-returns-value]
    return found


def renamed(node: Any, arrays: Mapping[str, str], first: int) -> Any:
    """The description with other names of its arrays, and with its functions at places from `first` on."""
    return _walked(node, arrays.__getitem__, first)


def _walked(node: Any, name_of: Any, first: int) -> Any:
    if not isinstance(node, dict):
        return node
    found = dict(node)
    kind = next(iter(node), "")
    if kind == "array":
        found["array"] = name_of(node["array"])
    elif kind == "function":
        found["function"] = node["function"] + first
    elif kind == "method":
        found["method"] = _walked(node["method"], name_of, first)
    elif kind == "around":
        found["f"] = node["f"] + first
    for entry in NAMED:
        if entry in node and kind in ("dict", "type", "around"):
            found[entry] = {key: _walked(item, name_of, first) for key, item in node[entry].items()}
    if kind in LISTED:
        found[kind] = [_walked(item, name_of, first) for item in node[kind]]
    return found
