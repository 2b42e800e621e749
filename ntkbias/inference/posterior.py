"""The posterior of a Gaussian process whose covariance is a kernel.

With y = f(x) + noise, f ~ GP(0, K) and C = K(x, x) + noise I (Rasmussen and Williams 2006, chapter 2):

    mean          K(x', x) C^-1 y
    covariance    K(x', x') - K(x', x) C^-1 K(x, x')
    left out      mean y_i - (C^-1 y)_i / C^-1_ii, variance 1 / C^-1_ii - noise (their section 5.4.2)

With `infinite_nngp` this is Bayesian inference with an infinitely wide network (Lee et al. 2018, arXiv 1711.00165).

>>> import jax.numpy as jnp, ntkbias as nb
>>> x, x_new = jnp.linspace(-1, 1, 8)[:, None], jnp.array([[0.1], [5.0]])
>>> kernel = nb.infinite_nngp(nb.nets.mlp(activation="erf", b_std=0.5))
>>> posterior = nb.kernel_posterior(kernel, x, jnp.sin(2 * x[:, 0]), x_new, noise=1e-3)
>>> bool(posterior.variance[0] < posterior.variance[1])                # it is less sure far from the data
True
"""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import scipy
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray

from ntkbias.checks import key_or_default, require_choice, require_known, require_positive, require_scale
from ntkbias.eigen import nystrom
from ntkbias.errors import InputError
from ntkbias.inference.solving import by_products, preconditioner
from ntkbias.kernels import Kernel
from ntkbias.kernels.kernel import require_kernel
from ntkbias.kernels.on_inputs import symmetric_matrix
from ntkbias.learning.modes import require_squares, values_on
from ntkbias.memory import default_memory_budget
from ntkbias.mistaken import require_flag, require_no_labels
from ntkbias.tables import Axes, Fact, Printed, Table
from ntkbias.types import Inputs

__all__ = ["Posterior", "kernel_posterior"]

Method = Literal["cholesky", "products"]
NUM_LANDMARKS = 200  # of the preconditioner


class Posterior(Printed):
    """The posterior of a Gaussian process at m new inputs, for one or several outputs that share the covariance.

    `variance` and `covariance` are those of the function f, without the noise of an observation. The numbers on the
    training examples (`left_out`, `left_out_variance`, `log_marginal_likelihood`) are None by products.

    >>> import ntkbias as nb
    >>> x = nb.domains.Circle().grid(16)
    >>> posterior = nb.kernel_posterior(nb.infinite_nngp(nb.nets.mlp()), x, x[:, 0], x[:3] * 1.1, noise=0.01)
    >>> posterior.mean.shape, posterior.variance.shape, posterior.interval().shape
    ((3,), (3,), (3, 2))
    """

    named_axes = Axes("new_example", m="new_example", q="other_new_example", n="example", o="output")

    mean: Float[Array, "m *o"]
    variance: Float[Array, " m"]
    covariance: Float[Array, "m q"] | None  # q = m
    noise: float
    left_out: Float[Array, "n *o"] | None  # the mean for each training example by a fit to all others
    left_out_variance: Float[Array, " n"] | None  # of the function there
    log_marginal_likelihood: float | None  # summed over outputs
    residual: float  # the largest relative residual of the solutions; zero by Cholesky

    def interval(self, level: float = 0.95, *, noise: bool = False) -> Float[Array, "m *o 2"]:
        """The ends of the central interval that holds the function with this probability under the model.

        With `noise`, it is the interval of a noisy observation. Whether it covers depends on the kernel and the noise:
        `left_out` and `left_out_variance` show how often it does on the training examples.
        """
        if not 0 < level < 1:
            raise InputError(f"Expected a level above 0 and below 1; got {level!r}.")
        spread = jnp.sqrt(self.variance + (self.noise if noise else 0.0)) * scipy.special.ndtri((1 + level) / 2)
        spread = spread.reshape(-1, *(1,) * (self.mean.ndim - 1))
        return jnp.stack([self.mean - spread, self.mean + spread], -1)

    def samples(self, num_samples: int, *, key: PRNGKeyArray | None = None) -> Float[Array, "s m *o"]:
        """Functions drawn from the posterior, at the new inputs. Costs m^3 / 3 operations.

        Raises `InputError` if the posterior has no covariance. `key` draws them (default: a fixed key).
        """
        require_positive("num_samples", num_samples)
        if self.covariance is None:
            raise InputError("Expected a posterior with covariance=True for samples; got one with variances alone.")
        root = _root(np.asarray(self.covariance, float))
        draws = jax.random.normal(key_or_default(key), (num_samples, len(root), *self.mean.shape[1:]))
        moved = np.einsum("mk,sk...->sm...", root, np.asarray(draws, float))
        return jnp.asarray(self.mean + jnp.asarray(moved, self.mean.dtype))

    def _facts(self) -> list[Fact]:
        spread = np.sqrt(np.asarray(self.variance, float))
        facts = [
            Fact.of_number("noise", self.noise),
            Fact.of_ends("standard deviation from", spread.min(), spread.max()),
        ]
        if self.log_marginal_likelihood is not None:
            facts.append(Fact.of_number("log marginal likelihood", self.log_marginal_likelihood))
        if self.residual:
            facts.append(Fact.of_number("largest relative residual", self.residual))
        return facts

    def _table(self, num_rows: int) -> Table:
        facts = self._facts()
        columns = {"": [fact.label for fact in facts], " ": [fact.text for fact in facts]}
        return Table(f"Posterior: {len(self.mean):,} new inputs", columns)


def kernel_posterior(
    kernel: Kernel,
    x: Inputs,
    y: ArrayLike,
    x_new: Inputs,
    *,
    noise: float,
    covariance: bool = False,
    method: Method | None = None,
    num_landmarks: int = NUM_LANDMARKS,
    tolerance: float = 1e-6,
    max_products: int = 1_000,
    key: PRNGKeyArray | None = None,
) -> Posterior:
    """The posterior at inputs `x_new` `(m, ...)` of a Gaussian process with mean zero and covariance `kernel`.

    `y` are observations at `x`, `(n,)` or `(n, o)`, with independent noise of variance `noise`. Several columns share
    the kernel and the noise. Shift y to mean zero if the kernel has no constant part. With `covariance` the result has
    the covariance between new inputs, which `samples` needs, and otherwise their variances alone.

    `method` is "cholesky", in float64, or "products": conjugate gradients on products with the kernel, preconditioned
    by a Nystrom approximation on `num_landmarks` inputs that pivoted Cholesky chooses with `key`. It stops at relative
    residuals of `tolerance`, in float64 around products in the kernel's own precision, and states them. By default the
    method is "cholesky" if the matrix in float64 fits into a quarter of the memory.

    "cholesky" costs n^3 operations and 16 n^2 bytes. "products" costs one product with o + m vectors per step; more
    landmarks make fewer steps.

    Raises `InputError` on shapes that do not fit, on labels as observations, on a noise that is not above zero, on
    kernels with outputs="all" or "each", on K + noise that is singular to rounding, and on products that do not
    converge.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> x = nb.domains.Circle().grid(32)
    >>> arguments = nb.infinite_nngp(nb.nets.mlp(b_std=0.5)), x[::2], x[::2, 0], x[1::2]
    >>> exact = nb.kernel_posterior(*arguments, noise=0.1)
    >>> by_products = nb.kernel_posterior(*arguments, noise=0.1, method="products", num_landmarks=8)
    >>> bool(abs(exact.mean - by_products.mean).max() < 1e-5)
    True
    """
    require_kernel(kernel)
    require_known((kernel, x, y, x_new, noise), "kernel_posterior")
    require_scale("noise", noise)
    require_flag("covariance", covariance)
    if not noise > 0:
        raise InputError(f"Expected noise above zero, the variance of the observations; got {noise!r}.")
    if kernel.outputs not in ("mean", "sum"):
        raise InputError(
            f"Expected a kernel with one value per pair of inputs; got outputs={kernel.outputs!r}. Use outputs='mean'."
        )
    if method is not None:
        require_choice("method", method, Method)
    operator = kernel.operator(x)
    n = operator.num_examples
    values = values_on(y, "y", (n,))
    require_no_labels(y)
    require_squares(values, "y")
    if values.ndim > 2:
        raise InputError(f"Expected y of shape ({n},) or ({n}, o); got {values.shape}.")
    if method is None:
        method = "cholesky" if 8 * n**2 <= default_memory_budget() else "products"
    columns = values.reshape(n, -1).astype(float)
    across = np.asarray(kernel(x_new, x), float)
    prior = np.asarray(kernel(x_new) if covariance else kernel.operator(x_new).diagonal(), float)
    right = np.concatenate([columns, across.T], 1)
    left, left_variance, likelihood, residual = None, None, None, 0.0
    if method == "cholesky":
        matrix = symmetric_matrix(operator)
        matrix[np.diag_indices(n)] += noise
        try:
            factor = scipy.linalg.cholesky(matrix, lower=True, overwrite_a=True, check_finite=False)
        except np.linalg.LinAlgError:
            raise InputError(
                f"Expected K + noise to be positive definite; got a singular matrix with noise {noise:.3g}. Give a "
                "larger noise."
            ) from None
        solved = scipy.linalg.cho_solve((factor, True), right, check_finite=False)
        inverse, _ = scipy.linalg.lapack.dtrtri(factor, lower=1)
        precision = np.sum(np.tril(inverse) ** 2, 0)
        alpha = solved[:, : columns.shape[1]]
        left, left_variance = columns - alpha / precision[:, None], np.maximum(1 / precision - noise, 0.0)
        fits = -0.5 * np.sum(columns * alpha)
        log_determinant = 2 * np.sum(np.log(np.diag(factor)))
        likelihood = float(fits - columns.shape[1] / 2 * (log_determinant + n * np.log(2 * np.pi)))
    else:
        require_positive("num_landmarks", num_landmarks)
        require_positive("max_products", max_products)
        require_scale("tolerance", tolerance)
        if not 0 < tolerance < 1:
            raise InputError(f"Expected a tolerance above 0 and below 1; got {tolerance!r}.")
        rough = nystrom(kernel, x, min(num_landmarks, n), key=key_or_default(key))
        solved, residuals = by_products(
            lambda block: np.asarray(operator @ block.astype(operator.dtype), float) + noise * block,
            preconditioner(rough, noise),
            right,
            tolerance,
            max_products,
        )
        residual = float(np.max(residuals))
        if not residual <= max(10 * tolerance, 1e3 * float(np.finfo(operator.dtype).eps)):
            raise InputError(
                f"Expected relative residuals of at most {tolerance:.1g} after {max_products:,} products; got up to "
                f"{residual:.1g}. Give more num_landmarks, more max_products or more noise."
            )
    mean, explained = across @ solved[:, : columns.shape[1]], solved[:, columns.shape[1] :]
    own = prior - across @ explained if covariance else prior - np.sum(across * explained.T, 1)
    own = (own + own.T) / 2 if covariance else own
    dtype = jnp.result_type(float)
    variance = np.maximum(np.diag(own) if covariance else own, 0.0)
    return Posterior(
        mean=jnp.asarray(mean.reshape(-1, *values.shape[1:]), dtype),
        variance=jnp.asarray(variance, dtype),
        covariance=jnp.asarray(own, dtype) if covariance else None,
        noise=float(noise),
        left_out=None if left is None else jnp.asarray(left.reshape(values.shape), dtype),
        left_out_variance=None if left_variance is None else jnp.asarray(left_variance, dtype),
        log_marginal_likelihood=likelihood,
        residual=residual,
    )


def _root(covariance: np.ndarray) -> np.ndarray:
    """R with R R^T = covariance, whose eigenvalues below zero are rounding."""
    values, vectors = np.linalg.eigh(covariance)
    return vectors * np.sqrt(np.maximum(values, 0.0))
