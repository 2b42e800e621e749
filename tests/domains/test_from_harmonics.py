"""A domain made of the user's own functions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkbias as nb
from ntkbias.domains import Circle, FromHarmonics
from ntkbias.errors import InputError, InputTypeError

CIRCLE = Circle()


def waves(x):
    return CIRCLE.harmonics(x, 6)


FREQUENCIES = tuple(float(k) for k in CIRCLE.degrees(6))


@pytest.mark.slow
def test_the_circles_own_harmonics_give_the_circles_ranking():
    x, weights = CIRCLE.quadrature(24)
    spectrum = nb.spectrum(nb.infinite_ntk(nb.nets.mlp(depth=2, b_std=0.1)), x, weights=weights)
    own = nb.rank_by_frequency(spectrum, FromHarmonics(waves, FREQUENCIES, CIRCLE), num_modes=11)
    exact = nb.rank_by_frequency(spectrum, CIRCLE, num_modes=11)
    np.testing.assert_allclose(own.frequencies, exact.frequencies)
    np.testing.assert_allclose(own.energy, exact.energy[:, :6], atol=1e-5)


def test_functions_need_not_be_orthonormal_nor_in_order(x64):
    """Energies add up, and the part that two levels share belongs to the lower one."""
    x = jax.random.normal(jax.random.key(0), (60, 3))
    weights = jax.random.uniform(jax.random.key(1), (60,))
    weights /= weights.sum()

    def functions(x):
        return jnp.stack([x[:, 0] * x[:, 1], jnp.ones(len(x)), 3 + x[:, 0], x[:, 1]], 1)

    domain = FromHarmonics(functions, (2.5, 0.0, 1.0, 1.0))
    assert domain.degrees(2).tolist() == [0, 1, 1, 2]
    assert domain.levels(9).tolist() == [0, 1, 2]
    np.testing.assert_allclose(domain.frequency(domain.degrees(2)), [0, 1, 1, 2.5])
    values = functions(x) @ jnp.asarray(np.random.default_rng(0).normal(size=(4, 2)))
    energy = domain.energy(values, x, weights, 2)
    np.testing.assert_allclose(energy.sum(1), weights @ values**2, rtol=1e-12)
    np.testing.assert_allclose(energy[:, 0], (weights @ values) ** 2, rtol=1e-12)  # the constant comes first
    np.testing.assert_allclose(domain.energy(functions(x)[:, 1:3], x, weights, 2)[:, 2], 0, atol=1e-12)


def test_it_is_saved_without_its_functions(tmp_path):
    nb.save(tmp_path / "domain", FromHarmonics(waves, FREQUENCIES))
    loaded = nb.load(tmp_path / "domain")
    assert loaded.frequencies == FREQUENCIES
    with pytest.raises(InputError, match="a domain with its functions; got one from a file"):
        loaded.harmonics(CIRCLE.grid(20), 2)


def test_bad_input_is_named(unchecked):
    x = CIRCLE.grid(20)
    with pytest.raises(InputTypeError, match=r"a function harmonics\(x\) -> \(n, h\); got str"):
        FromHarmonics("waves", FREQUENCIES)
    with pytest.raises(InputError, match="a frequency of zero or more for each harmonic; got"):
        FromHarmonics(waves, (1.0, -1.0))
    with pytest.raises(
        InputError, match=r"harmonics\(x\) of shape \(20, 2\), one column per frequency; got \(20, 13\)"
    ):
        FromHarmonics(waves, (0.0, 1.0)).harmonics(x, 1)
    twice = FromHarmonics(lambda x: jnp.stack([x[:, 0], 2 * x[:, 0]], 1), (0.0, 1.0))
    with pytest.raises(InputError, match="independent on the 20 inputs; got 1 of 2 that are combinations of others"):
        twice.energy(x, x, jnp.full(20, 1 / 20), 1)
    with pytest.raises(InputError, match="a domain with a distribution of its own"):
        twice.sample(3, key=jax.random.key(0))
    with pytest.raises(InputError, match="a domain with nodes of its own"):
        twice.quadrature(3)
