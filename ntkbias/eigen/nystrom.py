"""The top of a spectrum from landmarks: the kernel of all inputs with a few of them, and its diagonal.

    K_S(x, x') = K(x, x_S) K(x_S, x_S)^+ K(x_S, x')        (Nystrom; Williams and Seeger 2001)

is the kernel of what the landmarks S span. K - K_S is positive semi-definite, so that every eigenvalue of K_S is at
most that of K; and the trace of K - K_S, which the diagonal tells exactly, is by how much all of them together fall
short. The eigenpairs are those of the whole n by n matrix K_S, not those of the landmarks scaled up.

Landmarks that are drawn by what is still missing serve best: randomly pivoted Cholesky draws each in proportion to the
diagonal of K - K_S (Chen, Epperly, Tropp and Webber 2022, arXiv 2207.06503).

>>> import ntkbias as nb
>>> from ntkbias.eigen.nystrom import nystrom
>>> kernel, (x, _) = nb.infinite_ntk(nb.nets.mlp(depth=2, b_std=0.1)), nb.domains.Circle().quadrature(400)
>>> few, whole = nystrom(kernel, x, 40), nb.spectrum(kernel, x)
>>> short = whole.eigenvalues[:40] - few.eigenvalues
>>> bool((-few.noise_floor < short).all()), bool((short < few.trace_error).all()), bool(few.trace_error < 0.04)
(True, True, True)
"""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ntkbias.checks import require_array, require_choice, require_key, require_positive, require_weights
from ntkbias.eigen.dense import checked_num_modes, eigenspaces, require_positive_definite
from ntkbias.entropy import entropic_rank, entropy
from ntkbias.errors import InputError, InputTypeError
from ntkbias.kernels import Kernel
from ntkbias.kernels.tiles import Tiles
from ntkbias.spectrum import Spectrum

__all__ = ["NystromSpectrum", "nystrom"]

Method = Literal["pivoted_cholesky", "leverage", "uniform"]
Residuals = Literal["bound", "exact"]

ROUNDS = 10  # of pivots: the kernel's features of all inputs are computed once a round
PROPOSALS = 3  # for each pivot of a round, most of which are accepted until little is missing
STRIP_BYTES = 2**26  # of columns, in float64, that are at hand at a time


class NystromSpectrum(Spectrum):
    """A `Spectrum` from landmarks, which its eigenfunctions extend through: phi(x) = K(x, x_S) coefficients.

    Eigenvalues are too low, none of them by more than `trace_error`, all together by that if every mode was kept.
    """

    landmarks: Int[Array, " m"] = eqx.field(kw_only=True)  # places in x, in the order in which they were chosen
    coefficients: Float[Array, "m *o k"] = eqx.field(kw_only=True)
    trace_error: Float[Array, ""] = eqx.field(kw_only=True)  # trace(K - K_S) / n, to within rounding of the trace

    def extend(self, x_new: ArrayLike, num_modes: int | None = None) -> Float[Array, "m *o k"]:
        """The first eigenfunctions at new inputs: K(x, x_S) coefficients; at x they are `eigenfunctions`.

        `num_modes` is at most, and by default, the number of resolved modes. Costs the kernel of the new inputs with
        the landmarks alone.
        """
        if self.kernel is None or self.x is None:
            raise InputError(
                "Expected a spectrum made from a kernel and inputs; got one from a file, which cannot be extended. "
                "Use eqx.tree_at to put the kernel back."
            )
        modes = self._first_modes(num_modes)
        gram = self.kernel(x_new, self.x[self.landmarks])
        rule = "manb,nbk->mak" if self.coefficients.ndim == 3 else "mn,nk->mk"
        return jnp.einsum(rule, gram, self.coefficients[..., modes], precision="highest")

    def effective_rank_bounds(self) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """The least and the largest effective rank for eigenvalues none of which is below the one that is known of it.

        What is left of the trace may belong to any mode: the rank is least where all of it belongs to the first one,
        and largest where it fills up the smallest ones to one level.
        """
        known, missing = jnp.maximum(self.eigenvalues, 0.0), self.num_missing
        rest = jnp.maximum(self.trace - jnp.sum(known), 0.0)
        total = jnp.sum(known) + rest
        least = entropic_rank(known.at[0].add(rest))
        sums = rest + jnp.append(jnp.cumsum(known[::-1])[::-1], 0.0)  # of the rest and modes j, j + 1, ...
        counts = missing + jnp.arange(len(known), -1, -1)
        level = jnp.min(jnp.where(counts > 0, sums / jnp.maximum(counts, 1), jnp.inf))
        shares = jnp.maximum(known, level) / total
        return least, jnp.exp(jnp.sum(entropy(shares)) + missing * entropy(level / total))


def nystrom(
    kernel: Kernel,
    x: ArrayLike,
    landmarks: int | ArrayLike,
    *,
    method: Method = "pivoted_cholesky",
    num_modes: int | None = None,
    weights: ArrayLike | None = None,
    residuals: Residuals = "bound",
    key: PRNGKeyArray | None = None,
) -> NystromSpectrum:
    """The largest eigenvalues and eigenfunctions of `kernel` on `x` `(n, ...)` from m of these inputs.

    `landmarks` are the m inputs' places `(m,)` in x, or their number; then `method` chooses them:

        "pivoted_cholesky"  each in proportion to what the others miss of the diagonal (Chen et al. 2022), by the
                            rejections of Epperly, Tropp and Webber (2024, arXiv 2410.03969): the same law, in blocks.
                            Fewer than m where these span all that rounding leaves
        "leverage"          by ridge leverage scores, estimated on 2 m, 4 m, ... n inputs in turn (Musco and Musco 2017,
                            arXiv 1605.07583, Algorithm 3; with m draws each time, so that programs are compiled once)
        "uniform"           each input alike

    For `outputs="all"` a landmark is an input with all its outputs. Conventions are those of `spectrum`, and modes are
    as many as the landmarks' kernel has rank, at most `num_modes`. The result extends through the landmarks alone.

    How wrong it is: an eigenvalue is too low by at most `trace_error`, trace(K - K_S) / n, and so are all together.
    `residuals` are ||K phi - eigenvalue phi|| / ||phi||, or a bound of it: with E = (K - K_S) / n, of which |E_ij| <=
    sqrt(E_ii E_jj), at most sqrt(trace E) sum_j sqrt(E_jj) |phi_j| / ||phi||. Both bounds are pessimistic: on digits
    the top 50 eigenvalues fell short by some hundredth of `trace_error`, and residuals were 50 to 300 times smaller.
    "exact" computes these, by a product of the kernel with all modes: for an empirical NTK about as dear as that many
    landmarks, for other kernels as the whole matrix; an eigenvalue is within its residual of a true one. All of this is
    to within rounding, which is of the order of `noise_floor`. Modes whose eigenvalues are nearer to each other than
    they may be wrong share an `eigenspace`: by bounds most of them, by exact residuals few.

    Costs the kernel's diagonal, and columns of n m entries (for "all" n m o^2): "leverage" computes three times as
    many, and "pivoted_cholesky" the features of x in ten rounds or more. Then some 4 n m^2 multiplications in float64
    on the host ("pivoted_cholesky": 7). Memory: those columns on the host, in the kernel's type.

    Raises `InputError` on the inputs that calling the kernel refuses, outputs="each", landmarks that are not places in
    x or more than n, more modes than landmarks, and a kernel that is zero, or not positive semi-definite, among these.
    """
    require_choice("method", method, Method)
    require_choice("residuals", residuals, Residuals)
    if not isinstance(kernel, Kernel):
        raise InputTypeError(
            f"Expected a kernel, e.g. empirical_ntk(f, params); got {type(kernel).__name__}. For a matrix use eigh(K)."
        )
    operator = kernel.operator(x)
    n = operator.num_examples
    given = _checked_landmarks(landmarks, n)
    num_landmarks = given if isinstance(given, int) else len(given)
    num_modes = checked_num_modes(num_modes, num_landmarks * operator.num_outputs)
    measure = np.full(n, 1 / n) if weights is None else np.asarray(require_weights(weights, n), np.float64)
    diagonal = np.asarray(operator.diagonal(), np.float64).reshape(n, -1)
    if not np.isfinite(diagonal).all():
        raise InputError(
            "Expected inputs at which the kernel is finite; got NaN or infinity on its diagonal. Check the scale of "
            "inputs and parameters."
        )
    problem = Problem(kernel, np.asarray(x), measure, diagonal)
    seed = jax.random.key_data(jax.random.key(0) if key is None else require_key(key))
    rng = np.random.default_rng(np.asarray(seed).ravel())
    if isinstance(given, int):
        choose = {"pivoted_cholesky": _pivoted_cholesky, "leverage": _leverage, "uniform": _uniform}[method]
        chosen, columns = choose(problem, given, rng)
    else:
        chosen, columns = given, problem.columns(given)
    return _spectrum(problem, chosen, columns, num_modes, exact=residuals == "exact")


@dataclasses.dataclass(frozen=True)
class Problem:
    """A kernel on inputs, known by its diagonal and by columns; matrices on the host are `(n o, m o)`."""

    kernel: Kernel
    x: np.ndarray
    measure: np.ndarray  # (n,), float64
    diagonal: np.ndarray  # (n, o), float64

    @property
    def num_outputs(self) -> int:
        """The outputs of an input, of which each has rows of its own."""
        return self.diagonal.shape[1]

    def columns(self, chosen: np.ndarray, among: np.ndarray | None = None) -> Float[np.ndarray, "rows columns"]:
        """The kernel of all inputs, or those `among` them, with the chosen ones; strip by strip, to the host."""
        x, o = self.x if among is None else self.x[among], self.num_outputs
        # Strips are a few times as long as wide: the features of the columns are computed again for each.
        pieces = Tiles(x, min(len(x), max(4 * len(chosen), STRIP_BYTES // (8 * len(chosen) * o * o))))
        landmarks = self.x[chosen]
        whole: Any = None
        for index in range(len(pieces)):
            bounds = pieces.bounds(index)
            block = np.asarray(self.kernel(pieces[index], landmarks)).reshape(pieces.rows * o, -1)
            if whole is None:
                whole = np.empty((len(x) * o, block.shape[1]), block.dtype)
            whole[bounds.start * o : bounds.stop * o] = block[: (bounds.stop - bounds.start) * o]
        return whole

    def rows(self, chosen: np.ndarray) -> Int[np.ndarray, " rows"]:
        """Where the rows of the chosen inputs are."""
        return (chosen[:, None] * self.num_outputs + np.arange(self.num_outputs)).ravel()

    def missing(self, columns: np.ndarray, root: np.ndarray) -> Float[np.ndarray, "n o"]:
        """The diagonal of K - K_S, for K_S = F F^T with the landmarks' features F = columns @ root."""
        squares = [np.sum(strip**2, 1) for _, strip in products(columns, root)]
        return np.maximum(self.diagonal - np.concatenate(squares).reshape(self.diagonal.shape), 0)


def products(columns: np.ndarray, matrix: np.ndarray) -> Iterator[tuple[slice, Float[np.ndarray, "rows r"]]]:
    """The product of columns with a matrix in float64, strip by strip."""
    length = max(1, STRIP_BYTES // (8 * max(1, columns.shape[1])))
    for start in range(0, len(columns), length):
        place = slice(start, start + length)
        yield place, columns[place].astype(np.float64) @ matrix


def inverse_root(block: np.ndarray, floor: float) -> Float[np.ndarray, "rows r"]:
    """R with R R^T the inverse of a symmetric matrix, without the directions whose eigenvalues are below `floor`.

    Those are rounding: to divide by them would magnify what they say of the columns, and to add a multiple of the
    identity instead would lower all eigenvalues.
    """
    values, vectors = np.linalg.eigh((block + block.T) / 2)
    kept = values > floor
    return vectors[:, kept] / np.sqrt(values[kept])


def _root(problem: Problem, chosen: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The inverse root of the landmarks' own kernel, to the precision in which that was computed."""
    own = columns[problem.rows(chosen)].astype(np.float64)
    return inverse_root(own, _epsilon(columns) * float(np.linalg.norm(own)))


def _epsilon(columns: np.ndarray) -> float:
    """What rounding does to eigenvalues, relative to the matrix: that of the kernel, and of float64 here."""
    return float(np.finfo(columns.dtype).eps + np.finfo(np.float64).eps)


def _spectrum(
    problem: Problem, chosen: np.ndarray, columns: np.ndarray, num_modes: int, *, exact: bool
) -> NystromSpectrum:
    """The eigenpairs of K_S, and how far they are from those of K."""
    (n, o), dtype = problem.diagonal.shape, columns.dtype
    root = _checked_root(problem, chosen, columns)
    all_values, rotation = _decomposed(problem, columns, root)
    noise_floor = _epsilon(columns) * np.linalg.norm(all_values)
    kept = all_values > np.finfo(np.float64).eps * all_values[0]  # below, they are rounding even here, perhaps negative
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
        eigenspace=eigenspaces(jnp.asarray(values, dtype), jnp.asarray(indistinct, dtype), _epsilon(columns) ** 0.5),
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
            "Expected a kernel that is not zero at all landmarks; got zeros alone. Check the inputs and parameters."
        )
    values = np.linalg.eigvalsh((own + own.T) / 2)
    require_positive_definite(jnp.asarray(values[[-1, 0]]), float(np.finfo(columns.dtype).eps))
    return _root(problem, chosen, columns)


def _decomposed(problem: Problem, columns: np.ndarray, root: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All eigenvalues of K_S = F F^T, descending, and the eigenvectors of F^T W F, for the landmarks' features F."""
    measure = np.repeat(problem.measure, problem.num_outputs)[:, None]
    second = sum(strip.T @ (measure[place] * strip) for place, strip in products(columns, root))
    values, rotation = np.linalg.eigh(second)
    return values[::-1], rotation[:, ::-1]


def _functions(problem: Problem, columns: np.ndarray, coefficients: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The eigenfunctions `(rows, k)` and their coefficients; of two signs the one with the long positive tail."""
    measure = np.repeat(problem.measure, problem.num_outputs)[:, None]
    functions = np.empty((len(columns), coefficients.shape[1]), columns.dtype)
    skewness = np.zeros(coefficients.shape[1])
    for place, strip in products(columns, coefficients):
        functions[place] = strip
        skewness += np.sum(measure[place] * strip**3, 0)
    signs = np.where(skewness < 0, -1, 1)
    functions *= signs.astype(columns.dtype)
    return functions, coefficients * signs


def _exact_residuals(problem: Problem, functions: np.ndarray, values: np.ndarray) -> np.ndarray:
    """||K phi - value phi|| in the norm of the weights, by a product with the kernel."""
    roots = np.sqrt(problem.measure)
    vectors = np.repeat(roots, problem.num_outputs)[:, None] * functions
    images = problem.kernel.operator(problem.x).conjugated(roots) @ vectors.astype(functions.dtype)
    return np.linalg.norm(images - vectors * values, axis=0)


def _uniform(problem: Problem, num_landmarks: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Each input alike, none twice."""
    chosen = rng.choice(len(problem.x), num_landmarks, replace=False)
    return chosen, problem.columns(chosen)


def _pivoted_cholesky(problem: Problem, num_landmarks: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Randomly pivoted Cholesky: a landmark is drawn in proportion to the diagonal of K - K_S at that moment.

    By rounds: proposals are drawn in proportion to the diagonal at the beginning of the round, and each is accepted
    with the probability that the landmarks accepted since have left of its own entry, which is the same law.
    """
    (n, o), block = problem.diagonal.shape, -(-num_landmarks // ROUNDS)
    chosen = np.empty(0, int)
    columns: Any = np.empty((n * o, 0))
    while len(chosen) < num_landmarks:
        known = columns[:, : len(chosen) * o]
        root = _root(problem, chosen, known)
        missing = np.sum(problem.missing(known, root), 1) * problem.measure
        missing[chosen] = 0
        if not missing.any():
            break
        proposals = rng.choice(n, PROPOSALS * block, p=missing / missing.sum())
        gram = problem.columns(proposals, proposals)
        features = known[problem.rows(proposals)] @ root
        wanted = min(block, num_landmarks - len(chosen))
        accepted = proposals[accepted_pivots(gram, features, proposals, wanted, rng)]
        if not len(accepted):
            break
        found = problem.columns(np.resize(accepted, block))  # of one width in all rounds: compiled once
        if not len(chosen):
            columns = np.empty((n * o, num_landmarks * o), found.dtype)
        columns[:, len(chosen) * o : (len(chosen) + len(accepted)) * o] = found[:, : len(accepted) * o]
        chosen = np.concatenate([chosen, accepted])
    return chosen, columns[:, : len(chosen) * o]


def accepted_pivots(
    gram: Float[np.ndarray, "rows rows"],
    features: Float[np.ndarray, "rows r"],
    proposals: Int[np.ndarray, " p"],
    most: int,
    rng: np.random.Generator,
) -> list[int]:
    """Which of the proposals to accept, in turn, given their kernel and the features of the landmarks before them.

    Each one that is accepted is eliminated, which gives what is left of K - K_S for those after it.
    """
    size = len(gram) // len(proposals)  # rows of an input
    floor = _epsilon(gram) * float(np.linalg.norm(gram.astype(np.float64)))  # a float32 square may overflow
    left = gram.astype(np.float64) - features @ features.T
    bounds = np.diagonal(left).reshape(-1, size).sum(1)
    taken: list[int] = []
    for index, bound in enumerate(bounds):
        own = slice(index * size, (index + 1) * size)
        threshold = max(floor, rng.random() * bound)
        if len(taken) < most and np.trace(left[own, own]) > threshold and proposals[index] not in proposals[taken]:
            taken.append(index)
            eliminated = left[:, own] @ inverse_root(left[own, own], floor)
            left -= eliminated @ eliminated.T
    return taken


def _leverage(problem: Problem, num_landmarks: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Landmarks by ridge leverage scores, of m, 2 m, 4 m, ... inputs, each estimated from a sample of those before."""
    n, size = len(problem.x), num_landmarks
    order = rng.permutation(n)
    sample, shares = np.arange(num_landmarks), np.ones(num_landmarks)  # places in the order; expected numbers of draws
    while size < n:
        size = min(2 * size, n)
        scores = _leverage_scores(problem, order[:size], sample, shares)
        probabilities = scores / scores.sum() if scores.any() else np.full(size, 1 / size)
        if size == n:
            count = min(num_landmarks, int(np.count_nonzero(probabilities)))
            sample = rng.choice(n, count, replace=False, p=probabilities)
        else:
            sample = rng.choice(size, num_landmarks, p=probabilities)
            shares = num_landmarks * probabilities[sample]
    return order[sample], problem.columns(order[sample])


def _leverage_scores(
    problem: Problem, among: np.ndarray, sample: np.ndarray, shares: np.ndarray
) -> Float[np.ndarray, " among"]:
    """The ridge leverage scores (K (K + ridge)^-1)_ii of inputs, summed over outputs, estimated from a sample of them.

    The ridge is what the k largest eigenvalues leave of the trace, over k = m / (4 log m), for which m draws suffice.
    """
    o = problem.num_outputs
    scales = np.sqrt(problem.measure[among] * len(problem.x))  # weights make an input's features longer
    columns = problem.columns(among[sample], among)
    epsilon = _epsilon(columns)
    columns = columns * np.repeat(scales, o)[:, None] * np.repeat(scales[sample], o)
    own = columns[problem.rows(sample)]
    rarity = 1 / np.sqrt(np.repeat(shares, o))
    values, vectors = np.linalg.eigh(rarity[:, None] * (own + own.T) / 2 * rarity)
    k = math.ceil(len(values) / (4 * max(1.0, math.log(len(values)))))
    ridge = max(float(np.sum(values[:-k])) / k, epsilon * float(np.linalg.norm(values)))
    if ridge == 0:
        return np.zeros(len(among))
    root = rarity[:, None] * vectors / np.sqrt(np.maximum(values, 0) + ridge)
    explained = np.concatenate([np.sum(strip**2, 1) for _, strip in products(columns, root)]).reshape(-1, o)
    return np.sum(np.clip((problem.diagonal[among] * scales[:, None] ** 2 - explained) / ridge, 0, 1), 1)


def _checked_landmarks(landmarks: Any, n: int) -> int | np.ndarray:
    """A number of landmarks, or their places."""
    if np.ndim(landmarks) == 0:
        require_positive("landmarks", landmarks)
        if landmarks > n:
            raise InputError(f"Expected at most as many landmarks as inputs, {n}; got {landmarks}.")
        return int(landmarks)
    places = np.asarray(require_array(landmarks, "landmarks"))
    if places.ndim != 1 or not places.size or places.dtype.kind not in "iu":
        raise InputError(
            f"Expected landmarks to be a number, or places (m,) in x; got shape {places.shape} of {places.dtype}. "
            "For a mask use numpy.flatnonzero(mask)."
        )
    if places.min() < 0 or places.max() >= n:
        raise InputError(
            f"Expected landmarks to be places in x, from 0 to {n - 1}; got {places.min()} to {places.max()}."
        )
    if len(np.unique(places)) < len(places):
        raise InputError(
            f"Expected landmarks without repetition; got {len(places)} of which {len(np.unique(places))} differ. "
            "Use numpy.unique."
        )
    return places
