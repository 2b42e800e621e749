"""The vocabulary that every room shares: the names of types in annotations.

Shape letters in annotations and docstrings: `n`, `m` examples, `d` features of an input, `o` outputs, `k` modes,
`t` targets. `params` is any pytree of floating-point arrays, and `f(params, x)` maps a batch to a batch.

>>> from typing import get_args
>>> from ntkbias.types import Outputs
>>> get_args(Outputs)
('mean', 'sum', 'each', 'all')
"""

from collections.abc import Callable
from typing import Any, Literal

from jaxtyping import Array

__all__ = ["ApplyFunction", "Inputs", "Outputs", "Parameterization", "Params", "Precision"]

Params = Any
Inputs = Any  # an array, or a pytree of arrays as f takes it, with the examples on their first axes
ApplyFunction = Callable[[Params, Array], Array]
Outputs = Literal["mean", "sum", "each", "all"]
Parameterization = Literal["ntk", "standard", "mup"]
Precision = Literal["highest", "high", "default"]  # of matrix products, as jax.lax.Precision
