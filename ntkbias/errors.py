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

    >>> import ntkbias as nb
    >>> try:
    ...     nb.nets.mlp(depth=-1)
    ... except nb.InputError as error:
    ...     print(error)
    ...
    Expected depth to be at least 1; got -1.
    """


class InputTypeError(InputError, TypeError):
    """An `InputError` about the type of an argument rather than its value; also a `TypeError`.

    >>> import ntkbias as nb
    >>> try:
    ...     nb.datasets.digits("all")
    ... except TypeError as error:
    ...     print(error)
    ...
    Expected num_examples to be a whole number; got 'all'.
    """
