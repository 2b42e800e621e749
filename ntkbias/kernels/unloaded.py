"""The kernel of a spectrum from a file that lacks one: it says what it needs, where it is asked for numbers.

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
    """Stands for a kernel that `load` could not build; `left_out` is the sentence with the reason, which it raises.

    It keeps what the file says of the kernel, so that it is in files to which it is saved again.
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
        """Raise the sentence, as all that asks for values does."""
        self._refuse()

    def operator(self, x: Any, *, num_products: int = 0) -> Any:
        """Raise the sentence."""
        self._refuse()

    def check(self, x: Array, name: str) -> None:
        self._refuse()

    def packed(self, layout: Layout) -> "UnloadedKernel":
        return self

    def contract(self, features1: Any, features2: Any | None) -> Array:
        self._refuse()

    def block_rows(self, x: Array) -> int:
        self._refuse()
