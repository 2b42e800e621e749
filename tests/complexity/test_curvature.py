"""Sharpness, the Gauss-Newton matrix, the NTK and shift-curvature, compared with explicit matrices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import ntkbias as nb
from ntkbias.complexity import hessian_eigenvalues, hessian_operator, sharpness, shift_curvature
from ntkbias.errors import InputError

RNG = np.random.default_rng(0)
X, TARGETS = RNG.normal(size=(9, 3)), RNG.normal(size=(9, 2))
LABELS = np.array([0, 1, 1, 0, 1, 0, 0, 1, 1])
WEIGHTS = {"hidden": RNG.normal(size=(3, 20)), "out": RNG.normal(size=(20, 2))}  # 100 numbers, for Lanczos
BATCH = {"batch_size": 3}  # one shape, so one compilation


def network(params, x):
    return jnp.tanh(x @ params["hidden"]) @ params["out"]


def params_of(width=20):
    return {"hidden": jnp.asarray(WEIGHTS["hidden"][:, :width]), "out": jnp.asarray(WEIGHTS["out"][:width])}


def mse(outputs):
    return jnp.sum((outputs - TARGETS) ** 2) / (2 * len(X))


def cross_entropy(outputs):
    return -jnp.mean(jax.nn.log_softmax(outputs)[jnp.arange(len(X)), LABELS])


@functools.cache
def hessian_and_gauss_newton(loss):
    """The explicit matrices, in float64."""
    flat, unravel = ravel_pytree(params_of())
    H = jax.jit(jax.hessian(lambda v: loss(network(unravel(v), X))))(flat)
    J = np.asarray(jax.jit(jax.jacobian(lambda v: network(unravel(v), X).ravel()))(flat))
    curved = jax.jit(jax.hessian(lambda u: loss(u.reshape(9, 2))))(network(params_of(), X).ravel())
    return np.asarray(H), J.T @ np.asarray(curved) @ J


CASES = [("mse", TARGETS, mse), pytest.param("cross_entropy", LABELS, cross_entropy, marks=pytest.mark.slow)]


@pytest.mark.parametrize(("loss", "y", "oracle"), CASES)
def test_products_are_those_of_the_matrix(x64, loss, y, oracle):
    directions = RNG.normal(size=(100, 5))
    for matrix, expected in zip(("hessian", "gauss-newton"), hessian_and_gauss_newton(oracle), strict=True):
        operator = hessian_operator(network, params_of(), X, y, matrix=matrix, loss=loss, **BATCH)
        assert operator.shape == expected.shape
        np.testing.assert_allclose(
            operator.matmat(directions), expected @ directions, atol=1e-11 * np.linalg.norm(expected)
        )


def test_top_eigenvalues_are_those_of_the_matrix(x64):
    expected = np.linalg.eigvalsh(hessian_and_gauss_newton(mse)[0])[::-1]
    found = hessian_eigenvalues(network, params_of(), X, TARGETS, 3, tolerance=1e-6, **BATCH)
    np.testing.assert_allclose(found, expected[:3], rtol=1e-8)
    assert expected[-1] < 0  # the Hessian has negative eigenvalues too, so "largest by value" is tested
    np.testing.assert_allclose(sharpness(network, params_of(), X, TARGETS, **BATCH), expected[0], rtol=1e-4)


def test_all_eigenvalues_of_few_parameters(x64):
    """For a linear model, they are all eigenvalues of X^T X / n."""
    found = hessian_eigenvalues(lambda w, x: x @ w, jnp.ones(3), X, TARGETS[:, 0], 3)
    np.testing.assert_allclose(found, np.linalg.eigvalsh(X.T @ X / 9)[::-1], rtol=1e-12)


@pytest.mark.slow
def test_float32_agrees_with_float64():
    with jax.enable_x64(True):
        expected = np.linalg.eigvalsh(hessian_and_gauss_newton(mse)[0])[-1]
    found = sharpness(network, params_of(), X, TARGETS, key=jax.random.key(7), **BATCH)
    np.testing.assert_allclose(found, expected, rtol=1e-4)  # the square of the residual, 1e-3, and less


def test_gauss_newton_has_the_eigenvalues_of_the_ntk(x64):
    """For the squared error, G = J^T J / n and K / n = J J^T / n. If the network fits the targets, G is the Hessian."""
    params, options = params_of(), {"tolerance": 1e-6, **BATCH}
    top = nb.spectrum(nb.empirical_ntk(network, params, outputs="all"), X).eigenvalues[:4]
    newton = hessian_eigenvalues(network, params, X, TARGETS, 4, matrix="gauss-newton", **options)
    np.testing.assert_allclose(newton, top, rtol=1e-8)
    fitted = hessian_eigenvalues(network, params, X, network(params, X), 4, **options)
    np.testing.assert_allclose(fitted, top, rtol=1e-8)


def test_gradient_descent_is_stable_up_to_two_over_sharpness(x64):
    """In linear regression, the loss falls below 2 / sharpness, and grows above it."""
    y = X @ np.ones(3)
    critical = 2 / float(sharpness(lambda w, x: x @ w, jnp.zeros(3), X, y))
    for factor, falls in ((0.99, True), (1.01, False)):
        w = np.zeros(3)
        for _ in range(2_000):
            w = w - factor * critical * X.T @ (X @ w - y) / len(X)
        assert (np.mean((X @ w - y) ** 2) < 1e-6) == falls


class TestShiftCurvature:
    def test_is_exact_for_linear_regression(self, precision):
        rng = np.random.default_rng(0)
        train, test = rng.normal(size=(12, 4)), rng.normal(size=(15, 4))
        y_train, y_test = rng.normal(size=12), rng.normal(size=15)
        ends = [np.linalg.lstsq(a, b, rcond=None)[0] for a, b in ((train, y_train), (test, y_test))]
        losses = [np.mean((test @ w - y_test) ** 2) / 2 for w in ends]
        found = shift_curvature(lambda w, x: x @ w, jnp.asarray(ends[1]), ends[0] - ends[1], test, y_test)
        eps = float(jnp.finfo(jnp.zeros(()).dtype).eps)
        np.testing.assert_allclose(found, losses[0] - losses[1], rtol=100 * eps)

    def test_is_the_quadratic_form(self, x64):
        shift = jax.tree.map(np.cos, params_of())
        flat = np.concatenate([shift["hidden"].ravel(), shift["out"].ravel()])
        expected = flat @ hessian_and_gauss_newton(mse)[0] @ flat / 2
        found = shift_curvature(network, params_of(), shift, X, TARGETS, **BATCH)
        np.testing.assert_allclose(found, expected, rtol=1e-10)


@pytest.mark.usefixtures("unchecked")
def test_bad_input_is_named():
    params = params_of(2)
    cases = [
        (lambda: hessian_eigenvalues(network, params, X, TARGETS, 11), "at most the number of parameters, 10; got 11"),
        (lambda: hessian_eigenvalues(network, params, X, TARGETS, 0), "num_eigenvalues to be at least 1"),
        (lambda: sharpness(network, params, X, TARGETS, tolerance=2.0), "Expected a tolerance between 0 and 1"),
        (lambda: sharpness(network, params, X, TARGETS, matrix="fisher"), "one of hessian, gauss-newton; got 'fisher'"),
        (lambda: sharpness(network, params, X, TARGETS, key="seed"), "Expected a key of jax.random"),
        (
            lambda: sharpness(lambda w, x: jnp.sqrt(x @ w), jnp.zeros(3), X, X[:, 0]),
            "Expected finite products with",
        ),
        (lambda: shift_curvature(network, params, [1.0], X, TARGETS), "Expected shift to be a pytree like params"),
        (
            lambda: shift_curvature(network, params, {**params, "out": 1.0}, X, TARGETS),
            "Expected shift to have the shapes of params, [(3, 2), (2, 2)]; got [(3, 2), ()]",
        ),
    ]
    for call, message in cases:
        with pytest.raises(InputError) as error:
            call()
        assert message in str(error.value)
