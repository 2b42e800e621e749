"""Self-attention: its outputs for one sequence, its limits by explicit sums, and the convergence of finite networks."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import assert_near, root_width_law

import ntkbias as nb
from ntkbias.errors import InputError, InputTypeError
from ntkbias.layers import (
    Covariance,
    Dense,
    Erf,
    Flatten,
    Frozen,
    GlobalAvgPool,
    LayerNorm,
    Needs,
    PositionalEncoding,
    Positions,
    Relu,
    Residual,
    SelfAttention,
    Sequential,
)

STDS = {"w_query_std": 1.1, "w_key_std": 0.9, "w_value_std": 1.3, "w_out_std": 0.8}
LIMITS = [
    ("linear", "softmax"),
    ("linear", "identity"),
    ("linear", "abs"),
    ("linear", "relu"),
    ("sqrt", "identity"),
    ("sqrt", "abs"),
    ("sqrt", "relu"),
]
each_limit = pytest.mark.parametrize(("scaling", "mechanism"), LIMITS)


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def attention(scaling="linear", mechanism="softmax", width=6, **options):
    return SelfAttention(width, width, width, 2, scaling, mechanism, **{**STDS, **options})


def read_out(layer, last=None):
    return Sequential((layer, last or GlobalAvgPool(), Dense(1)))


# -- finite ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scaling", ["linear", "sqrt"])
@pytest.mark.parametrize("mechanism", ["softmax", "identity", "abs", "relu"])
def test_apply_is_the_sum_over_heads_and_positions(scaling, mechanism, x64):
    layer = SelfAttention(3, 4, 5, 2, scaling, mechanism, **STDS, b_std=0.7)
    x = normal(2, 3, 2, 4)
    shapes = jax.eval_shape(lambda key: layer.init(key, (3, 2, 4)), jax.random.key(0))
    params = jax.tree.map(lambda leaf: normal(*leaf.shape, seed=leaf.size), shapes)
    phi = {
        "softmax": lambda logits: np.exp(logits) / np.exp(logits).sum(),
        "identity": lambda logits: logits,
        "abs": np.abs,
        "relu": lambda logits: np.maximum(logits, 0),
    }[mechanism]
    w = {name: np.asarray(params[name]) / 2 * STDS[f"w_{name}_std"] for name in ("key", "value")}
    w["query"] = np.asarray(params["key" if scaling == "linear" else "query"]) / 2 * STDS["w_query_std"]
    expected = np.zeros((2, 6, 3))
    tokens = np.asarray(x).reshape(2, 6, 4)
    for n, p, head in itertools.product(range(2), range(6), range(2)):
        queries, keys, values = (tokens[n] @ w[name][:, head] for name in ("query", "key", "value"))
        logits = keys @ queries[p] / (4 if scaling == "linear" else 2)
        expected[n, p] += phi(logits) @ values @ np.asarray(params["out"]["w"][head]) * 0.8 / np.sqrt(10)
    expected += 0.7 * np.asarray(params["out"]["b"])
    assert_near(jax.jit(layer.apply)(params, x), expected.reshape(2, 3, 2, 3), 1e-13)


@pytest.mark.parametrize("scaling", ["linear", "sqrt"])
def test_parameterizations_are_one_function_of_scaled_parameters(scaling):
    ntk, standard = (attention(scaling, b_std=0.7, b_init=0.5, parameterization=p) for p in ("ntk", "standard"))
    shape = (4, 3)
    params = ntk.init(jax.random.key(0), shape)
    scales = {name: STDS[f"w_{name}_std"] / 3**0.5 for name in ("query", "key", "value")}
    if scaling == "linear":
        scales["key"] = (1.1 * 0.9) ** 0.5 / 3**0.5
    scaled = {name: scales[name] * leaf for name, leaf in params.items() if name != "out"}
    scaled["out"] = {"w": 0.8 / 12**0.5 * params["out"]["w"], "b": 0.7 * params["out"]["b"]}
    x = normal(2, *shape)
    assert_near(ntk.apply(params, x), standard.apply(scaled, x), 1e-5)  # float32
    if scaling == "linear":
        mup = attention(scaling, b_std=0.7, b_init=0.5, parameterization="mup")
        like = mup.init(jax.random.key(0), shape)  # of the same key, at other scales
        assert_near(ntk.apply(params, x), mup.apply(like, x), 1e-5)
    drawn = SelfAttention(40, 50, 60, 4, scaling, parameterization="standard", **STDS, b_std=0.7, b_init=0.5)
    drawn = drawn.init(jax.random.key(1), (5, 30))
    expected = {name: scale * (3 / 30) ** 0.5 for name, scale in scales.items()}
    for name in [name for name in drawn if name != "out"]:
        weights = np.asarray(drawn[name])
        assert abs(weights.std() - expected[name]) < 4 * expected[name] / (2 * weights.size) ** 0.5
    assert drawn["out"]["w"].shape == (4, 60, 40)
    assert abs(np.asarray(drawn["out"]["w"]).std() * 240**0.5 / 0.8 - 1) < 4 / (2 * 9600) ** 0.5
    assert ("query" in drawn) == (scaling == "sqrt")


@pytest.mark.parametrize("scaling", ["linear", "sqrt"])
def test_positions_are_a_set(scaling):
    layer, order = attention(scaling), np.array([2, 0, 3, 1])
    x = normal(2, 4, 3)
    params = layer.init(jax.random.key(0), (4, 3))
    assert_near(layer.apply(params, x[:, order]), layer.apply(params, x)[:, order], 1e-5)  # float32


# -- limits ----------------------------------------------------------------------------------------------------------


def dual(mechanism, c, a, b):
    """E[phi phi] and E[phi' phi'] of two Gaussians (Cho and Saul 2009), for plain numbers."""
    if mechanism == "identity":
        return c, 1.0
    cosine = min(max(c / np.sqrt(a * b), -1.0), 1.0)
    angles = [np.arccos(cosine), np.arccos(-cosine)]
    values = [(np.sin(t) + (np.pi - t) * np.cos(t)) * np.sqrt(a * b) / (2 * np.pi) for t in angles]
    slopes = [(np.pi - t) / (2 * np.pi) for t in angles]
    return (values[0], slopes[0]) if mechanism == "relu" else (2 * sum(values), 2 * (slopes[0] - slopes[1]))


def slow_limit(scaling, mechanism, nngp, ntk, own1, own2, added):
    """Sums over all positions for one pair of inputs, with all stds one. `added`: the fan-in of each weight, or one."""
    size = len(nngp)
    after = np.zeros((2, size, size))
    for p, q, a, b in itertools.product(range(size), repeat=4):
        if scaling == "linear":
            phi = {
                "softmax": lambda row: np.exp(row) / np.exp(row).sum(),
                "identity": lambda row: row,
                "abs": np.abs,
                "relu": lambda row: np.maximum(row, 0),
            }[mechanism]
            weight = phi(own1[p])[a] * phi(own2[q])[b]
            logits = 0.0
        else:
            weight, slope = dual(mechanism, nngp[p, q] * nngp[a, b], own1[p, p] * own1[a, a], own2[q, q] * own2[b, b])
            query, key = (ntk[i] + added * nngp[i] for i in ((p, q), (a, b)))
            logits = slope * (query * nngp[a, b] + nngp[p, q] * key)
        after[0, p, q] += weight * nngp[a, b]
        after[1, p, q] += weight * (ntk[a, b] + added * nngp[a, b]) + logits * nngp[a, b]
    return after


@pytest.mark.parametrize(
    ("scaling", "mechanism", "parameterization"),
    [(*limit, "ntk") for limit in LIMITS]
    + [("linear", "softmax", "standard"), ("sqrt", "relu", "standard"), ("linear", "softmax", "mup")],
)
def test_limit_is_the_slow_sum(scaling, mechanism, parameterization, x64):
    x = normal(4, 3, 2)
    layer = SelfAttention(5, 6, 7, 2, scaling, mechanism, b_std=0.4, b_init=0.5, parameterization=parameterization)
    before = Dense(8, 1.2, 0.3).propagate(Covariance.of_inputs(x[:2], x[2:], Needs(Positions.ALL, Positions.ALL)))
    after = layer.propagate(before)
    added, last, bias = {"ntk": (1, 1, 0.4**2), "standard": (8, 14, 1), "mup": (14, 5, 5 * 0.4**2)}[parameterization]
    for i, j in itertools.product(range(2), repeat=2):
        own = np.asarray(before.self1[i]), np.asarray(before.self2[j])
        pair = np.asarray(before.nngp[i, j]), np.asarray(before.ntk[i, j])
        nngp, ntk = slow_limit(scaling, mechanism, *pair, *own, added)
        assert_near(after.nngp[i, j], nngp + 0.2**2, 1e-13)
        assert_near(after.ntk[i, j], ntk + last * nngp + bias, 1e-13)
    for side in ("self1", "self2"):
        own = np.asarray(getattr(before, side)[0])
        expected, _ = slow_limit(scaling, mechanism, own, own, own, own, 0)
        assert_near(getattr(after, side)[0], expected + 0.2**2, 1e-7 if mechanism in ("relu", "abs") else 1e-13)
    assert after.gaussian


@pytest.mark.slow
@pytest.mark.parametrize("mechanism", ["identity", "relu"])
def test_less_is_carried_where_less_is_needed(mechanism, x64):
    layer = attention("sqrt", mechanism)
    needs = layer.needs(Needs())
    assert needs == Needs(Positions.ALL, Positions.NONE if mechanism == "identity" else Positions.EQUAL)
    x = normal(3, 4, 2)
    few, many = (
        layer.propagate(Covariance.of_inputs(x[:2], x[2:], each))
        for each in (needs, Needs(Positions.ALL, Positions.ALL))
    )
    assert few.self1 is None
    assert_near(few.nngp, many.nngp, 1e-14)
    assert_near(few.ntk, many.ntk, 1e-14)


def test_equal_weights_are_a_mean(x64):
    """Zero logits attend equally to all positions, as GlobalAvgPool with two dense layers and no activation does."""
    layer = attention(w_query_std=0.0, b_std=0.4)
    mean = Sequential((GlobalAvgPool(), Dense(6, 1.3), Dense(6, 0.8, 0.4)))
    x = normal(4, 3, 2)
    for make in (nb.infinite_ntk, nb.infinite_nngp):
        for last in (GlobalAvgPool(), Flatten()):
            got = make(Sequential((layer, last, Dense(1))))(x)
            assert_near(got, make(Sequential((mean, Dense(1))))(x), 1e-13)


def test_one_position_attends_to_itself(x64):
    layer = attention(b_std=0.4)
    dense = Sequential((Flatten(), Dense(6, 1.3), Dense(6, 0.8, 0.4)))
    x = normal(4, 1, 2)
    for make in (nb.infinite_ntk, nb.infinite_nngp):
        assert_near(make(read_out(layer))(x), make(Sequential((dense, Dense(1))))(x), 1e-14)


@pytest.mark.parametrize(("scaling", "mechanism"), [("linear", "softmax"), ("sqrt", "relu")])
def test_limit_does_not_know_the_order_of_positions(scaling, mechanism, x64):
    x, y = normal(2, 4, 2), normal(3, 4, 2, seed=1)
    kernel = nb.infinite_ntk(read_out(attention(scaling, mechanism)))
    assert_near(kernel(x[:, np.array([2, 0, 3, 1])], y), kernel(x, y), 1e-13)


@pytest.mark.slow
def test_axes_of_positions_are_one(x64):
    layer, both = attention(), Needs(Positions.ALL, Positions.ALL)
    x = normal(3, 4, 2)
    image, sequence = (layer.propagate(Covariance.of_inputs(z, z, both)) for z in (x.reshape(3, 2, 2, 2), x))
    assert image.shape == (2, 2, 6)
    assert image.nngp.shape == (3, 3, 2, 2, 2, 2)
    assert_near(image.ntk.reshape(3, 3, 4, 4), sequence.ntk, 1e-15)
    assert_near(image.self2.reshape(3, 4, 4), sequence.self2, 1e-15)


@pytest.mark.parametrize("scaling", ["linear", "sqrt"])
def test_frozen_attention_adds_nothing(scaling, x64):
    net = Sequential((Frozen(attention(scaling, "relu", b_std=0.5)), Flatten(), Dense(1)))
    x = normal(3, 3, 2)
    assert_near(nb.infinite_ntk(net)(x), nb.infinite_nngp(net)(x), 1e-14)
    # The outputs are a polynomial in the first layer's weights, of degree one if attention's weights are numbers.
    net = Sequential((Dense(4), Frozen(attention(scaling, "identity")), Flatten(), Frozen(Dense(1))))
    degree = 1 if scaling == "linear" else 3
    assert_near(nb.infinite_ntk(net)(x), degree * np.asarray(nb.infinite_nngp(net)(x)), 1e-14)


def test_an_input_and_itself_make_an_angle_of_zero():
    """In float32, sums over 150 positions in two orders would change the ReLU's angle, and so the fifth digit."""
    net = Sequential((attention(), Relu(), Flatten(), Dense(1)))
    x = normal(4, 150, 3).astype(jnp.float32)
    kernel = nb.infinite_ntk(net)
    single = kernel(x), kernel(x, x)
    with jax.enable_x64(True):
        double = np.diag(kernel(x.astype(float)))
    for gram in single:  # the error is 1.5e-7, and would be 9e-6 without the correction
        np.testing.assert_allclose(np.diag(gram), double, rtol=10 * np.finfo(np.float32).eps)


def test_derivatives_are_those_of_the_pair(x64):
    """Also if both inputs are the same, for which `propagate` sets the values."""
    net = Sequential((Dense(8, 1.0, 0.3), attention(), Erf(), GlobalAvgPool(), Dense(1)))
    kernel, x, v = nb.infinite_ntk(net), normal(2, 3, 2), normal(2, 3, 2, seed=1)

    @jax.jit
    def slopes(step):
        def value(t):
            return jnp.sum(kernel(x + t * v, x))

        return jax.grad(value)(0.0), (value(step) - value(-step)) / (2 * step)

    np.testing.assert_allclose(*slopes(1e-5), rtol=1e-7)  # differences have a relative error of 1e-10 / 1e-5 at most


# -- transformers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["pre", "post", "none"])
def test_transformer_has_two_residuals_a_block(norm):
    net = nb.nets.transformer(8, 3, num_heads=2, norm=norm, hidden_width=20)
    blocks = [layer for layer in net.layers if isinstance(layer, Residual)]
    norms = [layer for layer in net.layers if isinstance(layer, LayerNorm)]
    assert len(blocks) == 6
    assert len(norms) == {"pre": 1, "post": 6, "none": 0}[norm]
    assert all(isinstance(block.branch.layers[0], LayerNorm) == (norm == "pre") for block in blocks)
    assert blocks[0].branch.layers[-1].num_keys == 4
    assert blocks[1].branch.layers[-3].num_outputs == 20
    if norm == "post":  # "pre" is in NETS
        assert nb.infinite_ntk(net)(normal(2, 3, 2)).shape == (2, 2)


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["pre", "post", "none"])
def test_finite_transformers_tend_to_the_limit(norm):
    def build(width):
        encoding = PositionalEncoding(0.5)
        return nb.nets.transformer(width, 1, num_heads=2, norm=norm, encoding=encoding, hidden_width=width)

    root_width_law(build, normal(3, 3, 2))


@pytest.mark.slow
@each_limit
def test_finite_networks_tend_to_the_limit(scaling, mechanism):
    def build(width):
        # Random logits need many heads to average out.
        keys, values, heads = (width, width, 2) if scaling == "linear" else (width // 2, 2, width // 2)
        layer = SelfAttention(width, keys, values, heads, scaling, mechanism)
        return Sequential((Dense(width, 1.0, 0.3), layer, Erf(), Flatten(), Dense(1)))

    widths = (64, 128, 256, 512) if scaling == "linear" else (32, 64, 128, 256)
    root_width_law(build, normal(3, 3, 2), widths)


@pytest.mark.usefixtures("unchecked")
class TestBadInput:
    @pytest.mark.parametrize("name", ["num_outputs", "num_keys", "num_values", "num_heads"])
    def test_counts(self, name):
        counts = {"num_outputs": 2, "num_keys": 2, "num_values": 2, "num_heads": 2}
        with pytest.raises(InputError, match=f"Expected {name} of SelfAttention to be at least 1; got 0"):
            SelfAttention(**{**counts, name: 0})
        with pytest.raises(InputTypeError, match=f"Expected {name} of SelfAttention to be a whole number; got 2.5"):
            SelfAttention(**{**counts, name: 2.5})

    @pytest.mark.parametrize("name", [*STDS, "b_std", "b_init"])
    def test_scales(self, name):
        with pytest.raises(InputError, match=f"Expected {name} of SelfAttention to be zero or more; got -1"):
            attention(**{name: -1.0})

    def test_choices(self):
        with pytest.raises(InputError, match="Expected scaling to be one of linear, sqrt; got 'root'"):
            attention("root")
        with pytest.raises(
            InputError, match="Expected mechanism to be one of softmax, identity, abs, relu; got 'gelu'"
        ):
            attention(mechanism="gelu")
        with pytest.raises(
            InputError, match="Expected parameterization to be one of ntk, standard, mup; got 'mean field'"
        ):
            attention(parameterization="mean field")
        with pytest.raises(InputError, match='Expected scaling="linear" of SelfAttention with parameterization="mup"'):
            attention("sqrt", parameterization="mup")

    def test_transformer(self):
        make = nb.nets.transformer
        with pytest.raises(InputError, match="Expected a width that num_heads divides; got width=10 and num_heads=4"):
            make(10)
        with pytest.raises(InputError, match="Expected norm to be one of pre, post, none; got 'layer'"):
            make(norm="layer")
        with pytest.raises(InputError, match="Expected readout to be one of flatten, pool; got 'cls'"):
            make(readout="cls")
        with pytest.raises(InputTypeError, match=r"Expected encoding to be a layer, e.g. PositionalEncoding\(\); got"):
            make(encoding="sinusoidal")
        for name in ("width", "depth", "num_heads", "num_outputs"):
            with pytest.raises(InputError, match=f"Expected {name}.* to be at least 1; got 0"):
                make(**{name: 0})

    def test_no_positions(self):
        message = r"Expected inputs of SelfAttention to have positions, \(n, \*positions, channels\); got shape \(3,\)"
        for call in (attention().output_shape, lambda shape: attention().init(jax.random.key(0), shape)):
            with pytest.raises(InputError, match=message):
                call((3,))

    def test_no_closed_form(self):
        net = read_out(attention("sqrt", "softmax"))
        with pytest.raises(
            InputError, match='Expected scaling="linear", or a mechanism .* whose limit has no closed form'
        ):
            nb.infinite_ntk(net)(normal(2, 3, 2))
