"""Arguments that are mistaken for others: labels for numbers, a kernel or a domain for inputs, a word for a flag.

Each would give a wrong number silently, or an error far from its cause. Each gets one sentence instead.

>>> import ntkbias as nb
>>> from ntkbias.mistaken import require_no_labels
>>> try:
...     require_no_labels([0, 7, 2])
... except nb.InputError as error:
...     print(error)             # doctest: +ELLIPSIS
Expected targets to be numbers; got whole numbers of 3 different values, which may be labels. For labels give ...
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ntkbias.checks import is_known, require_host
from ntkbias.errors import InputError, InputTypeError

__all__ = ["is_own", "refuse_own", "require_flag", "require_no_labels"]

OWN = __name__.partition(".")[0]


def require_no_labels(targets: Any, name: str = "targets") -> None:
    """Raise an `InputError` if whole numbers of more than two values are given as targets: they may be labels.

    Digit 7 as the number 7 would be a silent mistake. A traced array passes.
    """
    if isinstance(targets, jax.Array) and not is_known(targets):
        return
    array = targets if isinstance(targets, jax.Array | np.ndarray) else require_host(targets, name)
    if not jnp.issubdtype(array.dtype, jnp.integer):
        return
    count = len(np.unique(np.asarray(array)))
    if count > 2:
        raise InputError(
            f"Expected {name} to be numbers; got whole numbers of {count:,} different values, which may be labels. For "
            "labels give nb.datasets.one_hot(labels), and for numbers numpy.asarray(values).astype(float)."
        )


def is_own(value: Any) -> bool:
    """Whether this is a module of this package: a kernel, a network, a spectrum, a domain."""
    return isinstance(value, eqx.Module) and type(value).__module__.partition(".")[0] == OWN


def refuse_own(value: Any, name: str) -> None:
    """Raise an `InputTypeError` if a module of this package is given as inputs."""
    if is_own(value):
        of_domain = hasattr(value, "sample") and hasattr(value, "quadrature")
        advice = "Give points of it, as domain.sample(100, key=key)." if of_domain else "Give an array (n, ...)."
        raise InputTypeError(f"Expected {name} to be inputs; got {type(value).__name__}. {advice}")


def require_flag(name: str, value: object) -> None:
    """Raise an `InputTypeError` unless `value` is True or False: any other word, as "no", would count as true."""
    if not isinstance(value, bool | np.bool_):
        raise InputTypeError(f"Expected {name} to be True or False; got {value!r}.")
