"""Options that take several values, separated by commas: `--width 64,256,1024`.

>>> from ntkbias.cli.lists import split
>>> split(["64,256", "1024"], int)
(64, 256, 1024)
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import tyro

__all__ = ["Integers", "Names", "Texts", "split"]


def split(words: Sequence[str], kind: Callable[[str], Any]) -> tuple[Any, ...]:
    """The values in words that commas separate. Raises `ValueError` if one is empty or not of this kind."""
    values = [value.strip() for word in words for value in word.split(",")]
    if not all(values):
        raise ValueError("expected a value before and after each comma")
    return tuple(kind(value) for value in values)


def _commas(kind: type, metavar: str, count: Any) -> Any:
    """How the parser reads a tuple of values of this kind, from `count` words."""
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=count,
        metavar=metavar,
        instance_from_str=lambda words: split(words, kind),
        is_instance=lambda value: isinstance(value, tuple) and all(isinstance(each, kind) for each in value),
        str_from_instance=lambda values: [",".join(map(str, values))] if values else [],
    )


Integers = Annotated[tuple[int, ...], _commas(int, "INT[,INT...]", 1)]
Texts = Annotated[tuple[str, ...], _commas(str, "NAME[,NAME...]", 1)]
Names = Annotated[tuple[str, ...], _commas(str, "[NAME ...]", "*")]  # spaces separate them as well
