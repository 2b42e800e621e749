"""Sketches of gradients: unbiased, with the stated error, from one reading of the data, for any batches and budget."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import assert_near, function_case

import ntkbias as nb
from ntkbias.errors import InputError, InputTypeError
from ntkbias.kernels.empirical import Sketch, sketch
from ntkbias.kernels.operators import Jacobian
from ntkbias.kernels.operators.layout import Layout

NET = nb.nets.mlp(16, 1, 3)
PARAMS = NET.init(jax.random.key(0), (2,))
pytestmark = pytest.mark.slow

KEY = jax.random.key(5)
each_outputs = pytest.mark.parametrize("outputs", ["mean", "sum", "all"])


def network(outputs="mean", memory_budget=None):
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, float), PARAMS)
    return nb.empirical_ntk(NET.apply, params, outputs=outputs, memory_budget=memory_budget)


def inputs(n, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(n, 2)), float)


def flat(gram):
    rows = round(np.size(gram) ** 0.5)
    return np.asarray(gram, np.float64).reshape(rows, rows)


@each_outputs
def test_it_estimates_the_kernel_without_bias_and_of_the_error_stated(outputs):
    kernel, x, dim, count = network(outputs), inputs(5), 16, 1000
    # Columns are independent: those of one sketch are `count` sketches.
    features = np.asarray(sketch(kernel, x, dim * count, key=KEY).features, np.float64)
    assert features.shape == ((5, 3, dim * count) if outputs == "all" else (5, dim * count))
    draws = features.reshape(-1, count, dim).swapaxes(0, 1) * count**0.5
    grams = draws @ draws.swapaxes(1, 2)
    true = flat(kernel(x))
    stated = np.sqrt((np.outer(np.diagonal(true), np.diagonal(true)) + true**2) / dim)
    errors = (grams - true) / stated
    upper = np.triu_indices(len(true))
    assert np.abs(errors.mean(0)[upper]).max() < 4.5 / count**0.5
    # z^2 has the variance 2, and the excess kurtosis of one product over dim: 6, and 12 for squares.
    assert np.abs((errors**2).mean(0)[upper] - 1).max() < 4.5 * ((2 + 12 / dim) / count) ** 0.5
    # The squared standard errors are too large by at most 2 / dim, and each is uncertain by 2 sqrt(2 / dim).
    own = np.stack([flat(Sketch(jnp.asarray(draw, jnp.float32)).standard_error()) for draw in draws[:200]])
    assert np.abs((own**2).mean(0) / stated**2 - 1).max() < 2 / dim + 4.5 * 2 * (2 / dim) ** 0.5 / 200**0.5
    np.testing.assert_allclose(np.diagonal(own[0]), (2 / dim) ** 0.5 * np.sum(draws[0] ** 2, 1), rtol=1e-5)


def test_other_keys_are_other_draws(precision):
    kernel, x = network(), inputs(5)
    got = [np.asarray(sketch(kernel, x, 8, key=jax.random.key(seed)).features) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(got[0], got[1])
    assert np.abs(got[0] - got[2]).min() > 0
    assert got[0].dtype == precision


@each_outputs
@pytest.mark.slow
def test_neither_budget_nor_batches_change_it(outputs):
    x = inputs(7)
    whole = sketch(network(outputs), x, 10, key=KEY).features
    eps = float(jnp.finfo(whole.dtype).eps)
    for budget in (1, 10_000):  # a column and an example at a time; some of both
        assert_near(sketch(network(outputs, budget), x, 10, key=KEY).features, whole, 20 * eps)
    assert_near(sketch(network(outputs), x[3:5], 10, key=KEY).features, whole[3:5], 20 * eps)  # a function of the input
    longer = sketch(network(outputs), x, 13, key=KEY).features[..., :10]  # more columns, the same first ones
    assert_near(longer * (13 / 10) ** 0.5, whole, 20 * eps)


@pytest.mark.parametrize(("budget", "dim"), [(None, 200), (20_000, 200), (1, 4)])
def test_the_data_are_read_once_and_gradients_made_once(budget, dim, monkeypatch):
    read, pushed = [], []
    batches, push = Layout.batches, Jacobian.push

    def counted(self, x, size):
        for batch in batches(self, x, size):
            read.append(size)
            yield batch

    monkeypatch.setattr(Layout, "batches", counted)
    monkeypatch.setattr(Jacobian, "push", lambda self, u: pushed.append(1) or push(self, u))
    n = 20
    sketch(network("all", budget), inputs(n), dim, key=KEY)
    assert n <= sum(read) < 1.5 * n  # pieces have one length, and the last one is padded
    assert len(pushed) == 1 if budget is None else len(pushed) > 1


def test_columns_are_in_the_span_of_the_gradients(x64):
    def f(params, x):
        return jnp.tanh(x @ params["w"] + params["b"])

    params, x = {"w": jnp.array([0.3, -0.7]), "b": jnp.array(0.2)}, inputs(20)
    features = np.asarray(sketch(nb.empirical_ntk(f, params), x, 6, key=KEY).features)
    jacobian = np.column_stack(jax.tree.leaves(jax.jit(jax.jacobian(lambda p: f(p, x)))(params)))  # (20, 3)
    solution, _, rank, _ = np.linalg.lstsq(jacobian, features, rcond=None)
    np.testing.assert_allclose(jacobian @ solution, features, atol=1e-12)
    assert rank == np.linalg.matrix_rank(features) == 3


@pytest.mark.parametrize("name", ["cnn", "embedding", "weight used twice"])
def test_networks_of_other_layers(name):
    f, params, x, _ = function_case(name)
    kernel = nb.empirical_ntk(f, params)
    got = sketch(kernel, x, 4000, key=KEY)
    errors = (np.asarray(got.gram()) - np.asarray(kernel(x))) / np.asarray(got.standard_error())
    assert np.abs(errors).max() < 4.5


def test_kernels_of_one_layer_and_multiples():
    x = inputs(6)
    by_layer = nb.empirical_ntk_by_layer(NET.apply, PARAMS)
    path, kernel = next(iter(by_layer.items()))
    got = sketch(kernel, x, 3000, key=KEY)
    errors = (np.asarray(got.gram()) - np.asarray(kernel(x))) / np.asarray(got.standard_error())
    assert np.abs(errors).max() < 4.5, path
    assert_near(sketch(4.0 * kernel, x, 20, key=KEY).features, 2 * sketch(kernel, x, 20, key=KEY).features, 1e-6)


@each_outputs
def test_gram_operator_and_part(outputs):
    got = sketch(network(outputs), inputs(7), 20, key=KEY)
    gram = got.gram()
    assert gram.shape == got.standard_error().shape == ((7, 3, 7, 3) if outputs == "all" else (7, 7))
    operator = got.operator()
    assert (operator.num_examples, operator.num_outputs) == (7, 3 if outputs == "all" else 1)
    vectors = np.random.default_rng(0).normal(size=(operator.shape[0], 2)).astype(np.float32)
    assert_near(operator @ vectors, flat(gram) @ vectors, 1e-5)
    assert_near(operator.diagonal(), np.diagonal(flat(gram)), 1e-6)
    assert_near(got[2:4].gram(), gram[2:4, :, 2:4] if outputs == "all" else gram[2:4, 2:4], 1e-6)
    assert_near(got[np.array([5, 1])].features, got.features[np.array([5, 1])], 0)


@pytest.mark.slow
def test_two_sketches_by_one_key_estimate_the_kernel_between_their_inputs():
    kernel, x1, x2 = network(), inputs(6), inputs(4, seed=1)
    one, two = (sketch(kernel, x, 4000, key=KEY).features for x in (x1, x2))
    true, diagonals = np.asarray(kernel(x1, x2)), [np.diagonal(np.asarray(kernel(x))) for x in (x1, x2)]
    stated = np.sqrt((np.outer(*diagonals) + true**2) / 4000)
    assert np.abs((np.asarray(one @ two.T) - true) / stated).max() < 4.5


@pytest.mark.slow
def test_top_of_the_spectrum():
    kernel, x, dim = network("all"), inputs(40), 2000
    true = np.asarray(nb.spectrum(kernel, x, num_modes=3).eigenvalues)
    trace = float(jnp.trace(kernel(x).reshape(120, 120))) / 40
    got = nb.eigen.eigh(sketch(kernel, x, dim, key=KEY).gram(), num_modes=3).eigenvalues
    # A covariance of `dim` samples is off by about ||K|| sqrt(r / dim), where r = trace / ||K||; here by at most twice.
    assert np.abs(np.asarray(got) - true).max() < 2 * true[0] * (trace / true[0] / dim) ** 0.5


def test_it_is_saved(tmp_path):
    got = sketch(network(), inputs(4), 6, key=KEY)
    nb.save(tmp_path / "sketch", got)
    np.testing.assert_array_equal(nb.load(tmp_path / "sketch").features, got.features)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kernel": NET}, r"Expected inputs x= only with a Kernel; got them with Sequential\."),
        (
            {"kernel": nb.infinite_ntk(NET)},
            r"Expected an empirical NTK, .*; got InfiniteKernel\. For other kernels use nystrom",
        ),
        ({"kernel": nb.empirical_nngp(NET.apply, PARAMS)}, r"got EmpiricalNNGP\. For other kernels use nystrom"),
        ({"kernel": network() + network()}, r"or a positive multiple of one; got Sum\."),
        ({"kernel": 0.0 * network()}, r"or a positive multiple of one; got Scaled\."),
        ({"kernel": network("each")}, r"got outputs='each'"),
        ({"dim": 0}, r"Expected dim to be at least 1; got 0\."),
        ({"dim": 2.0}, r"Expected dim to be a whole number; got 2\.0\."),
        ({"x": jnp.ones((3, 5))}, r"Expected f\(params, x\) to accept x of shape \(3, 5\)"),
        ({"x": jnp.array([[jnp.nan, 1.0]])}, r"Expected finite numbers in x"),
    ],
)
def test_bad_input(change, message):
    arguments = {"kernel": network(), "x": inputs(4), "dim": 3, **change}
    with pytest.raises(InputError, match=message) as caught:
        sketch(**arguments, key=KEY)
    if message.startswith("Expected inputs x=") or "whole" in message:
        assert isinstance(caught.value, InputTypeError)
