"""A placeholder for the kernel of a loaded spectrum whose file lacks it. Evaluating it raises an error with the reason.

>>> from ntkbias.kernels.unloaded import UnloadedKernel
>>> UnloadedKernel("Expected f=, the function 'network'; got none.")(None)
Traceback (most recent call last):
ntkbias.errors.InputError: Expected f=, the function 'network'; got none.
"""

from typing import Any, NoReturn

import equinox as eqx
from jaxtyping import Array

from ntkbias.errors import InputError
from ntkbias.kernels.kernel import Kernel
from ntkbias.packing import Layout

__all__ = ["UnloadedKernel"]


class UnloadedKernel(Kernel):
    """A placeholder for a kernel that `load` could not build. Evaluating it raises the sentence `left_out`.

    It keeps the file's description of the kernel and its arrays, so that saving it again loses nothing.

    >>> import ntkbias as nb
    >>> kernel = nb.kernels.UnloadedKernel("Expected f=, the function of the kernel; got none.")
    >>> isinstance(kernel, nb.Kernel)
    True
    """

    left_out: str = eqx.field(static=True)
    description: str = eqx.field(static=True)
    arrays: dict[str, Any]

    def __init__(self, left_out: str, description: str = "", arrays: dict[str, Any] | None = None) -> None:
        self.outputs = "mean"
        self.left_out, self.description, self.arrays = left_out, description, arrays or {}

    def __repr__(self) -> str:
        return f"UnloadedKernel({self.left_out!r})"

    def _refuse(self) -> NoReturn:
        raise InputError(self.left_out)

    def __call__(self, x1: Any, x2: Any = None) -> Array:
        """Raise an `InputError` with the reason, as every method that needs values does."""
        self._refuse()

    def operator(self, x: Any, *, num_products: int = 0) -> Any:
        """Raise an `InputError` with the reason."""
        self._refuse()

    def check(self, x: Array, name: str) -> None:
        self._refuse()

    def packed(self, layout: Layout) -> "UnloadedKernel":
        return self

    def contract(self, features1: Any, features2: Any | None) -> Array:
        self._refuse()

    def block_rows(self, x: Array) -> int:
        self._refuse()
