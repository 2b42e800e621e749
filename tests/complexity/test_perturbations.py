"""The rise of the error under relative noise in the weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkbias.complexity import local_energy
from ntkbias.errors import InputError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(30, 4))


def linear(w, x):
    return x @ w


def test_of_a_linear_model_is_known():
    """The squared error rises by s^2 / 2 times the mean over inputs of sum_j (x_j w_j)^2, on average."""
    w = jnp.asarray(RNG.normal(size=(4, 1)))
    found = local_energy(linear, w, X, X @ w, [0.0, 0.1, 0.3], loss="mse", num_draws=200)
    expected = np.mean(np.sum((X * np.asarray(w)[:, 0]) ** 2, 1)) / 2
    np.testing.assert_allclose(found, expected * np.array([0, 0.01, 0.09]), rtol=0.3)  # four standard errors
    assert found[0] == 0


def test_errors_of_classes_of_signs_and_of_scaled_layers():
    W = {"w": jnp.asarray(RNG.normal(size=(4, 3)))}
    labels = np.argmax(X @ W["w"], 1)
    options = {"num_draws": 50, "key": jax.random.key(1)}
    found = np.asarray(local_energy(lambda p, x: x @ p["w"], W, X, labels, [0.0, 0.1, 100.0], **options))
    assert found[0] == 0 < found[1] < found[2]
    assert found[2] == pytest.approx(2 / 3, abs=0.1)  # chance
    scaled = np.asarray(local_energy(lambda p, x: x @ p["w"], {"w": 7 * W["w"]}, X, labels, [0.1], **options))
    assert scaled[0] == pytest.approx(found[1], abs=1e-6)
    w = W["w"][:, 0]
    signs = np.asarray(local_energy(linear, w, X, np.sign(X @ w), [0.0, 1e4], **options))
    assert signs[0] == 0
    assert signs[1] == pytest.approx(0.5, abs=0.1)


@pytest.mark.usefixtures("unchecked")
def test_bad_input_is_named():
    w = jnp.ones((4, 3))
    for wrong, message in (
        (lambda: local_energy(linear, w, X, np.zeros(30, int), [-0.1]), r"Expected sizes \(s,\) of zero or more"),
        (lambda: local_energy(linear, w, X, np.full(30, 7), [0.1]), "labels"),
        (lambda: local_energy(linear, w, X, np.zeros(30, int), [0.1], num_draws=0), "num_draws"),
    ):
        with pytest.raises(InputError, match=message):
            wrong()
