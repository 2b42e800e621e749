"""What a target may be: values, a labeling, a function of the inputs, a contrast of outputs.

A target becomes columns of values, `(n, c)` or for vector-valued kernels `(n, o, c)`, of which power is summed.

>>> import numpy as np
>>> from ntkbias.learning import Contrast
>>> contrast = Contrast(2, 0)                            # output 2 above output 0, on all inputs alike
>>> contrast(np.zeros((1, 4)), 3).tolist()
[[-1.0, 0.0, 1.0]]
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ntkbias.checks import require_wide
from ntkbias.errors import InputError, InputTypeError
from ntkbias.learning.modes import values_on
from ntkbias.packing import are_several, num_examples

__all__ = ["Contrast", "Target", "targets_on"]

MOST_CLASSES = 1_000  # columns of one labeling
ROUNDING = 1e-12  # of a target's values: far above that of a float64 mean, far below any difference of labels


class Contrast(eqx.Module):
    """Output `first` above output `second`: of tokens, of classes. For kernels with outputs="all".

    The target is `values` (default: 1 for all inputs) at `first`, its negative at `second`, and zero elsewhere. With
    values of +1 and -1, `(n,)`, it is which of two outputs an input has.
    """

    first: int = eqx.field(static=True)
    second: int = eqx.field(static=True)
    values: Float[Array, " n"] | None = eqx.field(
        default=None, converter=lambda v: None if v is None else require_wide(v, "values").astype(float)
    )

    def __call__(self, x: Any, num_outputs: int) -> Float[np.ndarray, "n o"]:
        """The target on inputs, for a network of so many outputs."""
        places = (self.first, self.second)
        if self.first == self.second or not all(0 <= place < num_outputs for place in places):
            raise InputError(
                f"Expected a contrast of two different outputs among 0 to {num_outputs - 1}; got {self.first} and "
                f"{self.second}. It takes a kernel with outputs='all'."
            )
        n = num_examples(x)
        values = np.ones(n) if self.values is None else values_on(self.values, "a contrast's values", (n,))
        target = np.zeros((n, num_outputs))
        target[:, self.first], target[:, self.second] = values, -values
        return target


class Target(NamedTuple):
    """A target's values, and its labels where it is a labeling."""

    columns: np.ndarray  # (rows, c), less their mean if centered
    mean: np.ndarray  # (rows, c) or a number: what was taken off
    codes: np.ndarray | None  # (labels, o c): the values that stand for each label
    labels: np.ndarray | None  # (n,): which of them an example has

    def right(self, outputs: np.ndarray) -> float:
        """The part of the labels that these outputs `(rows, c)` are nearest to."""
        return self._share(self._nearness(outputs))

    def right_at_once(self, slopes: np.ndarray) -> float:
        """The same as outputs leave zero along `slopes` `(rows, c)`: of labels that are equally near, these decide."""
        assert self.codes is not None
        at_zero = self._nearness(np.zeros_like(slopes))
        tied = at_zero >= at_zero.max(1, keepdims=True) - ROUNDING * np.max(self.codes**2)
        towards = slopes.reshape(len(at_zero), -1) @ self.codes.T
        return self._share(np.where(tied, towards, -np.inf))

    def _nearness(self, outputs: np.ndarray) -> np.ndarray:
        """To each label `(n, labels)`: half the squared distance, but for its sign and a term of all labels alike."""
        assert self.codes is not None
        assert self.labels is not None
        values = (outputs + self.mean).reshape(len(self.labels), -1)
        return np.asarray(values @ self.codes.T - np.sum(self.codes**2, 1) / 2)

    def _share(self, nearness: np.ndarray) -> float:
        return float(np.mean(np.argmax(nearness, 1) == self.labels))


def targets_on(targets: Any, x: Any, shape: tuple[int, ...], centered: bool) -> dict[str, Target]:
    """Each target by name on inputs of `shape` `(n,)`, or `(n, o)`."""
    if not isinstance(targets, Mapping):
        targets = {"target": targets}
    if not targets:
        raise InputError("Expected a dict of one target or more by name; got none.")
    found = {}
    for name, target in targets.items():
        if not isinstance(name, str):
            raise InputTypeError(f"Expected names of targets to be strings; got {name!r}.")
        values, labeled = _values(target, name, x, shape)
        values = values.reshape(*shape, -1)
        mean = values.mean(0) if centered else np.zeros(values.shape[1:])
        columns = (values - mean).reshape(int(np.prod(shape)), -1)
        if not np.max(np.abs(columns)) > ROUNDING * np.max(np.abs(values)):
            how = ", once its mean is taken off: centered=False keeps constants" if centered else ""
            raise InputError(f"Expected a target that is not zero everywhere{how}; got {name!r} of zeros.")
        offset = np.broadcast_to(mean, values.shape).reshape(columns.shape)
        codes, labels = np.unique(values.reshape(shape[0], -1), axis=0, return_inverse=True)
        if labeled or (len(codes) == 2 and not isinstance(target, Contrast)):
            found[name] = Target(columns, offset, codes, labels.ravel())
        else:
            found[name] = Target(columns, offset, None, None)
    return found


def _values(target: Any, name: str, x: Any, shape: tuple[int, ...]) -> tuple[np.ndarray, bool]:
    """The values of a target, and whether they are labels."""
    if isinstance(target, Contrast):
        if len(shape) == 1:
            raise InputError(
                f"Expected a kernel with outputs='all' for a contrast of outputs; got one value a pair of inputs, for "
                f"{name!r}. Use empirical_ntk(f, params, outputs='all')."
            )
        return target(np.empty(shape[0]) if x is None else x, shape[1]), False
    if callable(target):
        if x is None:
            raise InputError(
                f"Expected the inputs, x=, for a target that is a function of them; got none, for {name!r}."
            )
        target = target(x if are_several(x) else jnp.asarray(x))
    array = require_wide(target, f"the target {name!r}")
    whole = jnp.issubdtype(array.dtype, jnp.integer) or array.dtype == bool
    if whole and array.shape == shape[:1]:
        return _codes(np.asarray(array).astype(int), name, shape), True
    return values_on(array, f"the target {name!r}", shape), False


def _codes(labels: np.ndarray, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """-1 and 1 for two labels, the larger of which is 1; a column each for more; outputs for vector-valued kernels."""
    classes = np.unique(labels)
    if len(shape) == 2:
        if labels.min() < 0 or labels.max() >= shape[1]:
            raise InputError(
                f"Expected labels from 0 to {shape[1] - 1}, one an output; got {labels.min()} to {labels.max()}, for "
                f"{name!r}. Use a Contrast for labels of -1 and 1."
            )
        return (labels[:, None] == np.arange(shape[1])).astype(float)
    if len(classes) > MOST_CLASSES:
        raise InputError(
            f"Expected at most {MOST_CLASSES:,} labels; got {len(classes):,}, for {name!r}. Floats are values as they "
            "stand."
        )
    if len(classes) <= 2:
        return np.where(labels == classes[-1], 1.0, -1.0)
    return (labels[:, None] == classes).astype(float)
