"""Predictions of fine-tuning: exact where they must be, beside real training, and messages; and null weights."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import assert_near

import ntkbias as nb
from ntkbias.behaviors import fine_tuning_prediction, permuted_weights, random_weights

RNG = np.random.default_rng(0)
X, HELD_OUT = RNG.normal(size=(9, 3)).astype(np.float32), RNG.normal(size=(5, 3)).astype(np.float32)
Y, Y_HELD_OUT = RNG.normal(size=(9, 2)).astype(np.float32), RNG.normal(size=(5, 2)).astype(np.float32)
LINEAR = {"w": jnp.asarray(RNG.normal(size=(3, 2))), "b": jnp.asarray(RNG.normal(size=2))}


def linear(params, x):
    return x @ params["w"] + params["b"]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"wrt": "['b']"},
        {"preconditioner": {"w": np.full((3, 2), 0.5), "b": np.array([2.0, 1.0])}},
        {"preconditioner": {"w": np.full((3, 2), 0.5), "b": np.array([2.0, 1.0])}, "wrt": "['w']"},
    ],
    ids=["all", "some", "preconditioned", "some preconditioned"],
)
def test_it_is_exact_for_a_linear_network(options, x64):
    params = jax.tree.map(lambda leaf: leaf.astype(float), LINEAR)
    held_out = {"x_held_out": HELD_OUT.astype(float), "y_held_out": Y_HELD_OUT}
    found = fine_tuning_prediction(
        linear, params, X.astype(float), Y, num_steps=30, measured=True, **held_out, **options
    )
    for name in ("outputs", "loss", "held_out_outputs", "held_out_loss"):
        assert_near(getattr(found, f"measured_{name}"), getattr(found, name), 1e-9)
    assert found.outputs.shape[1:] == (9, 2)
    assert found.held_out_outputs.shape[1:] == (5, 2)
    assert found.kernel_change < 1e-12
    assert found.kernel_alignment == pytest.approx(1)
    assert found.correlation > 0.999999
    assert "held out, measured" in str(found)


def test_parameters_that_are_not_trained_may_be_whole_numbers(x64):
    """As the pairs of tokens of `preferences` are; the others are trained as if they were alone."""
    x, params = X.astype(float), LINEAR["w"].astype(float)
    options = {"num_steps": 5, "measured": True, "learning_rate": 0.1}
    alone = fine_tuning_prediction(lambda w, x: x @ w[:, ::-1], params, x, Y, **options)
    picked = lambda p, x: x @ p["w"][:, p["order"]]  # noqa: E731
    beside = {"w": params, "order": np.array([1, 0])}
    found = fine_tuning_prediction(picked, beside, x, Y, wrt="['w']", **options)
    for name in ("outputs", "measured_outputs"):
        assert_near(getattr(found, name), getattr(alone, name), 1e-9)


def test_measured_steps_are_those_of_gradient_descent():
    """By optax itself, for a network whose kernel moves."""
    net = nb.nets.mlp(width=16, depth=1, num_outputs=2, activation="tanh")
    params = net.init(jax.random.key(0), (3,))
    found = fine_tuning_prediction(net.apply, params, X, Y, num_steps=20, learning_rate=0.3, measured=True)
    optimizer, moving = optax.sgd(0.3), params
    state = optimizer.init(params)
    loss = lambda p: jnp.mean(jnp.sum((net.apply(p, jnp.asarray(X)) - Y) ** 2, 1)) / 2  # noqa: E731
    for _ in range(20):
        updates, state = optimizer.update(jax.grad(loss)(moving), state)
        moving = optax.apply_updates(moving, updates)
    assert_near(found.measured_outputs[-1], net.apply(moving, jnp.asarray(X)), 1e-4)
    assert found.measured_loss[-1] == pytest.approx(float(loss(moving)), rel=1e-4)
    before, after = (np.asarray(nb.empirical_ntk(net.apply, p, outputs="all")(X)) for p in (params, moving))
    assert found.kernel_change == pytest.approx(np.linalg.norm(after - before) / np.linalg.norm(before), rel=1e-3)
    assert found.held_out_outputs is found.measured_held_out_loss is None
    assert np.isnan(found.held_out_correlation)


def test_a_wide_network_follows_its_prediction():
    """The wider, the closer; contrasts of logits are `(n,)` or `(n, 1)`."""
    errors = []
    for width in (16, 1024):
        net = nb.nets.mlp(width=width, depth=1)
        params = net.init(jax.random.key(0), (3,))
        f = lambda p, x, net=net: net.apply(p, x)[:, 0]  # noqa: E731
        found = fine_tuning_prediction(f, params, X, Y[:, 0], x_held_out=HELD_OUT, num_steps=50, measured=True)
        errors.append(float(jnp.max(jnp.abs(found.outputs - found.measured_outputs))))
    assert errors[1] < errors[0] / 3
    assert found.held_out_correlation > 0.99
    assert found.held_out_loss is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"y": Y[:, 0]}, "Expected y of the shape of the outputs, (9, 2); got (9,)."),
        ({"y": np.where(Y > 0, np.nan, Y)}, "NaN"),
        ({"y": np.arange(18).reshape(9, 2)}, "which may be labels"),
        ({"y_held_out": Y_HELD_OUT}, "Expected x_held_out= with y_held_out=; got no inputs."),
        ({"num_steps": 0}, "num_steps"),
        ({"learning_rate": -1.0}, "Expected a learning rate above zero; got -1.0."),
        ({"learning_rate": np.array([0.1])}, "Expected learning_rate to be a number above zero; got array([0.1])."),
        ({"x_held_out": X[:, :1]}, "Expected f(params, x) to accept x_held_out of shape (9, 1)"),
        ({"measured": "no"}, "Expected measured to be True or False; got 'no'."),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_messages(options, message):
    with pytest.raises(nb.InputError, match=re.escape(message)):
        fine_tuning_prediction(linear, LINEAR, X, **{"y": Y, **options})


def test_null_weights_keep_numbers_or_moments():
    params = {"w": jnp.arange(600.0).reshape(20, 30), "ids": jnp.arange(4), "b": jnp.ones(3)}
    shuffled = permuted_weights(params, key=jax.random.key(0), only="['w']")
    assert sorted(shuffled["w"].ravel().tolist()) == list(range(600))
    assert not np.array_equal(shuffled["w"], params["w"])
    drawn = random_weights(params, key=jax.random.key(0))
    assert float(jnp.mean(drawn["w"])) == pytest.approx(299.5, abs=4 * 173 / 600**0.5)
    assert float(jnp.std(drawn["w"])) == pytest.approx(173.2, rel=0.15)
    assert drawn["ids"].tolist() == shuffled["ids"].tolist() == [0, 1, 2, 3]
    assert drawn["b"].tolist() == [1, 1, 1]
    small = random_weights(
        1e-4 * jax.random.normal(jax.random.key(1), (600,)).astype(jnp.float16), key=jax.random.key(0)
    )
    assert float(jnp.std(small.astype(float))) == pytest.approx(1e-4, rel=0.1)  # its square is none in float16
    assert small.dtype == jnp.float16
    with pytest.raises(nb.InputError, match="Expected params with one array or more; got none."):
        random_weights({}, key=jax.random.key(0))
    with pytest.raises(nb.InputError, match="Expected wrt= to name parameters"):
        permuted_weights(params, key=jax.random.key(0), only="['v']")


def test_a_transformer_s_preference_is_fine_tuned():
    """In a small step, with some of the parameters, at training and held-out contexts."""
    model = nb.language.Transformer(num_heads=2, num_key_heads=1)
    params = model.init(jax.random.key(0), vocabulary=12, width=16, hidden=16, depth=1)
    tokens = jax.random.randint(jax.random.key(1), (14, 3), 0, 12)
    f, y = nb.behaviors.contrast(model.last_logits, 3, 7), np.where(tokens[:, -1] < 6, 0.1, -0.1)
    options = {"x_held_out": tokens[8:], "y_held_out": y[8:], "wrt": "['layers']", "num_steps": 8}
    found = fine_tuning_prediction(f, params, tokens[:8], y[:8], learning_rate=0.002, measured=True, **options)
    assert found.outputs.shape[1:] == (8, 1)
    assert found.correlation > 0.99
    assert found.held_out_correlation > 0.97
    assert 0 < found.kernel_change < 0.2
