"""Losses: definitions, gradients, and what they say to targets that do not fit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkbias.losses import checked_targets, cross_entropy, logistic, mse, named
from ntkbias.types import InputError, InputTypeError

RNG = np.random.default_rng(0)


def test_losses_are_their_definitions(precision):
    outputs = jnp.asarray(RNG.normal(size=(5, 3)))
    targets = jnp.asarray(RNG.normal(size=(5, 3)))
    rtol = 50 * float(jnp.finfo(outputs.dtype).eps)  # sums of 15 terms of order one
    np.testing.assert_allclose(mse(outputs, targets), 0.5 * np.mean(np.sum((outputs - targets) ** 2, 1)), rtol=rtol)
    labels = jnp.array([0, 2, 1, 1, 2])
    powers = np.exp(np.asarray(outputs, float))
    expected = -np.mean(np.log(powers / powers.sum(1, keepdims=True))[np.arange(5), labels])
    np.testing.assert_allclose(cross_entropy(outputs, labels), expected, rtol=rtol)
    np.testing.assert_allclose(cross_entropy(outputs, jax.nn.one_hot(labels, 3)), expected, rtol=rtol)
    signs = jnp.array([1, -1, 1, 1, -1])
    expected = np.mean(np.log1p(np.exp(-np.asarray(signs) * np.asarray(outputs[:, 0], float))))
    for column in (outputs[:, 0], outputs[:, :1]):
        for shaped in (signs, signs[:, None]):
            np.testing.assert_allclose(logistic(column, shaped), expected, rtol=rtol)


def test_two_classes_are_the_logistic_loss_of_their_difference(x64):
    outputs, labels = jnp.asarray(RNG.normal(size=(6, 2))), jnp.array([0, 1, 1, 0, 1, 0])
    np.testing.assert_allclose(
        cross_entropy(outputs, labels), logistic(outputs[:, 1] - outputs[:, 0], 2 * labels - 1), rtol=1e-14
    )


def test_one_column_does_not_broadcast_to_all_pairs():
    outputs, targets = jnp.zeros((4, 1)), jnp.array([0.0, 1.0, 2.0, 3.0])
    assert float(mse(outputs, targets)) == float(mse(outputs[:, 0], targets[:, None])) == 14 / 8


def test_large_outputs_give_finite_losses_and_gradients():
    signs = jnp.array([1.0, -1.0])
    assert float(logistic(jnp.array([-1e4, 1e4]), signs)) == 1e4
    assert np.isfinite(jax.grad(logistic)(jnp.array([-1e4, 1e4]), signs)).all()
    assert float(cross_entropy(jnp.array([[1e4, 0.0]]), jnp.array([1]))) == 1e4


def test_losses_are_traced_and_mapped():
    outputs, labels = jnp.ones((3, 4)), jnp.array([0, 1, 2])
    assert float(jax.jit(cross_entropy)(outputs, labels)) == pytest.approx(np.log(4))
    assert jax.jit(jax.grad(logistic))(jnp.ones(2), jnp.array([1.0, -1.0])).shape == (2,)


def test_names_and_functions():
    assert [named(name) for name in ("mse", "logistic", "cross_entropy")] == [mse, logistic, cross_entropy]
    assert named(jnp.subtract) is jnp.subtract
    shape = jax.ShapeDtypeStruct((3, 2), jnp.float32)
    assert checked_targets("cross_entropy", shape, np.array([0, 1, 1])).shape == (3,)
    assert checked_targets(lambda u, y: jnp.sum(u - y), shape, np.ones((3, 2))).shape == (3, 2)


def test_bad_input_is_named(unchecked):
    outputs = jnp.zeros((3, 2))
    with pytest.raises(InputError, match="loss to be one of mse, logistic, cross_entropy; got 'hinge'"):
        named("hinge")
    with pytest.raises(InputTypeError, match="name of a loss or a function .* got int"):
        named(3)
    with pytest.raises(InputError, match=r"one row of targets for each of 3 inputs; got shape \(2,\)"):
        checked_targets("cross_entropy", outputs, [0, 1])
    with pytest.raises(InputError, match="Expected finite numbers in targets; got 1 NaN"):
        checked_targets("mse", outputs, np.array([[0, 0], [0, np.nan], [0, 0]]))
    with pytest.raises(InputError, match=r"targets of the outputs' shape, \(3, 2\); got \(3,\)"):
        checked_targets("mse", outputs, [0.0, 1.0, 2.0])
    with pytest.raises(InputError, match=r"one output an input, \(n,\) or \(n, 1\), .*; got \(3, 2\)"):
        checked_targets("logistic", outputs, [1, -1, 1])
    with pytest.raises(InputError, match="labels -1 and .1 for the logistic loss; got others"):
        checked_targets("logistic", outputs[:, :1], [1, 0, 1])
    with pytest.raises(InputError, match=r"an output a class, \(n, classes\), .*; got \(3, 1\)"):
        checked_targets("cross_entropy", outputs[:, :1], [1, 0, 1])
    with pytest.raises(InputError, match="labels from 0 to 1, one a class; got 0 to 2"):
        checked_targets("cross_entropy", outputs, [0, 1, 2])
    with pytest.raises(InputError, match=r"labels \(3,\), or probabilities \(3, 2\); got float32 of shape \(3,\)"):
        checked_targets("cross_entropy", outputs, [0.0, 1.0, 1.0])
    with pytest.raises(InputError, match="probabilities that sum to one in each row"):
        checked_targets("cross_entropy", outputs, np.ones((3, 2)))
    with pytest.raises(InputError, match=r"a loss that is one number; got shape \(3, 2\)"):
        checked_targets(jnp.subtract, outputs, np.ones((3, 2)))
