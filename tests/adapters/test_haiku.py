"""Models of haiku."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from laws import assert_adapted, in_float64

import ntkbias as nb
from ntkbias.errors import InputError, InputTypeError


def normal(*shape):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape))


def mlp(x, rate=0.0):
    h = jnp.tanh(hk.Linear(5)(x))
    return hk.Linear(2)(hk.dropout(hk.next_rng_key(), rate, h) if rate else h)


def cnn(x, is_training):
    h = hk.Conv2D(3, 3, stride=(2, 1))(x)
    h = hk.BatchNorm(True, True, 0.9)(h, is_training)
    return hk.Linear(2)(jax.nn.relu(h).mean((1, 2)))


def attention(tokens):
    h = hk.Embed(6, 4)(tokens)
    h = h + hk.MultiHeadAttention(2, 2, w_init=hk.initializers.VarianceScaling(1.0), model_size=4)(h, h, h)
    return jnp.tanh(h).mean(1)


def test_a_haiku_mlp(x64):
    net, x = hk.transform(mlp), normal(4, 3)
    params = in_float64(jax.jit(net.init)(jax.random.key(0), x))
    f, same = nb.adapters.haiku(net, params)
    assert same is params
    assert_adapted(f, params, x, lambda x: net.apply(params, None, x))
    assert f == nb.adapters.haiku(net, {})[0]
    assert f != nb.adapters.haiku(net, params, rate=0.5)[0]


def test_a_haiku_cnn_with_batch_norm(x64):
    net, x = hk.transform_with_state(cnn), normal(4, 4, 3, 2)
    params, state = in_float64(jax.jit(net.init, static_argnums=2)(jax.random.key(0), x, True))
    _, state = jax.jit(net.apply, static_argnums=4)(params, state, None, 3 * x + 1, True)
    f, params = nb.adapters.haiku(net, params, state, is_training=False)
    assert_adapted(f, params, x, lambda x: net.apply(params, state, None, x, False)[0])


@pytest.mark.slow
def test_haiku_attention_on_tokens(x64):
    net, tokens = hk.transform(attention), jnp.asarray([[0, 1, 2], [3, 4, 5]])
    params = in_float64(jax.jit(net.init)(jax.random.key(0), tokens))
    assert_adapted(*nb.adapters.haiku(net, params), tokens, lambda tokens: net.apply(params, None, tokens))


def test_haiku_without_random_numbers():
    x = normal(4, 3)
    for net in (hk.transform(mlp), hk.transform_with_state(mlp)):
        made = jax.jit(net.init)(jax.random.key(0), x)
        made = made if isinstance(made, tuple) else (made,)
        f, params = nb.adapters.haiku(net, *made)
        g, _ = nb.adapters.haiku(hk.without_apply_rng(net), *made)
        np.testing.assert_array_equal(f(params, x), g(params, x))
    net = hk.without_apply_rng(hk.transform(lambda x, rng=None: hk.Linear(2)(x)))  # an argument of the same name
    params = net.init(jax.random.key(0), x)
    np.testing.assert_array_equal(nb.adapters.haiku(net, params)[0](params, x), net.apply(params, x))


@pytest.mark.usefixtures("unchecked")
class TestBadHaiku:
    @pytest.mark.parametrize(("net", "got"), [(mlp, "function"), (hk.Linear, "the class Linear"), (None, "NoneType")])
    def test_transformed(self, net, got):
        with pytest.raises(
            InputTypeError,
            match=rf"transformed to be what hk.transform returns; got {got}.*Transform the function first",
        ):
            nb.adapters.haiku(net, {})

    def test_params_and_state(self):
        x = normal(4, 4, 3, 2)
        net = hk.transform_with_state(cnn)
        params, state = jax.jit(net.init, static_argnums=2)(jax.random.key(0), x, True)
        with pytest.raises(
            InputTypeError, match=r"Expected params to be a mapping of modules; got tuple.*params, state ="
        ):
            nb.adapters.haiku(net, (params, state))
        with pytest.raises(
            InputError, match=r"Expected state, since transformed came from .*; got none. Pass what init"
        ):
            nb.adapters.haiku(net, params)
        with pytest.raises(InputError, match=r"Expected no state, since transformed came from hk.transform; got dict"):
            nb.adapters.haiku(hk.transform(mlp), {}, state)

    def test_batch_norm_in_training_mode(self):
        net, x = hk.transform_with_state(cnn), normal(4, 4, 3, 2)
        f, params = nb.adapters.haiku(
            net, *jax.jit(net.init, static_argnums=2)(jax.random.key(0), x, True), is_training=True
        )
        with pytest.raises(
            InputError, match=r"to treat each example alone; .* Use a model's inference mode \(BatchNorm"
        ):
            nb.empirical_ntk(f, params)(x)

    def test_dropout_in_training_mode(self):
        net, x = hk.transform(mlp), normal(4, 3)
        f, params = nb.adapters.haiku(net, jax.jit(net.init)(jax.random.key(0), x), rate=0.5)
        with pytest.raises(InputError, match=r"to accept x1 .* got: You must pass a non-None PRNGKey"):
            nb.empirical_ntk(f, params)(x)
