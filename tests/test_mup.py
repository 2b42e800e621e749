"""The maximal update parameterization in training: powers of the width, and the movement of features."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import ntkbias as nb
from ntkbias.errors import InputError, InputTypeError
from ntkbias.layers import Conv, Dense, LayerNorm, Relu, Residual, SelfAttention, Sequential
from ntkbias.layers.parameterizations import Scales
from ntkbias.training import effective_learning_rates, scale_by_mup

# role -> its fan-in and fan-out at a width, and the powers of the width of Table 3 of Yang et al. (2022, arXiv
# 2203.03466): of the standard deviation at initialization, of the rate of gradient descent, and of Adam's
ROLES = {
    "inputs": ((lambda n: Scales("mup", 7, n)), (0, 1, 0)),
    "hidden": ((lambda n: Scales("mup", n, n)), (-0.5, 0, -1)),
    "readout": ((lambda n: Scales("mup", n, 3, readout=True)), (-1, -1, -1)),
}


def power(numbers):
    """The power of the width between widths of 10 and 40."""
    return np.log(numbers[1] / numbers[0]) / np.log(4)


@pytest.mark.parametrize("role", ROLES)
def test_powers_of_the_width(role):
    make, wanted = ROLES[role]
    scales = [make(n) for n in (10, 40)]
    own = [(s.multiplier(1.5) * s.std(1.5), s.multiplier(1.5) ** 2, s.multiplier(1.5) * s.adam_rate) for s in scales]
    np.testing.assert_allclose([power(pair) for pair in zip(*own, strict=True)], wanted, atol=1e-12)
    biases = [
        (
            s.bias_multiplier(0.5) * s.bias_std(0.5),
            s.bias_multiplier(0.5) ** 2,
            s.bias_multiplier(0.5) * s.adam_bias_rate,
        )
        for s in scales
    ]
    wanted = (0, 0, 0) if role == "readout" else (0, 1, 0)  # biases have the rates of inputs' weights: fan-out, and 1
    np.testing.assert_allclose([power(pair) for pair in zip(*biases, strict=True)], wanted, atol=1e-12)


def movement(width, parameterization, rule, num_seeds=4):
    """The root mean square change of the last hidden features in a few steps at one rate, over random networks."""
    net = nb.nets.mlp(width, 2, parameterization=parameterization)
    x, _ = nb.domains.Circle().quadrature(8)
    y = jnp.sign(x[:, :1] + 0.1)
    optimizer = optax.sgd(0.5) if rule == "sgd" else optax.adam(0.05)
    if parameterization == "mup":
        optimizer = optax.chain(optimizer, scale_by_mup(net, (2,), rule))
    features = Sequential(net.layers[:-1])

    @jax.jit
    def moved(key):
        params = net.init(key, (2,))

        def step(state, _):
            params, inner = state
            gradient = jax.grad(lambda p: jnp.mean((net.apply(p, x) - y) ** 2) / 2)(params)
            updates, inner = optimizer.update(gradient, inner, params)
            return (optax.apply_updates(params, updates), inner), None

        (after, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), None, length=4)
        return jnp.mean((features.apply(after[:-1], x) - features.apply(params[:-1], x)) ** 2)

    return float(np.sqrt(np.mean([moved(key) for key in jax.random.split(jax.random.key(0), num_seeds)])))


@pytest.mark.parametrize(
    ("parameterization", "rule", "low", "high"),
    [
        pytest.param("mup", "sgd", -0.15, 0.15, marks=pytest.mark.wide),
        ("mup", "adam", -0.15, 0.15),
        ("ntk", "sgd", -0.7, -0.3),  # features move as width^-1/2: the network is lazy
    ],
)
def test_features_move_alike_at_all_widths_under_mup(parameterization, rule, low, high):
    """The coordinate check of Yang et al. (2022), for hidden features."""
    narrow, wide = (movement(width, parameterization, rule) for width in (64, 512))
    assert low < np.log(wide / narrow) / np.log(8) < high


def test_rates_have_the_structure_of_parameters():
    """For every kind of layer; a rate multiplies what it belongs to."""
    mup = functools.partial(Dense, b_std=0.3, parameterization="mup")
    block = Residual(Sequential(LayerNorm(), SelfAttention(8, 4, 4, 2, b_std=0.1, parameterization="mup")))
    encoded = nb.layers.PositionalEncoding(parameterization="mup")
    local = nb.layers.LocallyConnected(4, (2,), parameterization="mup")
    net = Sequential(Conv(8, (3,), parameterization="mup"), encoded, block, local, Relu(), nb.layers.Flatten())
    net = Sequential(net, nb.layers.Frozen(mup(5)), nb.layers.Sum(mup(5), mup(5)), mup(2, readout=True))
    shapes = jax.eval_shape(lambda: net.init(jax.random.key(0), (4, 2)))
    params = jax.tree.map(lambda leaf: np.full(leaf.shape, 3.0), shapes)
    rates = net.adam_rates((4, 2))
    assert jax.tree.structure(rates) == jax.tree.structure(params)
    np.testing.assert_allclose(rates[0][0]["w"], (6 * 8) ** -0.5)
    np.testing.assert_allclose(rates[0][2]["branch"][1]["value"], 8**-1)
    np.testing.assert_allclose([rates[-1]["w"], rates[-1]["b"]], [5**-0.5, 1])
    updates, _ = scale_by_mup(net, (4, 2), "adam").update(params, optax.EmptyState())
    jax.tree.map(
        lambda rate, own, leaf: np.testing.assert_allclose(leaf, rate * own, rtol=1e-6), rates, params, updates
    )


def test_finite_networks_of_equal_widths_have_the_kernel_of_the_ntk_parameterization():
    """At initialization and of one key; their outputs are those divided by the root of the width."""
    ntk, mup = (nb.nets.mlp(16, 2, 2, b_std=0.4, b_init=0.0, parameterization=p) for p in ("ntk", "mup"))
    x = nb.domains.Circle().grid(3)
    pairs = [(net, net.init(jax.random.key(3), (2,))) for net in (ntk, mup)]
    wanted, found = (nb.empirical_ntk(net.apply, params, outputs="all")(x) for net, params in pairs)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5 * float(wanted.max()))
    wanted, found = (net.apply(params, x) for net, params in pairs)
    np.testing.assert_allclose(found * 4, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_the_variance_of_the_kernel_falls_as_the_inverse_of_the_width():
    """Over 4000 networks of each width in one program: the power of the width is -1, within 0.05 and its interval."""
    x, widths, found = nb.domains.Circle().grid(3), (32, 128, 512), []
    for width in widths:
        net = nb.nets.mlp(width, 1, parameterization="mup")

        @jax.jit
        def grams(keys, net=net):
            return jax.lax.map(lambda key: nb.empirical_ntk(net.apply, net.init(key, (2,)))(x), keys, batch_size=200)

        kernels = np.asarray(grams(jax.random.split(jax.random.key(width), 4_000)), float)
        found.append(kernels.reshape(10, 400, 3, 3).var(1, ddof=1).mean((1, 2)))
    power = nb.scaling_law(np.array(widths, float), np.stack(found, 1)).exponent
    assert -1 in power
    assert abs(power.value + 1) < 0.05
    assert power.high - power.low < 0.1


def test_gradient_descent_keeps_its_time():
    net = nb.nets.mlp(8, 1, parameterization="mup")
    optimizer = optax.chain(optax.sgd(0.1), scale_by_mup(net, (2,), "sgd"))
    np.testing.assert_allclose(effective_learning_rates(optimizer, 3), 0.1, rtol=1e-6)


@pytest.mark.usefixtures("unchecked")
def test_bad_input_is_named():
    net = nb.nets.mlp(8, 1, parameterization="mup")
    with pytest.raises(
        InputTypeError,
        match=r"Expected a network made of ntkbias layers, e.g. nets.mlp\(\), and not net.apply; got function",
    ):
        scale_by_mup(lambda params, x: x, (2,), "adam")
    with pytest.raises(InputError, match="Expected rule to be one of sgd, adam; got 'lion'"):
        scale_by_mup(net, (2,), "lion")
    for other, got in ((nb.nets.mlp(8, 1), "'ntk'"), (Relu(), "no linear layer")):
        with pytest.raises(InputError, match=f'layers all have parameterization="mup"; got {got}'):
            scale_by_mup(other, (2,), "adam")
    with pytest.raises(InputError, match="Expected a network with a readout; got none, and its outputs would grow"):
        scale_by_mup(Dense(2, parameterization="mup"), (2,), "sgd")
    for other in (jnp.ones(3), net.init(jax.random.key(0), (3,))):
        with pytest.raises(InputError, match="Expected parameters of the network and the input_shape given to scale"):
            scale_by_mup(net, (2,), "adam").update(other, optax.EmptyState())
    with pytest.raises(InputTypeError, match="Expected readout of Dense to be True or False; got 1"):
        Dense(3, readout=1)
    with pytest.raises(InputError, match="Expected a network whose kernel stays constant as it trains"):
        nb.inference.ensemble_flow(net, np.eye(2), np.ones(2), np.eye(2), times=[1.0])
