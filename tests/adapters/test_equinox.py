"""Models of equinox."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from laws import assert_adapted, in_float64, same

import ntkbias as nb
from ntkbias.errors import InputError, InputTypeError


def normal(*shape):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape))


class Mlp(eqx.Module):
    hidden: eqx.nn.Linear
    dropout: eqx.nn.Dropout
    out: eqx.nn.Linear
    shift: jax.Array
    steps: jax.Array  # a counter, not a parameter

    def __init__(self, key):
        keys = jax.random.split(key)
        self.hidden, self.out = eqx.nn.Linear(3, 5, key=keys[0]), eqx.nn.Linear(5, 2, key=keys[1])
        self.dropout, self.shift, self.steps = eqx.nn.Dropout(0.5), jnp.array(0.1), jnp.array(3)

    def __call__(self, x, key):
        return self.out(self.dropout(self.features(x), key=key)) + self.shift * self.steps

    def features(self, x, scale=1.0):
        return scale * jnp.tanh(self.hidden(x))


class Cnn(eqx.Module):
    conv: eqx.nn.Conv2d
    norm: eqx.nn.BatchNorm
    out: eqx.nn.Linear

    def __init__(self, key):
        keys = jax.random.split(key)
        self.conv = eqx.nn.Conv2d(2, 3, 3, padding=1, key=keys[0])
        self.norm = eqx.nn.BatchNorm(3, "batch", mode="ema")
        self.out = eqx.nn.Linear(3, 2, key=keys[1])

    def __call__(self, x, state):
        h, state = self.norm(self.conv(x), state)
        return self.out(jax.nn.relu(h).mean((1, 2))), state


class Tied(eqx.Module):
    shared: eqx.nn.Shared

    def __init__(self, key):
        embedding, out = eqx.nn.Embedding(5, 3, key=key), eqx.nn.Linear(3, 5, use_bias=False, key=key)
        where, get = (lambda pair: pair[1].weight), (lambda pair: pair[0].weight)
        self.shared = eqx.nn.Shared((embedding, out), where, get)

    def __call__(self, tokens):
        embedding, out = self.shared()
        return out(jnp.tanh(jax.vmap(embedding)(tokens).sum(0)))


@pytest.mark.slow
def test_an_equinox_mlp_with_dropout_and_a_key(x64):
    model, x = in_float64(Mlp(jax.random.key(0))), normal(4, 3)
    f, params = nb.adapters.equinox(model)
    assert not model.dropout.inference
    assert len(jax.tree.leaves(params)) == 5  # without the counter
    inference = eqx.nn.inference_mode(model)
    assert_adapted(f, params, x, jax.vmap(lambda x: inference(x, key=None)))


@pytest.mark.slow
def test_an_equinox_cnn_with_batch_norm(x64):
    (model, state), x = eqx.nn.make_with_state(Cnn)(jax.random.key(0)), normal(4, 2, 3, 4)
    model = in_float64(model)
    train = jax.jit(jax.vmap(model, axis_name="batch", in_axes=(0, None), out_axes=(0, None)))
    _, state = train(3 * x + 1, state)
    before = jax.tree.flatten((model, state))
    f, params = nb.adapters.equinox(model, state)
    inference = eqx.nn.inference_mode(model)
    assert_adapted(f, params, x, jax.vmap(lambda x: inference(x, state)[0]))
    assert same(jax.tree.flatten((model, state))[0], before[0])
    _, other = train(x, state)
    assert f == nb.adapters.equinox(model, state)[0]
    assert f != nb.adapters.equinox(model, other)[0]


def test_an_equinox_model_with_tied_weights(x64):
    model, tokens = Tied(jax.random.key(0)), jnp.asarray([[0, 1, 2], [3, 4, 3]])
    f, params = nb.adapters.equinox(model)
    assert len(jax.tree.leaves(params)) == 1
    assert_adapted(f, params, tokens, jax.vmap(model))


def test_parameters_of_equinox_go_back_into_the_model():
    model, x = eqx.nn.MLP(3, 2, 4, 1, key=jax.random.key(0)), normal(4, 3)
    f, params = nb.adapters.equinox(model)
    trained = jax.tree.map(lambda leaf: 2 * leaf, params)
    np.testing.assert_allclose(f(trained, x), jax.vmap(eqx.combine(trained, model))(x), rtol=1e-6)
    same_program, filtered = nb.adapters.equinox(eqx.combine(trained, model))
    assert same_program == f
    assert same(filtered, eqx.filter(eqx.combine(trained, model), eqx.is_inexact_array))


def test_filter_spec_freezes_the_other_leaves_of_equinox():
    model, x = eqx.nn.MLP(3, 2, 4, 1, key=jax.random.key(0)), normal(4, 3)
    spec = jax.tree.map(lambda _: False, model)
    spec = eqx.tree_at(lambda tree: tree.layers[1].weight, spec, True)
    f, params = nb.adapters.equinox(model, filter_spec=spec)
    assert [leaf.shape for leaf in jax.tree.leaves(params)] == [(2, 4)]
    part = nb.empirical_ntk_by_layer(*nb.adapters.equinox(model))[".layers[1].weight"]
    np.testing.assert_allclose(nb.empirical_ntk(f, params)(x), part(x), rtol=1e-5)


def test_options_and_methods_of_an_equinox_module():
    model, x = Mlp(jax.random.key(0)), normal(4, 3)
    expected = jax.vmap(model.features)(x)
    for options in (
        {"method": "features"},
        {"method": lambda model, x: model.features(x)},
        {"method": lambda model, x, key: model.features(x)},
        {"method": eqx.filter_jit(Mlp.features)},
    ):
        f, params = nb.adapters.equinox(model, **options)
        np.testing.assert_allclose(f(params, x), expected, rtol=1e-6)
    f, params = nb.adapters.equinox(model, method="features", scale=2.0)
    np.testing.assert_allclose(f(params, x), 2 * expected, rtol=1e-6)


@pytest.mark.usefixtures("unchecked")
class TestBadEquinox:
    @pytest.mark.parametrize(
        ("model", "got"), [(eqx.nn.MLP, "the class MLP, not an instance of it"), (None, "NoneType"), ({}, "dict")]
    )
    def test_model(self, model, got):
        with pytest.raises(
            InputTypeError, match=rf"Expected model to be an equinox.Module; got {got}. Make a model by its class"
        ):
            nb.adapters.equinox(model)

    def test_method(self):
        with pytest.raises(InputError, match=r"Expected MLP to have the method features; it has none. Choose what to"):
            nb.adapters.equinox(eqx.nn.MLP(3, 2, 4, 1, key=jax.random.key(0)), method="features")

    def test_several_outputs(self):
        model, state = eqx.nn.make_with_state(Cnn)(jax.random.key(0))
        both = lambda model, x: (x, model(x, state))  # noqa: E731
        f, params = nb.adapters.equinox(model, method=both)
        with pytest.raises(InputError, match=r"Expected the model to return one array; got tuple. Choose one"):
            nb.empirical_ntk(f, params)(normal(3, 2, 3, 4))

    def test_a_missing_state(self):
        model, _ = eqx.nn.make_with_state(Cnn)(jax.random.key(0))
        with pytest.raises(InputError, match=r"to accept x1 .* missing 1 required positional argument: 'state'"):
            nb.empirical_ntk(*nb.adapters.equinox(model))(normal(3, 2, 3, 4))

    def test_no_parameters(self):
        with pytest.raises(InputError, match="Expected params to hold at least one array; got an empty pytree"):
            nb.empirical_ntk(*nb.adapters.equinox(eqx.nn.Lambda(jnp.tanh)))
