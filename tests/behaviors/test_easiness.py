"""Ease of labelings: its formula, its null, its interval on a case with a known truth, and its messages."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkbias as nb
from ntkbias.behaviors import ease
from ntkbias.behaviors.easiness import _of_one


def features_of(rng, n, strength):
    """Features of n contexts, of which the first carries the labeling."""
    y = rng.choice([-1.0, 1.0], n)
    scales = np.array([strength, 1.0, 0.7, 0.5, 0.3, 0.3, 0.2, 0.2])
    features = rng.normal(size=(n, 8)) * scales
    features[:, 0] += strength * y
    return features, y


def by_definition(K, y):
    n = len(y)
    H = np.eye(n) - 1 / n
    centered = H @ y
    return (n - 1) * centered @ K @ centered / (centered @ centered * np.trace(H @ K @ H))


def test_ease_is_its_formula():
    features, y = features_of(np.random.default_rng(0), 20, 1.0)
    K, other = features @ features.T, np.diag(np.arange(1.0, 21))
    found = ease({"a": K, "b": other}, {"label": y > 0, "number": np.arange(20.0)}, num_labelings=50)
    for kernel, matrix in (("a", K), ("b", other)):
        for name, values in (("label", y), ("number", np.arange(20.0))):
            assert found[kernel, name].ease.value == pytest.approx(by_definition(matrix, values), rel=1e-5)
    assert found.ease.shape == (2, 2)
    assert set(found.ranking("a")) == {"label", "number"}
    assert "random labelings, 99.9 %" in str(found)
    # The scale and the shift of kernels and labelings do not matter.
    again = ease(3 * K + 5, 2 * y - 7, num_labelings=50)["labeling"]
    assert again.ease.value == pytest.approx(found["a", "label"].ease.value, rel=1e-4)


def test_the_largest_ease_is_that_of_a_kernel_of_one_direction():
    y = np.array([-1.0, 1.0] * 6)
    assert ease(np.outer(y, y), y)["labeling"].ease.value == pytest.approx(11)
    assert ease(np.eye(12), y)["labeling"].ease.value == pytest.approx(1)


def test_random_orders_have_mean_one():
    features, y = features_of(np.random.default_rng(1), 40, 1.0)
    found = ease(features @ features.T, y, num_labelings=4_000, key=jax.random.key(3))
    assert abs(float(found.null_mean[0, 0]) - 1) < 3 * float(found.null_error[0, 0])
    K = features @ features.T
    rng = np.random.default_rng(5)
    drawn = [by_definition(K, rng.permutation(y)) for _ in range(4_000)]
    got = np.asarray(found.quantiles[0, 0])[1:3]
    np.testing.assert_allclose(got, np.quantile(drawn, [0.5, 0.995]), rtol=0.15)
    assert found["labeling"].p_value < 0.01


def test_a_kernel_comes_with_its_inputs_or_as_a_matrix():
    x = jax.random.normal(jax.random.key(0), (10, 3))
    kernel, y = nb.infinite_ntk(nb.nets.mlp(depth=1)), np.asarray(x[:, 0] > 0)
    values = [ease(kernel, x, y), ease(kernel(x), y), ease({"one": kernel.operator(x)}, y)]
    assert len({round(float(found.ease[0, 0]), 4) for found in values}) == 1


def test_kernels_by_layer_have_an_ease_each():
    """Their traces weight them: the ease of the whole is the mean of theirs."""
    x = jax.random.normal(jax.random.key(0), (10, 3))
    net, y = nb.nets.mlp(width=8, depth=1), np.asarray(x[:, 0] > 0)
    params = net.init(jax.random.key(1), (3,))
    grams = {path: np.asarray(K, float) for path, K in nb.empirical_ntk_by_layer(net.apply, params)(x).items()}
    found = ease(grams | {"whole": sum(grams.values())}, y, num_labelings=10)
    traces = {path: np.trace(K - K.mean(0)) for path, K in grams.items()}
    mean = sum(found[path, "labeling"].ease.value * trace for path, trace in traces.items()) / sum(traces.values())
    assert found["whole", "labeling"].ease.value == pytest.approx(mean, rel=1e-4)


Y = np.array([-1.0, 1.0, 1.0, -1.0])
ALL = nb.empirical_ntk(lambda p, x: x @ p, jnp.ones((2, 2)), outputs="all")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ease(np.ones((4, 4)), Y), "Expected a kernel that varies over the inputs"),
        (
            lambda: ease(np.eye(4), Y[:3]),
            "Expected the labeling 'labeling' of shape (4,), one label per input; got (3,).",
        ),
        (
            lambda: ease(np.eye(4), {"a": np.ones(4)}),
            "Expected a labeling that varies over the inputs; got a constant for 'a'.",
        ),
        (
            lambda: ease(np.diag([5.0, 5, -4, -4]), np.array([1.0, -1, 0, 0])),
            "Expected a positive semi-definite kernel",
        ),
        (lambda: ease(np.eye(4), np.arange(4)), "Expected two labels in 'labeling'; got 4 whole numbers."),
        (lambda: ease(np.eye(4), {}), "Expected a labeling, or a dict of one or more by name; got an empty dict."),
        (lambda: ease({}, Y), "Expected kernels to be a kernel, or a dict of one or more by name; got an empty dict."),
        (lambda: ease({"a": np.eye(4), "b": np.eye(3)}, Y), "Expected kernels on the same inputs; got 3, 4 of them."),
        (lambda: ease(ALL, jnp.eye(4)[:, :2], Y), "Expected kernels with one value per pair of inputs; got 2 outputs"),
        (lambda: ease(np.eye(4), Y, num_labelings=0), "num_labelings"),
        (lambda: ease(np.eye(4), Y)["label"], "Expected the name of a labeling; got 'label'."),
        (
            lambda: ease({"a": np.eye(4), "b": np.eye(4)}, Y)["labeling"],
            "Expected the names of a kernel and a labeling",
        ),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_messages(call, message):
    with pytest.raises(nb.InputError, match=re.escape(message)):
        call()


def test_a_few_rare_or_large_labels_say_too_little():
    """Three labels of 32: the jackknife would hold the mean in 80 of 100 samples."""
    x = np.random.default_rng(0).normal(size=(32, 3))
    rare, large = np.arange(32) < 3, np.where(np.arange(32) == 0, 50.0, x[:, 0])
    found = ease(x @ x.T, {"rare": rare, "large": large, "usual": x[:, 0]})
    for name in ("rare", "large"):
        assert (found[name].ease.low, found[name].ease.high) == (0, 31)
    assert 0 < found["usual"].ease.low < found["usual"].ease.high < 31


@pytest.mark.slow
@pytest.mark.parametrize("n", [32, 64, 200])
@pytest.mark.parametrize("name", ["balanced", "a fifth", "a tenth", "cubes"])
def test_intervals_hold_the_mean_over_fresh_samples(n, name):
    """At least as often as they say less three binomial errors, also for rare and heavy-tailed labels."""
    rng, orders, count = np.random.default_rng(n), np.arange(n)[:, None], 300
    label = {
        "balanced": lambda z: np.where(z > 0, 1.0, -1.0),
        "a fifth": lambda z: np.where(z > 0.8416, 1.0, -1.0),
        "a tenth": lambda z: np.where(z > 1.2816, 1.0, -1.0),
        "cubes": lambda z: z**3,
    }[name]
    found = []
    while len(found) < count:
        x = rng.normal(size=(n, 3))
        y = label(x[:, 0])
        if np.ptp(y):
            kernel = np.exp(-np.sum((x[:, None] - x) ** 2, -1) / 2)
            value, ends, *_ = _of_one(kernel, y - y.mean(), orders)
            found.append((value, *ends))
    values, low, high = np.transpose(found)
    held = np.mean((low <= values.mean()) & (values.mean() <= high))
    assert held >= 0.95 - 3 * (0.95 * 0.05 / count) ** 0.5
