"""Held-out accuracy of the kernel machine: the machine written out, its exact interval, and its messages."""

import re

import jax
import numpy as np
import pytest
import scipy.stats

import ntkbias as nb
from ntkbias.behaviors import held_out_accuracy

RNG = np.random.default_rng(0)
Y = RNG.choice([-1.0, 1.0], 40)
FEATURES = RNG.normal(size=(40, 6)) + 0.8 * Y[:, None] * np.eye(6)[0]
K = FEATURES @ FEATURES.T


def test_it_is_ridge_regression_on_the_others():
    """The machine by a linear system, on the same draw of contexts; the interval by SciPy's exact test of a share."""
    other = np.arange(40) % 2 == 0
    found = held_out_accuracy({"K": K, "I": np.eye(40)}, {"y": Y, "other": other}, num_train=25, ridge=0.5)
    order = np.random.default_rng(np.asarray(jax.random.key_data(jax.random.key(0))).tolist()).permutation(40)
    train, test = order[:25], order[25:]
    for place, y in enumerate((Y, np.where(other, 1.0, -1.0))):
        mean = y[train].mean()
        weights = np.linalg.solve(K[np.ix_(train, train)] + 0.5 * np.eye(25), y[train] - mean)
        right = int(np.sum((mean + K[np.ix_(test, train)] @ weights > 0) == (y[test] > 0)))
        exact = scipy.stats.binomtest(right, 15).proportion_ci(method="exact")
        one = found["K", found.labelings[place]]
        np.testing.assert_allclose((one.value, one.low, one.high), (right / 15, exact.low, exact.high), rtol=1e-5)
        # A kernel that sees no similarity says the label of the majority.
        np.testing.assert_allclose(found.accuracy[1, place], found.majority[place])
    assert found["K", "y"].value > 0.6
    assert found.num_held_out == 15
    assert "one label for all" in str(found)


def test_a_kernel_of_the_labels_is_right_and_scales_do_not_matter():
    always = held_out_accuracy(np.outer(Y, Y) + 1e-3 * np.eye(40), Y)["labeling"]
    assert (always.value, always.high) == (1.0, 1.0)
    assert always.low == pytest.approx(0.025 ** (1 / 20), rel=1e-5)  # all of 20 right
    base, scaled = held_out_accuracy(K, Y), held_out_accuracy(100 * K, 3 * Y + 5)
    np.testing.assert_array_equal(base.accuracy, scaled.accuracy)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: held_out_accuracy(K, np.arange(40.0)), "Expected two labels in 'labeling', which a machine tells"),
        (lambda: held_out_accuracy(K, Y, num_train=40), "Expected num_train below the number of contexts, 40; got 40."),
        (lambda: held_out_accuracy(K, Y, num_train=0), "num_train"),
        (lambda: held_out_accuracy(K, Y, num_train=1), "Expected both labels of 'labeling' among 1 training contexts"),
        (lambda: held_out_accuracy(K, Y, ridge=-1.0), "ridge"),
        (lambda: held_out_accuracy(K, Y[:3]), "Expected the labeling 'labeling' of shape (40,)"),
        (lambda: held_out_accuracy(K, Y)["other"], "Expected the name of a labeling; got 'other'."),
        (lambda: held_out_accuracy({"a": K, "b": K}, Y)["labeling"], "Expected the names of a kernel and a labeling"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_messages(call, message):
    with pytest.raises(nb.InputError, match=re.escape(message)):
        call()
