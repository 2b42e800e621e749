"""The numbers and functions that a spectrum provides."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import spectrum_on_nodes

import ntkbias as nb
from ntkbias.errors import InputError

CIRCLE = nb.domains.Circle()
KERNEL = nb.infinite_ntk(nb.nets.mlp(depth=2, b_std=0.1))


def circle_spectrum(n=64):
    return spectrum_on_nodes(KERNEL, CIRCLE, n)


def power_law_spectrum(n=200, exponent=-2.0):
    """A spectrum with eigenvalues index^exponent and random eigenvectors."""
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(n, n)))[0]
    return nb.eigen.eigh(jnp.asarray(n * (basis * np.arange(1.0, n + 1) ** exponent) @ basis.T))


def test_stable_rank_is_that_of_features():
    features = np.random.default_rng(0).normal(size=(9, 5)) * np.arange(1, 6)
    spectrum = nb.eigen.eigh(jnp.asarray(features @ features.T))
    np.testing.assert_allclose(spectrum.stable_rank(), nb.complexity.stable_rank(features), rtol=1e-5)
    few = nb.top_modes(nb.kernels.as_operator(jnp.asarray(features @ features.T)), 2, key=jax.random.key(0))
    np.testing.assert_allclose(few.stable_rank(), spectrum.stable_rank(), rtol=1e-4)


def test_effective_rank_of_equal_eigenvalues_is_their_number():
    np.testing.assert_allclose(nb.eigen.eigh(jnp.eye(7)).effective_rank(), 7, rtol=1e-6)
    np.testing.assert_allclose(nb.eigen.eigh(jnp.ones((7, 7))).effective_rank(), 1, rtol=1e-4)


def gram_of(eigenvalues):
    """A matrix with these eigenvalues of K / n."""
    basis = np.linalg.qr(np.random.default_rng(1).normal(size=2 * (len(eigenvalues),)))[0]
    return jnp.asarray(len(eigenvalues) * (basis * np.asarray(eigenvalues)) @ basis.T)


@pytest.mark.parametrize("exponent", [0.0, -0.3, -1.0, -3.0])
@pytest.mark.parametrize("num_modes", [1, 5, 29, 30])
def test_the_bounds_of_top_modes_contain_the_effective_rank(exponent, num_modes, x64):
    gram = gram_of(np.arange(1.0, 31) ** exponent)
    rank, top = nb.eigen.eigh(gram).effective_rank(), nb.eigen.eigh(gram, num_modes=num_modes)
    low, high = top.effective_rank_bounds()
    assert low <= rank * (1 + 1e-10)
    assert rank <= high * (1 + 1e-10)
    if num_modes == 30:
        assert low == high == top.effective_rank()
    if exponent == 0.0:  # all modes are as large as the last known one, so the bounds coincide
        np.testing.assert_allclose([low, high], 30, rtol=1e-10)


def test_bounds_of_the_effective_rank_are_reached(x64):
    """The rest of the trace lies on a few modes as large as the last known one, or all unknown modes share it."""
    few = nb.eigen.eigh(gram_of([4.0, 2.0, 2.0, 2.0, 1.0, 0.0, 0.0, 0.0]))
    even = nb.eigen.eigh(gram_of([4.0, 2.0, *[5 / 6] * 6]))
    for spectrum, bound in ((few, 0), (even, 1)):
        top = nb.eigen.eigh(gram_of(spectrum.eigenvalues), num_modes=2)
        np.testing.assert_allclose(top.effective_rank_bounds()[bound], spectrum.effective_rank(), rtol=1e-8)


def test_the_effective_rank_of_top_modes_is_refused_for_its_bounds(x64):
    gram = jnp.asarray(np.random.default_rng(0).normal(size=(12, 5, 40)))
    gram = jnp.einsum("nop,mqp->nomq", gram, gram)
    whole, top = nb.eigen.eigh(gram), nb.eigen.eigh(gram, num_modes=10)  # of vector-valued modes: 60 of them
    with pytest.raises(InputError, match=r"Expected all 60 modes .*; got the first 10. Use effective_rank_bounds\(\)"):
        top.effective_rank()
    low, high = jax.jit(nb.Spectrum.effective_rank_bounds)(top)
    assert 10 < low < whole.effective_rank() < high < 60
    found = nb.top_modes(gram.reshape(60, 60), 10, key=jax.random.key(0))
    np.testing.assert_allclose(found.effective_rank_bounds(), (low, high), rtol=1e-3)


def test_the_bounds_coincide_without_missing_trace():
    low, high = nb.eigen.eigh(gram_of([3.0, 1.0, *[0.0] * 20]), num_modes=4).effective_rank_bounds()
    np.testing.assert_allclose([low, high], np.exp(-0.75 * np.log(0.75) - 0.25 * np.log(0.25)), rtol=1e-4)


def test_project_gives_coordinates(x64):
    spectrum = circle_spectrum()
    functions = spectrum.eigenfunctions[:, :5] @ jnp.arange(15.0).reshape(5, 3)
    coefficients = spectrum.project(functions)
    np.testing.assert_allclose(coefficients[:5], jnp.arange(15.0).reshape(5, 3), atol=1e-12)
    np.testing.assert_allclose(coefficients[5:], 0, atol=1e-12)
    np.testing.assert_allclose(spectrum.project(functions[:, 0]), coefficients[:, 0], atol=1e-12)


def test_cumulative_power_rises_to_one_where_the_target_lies(x64):
    spectrum = circle_spectrum()
    target = spectrum.eigenfunctions[:, 1] + jnp.sqrt(3.0) * spectrum.eigenfunctions[:, 4]
    np.testing.assert_allclose(spectrum.cumulative_power(target)[:6], [0, 0.25, 0.25, 0.25, 1, 1], atol=1e-12)
    random = jax.random.normal(jax.random.key(0), (64, 2))
    power = spectrum.cumulative_power(random)
    assert np.all(np.diff(power, axis=0) >= 0)
    np.testing.assert_allclose(power[-1], 1, rtol=1e-12)


def test_extension_agrees_with_the_eigenfunctions_on_their_inputs(x64):
    spectrum = circle_spectrum()
    extended = spectrum.extend(spectrum.x)
    np.testing.assert_allclose(extended, spectrum.eigenfunctions[:, : extended.shape[1]], atol=1e-9)


@pytest.mark.slow
def test_extension_of_circle_modes_is_harmonic_between_the_inputs(x64):
    spectrum = circle_spectrum(256)
    x_new = CIRCLE.sample(50, key=jax.random.key(0))
    nodes, new = (CIRCLE.harmonics(x, 3) for x in (spectrum.x, x_new))
    coefficients = spectrum.project(nodes)[:7]  # of the harmonics in the modes: a rotation of each degree
    # The kernel's cusp makes the quadrature err by about n^-2, relative to the eigenvalue: 1e-3 for degree 3.
    np.testing.assert_allclose(spectrum.extend(x_new, 7) @ coefficients, new, atol=5e-3)


@pytest.mark.parametrize("exponent", [-1.0, -2.0, -3.0])
def test_decay_exponent_recovers_a_power_law(x64, exponent):
    decay = power_law_spectrum(exponent=exponent).decay_exponent("index")
    assert decay.exponent == pytest.approx(exponent, abs=1e-6)
    assert decay.low < exponent < decay.high
    assert (decay.first, decay.last) == (1, 40)


def test_an_exact_power_law_has_one_slope(x64):
    decay = power_law_spectrum(exponent=-1.5).decay_exponent(predicted=-1.5)
    np.testing.assert_allclose(decay.local_slopes, -1.5, atol=1e-6)
    assert decay.misfit < 1e-6
    assert (decay.low, decay.high) == pytest.approx((decay.sample_low, decay.sample_high), abs=1e-6)
    assert str(decay).splitlines()[1:3] == [
        f"Slopes of the thirds of modes 2 to 40: -1.50, -1.50, -1.50. Log eigenvalues scatter by {decay.misfit:#.3g}.",
        "Predicted for the limit: -1.50.",
    ]
    assert float(decay) == decay.exponent
    assert decay.text == str(decay).splitlines()[0]


@pytest.mark.parametrize("n", [64, 128, 256, 512])
def test_the_range_of_the_exponent_holds_that_of_the_limit(n, x64):
    """On the circle, slopes of the ReLU NTK drift from -2.4 to -2.15 with n, and no interval of theirs holds -2."""
    frequencies = (jnp.arange(n) + 1) // 2
    decay = circle_spectrum(n).decay_exponent("frequency", frequencies=frequencies)
    assert decay.exponent < -2.1
    assert not decay.sample_low < -2 < decay.sample_high
    assert -2 in decay
    assert decay.high - decay.low < 1  # it still says something
    assert decay.low <= min(decay.local_slopes) <= max(decay.local_slopes) <= decay.high


def test_few_modes_have_fewer_parts(x64):
    spectrum = power_law_spectrum()
    found = {count: spectrum.decay_exponent(last=count + 1) for count in (2, 3, 4, 5)}
    assert [len(decay.local_slopes) for decay in found.values()] == [1, 1, 2, 3]
    two, four = found[2], found[4]
    assert "Slopes of the halves of modes 2 to 5: -2.00, -2.00." in str(four)
    assert -2 in two
    assert str(two).splitlines()[1].startswith("The slope of modes 2 to 3. Log")


def test_decay_against_frequency_and_against_index_differ_as_multiplicity_says(x64):
    spectrum = circle_spectrum(256)
    frequencies = (jnp.arange(256) + 1) // 2
    by_frequency = spectrum.decay_exponent("frequency", frequencies=frequencies, first=21, last=51)
    assert by_frequency.against == "frequency"
    assert by_frequency.exponent == pytest.approx(-2, abs=0.15)  # asymptotically; degrees 11 to 25 are fitted


@pytest.mark.slow
def test_interval_is_as_wide_as_the_scatter_over_samples(x64):
    """Over 24 random samples of the circle, the interval's half width over 1.96 and the exponents' scatter agree."""
    decays = []
    for seed in range(24):
        x = CIRCLE.sample(150, key=jax.random.key(seed))
        decays.append(nb.spectrum(KERNEL, x).decay_exponent("index", last=20, key=jax.random.key(seed)))
    scatter = np.std([decay.exponent for decay in decays])
    stated = np.mean([(decay.high - decay.low) / 3.92 for decay in decays])
    # The standard deviation of 24 draws has an error of 15 %; the bootstrap itself may be off by half.
    assert 0.5 < stated / scatter < 2


def test_bad_input_is_named(unchecked):
    spectrum = circle_spectrum()
    bare = nb.eigen.eigh(jnp.eye(10))
    with pytest.raises(InputError, match="got one of a bare matrix"):
        bare.extend(jnp.ones((1, 2)))
    with pytest.raises(InputError, match="num_modes of at most 64"):
        spectrum.extend(spectrum.x, 65)
    with pytest.raises(InputError, match="inputs of one shape; got \\(3,\\) and \\(2,\\)"):
        spectrum.extend(jnp.ones((1, 3)))
    with pytest.raises(InputError, match="targets of shape \\(64,\\)"):
        spectrum.project(jnp.ones(63))
    with pytest.raises(InputError, match="finite numbers in targets"):
        spectrum.cumulative_power(jnp.full(64, jnp.nan))
    with pytest.raises(InputError, match="against to be one of index, frequency; got 'degree'"):
        spectrum.decay_exponent("degree")
    with pytest.raises(InputError, match="frequencies= of at least 12 modes to fit against frequency; got none"):
        spectrum.decay_exponent("frequency")
    with pytest.raises(InputError, match="two or more modes to fit, among the 64"):
        spectrum.decay_exponent(first=5, last=6)
    with pytest.raises(InputError, match="two or more modes to fit, among the 64"):
        spectrum.decay_exponent(last=100)
