"""Spectra: laws of the eigenproblem, two methods with the same answer, and error messages."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import spectrum_on_nodes

import ntkbias as nb
from ntkbias.errors import InputError


def gram(n, rank, seed=0):
    features = jax.random.normal(jax.random.key(seed), (n, rank))
    return features @ features.T


def weights_of(n, seed=1):
    weights = jax.random.uniform(jax.random.key(seed), (n,), minval=0.5, maxval=2.0)
    return weights / weights.sum()


@pytest.mark.parametrize("weighted", [False, True])
def test_eigenfunctions_are_orthonormal_and_rebuild_the_kernel(precision, weighted):
    K = gram(12, 12)
    weights = weights_of(12) if weighted else jnp.full(12, 1 / 12)
    spectrum = nb.eigen.eigh(K, weights=weights if weighted else None)
    tolerance = 100 * float(jnp.finfo(K.dtype).eps)
    phi = spectrum.eigenfunctions
    np.testing.assert_allclose(phi.T @ (weights[:, None] * phi), np.eye(12), atol=tolerance)
    np.testing.assert_allclose((phi * spectrum.eigenvalues) @ phi.T, K, atol=tolerance * float(jnp.abs(K).max()))
    np.testing.assert_allclose(spectrum.trace, jnp.sum(weights * jnp.diagonal(K)), rtol=tolerance)
    assert np.all(np.diff(spectrum.eigenvalues) <= 0)
    assert float(spectrum.residuals.max()) < tolerance * float(spectrum.eigenvalues[0])


@pytest.mark.slow
def test_eigenvalues_do_not_grow_with_the_number_of_inputs(x64):
    kernel = nb.infinite_ntk(nb.nets.mlp(depth=2, b_std=0.1))
    few, many = (spectrum_on_nodes(kernel, nb.domains.Circle(), n) for n in (128, 512))
    # A quadrature of n nodes aliases degree n - k to degree k. For k < 16, degree n - k has an eigenvalue below 1e-4.
    np.testing.assert_allclose(few.eigenvalues[:16], many.eigenvalues[:16], atol=1e-4)


@pytest.mark.slow
def test_an_input_twice_with_half_the_weight_changes_nothing(x64):
    kernel = nb.infinite_ntk(nb.nets.mlp(depth=1))
    x = jax.random.normal(jax.random.key(0), (10, 3))
    weights = weights_of(10)
    once = nb.spectrum(kernel, x, weights=weights)
    doubled = jnp.concatenate([weights[:4] / 2, weights[:4] / 2, weights[4:]])
    twice = nb.spectrum(kernel, jnp.concatenate([x[:4], x[:4], x[4:]]), doubled)
    np.testing.assert_allclose(once.eigenvalues, twice.eigenvalues[:10], atol=1e-14)
    assert twice.num_above_noise == once.num_above_noise


def test_spectrum_of_a_circulant_kernel_is_its_fourier_transform(x64):
    x, _ = nb.domains.Circle().quadrature(32)
    kernel = nb.infinite_ntk(nb.nets.mlp(depth=2, b_std=0.3))
    expected = np.sort(np.fft.fft(kernel(x)[0]).real / 32)[::-1]
    np.testing.assert_allclose(nb.spectrum(kernel, x).eigenvalues, expected, atol=1e-14)


def test_equal_eigenvalues_share_an_eigenspace_and_near_ones_do_not():
    spectrum = nb.eigen.eigh(jnp.diag(jnp.array([3.0, 3.0, 2.0, 2.0, 2.0, 1.0])))
    assert spectrum.eigenspace.tolist() == [0, 0, 1, 1, 1, 2]
    split = nb.eigen.eigh(jnp.diag(jnp.array([3.0, 3.0 * (1 - 1e-2), 1.0])))
    assert split.eigenspace.tolist() == [0, 1, 2]


@pytest.mark.parametrize("rank", [1, 3, 7])
def test_rounding_is_distinguished_from_signal(precision, rank):
    spectrum = nb.eigen.eigh(gram(60, rank))
    assert spectrum.num_above_noise == rank
    rounding = float(jnp.abs(spectrum.eigenvalues[rank:]).max())
    assert rounding < float(spectrum.noise_floor) < 200 * rounding  # the noise floor is above rounding, but not far


@pytest.mark.parametrize("scale", [1e-20, 1e20])
def test_the_noise_floor_has_the_scale_of_the_kernel(scale):
    """The squares of these entries are beyond the range of float32."""
    one, scaled = nb.eigen.eigh(gram(20, 2)), nb.eigen.eigh(gram(20, 2) * scale)
    np.testing.assert_allclose(scaled.noise_floor / scale, one.noise_floor, rtol=1e-5)
    assert scaled.num_above_noise == 2


def test_float32_gram_is_decomposed_in_float64():
    # A float32 eigensolver rounds by about n eps = 2e-5, so an eigenvalue of 1e-6 next to 1 would have no digits.
    values = jnp.concatenate([jnp.ones(1), jnp.full(149, 1e-6)])
    spectrum = nb.eigen.eigh(jnp.diag(values))
    np.testing.assert_allclose(spectrum.eigenvalues * 150, values, rtol=1e-6)


@pytest.mark.slow
def test_all_outputs_are_divided_by_n_alone(x64):
    net = nb.nets.mlp(width=16, depth=1, num_outputs=3, b_std=0.2)
    params = net.init(jax.random.key(0), (2,))
    x = jax.random.normal(jax.random.key(1), (6, 2))
    spectrum = nb.spectrum(nb.empirical_ntk(net.apply, params, outputs="all"), x)
    assert spectrum.eigenfunctions.shape == (6, 3, 18)
    norms = jnp.mean(jnp.sum(spectrum.eigenfunctions**2, 1), 0)
    np.testing.assert_allclose(norms, 1, rtol=1e-12)
    mean = nb.spectrum(nb.empirical_ntk(net.apply, params), x)
    np.testing.assert_allclose(spectrum.trace, 3 * mean.trace, rtol=1e-12)
    np.testing.assert_allclose(spectrum.extend(x), spectrum.eigenfunctions[..., : spectrum.num_above_noise], atol=1e-8)


@pytest.mark.slow
def test_all_outputs_of_an_infinite_network_repeat_the_mean_ones(x64):
    x = jax.random.normal(jax.random.key(1), (5, 2))
    net = nb.nets.mlp(depth=2, num_outputs=3)
    every, mean = nb.spectrum(nb.infinite_ntk(net, outputs="all"), x), nb.spectrum(nb.infinite_ntk(net), x)
    np.testing.assert_allclose(every.eigenvalues, jnp.repeat(mean.eigenvalues, 3), atol=1e-14)
    assert every.eigenspace.tolist() == np.repeat(np.arange(5), 3).tolist()


@pytest.mark.slow
def test_passes_through_jit_and_vmap(x64):
    stack = jnp.stack([gram(5, 5, seed) for seed in range(3)])
    together = jax.vmap(nb.eigen.eigh)(stack)
    one = jax.jit(nb.eigen.eigh)(stack[1])
    np.testing.assert_allclose(together.eigenvalues[1], nb.eigen.eigh(stack[1]).eigenvalues, rtol=1e-12)
    np.testing.assert_allclose(one.eigenvalues, nb.eigen.eigh(stack[1]).eigenvalues, rtol=1e-12)


def test_num_modes_keeps_the_first():
    K = gram(8, 8)
    some, all_ = nb.eigen.eigh(K, num_modes=3), nb.eigen.eigh(K)
    np.testing.assert_array_equal(some.eigenvalues, all_.eigenvalues[:3])
    assert some.eigenfunctions.shape == (8, 3)
    assert float(some.trace) == float(all_.trace)


ASYMMETRIC = jnp.eye(3).at[0, 1].set(0.5)
BAD_MATRICES = {
    "not square": (jnp.ones((3, 4)), "Expected a square matrix"),
    "a vector": (jnp.ones(3), "Expected a square matrix"),
    "empty": (jnp.ones((0, 0)), "Expected a square matrix"),
    "NaN": (jnp.full((3, 3), jnp.nan), "Expected finite numbers in the kernel's Gram matrix; got 9 NaN"),
    "asymmetric": (ASYMMETRIC, "Expected a symmetric matrix; got entries that differ .* by up to 0.5"),
    "indefinite": (
        -jnp.eye(3),
        "Expected a positive semi-definite kernel; got an eigenvalue of -1, with a largest of 1",
    ),
    "strings": ([["a"]], "Expected K to be an array of numbers"),
}


@pytest.mark.parametrize("name", BAD_MATRICES)
def test_bad_matrices_are_named(unchecked, name):
    matrix, message = BAD_MATRICES[name]
    with pytest.raises(InputError, match=message):
        nb.eigen.eigh(matrix)


BAD_WEIGHTS = {
    "length": (jnp.ones(3) / 3, "Expected one weight for each of 4 inputs; got shape \\(3,\\)"),
    "negative": (jnp.array([0.5, 0.5, 0.5, -0.5]), "Expected positive weights"),
    "zero": (jnp.array([0.5, 0.5, 0.0, 0.0]), "Expected positive weights"),
    "sum": (jnp.ones(4), "Expected weights that sum to one; got 4"),
    "NaN": (jnp.array([jnp.nan, 0.5, 0.5, 0.5]), "Expected finite numbers in weights"),
}


@pytest.mark.parametrize("name", BAD_WEIGHTS)
def test_bad_weights_are_named(unchecked, name):
    weights, message = BAD_WEIGHTS[name]
    with pytest.raises(InputError, match=message):
        nb.eigen.eigh(jnp.eye(4), weights=weights)
    with pytest.raises(InputError, match=message):
        nb.spectrum(nb.infinite_ntk(nb.nets.mlp()), jnp.eye(4), weights=weights)


def test_other_bad_input_is_named(unchecked):
    net = nb.nets.mlp(num_outputs=2)
    with pytest.raises(InputError, match="num_modes to be at most the number of rows, 3; got 4"):
        nb.eigen.eigh(jnp.eye(3), num_modes=4)
    with pytest.raises(InputError, match="num_modes to be at least 1"):
        nb.eigen.eigh(jnp.eye(3), num_modes=0)
    with pytest.raises(InputError, match="outputs='each'"):
        nb.spectrum(nb.infinite_ntk(net, outputs="each"), jnp.eye(3))
    with pytest.raises(TypeError, match="Expected a kernel, e.g. empirical_ntk"):
        nb.spectrum(jnp.eye(3), jnp.eye(3))
