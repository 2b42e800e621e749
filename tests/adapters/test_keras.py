"""Models of Keras 3, on its JAX backend."""

import os

import jax.numpy as jnp
import numpy as np
import pytest
from laws import assert_adapted, same

import ntkbias as nb
from ntkbias.errors import InputError, InputTypeError

os.environ.setdefault("KERAS_BACKEND", "jax")
keras = pytest.importorskip("keras", reason="keras is not installed: pip install '.[models]'")
layers = keras.layers


@pytest.fixture
def wide(x64):
    """Keras builds its models in float64, too."""
    keras.config.set_dtype_policy("float64")
    keras.config.set_floatx("float64")  # the type that Keras gives to inputs
    yield
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")


def normal(*shape):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape))


def built(*stack):
    return keras.Sequential([keras.Input(stack[0]), *stack[1:]])


class Attention(keras.Model):
    """A model whose `call` has no argument `training`."""

    def __init__(self):
        super().__init__()
        self.embedding, self.attention = layers.Embedding(6, 4), layers.MultiHeadAttention(2, 3, dropout=0.5)
        self.dropout, self.out = layers.Dropout(0.5), layers.Dense(2)

    def call(self, tokens):
        h = self.embedding(tokens)
        return self.out(self.dropout(keras.ops.mean(h + self.attention(h, h), 1)))


def own(model):
    """The library's own call at inference, with its own variables."""
    return lambda x: model(x, training=False)


def test_a_keras_mlp(wide):
    model, x = built((3,), layers.Dense(5, "sigmoid"), layers.Dropout(0.5), layers.Dense(2)), normal(4, 3)
    f, params = nb.adapters.keras(model)
    assert_adapted(f, params, x, own(model))
    assert [path.rpartition("/")[2] for path in params] == ["kernel", "bias"] * 2
    assert f == nb.adapters.keras(model)[0]
    assert f != nb.adapters.keras(keras.models.clone_model(model))[0]


def test_a_keras_cnn_with_batch_norm(wide):
    stack = layers.Conv2D(3, 2, (2, 1)), layers.BatchNormalization(momentum=0.5), layers.ReLU(), layers.Flatten()
    model, x = built((4, 3, 2), *stack, layers.Dense(2)), normal(4, 4, 3, 2)
    before, _ = nb.adapters.keras(model)
    model(3 * x + 1, training=True)  # moves the stored statistics
    f, params = nb.adapters.keras(model)
    assert f != before
    assert_adapted(f, params, x, own(model))
    f, params = nb.adapters.keras(model, training=True)
    with pytest.raises(InputError, match=r"to treat each example alone; .* inference mode \(BatchNorm"):
        nb.empirical_ntk(f, params)(x)


@pytest.mark.parametrize("name", ["lstm", "attention", "shared layer"])
def test_other_keras_models(name, wide):
    tokens = jnp.asarray([[0, 1, 2], [3, 4, 5]])
    inputs, shared = keras.Input((3,)), layers.Dense(3, "tanh")
    model, x = {
        "lstm": lambda: (built((3,), layers.Embedding(6, 4), layers.LSTM(3), layers.Dense(2)), tokens),
        "attention": lambda: (Attention(), tokens),
        "shared layer": lambda: (keras.Model(inputs, shared(shared(inputs))), normal(3, 3)),
    }[name]()
    model(x)
    f, params = nb.adapters.keras(model)
    assert len(params) == len(model.trainable_variables)
    assert_adapted(f, params, x, lambda x: model(x))


def test_what_is_frozen_is_fixed_and_the_model_is_left_alone():
    model, x = built((3,), layers.Dense(4, "relu"), layers.Dense(2)), normal(4, 3)
    model.layers[0].trainable = False
    values = [variable.value for variable in model.variables]
    f, params = nb.adapters.keras(model)
    assert list(params) == [variable.path for variable in model.layers[1].trainable_variables]
    nb.empirical_ntk(f, params)(x)
    assert same(values, [variable.value for variable in model.variables])
    trained = {path: 2.0 * value for path, value in params.items()}
    before = f(params, x)
    for variable in model.trainable_variables:
        variable.assign(2.0 * variable.value)
    np.testing.assert_array_equal(f(trained, x), model(x))
    np.testing.assert_array_equal(f(params, x), before)
    assert same({v.path: v.value for v in model.trainable_variables}, nb.adapters.keras(model)[1])
    model.layers[1].trainable = False
    with pytest.raises(
        nb.InputError, match="the model's 2 trainable variables, as when it was adapted; got 0. Adapt it"
    ):
        nb.empirical_ntk(f, params)(jnp.ones((2, 3)))


def test_variables_of_one_path_are_told_apart():
    class Twins(keras.Model):
        def __init__(self):
            super().__init__(name="twins")
            self.pair = [layers.Dense(2, use_bias=False, name="dense") for _ in range(2)]

        def call(self, x):
            return self.pair[1](self.pair[0](x))

    model, x = Twins(), normal(4, 3)
    model(x)
    f, params = nb.adapters.keras(model)
    assert list(params) == ["twins/dense/kernel", "twins/dense/kernel:1"]
    np.testing.assert_array_equal(f(params, x), model(x))


@pytest.mark.usefixtures("unchecked")
class TestBadKeras:
    def test_another_backend(self, monkeypatch):
        model = built((3,), layers.Dense(2))
        monkeypatch.setattr(keras.backend, "backend", lambda: "tensorflow")
        with pytest.raises(InputError, match="Expected Keras on its JAX backend; got 'tensorflow'. Set KERAS_BACKEND"):
            nb.adapters.keras(model)

    @pytest.mark.parametrize("model", [keras.Sequential([layers.Dense(2)]), Attention()], ids=["sequential", "own"])
    def test_a_model_without_variables_yet(self, model):
        with pytest.raises(
            InputError, match=r"Expected a model that is built, .*, which is not built. Call it on a batch"
        ):
            nb.adapters.keras(model)

    def test_no_model(self):
        with pytest.raises(InputTypeError, match=r"Expected model to be a keras.Model; got function.*tf.keras"):
            nb.adapters.keras(lambda x: x)
        with pytest.raises(InputTypeError, match="got the class Sequential, not an instance of it"):
            nb.adapters.keras(keras.Sequential)

    def test_nothing_trainable(self):
        model = built((3,), layers.Dense(2))
        model.trainable = False
        with pytest.raises(InputError, match=r"to have trainable variables; got none. Set layer.trainable = True"):
            nb.adapters.keras(model)

    def test_inputs_and_outputs(self):
        f, params = nb.adapters.keras(built((3,), layers.Dense(2)))
        with pytest.raises(InputError, match=r"accept x1 of shape \(4, 5\)"):
            nb.empirical_ntk(f, params)(jnp.ones((4, 5)))
        inputs = keras.Input((3,))
        f, params = nb.adapters.keras(keras.Model(inputs, [layers.Dense(2)(inputs), layers.Dense(1)(inputs)]))
        with pytest.raises(InputError, match="Expected the model to return one array; got list"):
            nb.empirical_ntk(f, params)(jnp.ones((4, 3)))


def test_a_model_that_is_let_go_of_is_gone():
    import gc
    import weakref

    model, x = built((3,), layers.Dense(2)), normal(4, 3)
    nb.empirical_ntk(*nb.adapters.keras(model))(x)
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None
