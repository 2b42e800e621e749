"""The learning times of a kernel's modes, and the largest stable learning rate.

Under gradient flow, the error in a mode of K / n with eigenvalue r decays as exp(-r time). Its learning time is 1 / r.
Each step of gradient descent with learning rate h multiplies the error by 1 - h r. Descent therefore converges if
h < 2 / r for the largest r; with heavy-ball momentum b it converges if h < 2 (1 + b) / r (Polyak 1964).

>>> import jax.numpy as jnp, ntkbias as nb
>>> from ntkbias.learning import critical_learning_rate, learning_times
>>> K = jnp.diag(jnp.array([4.0, 2.0, 0.0, 0.0]))
>>> learning_times(nb.eigen.eigh(K)).tolist(), critical_learning_rate(K)
([1.0, 2.0, inf, inf], 2.0)
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray

from ntkbias.checks import key_or_default, require_known
from ntkbias.eigen import top_modes
from ntkbias.errors import InputError, InputTypeError
from ntkbias.kernels import Kernel
from ntkbias.kernels.on_inputs import on_inputs, operator_on
from ntkbias.learning.modes import finite_outputs, modes_of
from ntkbias.spectra import Spectrum
from ntkbias.types import Inputs

__all__ = ["critical_learning_rate", "learning_times"]


def learning_times(spectrum: Spectrum) -> Float[Array, " k"]:
    """1 / eigenvalue: the time (steps * learning rate) in which gradient flow reduces a mode's error by a factor of e.

    Give the spectrum for outputs="all", or at infinite width for "mean"; times for "sum" are o times too short. Modes
    below the noise floor have infinite times. With momentum b, time is steps * learning rate / (1 - b).

    >>> import ntkbias as nb
    >>> circle = nb.domains.Circle()
    >>> x, weights = circle.quadrature(16)
    >>> spectrum = nb.spectrum(nb.infinite_ntk(nb.nets.mlp(depth=1, b_std=0.1)), x)
    >>> bool(nb.learning.learning_times(spectrum)[0] == 1 / spectrum.eigenvalues[0])
    True
    """
    if not isinstance(spectrum, Spectrum):
        raise InputTypeError(f"Expected a Spectrum; got {type(spectrum).__name__}. Use spectrum(kernel, x).")
    return jnp.where(spectrum.above_noise, 1 / spectrum.eigenvalues, jnp.inf)


@on_inputs
def critical_learning_rate(
    kernel: Any,
    x: Inputs,
    *,
    momentum: float = 0.0,
    P: ArrayLike | None = None,
    tolerance: float = 1e-4,
    key: PRNGKeyArray | None = None,
) -> float:
    """The learning rate above which full-batch gradient descent diverges, 2 (1 + momentum) / (top eigenvalue of K / n).

    It holds for the loss 1/2 * mean over inputs * sum over outputs. A loss that averages over o outputs allows a
    learning rate o times as large. `kernel` comes with its inputs `x`, and no matrix is formed. An operator, a matrix
    or a `Spectrum` replaces both. The kernel must count all outputs: outputs="all", or "mean" at infinite width. The
    function checks this for a kernel, and for a spectrum or an operator that knows its kernel. It cannot check a bare
    matrix. The result is too large by at most a factor of 1 + `tolerance`.

    With `P`, the loss is 1/2 (f - y)^T P (f - y), as in `gradient_descent`. The bound is then the top eigenvalue of
    K P, which is computed from the whole matrix.

    >>> critical_learning_rate(jnp.diag(jnp.array([4.0, 2.0])), P=jnp.array([0.25, 1.0]))
    1.0

    Costs about ten products with a block of 16 vectors, drawn by `key` (default: a fixed one). For few rows it costs an
    eigendecomposition instead. Raises `InputError` on a kernel that does not count all outputs, on a kernel that is
    zero, and on traced arrays.

    >>> import ntkbias as nb
    >>> circle = nb.domains.Circle()
    >>> x, weights = circle.quadrature(16)
    >>> kernel = nb.infinite_ntk(nb.nets.mlp(depth=1, b_std=0.1))
    >>> rate, largest = nb.critical_learning_rate(kernel, x), nb.spectrum(kernel, x).eigenvalues[0]
    >>> round(rate * float(largest), 3)
    2.0
    """
    require_known((kernel, x, momentum), "critical_learning_rate")
    if isinstance(kernel, Spectrum):
        kernel.require_one()
    if not 0 <= momentum < 1:
        raise InputError(f"Expected a momentum of at least 0 and below 1; got {momentum!r}.")
    key = key_or_default(key)
    _require_all_outputs(*_source(kernel, x))
    if P is not None:
        top = float(modes_of(kernel, x, None, None, P).rates.max())
        if not top > 0:
            raise InputError("Expected a kernel and P with a product that is not zero; got a zero one.")
        return 2 * (1 + momentum) / top
    if not isinstance(kernel, Spectrum):
        kernel = top_modes(operator_on(kernel, x), 1, key=key, tolerance=tolerance)
    if not kernel.num_above_noise:
        raise InputError("Expected a kernel with an eigenvalue above zero; got none: every learning rate converges.")
    return float(2 * (1 + momentum) / np.asarray(kernel.eigenvalues, float)[0])


def _source(kernel: Any, x: Any) -> tuple[Kernel | None, Any]:
    """The kernel and inputs behind a kernel, a spectrum or an operator; (None, None) if it does not know them."""
    if isinstance(kernel, Kernel):
        return kernel, x
    if isinstance(kernel, Spectrum):
        return kernel.kernel, kernel.x
    return getattr(kernel, "source", None) or (None, None)


def _require_all_outputs(kernel: Kernel | None, x: Any) -> None:
    if kernel is None or kernel.outputs == "all":
        return
    count = finite_outputs(kernel, x)
    if count != 1 and (count is not None or kernel.outputs in ("sum", "each")):
        raise InputError(
            f"Expected a kernel of all outputs, whose largest eigenvalue bounds the learning rate; got outputs="
            f"{kernel.outputs!r}. Use outputs='all'; at infinite width 'mean' has the same eigenvalues."
        )
