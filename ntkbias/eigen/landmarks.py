"""The top of a spectrum from landmarks: the kernel between all inputs and a few of them, and its diagonal.

The landmarks S define the Nystrom approximation (Williams and Seeger 2001)

    K_S(x, x') = K(x, x_S) K(x_S, x_S)^+ K(x_S, x')

which is the kernel restricted to the span of the landmarks' features. K - K_S is positive semi-definite, so no
eigenvalue of K_S exceeds that of K. The trace of K - K_S is the total shortfall of all eigenvalues, and the diagonal of
K gives it exactly. The returned eigenpairs belong to the full n x n matrix K_S; they are not those of the landmarks
scaled up.

The best landmarks are drawn according to the part of the kernel that is still missing. Randomly pivoted Cholesky draws
each landmark in proportion to the diagonal of K - K_S (Chen, Epperly, Tropp and Webber 2022, arXiv 2207.06503).

>>> import ntkbias as nb
>>> from ntkbias.eigen import nystrom
>>> kernel, (x, _) = nb.infinite_ntk(nb.nets.mlp(depth=2, b_std=0.1)), nb.domains.Circle().quadrature(400)
>>> few, whole = nystrom(kernel, x, 40), nb.spectrum(kernel, x)
>>> short = whole.eigenvalues[:40] - few.eigenvalues
>>> bool((-few.noise_floor < short).all()), bool((short < few.trace_error).all()), bool(few.trace_error < 0.04)
(True, True, True)
"""

import dataclasses
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ntkbias.checks import key_or_default, require_choice, require_positive, require_weights, require_wide
from ntkbias.eigen.columns import Problem, epsilon_of, products, root_of
from ntkbias.eigen.dense import checked_num_modes, eigenspaces, require_positive_definite
from ntkbias.eigen.sampling import leverage, pivoted_cholesky, uniform
from ntkbias.entropy import entropic_rank, entropy
from ntkbias.errors import InputError
from ntkbias.kernels.inputs import of_one_array
from ntkbias.kernels.on_inputs import kernel_on, on_inputs
from ntkbias.spectra import Scalar, Spectrum
from ntkbias.tables import Table, number
from ntkbias.types import Inputs

__all__ = ["NystromSpectrum", "nystrom"]

Method = Literal["pivoted_cholesky", "leverage", "uniform"]
Residuals = Literal["bound", "exact"]


class NystromSpectrum(Spectrum):
    """A `Spectrum` from landmarks. Its eigenfunctions extend through the landmarks: phi(x) = K(x, x_S) coefficients.

    No eigenvalue is too high, and none is too low by more than `trace_error`. If every mode was kept, `trace_error` is
    their total shortfall.

    >>> import ntkbias as nb
    >>> circle = nb.domains.Circle()
    >>> x, weights = circle.quadrature(16)
    >>> rough = nb.nystrom(nb.infinite_ntk(nb.nets.mlp(depth=1, b_std=0.1)), x, 8)
    >>> rough.method, bool(rough.trace_error >= 0)
    ('nystrom', True)
    """

    landmarks: Int[Array, " m"] = eqx.field(kw_only=True)  # indices into x, in the order in which they were chosen
    coefficients: Float[Array, "m *o k"] = eqx.field(kw_only=True)
    trace_error: Float[Array, ""] = eqx.field(kw_only=True)  # trace(K - K_S) / n, to within rounding of the trace

    def extend(self, x_new: Inputs, num_modes: int | None = None) -> Float[Array, "m *o k"]:
        """The first eigenfunctions at new inputs, K(x, x_S) coefficients; at x itself they are `eigenfunctions`.

        `num_modes` is at most the number of modes above the noise floor, which is also the default. Costs only the
        kernel between the new inputs and the landmarks.
        """
        if self.kernel is None or self.x is None:
            raise InputError(
                "Expected a spectrum made from a kernel and inputs; got one without them, which cannot be extended. "
                "Use nystrom(kernel, x, landmarks)."
            )
        modes = self._first_modes(num_modes)
        gram = self.kernel(x_new, self.x[self.landmarks])
        rule = "manb,nbk->mak" if self.coefficients.ndim == 3 else "mn,nk->mk"
        return jnp.einsum(rule, gram, self.coefficients[..., modes], precision="highest")

    def _table(self, num_rows: int) -> Table:
        found = super()._table(num_rows)
        error = f"{len(self.landmarks):,} landmarks; eigenvalues are too low by at most {number(self.trace_error)}"
        return dataclasses.replace(found, notes=[*found.notes, error])

    def effective_rank_bounds(self) -> tuple[Scalar, Scalar]:
        """The least and the largest effective rank with this trace, given that no known eigenvalue is too high.

        The rest of the trace may belong to any mode. The rank is least if all of it belongs to the first mode. It is
        largest if the rest raises the smallest eigenvalues to a common level.
        """
        array = self.eigenvalues.__array_namespace__()
        known, missing = array.maximum(self.eigenvalues, 0.0), self.num_missing
        rest = array.maximum(self.trace - array.sum(known), 0.0)
        total = array.sum(known) + rest
        least = entropic_rank(array.concat([known[:1] + rest, known[1:]]))
        sums = rest + array.concat([array.cumsum(known[::-1])[::-1], 0 * known[:1]])  # rest plus modes j, j + 1, ...
        counts = missing + array.arange(len(known), -1, -1)
        level = array.min(array.where(counts > 0, sums / array.maximum(counts, 1), array.inf))
        shares = array.maximum(known, level) / total
        return least, array.exp(array.sum(entropy(shares)) + missing * entropy(level / total))


@on_inputs
def nystrom(
    kernel: Any,
    x: Inputs,
    landmarks: int | ArrayLike,
    *,
    method: Method = "pivoted_cholesky",
    num_modes: int | None = None,
    weights: ArrayLike | None = None,
    residuals: Residuals = "bound",
    key: PRNGKeyArray | None = None,
) -> NystromSpectrum:
    """The largest eigenvalues and eigenfunctions of `kernel` on `x` `(n, ...)`, from m of these inputs as landmarks.

    The operator of a kernel, `kernel.operator(x)`, may replace both. `landmarks` are the indices `(m,)` of m inputs, or
    their number m. Given a number, `method` chooses them:

        "pivoted_cholesky"  draws each in proportion to the part of the diagonal that the others miss (Chen et al.
                            2022). It draws in blocks with the rejection scheme of Epperly, Tropp and Webber (2024,
                            arXiv 2410.03969), which has the same distribution. It chooses fewer than m landmarks if
                            these leave only rounding.
        "leverage"          draws by ridge leverage scores, estimated on 2 m, 4 m, ... n inputs in turn (Musco and Musco
                            2017, arXiv 1605.07583, Algorithm 3, but with m draws each time so that JAX compiles once)
        "uniform"           draws all inputs with equal probability

    For `outputs="all"` a landmark is an input with all its outputs. Conventions are those of `spectrum`. The number of
    modes is the rank of the kernel between the landmarks, but at most `num_modes`. The result extends to new inputs
    through the landmarks alone.

    Errors. Each eigenvalue is too low by at most `trace_error`, trace(K - K_S) / n, and so is their sum. `residuals`
    are ||K phi - eigenvalue phi|| / ||phi||, or a bound of it. Let E = (K - K_S) / n. Since |E_ij| <= sqrt(E_ii E_jj),
    the bound is sqrt(trace E) sum_j sqrt(E_jj) |phi_j| / ||phi||. Both bounds are pessimistic: on the digits, the top
    50 eigenvalues were too low by about a hundredth of `trace_error`, and exact residuals were 50 to 300 times smaller
    than their bound. `residuals="exact"` computes them by a product of the kernel with all modes. For an empirical NTK
    this costs about as much as that many landmarks, for other kernels as much as the whole matrix. Each eigenvalue is
    then within its residual of a true one. All statements hold up to rounding, which is of the order of `noise_floor`.
    Modes share an `eigenspace` if their eigenvalues differ by less than their possible errors. With bounds this joins
    most modes, with exact residuals few.

    Costs the kernel's diagonal and columns of n m entries (n m o^2 for "all"). "leverage" computes three times as many
    entries, and "pivoted_cholesky" computes the features of x in ten rounds or more. The linear algebra takes about 4 n
    m^2 multiplications in float64 on the host (7 n m^2 for "pivoted_cholesky"). The columns stay in memory on the host,
    in the kernel's type.

    Raises `InputError` on inputs that the kernel refuses, outputs="each", landmarks that are not indices into x or are
    more than n, more modes than landmarks have rows, and a kernel that is zero or not positive semi-definite between
    the landmarks.

    >>> import ntkbias as nb
    >>> circle = nb.domains.Circle()
    >>> x, weights = circle.quadrature(16)
    >>> kernel = nb.infinite_ntk(nb.nets.mlp(depth=1, b_std=0.1))
    >>> rough, full = nb.nystrom(kernel, x, 8), nb.spectrum(kernel, x)
    >>> bool(rough.eigenvalues[0] <= full.eigenvalues[0] * 1.0001), rough.eigenfunctions.shape[0]
    (True, 16)
    """
    require_choice("method", method, Method)
    require_choice("residuals", residuals, Residuals)
    kernel, x = of_one_array(*kernel_on(kernel, x), "x")
    operator = kernel.operator(x)
    n = operator.num_examples
    given = _checked_landmarks(landmarks, n)
    num_landmarks = given if isinstance(given, int) else len(given)
    num_modes = checked_num_modes(num_modes, num_landmarks * operator.num_outputs)
    measure = np.full(n, 1 / n) if weights is None else np.asarray(require_weights(weights, n), np.float64)
    diagonal = np.asarray(operator.diagonal(), np.float64).reshape(n, -1)
    if not np.isfinite(diagonal).all():
        raise InputError(
            "Expected a kernel that is finite at the inputs; got NaN or infinity on its diagonal. Check the scale of "
            "inputs and parameters."
        )
    problem = Problem(kernel, np.asarray(x), measure, diagonal)
    seed = jax.random.key_data(key_or_default(key))
    rng = np.random.default_rng(np.asarray(seed).ravel())
    if isinstance(given, int):
        choose = {"pivoted_cholesky": pivoted_cholesky, "leverage": leverage, "uniform": uniform}[method]
        chosen, columns = choose(problem, given, rng)
    else:
        chosen, columns = given, problem.columns(given)
    return _spectrum(problem, chosen, columns, num_modes, exact=residuals == "exact")


def _spectrum(
    problem: Problem, chosen: np.ndarray, columns: np.ndarray, num_modes: int, *, exact: bool
) -> NystromSpectrum:
    """The eigenpairs of K_S, with their errors relative to those of K."""
    (n, o), dtype = problem.diagonal.shape, _wide(columns)
    root = _checked_root(problem, chosen, columns)
    all_values, rotation = _decomposed(problem, columns, root)
    noise_floor = epsilon_of(columns) * np.linalg.norm(all_values)
    kept = all_values > np.finfo(np.float64).eps * all_values[0]  # smaller ones are rounding in float64, maybe negative
    kept[num_modes:] = False
    values = all_values[kept]
    functions, coefficients = _functions(problem, columns, root @ (rotation[:, kept] / np.sqrt(values)))

    measure = np.repeat(problem.measure, o)
    missing = problem.missing(columns, root).ravel()
    trace_error = np.sum(measure * missing)
    if exact:
        errors = _exact_residuals(problem, functions, values)
    else:
        bound = (measure * np.sqrt(missing)) @ np.abs(functions.astype(np.float64))
        errors = np.sqrt(trace_error) * bound + noise_floor
    indistinct = noise_floor + np.minimum(trace_error, errors[:-1] + errors[1:])
    shape = (o, -1) if problem.kernel.outputs == "all" else (-1,)
    return NystromSpectrum(
        eigenvalues=jnp.asarray(values, dtype),
        eigenfunctions=jnp.asarray(functions.reshape(n, *shape)),
        eigenspace=eigenspaces(jnp.asarray(values, dtype), jnp.asarray(indistinct, dtype), epsilon_of(columns) ** 0.5),
        trace=jnp.asarray(np.sum(measure * problem.diagonal.ravel()), dtype),
        residuals=jnp.asarray(errors, dtype),
        noise_floor=jnp.asarray(noise_floor, dtype),
        weights=jnp.asarray(problem.measure, dtype),
        x=jnp.asarray(problem.x),
        kernel=problem.kernel,
        method="nystrom",
        landmarks=jnp.asarray(chosen),
        coefficients=jnp.asarray(coefficients.reshape(len(chosen), *shape), dtype),
        trace_error=jnp.asarray(trace_error, dtype),
    )


def _checked_root(problem: Problem, chosen: np.ndarray, columns: np.ndarray) -> np.ndarray:
    own = columns[problem.rows(chosen)].astype(np.float64)
    if not own.any():
        raise InputError(
            "Expected a kernel that is not zero at all landmarks; got only zeros. Check the inputs and parameters."
        )
    values = np.linalg.eigvalsh((own + own.T) / 2)
    require_positive_definite(jnp.asarray(values[[-1, 0]]), float(jnp.finfo(columns.dtype).eps))
    return root_of(problem, chosen, columns)


def _decomposed(problem: Problem, columns: np.ndarray, root: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All eigenvalues of K_S = F F^T, descending, and the eigenvectors of F^T W F, for the landmarks' features F."""
    measure = np.repeat(problem.measure, problem.num_outputs)[:, None]
    second = sum(strip.T @ (measure[place] * strip) for place, strip in products(columns, root))
    values, rotation = np.linalg.eigh(second)
    return values[::-1], rotation[:, ::-1]


def _functions(problem: Problem, columns: np.ndarray, coefficients: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The eigenfunctions `(rows, k)` and their coefficients, with the sign that gives a positive third moment."""
    measure = np.repeat(problem.measure, problem.num_outputs)[:, None]
    functions = np.empty((len(columns), coefficients.shape[1]), _wide(columns))
    skewness = np.zeros(coefficients.shape[1])
    for place, strip in products(columns, coefficients):
        functions[place] = strip
        skewness += np.sum(measure[place] * strip**3, 0)
    signs = np.where(skewness < 0, -1, 1)
    functions *= signs.astype(functions.dtype)
    return functions, coefficients * signs


def _wide(columns: np.ndarray) -> np.dtype:
    """The type of results: the kernel's, or float32 if that is wider."""
    return np.dtype(jnp.promote_types(columns.dtype, jnp.float32))


def _exact_residuals(problem: Problem, functions: np.ndarray, values: np.ndarray) -> np.ndarray:
    """||K phi - value phi|| in the norm of the weights, by a product with the kernel."""
    roots = np.sqrt(problem.measure)
    vectors = np.repeat(roots, problem.num_outputs)[:, None] * functions
    images = problem.kernel.operator(problem.x).conjugated(roots) @ vectors.astype(functions.dtype)
    return np.linalg.norm(images - vectors * values, axis=0)


def _checked_landmarks(landmarks: Any, n: int) -> int | np.ndarray:
    """The number of landmarks, or their indices; an `InputError` if they are not valid."""
    if np.ndim(landmarks) == 0:
        require_positive("landmarks", landmarks)
        if landmarks > n:
            raise InputError(f"Expected at most as many landmarks as inputs, {n}; got {landmarks}.")
        return int(landmarks)
    places = np.asarray(require_wide(landmarks, "landmarks"))
    if places.ndim != 1 or not places.size or places.dtype.kind not in "iu":
        raise InputError(
            f"Expected landmarks to be a number, or indices (m,) into x; got shape {places.shape} of {places.dtype}. "
            "For a mask use numpy.flatnonzero(mask)."
        )
    if places.min() < 0 or places.max() >= n:
        raise InputError(
            f"Expected landmarks to be indices into x, from 0 to {n - 1}; got {places.min()} to {places.max()}."
        )
    if len(np.unique(places)) < len(places):
        raise InputError(
            f"Expected landmarks without repetition; got {len(places)} with {len(np.unique(places))} different ones. "
            "Use numpy.unique."
        )
    return places
