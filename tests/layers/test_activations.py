"""Dual activations: against quadrature, and against each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import assert_near

from ntkbias.layers import ACTIVATIONS, activation
from ntkbias.types import InputError

each_activation = pytest.mark.parametrize("name", ACTIVATIONS)
VARIANCES = [(1.0, 1.0), (0.3, 2.0), (1e-3, 5.0)]
COSINES = [-1.0, -0.9, -0.3, 0.0, 0.5, 0.99, 1.0]


def expectation(phi, covariance, variance1, variance2):
    """E[phi(u) phi(v)] by Gauss-Legendre rules that end where u or v is zero: phi may have a kink there."""
    nodes, weights = np.polynomial.legendre.leggauss(80)

    def rule(start, end):
        middle, half = (start + end) / 2, (end - start) / 2
        return middle[:, None] + half[:, None] * nodes, half[:, None] * weights

    def density(z):
        return np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)

    cosine = covariance / np.sqrt(variance1 * variance2)
    sine = np.sqrt(max(1 - cosine**2, 0.0))
    z1, w1 = (part.ravel() for part in rule(np.array([-9.0, 0.0]), np.array([0.0, 9.0])))
    kink = np.clip(-cosine * z1 / sine, -9, 9) if sine > 0 else 0 * z1
    total = 0.0
    for left, right in ((-9 + 0 * kink, kink), (kink, 9 + 0 * kink)):
        z2, w2 = rule(left, right)
        inner = np.sum(w2 * density(z2) * phi(np.sqrt(variance2) * (cosine * z1[:, None] + sine * z2)), 1)
        total += np.sum(w1 * density(z1) * phi(np.sqrt(variance1) * z1[:, None])[:, 0] * inner)
    return total


@each_activation
@pytest.mark.parametrize(("variance1", "variance2"), VARIANCES)
def test_dual_is_the_expectation(name, variance1, variance2, x64):
    phi = activation(name)
    value = jax.jit(lambda z: phi.apply((), z))
    slope = jax.jit(jax.grad(lambda z: jnp.sum(phi.apply((), z))))
    covariances = np.array(COSINES) * np.sqrt(variance1 * variance2)
    got = jax.jit(phi.dual)(jnp.asarray(covariances), jnp.asarray(variance1), jnp.asarray(variance2))
    for index, covariance in enumerate(covariances):
        for f, dual in zip((value, slope), got, strict=True):
            expected = expectation(lambda z: np.asarray(f(jnp.asarray(z))), covariance, variance1, variance2)  # noqa: B023
            np.testing.assert_allclose(dual[index], expected, rtol=1e-9, atol=1e-11)


@each_activation
def test_price_theorem(name, x64):
    """The derivative of E[phi phi] by the covariance is E[phi' phi']."""
    phi = activation(name)
    a, b = 0.7, 1.6
    covariance = jnp.array([-0.99, -0.5, 0.0, 0.4, 0.99]) * (a * b) ** 0.5
    by_covariance = jax.vmap(jax.grad(lambda c: phi.dual(c, jnp.array(a), jnp.array(b))[0]))(covariance)
    assert_near(by_covariance, phi.dual(covariance, jnp.array(a), jnp.array(b))[1], 1e-12)


@each_activation
def test_gain_keeps_small_signals(name, x64):
    """At vanishing variance a layer of critical gain has a derivative of mean square one."""
    phi = activation(name)
    small = jnp.array(1e-12)
    np.testing.assert_allclose(phi.gain**2 * phi.dual(small, small, small)[1], 1.0, rtol=1e-10)


@each_activation
def test_dual_is_symmetric(name):
    phi = activation(name)
    c, a, b = (jnp.array(z) for z in (0.4, 0.5, 2.0))
    for first, second in zip(phi.dual(c, a, b), phi.dual(c, b, a), strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-6)


@each_activation
def test_float32_at_the_edges(name):
    phi = activation(name)
    scale, cosine = np.meshgrid([1.0, 1e4, 1e8, 1e-8, 0.0], [-1.0, 1.0, 0.0])
    edges = [z.ravel().astype(np.float32) for z in (cosine * scale, scale, scale)]
    single = np.array(phi.dual(*map(jnp.asarray, edges)))
    with jax.enable_x64(True):
        double = np.array(phi.dual(*(jnp.asarray(z, jnp.float64) for z in edges)))
    np.testing.assert_allclose(single, double, rtol=1e-6, atol=1e-38)


@each_activation
def test_derivatives_are_finite_at_the_edges(name, precision):
    phi = activation(name)
    gradients = jax.jit(jax.vmap(jax.grad(lambda c, a, b: sum(phi.dual(c, a, b)), (0, 1, 2))))
    edges = jnp.array([(1, 1, 1), (-1, 1, 1), (0, 1, 1), (0, 0, 1), (0, 0, 0), (2, 1, 4), (1e-15, 1e-15, 1e-15)], float)
    for gradient in gradients(*edges.T):
        assert jnp.all(jnp.isfinite(gradient))


@pytest.mark.usefixtures("unchecked")
def test_unknown_name():
    with pytest.raises(InputError, match="Expected activation to be one of relu, erf; got 'tanh'"):
        activation("tanh")
