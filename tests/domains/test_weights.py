"""Weights of samples: exact moments, least norm, density, and coinciding inputs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from cases import spectrum_on_nodes

import ntkbias as nb
from ntkbias.domains import (
    Circle,
    Hypercube,
    PointCloud,
    Sphere,
    Torus,
    density_weights,
    merge_coinciding,
    minimum_norm_weights,
    quadrature_weights,
)
from ntkbias.errors import InputError, InputTypeError

# The nodes of Yu, Yang and Townsend 2022, section 5: some coincide.
NONUNIFORM = np.concatenate(
    [2 * np.pi * np.arange(1, 101) / 100, np.linspace(0, 0.3 * np.pi, 40), np.linspace(1.4 * np.pi, 1.8 * np.pi, 1_000)]
)


def crowded(num_inputs, seed):
    """Angles with density proportional to 1 + 0.8 cos(angle)."""
    angles = np.linspace(0, 2 * np.pi, 2_000)
    mass = np.cumsum(1 + 0.8 * np.cos(angles))
    return Circle().point(
        jnp.asarray(np.interp(np.random.default_rng(seed).uniform(size=num_inputs) * mass[-1], mass, angles))
    )


@pytest.mark.parametrize("max_degree", [10, 40])
def test_weights_of_crowded_nodes_are_exact_and_positive(x64, max_degree):
    x = merge_coinciding(Circle().point(jnp.asarray(NONUNIFORM))).x
    assert len(x) == 1_140 - 6
    weights = np.asarray(quadrature_weights(Circle(), x, max_degree))
    moments = weights @ np.asarray(Circle().harmonics(x, max_degree))
    assert np.abs(moments - np.eye(2 * max_degree + 1)[0]).max() < 1e-11
    assert weights.min() >= 0
    assert np.mean(weights > 0) > 0.7  # a vertex of the feasible set would have 21 or 81 of 1,134
    free = np.asarray(minimum_norm_weights(Circle(), x, max_degree))
    assert free.min() < 0
    assert np.sum(free**2) < np.sum(weights**2) < 1.05 * np.sum(free**2)


@pytest.mark.parametrize("seed", range(3))
def test_weights_have_the_least_norm(x64, seed):
    """The optimality conditions, and a general solver's answer."""
    x = crowded(40, seed)
    weights = np.asarray(quadrature_weights(Circle(), x, 4))
    rows = np.asarray(Circle().harmonics(x, 4)).T
    # c = max(A^T nu, 0): where c is positive it equals a combination of the rows, and elsewhere that is at most zero.
    nu = np.linalg.lstsq(rows[:, weights > 0].T, weights[weights > 0])[0]
    np.testing.assert_allclose(np.maximum(rows.T @ nu, 0), weights, atol=1e-12)
    constraint = {"type": "eq", "fun": lambda c: rows @ c - np.eye(9)[0], "jac": lambda c: rows}
    found = scipy.optimize.minimize(
        lambda c: (c @ c, 2 * c),
        np.full(40, 1 / 40),
        jac=True,
        bounds=[(0, None)] * 40,
        constraints=constraint,
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    assert np.sum(weights**2) <= found.fun * (1 + 1e-6)
    np.testing.assert_allclose(weights, found.x, atol=1e-4)


def test_equal_weights_where_inputs_are_equally_spaced(precision):
    x, weights = Circle().quadrature(12)
    np.testing.assert_allclose(quadrature_weights(Circle(), x, 5), weights, rtol=1e-5)
    np.testing.assert_allclose(minimum_norm_weights(Circle(), x, 5), weights, rtol=1e-5)


@pytest.mark.parametrize("domain", [Sphere(3, 2.0), Torus(2), Hypercube(6)], ids=repr)
def test_other_domains(x64, domain):
    x = merge_coinciding(domain.sample(150, key=jax.random.key(0))).x
    weights = quadrature_weights(domain, x, 2)
    np.testing.assert_allclose(weights @ domain.harmonics(x, 2), domain.degrees(2) == 0, atol=1e-12)


@pytest.mark.slow
def test_a_ranking_is_the_domains_and_not_the_samples(x64):
    """On crowded nodes, weights 1 / n give modes that mix degrees; quadrature weights give those of regular nodes."""
    x = merge_coinciding(Circle().point(jnp.asarray(NONUNIFORM))).x
    kernel = nb.infinite_ntk(nb.nets.mlp(depth=2, b_std=0.1))
    plain = nb.rank_by_frequency(nb.spectrum(kernel, x, num_modes=9), Circle(), num_resamples=0)
    weights = quadrature_weights(Circle(), x, 40)
    kept = np.flatnonzero(weights > 0)
    spectrum = nb.spectrum(kernel, x[kept], weights[kept] / weights[kept].sum(), num_modes=9)
    energy = np.asarray(nb.frequency.harmonic_energy(spectrum, Circle(), 20))
    assert np.argmax(energy, 1).tolist() == [0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert float(energy.max(1).min()) > 0.99
    assert float(plain.purity[:9].min()) < 0.6
    even = spectrum_on_nodes(kernel, Circle(), 256, num_modes=9)
    np.testing.assert_allclose(spectrum.eigenvalues, even.eigenvalues, rtol=0.01)


@pytest.mark.parametrize("seed", range(3))
def test_density_weights_undo_a_density(seed):
    """E cos is 0.4 under the sample. Weights with an error of 1 / sqrt q give the circle's 0, within 3 errors."""
    x = crowded(1_000, seed)
    weights = np.asarray(density_weights(x, dimension=1))
    np.testing.assert_allclose(weights.sum(), 1, rtol=1e-5)
    assert float(jnp.mean(x[:, 0])) == pytest.approx(0.4, abs=0.07)
    assert weights @ np.asarray(x[:, 0]) == pytest.approx(0, abs=0.1)


@pytest.mark.slow
def test_merged_inputs_have_the_same_spectrum(x64):
    angles = jnp.array([0.1, 2.0, 0.1, 4.0, 5.0, 2.0, 0.1])
    merged = merge_coinciding(Circle().point(angles))
    assert merged.inverse.tolist() == [0, 1, 0, 2, 3, 1, 0]
    assert merged.first.tolist() == [0, 1, 3, 4]
    np.testing.assert_allclose(merged.weights, np.array([3, 2, 1, 1]) / 7)
    kernel = nb.infinite_ntk(nb.nets.mlp(depth=1))
    full = nb.spectrum(kernel, Circle().point(angles)).eigenvalues
    np.testing.assert_allclose(nb.spectrum(kernel, merged.x, merged.weights).eigenvalues, full[:4], rtol=1e-10)
    np.testing.assert_allclose(full[4:], 0, atol=1e-14)
    far = merge_coinciding(jnp.array([[0.0], [1.0], [1.05], [3.0]]), tolerance=0.1)
    assert far.inverse.tolist() == [0, 1, 1, 2]


def test_bad_input_is_named(unchecked):
    x, _ = Circle().quadrature(12)
    with pytest.raises(InputTypeError, match=r"domain with harmonics; got PointCloud. Use density_weights\(x\)"):
        quadrature_weights(PointCloud(), x, 3)
    with pytest.raises(
        InputError, match="inputs that differ; got 2 of 14 that coincide with others. Use merge_coinciding"
    ):
        quadrature_weights(Circle(), jnp.concatenate([x, x[:2]]), 3)
    half = Circle().point(jnp.linspace(0, 3, 50))
    with pytest.raises(InputError, match="exact to degree 4; got 50 inputs on which they do not exist"):
        quadrature_weights(Circle(), half, 4)
    with pytest.raises(InputError, match="exact to degree 6; got 12 inputs on which they leave a residual of"):
        minimum_norm_weights(Circle(), jnp.concatenate([x[:11], half[1:2]]), 6)
    with pytest.raises(InputTypeError, match="max_degree to be a whole number; got 1.5"):
        quadrature_weights(Circle(), x, 1.5)
    with pytest.raises(InputError, match=r"Expected inputs \(n, ...\), one row each; got shape \(3,\)"):
        density_weights(jnp.ones(3))
    with pytest.raises(InputError, match="more inputs than neighbors; got 3 for 5 neighbors"):
        density_weights(x[:3])
    with pytest.raises(InputError, match="at most 2 inputs in one place; got 3 with 2 others"):
        density_weights(jnp.concatenate([x, x[:1], x[:1]]), num_neighbors=2, dimension=1)
    with pytest.raises(InputError, match="a tolerance of zero or more; got -1"):
        merge_coinciding(x, -1.0)
