"""Kernel ridge regression, compared with scikit-learn and with refits, and the ridge of the least score."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.kernel_ridge import KernelRidge

import ntkbias as nb
from ntkbias.errors import InputError
from ntkbias.learning import gradient_flow, kernel_regression
from ntkbias.tables import number

RNG = np.random.default_rng(0)
N, M, OUTPUTS = 12, 5, 2


def gram(rows, test, rank=None):
    features = RNG.normal(size=(rows + test, rank or rows + 3))
    whole = features @ features.T
    return whole[:rows, :rows], whole[rows:, :rows]


K, K_TEST = gram(N, M)
Y = RNG.normal(size=(N, 3))


def test_it_is_scikit_learn_s(precision):
    fit = kernel_regression(K, Y, ridge=0.3)
    peer = KernelRidge(alpha=0.3, kernel="precomputed").fit(K, Y)
    tolerance = 100 * float(jnp.finfo(jnp.zeros(()).dtype).eps)
    np.testing.assert_allclose(fit.predict(K_test=K_TEST), peer.predict(K_TEST), atol=tolerance * np.abs(K_TEST).max())
    np.testing.assert_allclose(fit.outputs, peer.predict(K), atol=tolerance * np.abs(K).max())
    np.testing.assert_allclose(fit.effective_dimension, np.trace(K @ np.linalg.inv(K + 0.3 * np.eye(N))), rtol=1e-5)


@pytest.mark.parametrize("ridge", [0.3, None])
def test_left_out_examples_are_those_of_refits(x64, ridge):
    fit = kernel_regression(K, Y, ridge=ridge)
    for i in range(N):
        rest = np.delete(np.arange(N), i)
        refit = kernel_regression(K[np.ix_(rest, rest)], Y[rest], ridge=float(fit.ridge))
        np.testing.assert_allclose(fit.left_out[i], refit.predict(K_test=K[[i]][:, rest])[0], rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(fit.leave_one_out_error, np.mean(np.sum((fit.left_out - Y) ** 2, 1)), rtol=1e-8)


def test_all_pairs_of_outputs_and_their_examples_left_out(x64):
    matrix, test = gram(N * OUTPUTS, M * OUTPUTS)
    y = RNG.normal(size=(N, OUTPUTS))
    fit = kernel_regression(matrix.reshape(N, OUTPUTS, N, OUTPUTS), y, ridge=0.3)
    weights = np.linalg.solve(matrix + 0.3 * np.eye(N * OUTPUTS), y.ravel())
    np.testing.assert_allclose(
        fit.predict(K_test=test.reshape(M, OUTPUTS, N, OUTPUTS)).ravel(), test @ weights, atol=1e-10
    )
    rest = np.arange(OUTPUTS, N * OUTPUTS)  # without the first example, all its outputs at once
    weights = np.linalg.solve(matrix[np.ix_(rest, rest)] + 0.3 * np.eye(len(rest)), y.ravel()[rest])
    np.testing.assert_allclose(fit.left_out[0], matrix[:OUTPUTS, rest] @ weights, atol=1e-10)


def score(ridge):
    hat = K @ np.linalg.inv(K + ridge * np.eye(N))
    return N * np.sum((Y - hat @ Y) ** 2) / np.trace(np.eye(N) - hat) ** 2


def test_the_ridge_has_the_least_score(x64):
    fit = kernel_regression(K, Y)
    grid = np.geomspace(1e-12, 10, 2_000) * np.linalg.eigvalsh(K)[-1]
    least = min(map(score, grid))
    np.testing.assert_allclose(fit.score, score(float(fit.ridge)), rtol=1e-8)
    assert fit.score <= least * (1 + 1e-6)
    np.testing.assert_allclose(
        kernel_regression(K, Y, ridge=float(fit.ridge)).coefficients, fit.coefficients, rtol=1e-8
    )


def test_it_finds_the_noise(x64):
    """Over several draws, the ridge is large if noise is as large as the signal, and minimal without noise."""
    matrix, _ = gram(60, 0, 5)
    matrix += 0.5 * np.eye(60)
    ratios = []
    for _ in range(5):
        signal = matrix @ RNG.normal(size=60) / 20
        noisy = kernel_regression(matrix, signal + np.std(signal) * RNG.normal(size=60))
        ratios.append(float(noisy.ridge / kernel_regression(matrix, signal).ridge))
    assert np.median(ratios) > 10


def test_no_ridge_is_the_end_of_gradient_flow(x64):
    fit = kernel_regression(K, Y, ridge=0.0)
    flow = gradient_flow(K, Y, [np.inf], K_test=K_TEST)
    np.testing.assert_allclose(fit.predict(K_test=K_TEST), flow.test_outputs[0], rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(fit.outputs, Y)


def test_lists_are_matrices(x64, unchecked):
    fit = kernel_regression(K.tolist(), Y, ridge=0.3)
    np.testing.assert_array_equal(fit.outputs, kernel_regression(K, Y, ridge=0.3).outputs)


def test_a_fit_is_saved_and_printed(tmp_path):
    fit = kernel_regression(K, Y, ridge=0.1)
    np.testing.assert_allclose(fit.training_error, np.mean(np.sum((fit.outputs - Y) ** 2, 1)), rtol=1e-3)
    lines = str(fit).splitlines()
    assert lines[0] == "KernelRegression: 12 examples"
    assert lines[1].split() == ["ridge", "0.100"]
    assert lines[4].split() == ["leave-one-out", "error", number(fit.leave_one_out_error)]
    nb.save(tmp_path / "fit", fit)
    np.testing.assert_array_equal(nb.load(tmp_path / "fit").predict(K_test=K_TEST), fit.predict(K_test=K_TEST))


def network(params, x):
    return jnp.tanh(x @ params)


@pytest.mark.parametrize("outputs", ["mean", "all"])
def test_a_fit_keeps_its_kernel(tmp_path, unchecked, outputs):
    """As many inputs as features: rows of the kernel have the shape of inputs, and are not taken for them."""
    x, x_test = (jax.random.normal(jax.random.key(seed), (count, N)) for seed, count in ((0, N), (1, M)))
    kernel = nb.empirical_ntk(network, jax.random.normal(jax.random.key(2), (N, OUTPUTS)), outputs=outputs)
    y = Y[:, :OUTPUTS]
    fit, expected = kernel_regression(kernel, x, y, ridge=0.3), kernel_regression(kernel(x), y, ridge=0.3)
    predicted = expected.predict(K_test=kernel(x_test, x))
    nb.save(tmp_path / "fit", fit)
    for known in (fit, kernel_regression(kernel.operator(x), y, ridge=0.3), nb.load(tmp_path / "fit", f=network)):
        np.testing.assert_allclose(known.predict(x_test), predicted, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(known.predict(K_test=kernel(x_test, x)), predicted, rtol=1e-4, atol=1e-5)
    with pytest.raises(InputError, match=r"Expected f=, the function 'network'"):
        nb.load(tmp_path / "fit").predict(x_test)


@pytest.mark.usefixtures("unchecked")
def test_errors_say_what_to_do():
    fit = kernel_regression(K, Y, ridge=0.1)
    cases = [
        (lambda: kernel_regression(K, Y[:3], ridge=0.1), "Expected targets of shape (12,), one value per input"),
        (lambda: kernel_regression(K, Y, ridge=-1.0), "Expected ridge to be zero or more; got -1.0"),
        (lambda: kernel_regression(K, Y, ridge=[1.0, 2.0]), "Expected ridge to be one number; got shape (2,)"),
        (
            lambda: kernel_regression(K, Y * 1e25),
            "Expected targets whose squares sum to a number within the range of float32",
        ),
        (lambda: jax.jit(kernel_regression)(K, Y), "Expected arrays with values in kernel_regression; got traced ones"),
        (
            lambda: kernel_regression(np.ones((3, 3)), np.ones(3), ridge=0.0),
            "Expected K + ridge to be positive definite",
        ),
        (lambda: kernel_regression(K[:, ::-1], Y, ridge=0.1), "Expected a symmetric matrix"),
        (lambda: kernel_regression(-K, Y), "Expected a positive semi-definite kernel"),
        (lambda: kernel_regression(0 * K, Y), "Expected a kernel that is not zero; got one of zeros"),
        (lambda: kernel_regression(K[:3], Y, ridge=0.1), "Expected a matrix (n, n), or (n, o, n, o)"),
        (lambda: fit.predict(K_TEST), "Expected K_test=kernel(x_test, x) for the fit of a bare matrix"),
        (lambda: fit.predict(), "Expected test points as x_test, or as K_test=kernel(x_test, x); got neither"),
        (lambda: fit.predict(K_test=K_TEST.T), "Expected K_test of shape (m, 12), kernel(x_test, x)"),
    ]
    for call, message in cases:
        with pytest.raises(InputError) as error:
            call()
        assert message in str(error.value)
