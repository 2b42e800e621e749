"""Sharpness, the Gauss-Newton matrix, the NTK and shift-curvature, compared with explicit matrices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy.special import expit, softmax

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


def of_the_user(outputs, targets):
    return jnp.mean(jnp.sum((outputs - targets) ** 4, -1))


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
        np.testing.assert_allclose(operator @ directions, expected @ directions, atol=1e-11 * np.linalg.norm(expected))


def logistic_network(params, x):
    return network(params, x)[:, :1]


FISHER = {
    # the network, the targets, and for each example the residuals with their probabilities under the network
    "mse": (network, TARGETS, lambda u: [(0.25, np.sqrt(2) * side * e) for e in np.eye(2) for side in (-1, 1)]),
    "cross_entropy": (
        network,
        LABELS,
        lambda u: [(p, softmax(u) - e) for p, e in zip(softmax(u), np.eye(2), strict=True)],
    ),
    "logistic": (
        logistic_network,
        2.0 * LABELS - 1,
        lambda u: [(expit(y * u[0]), -y * expit(-y * u)) for y in (-1, 1)],
    ),
}
NAMED = [pytest.param(name, marks=[] if name == "cross_entropy" else pytest.mark.wide) for name in FISHER]


@functools.cache
def jacobian(f):
    flat, unravel = ravel_pytree(params_of())
    return np.asarray(jax.jit(jax.jacobian(lambda v: f(unravel(v), X)))(flat)), np.asarray(f(params_of(), X))


@pytest.mark.parametrize("loss", NAMED)
def test_fisher_is_the_mean_over_labels_of_the_network(x64, loss):
    """The empirical Fisher matrix has the given targets in place of these labels. Both have their exact traces."""
    f, y, labels = FISHER[loss]
    J, outputs = jacobian(f)
    pairs = [(J_i, p * r[:, None] * r) for J_i, u in zip(J, outputs, strict=True) for p, r in labels(u)]
    expected = sum(J_i.T @ outer @ J_i for J_i, outer in pairs) / len(X)
    residuals = {"mse": lambda: outputs - TARGETS, "cross_entropy": lambda: softmax(outputs, 1) - np.eye(2)[LABELS]}
    r = residuals.get(loss, lambda: -y[:, None] * expit(-y[:, None] * outputs))()
    gradients = np.einsum("no,nop->np", r, J)
    for matrix, wanted in (("fisher", expected), ("empirical-fisher", gradients.T @ gradients / len(X))):
        operator = hessian_operator(f, params_of(), X, y, matrix=matrix, loss=loss, **BATCH)
        np.testing.assert_allclose(operator.matrix(), wanted, atol=1e-12 * np.linalg.norm(wanted))
        np.testing.assert_allclose(operator.trace(), np.trace(wanted), rtol=1e-12)


@pytest.mark.parametrize("loss", NAMED)
def test_gauss_newton_has_the_nonzero_spectrum_of_the_loss_weighted_ntk(x64, loss):
    f, y, _ = FISHER[loss]
    for wrt in (None, "['hidden']"):
        operator = hessian_operator(f, params_of(), X, y, matrix="gauss-newton", loss=loss, wrt=wrt, **BATCH)
        found = np.linalg.eigvalsh(operator.matrix())[::-1]
        expected = np.asarray(nb.spectrum(nb.loss_weighted_ntk(f, params_of(), loss, wrt=wrt), X).eigenvalues)
        nonzero = expected > 1e-9 * expected[0]
        count = int(np.sum(nonzero))
        assert count >= len(X)
        np.testing.assert_allclose(found[:count], expected[nonzero], rtol=1e-6)
        np.testing.assert_allclose(found[count:], 0, atol=1e-12 * expected[0])


def test_both_ends_of_an_indefinite_matrix(x64):
    """By `hessian_eigenvalues`, and with eigenvectors by `top_modes`, which finds those of the matrix itself."""
    H = hessian_and_gauss_newton(mse)[0]
    expected = np.linalg.eigvalsh(H)
    operator = hessian_operator(network, params_of(), X, TARGETS, **BATCH)
    least = hessian_eigenvalues(network, params_of(), X, TARGETS, 3, end="smallest", tolerance=1e-5, **BATCH)
    np.testing.assert_allclose(least, expected[:3], atol=1e-8 * expected[-1])
    for sign, ends in ((1, expected[::-1]), (-1, -expected)):
        modes = nb.top_modes(sign * operator, 3, block_size=2, tolerance=1e-6)
        assert modes.method == "matrix-free"
        assert bool(jnp.all(modes.converged))
        assert np.isnan(modes.trace)
        np.testing.assert_allclose(modes.eigenvalues, ends[:3], rtol=1e-9)
        vectors = np.asarray(modes.eigenfunctions)[0]
        np.testing.assert_allclose(sign * H @ vectors, vectors * ends[:3], atol=1e-5 * expected[-1])
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=0), 1, rtol=1e-12)


@pytest.mark.wide
def test_repeated_eigenvalues_at_the_end(x64):
    """A Gauss-Newton matrix of 100 parameters and 18 outputs has 82 eigenvalues of zero."""
    options = {"matrix": "gauss-newton", "tolerance": 1e-4, **BATCH}
    found = hessian_eigenvalues(network, params_of(), X, TARGETS, 3, end="smallest", **options)
    np.testing.assert_allclose(found, 0, atol=1e-4 * np.linalg.eigvalsh(hessian_and_gauss_newton(mse)[1])[-1])


@pytest.mark.wide
def test_spectral_density_is_that_of_the_matrix(x64):
    """The same probes meet the same matrix, which as an array would be divided by its rows."""
    H = hessian_and_gauss_newton(mse)[0]
    operator = hessian_operator(network, params_of(), X, TARGETS, **BATCH)
    found, given = (
        nb.spectral_density(each, num_probes=2, num_steps=5)
        for each in (operator, nb.kernels.as_operator(H, definite=False))
    )
    np.testing.assert_allclose(found.nodes, 100 * given.nodes, atol=1e-9)
    assert "eigenvalues are below zero" in str(found)
    assert "K / n" not in str(found)


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


def test_a_fitted_network_has_the_hessian_of_its_ntk(x64):
    """For the squared error, G = J^T J / n and K / n = J J^T / n. If the network fits the targets, G is the Hessian."""
    params, options = params_of(), {"tolerance": 1e-6, **BATCH}
    top = nb.spectrum(nb.empirical_ntk(network, params, outputs="all"), X).eigenvalues[:4]
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
        (
            lambda: sharpness(network, params, X, TARGETS, loss=lambda u, y: jnp.sum((u - y) ** 2)),
            "Expected a loss that averages over examples; got one that is",
        ),
        (lambda: sharpness(network, params, X, TARGETS, tolerance=2.0), "Expected a tolerance between 0 and 1"),
        (lambda: sharpness(network, params, X, TARGETS, matrix="fischer"), "fisher, empirical-fisher; got 'fischer'"),
        (
            lambda: hessian_eigenvalues(network, params, X, TARGETS, end="least"),
            "one of largest, smallest; got 'least'",
        ),
        (
            lambda: sharpness(logistic_network, params, X, 2.0 * LABELS - 1, matrix="fisher", loss="hinge"),
            "Expected a loss whose Hessian is the Fisher matrix of its outputs: 'mse', 'logistic', 'cross_entropy' or",
        ),
        (
            lambda: hessian_operator(network, params, X, TARGETS, matrix="fisher", loss=of_the_user),
            "got 'of_the_user'. Use matrix='empirical-fisher', which any loss has.",
        ),
        (
            lambda: hessian_operator(network, params, X, TARGETS) @ jnp.ones(3),
            "got shape (3,). Rows are parameters, in the order of jax.flatten_util.ravel_pytree(params).",
        ),
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
