"""Tail indices are recovered from samples with a known index."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from ntkbias.complexity import gradient_noise, hill_tail_index, kesten_tail_index, loss_gradient, stable_tail_index
from ntkbias.errors import InputError


def stable(alpha, size, seed=0):
    return scipy.stats.levy_stable.rvs(alpha, 0, size=size, random_state=seed)


class TestHill:
    @pytest.mark.parametrize("alpha", [0.8, 1.5, 3.0])
    def test_recovers_a_power_law(self, alpha):
        found = [hill_tail_index(np.random.default_rng(seed).pareto(alpha, 20_000) + 1) for seed in range(20)]
        assert sum(alpha in interval for interval in found) >= 17  # of 20 at 95 %: fewer have probability 0.003
        # The mean of twenty has a twentieth of the variance alpha^2 / 400 of one. Four standard errors are allowed.
        assert np.mean([i.value for i in found]) == pytest.approx(alpha, abs=4 * alpha / np.sqrt(20 * 400))

    def test_scale_drops_out_and_powers_divide(self):
        x = np.random.default_rng(0).pareto(2.0, 1_000) + 1
        plain = hill_tail_index(x).value
        assert hill_tail_index(-1e5 * x).value == pytest.approx(plain, rel=1e-5)
        assert hill_tail_index(x**2).value == pytest.approx(plain / 2, rel=1e-5)


class TestKesten:
    def test_root_of_a_lognormal_is_known(self):
        """If log A is normal with mean -m and variance s^2, E A^alpha = 1 at alpha = 2 m / s^2."""
        found = [kesten_tail_index(np.exp(np.random.default_rng(s).normal(-0.3, 0.6, 50_000))) for s in range(20)]
        assert sum(2 * 0.3 / 0.36 in interval for interval in found) >= 17

    def test_root_of_two_values_is_known(self):
        """A = 2 with probability 1/3 and 1/2 otherwise: 2^a + 2 / 2^a = 3 at 2^a = 2."""
        assert kesten_tail_index(np.array([2.0, 0.5, -0.5])).value == pytest.approx(1.0, abs=1e-9)

    def test_agrees_with_the_tail_of_the_iterates_in_one_dimension(self):
        """Gradient descent on one weight of a linear regression, in batches of one: A = 1 - h a^2. Agrees to 0.3."""
        for seed in range(3):
            rng = np.random.default_rng(seed)
            rate, num_chains, num_steps = 0.9, 20_000, 300
            w = np.zeros(num_chains)
            for _ in range(num_steps):
                a, noise = rng.normal(size=(2, num_chains))
                w = w - rate * a * (a * w - noise)
            predicted = kesten_tail_index(1 - rate * rng.normal(size=400_000) ** 2)
            assert hill_tail_index(w, tail=0.01).value == pytest.approx(predicted.value, abs=0.3)

    def test_a_larger_rate_has_a_heavier_tail(self):
        a = np.random.default_rng(0).normal(size=100_000) ** 2
        indices = [kesten_tail_index(1 - rate * a).value for rate in (0.6, 0.8, 1.0, 1.2)]
        assert np.all(np.diff(indices) < 0)


class TestStable:
    @pytest.mark.parametrize("alpha", [1.2, 1.5, 1.8, 2.0])
    def test_recovers_the_index(self, alpha):
        """With 10^4 blocks of 10, 1 / alpha has a standard error of 0.006; alpha has 0.01 (at 1.2) to 0.02 (at 2)."""
        found = stable_tail_index(stable(alpha, 100_000), block=10)
        assert found.value == pytest.approx(alpha, abs=0.05)
        assert found.high - found.low < 0.1

    @pytest.mark.slow
    def test_intervals_cover(self):
        found = [stable_tail_index(stable(1.5, 10_000, seed)) for seed in range(100)]
        assert 0.88 <= np.mean([1.5 in interval for interval in found]) <= 1.0

    def test_scale_drops_out_and_columns_are_averaged(self):
        x = stable(1.5, (4_000, 3))
        plain = stable_tail_index(x)
        assert stable_tail_index(x * [1.0, 1e-6, -30.0]).value == pytest.approx(plain.value, rel=1e-5)
        with_zeros = np.concatenate([x, np.zeros((4_000, 1))], 1)
        assert stable_tail_index(with_zeros).value == pytest.approx(plain.value, rel=1e-6)
        mean = np.mean([1 / stable_tail_index(x[:, i]).value for i in range(3)])
        assert 1 / plain.value == pytest.approx(mean, rel=1e-5)

    def test_light_tails_tend_to_two(self):
        x = np.random.default_rng(0).uniform(-1, 1, 200_000)
        assert stable_tail_index(x, block=400).value == pytest.approx(2, abs=0.3)


class TestGradientNoise:
    def test_is_the_minibatch_s_less_the_whole(self, x64):
        x, y = jax.random.normal(jax.random.key(0), (6, 2), float), jnp.arange(6.0)
        w = jnp.array([0.5, -1.0])
        linear = lambda w, x: x @ w  # noqa: E731
        noise = np.asarray(gradient_noise(linear, w, x, y, batch_size=5, num_draws=40, key=jax.random.key(1)))
        full = np.asarray(loss_gradient(linear, w, x, y))
        each = np.asarray([loss_gradient(linear, w, x[i : i + 1], y[i : i + 1]) for i in range(6)])
        possible = np.stack([(each.sum(0) - left) / 5 for left in each]) - full
        distances = np.abs(noise[:, None] - possible).max(-1)
        assert distances.min(1).max() < 1e-12
        assert len(np.unique(distances.argmin(1))) == 6

    @pytest.mark.slow
    def test_gaussian_noise_has_index_two(self):
        """The mean of 64 bounded gradients is nearly Gaussian."""
        x = np.random.default_rng(0).uniform(-1, 1, (500, 3))
        f = lambda w, x: jnp.tanh(x @ w)  # noqa: E731
        noise = gradient_noise(f, jnp.ones(3), x, jnp.zeros(500), batch_size=64, num_draws=300, key=jax.random.key(1))
        assert 2.0 in stable_tail_index(noise, block=10)


@pytest.mark.usefixtures("unchecked")
def test_bad_input_is_named():
    x = np.random.default_rng(0).normal(size=100)
    linear, w, points = (lambda w, x: x @ w), jnp.ones(2), jnp.ones((6, 2))
    draw = lambda **options: gradient_noise(  # noqa: E731
        linear, w, points, jnp.ones(6), **{"batch_size": 2, "num_draws": 3, "key": jax.random.key(0), **options}
    )
    cases = [
        (lambda: hill_tail_index(x[:10]), "Expected twenty samples or more for a tail index; got 10"),
        (lambda: hill_tail_index(x, tail=0.7), "Expected tail to be a share of the samples"),
        (lambda: hill_tail_index(np.ones(50)), "Expected samples whose tail has several values above zero"),
        (lambda: hill_tail_index(np.inf * x), "Expected finite numbers in samples"),
        (lambda: kesten_tail_index(np.full(5, 2.0)), "Expected multipliers A with mean log |A| below zero; got 0.693"),
        (lambda: kesten_tail_index(np.full(5, 0.5)), "Expected some multipliers above one in magnitude; got none"),
        (lambda: kesten_tail_index(np.array([1 + 1e-6, 0.1])), "Expected a tail index below 1000; got none"),
        (lambda: stable_tail_index(x[:3]), "Expected samples to have at least 4 rows"),
        (
            lambda: stable_tail_index(x, block=80),
            "Expected two blocks or more of at least two samples each; got 1 of 80",
        ),
        (lambda: stable_tail_index(0 * x), "Expected samples that are not zero"),
        (lambda: draw(batch_size=6), "Expected batch_size below the 6 inputs; got 6"),
        (lambda: draw(num_draws=0), "num_draws to be at least 1"),
        (lambda: draw(key=0), "Expected a key of jax.random"),
    ]
    for call, message in cases:
        with pytest.raises(InputError) as error:
            call()
        assert message in str(error.value)
