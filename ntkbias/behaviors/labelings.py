"""Kernels and labelings of the same contexts, as several functions of them accept and check them.

>>> import numpy as np
>>> operators = operators_of({"one": np.eye(4)}, None)
>>> labelings_on({"last": np.array([False, False, False, True])}, operators)["last"].tolist()
[-1.0, -1.0, -1.0, 1.0]
"""

from collections.abc import Iterator, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ntkbias.checks import require_finite, require_host, require_name
from ntkbias.errors import InputError, InputTypeError
from ntkbias.kernels import KernelOperator
from ntkbias.kernels.on_inputs import operator_on, symmetric_matrix
from ntkbias.types import Inputs

__all__ = ["labelings_on", "matrices_of", "operators_of", "place_of"]

ROUNDING = 1e-12  # relative to a labeling: far above the rounding of a float64 mean


def operators_of(kernels: Any, x: Inputs | None) -> dict[str, KernelOperator]:
    """The kernels by name as operators on the same inputs, with one value per pair of them."""
    named = dict(kernels) if isinstance(kernels, Mapping) else {"kernel": kernels}
    if not named:
        raise InputError("Expected kernels to be a kernel, or a dict of one or more by name; got an empty dict.")
    if not all(isinstance(name, str) for name in named):
        raise InputTypeError(f"Expected names of kernels to be strings; got {', '.join(map(repr, named))}.")
    operators = {name: operator_on(kernel, x) for name, kernel in named.items()}
    counts = {operator.num_examples for operator in operators.values()}
    if len(counts) > 1:
        raise InputError(f"Expected kernels on the same inputs; got {', '.join(map(str, sorted(counts)))} of them.")
    for name, operator in operators.items():
        if operator.num_outputs > 1:
            raise InputError(
                f"Expected kernels with one value per pair of inputs; got {operator.num_outputs} outputs of {name!r}. "
                "Use outputs='each', and give each output's matrix."
            )
    return operators


def matrices_of(operators: dict[str, KernelOperator]) -> Iterator[Float[np.ndarray, "n n"]]:
    """The matrix of each kernel, one at a time. Raises `InputError` on one that does not vary over the inputs."""
    for name, operator in operators.items():
        matrix = symmetric_matrix(operator)
        require_finite(matrix, f"the kernel {name!r}")
        centered = matrix - matrix.mean(0)
        trace = np.trace(centered)
        if not trace > matrix.shape[0] * operator.epsilon * np.abs(matrix).max():
            raise InputError(
                f"Expected a kernel that varies over the inputs; got one whose centered trace is {trace:.3g}."
            )
        yield matrix


def labelings_on(labelings: Any, operators: dict[str, KernelOperator]) -> dict[str, Float[np.ndarray, " n"]]:
    """The labelings by name, as numbers: two labels become -1 and 1. None is constant."""
    n = next(iter(operators.values())).num_examples
    given = labelings if isinstance(labelings, Mapping) else {"labeling": labelings}
    if not given:
        raise InputError("Expected a labeling, or a dict of one or more by name; got an empty dict.")
    found = {}
    for name, labels in given.items():
        if not isinstance(name, str):
            raise InputTypeError(f"Expected names of labelings to be strings; got {name!r}.")
        array = require_host(labels, f"the labeling {name!r}")
        if array.shape != (n,):
            raise InputError(f"Expected the labeling {name!r} of shape ({n},), one label per input; got {array.shape}.")
        require_finite(array, f"the labeling {name!r}")
        if array.dtype == bool or jnp.issubdtype(array.dtype, jnp.integer):
            values = np.unique(array)
            if len(values) > 2:
                raise InputError(
                    f"Expected two labels in {name!r}; got {len(values)} whole numbers. Give a labeling per class, as "
                    "y == 3, or real numbers."
                )
            array = np.where(array == values[-1], 1.0, -1.0)
        numbers = np.asarray(array, float)
        if not np.max(np.abs(numbers - np.mean(numbers))) > ROUNDING * np.max(np.abs(numbers)):
            raise InputError(f"Expected a labeling that varies over the inputs; got a constant for {name!r}.")
        found[name] = numbers
    return found


def place_of(names: Any, kernels: tuple[str, ...], labelings: tuple[str, ...]) -> tuple[int, int]:
    """The row and the column of a pair (kernel, labeling) of names; of a labeling alone, if there is one kernel."""
    kernel, name = names if isinstance(names, tuple) and len(names) == 2 else (None, names)
    if kernel is None and len(kernels) > 1:
        raise InputError(
            f"Expected the names of a kernel and a labeling, as [{kernels[0]!r}, {labelings[0]!r}], since there are "
            f"{len(kernels)} kernels; got {names!r}."
        )
    kernel = kernels[0] if kernel is None else kernel
    require_name(kernel, kernels, "a kernel")
    require_name(name, labelings, "a labeling")
    return kernels.index(kernel), labelings.index(name)
