"""The test error of kernel regression by number of examples, measured on random draws from given inputs.

This is the measured counterpart of the prediction `learning_curve`. Its standard errors let you compare the two.

>>> import jax, ntkbias as nb
>>> from ntkbias.learning import learning_curve, measured_learning_curve
>>> kernel, x = nb.infinite_ntk(nb.nets.mlp(depth=4)), nb.domains.Hypercube(6).quadrature(64)[0]
>>> spectrum, y = nb.spectrum(kernel, x), x[:, 0] * x[:, 1]
>>> measured = measured_learning_curve(kernel, x, y, [8, 16, 32])
>>> predicted = learning_curve(spectrum, y, measured.sizes)
>>> bool((abs(predicted.errors - measured.errors) < 4 * measured.standard_errors).all())
True
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ntkbias.checks import key_or_default, require_known, require_positive, require_scale
from ntkbias.errors import InputError, InputTypeError
from ntkbias.kernels import Kernel
from ntkbias.kernels.on_inputs import on_inputs, operator_on
from ntkbias.learning.curves import checked_sizes
from ntkbias.learning.modes import gram_of, gram_rows, require_squares, values_on
from ntkbias.mistaken import require_flag, require_no_labels
from ntkbias.progress import progress
from ntkbias.scaling import crossing
from ntkbias.tables import Axes, Printed, Table, counted, number, spaced
from ntkbias.types import Inputs

__all__ = ["MeasuredLearningCurve", "measured_learning_curve"]

LEVEL = 0.975  # of the quantile that ends a 95 % interval


class MeasuredLearningCurve(Printed):
    """The test error at each number of examples, averaged over draws. The last axis `t` counts targets.

    It prints as a table of means over targets.

    >>> import ntkbias as nb
    >>> circle = nb.domains.Circle()
    >>> x, weights = circle.quadrature(16)
    >>> kernel = nb.infinite_ntk(nb.nets.mlp(depth=1, b_std=0.1))
    >>> nb.measured_learning_curve(kernel, x, x[:, 0], [2, 8], num_draws=4).standard_errors.shape
    (2,)
    """

    named_axes = Axes("size", index={"size": "sizes"}, s="size", t="target")

    sizes: Int[Array, " s"]
    errors: Float[Array, "s *t"]  # mean squared error on noisy test targets; subtract `noise` for the function's error
    standard_errors: Float[Array, "s *t"]  # of the mean over draws
    learned: Float[Array, "s *t"]  # <f, y> / <y, y>, the measured learnability
    learned_standard_errors: Float[Array, "s *t"]
    ridge: float
    noise: float
    num_draws: int

    @property
    def errors_without_noise(self) -> Float[Array, "s *t"]:
        """The mean squared error of the function itself, without the noise of test targets."""
        return self.errors - self.noise

    def examples_until(self, level: float, *, noise: bool = True) -> Float[np.ndarray, "*t"]:
        """The number of examples at which each target's error falls through `level`; NaN if it does not.

        See `scaling.crossing`. Without `noise`, it is the function's own error that falls.
        """
        return crossing(self.sizes, self.errors if noise else self.errors_without_noise, level)

    def half_widths(self) -> Float[np.ndarray, "s *t"]:
        """Half the width of the 95 % interval of each mean test error: Student's t times the standard error.

        The interval covers the mean over all draws from these inputs with this kernel. With few draws it is wide, and
        with one it is NaN.
        """
        quantile = scipy.special.stdtrit(self.num_draws - 1, LEVEL)
        return np.asarray(quantile * np.asarray(self.standard_errors, float))

    def _table(self, num_rows: int) -> Table:
        shown = spaced(len(self.sizes), num_rows)
        fields = self.errors, self.standard_errors, self.learned, self.learned_standard_errors
        means = (np.asarray(field, float).reshape(len(self.sizes), -1).mean(1) for field in fields)
        errors, spreads, learned, scatters = means
        columns = {
            "n": [f"{int(self.sizes[row]):,}" for row in shown],
            "test error": [number(errors[row]) for row in shown],
            "+-": [f"{spreads[row]:.2g}" for row in shown],
            "learned": [f"{learned[row]:.1%}" for row in shown],
            "+- ": [f"{scatters[row]:.1%}" for row in shown],
        }
        draws = f"{self.num_draws} draws, ridge {self.ridge:g}, noise {self.noise:g}"
        notes = ["+- is one standard error of the mean over draws."]
        return Table(f"MeasuredLearningCurve: {counted(len(self.sizes), 'size')}, {draws}", columns, notes)


@on_inputs
def measured_learning_curve(
    kernel: Any,
    x: Inputs,
    targets: ArrayLike,
    sizes: ArrayLike | Sequence[int],
    *,
    ridge: float = 0.0,
    noise: float = 0.0,
    num_draws: int = 20,
    replace: bool = False,
    held_out: bool = False,
    test: tuple[Inputs, ArrayLike] | None = None,
    key: PRNGKeyArray | None = None,
) -> MeasuredLearningCurve:
    """Measure the test error of kernel regression on `num_draws` random sets of each of `sizes` `(s,)` examples.

    `kernel` comes with all inputs `x`. An operator or a matrix `(N, N)` replaces both. `targets`, `(N,)` or `(N, t)`,
    are values on the inputs without noise. Each set of labels gets fresh noise of variance `noise`, and the test error
    includes this variance. `key` draws the sets and the noise (default: a fixed key). Examples are drawn without
    replacement unless `replace`. With replacement and ridge zero, equal inputs share the mean of their labels. The test
    error is the mean over all N inputs, as in `learning_curve`; if `held_out`, it is the mean over the inputs that were
    not drawn; with `test`, a pair (inputs, targets), it is the mean over this fixed set. One draw has no standard
    errors: they are NaN.

    Costs n^3 / 3 + N n operations per draw, in float64, and the whole matrix. A progress bar counts draws.

    Raises `InputError` on targets of another length, sizes beyond N, and, if `held_out`, sizes of N; and on `test`
    beside `held_out`, or with an operator or a matrix, which knows no other inputs.

    >>> import ntkbias as nb
    >>> circle = nb.domains.Circle()
    >>> x, weights = circle.quadrature(16)
    >>> kernel = nb.infinite_ntk(nb.nets.mlp(depth=1, b_std=0.1))
    >>> curve = nb.measured_learning_curve(kernel, x, circle.harmonics(x, 1)[:, 1], sizes=[2, 8], num_draws=4)
    >>> curve.errors.shape
    (2,)
    """
    require_known((kernel, x, targets, sizes, ridge, noise), "measured_learning_curve")
    require_scale("ridge", ridge)
    require_scale("noise", noise)
    require_flag("replace", replace)
    require_flag("held_out", held_out)
    require_positive("num_draws", num_draws)
    key = key_or_default(key)
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    counts = checked_sizes(sizes)
    operator = operator_on(gram_of(kernel, x), None)
    total = operator.num_examples
    if operator.num_outputs != 1:
        raise InputError("Expected a kernel with one value per pair of inputs; got outputs='all'. Use outputs='mean'.")
    values = values_on(targets, "targets", (total,))
    require_no_labels(targets)
    require_squares(values, "targets")
    most = total - 1 if held_out else total
    if counts.max() > most:
        raise InputError(f"Expected sizes of at most {most}, of {total} inputs; got {counts.max()}.")
    matrix, columns = operator.matrix().astype(float), values.reshape(total, -1)
    if not np.all(np.sum(columns**2, 0) > 0):
        raise InputError("Expected targets that are not zero everywhere; got one of zeros. Leave it out.")
    epsilon = operator.epsilon
    tests = None if test is None else _tests(kernel, x, test, held_out, columns.shape, values.shape[1:])
    errors = np.empty((len(counts), num_draws, columns.shape[1]))
    learned = np.empty_like(errors)
    for place, draw in progress([(i, j) for i in range(len(counts)) for j in range(num_draws)], "draws"):
        rows = rng.choice(total, counts[place], replace=replace)
        labels = columns[rows] + noise**0.5 * rng.normal(size=(len(rows), columns.shape[1]))
        solved = _solved(matrix[np.ix_(rows, rows)], labels, ridge, epsilon)
        if tests is None:
            tested = np.setdiff1d(np.arange(total), rows) if held_out else np.arange(total)
            left, right = matrix[np.ix_(tested, rows)] @ solved, columns[tested]
        else:
            left, right = tests[0][:, rows] @ solved, tests[1]
        errors[place, draw] = np.mean((left - right) ** 2, 0) + noise
        learned[place, draw] = np.sum(left * right, 0) / np.maximum(np.sum(right**2, 0), np.finfo(float).tiny)

    def mean(drawn: np.ndarray) -> Array:
        return jnp.asarray(drawn.mean(1).reshape(-1, *values.shape[1:]), jnp.result_type(float))

    def standard_error(drawn: np.ndarray) -> Array:
        spread = drawn.std(1, ddof=1) / num_draws**0.5 if num_draws > 1 else np.full_like(drawn[:, 0], np.nan)
        return jnp.asarray(spread.reshape(-1, *values.shape[1:]), jnp.result_type(float))

    with jax.debug_nans(False):  # one draw has no standard error
        return MeasuredLearningCurve(
            sizes=jnp.asarray(counts),
            errors=mean(errors),
            standard_errors=standard_error(errors),
            learned=mean(learned),
            learned_standard_errors=standard_error(learned),
            ridge=float(ridge),
            noise=float(noise),
            num_draws=num_draws,
        )


def _tests(
    kernel: Any, x: Any, test: Any, held_out: bool, columns: tuple[int, ...], extra: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """The kernel between the test inputs and all others `(m, N)`, and the test targets `(m, columns)`."""
    if held_out:
        raise InputError("Expected test= or held_out=True; got both.")
    if not isinstance(kernel, Kernel):
        raise InputError("Expected a kernel and its inputs with test=, whose rows it computes; got no kernel.")
    if not isinstance(test, tuple) or len(test) != 2:
        raise InputTypeError(f"Expected test to be a pair (inputs, targets); got {type(test).__name__}.")
    rows = gram_rows(kernel(test[0], x), columns[:1])
    targets = values_on(test[1], "the targets of test", (len(rows),))
    require_no_labels(test[1])
    if targets.shape[1:] != extra:
        raise InputError(f"Expected targets of test of shape {(len(rows), *extra)}; got {targets.shape}.")
    return rows, np.asarray(targets, float).reshape(len(rows), -1)


def _solved(matrix: np.ndarray, labels: np.ndarray, ridge: float, epsilon: float) -> np.ndarray:
    """(K + ridge)^-1 y. If the matrix is singular, as for inputs drawn twice, the solution of least norm."""
    try:
        factor = scipy.linalg.cho_factor(matrix + ridge * np.eye(len(matrix)), lower=True, check_finite=False)
        pivots = np.abs(np.diagonal(factor[0]))
        if pivots.min() > (len(matrix) * epsilon) ** 0.5 * pivots.max():
            return scipy.linalg.cho_solve(factor, labels, check_finite=False)
    except np.linalg.LinAlgError:
        pass
    values, vectors = np.linalg.eigh(matrix)
    values = values + ridge
    keep = values > len(matrix) * epsilon * values[-1]
    return (vectors[:, keep] / values[keep]) @ (vectors[:, keep].T @ labels)
