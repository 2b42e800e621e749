"""The sizes and the errors that a law is fitted to, checked.

>>> import numpy as np
>>> from ntkbias.scaling.curve import checked_curve
>>> sizes, errors = checked_curve(np.array([10, 20]), np.array([[0.5, 0.3], [0.6, 0.2]]))
>>> errors.shape
(2, 2)
"""

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float

from ntkbias.checks import require_finite, require_wide
from ntkbias.errors import InputError

__all__ = ["checked_curve", "checked_sizes"]


def checked_sizes(sizes: ArrayLike) -> Float[np.ndarray, " n"]:
    """The sizes `(n,)`; an `InputError` unless they are finite and above zero."""
    array = require_wide(sizes, "sizes")
    if array.ndim != 1 or not array.size:
        raise InputError(f"Expected sizes (n,); got shape {array.shape}.")
    require_finite(array, "sizes")
    if not bool(jnp.all(array > 0)):
        raise InputError("Expected sizes above zero; got zero or less. Leave those out.")
    return np.asarray(sizes, float)


def checked_curve(sizes: ArrayLike, errors: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """The sizes `(n,)` and the errors `(seeds, n)` or `(n,)`; an `InputError` unless all are above zero."""
    n, values = checked_sizes(sizes), require_wide(errors, "errors")
    if values.ndim not in (1, 2) or values.shape[-1:] != n.shape:
        raise InputError(
            f"Expected errors (seeds, {len(n)}), or ({len(n)},) for one curve: one for each size; got {values.shape}."
        )
    require_finite(values, "errors")
    if values.ndim == 2 and len(values) < 2:
        raise InputError(
            f"Expected two replicates or more in errors (seeds, n); got {len(values)}. Pass one curve as (n,)."
        )
    if not bool(jnp.all(values > 0)):
        raise InputError("Expected errors above zero to fit a power law; got zero or less. Leave those sizes out.")
    return n, np.asarray(errors, float)
