"""Nearest class centers, effective depth and neural collapse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.neighbors import NearestCentroid

import ntkbias as nb
from ntkbias.complexity import (
    activations,
    class_distance_variance,
    effective_depth,
    hidden_activations,
    layer_separation,
    nearest_center_accuracy,
)
from ntkbias.errors import InputError, InputTypeError


def classes(spread, n=60, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    return np.eye(3)[labels] @ rng.normal(size=(3, 5)) * 3 + spread * rng.normal(size=(n, 5)), labels


def test_agrees_with_nearest_centroid_of_scikit_learn():
    """scikit-learn implements the same definition. The classes of the data overlap."""
    (x, labels), (test, test_labels) = classes(3.0), classes(3.0, seed=1)
    model = NearestCentroid().fit(x, labels)
    assert nearest_center_accuracy(x, labels) == model.score(x, labels) < 1
    assert nearest_center_accuracy(x, labels, test, test_labels) == model.score(test, test_labels)


def test_laws():
    x, labels = classes(2.0)
    rotation = np.linalg.qr(np.random.default_rng(2).normal(size=(5, 5)))[0]
    accuracy, variance = nearest_center_accuracy(x, labels), class_distance_variance(x, labels)
    for moved in (7 * x, x @ rotation, x + 1000, x[::-1]):
        names = labels[::-1] if moved is not x and np.array_equal(moved, x[::-1]) else labels
        assert nearest_center_accuracy(moved, 10 - 3.5 * names) == accuracy
        assert class_distance_variance(moved, names) == pytest.approx(variance, rel=1e-9)
    collapsed, _ = classes(0.0)
    assert nearest_center_accuracy(collapsed, labels) == 1
    assert class_distance_variance(collapsed, labels) == pytest.approx(0, abs=1e-20)
    assert class_distance_variance(np.ones((4, 2)) * [[1], [-1], [1], [-1]], np.array([0, 0, 1, 1])) == np.inf


def test_class_distance_variance_of_two_classes_is_known():
    x, labels = np.array([[0.0], [2.0], [10.0], [14.0]]), np.array([0, 0, 1, 1])
    assert class_distance_variance(x, labels) == pytest.approx((1 + 4) / (2 * 11**2))


def test_effective_depth_is_the_first_layer_that_separates():
    labels = np.arange(60) % 3
    layers = [classes(spread)[0] for spread in (8.0, 4.0, 0.1, 0.0)]
    accuracies = np.asarray(layer_separation(layers, labels))
    assert np.all(np.diff(accuracies) >= 0)
    assert effective_depth(layers, labels) == 3
    assert effective_depth(layers, labels, max_error=0.99) == 1
    assert effective_depth(layers[:2], labels, max_error=0.0) == 2  # no layer separates: the number of layers


def test_activations_are_the_layers_outputs():
    net = nb.layers.Sequential((nb.layers.Dense(4), nb.layers.Relu(), nb.layers.Dense(2)))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(6, 3)))
    params = net.init(jax.random.key(1), (3,))
    found = activations(net, params, x, batch_size=3)
    assert [layer.shape for layer in found] == [(6, 4), (6, 4), (6, 2)]
    np.testing.assert_allclose(found[-1], net.apply(params, x), rtol=1e-5)
    np.testing.assert_array_equal(found[1], np.maximum(found[0], 0))
    hidden = hidden_activations(net, params, x)
    assert list(hidden) == ["relu 1"]
    np.testing.assert_array_equal(hidden["relu 1"], found[1])


def test_classes_at_one_point_do_not_separate():
    assert class_distance_variance(np.ones((4, 2)), np.array([0, 0, 1, 1])) == np.inf


@pytest.mark.usefixtures("unchecked")
def test_bad_input_is_named():
    x, labels = classes(1.0)
    cases = [
        (lambda: nearest_center_accuracy(x, labels[:4]), "Expected one label for each of 60 inputs in labels"),
        (lambda: nearest_center_accuracy(x, 0 * labels), "Expected labels of two classes or more; got 1"),
        (lambda: nearest_center_accuracy(np.nan * x, labels), "Expected finite numbers in features"),
        (lambda: nearest_center_accuracy(x, labels, x), "Expected test_features and test_labels together"),
        (lambda: nearest_center_accuracy(x, labels, x[:, :2], labels), "test_features of 5 numbers each; got 2"),
        (lambda: nearest_center_accuracy(x, labels, x, labels + 1), "Expected test_labels of classes that labels have"),
        (lambda: effective_depth([x], labels, max_error=1.0), "Expected max_error from 0 to below 1"),
        (lambda: effective_depth(x, labels), "Expected a list of the layers' activations"),
        (lambda: layer_separation([], labels), "Expected a list of the layers' activations"),
        (lambda: activations(nb.layers.Relu(), None, x), "Expected a network made of layers in sequence"),
        (
            lambda: hidden_activations(nb.layers.Sequential(nb.layers.Identity()), [()], x),
            "Expected a network with nonlinearities among its layers",
        ),
        (lambda: activations(nb.nets.mlp(), None, x[0]), "Expected x (n, d) or (n, ...), with one input"),
    ]
    for call, message in cases:
        with pytest.raises(InputError) as error:
            call()
        assert message in str(error.value)
    assert issubclass(InputTypeError, InputError)
