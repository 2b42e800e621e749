"""The relative distance of two kernels, which counts their scales as well as their directions.

    distance = ||K - L|| / ||L||,    the Frobenius norm over the Gram matrices on given inputs

At random weights it falls as width^-1/2 for an empirical NTK and its limit (Jacot, Gabriel and Hongler 2018,
arXiv 1806.07572). `alignment` compares directions alone.

>>> import ntkbias as nb
>>> kernel, (x, _) = nb.infinite_ntk(nb.nets.mlp(depth=1)), nb.domains.Circle().quadrature(8)
>>> round(nb.kernels.relative_distance(1.25 * kernel, x, kernel), 4)
0.25
"""

from typing import Any

import numpy as np

from ntkbias.checks import require_known
from ntkbias.errors import InputError
from ntkbias.kernels.kernel import Kernel
from ntkbias.kernels.on_inputs import on_inputs, operator_on
from ntkbias.types import Inputs

__all__ = ["relative_distance"]


@on_inputs
def relative_distance(kernel: Any, x: Inputs, other: Any) -> float:
    """||K - L|| / ||L|| of a kernel and another one, the Frobenius norm of Gram matrices; 0 if they are equal.

    `kernel` comes with its inputs `x`. An operator or a Gram matrix, in memory or on disk, replaces both. `other`, L,
    is a kernel, which is evaluated on the same inputs, or an operator or Gram matrix. The result is computed in float64
    on the host, and is of no unit. It is not symmetric: L is the reference. Costs both matrices.

    Raises `InputError` if shapes differ, or if L is zero.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> nb.kernels.relative_distance(3 * jnp.eye(2), jnp.eye(2))
    2.0
    """
    require_known((kernel, x, other), "relative_distance")
    first = operator_on(kernel, x)
    if isinstance(other, Kernel) and x is None:
        raise InputError(
            "Expected relative_distance(kernel, x, other) of two kernels; got a kernel together with an operator or "
            "matrix that knows its inputs. Give other.operator(x)."
        )
    second = operator_on(other, x if isinstance(other, Kernel) else None)
    if first.shape != second.shape:
        raise InputError(f"Expected two kernels on the same inputs; got shapes {first.shape} and {second.shape}.")
    K, L = (np.asarray(one.matrix(), np.float64) for one in (first, second))
    size = float(np.linalg.norm(L))
    if not size > 0:
        raise InputError("Expected another kernel that is not zero, as the reference; got one of zeros.")
    return float(np.linalg.norm(K - L)) / size
