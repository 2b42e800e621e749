"""A kernel inside scikit-learn's estimators gives what this package's own functions and formulas give."""

import functools
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy
from sklearn.base import clone
from sklearn.gaussian_process import GaussianProcessClassifier, GaussianProcessRegressor
from sklearn.gaussian_process.kernels import WhiteKernel
from sklearn.kernel_ridge import KernelRidge
from sklearn.model_selection import GridSearchCV
from sklearn.svm import SVC

import ntkbias as nb
from ntkbias.adapters import sklearn_kernel
from ntkbias.errors import InputError, InputTypeError

NET = nb.nets.mlp(8, 1, b_std=0.1)
LIMIT = nb.infinite_ntk(NET)
X = np.random.default_rng(0).normal(size=(30, 3))
Y = np.sin(X[:, 0]) + X[:, 1] * X[:, 2]
TEST = X[:7] / 2


def f(params, x):
    return jnp.tanh(x @ params["hidden"]) @ params["out"]


RNG = np.random.default_rng(1)
PARAMS = {"hidden": RNG.normal(size=(3, 40)), "out": RNG.normal(size=(40, 1)) / 6}
# name -> a kernel of rows (n, 3)
KERNELS = {
    "infinite NTK": lambda: LIMIT,
    "infinite NNGP": lambda: nb.infinite_nngp(NET),
    "empirical NTK": lambda: nb.empirical_ntk(f, PARAMS),
    "method of a net": lambda: nb.empirical_ntk(NET.apply, NET.init(jax.random.key(0), (3,))),
    "sum": lambda: LIMIT + 0.5 * nb.infinite_nngp(NET),
}
each_kernel = pytest.mark.parametrize("kernel", KERNELS)


@functools.cache
def digits():
    images, labels = nb.datasets.digits(150)
    return images, labels, nb.infinite_ntk(nb.nets.cnn(depth=1))


@each_kernel
def test_kernel_ridge_is_kernel_regression(kernel, x64):
    kernel = KERNELS[kernel]()
    fit = KernelRidge(alpha=0.3, kernel=sklearn_kernel(kernel)).fit(X, Y)
    own = nb.kernel_regression(kernel, X, Y, ridge=0.3)
    np.testing.assert_allclose(fit.predict(TEST), own.predict(TEST), rtol=1e-9)
    np.testing.assert_allclose(fit.dual_coef_, own.coefficients, rtol=1e-9)


def test_a_scale_divides_the_ridge(x64):
    fit = KernelRidge(alpha=0.3, kernel=sklearn_kernel(LIMIT, scale=2.0)).fit(X, Y)
    own = nb.kernel_regression(LIMIT, X, Y, ridge=0.15)
    np.testing.assert_allclose(fit.predict(TEST), own.predict(TEST), rtol=1e-9)


def test_svc_on_digits_is_svc_on_the_gram_matrix():
    images, labels, kernel = digits()
    rows = images.reshape(len(images), -1)
    fit = SVC(kernel=sklearn_kernel(kernel, images.shape[1:])).fit(rows[:100], labels[:100])
    peer = SVC(kernel="precomputed").fit(kernel(images[:100]), labels[:100])
    np.testing.assert_array_equal(fit.support_, peer.support_)
    decisions = fit.decision_function(rows[100:]), peer.decision_function(kernel(images[100:], images[:100]))
    np.testing.assert_allclose(*decisions, rtol=1e-5)
    np.testing.assert_array_equal(fit.predict(rows[100:]), peer.predict(kernel(images[100:], images[:100])))
    assert fit.score(rows[100:], labels[100:]) > 0.7


@each_kernel
def test_fits_survive_pickle(kernel):
    wrapped = sklearn_kernel(KERNELS[kernel]())
    for fit in (SVC(kernel=wrapped).fit(X, Y > 0), KernelRidge(kernel=wrapped).fit(X, Y)):
        loaded = pickle.loads(pickle.dumps(fit))
        np.testing.assert_array_equal(loaded.predict(TEST), fit.predict(TEST))


def log_likelihood(gram, y):
    """The log marginal likelihood of a Gaussian process: -1/2 y^T K^-1 y - 1/2 log det K - n/2 log 2 pi."""
    return -0.5 * y @ scipy.linalg.solve(gram, y) - 0.5 * np.linalg.slogdet(gram)[1] - len(y) / 2 * np.log(2 * np.pi)


@each_kernel
def test_the_likelihood_is_its_formula_and_the_gradient_its_slope(kernel, x64):
    kernel, noise = KERNELS[kernel](), 0.1
    wrapped = sklearn_kernel(kernel, scale=0.7)
    fit = GaussianProcessRegressor(wrapped, alpha=noise, optimizer=None).fit(X, Y)
    gram = np.asarray(kernel(X), float)

    def formula(theta):
        return log_likelihood(np.exp(theta) * gram + noise * np.eye(len(X)), Y)

    theta = np.log(0.7)
    value, gradient = fit.log_marginal_likelihood(np.array([theta]), eval_gradient=True)
    assert value == pytest.approx(formula(theta), rel=1e-10)
    step = 1e-4
    slope = (formula(theta + step) - formula(theta - step)) / (2 * step)
    assert gradient == pytest.approx([slope], rel=1e-6)
    mean, deviation = fit.predict(TEST, return_std=True)
    cross = 0.7 * np.asarray(kernel(TEST, X), float)
    solved = np.linalg.solve(0.7 * gram + noise * np.eye(len(X)), cross.T)
    np.testing.assert_allclose(mean, solved.T @ Y, rtol=1e-8)
    variance = 0.7 * np.diag(np.asarray(kernel(TEST), float)) - np.sum(cross * solved.T, 1)
    np.testing.assert_allclose(deviation**2, variance, rtol=1e-6)


def test_the_scale_is_fitted(x64):
    """At the optimum the slope is zero, and the Gram matrix was computed once for all steps."""
    calls = []

    class Counted(type(LIMIT)):
        def __call__(self, x1, x2=None):
            calls.append(x2 is None)
            return super().__call__(x1, x2)

    kernel = Counted(**vars(LIMIT))
    fit = GaussianProcessRegressor(sklearn_kernel(kernel), alpha=0.1).fit(X, Y)
    _, gradient = fit.log_marginal_likelihood(fit.kernel_.theta, eval_gradient=True)
    assert abs(gradient[0]) < 1e-3
    assert fit.kernel_.scale != 1.0
    assert len(calls) <= 4  # for the fit, the end of it, and two likelihoods: without memory there are ten or more
    assert fit.kernel_(X)[0, 0] == pytest.approx(fit.kernel_.scale * float(LIMIT(X)[0, 0]))


def test_other_rows_of_the_same_shape_are_computed_anew():
    kernel = sklearn_kernel(LIMIT)
    for rows in (X, 2 * X, X):
        gram, _ = kernel(rows, eval_gradient=True)
        np.testing.assert_allclose(gram, LIMIT(rows), rtol=1e-6)
    kernel.set_params(kernel=nb.infinite_nngp(NET))
    np.testing.assert_allclose(kernel(X, eval_gradient=True)[0], nb.infinite_nngp(NET)(X), rtol=1e-6)


def test_a_fixed_scale_has_no_gradient():
    kernel = sklearn_kernel(LIMIT, scale_bounds="fixed")
    assert kernel(X, eval_gradient=True)[1].shape == (30, 30, 0)
    assert kernel.theta.shape == (0,)
    assert GaussianProcessRegressor(kernel, alpha=0.1).fit(X, Y).kernel_.scale == 1.0


def test_it_is_a_kernel_of_scikit_learn():
    kernel = sklearn_kernel(LIMIT, (3,), scale=2.0)
    copied = clone(kernel)
    assert copied == kernel
    assert copied is not kernel
    assert copied.kernel is LIMIT
    assert kernel.get_params() == {
        "kernel": LIMIT,
        "input_shape": (3,),
        "scale": 2.0,
        "scale_bounds": (1e-5, 1e5),
    }
    assert kernel.clone_with_theta(np.log([3.0])).scale == pytest.approx(3.0)
    assert kernel != sklearn_kernel(LIMIT, (3,))
    assert kernel != WhiteKernel()
    np.testing.assert_allclose(kernel.diag(X), np.diag(kernel(X)), rtol=1e-6)
    assert kernel(X, TEST).shape == (30, 7)
    assert kernel(X).dtype == np.float64
    assert not kernel.is_stationary()
    assert repr(kernel) == f"2 * ({LIMIT!r})"
    both = GaussianProcessRegressor(kernel + WhiteKernel(0.1), alpha=1e-4, optimizer=None).fit(X, Y)
    assert both.kernel_.k1.kernel is LIMIT
    with pytest.raises(InputError, match="Expected no Y with eval_gradient=True"):
        kernel(X, X, eval_gradient=True)


def test_a_search_over_scales():
    search = GridSearchCV(KernelRidge(alpha=0.1, kernel=sklearn_kernel(LIMIT)), {"kernel__scale": [0.01, 1.0]}, cv=2)
    assert search.fit(X, Y).best_params_ == {"kernel__scale": 1.0}


def test_a_classifier_learns():
    fit = GaussianProcessClassifier(sklearn_kernel(LIMIT), optimizer=None).fit(X, Y > 0)
    assert fit.score(X, Y > 0) > 0.9


@pytest.mark.usefixtures("unchecked")
def test_bad_input_is_refused_before_the_fit():
    with pytest.raises(InputTypeError, match=r"got Sequential. For a network use infinite_ntk"):
        sklearn_kernel(NET)
    with pytest.raises(InputTypeError, match='Expected a kernel.*For a Gram matrix use kernel="precomputed"'):
        sklearn_kernel(LIMIT(X))
    with pytest.raises(InputTypeError, match="positive semi-definite kernel; got VelocityForm"):
        sklearn_kernel(nb.ntk_velocity(f, PARAMS, PARAMS))
    with pytest.raises(InputError, match='outputs "mean" or "sum", one number per pair of inputs; got "all"'):
        sklearn_kernel(nb.empirical_ntk(f, PARAMS, outputs="all"))
    for shape in (3, (0, 2), (1.5,)):
        with pytest.raises(InputError, match="Expected input_shape to be a tuple of whole numbers above zero"):
            sklearn_kernel(LIMIT, shape)
    for scale in (0.0, -1.0, np.nan, "1"):
        with pytest.raises(InputError, match="Expected a scale above zero"):
            sklearn_kernel(LIMIT, scale=scale)
    with pytest.raises(
        InputError, match=r"Expected rows of 4 numbers, for inputs of shape \(2, 2\); got rows of shape"
    ):
        KernelRidge(kernel=sklearn_kernel(LIMIT, (2, 2))).fit(X, Y)
