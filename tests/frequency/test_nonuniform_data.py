"""Frequency bias on nonuniform data, and losses that tune it (Yu, Yang and Townsend 2022, arXiv 2205.14300).

Also the densities of Basri et al. 2020 (arXiv 2003.04560).
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import ntkbias as nb
from ntkbias.domains import Circle, merge_coinciding, quadrature_weights
from ntkbias.losses import sobolev
from ntkbias.studies import run_study

CIRCLE = Circle()
ANGLES = np.concatenate(
    [2 * np.pi * np.arange(1, 101) / 100, np.linspace(0, 0.3 * np.pi, 40), np.linspace(1.4 * np.pi, 1.8 * np.pi, 1_000)]
)
EVEN = 2 * np.pi * np.arange(100) / 100
DEGREES = np.arange(1, 10)


def two_layers(u):
    """H(u): a trained first layer of ReLU with bias from zero, outer signs fixed; half the NTK."""
    return (u + 1) * (np.pi - np.arccos(np.clip(u, -1, 1))) / (4 * np.pi)


def nodes():
    x = merge_coinciding(CIRCLE.point(jnp.asarray(ANGLES))).x
    return x, np.asarray(CIRCLE.angle(x))


def waves(angles):
    return sum(np.sin(degree * angles) for degree in DEGREES)


def frequency_losses(values):
    """|N^(l) - g^(l)| of values on 100 even points, g the sum of sines: one where nothing is learned."""
    return np.abs(2 * np.fft.fft(values)[DEGREES] / 100 + 1j)


def order(values):
    return scipy.stats.spearmanr(DEGREES, frequency_losses(values)).statistic


def stable_rate(gram, matrix):
    """1 / the largest eigenvalue of K P, by power iteration: half of where descent would diverge."""
    vector = np.random.default_rng(0).normal(size=len(gram))
    for _ in range(50):
        vector = gram @ (matrix @ vector)
        size = np.linalg.norm(vector)
        vector /= size
    return 1 / size


def descent(matrix, num_steps):
    """The network's values on the even points after gradient descent on the kernel H with this loss matrix P."""
    x, angles = nodes()
    gram = two_layers(np.asarray(x @ x.T))
    rate = stable_rate(gram, matrix)
    residual, total = waves(angles), np.zeros(len(x))
    for _ in range(num_steps):
        force = rate * matrix @ residual
        residual, total = residual - gram @ force, total + force
    return two_layers(np.cos(EVEN[:, None] - angles)) @ total


@pytest.mark.slow
def test_steps_to_learn_a_wave_grow_as_its_frequency_squared(x64):
    """To a loss of 1e-3, with weights that sum to 2 pi as in the paper: slope 2.05. With 1 / n no order is left."""
    x, angles = nodes()
    gram = two_layers(np.asarray(x @ x.T))
    degrees = np.arange(3, 11)

    def steps(weights):
        roots = np.sqrt(weights)
        eigenvalues, vectors = np.linalg.eigh(roots[:, None] * gram * roots)
        counts = []
        for degree in degrees:
            power = (vectors.T @ (roots * np.sin(degree * angles))) ** 2
            low, high = 0, 10**7
            while high - low > 1:
                middle = (low + high) // 2
                loss = np.pi * power @ np.abs(1 - eigenvalues / eigenvalues[-1]) ** (2 * middle)
                low, high = (low, middle) if loss < 1e-3 else (middle, high)
            counts.append(high)
        return np.array(counts)

    fair = steps(np.asarray(quadrature_weights(CIRCLE, x, 40)))
    slope = np.polyfit(np.log(degrees), np.log(fair), 1)[0]
    assert slope == pytest.approx(2, abs=0.1), fair
    plain = steps(np.full(len(x), 1 / len(x)))
    assert plain[0] > 10 * fair[0]  # what is to be learned where inputs are rare is learned late


@pytest.mark.parametrize(("order_s", "num_steps"), [(-1, 100), (0, 30)])
@pytest.mark.slow
def test_low_frequencies_first_up_to_order_zero(x64, order_s, num_steps):
    x, _ = nodes()
    values = descent(np.asarray(sobolev(CIRCLE, x, order_s, max_degree=20).matrix), num_steps)
    assert order(values) == pytest.approx(1)


@pytest.mark.parametrize(("order_s", "num_steps"), [(2.5, 30), (3, 100)])
@pytest.mark.slow
def test_high_frequencies_first_from_order_two_and_a_half(x64, order_s, num_steps):
    x, _ = nodes()
    values = descent(np.asarray(sobolev(CIRCLE, x, order_s, max_degree=20).matrix), num_steps)
    assert order(values) < -0.9


@pytest.mark.slow
def test_at_order_one_the_rates_are_nearly_flat_and_plain_means_have_no_order(x64):
    """From l = 3: (1 + l)^2 / l^2 falls from 1.8 to 1.2, where order 0 spans a factor of nine."""
    x, _ = nodes()
    weights = quadrature_weights(CIRCLE, x, 40)
    flat = frequency_losses(descent(np.asarray(sobolev(CIRCLE, x, 1, max_degree=20, weights=weights).matrix), 10))
    steep = frequency_losses(descent(np.asarray(sobolev(CIRCLE, x, 0, max_degree=20, weights=weights).matrix), 30))
    assert np.ptp(np.log(flat[2:])) < 1.0
    assert np.ptp(flat[2:]) < 0.15
    assert np.ptp(steep[2:]) > 0.5
    plain = [order(descent(np.eye(len(x)) / len(x), count)) for count in (10, 30, 100)]
    assert max(plain) < 0.8


@pytest.mark.slow
def test_a_finite_network_shows_the_same_order():
    """Width 4,096 with an output scale of 30: lazy. At scale 1 it moves too far to reach the high frequencies.

    There order 2.5 begins at a correlation of -0.9 and loses it within a hundred steps: the kernel has changed.
    """
    x, angles = nodes()
    targets, even = jnp.asarray(waves(angles), x.dtype), CIRCLE.point(jnp.asarray(EVEN, x.dtype))
    weights = quadrature_weights(CIRCLE, x, 40)
    net, scale = nb.nets.mlp(width=4_096, depth=1, b_std=1.0), 30.0
    start = net.init(jax.random.key(0), (2,))
    gram = np.asarray(nb.infinite_ntk(net)(x), float)

    def output(params, x):
        return scale * (net.apply(params, x) - net.apply(start, x))[:, 0]

    def trained(loss, num_steps):
        rate = stable_rate(gram, np.asarray(loss.matrix, float)) / scale**2
        gradient = jax.jit(jax.grad(lambda params: loss(output(params, x), targets)))
        params = start
        for _ in range(num_steps):
            params = jax.tree.map(lambda p, g: p - rate * g, params, gradient(params))
        return np.asarray(output(params, even))

    assert order(trained(sobolev(CIRCLE, x, 0, max_degree=10, weights=weights), 30)) > 0.95
    assert order(trained(sobolev(CIRCLE, x, 2.5, max_degree=10, weights=weights), 20)) < -0.95


@pytest.mark.slow
def test_uneven_densities():
    """Basri et al. 2020: local frequencies and eigenvalues."""
    result = run_study("circle_densities")
    assert result.holds == "yes", result
