"""The errors for bad input: what was expected, what came, and what to do.

>>> from ntkbias.errors import InputError
>>> issubclass(InputError, ValueError)
True
"""

__all__ = ["InputError", "InputTypeError"]


def __dir__() -> list[str]:
    return sorted(__all__)


class InputError(ValueError):
    """Something that the caller passed cannot be used: what was expected, what came, and what to do.

    It is raised at the public function, before any work, so that nothing is lost or half-written.
    """


class InputTypeError(InputError, TypeError):
    """An `InputError` about the type of an argument rather than its value; also a `TypeError`."""
