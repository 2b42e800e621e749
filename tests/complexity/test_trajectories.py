"""Displacement exponents of walks with a known law; complexity of paths; norms."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

import ntkbias as nb
from ntkbias.complexity import (
    displacement_exponent,
    local_displacement_exponents,
    mean_squared_displacement,
    path_complexity,
    weight_norm,
    weight_norms,
)
from ntkbias.errors import InputError

NUM_STEPS, NUM_PARAMETERS = 4_000, 200
LAGS = np.array([1, 2, 4, 8, 16, 32, 64, 128, 256])


def brownian(seed=0):
    return np.cumsum(np.random.default_rng(seed).normal(size=(NUM_STEPS, NUM_PARAMETERS)), 0)


def ornstein_uhlenbeck(pull=0.2, seed=0):
    """A path of x <- (1 - pull) x + noise that starts from its stationary law."""
    noise = np.random.default_rng(seed).normal(size=(NUM_STEPS, NUM_PARAMETERS))
    x = noise[0] / np.sqrt(1 - (1 - pull) ** 2)
    path = [x]
    for step in noise[1:]:
        path.append((1 - pull) * path[-1] + step)
    return np.stack(path)


class TestDisplacement:
    def test_brownian_motion_has_exponent_one(self):
        """Each square has a relative standard error of sqrt(2 / 200) = 0.1; times span eight e-folds."""
        found = [displacement_exponent(brownian(seed)) for seed in range(5)]
        np.testing.assert_allclose(found, 1, atol=0.1)
        assert np.mean(found) == pytest.approx(1, abs=0.05)
        np.testing.assert_allclose(local_displacement_exponents(brownian(), LAGS), 1, atol=0.1)

    def test_a_confined_path_has_exponent_zero_at_long_lag(self):
        """MSD = 2 s^2 (1 - rho^lag) with rho = 0.8, exactly at all lags up to the error of the mean."""
        path = ornstein_uhlenbeck()
        expected = 2 * NUM_PARAMETERS * (1 - 0.8**LAGS) / (1 - 0.8**2)
        np.testing.assert_allclose(mean_squared_displacement(path, LAGS), expected, rtol=0.02)
        local = np.asarray(local_displacement_exponents(path, LAGS))
        assert local[0] > 0.7  # short lags still diffuse
        np.testing.assert_allclose(local[5:], 0, atol=0.02)
        assert displacement_exponent(path, first=100) == pytest.approx(0, abs=0.1)

    def test_a_straight_path_has_exponent_two(self):
        line = [{"a": jnp.full((2, 2), 0.5 * t), "b": jnp.asarray(1.0 - t)} for t in range(20)]
        assert displacement_exponent(line) == pytest.approx(2, abs=1e-6)
        np.testing.assert_allclose(local_displacement_exponents(line, np.array([1, 3, 9])), 2, atol=1e-6)

    def test_units_and_rotations_drop_out(self):
        path = brownian()[:300, :20]
        rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(20, 20)))[0]
        assert displacement_exponent(-3 * path @ rotation + 7) == pytest.approx(displacement_exponent(path), abs=1e-6)

    def test_is_the_mean_over_starts(self):
        path = brownian()[:10, :3]
        expected = np.mean([np.sum((path[t + 4] - path[t]) ** 2) for t in range(6)])
        np.testing.assert_allclose(mean_squared_displacement(path, np.array([4]))[0], expected, rtol=1e-6)


class TestPathComplexity:
    def test_of_a_linear_model_is_the_length_of_the_path(self, x64):
        """tr K / n is the mean of |x|^2, whatever the weights."""
        rng = np.random.default_rng(0)
        x, path = rng.normal(size=(6, 3)), [jnp.asarray(w) for w in rng.normal(size=(4, 3))]
        found = path_complexity(lambda w, x: x @ w, path, x)
        lengths = np.cumsum([np.linalg.norm(b - a) for a, b in itertools.pairwise(path)])
        np.testing.assert_allclose(found, lengths * np.sqrt(np.mean(np.sum(x**2, 1))), rtol=1e-12)

    def test_takes_the_kernel_before_each_step(self, x64):
        rng = np.random.default_rng(0)
        x = rng.normal(size=(5, 3))
        f = lambda p, x: jnp.tanh(x @ p[0]) @ p[1]  # noqa: E731
        path = [[jnp.asarray(rng.normal(size=s)) for s in ((3, 4), (4, 2))] for _ in range(3)]
        steps = [np.sqrt(sum(np.sum((b - a) ** 2) for a, b in zip(*path[i : i + 2], strict=True))) for i in range(2)]
        traces = [np.trace(nb.empirical_ntk(f, p, outputs="sum")(x)) / 5 for p in path[:2]]
        np.testing.assert_allclose(path_complexity(f, path, x), np.cumsum(steps * np.sqrt(traces)), rtol=1e-10)


def test_weight_norms():
    params = {"a": jnp.array([[3.0, 4.0]]), "b": [jnp.asarray(12), jnp.zeros(2)]}
    assert float(weight_norm(params)) == 13
    assert {name: float(norm) for name, norm in weight_norms(params).items()} == {
        "['a']": 5.0,
        "['b'][0]": 12.0,
        "['b'][1]": 0.0,
    }
    for scale in (1e-30, 1e30):  # float32 cannot hold the squares
        np.testing.assert_allclose(weight_norm([scale * jnp.ones(9), scale * jnp.ones(7)]), 4 * scale, rtol=1e-6)


@pytest.mark.usefixtures("unchecked")
def test_bad_input_is_named():
    path, still = brownian()[:30, :2], np.ones((30, 2))
    f = lambda w, x: x @ w  # noqa: E731
    cases = [
        (lambda: displacement_exponent(path[:1]), "Expected a path of two positions or more"),
        (lambda: displacement_exponent(path[:3]), "Expected a path of four states or more, the start and three"),
        (lambda: displacement_exponent(path, last=2), "Expected three times or more to fit, from 1 to 29; got first 1"),
        (lambda: displacement_exponent(path, first=0), "got first 0 and last 29"),
        (lambda: displacement_exponent(still), "Expected a path that moves"),
        (lambda: displacement_exponent(np.nan * path), "Expected finite numbers in the path"),
        (lambda: displacement_exponent("walk"), "Expected a path: a list of parameters at two steps or more; got str"),
        (
            lambda: displacement_exponent([{"a": 1.0}, {"b": 1.0}]),
            "Expected parameters of one structure along the path",
        ),
        (
            lambda: displacement_exponent([np.ones(2), np.ones(3)]),
            "Expected parameters of one structure along the path",
        ),
        (lambda: displacement_exponent([1.0, np.nan, 2.0, 3.0]), "Expected finite parameters along the path"),
        (lambda: mean_squared_displacement(path, np.array([30])), "Expected lags of at most 29 steps; got 30"),
        (lambda: mean_squared_displacement(path, np.array([0])), "lags to be at least 1"),
        (lambda: mean_squared_displacement(path, np.array([0.5])), "Expected lags (lags,) as whole numbers"),
        (lambda: local_displacement_exponents(path, np.array([2, 1])), "Expected two lags or more, ascending"),
        (lambda: path_complexity(f, [jnp.ones(2)], path), "Expected a path: a list of parameters at two steps or more"),
        (lambda: weight_norms({}), "Expected params to hold at least one array"),
        (lambda: weight_norm({"a": jnp.array([jnp.inf])}), "Expected finite numbers in params['a']"),
    ]
    for call, message in cases:
        with pytest.raises(InputError) as error:
            call()
        assert message in str(error.value)
