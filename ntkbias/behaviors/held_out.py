"""The accuracy on held-out contexts of a kernel machine that has learned a labeling from the others.

    f(x) = m + k(x)^T (K + ridge)^-1 (y - m),        m the mean of the training labels, and the label is the sign of f

This is what a network in the kernel regime says of new contexts after it was fine-tuned on some.

>>> import jax, ntkbias as nb
>>> x = jax.random.normal(jax.random.key(0), (80, 4))
>>> behaviors = {"first": x[:, 0] > 0, "parity": x[:, 0] * x[:, 1] * x[:, 2] > 0}
>>> found = nb.behaviors.held_out_accuracy(nb.infinite_ntk(nb.nets.mlp(depth=1)), x, behaviors)
>>> bool(found["first"].low > 0.6), bool(found["parity"].low < 0.6)
(True, True)
"""

import itertools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from jaxtyping import Array, Float, PRNGKeyArray

from ntkbias.behaviors.labelings import labelings_on, matrices_of, operators_of, place_of
from ntkbias.checks import key_or_default, require_known, require_positive, require_scale
from ntkbias.errors import InputError
from ntkbias.kernels.on_inputs import on_inputs
from ntkbias.learning import kernel_regression
from ntkbias.scaling import Interval
from ntkbias.tables import Axes, Printed, Table, counted, interval, number
from ntkbias.types import Inputs

__all__ = ["HeldOutAccuracy", "held_out_accuracy"]

TAIL = 0.025  # on each side of a 95 % interval


class HeldOutAccuracy(Printed):
    """Accuracy `(q, b)` of b labelings under q kernels on m held-out contexts; made by `held_out_accuracy`.

    `accuracy_interval` `(q, b, 2)` is its 95 % interval. `majority` `(b,)` is the accuracy of always saying the more
    frequent training label. `found[kernel, labeling]`, or `found[labeling]` of one kernel, is the accuracy as an
    `Interval`.

    >>> import numpy as np, ntkbias as nb
    >>> y = np.array([-1.0, 1.0] * 10)
    >>> print(nb.behaviors.held_out_accuracy(np.outer(y, y) + np.eye(20) / 10, y)["labeling"].value)
    1.0
    """

    named_axes = Axes(
        "kernel", "labeling", index={"kernel": "kernels", "labeling": "labelings"}, q="kernel", b="labeling"
    )

    kernels: tuple[str, ...] = eqx.field(static=True)
    labelings: tuple[str, ...] = eqx.field(static=True)
    num_train: int = eqx.field(static=True)
    num_held_out: int = eqx.field(static=True)
    accuracy: Float[Array, "q b"]
    accuracy_interval: Float[Array, "q b 2"]
    majority: Float[Array, " b"]

    def __getitem__(self, names: str | tuple[str, str]) -> Interval:
        place = place_of(names, self.kernels, self.labelings)
        low, high = np.asarray(self.accuracy_interval, float)[place].tolist()
        return Interval(float(np.asarray(self.accuracy)[place]), low, high)

    def _table(self, num_rows: int) -> Table:
        pairs = [*itertools.product(range(len(self.kernels)), range(len(self.labelings)))]
        shown = pairs[:num_rows]
        columns = {
            "kernel": [self.kernels[row] for row, _ in shown],
            "labeling": [self.labelings[column] for _, column in shown],
            "accuracy": [interval(self.accuracy[pair], *self.accuracy_interval[pair]) for pair in shown],
            "one label for all": [number(self.majority[column]) for _, column in shown],
        }
        if len(self.kernels) == 1:
            del columns["kernel"]
        notes = [f"{self.num_train} contexts to learn from, {self.num_held_out} held out. In brackets, 95 % intervals."]
        if len(shown) < len(pairs):
            notes.append(f"{len(pairs) - len(shown)} more pairs.")
        title = f"Held-out accuracy: {counted(len(self.kernels), 'kernel')}, {counted(len(self.labelings), 'labeling')}"
        return Table(title, columns, notes)


@on_inputs
def held_out_accuracy(
    kernels: Any,
    x: Inputs,
    labelings: Any,
    *,
    num_train: int | None = None,
    ridge: float | None = None,
    key: PRNGKeyArray | None = None,
) -> HeldOutAccuracy:
    """The accuracy of kernel regression on the contexts that it was not trained on.

    `kernels`, `x` and `labelings` as in `ease`, but each labeling has two values. `num_train` contexts (default: half
    of them) are drawn with `key` (default: a fixed one), the same for all kernels and labelings; the others are held
    out. `ridge` is added to K; by default it is chosen by cross-validation on the training contexts, as in
    `kernel_regression`.

    The interval is that of Clopper and Pearson (Biometrika 1934) for a share of m draws. It holds the accuracy, over
    new contexts, of the machine that these training contexts gave, in 95 % of cases or more, if contexts are
    independent draws. It does not tell how other training contexts would do. Contexts of one template that share words
    are easier than others: hold words out as well to know about those.

    Costs the matrix of each kernel, and 10 `num_train`^3 operations per labeling.

    Raises `InputError` on what `ease` refuses, on labelings of other than two values, on a `num_train` that leaves no
    contexts out, and on training contexts that all have one label.

    >>> import numpy as np
    >>> y = np.array([-1.0, 1.0] * 10)
    >>> held_out_accuracy(np.outer(y, y) + np.eye(20) / 10, y)["labeling"].high
    1.0
    """
    require_known((kernels, x, labelings, ridge), "held_out_accuracy")
    if ridge is not None:
        require_scale("ridge", ridge)
    operators = operators_of(kernels, x)
    columns = {name: _signs(values, name) for name, values in labelings_on(labelings, operators).items()}
    n = next(iter(operators.values())).num_examples
    count = n // 2 if num_train is None else num_train
    require_positive("num_train", count)
    if count >= n:
        raise InputError(f"Expected num_train below the number of contexts, {n}; got {count}.")
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key_or_default(key))).astype(np.uint32).tolist())
    order = rng.permutation(n)
    train, test = order[:count], order[count:]
    for name, y in columns.items():
        if len(np.unique(y[train])) < 2:
            raise InputError(
                f"Expected both labels of {name!r} among {count} training contexts; got one. Choose a larger num_train."
            )
    rights = []
    for matrix in matrices_of(operators):
        gram, cross = matrix[np.ix_(train, train)], matrix[np.ix_(test, train)]
        for y in columns.values():
            mean = y[train].mean()
            fit = kernel_regression(gram, y[train] - mean, ridge=ridge)
            said = mean + cross @ np.asarray(fit.coefficients, float)
            rights.append(int(np.sum((said > 0) == (y[test] > 0))))
    right, held_out = np.array(rights).reshape(len(operators), len(columns)), len(test)
    ends = np.stack(
        [
            scipy.stats.beta.ppf(TAIL, right, held_out - right + 1),
            scipy.stats.beta.ppf(1 - TAIL, right + 1, held_out - right),
        ],
        -1,
    )
    ends = np.where(np.isnan(ends), [0.0, 1.0], ends)  # no context right, or all
    majority = [np.mean((y[train].mean() > 0) == (y[test] > 0)) for y in columns.values()]
    dtype = jnp.result_type(float)
    values = (jnp.asarray(each, dtype) for each in (right / held_out, ends, np.array(majority)))
    return HeldOutAccuracy(tuple(operators), tuple(columns), count, held_out, *values)


def _signs(values: np.ndarray, name: str) -> np.ndarray:
    found = np.unique(values)
    if len(found) != 2:
        raise InputError(f"Expected two labels in {name!r}, which a machine tells apart; got {len(found)} values.")
    return np.where(values == found[1], 1.0, -1.0)
