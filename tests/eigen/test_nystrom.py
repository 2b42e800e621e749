"""Spectra from landmarks: exact cases, bounds, the choice of landmarks, and error messages."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkbias as nb
from ntkbias.eigen import columns, nystrom
from ntkbias.eigen.sampling import accepted_pivots
from ntkbias.errors import InputError, InputTypeError

METHODS = ("pivoted_cholesky", "leverage", "uniform")
each_method = pytest.mark.parametrize("method", METHODS)


pytestmark = pytest.mark.slow


class Gaussian(nb.Kernel):
    """exp(-|x - x'|^2 / 2), which has full rank and eigenvalues that decay fast."""

    def contract(self, features1, features2):
        other = features1 if features2 is None else features2
        return jnp.exp(-jnp.sum((features1[:, None] - other) ** 2, -1) / 2)

    def block_rows(self, x):
        return 1000


class Linear(Gaussian):
    """x . x', which has rank d."""

    def contract(self, features1, features2):
        return features1 @ (features1 if features2 is None else features2).T


class Difference(Gaussian):
    """A kernel that is not positive semi-definite."""

    def contract(self, features1, features2):
        other = features1 if features2 is None else features2
        return 1 - 0.1 * jnp.sum((features1[:, None] - other) ** 2, -1)


GAUSSIAN, LINEAR = Gaussian("mean"), Linear("mean")


def eps_of(x):
    return float(np.finfo(x.dtype).eps)


def inputs(n, d=2, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(n, d)), float)


def weights_of(n):
    weights = np.random.default_rng(1).uniform(0.5, 2.0, n)
    return jnp.asarray(weights / weights.sum(), float)


def network(outputs):
    net = nb.nets.mlp(16, 1, 3)
    return nb.empirical_ntk(net.apply, net.init(jax.random.key(0), (2,)), outputs=outputs)


def clusters(seed=0):
    """A crowd, and twenty groups of four. Most landmarks drawn uniformly are in the crowd."""
    rng = np.random.default_rng(seed)
    centers = 4 * rng.normal(size=(21, 3))
    sizes = [420] + [4] * 20
    return jnp.asarray(np.repeat(centers, sizes, 0) + 0.3 * rng.normal(size=(500, 3)), float)


def approximated(matrix, rows):
    """K_S, computed from its definition."""
    return matrix[:, rows] @ np.linalg.pinv(matrix[np.ix_(rows, rows)], rcond=1e-13, hermitian=True) @ matrix[rows]


def rows_of(landmarks, num_outputs):
    return (np.asarray(landmarks)[:, None] * num_outputs + np.arange(num_outputs)).ravel()


@each_method
@pytest.mark.slow
def test_all_inputs_as_landmarks_give_the_spectrum(method, precision):
    x, weights = inputs(40), weights_of(40)
    got, expected = nystrom(GAUSSIAN, x, 40, method=method, weights=weights), nb.spectrum(GAUSSIAN, x, weights=weights)
    assert sorted(got.landmarks.tolist()) == list(range(40)) or method == "pivoted_cholesky"
    k = len(got.eigenvalues)  # excludes eigenvalues that are only rounding
    assert k >= expected.num_above_noise - 2
    np.testing.assert_allclose(
        got.eigenvalues, np.asarray(expected.eigenvalues)[:k], rtol=0, atol=5 * float(got.noise_floor)
    )
    assert float(got.trace_error) < 30 * eps_of(x)
    np.testing.assert_allclose(got.trace, expected.trace, rtol=1e-6)
    np.testing.assert_allclose(got.noise_floor, expected.noise_floor, rtol=0.01)
    assert got.eigenspace.tolist()[:5] == expected.eigenspace.tolist()[:5]
    np.testing.assert_allclose(  # signs agree, too
        np.asarray(got.eigenfunctions)[:, :5], np.asarray(expected.eigenfunctions)[:, :5], atol=1e3 * eps_of(x)
    )


@each_method
def test_a_kernel_of_low_rank_is_found_exactly(method, precision):
    x = inputs(40, 3)
    got, expected = nystrom(LINEAR, x, 8, method=method), nb.spectrum(LINEAR, x, num_modes=3)
    assert len(got.eigenvalues) == got.num_above_noise == 3
    rounding = 10 * eps_of(x)
    np.testing.assert_allclose(got.eigenvalues, expected.eigenvalues, rtol=rounding)
    assert float(got.trace_error) < rounding * float(got.trace)
    if method == "pivoted_cholesky":  # nothing is missing after three landmarks
        assert len(got.landmarks) == 3


@pytest.mark.parametrize("outputs", ["mean", "all"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.slow
def test_eigenpairs_are_those_of_the_approximation(outputs, weighted, x64):
    kernel, x = network(outputs), inputs(12)
    weights = weights_of(12) if weighted else None
    got = nystrom(kernel, x, np.array([7, 2, 9]), weights=weights)
    o = 3 if outputs == "all" else 1
    matrix = np.asarray(kernel(x)).reshape(12 * o, 12 * o)
    expected = approximated(matrix, rows_of(got.landmarks, o))
    phi = np.asarray(got.eigenfunctions).reshape(12 * o, -1)
    assert got.eigenfunctions.shape == ((12, 3, 9) if o == 3 else (12, 3))
    np.testing.assert_allclose((phi * got.eigenvalues) @ phi.T, expected, atol=1e-10 * np.abs(matrix).max())
    measure = np.repeat(got.weights, o)
    np.testing.assert_allclose(phi.T @ (measure[:, None] * phi), np.eye(phi.shape[1]), atol=1e-10)
    assert np.all(np.diff(got.eigenvalues) <= 0)
    np.testing.assert_allclose(got.trace_error, measure @ np.diagonal(matrix - expected), rtol=1e-9)
    np.testing.assert_allclose(got.trace, measure @ np.diagonal(matrix), rtol=1e-12)


@pytest.mark.parametrize("outputs", ["mean", "all"])
def test_eigenvalues_fall_short_by_the_trace_error(outputs, x64):
    kernel, x = network(outputs), inputs(12)
    true = nb.spectrum(kernel, x)
    rounding = 10 * float(true.noise_floor)
    before = np.zeros(len(true.eigenvalues))
    for m in (1, 2, 4, 8):
        got = nystrom(kernel, x, np.arange(m))
        values = np.zeros(len(true.eigenvalues))
        values[: len(got.eigenvalues)] = got.eigenvalues
        short = np.asarray(true.eigenvalues) - values
        assert np.all(short > -rounding)
        assert np.all(short < float(got.trace_error) + rounding)
        np.testing.assert_allclose(np.sum(short), got.trace_error, atol=rounding)
        assert np.all(values > before - rounding)  # more landmarks span more of the kernel
        before = values


@pytest.mark.parametrize("outputs", ["mean", "all"])
def test_residuals_are_exact_or_bounds_of_those(outputs, x64):
    kernel, x, weights = network(outputs), inputs(12), weights_of(12)
    bound, exact = (nystrom(kernel, x, 3, weights=weights, residuals=how) for how in ("bound", "exact"))
    o = 3 if outputs == "all" else 1
    roots = np.sqrt(np.repeat(weights, o))[:, None]
    scaled = roots * np.asarray(kernel(x)).reshape(12 * o, 12 * o) * roots.T
    vectors = roots * np.asarray(exact.eigenfunctions).reshape(12 * o, -1)
    expected = np.linalg.norm(scaled @ vectors - vectors * exact.eigenvalues, axis=0)
    np.testing.assert_allclose(exact.residuals, expected, atol=1e-12)
    assert np.all(np.asarray(bound.residuals) > expected)
    assert np.all(np.asarray(bound.residuals) < float(bound.trace_error) + 2 * float(bound.noise_floor))
    for value, error in zip(exact.eigenvalues, exact.residuals, strict=True):
        assert np.min(np.abs(np.linalg.eigvalsh(scaled) - value)) <= error


def test_a_bound_that_is_attained(x64):
    # The first input is a landmark and the second is orthogonal to it: E is a single entry, which no mode sees.
    got = nystrom(LINEAR, jnp.array([[2.0, 0.0], [0.0, 1.0]]), np.array([0]))
    np.testing.assert_allclose([got.eigenvalues[0], got.trace_error, got.residuals[0]], [2, 0.5, 0], atol=1e-14)


@pytest.mark.parametrize("outputs", ["mean", "all"])
@pytest.mark.slow
def test_it_extends_through_the_landmarks_alone(outputs, precision, monkeypatch):
    kernel, x = network(outputs), inputs(12)
    got = nystrom(kernel, x, 4)
    shapes = []
    call = nb.Kernel.__call__
    monkeypatch.setattr(nb.Kernel, "__call__", lambda self, x1, x2=None: shapes.append(len(x2)) or call(self, x1, x2))
    extended = got.extend(x)
    assert shapes == [4]
    # Coefficients are of the order of one over the square root of the landmarks' least eigenvalue.
    own = np.asarray(call(kernel, x[got.landmarks])).reshape(4 * (3 if outputs == "all" else 1), -1)
    atol = 30 * eps_of(x) * np.linalg.cond(own) ** 0.5
    np.testing.assert_allclose(extended, got.eigenfunctions[..., : extended.shape[-1]], atol=atol)
    assert extended.shape == (12, *([3] if outputs == "all" else []), got.num_above_noise)
    assert got.extend(inputs(5, seed=1), 2).shape[-1] == 2


@pytest.mark.slow
def test_with_all_landmarks_it_extends_as_the_spectrum_does(x64):
    x, new = inputs(10), inputs(5, seed=1)
    got, expected = nystrom(GAUSSIAN, x, 10, method="uniform"), nb.spectrum(GAUSSIAN, x)
    np.testing.assert_allclose(got.extend(new, 6), expected.extend(new, 6), atol=1e-7)


@each_method
def test_only_the_diagonal_and_columns_are_evaluated(method, monkeypatch):
    entries = []
    call = nb.Kernel.__call__
    monkeypatch.setattr(
        nb.Kernel,
        "__call__",
        lambda self, x1, x2=None: entries.append(len(x1) * len(x1 if x2 is None else x2)) or call(self, x1, x2),
    )
    n, m = 600, 20
    got = nystrom(GAUSSIAN, inputs(n, 3), m, method=method)
    assert len(got.landmarks) == len(set(got.landmarks.tolist())) == m
    # Rounds of two pivots each: six proposals with each other, and perhaps a round in which one is rejected.
    most = {"uniform": n * m, "leverage": 3 * n * m, "pivoted_cholesky": 2 * n * m + 20 * 36}[method]
    assert n * m <= sum(entries) <= most


@pytest.mark.slow
def test_pivoted_cholesky_is_best_for_crowded_data():
    x = clusters()
    errors = {
        method: [
            float(nystrom(GAUSSIAN, x, 30, method=method, key=jax.random.key(seed)).trace_error) for seed in range(4)
        ]
        for method in METHODS
    }
    # Over ten keys 0.066 +- 0.005 of the trace is missing, 0.096 +- 0.010, and 0.131 +- 0.009; at least 0.026.
    assert max(errors["pivoted_cholesky"]) < min(errors["uniform"])
    assert np.mean(errors["pivoted_cholesky"]) < 0.8 * np.mean(errors["leverage"])
    assert np.mean(errors["leverage"]) < 0.85 * np.mean(errors["uniform"])
    best = 1 - float(jnp.sum(nb.spectrum(GAUSSIAN, x, num_modes=30).eigenvalues))
    assert best < min(errors["pivoted_cholesky"]) < 3 * best


def test_blocks_of_pivots_have_the_distribution_of_single_pivots():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(4, 3)) * np.array([[1.0], [1.0], [2.0], [0.5]])
    gram = features @ features.T
    diagonal = np.diagonal(gram)
    seconds = np.zeros((4, 4))
    firsts = np.zeros(4)
    for _ in range(4000):
        proposals = rng.choice(4, 8, p=diagonal / diagonal.sum())
        taken = proposals[accepted_pivots(gram[np.ix_(proposals, proposals)], np.empty((8, 0)), proposals, 2, rng)]
        firsts[taken[0]] += 1
        if len(taken) == 2:
            seconds[taken[0], taken[1]] += 1

    def errors(counts, law):  # in standard errors of a multinomial count
        law = law / law.sum()
        return (counts - counts.sum() * law) / np.sqrt(np.maximum(counts.sum() * law * (1 - law), 1e-9))

    assert np.abs(errors(firsts, diagonal)).max() < 4
    for i in range(4):
        assert seconds[i].sum() > 30
        assert np.abs(errors(seconds[i], np.maximum(diagonal - gram[i] ** 2 / gram[i, i], 0))).max() < 4


def test_pivots_of_many_outputs_eliminate_all_of_them():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(5, 2, 4)).reshape(
        10, 4
    )  # five inputs with two outputs, of rank four: two inputs span everything
    taken = accepted_pivots(features @ features.T, np.empty((10, 0)), np.arange(5), 5, np.random.default_rng(0))
    assert len(taken) == 2
    assert accepted_pivots(features @ features.T, features, np.arange(5), 5, rng) == []  # nothing is left


@each_method
@pytest.mark.slow
def test_outputs(method, x64):
    x = inputs(12)
    found = {outputs: nystrom(network(outputs), x, 4, method=method) for outputs in ("mean", "sum", "all")}
    np.testing.assert_allclose(found["sum"].eigenvalues, 3 * found["mean"].eigenvalues, rtol=1e-9)
    np.testing.assert_allclose(found["all"].trace, found["sum"].trace, rtol=1e-12)
    assert found["all"].coefficients.shape == (4, 3, 12)
    assert found["mean"].coefficients.shape == (4, 4)
    assert len(nystrom(network("all"), x, 4, method=method, num_modes=5).eigenvalues) == 5


@pytest.mark.slow
def test_an_input_twice_with_half_the_weight_changes_nothing(x64):
    x, weights = inputs(10), weights_of(10)
    once = nystrom(GAUSSIAN, x, np.array([5, 0, 7]), weights=weights)
    doubled = jnp.concatenate([weights[:4] / 2, weights[:4] / 2, weights[4:]])
    twice = nystrom(GAUSSIAN, jnp.concatenate([x[:4], x[:4], x[4:]]), np.array([9, 4, 11]), weights=doubled)
    np.testing.assert_allclose(once.eigenvalues, twice.eigenvalues, atol=1e-14)
    np.testing.assert_allclose(once.trace_error, twice.trace_error, atol=1e-14)
    np.testing.assert_allclose(once.residuals, twice.residuals, atol=1e-14)


@pytest.mark.parametrize("method", ["pivoted_cholesky", "leverage"])
@pytest.mark.slow
def test_heavy_inputs_become_landmarks(method):
    x = inputs(60, 20)  # all of them far from each other: the kernel is near the identity
    weights = jnp.concatenate([jnp.full(5, 0.19), jnp.full(55, 0.05 / 55)])
    for seed in range(3):
        got = nystrom(GAUSSIAN, x, 10, method=method, weights=weights, key=jax.random.key(seed))
        # On average, less than one of ten landmarks drawn uniformly would be heavy.
        assert np.sum(np.asarray(got.landmarks) < 5) >= {"pivoted_cholesky": 5, "leverage": 4}[method]


@pytest.mark.slow
def test_landmarks_that_are_nearly_the_same_do_no_harm(precision):
    x = inputs(40)
    x = jnp.concatenate([x, x[:20], x[:20] * (1 + 1e-7)])  # some of them twice or three times
    got = nystrom(GAUSSIAN, x, np.arange(80))
    true = nb.spectrum(GAUSSIAN, x)
    assert np.isfinite(got.eigenfunctions).all()
    k = min(len(got.eigenvalues), true.num_above_noise)
    np.testing.assert_allclose(
        np.asarray(got.eigenvalues)[:k], np.asarray(true.eigenvalues)[:k], rtol=0, atol=10 * float(true.noise_floor)
    )
    top = np.asarray(got.eigenfunctions, float)[:, :5]
    np.testing.assert_allclose(top.T @ top / 80, np.eye(5), atol=100 * eps_of(x))


@pytest.mark.slow
def test_pairs_of_one_frequency_share_an_eigenspace():
    x, weights = nb.domains.Circle().quadrature(100)
    bound, exact = (nystrom(GAUSSIAN, x, 8, weights=weights, residuals=how) for how in ("bound", "exact"))
    assert bound.eigenspace.tolist()[:5] == exact.eigenspace.tolist()[:5] == [0, 1, 1, 2, 2]
    assert int(exact.eigenspace[-1]) >= int(bound.eigenspace[-1])  # smaller errors separate more eigenspaces
    ranking = nb.rank_by_frequency(bound, nb.domains.Circle())
    assert ranking.frequencies[:5].tolist() == [0, 1, 1, 2, 2]


def test_the_key_decides(x64):
    x = inputs(40)
    same = [nystrom(GAUSSIAN, x, 6, key=jax.random.key(3)).landmarks.tolist() for _ in range(2)]
    assert same[0] == same[1] != nystrom(GAUSSIAN, x, 6, key=jax.random.key(4)).landmarks.tolist()


@pytest.mark.parametrize("num_landmarks", [1, 5, 15, 40])
@pytest.mark.parametrize("num_modes", [None, 1])
def test_bounds_hold_the_effective_rank(num_landmarks, num_modes, x64):
    x = inputs(40)
    rank = nb.spectrum(GAUSSIAN, x).effective_rank()
    few = nystrom(GAUSSIAN, x, num_landmarks, num_modes=num_modes)
    low, high = few.effective_rank_bounds()
    assert low <= rank * (1 + 1e-10)
    assert rank <= high * (1 + 1e-10)
    if num_landmarks == 40 and num_modes is None:
        np.testing.assert_allclose([low, high], rank, rtol=1e-6)


def test_the_largest_effective_rank_fills_the_smallest_eigenvalues_up(x64):
    """By hand: eigenvalues 4, 1 and two missing ones, with a trace of 8, rise to 4, 4/3, 4/3, 4/3."""
    spectrum = nystrom(GAUSSIAN, inputs(4), 2)
    known = dataclasses.replace(spectrum, eigenvalues=jnp.array([4.0, 1.0]), trace=jnp.asarray(8.0))
    shares = np.array([[7 / 8, 1 / 8], [1 / 2, 1 / 2]])  # the rest goes to the first mode, or the others share half
    low, high = np.exp(-np.sum(shares * np.log(shares), 1)) * [1, 3**0.5]
    np.testing.assert_allclose(known.effective_rank_bounds(), (low, high), rtol=1e-12)


def test_strips_change_nothing(monkeypatch, x64):
    x = inputs(40)
    whole = nystrom(GAUSSIAN, x, np.arange(6))
    monkeypatch.setattr(columns, "STRIP_BYTES", 400)
    strips = nystrom(GAUSSIAN, x, np.arange(6))
    np.testing.assert_allclose(strips.eigenfunctions, whole.eigenfunctions, atol=1e-9)
    np.testing.assert_allclose(strips.trace_error, whole.trace_error, rtol=1e-12)


def test_it_is_saved_and_extends_again_with_its_kernel(tmp_path):
    x = inputs(20)
    got = nystrom(GAUSSIAN, x, 5)
    nb.save(tmp_path / "modes", got)
    loaded = nb.load(tmp_path / "modes")
    assert type(loaded) is type(got)
    assert loaded.method == "nystrom"
    assert loaded.landmarks.tolist() == got.landmarks.tolist()
    with pytest.raises(InputError, match=r"left out: .* got Gaussian at value\.kernel\. Put it back by eqx\.tree_at"):
        loaded.extend(x)
    again = eqx.tree_at(lambda s: s.kernel, loaded, GAUSSIAN)
    np.testing.assert_array_equal(again.extend(x), got.extend(x))
    with pytest.raises(InputError, match=r"got one without them, which cannot be extended\. Use nystrom"):
        eqx.tree_at(lambda s: s.kernel, loaded, None).extend(x)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kernel": jnp.eye(3)}, r"Expected inputs x= only with a Kernel; got them with ArrayImpl"),
        ({"kernel": network("each")}, r"got outputs='each'"),
        ({"x": jnp.ones(3)}, r"Expected x to be a batch of inputs"),
        ({"x": jnp.array([[jnp.nan, 1.0]])}, r"Expected finite numbers in x"),
        ({"landmarks": 0}, r"Expected landmarks to be at least 1; got 0\."),
        ({"landmarks": 2.5}, r"Expected landmarks to be a whole number; got 2\.5\."),
        ({"landmarks": 9}, r"Expected at most as many landmarks as inputs, 8; got 9\."),
        ({"landmarks": [0, 8]}, r"Expected landmarks to be indices into x, from 0 to 7; got 0 to 8\."),
        ({"landmarks": [-1, 2]}, r"Expected landmarks to be indices into x, from 0 to 7; got -1 to 2\."),
        ({"landmarks": [1, 2, 1]}, r"without repetition; got 3 with 2 different ones\. Use numpy\.unique\."),
        ({"landmarks": [True, False]}, r"Expected landmarks to be a number, or indices \(m,\) in x; .*flatnonzero"),
        ({"landmarks": []}, r"Expected landmarks to be a number, or indices"),
        ({"method": "greedy"}, r"Expected method to be one of pivoted_cholesky, leverage, uniform; got 'greedy'\."),
        ({"residuals": "none"}, r"Expected residuals to be one of bound, exact; got 'none'\."),
        ({"num_modes": 4}, r"Expected num_modes to be at most the number of rows, 3; got 4"),
        ({"weights": jnp.ones(8)}, r"Expected weights that sum to one"),
        ({"kernel": 0.0 * GAUSSIAN}, r"Expected a kernel that is not zero at all landmarks; got only zeros"),
        ({"kernel": 0.0 * GAUSSIAN, "landmarks": [0, 1, 2]}, r"Expected a kernel that is not zero at all landmarks"),
        (
            {"kernel": Difference("mean"), "landmarks": range(8)},
            r"Expected a positive semi-definite kernel; got an eigenvalue of -",
        ),
    ],
)
def test_bad_input(change, message):
    arguments = {"kernel": GAUSSIAN, "x": inputs(8), "landmarks": 3, **change}
    with pytest.raises(InputError, match=message) as caught:
        nystrom(**arguments)
    if message.startswith("Expected inputs x="):
        assert isinstance(caught.value, InputTypeError)
