"""Models of flax: nnx and linen."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import assert_near
from flax import linen, nnx
from laws import assert_adapted, in_float64, same

import ntkbias as nb
from ntkbias.errors import InputError, InputTypeError
from ntkbias.kernels.factors import Product
from ntkbias.kernels.gradients import Gradients


def normal(*shape):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape))


# -- nnx -------------------------------------------------------------------------------------------------------------


class Mlp(nnx.Module):
    def __init__(self, rngs):
        self.hidden = nnx.Linear(3, 5, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.out = nnx.Linear(5, 2, rngs=rngs)

    def __call__(self, x, scale=1.0):
        return scale * self.out(self.dropout(jnp.tanh(self.hidden(x))))

    def features(self, x):
        return jnp.tanh(self.hidden(x))

    def with_features(self, x):
        return self(x), self.features(x)


class Cnn(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(2, 3, (3, 3), strides=(2, 1), rngs=rngs)
        self.norm = nnx.BatchNorm(3, rngs=rngs)
        self.out = nnx.Linear(3, 2, rngs=rngs)

    def __call__(self, x):
        h = jax.nn.relu(self.norm(self.conv(x)))
        return self.out(nnx.max_pool(h, (2, 2)).mean((1, 2)))


def softmax_attention(query, key, value, **_):
    """flax's own attention calls JAX's, whose softmax is in float32, so derivatives would agree only to 1e-8."""
    weights = jax.nn.softmax(jnp.einsum("nqhd,nkhd->nhqk", query, key) / query.shape[-1] ** 0.5)
    return jnp.einsum("nhqk,nkhd->nqhd", weights, value)


class Recurrent(nnx.Module):
    def __init__(self, rngs, cell=nnx.LSTMCell):
        self.rnn = nnx.RNN(cell(3, 4, rngs=rngs))
        self.out = nnx.Linear(4, 2, rngs=rngs)

    def __call__(self, x):
        return self.out(self.rnn(x)[:, -1])


class Scanned(nnx.Module):
    """Stacked layers in a scan, and one layer under remat."""

    def __init__(self, rngs):
        make = nnx.vmap(lambda rngs: nnx.Linear(3, 3, rngs=rngs), in_axes=0, out_axes=0)
        self.layers = nnx.split_rngs(splits=3)(make)(rngs)
        self.again = nnx.Linear(3, 3, rngs=rngs)
        self.out = nnx.Linear(3, 2, rngs=rngs)

    def __call__(self, x):
        scan = nnx.scan(lambda x, layer: x + jnp.tanh(layer(x)), in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
        return self.out(nnx.remat(lambda layer, x: jnp.tanh(layer(x)))(self.again, scan(x.sum(1), self.layers)))


class Transformer(nnx.Module):
    """One transformer block on tokens, with normalization before and after."""

    def __init__(self, rngs, tokens=7, length=4, width=4):
        self.embedding = nnx.Embed(tokens, width, dtype=jnp.float64, rngs=rngs)
        self.positions = nnx.Param(0.1 * jax.random.normal(rngs.params(), (length, width)))
        options = {"dropout_rate": 0.1, "decode": False, "attention_fn": softmax_attention}
        self.attention = nnx.MultiHeadAttention(2, width, **options, rngs=rngs)
        self.norm1 = nnx.LayerNorm(width, rngs=rngs)
        self.norm2 = nnx.LayerNorm(width, rngs=rngs)
        self.wide = nnx.Linear(width, 6, rngs=rngs)
        self.narrow = nnx.Linear(6, width, rngs=rngs)
        self.head = nnx.Linear(width, 2, rngs=rngs)

    def __call__(self, tokens):
        h = self.embedding(tokens) + self.positions[...]
        h = h + self.attention(self.norm1(h))
        h = h + self.narrow(jax.nn.gelu(self.wide(self.norm2(h))))
        return self.head(h.mean(1))


class Tied(nnx.Module):
    """One matrix in two layers, and again in the readout."""

    def __init__(self, rngs):
        self.first = nnx.Linear(3, 3, rngs=rngs)
        self.second = nnx.Linear(3, 3, use_bias=False, rngs=rngs)
        self.second.kernel = self.first.kernel

    def __call__(self, x):
        return jnp.tanh(self.second(jnp.tanh(self.first(x)))) @ self.first.kernel[...].T


def nnx_model(make):
    """A model in training mode whose parameters and statistics have changed since its initialization."""
    model = make(nnx.Rngs(0))
    nnx.update(model, in_float64(nnx.state(model)))
    return model


@pytest.mark.slow
def test_an_nnx_mlp_with_dropout(x64):
    model, x = nnx_model(Mlp), normal(4, 3)
    before = nnx.split(model)
    f, params = nb.adapters.flax_nnx(model)
    assert not model.dropout.deterministic
    assert same(nnx.split(model), before)
    assert_adapted(f, params, x, lambda x: model.out(model.features(x)))


@pytest.mark.slow
def test_an_nnx_cnn_with_batch_norm(x64):
    model, x = nnx_model(Cnn), normal(4, 6, 4, 2)
    model(3 * x + 1)
    assert np.abs(model.norm.mean[...]).max() > 1e-3  # the statistics moved
    before = nnx.split(model)
    f, params = nb.adapters.flax_nnx(model)
    assert not model.norm.use_running_average
    assert same(nnx.split(model), before)
    model.eval()
    assert_adapted(f, params, x, model)


@pytest.mark.slow
def test_an_nnx_transformer(x64):
    model, tokens = nnx_model(Transformer), jnp.asarray(np.random.default_rng(0).integers(0, 7, (3, 4)))
    f, params = nb.adapters.flax_nnx(model)
    model.eval()
    assert_adapted(f, params, tokens, model)


def test_a_variable_that_nnx_layers_share_is_one_parameter(x64):
    model, x = nnx_model(Tied), normal(3, 3)
    f, params = nb.adapters.flax_nnx(model)
    assert len(jax.tree.leaves(params)) == 2
    assert_adapted(f, params, x, model)


def test_options_and_methods_of_an_nnx_module():
    model, x = Mlp(nnx.Rngs(0)), normal(4, 3)
    f, params = nb.adapters.flax_nnx(model)
    for chosen, expected in (
        (nb.adapters.flax_nnx(model, scale=3.0), 3 * f(params, x)),
        (nb.adapters.flax_nnx(model, scale=np.full(2, 3.0, np.float32)), 3 * f(params, x)),
        (nb.adapters.flax_nnx(model, method="features"), model.features(x)),
        (nb.adapters.flax_nnx(model, method=lambda model, x: model.with_features(x)[0]), f(params, x)),
    ):
        np.testing.assert_allclose(chosen[0](chosen[1], x), expected, rtol=1e-6)


def test_wrt_freezes_the_other_variables_of_nnx():
    model, x = Mlp(nnx.Rngs(0)), normal(4, 3)
    f, params = nb.adapters.flax_nnx(model)
    head, head_params = nb.adapters.flax_nnx(model, wrt=nnx.All(nnx.Param, nnx.PathContains("out")))
    assert len(jax.tree.leaves(head_params)) == 2
    np.testing.assert_allclose(head(head_params, x), f(params, x))
    parts = nb.empirical_ntk_by_layer(f, params)
    part = sum(kernel for path, kernel in parts.items() if "out" in path)
    np.testing.assert_allclose(nb.empirical_ntk(head, head_params)(x), part(x), rtol=1e-5)


def test_f_of_nnx_is_the_same_function_until_the_model_changes():
    model, x = Mlp(nnx.Rngs(0)), normal(4, 3)
    f, params = nb.adapters.flax_nnx(model)
    again, _ = nb.adapters.flax_nnx(model)
    assert f == again
    assert hash(f) == hash(again)
    assert f != nb.adapters.flax_nnx(model, scale=2.0)[0]
    outputs = f(params, x)
    model.out.kernel[...] = 2 * model.out.kernel[...]  # as an optimizer does
    np.testing.assert_array_equal(f(params, x), outputs)  # f keeps its own parameters
    trained, new = nb.adapters.flax_nnx(model)
    assert trained == f  # the fixed parts did not change, so compiled programs are reused
    np.testing.assert_array_equal(f(nnx.state(model, nnx.Param), x), f(new, x))
    assert np.abs(f(new, x) - outputs).max() > 0


def test_narrow_parameters_of_nnx():
    model = nnx.Linear(3, 2, param_dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    gram = nb.empirical_ntk(*nb.adapters.flax_nnx(model))(normal(4, 3))
    assert gram.shape == (4, 4)
    assert jnp.isfinite(gram).all()


@pytest.mark.usefixtures("unchecked")
class TestBadNnx:
    @pytest.mark.parametrize(
        ("model", "got"),
        [(linen.Dense(3), "Dense"), (Mlp, "the class Mlp, not an instance of it"), (jnp.tanh, "jitted function|PjitF")],
    )
    def test_model(self, model, got):
        with pytest.raises(
            InputTypeError,
            match=rf"Expected model to be a flax\.nnx\.Module; got ({got}).*flax_linen, with its variables",
        ):
            nb.adapters.flax_nnx(model)

    def test_method(self):
        with pytest.raises(
            InputError, match=r"Expected Module to have the method __call__; it has none. Choose what to"
        ):
            nb.adapters.flax_nnx(nnx.Module())

    @pytest.mark.parametrize(
        ("wrt", "name"), [(None, "nnx.Param"), (nnx.LoRAParam, "<class .*LoRAParam'>"), ("nothing", "'nothing'")]
    )
    def test_no_variables(self, wrt, name):
        model = nnx.Dropout(0.5) if wrt is None else Mlp(nnx.Rngs(0))
        with pytest.raises(InputError, match=f"to hold variables of {name}; got none. Choose them by wrt="):
            nb.adapters.flax_nnx(model, wrt=wrt)

    def test_several_outputs(self):
        f, params = nb.adapters.flax_nnx(Mlp(nnx.Rngs(0)), method="with_features")
        with pytest.raises(InputError, match=r"Expected the model to return one array; got tuple. Choose one, e.g. by"):
            nb.empirical_ntk(f, params)(normal(4, 3))

    def test_inputs(self):
        f, params = nb.adapters.flax_nnx(Mlp(nnx.Rngs(0)))
        with pytest.raises(InputError, match=r"Expected f\(params, x\) to accept x1 of shape \(4, 7\)"):
            nb.empirical_ntk(f, params)(normal(4, 7))


@pytest.mark.parametrize(
    "make", [Recurrent, lambda rngs: Recurrent(rngs, nnx.GRUCell), Scanned], ids=["LSTM", "GRU", "scan and remat"]
)
def test_transforms_inside_a_model_are_read(make):
    """`vmap` maps the program of one example, not the model itself, which refuses it."""
    f, params = nb.adapters.flax_nnx(make(nnx.Rngs(0)))
    x = normal(3, 5, 3)
    gradients = Gradients.of(f, params, "all")
    found = gradients.features(x)
    jacobian = jnp.concatenate(
        [leaf.reshape(3, 2, -1) for leaf in jax.tree.leaves(jax.jit(jax.jacrev(f))(params, x))], -1
    )
    explicit = jnp.einsum("nap,mbp->namb", jacobian, jacobian)
    assert_near(gradients.contract(found, None), explicit, 100 * np.finfo(np.float32).eps)  # over five steps
    assert all(isinstance(factor, Product) for path, factor in gradients.shapes(x).items() if "kernel" in path)


# -- linen -----------------------------------------------------------------------------------------------------------


class LinenCnn(linen.Module):
    @linen.compact
    def __call__(self, x, train=True):
        h = linen.Conv(3, (3, 2), strides=(1, 2))(x)
        h = linen.relu(linen.BatchNorm(use_running_average=not train)(h))
        h = linen.Dropout(0.5, deterministic=not train)(h.mean((1, 2)))
        return linen.Dense(2)(h)


class LinenTied(linen.Module):
    def setup(self):
        self.embedding = linen.Embed(6, 3)

    def __call__(self, tokens):
        return self.embedding.attend(jnp.tanh(self.embedding(tokens).sum(1)))

    def embed(self, tokens):
        return self.embedding(tokens)


def test_a_linen_mlp(x64):
    module, x = linen.Sequential([linen.Dense(4), linen.tanh, linen.Dense(2)]), normal(4, 3)
    variables = in_float64(module.init(jax.random.key(0), x))
    f, params = nb.adapters.flax_linen(module, variables)
    assert params is variables["params"]
    assert_adapted(f, params, x, partial(module.apply, variables))


@pytest.mark.slow
def test_a_linen_cnn_with_batch_norm_and_dropout(x64):
    module, x = LinenCnn(), normal(4, 4, 4, 2)
    variables = in_float64(jax.jit(partial(module.init, train=False))(jax.random.key(0), x))
    _, moved = module.apply(variables, 3 * x + 1, mutable="batch_stats", rngs={"dropout": jax.random.key(1)})
    variables = {"params": variables["params"], **moved}
    f, params = nb.adapters.flax_linen(module, variables, train=False)
    assert_adapted(f, params, x, partial(module.apply, variables, train=False))
    assert f == nb.adapters.flax_linen(module, {**variables, "params": {}}, train=False)[0]
    assert f != nb.adapters.flax_linen(module, variables, train=True)[0]


def test_a_linen_module_with_tied_weights_and_another_method(x64):
    module, tokens = LinenTied(), jnp.asarray([[0, 1, 2], [3, 4, 5], [1, 1, 0]])
    variables = in_float64(module.init(jax.random.key(0), tokens))
    assert_adapted(*nb.adapters.flax_linen(module, variables), tokens, partial(module.apply, variables))
    expected = module.apply(variables, tokens, method="embed")
    for method in ("embed", LinenTied.embed, lambda module, tokens: module.embed(tokens)):
        f, params = nb.adapters.flax_linen(module, variables, method=method)
        np.testing.assert_array_equal(f(params, tokens), expected)


@pytest.mark.usefixtures("unchecked")
class TestBadLinen:
    @pytest.fixture
    def cnn(self):
        module, x = LinenCnn(), normal(4, 4, 4, 2)
        return module, jax.jit(partial(module.init, train=False))(jax.random.key(0), x), x

    @pytest.mark.parametrize(
        ("module", "got"), [(LinenCnn, "the class LinenCnn, not an instance of it"), (nnx.Dropout(0.5), "Dropout")]
    )
    def test_module(self, module, got):
        with pytest.raises(
            InputTypeError,
            match=rf"Expected module to be a flax.linen.Module; got {got}.*use flax_nnx, without variables",
        ):
            nb.adapters.flax_linen(module, {})

    def test_variables(self, cnn):
        module, variables, x = cnn
        for given, got in (
            (variables["params"], "BatchNorm_0, Conv_0, Dense_0"),
            ({}, "none"),
            ({"params": None}, "params"),
            (None, "NoneType"),
            (x, "ArrayImpl"),
        ):
            with pytest.raises(
                InputTypeError, match=rf"variables to hold the collection 'params'; got {got}. Pass what module.init"
            ):
                nb.adapters.flax_linen(module, given)

    def test_training_mode(self, cnn):
        module, variables, x = cnn
        f, params = nb.adapters.flax_linen(module, variables)
        with pytest.raises(
            InputError, match=r"Expected LinenCnn at inference.*got: Cannot update.*Pass the option that switches"
        ):
            nb.empirical_ntk(f, params)(x)

    def test_dropout_in_training_mode(self):
        module, x = linen.Sequential([linen.Dense(3), linen.Dropout(0.5, deterministic=False)]), normal(4, 3)
        f, params = nb.adapters.flax_linen(module, {"params": module.init(jax.random.key(0), x)["params"]})
        with pytest.raises(
            InputError, match=r"Expected Sequential at inference.*got: .* needs PRNG.*Pass the option that switches"
        ):
            nb.empirical_ntk(f, params)(x)

    def test_variables_of_another_module(self, cnn):
        module, variables, _ = cnn
        f, params = nb.adapters.flax_linen(module, variables, train=False)
        with pytest.raises(InputError, match=r"LinenCnn to apply to its variables and x of shape \(2, 4, 4, 5\); got"):
            f(params, normal(2, 4, 4, 5))

    def test_options(self, cnn):
        module, variables, x = cnn
        f, params = nb.adapters.flax_linen(module, variables, training=False)
        with pytest.raises(InputError, match=r"to accept x1 .*unexpected keyword argument 'training'"):
            nb.empirical_ntk(f, params)(x)
