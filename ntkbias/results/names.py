"""The names of types in files: those under which `ntkbias` or one of its namespaces exports them.

>>> from ntkbias.results.names import public_name, type_of
>>> public_name(type_of("layers.Dense"))
'layers.Dense'
"""

import dataclasses
import importlib
import sys
from types import ModuleType
from typing import Any

import equinox as eqx

from ntkbias.wrappers import Wrapper

__all__ = ["constant_of", "name_of_constant", "public_name", "type_of", "wrapper_of"]

PACKAGE = __name__.partition(".")[0]


def public_name(cls: type) -> str | None:
    """The name of a type in files: its name in `ntkbias`, else in one of its namespaces; None if it is not exported."""
    package = importlib.import_module(PACKAGE)
    exported = [f"{PACKAGE}.{name}" for name in package.__all__]
    # A value of the type exists, so the namespace of its type has been imported.
    for namespace in (package, *(sys.modules[name] for name in exported if name in sys.modules)):
        if cls.__name__ in getattr(namespace, "__all__", ()) and getattr(namespace, cls.__name__) is cls:
            return f"{namespace.__name__}.{cls.__name__}".removeprefix(f"{PACKAGE}.")
    return None


def type_of(name: Any) -> type | None:
    """The type with this public name, which may be one of several; None if there is none.

    The types of values are equinox modules and our own dictionary types.
    """
    found = _exported(name)
    if not isinstance(found, type):
        return None
    own = issubclass(found, dict) and found.__module__.partition(".")[0] == PACKAGE
    return found if own or issubclass(found, eqx.Module) else None


def name_of_constant(value: Any) -> str | None:
    """The public name of a value that the package exports, such as the loss `losses.mse`; None for any other value."""
    package, _, module = type(value).__module__.partition(".")
    name = f"{module.partition('.')[0]}.{getattr(value, '__name__', '')}"
    return name if package == PACKAGE and constant_of(name) is value else None


def constant_of(name: Any) -> Any:
    """The exported value with this public name; None if it is a function, a type, a module, or not exported."""
    found = _exported(name)
    return found if dataclasses.is_dataclass(found) and not isinstance(found, type) else None


def wrapper_of(name: Any) -> type[Wrapper] | None:
    """The wrapper type that is saved under this name; None if there is none."""
    _exported(name)  # imports the module of the public function, which defines the wrapper
    own = Wrapper.__subclasses__()
    return next((cls for cls in own if cls.saved_as == name and cls.__module__.partition(".")[0] == PACKAGE), None)


def _exported(name: Any) -> Any:
    """The object that the package or one of its namespaces exports under this name; None if there is none."""
    package = importlib.import_module(PACKAGE)
    within, _, own = str(name).rpartition(".")
    if within and within not in package.__all__:
        return None
    namespace = getattr(package, within) if within else package
    if not isinstance(namespace, ModuleType) or own not in getattr(namespace, "__all__", ()):
        return None
    return getattr(namespace, own)
