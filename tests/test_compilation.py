"""Compiled networks: the compiler options that they set, and the cases in which they cannot set them."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkbias import compiler
from ntkbias.compilation import compiled


@compiled
def network(w, x):
    return jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


@pytest.fixture
def values():
    return jax.random.normal(jax.random.key(0), (3, 3, 2, 4)), jax.random.normal(jax.random.key(1), (5, 6, 6, 2))


def test_a_compiled_function_gives_the_same_alone_and_inside_others(values):
    w, x = values
    expected = eqx.filter_jit(network.__wrapped__)(w, x)
    np.testing.assert_allclose(network(w, x), expected, atol=1e-5)
    np.testing.assert_allclose(jax.jit(network)(w, x), expected, atol=1e-5)
    np.testing.assert_allclose(jax.vmap(network, (None, 0))(w, x[:, None])[:, 0], expected, atol=1e-5)
    slope = jax.grad(lambda w: jnp.sum(network(w, x)))(w)
    np.testing.assert_allclose(slope, jax.grad(lambda w: jnp.sum(network.__wrapped__(w, x)))(w), atol=1e-4)


def test_an_error_of_the_function_itself_is_not_swallowed():
    @compiled
    def refuses(x):
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        refuses(jnp.ones(2))


def test_the_first_argument_is_kept_and_others_are_donated():
    add = compiled(lambda a, b: b + a, donate_rest=True)
    a, b = jnp.ones(1000), jnp.ones(1000)
    assert add(a, b)[0] == 2
    assert not a.is_deleted()
    assert b.is_deleted()


def test_flags_of_the_environment_are_left_alone(monkeypatch, values):
    compiler.options.cache_clear()
    with monkeypatch.context() as patch:
        patch.setenv("XLA_FLAGS", f"--{compiler.FUSIONS}=")
        assert compiler.options() == {}
    compiler.options.cache_clear()
    assert set(compiler.options()) <= {compiler.FUSIONS}
