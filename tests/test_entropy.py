"""The effective rank of shares: one function serves NumPy and JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkbias.entropy import entropic_rank

VALUES = np.array([3.0, 2.0, 0.5, 0.0, -1e-12])


@pytest.mark.parametrize("count", [1, 2, 7])
def test_the_rank_of_equal_values_is_their_number(count):
    np.testing.assert_allclose(entropic_rank(np.full(count, 0.3)), count, rtol=1e-12)
    np.testing.assert_allclose(entropic_rank(np.append(np.full(count, 5e-9), np.zeros(3))), count, rtol=1e-12)


def test_numpy_and_jax_agree_and_keep_their_types(x64):
    shares = VALUES[:3] / VALUES[:3].sum()
    expected = np.exp(-np.sum(shares * np.log(shares)))
    assert isinstance(entropic_rank(VALUES), np.floating)
    for found in (entropic_rank(VALUES), entropic_rank(jnp.asarray(VALUES)), jax.jit(entropic_rank)(VALUES)):
        np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_it_has_finite_derivatives_at_zero():
    assert np.isfinite(jax.grad(entropic_rank)(jnp.asarray(VALUES))).all()
