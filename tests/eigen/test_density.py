"""Stochastic Lanczos quadrature: exact for polynomials, brackets that hold probe by probe, honest standard errors."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse.linalg
from matfree import decomp, funm

import ntkbias as nb
from ntkbias.eigen import lanczos
from ntkbias.eigen.density import effective_dimension, log_determinant, spectral_density
from ntkbias.eigen.estimate import Estimate
from ntkbias.errors import InputError

KEY = jax.random.key(0)
N = 60


def orthogonal(n=N, seed=7):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(n, n)))[0]


def matrix_of(values, seed=7):
    """A matrix K whose K / n has these eigenvalues."""
    basis = orthogonal(len(values), seed)
    matrix = len(values) * (basis * values) @ basis.T
    return (matrix + matrix.T) / 2


VALUES = 10.0 ** np.linspace(0, -4, N)  # eigenvalues of K / n that fall as a smooth kernel's do
POINTS = np.array([3e-4, 3e-3, 0.04, 0.5])  # between them


@pytest.mark.slow
@pytest.mark.parametrize("scale", [2.0**-70, 2.0**70])
def test_a_density_has_the_scale_of_the_operator(scale):
    """Also where the squares of its entries are beyond float32."""
    matrix = matrix_of(VALUES).astype(np.float32)
    one, scaled = (spectral_density(matrix * np.float32(c), num_probes=2, num_steps=6, key=KEY) for c in (1, scale))
    np.testing.assert_allclose(scaled.diagonals / scale, one.diagonals, rtol=1e-6)
    np.testing.assert_allclose(scaled.off_diagonals / scale, one.off_diagonals, rtol=1e-6)
    np.testing.assert_allclose(scaled.noise_floor / scale, one.noise_floor, rtol=1e-6)


def drawn(density, key=KEY):
    """For each probe the squared overlaps with the eigenvectors of `matrix_of`, which sum to the number of rows."""
    probes = np.asarray(lanczos.probes_of(nb.kernels.as_operator(np.eye(N)), key, range(len(density.diagonals))))
    overlaps = (orthogonal().T @ (probes / np.linalg.norm(probes, axis=0))) ** 2
    return N * overlaps.T


def truths(values, ridge=0.1, n=N):
    """What each method estimates."""
    return {
        "log_determinant": np.sum(np.log(n * values + ridge)),
        "effective_dimension": np.sum(n * values / (n * values + ridge)),
        "moment": np.sum(values**2),
        "cumulative": np.sum(values > POINTS[1]),
    }


def read(density, ridge=0.1):
    return {
        "log_determinant": density.log_determinant(ridge),
        "effective_dimension": density.effective_dimension(ridge),
        "moment": density.moment(2),
        "cumulative": density.cumulative(POINTS[1]),
    }


def test_gauss_rule_is_exact_for_polynomials_probe_by_probe(x64):
    density = spectral_density(matrix_of(VALUES), key=KEY, num_probes=2, num_steps=5)
    overlaps = drawn(density)
    for power in range(10):
        found = jnp.sum(density.weights * density.nodes**power, -1)
        np.testing.assert_allclose(found, overlaps @ VALUES**power, rtol=1e-9)
    # Of the power 2 s the rule falls short: the test above could fail.
    assert np.all(jnp.sum(density.weights * density.nodes**10, -1) < (1 - 1e-7) * overlaps @ VALUES**10)


def test_what_the_probes_hold_is_within_the_numerical_error(x64):
    for num_steps in (2, 5, 12, 30):
        density = spectral_density(matrix_of(VALUES), key=KEY, num_probes=2, num_steps=num_steps)
        held = np.mean(drawn(density), 0)  # how much of each eigenvalue these two probes hold
        for ridge in (1e-4, 1e-2, 1.0, 100.0):
            logarithms, shares = np.log(N * VALUES + ridge), N * VALUES / (N * VALUES + ridge)
            for found, truth in (
                (density.log_determinant(ridge), held @ logarithms),
                (density.effective_dimension(ridge), held @ shares),
            ):
                # The noise floor covers the rounding of an eigenvalue, not that of a sum of 60 logarithms.
                assert abs(found.value - truth) <= found.numerical_error + 1e-12 * abs(found.value)


@pytest.mark.slow
def test_counts_are_within_their_bounds_probe_by_probe(x64):
    at = np.geomspace(3e-5, 3, 41)
    errors = []
    for num_steps in (3, 8, 16):
        density = spectral_density(matrix_of(VALUES), key=KEY, num_probes=2, num_steps=num_steps)
        found = density.cumulative(at)
        held = (VALUES > at[:, None]) @ np.mean(drawn(density), 0)
        assert np.all(np.abs(found.value - held) <= found.numerical_error + 1e-9)
        assert np.all(np.diff(found.value) <= 1e-9)
        errors.append(np.asarray(found.numerical_error))
    assert errors[2].mean() < errors[1].mean() < errors[0].mean()
    fine = spectral_density(matrix_of(VALUES), key=KEY, num_probes=2, num_steps=30).cumulative(at[at > 0.06])
    assert np.max(fine.numerical_error) < 0.02  # well apart, the first eigenvalues are counted one by one


def test_more_steps_make_the_numerical_error_vanish(x64):
    errors = {}
    for num_steps in (4, 8, 16, 32, 60):
        density = spectral_density(matrix_of(VALUES), key=KEY, num_probes=2, num_steps=num_steps)
        errors[num_steps] = {name: float(found.numerical_error) for name, found in read(density).items()}
    for name in ("log_determinant", "effective_dimension"):
        assert errors[4][name] > 2 * errors[8][name] > 4 * errors[16][name] > 20 * errors[32][name]
        assert errors[60][name] < 1e-7


@pytest.mark.slow
def test_standard_errors_are_honest_over_forty_seeds(x64):
    inside = dict.fromkeys(truths(VALUES), 0)
    near = dict.fromkeys(truths(VALUES), 0)
    for seed in range(40):
        density = spectral_density(matrix_of(VALUES), key=jax.random.key(seed), num_steps=24)
        for name, found in read(density).items():
            distance = abs(found.value - truths(VALUES)[name])
            inside[name] += bool(distance <= 2 * found.standard_error + found.numerical_error)
            near[name] += bool(distance <= 0.5 * found.standard_error)
    # Student's t with 15 degrees of freedom: 94 % within two standard errors, 38 % within a half. Of 40 seeds, fewer
    # than 32 within two or more than 28 within a half have a probability below 1e-3. Measured: 37 to 40, 10 to 20.
    assert all(count >= 32 for count in inside.values()), inside
    assert all(count <= 28 for count in near.values()), near


@pytest.mark.slow
def test_the_mean_over_many_probes_is_the_truth_and_its_spread_that_of_the_sphere(x64):
    density = spectral_density(matrix_of(VALUES), key=KEY, num_probes=1500, num_steps=24)
    functions = {
        "log_determinant": np.log(N * VALUES + 0.1),
        "effective_dimension": N * VALUES / (N * VALUES + 0.1),
        "moment": VALUES**2,
        "cumulative": VALUES > POINTS[1],
    }
    for name, found in read(density).items():
        assert abs(found.value - truths(VALUES)[name]) < 3 * found.standard_error + found.numerical_error, name
        # On a sphere of squared radius N a quadratic form with eigenvalues f has variance 2 N^2 / (N + 2) var f.
        expected = (2 * N**2 / (N + 2) * np.var(functions[name]) / 1500) ** 0.5
        np.testing.assert_allclose(found.standard_error, expected, rtol=0.1, err_msg=name)


def test_identity_and_zero_are_exact(precision):
    epsilon = float(jnp.finfo(jnp.zeros(()).dtype).eps)
    density = spectral_density(np.eye(50), key=KEY, num_probes=2)
    assert density.exhausted.all()
    exact = {"log_determinant": 50 * np.log(1.5), "effective_dimension": 50 / 1.5}
    for name, value in exact.items():
        found = getattr(density, name)(0.5)
        np.testing.assert_allclose(found.value, value, rtol=20 * epsilon)
        assert found.standard_error < 100 * epsilon * value
    counts = density.cumulative(np.array([-1.0, 0.019, 0.021]))
    np.testing.assert_allclose(counts.value, [50, 50, 0], rtol=20 * epsilon)
    np.testing.assert_allclose(counts.numerical_error, 0, atol=1000 * epsilon)

    zero = spectral_density(np.zeros((8, 8)), key=KEY, num_probes=2)
    np.testing.assert_allclose(float(zero.log_determinant(2.0)), 8 * np.log(2), rtol=20 * epsilon)
    assert float(zero.effective_dimension(1.0)) == 0
    np.testing.assert_allclose(float(zero.cumulative(-1.0)), 8, rtol=20 * epsilon)


def test_degenerate_eigenvalues_are_counted_though_a_probe_meets_each_once(x64):
    values = np.repeat([0.7, 0.02, 0.0], [3, 17, 40])
    density = spectral_density(matrix_of(values), key=KEY, num_steps=12)
    distances = np.abs(density.nodes[..., None] - np.array([0.7, 0.02, 0.0]))
    assert np.max(np.min(distances, -1)[density.weights > 1e-9]) < 1e-14
    counts = density.cumulative(np.array([0.3, 1e-3]))
    assert np.all(np.abs(counts.value - np.array([3, 20])) < 3 * counts.standard_error + counts.numerical_error)
    assert np.all(counts.numerical_error < 1e-6)


@pytest.mark.slow
def test_rank_one_matrix(x64):
    values = np.zeros(N)
    values[0] = 0.8
    density = spectral_density(matrix_of(values), key=KEY)
    overlaps = drawn(density)[:, 0]
    for name, (one, none) in {
        "log_determinant": (np.log(N * 0.8 + 0.1), np.log(0.1)),
        "effective_dimension": (N * 0.8 / (N * 0.8 + 0.1), 0),
    }.items():
        found = getattr(density, name)(0.1)
        np.testing.assert_allclose(found.value, np.mean(overlaps * one + (N - overlaps) * none), rtol=1e-10)
        assert found.numerical_error < 1e-9
    modes = nb.eigen.eigh(matrix_of(values), num_modes=1)
    known = spectral_density(matrix_of(values), key=KEY, modes=modes)
    np.testing.assert_allclose(float(known.effective_dimension(0.1)), N * 0.8 / (N * 0.8 + 0.1), rtol=1e-10)


def test_all_modes_known_leave_nothing_to_chance(x64):
    K = matrix_of(VALUES)
    density = spectral_density(K, key=KEY, num_probes=2, modes=nb.eigen.eigh(K))
    for name, found in read(density).items():
        np.testing.assert_allclose(found.value, truths(VALUES)[name], rtol=1e-9)
        assert found.standard_error == 0
        assert found.numerical_error < 1e-8
    np.testing.assert_allclose(float(density.log_determinant(0.1)), np.linalg.slogdet(K + 0.1 * np.eye(N))[1])


def test_known_modes_are_exact_and_lower_the_standard_error(x64):
    K = matrix_of(VALUES)
    without, with_modes = (
        spectral_density(K, key=KEY, num_steps=24, modes=modes) for modes in (None, nb.eigen.eigh(K, num_modes=12))
    )
    np.testing.assert_allclose(with_modes.eigenvalues, VALUES[:12], rtol=1e-10)
    np.testing.assert_allclose(np.sum(with_modes.weights, -1), N - 12, rtol=1e-12)
    assert np.all(with_modes.nodes < VALUES[11])
    for name, before in read(without).items():
        after = read(with_modes)[name]
        assert abs(after.value - truths(VALUES)[name]) < 3 * after.standard_error + after.numerical_error
        if name != "cumulative":  # most of the eigenvalues above that point are not among the modes
            assert after.standard_error < before.standard_error, name
    assert read(with_modes)["moment"].standard_error < 0.1 * read(without)["moment"].standard_error
    assert with_modes.cumulative(VALUES[5] * 1.01).standard_error < 1e-12


@pytest.mark.slow
def test_poor_modes_are_left_to_the_probes(x64):
    K = matrix_of(VALUES)
    modes = nb.eigen.eigh(K, num_modes=6)
    turned = modes.eigenfunctions.at[:, 4].set(modes.eigenfunctions[:, 5])
    density = spectral_density(
        K, key=KEY, modes=dataclasses.replace(modes, eigenfunctions=turned.at[:, 3].add(0.2 * turned[:, 0]))
    )
    np.testing.assert_allclose(density.eigenvalues, VALUES[:3], rtol=1e-10)


def test_limits_of_the_ridge(x64):
    values = np.repeat([0.5, 0.1, 0.0], [2, 10, 48])
    density = spectral_density(matrix_of(values), key=KEY, modes=nb.eigen.eigh(matrix_of(values), num_modes=12))
    np.testing.assert_allclose(float(density.effective_dimension(1e-9)), 12, atol=1e-3)
    np.testing.assert_allclose(float(density.effective_dimension(1e9)), 0, atol=1e-6)
    large = density.log_determinant(1e9)
    np.testing.assert_allclose(float(large), N * np.log(1e9) + N * values.sum() / 1e9, rtol=1e-13)


def test_the_derivative_of_the_log_determinant_is_the_effective_dimension(x64):
    density = spectral_density(matrix_of(VALUES), key=KEY, num_probes=2, num_steps=6)
    step = 1e-4  # whose square is the relative error of the difference quotient
    above, below = (float(density.log_determinant(0.3 * np.exp(side * step))) for side in (1, -1))
    np.testing.assert_allclose((above - below) / (2 * step), N - float(density.effective_dimension(0.3)), rtol=1e-7)


def test_many_ridges_at_once(x64):
    density = spectral_density(
        matrix_of(VALUES), key=KEY, num_probes=2, num_steps=6, modes=nb.eigen.eigh(matrix_of(VALUES), num_modes=3)
    )
    ridges = np.array([[0.1, 1.0, 10.0]])
    for method in (density.log_determinant, density.effective_dimension):
        together = method(ridges)
        assert together.value.shape == together.numerical_error.shape == (1, 3)
        for index, ridge in enumerate(ridges[0]):
            for one, many in zip(jax.tree.leaves(method(ridge)), jax.tree.leaves(together), strict=True):
                np.testing.assert_allclose(many[0, index], one, rtol=1e-12)


def test_functions_read_off_the_density(x64):
    K = matrix_of(VALUES)
    options = {"key": KEY, "num_probes": 2, "num_steps": 10, "modes": nb.eigen.eigh(K, num_modes=2)}
    density = spectral_density(K, **options)
    assert float(log_determinant(K, 0.2, **options)) == float(density.log_determinant(0.2))
    assert float(effective_dimension(K, 0.2, **options)) == float(density.effective_dimension(0.2))


def test_probes_in_blocks_and_one_by_one_are_the_same(x64):
    together = spectral_density(matrix_of(VALUES), key=KEY, num_probes=16, num_steps=8)
    alone = spectral_density(matrix_of(VALUES), key=KEY, num_probes=16, num_steps=8, memory_budget=1)
    fewer = spectral_density(matrix_of(VALUES), key=KEY, num_probes=2, num_steps=8)
    for field in ("diagonals", "off_diagonals"):
        np.testing.assert_allclose(getattr(together, field), getattr(alone, field), rtol=1e-9)
        np.testing.assert_allclose(getattr(together, field)[:2], getattr(fewer, field), rtol=1e-9)
    other = spectral_density(matrix_of(VALUES), key=jax.random.key(1), num_probes=2, num_steps=8)
    assert np.all(np.abs(other.diagonals[:, 0] / fewer.diagonals[:, 0] - 1) > 1e-3)


@pytest.mark.slow
def test_matfree_finds_the_same(x64):
    K = matrix_of(VALUES)
    density = spectral_density(K, key=KEY, num_probes=2, num_steps=7)
    probes = np.asarray(lanczos.probes_of(nb.kernels.as_operator(K), KEY, range(2)))
    probes = probes * N**0.5 / np.linalg.norm(probes, axis=0)
    estimate = funm.monte_carlo_funm_sym(
        funm.dense_funm_sym_eigh(lambda x: jnp.log(N * x + 0.3)), decomp.tridiag_sym(7)
    )
    forms = []
    for index in range(2):
        found = decomp.tridiag_sym(7, materialize=False)(lambda v: K @ v / N, jnp.asarray(probes[:, index]))
        np.testing.assert_allclose(density.diagonals[index], found.J_small[0], rtol=1e-9)
        np.testing.assert_allclose(density.off_diagonals[index, :-1], found.J_small[1], rtol=1e-9)
        forms.append(estimate(lambda v: K @ v / N, jnp.asarray(probes[:, index])))
    ours = jnp.sum(density.weights * jnp.log(N * density.nodes + 0.3), -1)
    np.testing.assert_allclose(ours, np.array(forms), rtol=1e-10)


def test_more_steps_than_rows_are_as_many_as_rows(x64):
    K = matrix_of(np.array([0.5, 0.3, 0.2, 0.1]))
    density = spectral_density(K, key=KEY, num_probes=2, num_steps=50)
    assert density.nodes.shape == (2, 4)
    np.testing.assert_allclose(density.nodes[0], [0.1, 0.2, 0.3, 0.5], rtol=1e-12)
    one = spectral_density(np.array([[3.0]]), key=KEY, num_probes=2)
    np.testing.assert_allclose(float(one.log_determinant(1.0)), np.log(4), rtol=1e-6)


@pytest.mark.slow
def test_jacobian_products_and_the_matrix_give_the_same(x64):
    net = nb.nets.mlp(16, 1, 3)
    kernel = nb.empirical_ntk(net.apply, net.init(jax.random.key(1), (4,)), outputs="all")
    x = jax.random.normal(jax.random.key(2), (17, 4))
    modes = nb.spectrum(kernel, x, num_modes=2)
    options = {"key": KEY, "num_probes": 2, "num_steps": 9, "modes": modes}
    by_products, by_matrix = (spectral_density(op, **options) for op in (kernel.operator(x), kernel(x)))
    np.testing.assert_allclose(by_products.diagonals, by_matrix.diagonals, rtol=1e-8)
    np.testing.assert_allclose(by_products.eigenvalues, modes.eigenvalues, rtol=1e-10)
    assert by_products.num_rows == 17 * 3


@pytest.mark.slow
def test_weights_are_those_of_the_spectrum(x64):
    K = matrix_of(VALUES)
    weights = np.random.default_rng(0).uniform(0.5, 2, N)
    weights /= weights.sum()
    modes = nb.eigen.eigh(K, weights=weights)
    density = spectral_density(K, key=KEY, num_probes=2, num_steps=60, weights=weights)
    np.testing.assert_allclose(density.nodes[0], modes.eigenvalues[::-1], rtol=1e-8)
    known = spectral_density(K, key=KEY, num_probes=2, weights=weights, modes=modes)
    np.testing.assert_allclose(known.eigenvalues, modes.eigenvalues, rtol=1e-9)


@pytest.mark.slow
def test_density_counts_every_eigenvalue_a_decade(x64):
    K = matrix_of(VALUES)
    at = np.geomspace(1e-6, 100, 400)
    distances = (np.log10(VALUES) - np.log10(at)[:, None]) / 0.2
    smoothed = np.sum(np.exp(-(distances**2) / 2), -1) / (0.2 * (2 * np.pi) ** 0.5)
    known = spectral_density(K, key=KEY, num_probes=2, modes=nb.eigen.eigh(K)).density(at, 0.2)
    np.testing.assert_allclose(known.value, smoothed, atol=1e-9)
    found = spectral_density(K, key=KEY, num_steps=60).density(at, 0.2)
    np.testing.assert_allclose(np.trapezoid(found.value, np.log10(at)), N, rtol=1e-6)
    found = spectral_density(K, key=KEY, num_steps=36).density(at, 0.2)
    inside = np.abs(found.value - smoothed) < 3 * found.standard_error + found.numerical_error + 1e-9
    assert inside.all()
    coarse = spectral_density(K, key=KEY, num_steps=6).density(at, 0.2)
    assert np.max(coarse.numerical_error) > 3 * np.max(found.numerical_error)
    assert coarse.value.shape == at.shape
    assert spectral_density(K, key=KEY, num_steps=6).density(0.1).value.shape == ()


@pytest.mark.slow
def test_rounding_is_in_the_bracket_of_single_precision():
    values = np.concatenate([VALUES[:20], np.zeros(40)])
    K = matrix_of(values).astype(np.float32)
    density = spectral_density(K, key=KEY, modes=nb.eigen.eigh(K, num_modes=20))
    assert 1e-7 < density.noise_floor < 1e-6
    for ridge in (N * float(density.noise_floor), 0.1 * N * float(density.noise_floor)):
        found = density.log_determinant(ridge)
        error = abs(found.value - truths(values, ridge)["log_determinant"])
        assert error < 3 * found.standard_error + found.numerical_error
        assert found.numerical_error > 1  # zeros are known to within the floor alone


def test_estimates_print_and_convert():
    one = Estimate(*(jnp.asarray(v) for v in (12.5, 0.25, 0.001)))
    assert (float(one), str(one)) == (12.5, "12.5 ± 0.25 (probes) ± 0.001 (steps, rounding)")
    assert str(jax.tree.map(lambda v: jnp.stack([v, v]), one)).count("\n") == 3  # a title, heads and two rows


def test_saved_density_is_the_same(x64, tmp_path):
    density = spectral_density(matrix_of(VALUES), key=KEY, num_probes=2, num_steps=4)
    nb.save(tmp_path / "density", density)
    assert float(nb.load(tmp_path / "density").log_determinant(1.0)) == float(density.log_determinant(1.0))


def with_products(times):
    return scipy.sparse.linalg.LinearOperator((4, 4), matvec=times, matmat=times, dtype=np.float32)


@pytest.mark.usefixtures("unchecked")
def test_errors_say_what_to_do():
    K = np.diag([4.0, 3.0, 2.0, 1.0]).astype(np.float32)
    density = spectral_density(K, key=KEY, num_probes=2)
    skew = np.triu(np.ones((4, 4), np.float32))
    cases = [
        (lambda: log_determinant(K, 0.0, key=KEY), "Expected a ridge above zero; got 0. The ridge is added to K"),
        (lambda: effective_dimension(K, -1.0, key=KEY), "Expected a ridge above zero; got -1."),
        (lambda: density.log_determinant(np.array([1.0, -2.0])), "Expected a ridge above zero; got -2."),
        (lambda: density.effective_dimension(np.nan), "Expected finite numbers in the ridge"),
        (lambda: density.log_determinant("one"), "Expected the ridge to be an array of numbers"),
        (lambda: spectral_density(K, key=0), "Expected a key of jax.random, as jax.random.key(0); got int"),
        (lambda: spectral_density(K, key=jax.random.split(KEY)), "Expected one key of jax.random"),
        (lambda: spectral_density(K, key=KEY, num_probes=1), "Expected at least 2 probes"),
        (lambda: spectral_density(K, key=KEY, num_probes=2.5), "Expected num_probes to be a whole number"),
        (lambda: spectral_density(K, key=KEY, num_steps=0), "Expected num_steps to be at least 1"),
        (lambda: spectral_density(K, key=KEY, memory_budget=0), "Expected memory_budget to be at least 1"),
        (lambda: spectral_density(K, key=KEY, weights=np.ones(4)), "Expected weights that sum to one"),
        (lambda: spectral_density(K, key=KEY, modes=K), "Expected modes= to be a Spectrum, by top_modes or eigh; got"),
        (
            lambda: spectral_density(K, key=KEY, modes=nb.eigen.eigh(np.eye(3))),
            "Expected modes on the 4 examples and 1 outp",
        ),
        (
            lambda: spectral_density(K, key=KEY, modes=nb.eigen.eigh(skew @ skew.T)),
            "Expected modes of this operator; got a",
        ),
        (
            lambda: spectral_density(-K, key=KEY),
            "Expected an operator without negative eigenvalues; got one of about",
        ),
        (lambda: spectral_density(skew, key=KEY), "Expected a symmetric operator; got products with x^T (K y)"),
        (lambda: spectral_density(with_products(lambda v: v * np.nan), key=KEY), "Expected an operator with finite pr"),
        (lambda: spectral_density(len, key=KEY), "Expected a kernel on inputs"),
        (lambda: density.density(np.array([1.0, 0.0])), "Expected eigenvalues and a width above zero"),
        (lambda: density.density(1.0, 0.0), "Expected eigenvalues and a width above zero"),
        (lambda: density.cumulative(np.nan), "Expected finite numbers in the eigenvalues to ask about"),
        (lambda: density.moment(0), "Expected power to be at least 1"),
    ]
    for call, message in cases:
        with pytest.raises(InputError) as error:
            call()
        assert message in str(error.value)


SIGNED = np.concatenate([10.0 ** np.linspace(0, -3, N // 2), -(10.0 ** np.linspace(0.2, -3, N // 2))])


def signed_density(**options):
    return spectral_density(nb.kernels.as_operator(matrix_of(SIGNED), definite=False), key=KEY, num_probes=2, **options)


def test_eigenvalues_of_both_signs_are_counted_within_the_bounds(x64):
    """The bounds of counts, and the moments, are those of what the probes hold."""
    at = np.concatenate([-np.geomspace(2, 3e-4, 9), np.geomspace(3e-4, 2, 9)])
    errors = []
    for num_steps in (4, 30):
        density = signed_density(num_steps=num_steps)
        held, found = np.mean(drawn(density), 0), density.cumulative(at)
        assert np.all(np.abs(found.value - (SIGNED > at[:, None]) @ held) <= found.numerical_error + 1e-9)
        errors.append(np.mean(found.numerical_error))
        for power in (1, 2, 3, 4):
            moment = density.moment(power)
            assert abs(moment.value - held @ SIGNED**power) <= moment.numerical_error + 1e-12
            assert moment.numerical_error < 1e-9
    assert errors[1] < errors[0] / 2


def test_linear_density_is_the_sum_of_bumps(x64):
    density, at = signed_density(num_steps=N), np.array([-1.0, -0.1, 0.0, 0.5])
    bumps = np.exp(-(((SIGNED - at[:, None]) / 0.1) ** 2) / 2) / (0.1 * np.sqrt(2 * np.pi))
    found = density.linear_density(at, 0.1)
    np.testing.assert_allclose(found.value, bumps @ np.mean(drawn(density), 0), rtol=1e-6)
    assert np.max(found.numerical_error) < 1e-6
    few = signed_density(num_steps=6).linear_density(at, 0.3)
    wide = np.exp(-(((SIGNED - at[:, None]) / 0.3) ** 2) / 2) / (0.3 * np.sqrt(2 * np.pi))
    assert np.all(np.abs(few.value - wide @ np.mean(drawn(density), 0)) <= 3 * few.numerical_error)


def test_bad_input_for_both_signs_is_named(x64):
    density = signed_density(num_steps=4)
    for call in (lambda: density.log_determinant(1.0), lambda: density.effective_dimension(1.0)):
        with pytest.raises(InputError, match="Expected an operator without negative eigenvalues for the"):
            call()
    with pytest.raises(InputError, match="Expected a width above zero, in the unit of the eigenvalues"):
        density.linear_density(0.0, 0.0)


def test_keys_of_both_kinds_do(x64):
    keys = jax.random.PRNGKey(0), KEY
    old, new = (spectral_density(matrix_of(VALUES), key=key, num_probes=2, num_steps=4) for key in keys)
    np.testing.assert_array_equal(old.diagonals, new.diagonals)
