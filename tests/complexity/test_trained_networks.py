"""Claims of the papers about trained networks, on digits and synthetic data, over several seeds."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.linear_model import LogisticRegression
from small_training import at, train

import ntkbias as nb
from ntkbias.complexity import (
    activations,
    class_distance_variance,
    effective_depth,
    effective_rank,
    embedding_effective_rank,
    end_to_end_matrix,
    explained_information,
    geometric_complexity,
    layer_information,
    layer_separation,
    mutual_information,
    path_complexity,
    shuffled_auc,
)
from ntkbias.datasets import slabs
from ntkbias.losses import cross_entropy, logistic, mse

pytestmark = pytest.mark.slow

DIGITS, LABELS = nb.datasets.digits()
DIGITS = jnp.asarray(DIGITS.reshape(len(DIGITS), -1))
SEEDS = range(3)


def after_activations(net, params, x, kind):
    return [a for a, layer in zip(activations(net, params, x), net.layers, strict=True) if isinstance(layer, kind)]


def regression(seed, n=200):
    net = nb.nets.mlp(width=64, depth=2, num_outputs=10)
    return net, net.init(jax.random.key(seed), (64,)), DIGITS[:n], jnp.asarray(np.eye(10, dtype="f")[LABELS[:n]])


@pytest.mark.parametrize("seed", SEEDS)
def test_geometric_complexity_falls_with_the_learning_rate(seed):
    """Measured when stochastic gradient descent first reaches a training loss of 0.02 (Dherin et al. 2022)."""
    net, params, x, y = regression(seed)
    found = []
    for rate in (0.5, 2.0, 5.0):
        path = train(
            net.apply,
            params,
            x,
            y,
            mse,
            optax.sgd(rate),
            int(4_000 / rate),
            key=jax.random.key(seed),
            batch_size=10,
            keep=int(20 / rate),
        )
        losses = np.array([mse(net.apply(at(path, i), x), y) for i in range(len(jax.tree.leaves(path)[0]))])
        first = int(np.argmax(losses < 0.02))
        assert first > 0
        found.append(float(geometric_complexity(net.apply, at(path, first), x)))
    assert np.all(np.diff(found) < 0)
    assert found[-1] < 0.85 * found[0]


@pytest.mark.parametrize("seed", SEEDS)
def test_geometric_complexity_falls_with_weight_decay(seed):
    net, params, x, y = regression(seed)
    found = []
    for decay in (0.0, 1e-4, 1e-3):
        optimizer = optax.chain(optax.add_decayed_weights(decay), optax.sgd(0.5))
        path = train(
            net.apply, params, x, y, mse, optimizer, 4_000, key=jax.random.key(seed), batch_size=20, keep=4_000
        )
        found.append(float(geometric_complexity(net.apply, at(path, -1), x)))
    assert np.all(np.diff(found) < 0)
    assert found[-1] < 0.5 * found[0]


@pytest.mark.parametrize("seed", range(5))
def test_effective_ranks_fall_with_depth(seed):
    """At initialization: for products of square Gaussian matrices, and for the Gram matrix of the last hidden layer."""
    rng = np.random.default_rng(seed)
    linear, embedded = [], []
    for depth in (1, 2, 4, 8):
        factors = [jnp.asarray(rng.normal(size=(16, 16)) / 4) for _ in range(depth)]
        linear.append(float(effective_rank(end_to_end_matrix(product, factors, (16,)))))
        net = nb.nets.mlp(width=128, depth=depth, num_outputs=10)
        features = activations(net, net.init(jax.random.key(seed), (64,)), DIGITS[:200])[-2]
        embedded.append(float(embedding_effective_rank(features)))
    assert np.all(np.diff(linear) < 0)
    assert np.all(np.diff(embedded) < 0)


def product(factors, x):
    for factor in factors:
        x = x @ factor
    return x


@pytest.mark.parametrize("seed", SEEDS)
def test_trained_linear_networks_have_lower_rank_the_deeper(seed):
    """Least squares with fewer examples than inputs: the end-to-end matrix that gradient descent converges to."""
    rng = np.random.default_rng(seed)
    x = jnp.asarray(rng.normal(size=(10, 16)))
    y = x @ jnp.asarray(rng.normal(size=(16, 2)) @ rng.normal(size=(2, 16)) / 4)
    ranks = []
    for depth in (1, 2, 4):
        factors = [jnp.asarray(rng.normal(size=(16, 16)) / 8) for _ in range(depth)]
        path = train(product, factors, x, y, mse, optax.adam(3e-3), 3_000, key=jax.random.key(0), keep=3_000)
        assert float(mse(product(at(path, -1), x), y)) < 1e-3
        ranks.append(float(effective_rank(end_to_end_matrix(product, at(path, -1), (16,)))))
    assert np.all(np.diff(ranks) < 0)


@pytest.mark.parametrize("seed", SEEDS)
def test_effective_depth_grows_with_label_noise(seed):
    """Six hidden layers fit all training labels. The depth is the first layer with at most 20 % off their center."""
    depths = []
    for noise in (0.0, 0.25, 0.5):
        rng = np.random.default_rng(seed)
        x, y = DIGITS[:300], LABELS[:300].copy()
        flipped = rng.random(300) < noise
        y[flipped] = rng.integers(0, 10, flipped.sum())
        net = nb.nets.mlp(width=64, depth=6, num_outputs=10)
        start = net.init(jax.random.key(seed), (64,))
        path = train(
            net.apply,
            start,
            x,
            y,
            cross_entropy,
            optax.adam(1e-2),
            1_500,
            key=jax.random.key(seed),
            batch_size=100,
            keep=1_500,
        )
        params = at(path, -1)
        assert np.mean(np.argmax(net.apply(params, x), 1) == y) == 1
        hidden = after_activations(net, params, x, nb.layers.Relu)
        depths.append(effective_depth(hidden, y, max_error=0.2))
        assert layer_separation(hidden, y)[-1] > layer_separation(hidden, y)[0]
        variances = [class_distance_variance(layer, y) for layer in hidden]
        assert np.all(np.diff(variances) < 0)  # every layer collapses the classes further
    assert depths[0] == 1
    assert depths[1] >= 4
    assert depths[2] >= depths[1]


@pytest.mark.parametrize("seed", SEEDS)
def test_networks_use_the_simple_feature_alone(seed):
    """LMS-5 (Shah et al. 2020): the AUC is 1; 1/2 with the block coordinate shuffled; 1 with all slabs shuffled."""
    (x, y), (x_test, y_test) = (slabs(3_000, num_coordinates=10, seed=s) for s in (seed, 100 + seed))
    net = nb.nets.mlp(width=100, depth=1, b_std=0.1)
    start = net.init(jax.random.key(seed), (10,))
    path = train(
        net.apply, start, x, y, logistic, optax.sgd(0.5), 2_000, key=jax.random.key(seed), batch_size=128, keep=2_000
    )
    found = shuffled_auc(net.apply, at(path, -1), x_test, y_test, [0], key=jax.random.key(0))
    assert found.plain > 0.99
    assert found.others_shuffled > 0.99
    assert abs(found.shuffled - 0.5) < 4 / np.sqrt(3 * 2_000)  # four standard errors of chance


@pytest.mark.parametrize("seed", SEEDS)
def test_the_linear_part_is_learned_first(seed):
    """Kalimeris et al. 2019: the part that a linear model explains saturates, and the other part keeps growing."""
    order = np.random.default_rng(seed).permutation(len(DIGITS))
    seen, held = order[:1000], order[1000:]
    y = np.where(LABELS >= 5, 1.0, -1.0)
    linear = LogisticRegression(C=0.1).fit(DIGITS[seen], y[seen]).predict(DIGITS[held])
    net = nb.nets.mlp(width=128, depth=2)
    start = net.init(jax.random.key(seed), (64,))
    path = train(
        net.apply,
        start,
        DIGITS[seen],
        y[seen],
        logistic,
        optax.sgd(0.3),
        6_000,
        key=jax.random.key(seed),
        batch_size=32,
        keep=200,
    )
    predictions = [np.sign(net.apply(at(path, i), DIGITS[held]))[:, 0] for i in range(31)]
    explained = np.array([explained_information(p, linear, y[held]) for p in predictions])
    beyond = np.array([mutual_information(p, y[held]) for p in predictions]) - explained
    times = [int(np.argmax(part > 0.9 * part[-1])) for part in (explained, beyond)]
    assert times[0] <= 6  # of 30
    assert times[1] >= 3 * times[0]
    assert explained[-1] == pytest.approx(mutual_information(linear, y[held]), abs=0.03)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_tanh_layers_fit_then_compress_and_relu_layers_do_not(seed, activation):
    """On all 4,096 inputs of 12 bits: with tanh, the last hidden layer loses 3 or more of its 12 bits about them."""
    rng = np.random.default_rng(seed)
    bits = np.array([[(k >> bit) & 1 for bit in range(12)] for k in range(4096)]) * 2.0 - 1
    score = bits @ rng.normal(size=12) + 0.7 * bits @ rng.normal(size=12) * bits[:, 0]
    x, y = jnp.asarray(bits), np.where(score > np.median(score), 1.0, -1.0)
    net = nb.nets.mlp(width=6, depth=4, activation=activation, b_std=0.1)
    start = net.init(jax.random.key(seed), (12,))
    path = train(
        net.apply, start, x, y, logistic, optax.adam(4e-3), 6_000, key=jax.random.key(seed), batch_size=256, keep=100
    )
    kind = {"tanh": nb.layers.Tanh, "relu": nb.layers.Relu}[activation]
    times = (0, 2, 5, 8, 12, 20, 40, 60)
    hidden = [after_activations(net, at(path, time), x, kind)[-1] for time in times]
    limits = (-1.0, 1.0) if activation == "tanh" else (0.0, float(max(layer.max() for layer in hidden)))
    found = [layer_information([layer], y, limits=limits) for layer in hidden]
    with_input, with_label = (np.array([getattr(f, n)[0] for f in found]) for n in ("with_input", "with_label"))
    assert np.mean(np.sign(net.apply(at(path, -1), x))[:, 0] == y) > 0.99
    assert with_label[-1] > max(0.98, with_label[0])  # fitting: fine bins distinguish tanh states from the start
    if activation == "tanh":
        assert with_input[-1] < with_input.max() - 3
        assert np.argmax(with_label > 0.98) <= np.argmax(with_input < with_input.max() - 3)  # compression comes later
    else:
        assert with_input[-1] > with_input.max() - 0.2


def test_path_complexity_grows_with_the_fraction_of_random_labels():
    """Baratin et al. 2020: 100 digits, odd against even, with gradient descent for a fixed time."""
    found = np.zeros((3, 4))
    for seed in SEEDS:
        for place, noise in enumerate((0.0, 0.25, 0.5, 1.0)):
            rng = np.random.default_rng(seed)
            x, y = DIGITS[:100], np.where(LABELS[:100] % 2, 1.0, -1.0)
            flipped = rng.random(100) < noise
            y[flipped] = rng.choice([-1.0, 1.0], flipped.sum())
            net = nb.nets.mlp(width=64, depth=2)
            start = net.init(jax.random.key(seed), (64,))
            path = train(net.apply, start, x, y, mse, optax.sgd(0.1), 2_000, key=jax.random.key(seed), keep=50)
            found[seed, place] = path_complexity(net.apply, [at(path, i) for i in range(41)], x)[-1]
    assert np.all(np.diff(found.mean(0)) > 0)
    assert np.all(found[:, 1:] > found[:, :1])
