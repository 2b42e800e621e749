"""beartype with mypy's idea of numbers, for jaxtyping's import hook: an int is a float."""

from typing import Any, Self

from beartype import BeartypeConf, beartype

_beartype = beartype(conf=BeartypeConf(is_pep484_tower=True))


def check(function):
    """The function with its annotations checked; Self, which beartype resolves in whole classes alone, is not."""
    hints = function.__annotations__
    function.__annotations__ = {name: Any if hint in (Self, "Self") else hint for name, hint in hints.items()}
    return _beartype(function)
