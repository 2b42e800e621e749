"""Kernel ridge regression, with generalized cross-validation and leave-one-out predictions.

The prediction is

    f(x) = k(x, X) (K + ridge)^-1 y

At ridge zero, this is what a network with constant kernel K has learned after infinite time. The ridge is added to K,
not to K / n, as in scikit-learn. If you give no ridge, the function minimizes the score of generalized cross-validation
(Golub, Heath and Wahba 1979), with H = K (K + ridge)^-1:

    N |(I - H) y|^2 / tr(I - H)^2

The prediction for example i by a fit to all others is y_i - ((K + ridge)^-1_ii)^-1 ((K + ridge)^-1 y)_i. It needs no
refit.

>>> import jax, jax.numpy as jnp, ntkbias as nb
>>> from ntkbias.learning import kernel_regression
>>> circle, kernel = nb.domains.Circle(), nb.infinite_ntk(nb.nets.mlp(depth=2, b_std=0.1))
>>> x, x_test = (circle.sample(60, key=jax.random.key(seed)) for seed in (0, 1))
>>> y = x[:, 0] * x[:, 1] + 0.1 * jax.random.normal(jax.random.key(2), (60,))
>>> fit = kernel_regression(kernel, x, y)
>>> predictions = fit.predict(x_test)
>>> bool(jnp.mean((predictions - x_test[:, 0] * x_test[:, 1]) ** 2) < 0.01)      # the noise's variance
True
"""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import scipy
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from ntkbias.checks import require_array, require_known, require_scale
from ntkbias.eigen.dense import require_positive_definite
from ntkbias.errors import InputError, InputTypeError
from ntkbias.kernels import Kernel
from ntkbias.kernels.inputs import of_one_array
from ntkbias.kernels.on_inputs import on_inputs, operator_on, symmetric_matrix
from ntkbias.kernels.operators import Source
from ntkbias.kernels.unloaded import UnloadedKernel
from ntkbias.learning.modes import gram_of, gram_rows, require_squares, values_on
from ntkbias.mistaken import require_no_labels
from ntkbias.results import OPTIONAL
from ntkbias.tables import Axes, Fact, Printed, Table
from ntkbias.types import Inputs

__all__ = ["KernelRegression", "kernel_regression"]

GRID = 61  # logarithmically spaced ridges at which the score is evaluated first


class KernelRegression(Printed):
    """A fit of kernel ridge regression; `predict` evaluates it at other points.

    A fit of a kernel, or of its operator, keeps the kernel and the inputs `x`.

    >>> import ntkbias as nb
    >>> circle = nb.domains.Circle()
    >>> x, weights = circle.quadrature(16)
    >>> fit = nb.kernel_regression(nb.infinite_ntk(nb.nets.mlp(depth=1, b_std=0.1)), x, x[:, 0], ridge=0.01)
    >>> fit.predict(x[:3]).shape
    (3,)
    """

    named_axes = Axes("example", n="example", o="output")

    coefficients: Float[Array, "n *o"]  # (K + ridge)^-1 y
    outputs: Float[Array, "n *o"]  # at the training points
    left_out: Float[Array, "n *o"]  # the prediction for each example by a fit to all others
    ridge: Float[Array, ""]
    score: Float[Array, ""]  # the generalized cross-validation score: an estimate of the test error, noise included
    effective_dimension: Float[Array, ""]  # tr K (K + ridge)^-1
    x: Array | None = None
    kernel: Kernel | None = eqx.field(default=None, metadata={OPTIONAL: UnloadedKernel})

    @property
    def training_error(self) -> Float[Array, ""] | np.floating:
        """The squared error of the fit, summed over outputs and averaged over examples."""
        return ((self.ridge * self.coefficients) ** 2).sum() / len(self.coefficients)

    @property
    def leave_one_out_error(self) -> Float[Array, ""] | np.floating:
        """The squared error of the leave-one-out predictions, summed over outputs and averaged over examples."""
        targets = self.outputs + self.ridge * self.coefficients
        return ((self.left_out - targets) ** 2).sum() / len(targets)

    def _facts(self) -> list[Fact]:
        return [
            Fact.of_number("ridge", self.ridge),
            Fact.of_number("effective dimension", self.effective_dimension),
            Fact.of_number("training error", self.training_error),
            Fact.of_number("leave-one-out error", self.leave_one_out_error),
            Fact.of_number("cross-validation score", self.score),
        ]

    def _table(self, num_rows: int) -> Table:
        facts = self._facts()
        columns = {"": [fact.label for fact in facts], " ": [fact.text for fact in facts]}
        return Table(f"KernelRegression: {len(self.coefficients):,} examples", columns)

    def predict(self, x_test: Inputs | None = None, *, K_test: ArrayLike | None = None) -> Float[Array, "m *o"]:
        """The outputs at m test points: at inputs `x_test`, or from their rows of the kernel, `K_test`.

        `K_test` is `kernel(x_test, x)`, `(m, n)`, or `(m, o, n, o)` for a kernel of all pairs of outputs. Costs the
        kernel between m and n inputs, unless `K_test` is given, and m n multiplications per output.

        Raises `InputError` on `x_test` if the fit is that of a bare matrix; on inputs that the kernel refuses; and on a
        loaded fit whose kernel needs a function that `load` did not get.
        """
        require_known((self, x_test, K_test), "predict")
        if (x_test is None) == (K_test is None):
            got = "neither" if x_test is None else "both"
            raise InputTypeError(f"Expected test points as x_test, or as K_test=kernel(x_test, x); got {got}.")
        if K_test is None:
            if self.kernel is None or self.x is None:
                raise InputTypeError(
                    "Expected K_test=kernel(x_test, x) for the fit of a bare matrix, which knows no kernel; got x_test."
                )
            K_test = self.kernel(x_test, self.x)
        shape = self.coefficients.shape
        rows = gram_rows(K_test, shape if jnp.ndim(K_test) == 4 else shape[:1])
        found = rows @ np.asarray(self.coefficients, float).reshape(rows.shape[1], -1)
        return jnp.asarray(found.reshape(-1, *shape[1:]), self.coefficients.dtype)


@on_inputs
def kernel_regression(kernel: Any, x: Inputs, targets: ArrayLike, *, ridge: float | None = None) -> KernelRegression:
    """Fit kernel ridge regression to `targets` at inputs `x`.

    An operator, or a Gram matrix `(n, n)` or `(n, o, n, o)`, replaces `kernel, x`. `targets` y are `(n,)` or `(n, o)`.
    For an `(n, n)` matrix, `(n, o)` means o functions that share one ridge. `ridge` is added to K, as `alpha` in
    scikit-learn's KernelRidge. Without `ridge`, the ridge with the least cross-validation score is taken, between
    rounding and ten times the largest eigenvalue. If the kernel can learn y without noise, the score falls all the way
    to the lower end.

    The computation uses float64. With a given ridge it costs two thirds N^3 operations for N = n o rows: a Cholesky
    factor, and its inverse for the leave-one-out predictions. Without one it costs an eigendecomposition, 10 N^3.

    Raises `InputError` on a matrix that is not square, symmetric, finite and positive semi-definite; on targets of
    another length or with squares that overflow; on traced arrays; on a negative ridge; and on a `K + ridge` that is
    singular to rounding.

    >>> import ntkbias as nb
    >>> circle = nb.domains.Circle()
    >>> x, weights = circle.quadrature(16)
    >>> y = circle.harmonics(x, 1)[:, 1]
    >>> fit = nb.kernel_regression(nb.infinite_ntk(nb.nets.mlp(depth=1, b_std=0.1)), x, y)
    >>> bool(abs(fit.predict(x) - y).max() < 1e-3), bool(fit.leave_one_out_error < 0.01)
    (True, True)
    """
    require_known((kernel, x, targets, ridge), "kernel_regression")
    gram = gram_of(kernel, x)
    operator = operator_on(gram, None)
    source, inputs = _source(kernel, x)
    shape = (operator.num_examples, operator.num_outputs)[: np.ndim(gram) // 2]
    values = values_on(targets, "targets", shape)
    require_no_labels(targets)
    require_squares(values, "targets")
    if len(shape) == 2 and values.ndim > 2:
        raise InputError(f"Expected targets of shape {shape}, one value per input and output; got {values.shape}.")
    flat = values.reshape(operator.shape[0], -1)
    matrix = symmetric_matrix(operator)
    epsilon = operator.epsilon
    if ridge is None:
        coefficients, root, chosen = _by_score(matrix, flat, epsilon)
    else:
        require_scale("ridge", ridge)
        coefficients, root, chosen = _by_cholesky(matrix, flat, float(ridge))
    blocks = root.reshape(len(values), operator.num_outputs, -1)
    diagonal_blocks = blocks @ np.swapaxes(blocks, 1, 2)  # of the inverse, one block per example
    by_example = coefficients.reshape(len(values), operator.num_outputs, -1)
    left = flat - np.linalg.solve(diagonal_blocks, by_example).reshape(flat.shape)
    inverse_trace = np.sum(root**2)
    score = len(flat) * operator.num_outputs * np.sum(coefficients**2) / inverse_trace**2
    dtype = jnp.result_type(float)
    return KernelRegression(
        coefficients=jnp.asarray(coefficients.reshape(values.shape), dtype),
        outputs=jnp.asarray((flat - chosen * coefficients).reshape(values.shape), dtype),
        left_out=jnp.asarray(left.reshape(values.shape), dtype),
        ridge=jnp.asarray(chosen, dtype),
        score=jnp.asarray(score, dtype),
        effective_dimension=jnp.asarray(len(flat) - chosen * inverse_trace, dtype),
        x=inputs,
        kernel=source,
    )


def _source(kernel: Any, x: Any) -> tuple[Kernel | None, Array | None]:
    """The kernel and its inputs, as one array; None for both if only a matrix is known."""
    known = getattr(kernel, "source", None)
    if isinstance(known, Source):
        kernel, x = known
    if not isinstance(kernel, Kernel):
        return None, None
    kernel, x = of_one_array(kernel, x, "x")
    return kernel, require_array(x, "x")


def _by_cholesky(matrix: np.ndarray, y: np.ndarray, ridge: float) -> tuple[np.ndarray, np.ndarray, float]:
    """(K + ridge)^-1 y, R with R R^T = (K + ridge)^-1, and the ridge. Overwrites the matrix."""
    matrix[np.diag_indices(len(matrix))] += ridge
    try:
        factor = scipy.linalg.cholesky(matrix, lower=True, overwrite_a=True, check_finite=False)
    except np.linalg.LinAlgError:
        raise InputError(
            f"Expected K + ridge to be positive definite; got a singular matrix with ridge {ridge:.3g}. Equal inputs "
            "make K singular. Give a larger ridge, or none to let cross-validation choose it."
        ) from None
    coefficients = scipy.linalg.cho_solve((factor, True), y, check_finite=False)
    inverse, _ = scipy.linalg.lapack.dtrtri(factor, lower=1, overwrite_c=1)
    return coefficients, np.tril(inverse).T, ridge


def _by_score(matrix: np.ndarray, y: np.ndarray, epsilon: float) -> tuple[np.ndarray, np.ndarray, float]:
    """The coefficients, R and ridge of `_by_cholesky` for the ridge with the least score."""
    values, vectors = np.linalg.eigh(matrix)
    require_positive_definite(jnp.asarray(values[::-1]), epsilon)
    if not values[-1] > 0:
        raise InputError("Expected a kernel that is not zero; got one of zeros.")
    values = np.maximum(values, 0.0)
    power = np.sum((vectors.T @ y) ** 2, 1)

    def score(log_ridge: float) -> float:
        inverse = 1 / (values + np.exp(log_ridge))
        return float(np.log(np.sum(inverse**2 * power) + np.finfo(float).tiny) - 2 * np.log(np.sum(inverse)))

    grid = np.linspace(np.log(epsilon * values[-1]), np.log(10 * values[-1]), GRID)
    best = int(np.argmin([score(point) for point in grid]))
    low, high = grid[max(best - 1, 0)], grid[min(best + 1, GRID - 1)]
    ridge = float(np.exp(scipy.optimize.minimize_scalar(score, bounds=(low, high), method="bounded").x))
    root = vectors / np.sqrt(values + ridge)
    return root @ (root.T @ y), root, ridge
