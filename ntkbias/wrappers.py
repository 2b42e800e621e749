"""Wrappers of a user's function `f`: they are equal if their fields are equal, and they have a name in saved files.

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
    """The base class of wrappers of a user's function, the field `f`. Subclasses are frozen dataclasses.

    `saved_as` is the wrapper's name in files: the public name of the function that makes it, or a name of its own.
    """

    saved_as: ClassVar[str]

    @property
    def on_batches(self) -> Callable:
        """The function that shows how the user's f treats a batch, if this one gives it single examples."""
        return self  # type: ignore[return-value]  # subclasses can be called

    def check_inputs(self, params: Any, x: Any) -> None:
        """Raise an `InputError` if this function does not take the values of these inputs. This class takes all."""


def reduced(make: Callable, f: Any) -> tuple[Callable, tuple]:
    """A function and arguments from which pickle can rebuild `make(f)`.

    A bound method of an equinox module cannot be pickled, so it is rebuilt from its object and its name.
    """
    owner = getattr(f, "__self__", None)
    if isinstance(f, eqx.Module) and owner is not None:
        return _rebuild_method, (make, owner, getattr(f, "__name__", ""))
    if isinstance(f, Wrapper):
        fields = {field.name: getattr(f, field.name) for field in dataclasses.fields(f)}  # type: ignore[arg-type]
        return _rebuild_wrapper, (make, type(f), reduced(_identity, fields.pop("f")), fields)
    return make, (f,)


def _rebuild_method(make: Callable, owner: Any, name: str) -> Any:
    return make(getattr(owner, name))


def _rebuild_wrapper(make: Callable, wrapper: type, inner: tuple[Callable, tuple], fields: dict[str, Any]) -> Any:
    function, arguments = inner
    return make(wrapper(f=function(*arguments), **fields))


def _identity(f: Any) -> Any:
    return f
