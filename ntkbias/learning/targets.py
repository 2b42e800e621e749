"""The kinds of targets: values, a labeling, a function of the inputs, or a contrast of outputs.

Each target becomes columns of values, `(n, c)`, or `(n, o, c)` for vector-valued kernels. Its power is the sum over the
columns.

>>> import numpy as np
>>> from ntkbias.learning import Contrast
>>> contrast = Contrast(2, 0)                            # output 2 minus output 0, the same on all inputs
>>> contrast(np.zeros((1, 4)), 3).tolist()
[[-1.0, 0.0, 1.0]]
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ntkbias.checks import require_host, require_wide
from ntkbias.errors import InputError, InputTypeError
from ntkbias.learning.modes import values_on
from ntkbias.mistaken import is_own
from ntkbias.packing import are_several, num_examples

__all__ = ["Contrast", "Target", "targets_on"]

MAX_CLASSES = 1_000  # columns of one labeling
ROUNDING = 1e-12  # relative to a target: far above the rounding of a float64 mean, far below differences of labels


class Contrast(eqx.Module):
    """The contrast of output `first` with output `second`, of tokens or classes; for kernels with outputs="all".

    The target equals `values` (default: 1 for all inputs) at output `first`, -`values` at output `second`, and zero
    elsewhere. Values of +1 and -1, `(n,)`, say which of the two outputs is right for each input.

    >>> import jax, ntkbias as nb
    >>> net, x = nb.nets.mlp(width=16, depth=1, num_outputs=3), jax.random.normal(jax.random.key(1), (8, 2))
    >>> kernel = nb.empirical_ntk(net.apply, net.init(jax.random.key(0), (2,)), outputs="all")
    >>> nb.learnability(kernel, x, {"1 over 0": nb.learning.Contrast(1, 0)}, centered=False).learning_time.shape
    (1, 1)
    """

    first: int = eqx.field(static=True)
    second: int = eqx.field(static=True)
    values: Float[Array, " n"] | None = eqx.field(
        default=None, converter=lambda v: None if v is None else require_wide(v, "values").astype(float)
    )

    def __call__(self, x: Any, num_outputs: int) -> Float[np.ndarray, "n o"]:
        """The target on the inputs, for a network with `num_outputs` outputs."""
        places = (self.first, self.second)
        if self.first == self.second or not all(0 <= place < num_outputs for place in places):
            raise InputError(
                f"Expected a contrast of two different outputs among 0 to {num_outputs - 1}; got {self.first} and "
                f"{self.second}. It needs a kernel with outputs='all'."
            )
        n = num_examples(x)
        values = np.ones(n) if self.values is None else values_on(self.values, "a contrast's values", (n,))
        target = np.zeros((n, num_outputs))
        target[:, self.first], target[:, self.second] = values, -values
        return target


class Target(NamedTuple):
    """A target's values, and its labels if it is a labeling."""

    columns: np.ndarray  # (rows, c), minus their mean if centered
    codes: np.ndarray | None  # (labels, o c): the values that represent each label, minus the same mean
    labels: np.ndarray | None  # (n,): the row in `codes` of each example's label

    def right(self, outputs: np.ndarray) -> float:
        """The share of examples whose outputs `(rows, c)` are nearest to their own label."""
        return self._share(self._nearness(outputs))

    def right_at_once(self, slopes: np.ndarray) -> float:
        """The same share just after the outputs leave zero along `slopes` `(rows, c)`; slopes break ties of labels."""
        assert self.codes is not None
        at_zero = self._nearness(np.zeros_like(slopes))
        tied = at_zero >= at_zero.max(1, keepdims=True) - ROUNDING * np.max(self.codes**2)
        towards = slopes.reshape(len(at_zero), -1) @ self.codes.T
        return self._share(np.where(tied, towards, -np.inf))

    def _nearness(self, outputs: np.ndarray) -> np.ndarray:
        """How near the outputs are to each label, `(n, labels)`: minus half the squared distance, up to a constant.

        The constant is the same for all labels of an example.
        """
        assert self.codes is not None
        assert self.labels is not None
        values = outputs.reshape(len(self.labels), -1)
        return np.asarray(values @ self.codes.T - np.sum(self.codes**2, 1) / 2)

    def _share(self, nearness: np.ndarray) -> float:
        return float(np.mean(np.argmax(nearness, 1) == self.labels))


def targets_on(targets: Any, x: Any, shape: tuple[int, ...], centered: bool, weights: Any = None) -> dict[str, Target]:
    """The targets by name, as columns on inputs of `shape` `(n,)` or `(n, o)`. Means are over the `weights` `(n,)`."""
    if not isinstance(targets, Mapping):
        targets = {"target": targets}
    if not targets:
        raise InputError("Expected a dict of one or more targets by name; got an empty dict.")
    found = {}
    for name, target in targets.items():
        if not isinstance(name, str):
            raise InputTypeError(f"Expected names of targets to be strings; got {name!r}.")
        values, labeled = _values(target, name, x, shape)
        values = values.reshape(*shape, -1)
        mean = np.average(values, 0, weights) if centered else np.zeros(values.shape[1:])
        columns = (values - mean).reshape(int(np.prod(shape)), -1)
        if not np.max(np.abs(columns)) > ROUNDING * np.max(np.abs(values)):
            how = " after its mean is subtracted" if centered else ""
            advice = " Use centered=False to keep constants." if centered else ""
            raise InputError(f"Expected a target that is not zero everywhere{how}; got zeros for {name!r}.{advice}")
        # Codes without the mean: the distance between outputs and codes is the same, and keeps its digits.
        codes, labels = np.unique(columns.reshape(shape[0], -1), axis=0, return_inverse=True)
        if labeled or (len(codes) == 2 and not isinstance(target, Contrast)):
            found[name] = Target(columns, codes, labels.ravel())
        else:
            found[name] = Target(columns, None, None)
    return found


def _values(target: Any, name: str, x: Any, shape: tuple[int, ...]) -> tuple[np.ndarray, bool]:
    """The values of a target, and whether they encode labels."""
    if isinstance(target, Contrast):
        if len(shape) == 1:
            raise InputError(
                f"Expected a kernel with outputs='all' for a contrast of outputs; got one value per pair of inputs, "
                f"for {name!r}. Use empirical_ntk(f, params, outputs='all')."
            )
        return target(np.empty(shape[0]) if x is None else x, shape[1]), False
    if is_own(target):
        raise InputTypeError(
            f"Expected a target as values, labels, a function of x or a Contrast; got {type(target).__name__}, for "
            f"{name!r}."
        )
    if callable(target):
        if x is None:
            raise InputError(
                f"Expected the inputs, x=, for a target that is a function of them; got none, for {name!r}."
            )
        target = target(x if are_several(x) else jnp.asarray(x))
    array = require_host(target, f"the target {name!r}")
    whole = jnp.issubdtype(array.dtype, jnp.integer) or array.dtype == bool
    if whole and array.shape == shape[:1]:
        return _codes(np.asarray(array).astype(int), name, shape), True
    return values_on(array, f"the target {name!r}", shape), False


def _codes(labels: np.ndarray, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The values that encode labels.

    A vector-valued kernel has one output per label. Otherwise two labels become -1 and 1 (the larger one), and more
    labels become one column each.
    """
    classes = np.unique(labels)
    if len(shape) == 2:
        if labels.min() < 0 or labels.max() >= shape[1]:
            raise InputError(
                f"Expected labels from 0 to {shape[1] - 1}, one per output; got {labels.min()} to {labels.max()}, for "
                f"{name!r}. Use a Contrast for labels of -1 and 1."
            )
        return (labels[:, None] == np.arange(shape[1])).astype(float)
    if len(classes) > MAX_CLASSES:
        raise InputError(
            f"Expected at most {MAX_CLASSES:,} different labels; got {len(classes):,}, for {name!r}. To give values "
            "instead of labels, convert them to floats."
        )
    if len(classes) <= 2:
        return np.where(labels == classes[-1], 1.0, -1.0)
    return (labels[:, None] == classes).astype(float)
