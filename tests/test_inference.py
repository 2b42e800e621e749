"""Inference with kernels, against the formulas by hand, draws, and neural-tangents."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import ntkbias as nb
from ntkbias.errors import InputError
from ntkbias.inference import ensemble_flow, kernel_posterior, log_marginal_likelihood

RNG = np.random.default_rng(0)
X, NEW = RNG.normal(size=(12, 3)), RNG.normal(size=(5, 3))
Y = RNG.normal(size=(12, 2))
NET = nb.nets.mlp(width=64, depth=1, activation="erf", b_std=0.3, num_outputs=2)
GAUSSIAN = nb.infinite_nngp(NET)


def given(*arrays):
    return tuple(jnp.asarray(array) for array in arrays)


class TestPosterior:
    def test_it_is_the_formula(self, x64):
        x, y, new = given(X, Y, NEW)
        found = kernel_posterior(GAUSSIAN, x, y, new, noise=0.1, covariance=True)
        noisy = np.asarray(GAUSSIAN(x)) + 0.1 * np.eye(12)
        across = np.asarray(GAUSSIAN(new, x))
        np.testing.assert_allclose(found.mean, across @ np.linalg.solve(noisy, Y), atol=1e-12)
        covariance = np.asarray(GAUSSIAN(new)) - across @ np.linalg.solve(noisy, across.T)
        np.testing.assert_allclose(found.covariance, covariance, atol=1e-12)
        np.testing.assert_allclose(found.variance, np.diag(covariance), atol=1e-12)
        evidence = -0.5 * np.sum(Y * np.linalg.solve(noisy, Y)) - np.linalg.slogdet(2 * np.pi * noisy)[1]
        assert found.log_marginal_likelihood == pytest.approx(evidence, rel=1e-12)
        assert float(log_marginal_likelihood(GAUSSIAN(x), y, 0.1)) == pytest.approx(evidence, rel=1e-12)

    def test_left_out_examples_are_those_of_refits(self, x64):
        x, y = given(X, Y[:, 0])
        found = kernel_posterior(GAUSSIAN, x, y, x, noise=0.1)
        for place in (0, 7):
            kept = np.arange(12) != place
            alone = kernel_posterior(GAUSSIAN, x[kept], y[kept], x[place : place + 1], noise=0.1)
            np.testing.assert_allclose(found.left_out[place], alone.mean[0], atol=1e-10)
            np.testing.assert_allclose(found.left_out_variance[place], alone.variance[0], atol=1e-10)

    def test_products_give_the_same(self, x64):
        x, y, new = given(X, Y, NEW)
        exact = kernel_posterior(GAUSSIAN, x, y, new, noise=0.1, covariance=True)
        options = {"noise": 0.1, "method": "products", "covariance": True, "tolerance": 1e-10}
        found = kernel_posterior(GAUSSIAN, x, y, new, num_landmarks=4, **options)
        np.testing.assert_allclose(found.mean, exact.mean, atol=1e-8)
        np.testing.assert_allclose(found.covariance, exact.covariance, atol=1e-8)
        assert 0 < found.residual <= 1e-9
        assert "largest relative residual" in str(found)
        with pytest.raises(InputError, match="Expected relative residuals of at most 1e-10 after 1 products"):
            kernel_posterior(GAUSSIAN, x, y, new, num_landmarks=1, max_products=1, **options)

    def test_samples_and_intervals_have_its_moments(self, x64):
        x, y, new = given(X, Y[:, 0], NEW)
        found = kernel_posterior(GAUSSIAN, x, y, new, noise=0.1, covariance=True)
        draws = np.asarray(found.samples(20_000, key=jax.random.key(1)))
        spread = np.sqrt(np.asarray(found.variance))
        assert np.all(np.abs(draws.mean(0) - found.mean) < 4 * spread / 20_000**0.5)
        np.testing.assert_allclose(np.cov(draws.T), found.covariance, atol=0.05 * spread.max() ** 2)
        inside = (draws > found.interval(0.9)[:, 0]) & (draws < found.interval(0.9)[:, 1])
        np.testing.assert_allclose(inside.mean(0), 0.9, atol=4 * (0.09 / 20_000) ** 0.5)
        assert np.all(np.diff(found.interval(noise=True)) > np.diff(found.interval()))

    def test_intervals_cover_functions_of_the_prior(self, x64):
        """Over 200 functions of the prior with noise, the 95 % intervals hold them as often as they say."""
        x, new = given(X, NEW)
        points = jnp.concatenate([x, new])
        root = np.linalg.cholesky(np.asarray(GAUSSIAN(points)) + 1e-10 * np.eye(17))
        rng = np.random.default_rng(3)
        functions = root @ rng.normal(size=(17, 200))
        y = functions[:12] + 0.3 * rng.normal(size=(12, 200))
        low, high = np.moveaxis(np.asarray(kernel_posterior(GAUSSIAN, x, y, new, noise=0.09).interval()), -1, 0)
        inside = (low < functions[12:]) & (functions[12:] < high)
        assert abs(inside.mean() - 0.95) < 3 * (0.95 * 0.05 / 200) ** 0.5

    def test_gradient_of_the_evidence_is_that_of_differences(self, x64, unchecked):
        x, y = given(X, Y[:, 0])

        def evidence(b_std, noise):
            kernel = nb.infinite_nngp(nb.nets.mlp(depth=1, activation="erf", b_std=b_std))
            return log_marginal_likelihood(kernel(x), y, noise)

        found = jax.grad(evidence, (0, 1))(0.5, 0.1)
        for place, step in enumerate(([1e-5, 0], [0, 1e-5])):
            slope = (evidence(0.5 + step[0], 0.1 + step[1]) - evidence(0.5 - step[0], 0.1 - step[1])) / 2e-5
            assert float(found[place]) == pytest.approx(float(slope), rel=1e-5)

    def test_it_is_saved_whole(self, tmp_path):
        x, y, new = given(X, Y, NEW)
        found = kernel_posterior(GAUSSIAN, x, y, new, noise=0.1)
        nb.save(tmp_path / "posterior", found)
        assert str(nb.load(tmp_path / "posterior")) == str(found)

    def test_bad_input_is_named(self, unchecked):
        x, y, new = given(X, Y, NEW)
        for change, message in (
            ({"noise": 0.0}, "Expected noise above zero, the variance of the observations; got 0.0"),
            ({"y": y[:3]}, "Expected y of shape"),
            ({"kernel": nb.infinite_nngp(NET, outputs="all")}, "Expected a kernel with one value per pair of inputs"),
            ({"method": "magic"}, "Expected method to be one of"),
            ({"method": "products", "tolerance": 2.0}, "Expected a tolerance above 0 and below 1; got 2.0"),
            ({"y": jnp.arange(12)}, "labels"),
        ):
            arguments = {"kernel": GAUSSIAN, "x": x, "y": y, "x_new": new, "noise": 0.1} | change
            with pytest.raises(InputError, match=message):
                kernel_posterior(**arguments)
        with pytest.raises(InputError, match="Expected a posterior with covariance=True for samples"):
            kernel_posterior(GAUSSIAN, x, y, new, noise=0.1).samples(2)
        with pytest.raises(InputError, match="Expected a level above 0 and below 1; got 95"):
            kernel_posterior(GAUSSIAN, x, y, new, noise=0.1).interval(95)
        with pytest.raises(InputError, match=r"Expected K \(n, n\) and y"):
            log_marginal_likelihood(jnp.eye(3), y, 0.1)


class TestEnsemble:
    def test_trained_networks_are_draws_of_it(self):
        """Sixty networks of width 1,024, after 20 steps at rate 0.2: means within four standard errors."""
        net = nb.nets.mlp(width=1024, depth=1, activation="erf", b_std=0.3)
        x, y, new = (jnp.asarray(array, jnp.float32) for array in (X[:6], Y[:6, 0], NEW))
        ensemble = ensemble_flow(net, x, y, new, times=[4.0])

        def outputs(key):
            params = net.init(key, (3,))

            def step(params, _):
                gradient = jax.grad(lambda p: nb.losses.mse(net.apply(p, x)[:, 0], y))(params)
                return jax.tree.map(lambda p, g: p - 0.02 * g, params, gradient), None

            return net.apply(jax.lax.scan(step, params, None, 200)[0], new)[:, 0]

        found = np.asarray(jax.jit(jax.vmap(outputs))(jax.random.split(jax.random.key(0), 60)))
        spread = np.sqrt(np.asarray(ensemble.variance)[0])
        assert np.all(np.abs(found.mean(0) - ensemble.mean[0]) < 4 * spread / 60**0.5)
        ratios = found.std(0, ddof=1) / spread
        assert np.all(np.abs(np.log(ratios)) < 4 / 118**0.5)

    def test_bad_input_is_named(self, unchecked):
        x, y, new = given(X, Y, NEW)
        for change, message in (
            ({"net": GAUSSIAN}, "Expected a network of layers, which has an NTK and an NNGP kernel; got InfiniteKer"),
            ({"times": [-1.0]}, "Expected times .t,. of zero or more"),
            ({"x": jnp.concatenate([x[:11], x[:1]]), "times": [np.inf]}, "Expected an NTK without eigenvalues at roun"),
        ):
            arguments = {"net": NET, "x": x, "y": y, "x_new": new, "times": [0.0]} | change
            with pytest.raises((InputError, TypeError), match=message):
                ensemble_flow(**arguments)


class TestUnderALoss:
    def test_the_squared_error_is_the_closed_form(self, x64):
        x, y, new = given(X, Y[:, 0], NEW)
        kernel, times = nb.infinite_ntk(NET), [0.0, 3.0, 0.5]
        exact = nb.gradient_flow(kernel, x, y, times, x_test=new)
        found = nb.gradient_flow(kernel, x, y, times, x_test=new, loss="mse")
        np.testing.assert_allclose(found.outputs, exact.outputs, atol=1e-7)
        np.testing.assert_allclose(found.test_outputs, exact.test_outputs, atol=1e-7)
        np.testing.assert_allclose(found.loss, exact.loss, atol=1e-7)
        steps = nb.gradient_descent(kernel, x, y, [5, 50], 0.2, momentum=0.5)
        for optimizer in (optax.sgd(0.2, 0.5),):
            np.testing.assert_allclose(nb.gradient_descent(kernel, x, y, [5, 50], optimizer).outputs, steps.outputs)

    @pytest.mark.parametrize("loss", ["cross_entropy", "logistic", "hinge"])
    def test_a_linearized_network_follows_it(self, x64, loss):
        """The same optimizer with a schedule on the parameters of the linearized network, for 30 steps."""
        outputs = 1 if loss != "cross_entropy" else 3
        net = nb.nets.mlp(width=16, depth=1, activation="erf", b_std=0.3, num_outputs=outputs)
        x, new = given(X, NEW)
        labels = jnp.asarray(np.arange(12) % 3) if outputs == 3 else jnp.sign(x[:, :1])
        params = net.init(jax.random.key(0), (3,))
        f = nb.linearize(net.apply, params)
        optimizer = optax.sgd(optax.linear_schedule(0.5, 0.1, 30), momentum=0.9)
        trained = nb.training.trained(f, params, (x, labels), optimizer=optimizer, num_steps=30, loss=loss)
        found = nb.gradient_descent(
            nb.empirical_ntk(net.apply, params, outputs="all"),
            x,
            labels,
            [30],
            optimizer,
            f0=net.apply(params, x),
            f0_test=net.apply(params, new),
            x_test=new,
            loss=loss,
        )
        np.testing.assert_allclose(found.outputs[0], f(trained, x), atol=1e-8)
        np.testing.assert_allclose(found.test_outputs[0], f(trained, new), atol=1e-8)

    def test_bad_input_is_named(self, unchecked):
        x, y = given(X, Y[:, 0])
        kernel = nb.infinite_ntk(NET)
        for call, message in (
            (lambda: nb.gradient_descent(kernel, x, y, [1], optax.adam(0.1)), "Expected an optimizer that is linear"),
            (lambda: nb.gradient_descent(kernel, x, y, [1], optax.adamw(0.1)), "Expected an optimizer that is linear"),
            (lambda: nb.gradient_flow(kernel, x, y, [np.inf], loss="mse"), "Expected finite times under a loss"),
            (lambda: nb.gradient_flow(kernel, x, y, [1.0], loss="mse", P=jnp.eye(12)), "Expected P= without loss="),
            (lambda: nb.gradient_flow(nb.spectrum(kernel, x), y, [1.0], loss="mse"), "got a Spectrum"),
            (lambda: nb.gradient_flow(kernel, x, y, [1.0], loss="mse", f0=y, x_test=x), "Expected f0_test, the out"),
        ):
            with pytest.raises((InputError, TypeError), match=message):
                call()


@pytest.mark.skipif(importlib.util.find_spec("neural_tangents") is None, reason="neural-tangents is not installed")
def test_it_is_what_neural_tangents_predicts(x64):
    """`gradient_descent_mse_ensemble`, `gp_inference` and `gradient_descent`; times, because its error is a mean."""
    from ntkbias.adapters.neural_tangents import from_stax, nt, stax

    layers = stax.Dense(64, W_std=1.5, b_std=0.3), stax.Erf(), stax.Dense(2, W_std=1.5, b_std=0.3)
    init_fn, apply_fn, kernel_fn = stax.serial(*layers)
    net = from_stax(init_fn, apply_fn, kernel_fn)
    x, y, new = given(X, Y, NEW)
    predict = nt.predict.gradient_descent_mse_ensemble(kernel_fn, x, y, learning_rate=1.0)
    for t in (0.0, 3.0, None):
        wanted = predict(t=t, x_test=new, get="ntk", compute_cov=True)
        found = ensemble_flow(net, x, y, new, [np.inf if t is None else t / 2])
        np.testing.assert_allclose(found.mean[0], wanted.mean, atol=1e-8)
        np.testing.assert_allclose(found.covariance[0], wanted.covariance, atol=1e-8)
    infer = nt.predict.gp_inference(kernel_fn(x, None, ("nngp", "ntk")), y, 0.1, diag_reg_absolute_scale=True)
    wanted = infer("nngp", kernel_fn(new, x, ("nngp", "ntk")), kernel_fn(new, None, "nngp"))
    found = kernel_posterior(nb.infinite_nngp(net), x, y, new, noise=0.1, covariance=True)
    np.testing.assert_allclose(found.mean, wanted.mean, atol=1e-8)
    np.testing.assert_allclose(found.covariance, wanted.covariance, atol=1e-8)

    def loss(f, y):
        return jnp.mean(jnp.log1p(jnp.exp(-f * y)))

    signs, kernel = jnp.sign(y[:, :1]), nb.infinite_ntk(net)
    predict = nt.predict.gradient_descent(loss, kernel_fn(x, None, "ntk"), signs)
    wanted, at_new = predict(5.0, jnp.zeros((12, 1)), jnp.zeros((5, 1)), kernel_fn(new, x, "ntk"))
    found = nb.gradient_flow(kernel, x, signs, [5.0], x_test=new, loss="logistic")
    np.testing.assert_allclose(found.outputs[0], wanted, atol=1e-4)  # its own solver's tolerance
    np.testing.assert_allclose(found.test_outputs[0], at_new, atol=1e-4)
