"""Training of functions with outputs `(n, positions, o)`: losses act on the last axis, positions count as outputs."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import LOSSES, loss_case

import ntkbias as nb
from ntkbias import losses
from ntkbias.tracking import Probe, Setting, Snapshot, measures, track, track_many
from ntkbias.training import train

NUM_STEPS = 3


def network(params, x):
    return jnp.tanh(x @ params["w"]) @ params["o"]


def problem(name):
    loss, outputs, targets = loss_case(name, positions=(3,))
    rng = np.random.default_rng(1)
    params = {"w": rng.normal(size=(2, 4)), "o": rng.normal(size=(4, outputs.shape[-1]))}
    return loss, jax.tree.map(jnp.asarray, params), jnp.asarray(rng.normal(size=(6, 3, 2))), targets


def descended(loss, params, x, y):
    """The losses along gradient descent if every position is an input of its own, with three times its weight."""
    rows, labels = x.reshape(18, 2), y.reshape(18, *y.shape[2:])
    for _ in range(NUM_STEPS):
        value, gradient = jax.value_and_grad(lambda p: 3 * loss(network(p, rows), labels))(params)
        yield float(value)
        params = jax.tree.map(lambda p, g: p - 0.1 * g, params, gradient)
    yield float(3 * loss(network(params, rows), labels))


@pytest.mark.parametrize("name", LOSSES)
def test_training_is_that_of_rows(name, x64):
    loss, params, x, y = problem(name)
    wanted = list(descended(loss, params, x, y))
    options = {"optimizer": optax.sgd(0.1), "num_steps": NUM_STEPS, "loss": name, "at": range(NUM_STEPS + 1)}
    steps = [float(loss(network(p, x), y)) for _, p in train(network, params, (x, y), **options)]
    np.testing.assert_allclose(steps, wanted, rtol=1e-12)
    taken = measures.chosen("loss", "train_loss")
    history = track(network, params, (x, y), **options, measures=taken)
    np.testing.assert_allclose(history["loss"], wanted, rtol=1e-6)
    np.testing.assert_allclose(history["train_loss"], wanted, rtol=1e-6)
    both = jax.tree.map(lambda p: jnp.stack([p, p]), params)
    many = track_many(network, both, (x, y), **options, measures=taken)
    np.testing.assert_allclose(many["loss"], np.stack([wanted, wanted], 0), rtol=1e-6)


@pytest.mark.parametrize("outputs", ["mean", "all"])
def test_measures_of_sequences(outputs, x64):
    _, params, x, labels = problem("cross_entropy")
    wave = jnp.cos(jnp.arange(54.0)).reshape(6, 3, 3)
    probe = Probe(outputs=outputs, watched={"wave": wave}, num_modes=5)
    setting = Setting.of(network, params, (x, labels), "cross_entropy", probe)
    at = Snapshot(setting, 0, params)
    scores, right = np.asarray(network(params, x)).reshape(18, 3), np.asarray(labels).ravel()
    chances = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    taken = {name: measure(at) for name, measure in measures.ALL.items()}
    assert taken["accuracy"] == taken["train_accuracy"] == np.mean(scores.argmax(1) == right)
    margins = [row[y] - max(np.delete(row, y)) for row, y in zip(scores, right, strict=True)]
    assert taken["margin"] == pytest.approx(min(margins), rel=1e-6)
    np.testing.assert_allclose(at.residual.reshape(18, 3), chances - np.eye(3)[right], rtol=1e-6, atol=1e-8)
    np.testing.assert_array_equal(at.labels, np.eye(3)[right].reshape(6, 9))
    K = np.asarray(nb.empirical_ntk(network, params, outputs="all")(x)).reshape(54, 54)
    y, energy = np.asarray(wave).reshape(6, 9), np.sum(at.labels**2)
    if outputs == "all":
        aligned = at.labels.ravel() @ K @ at.labels.ravel() / (np.linalg.norm(K) * energy)
        np.testing.assert_allclose(taken["uncentered_alignment"], aligned, rtol=1e-5)
        np.testing.assert_allclose(taken["target_alignment"], y.ravel() @ K @ y.ravel() / (6 * np.sum(y**2)), rtol=1e-5)
    np.testing.assert_allclose(taken["critical_learning_rate"], 2 / np.linalg.eigvalsh(K / 6)[-1], rtol=2e-3)
    np.testing.assert_allclose(taken["learned"], np.vdot(scores, y) / np.sum(y**2), rtol=1e-6)
    np.testing.assert_allclose(at.velocity.ravel(), -K @ (chances - np.eye(3)[right]).ravel() / 6, rtol=1e-5, atol=1e-8)
    wanted = nb.complexity.gradient_norm(network, params, x, labels, loss="cross_entropy")
    np.testing.assert_allclose(taken["gradient_norm"], wanted, rtol=1e-6)
    left_out = {name for name, value in taken.items() if value is None}
    assert left_out <= {  # without a domain, test inputs, a squared error, or a learning rate
        *("test_loss", "test_accuracy", "alignment_by_class", "frequencies", "residual_frequency"),
        *("residual_spectrum", "output_spectrum", "frozen_outputs", "frozen_error", "frozen_loss"),
        *("path_kernel", "path_eigenvalues", "path_outputs", "path_error", "trajectory_complexity"),
        *("matched_modes", "kernel_velocity", "sharpness_limit"),
    }


def test_labels_of_signs_at_each_position():
    """With one output per position, its sign is the class."""
    _, params, x, labels = problem("logistic")
    setting = Setting.of(network, params, (x, labels), "logistic")
    at = Snapshot(setting, 0, params)
    signs = np.sign(np.asarray(network(params, x)))[..., 0]
    assert measures.ALL["accuracy"](at) == np.mean(signs == np.asarray(labels))
    assert losses.logistic.of_classes((np.asarray(labels) > 0).astype(int), 2).tolist() == labels.tolist()
