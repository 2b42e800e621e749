"""beartype with mypy's idea of numbers, for jaxtyping's import hook: an int is a float."""

from typing import Any, Self

import jaxtyping
from beartype import BeartypeConf, beartype

_beartype = beartype(conf=BeartypeConf(is_pep484_tower=True))


def check(function):
    """The function with its annotations checked; Self, which beartype resolves in whole classes alone, is not."""
    hints = function.__annotations__
    function.__annotations__ = {name: Any if hint in (Self, "Self") else hint for name, hint in hints.items()}
    return _beartype(function)


_jaxtyped = jaxtyping.jaxtyped


def jaxtyped(*, typechecker):
    """What the import hook decorates every function with; here the public ones alone.

    To write and compile the checks of a function takes milliseconds: for inner ones at each call of the outer one.
    """
    decorate = _jaxtyped(typechecker=typechecker)
    return lambda function: decorate(function) if _is_public(function) else function


def _is_public(function):
    function = getattr(function, "fget", None) or getattr(function, "__func__", None) or function
    names = getattr(function, "__qualname__", "").split(".")
    return not any(name.startswith(("_", "<")) and not name.endswith("__") for name in names)
