"""ntkbias shows what a neural network is inclined to learn.

It computes the neural tangent kernel of a network, at a finite width and in the infinite-width limit, splits it into
eigenfunctions, and ranks those by frequency and by how fast they are learned.

Nothing is loaded before it is used: the names are those in `__init__.pyi`, which type checkers read.
"""

import pkgutil
from typing import Any

import lazy_loader

__version__ = "0.1.0"

_loaded, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    """Load a public name when it is used. The error for another one says in which namespace it stands, if in any."""
    try:
        return _loaded(name)
    except AttributeError:
        spaces = [] if name.startswith("_") else [found.name for found in pkgutil.iter_modules(__path__) if found.ispkg]
        places = [space for space in spaces if space in __all__ and name in getattr(_loaded(space), "__all__", ())]
        if not places:
            raise
        raise AttributeError(f"Expected a name of ntkbias; got {name!r}. Use ntkbias.{places[0]}.{name}.") from None
