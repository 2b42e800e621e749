"""The kernel of a few inputs, by which a store recognizes its function f.

They are the first inputs, inputs spread over all of them, and random ones like them. The first inputs alone may not be
enough: if they are zero, all functions without biases agree.

>>> import jax.numpy as jnp, ntkbias as nb
>>> from ntkbias.kernels.disk.probes import first_values, probe_values
>>> kernel = nb.infinite_ntk(nb.nets.mlp(depth=1))
>>> first_values(kernel, jnp.eye(4), jnp.eye(4)).shape, len(probe_values(kernel, jnp.eye(4), jnp.eye(4)))
((2, 3), 12)
"""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np

from ntkbias.kernels.evaluation import gram
from ntkbias.kernels.form import SymmetricForm

__all__ = ["differ", "first_values", "probe_values"]

ROWS, COLUMNS = 2, 3  # inputs on each side of a probe
SAMPLED = 64  # inputs from which the random ones take their numbers


def first_values(kernel: SymmetricForm, x1: Any, x2: Any) -> np.ndarray:
    """The kernel of the first inputs."""
    return _values(kernel, x1[:ROWS], x2[:COLUMNS])


def probe_values(kernel: SymmetricForm, x1: Any, x2: Any) -> list[float | None]:
    """The kernel of inputs spread over both sets, then that of random inputs. None for values that are not finite."""
    pairs = (
        (_spread(x1, ROWS), _spread(x2, COLUMNS)),
        (_random(x1, ROWS, seed=1), _random(x2, COLUMNS, seed=2)),
    )
    found = [value for few in pairs for value in _values(kernel, *few).astype(float).ravel().tolist()]
    return [value if math.isfinite(value) else None for value in found]


def differ(there: list[float | None], here: list[float | None], tolerance: float) -> tuple[float, float] | None:
    """The largest difference of two lists of values, and the largest value. None if they agree within the tolerance.

    The difference is infinite if a value is finite in only one of the lists.
    """
    old, new = (np.array([math.nan if value is None else value for value in side]) for side in (there, here))
    if old.shape != new.shape or not np.array_equal(np.isnan(old), np.isnan(new)):
        return math.inf, float(np.nanmax(np.abs(old), initial=0.0))
    old, new = old[~np.isnan(old)], new[~np.isnan(new)]
    size, difference = np.max(np.abs(old), initial=0.0), np.max(np.abs(old - new), initial=0.0)
    return None if difference <= tolerance * size else (float(difference), float(size))


def _values(kernel: SymmetricForm, x1: Any, x2: Any) -> np.ndarray:
    # kernel(...) would not do: in it, the processes of a distributed program wait for each other.
    few = jnp.asarray(x1), jnp.asarray(x2)
    return np.asarray(gram(kernel.device_programs()[:1], *few, rows=COLUMNS, outputs=kernel.outputs))


def _spread(x: Any, count: int) -> np.ndarray:
    """At most `count` evenly spaced inputs, beginning with the last."""
    return np.asarray(x[np.linspace(len(x) - 1, 0, min(count, len(x))).astype(int)])


def _random(x: Any, count: int, seed: int) -> np.ndarray:
    """Random inputs: each number is drawn from the numbers that the inputs `x` have in its place, so f accepts it.

    Inputs of bytes, which may be parts of packed numbers, are drawn whole.
    """
    draws = np.random.default_rng(seed)
    sample = np.asarray(x[np.linspace(0, len(x) - 1, min(SAMPLED, len(x))).astype(int)])
    shape = (count, *(1,) * (x.ndim - 1)) if sample.dtype == np.uint8 else (count, *x.shape[1:])
    return np.take_along_axis(
        sample, np.broadcast_to(draws.integers(len(sample), size=shape), (count, *x.shape[1:])), 0
    )
