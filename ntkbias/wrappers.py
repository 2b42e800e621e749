"""Functions of this package around a user's `f`: equal where their fields are, and with a name in files.

>>> import dataclasses, math
>>> from ntkbias.wrappers import Wrapper, reduced
>>> @dataclasses.dataclass(frozen=True)
... class Twice(Wrapper):
...     f: object
...     saved_as = "twice"
>>> make, arguments = reduced(lambda f: f, Twice(math.sin))
>>> make(*arguments) == Twice(math.sin)
True
"""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx

__all__ = ["Wrapper", "reduced"]


class Wrapper:
    """A function of this package around a user's, its field `f`: a frozen dataclass, equal to another of equal fields.

    `saved_as` is its name in files: the public name of the function that makes it, or one of its own.
    """

    saved_as: ClassVar[str]


def reduced(make: Callable, f: Any) -> tuple[Callable, tuple]:
    """How pickle makes `make(f)` again: methods by their objects, since those of equinox hold what it cannot take."""
    owner = getattr(f, "__self__", None)
    if isinstance(f, eqx.Module) and owner is not None:
        return _method, (make, owner, getattr(f, "__name__", ""))
    if isinstance(f, Wrapper):
        parts = {field.name: getattr(f, field.name) for field in dataclasses.fields(f)}  # type: ignore[arg-type]
        return _around, (make, type(f), reduced(_itself, parts.pop("f")), parts)
    return make, (f,)


def _method(make: Callable, owner: Any, name: str) -> Any:
    return make(getattr(owner, name))


def _around(make: Callable, wrapper: type, inner: tuple[Callable, tuple], parts: dict[str, Any]) -> Any:
    function, arguments = inner
    return make(wrapper(f=function(*arguments), **parts))


def _itself(f: Any) -> Any:
    return f
