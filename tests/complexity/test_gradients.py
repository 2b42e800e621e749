"""Geometric complexity, gradient norms, and the modified loss whose flow gradient descent follows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkbias as nb
from ntkbias.complexity import (
    example_gradient_norms,
    geometric_complexity,
    gradient_norm,
    implicit_gradient_regularization,
    loss_gradient,
    modified_loss,
)
from ntkbias.errors import InputError, InputTypeError


def network(params, x):
    return jnp.tanh(x @ params["hidden"]) @ params["out"] + params["bias"]


def params_of(seed=0, width=4, outputs=2):
    rng = np.random.default_rng(seed)
    shapes = {"hidden": (3, width), "out": (width, outputs), "bias": (outputs,)}
    return {name: jnp.asarray(rng.normal(size=shape)) for name, shape in shapes.items()}


def data(n=6, outputs=2, seed=5):
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.normal(size=(n, 3))), jnp.asarray(rng.normal(size=(n, outputs)))


def eps():
    return float(jnp.finfo(jnp.zeros(()).dtype).eps)


class TestGeometricComplexity:
    def test_of_a_linear_model_is_the_squared_norm_of_its_matrix(self, precision):
        W = jnp.asarray(np.random.default_rng(0).normal(size=(3, 5)))
        x, _ = data()
        found = geometric_complexity(lambda W, x: x @ W, W, x)
        np.testing.assert_allclose(found, jnp.sum(W**2), rtol=20 * eps())

    def test_is_the_mean_over_the_jacobians(self, x64):
        params, (x, _) = params_of(), data()
        jacobians = jax.jit(jax.vmap(jax.jacobian(lambda one: network(params, one[None])[0])))(x)
        expected = np.mean(np.sum(np.asarray(jacobians) ** 2, (1, 2)))
        for batch_size in (4, 256):
            found = geometric_complexity(network, params, x, batch_size=batch_size)
            np.testing.assert_allclose(found, expected, rtol=1e-13)

    def test_scales_with_outputs_and_inputs(self, x64):
        params, (x, _) = params_of(), data()
        plain = geometric_complexity(network, params, x)
        doubled = geometric_complexity(lambda params, x: 2 * network(params, x), params, x)
        stretched = geometric_complexity(lambda params, x: network(params, x / 3), params, 3 * x)
        np.testing.assert_allclose([doubled, 9 * stretched], [4 * plain, plain], rtol=1e-13)

    @pytest.mark.slow
    def test_of_images(self):
        net = nb.nets.cnn(width=4, depth=1, num_outputs=2)
        x = jax.random.normal(jax.random.key(0), (3, 4, 4, 1))
        params = net.init(jax.random.key(1), (4, 4, 1))
        jacobian = jax.jit(jax.jacobian(lambda x: net.apply(params, x)))(x)  # (3, 2, 3, 4, 4, 1), zero between examples
        expected = jnp.sum(jacobian**2) / 3
        np.testing.assert_allclose(geometric_complexity(net.apply, params, x), expected, rtol=1e-5)


class TestGradients:
    def test_batches_do_not_matter(self, x64):
        params, (x, y) = params_of(), data()
        expected = jax.jit(jax.grad(lambda p: jnp.sum((network(p, x) - y) ** 2) / 12))(params)
        found = loss_gradient(network, params, x, y, batch_size=3)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14), found, expected)
        squares = sum(np.sum(leaf**2) for leaf in jax.tree.leaves(expected))
        np.testing.assert_allclose(gradient_norm(network, params, x, y) ** 2, squares, rtol=1e-12)
        igr = implicit_gradient_regularization(network, params, x, y, 0.1)
        np.testing.assert_allclose(igr, 0.1 / 4 * squares, rtol=1e-12)
        E = jnp.sum((network(params, x) - y) ** 2) / 12
        found = modified_loss(network, params, x, y, 0.1, batch_size=4)
        np.testing.assert_allclose(found, E + igr, rtol=1e-12)

    @pytest.mark.slow
    @pytest.mark.parametrize("loss", ["cross_entropy", lambda u, y: jnp.mean((u[:, 0] - y) ** 4)])
    def test_examples_add_up(self, x64, loss):
        params, (x, _) = params_of(), data()
        labels = np.array([0, 1, 1, 0, 1, 0])
        norms = example_gradient_norms(network, params, x, labels, loss=loss, batch_size=3)
        one_by_one = [gradient_norm(network, params, x[i : i + 1], labels[i : i + 1], loss=loss) for i in range(6)]
        np.testing.assert_allclose(norms, one_by_one, rtol=1e-12)
        assert gradient_norm(network, params, x, labels, loss=loss) <= jnp.mean(norms)  # the triangle inequality


class TestModifiedLoss:
    def test_descent_follows_the_modified_flow_to_second_order_and_the_flow_to_first(self, x64):
        """Distances at time 1 fall as h and as h^2: the slope of the last halving is within 0.1 of the limit."""
        params, (x, y) = params_of(width=2, outputs=1), data(5, 1)
        gradient = jax.grad(lambda p, h: jnp.sum((network(p, x) - y) ** 2) / 10)
        mended_gradient = jax.grad(lambda p, h: modified_loss(network, p, x, y, h))

        @jax.jit
        def distances(h, count):
            end = jax.lax.fori_loop(0, count, lambda _, p: moved(p, gradient(p, h), -h), params)
            return distance(end, flow(gradient, params, h)), distance(end, flow(mended_gradient, params, h))

        plain, mended = np.array([distances(1 / count, count) for count in (10, 20, 40, 80)]).T
        assert np.diff(np.log2(plain))[-1] == pytest.approx(-1, abs=0.1)
        assert np.diff(np.log2(mended))[-1] == pytest.approx(-2, abs=0.1)
        assert mended[-1] < plain[-1] / 10

    def test_a_linear_model_s_modified_flow_is_known(self, x64):
        """For E = a w^2 / 2, descent takes w to (1 - h a)^t, and the modified flow to exp(-(a + h a^2 / 2) t h)."""
        x, y = jnp.full((1, 1), 2.0), jnp.zeros(1)
        slope = jax.grad(lambda w: modified_loss(lambda w, x: x @ w, w, x, y, 0.05))(jnp.ones((1, 1)))
        np.testing.assert_allclose(slope, 4 + 0.05 * 16 / 2, rtol=1e-12)


def moved(params, direction, step):
    return jax.tree.map(lambda a, b: a + step * b, params, direction)


def distance(first, second):
    pairs = zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    return jnp.sqrt(sum(jnp.sum((a - b) ** 2) for a, b in pairs))


def flow(gradient, params, h, num_steps=100):
    """The gradient flow at time 1, by Kutta's third-order method, whose error is far below the distances."""
    dt = 1 / num_steps

    def step(_, p):
        k1 = gradient(p, h)
        k2 = gradient(moved(p, k1, -dt / 2), h)
        k3 = gradient(moved(p, jax.tree.map(lambda a, b: 2 * b - a, k1, k2), -dt), h)
        return moved(p, jax.tree.map(lambda a, b, c: (a + 4 * b + c) / 6, k1, k2, k3), -dt)

    return jax.lax.fori_loop(0, num_steps, step, params)


@pytest.mark.usefixtures("unchecked")
def test_bad_input_is_named():
    params, (x, y) = params_of(), data()
    cases = [
        (
            lambda: geometric_complexity(network, params, x[0]),
            "Expected x (n, d) or (n, ...), with one input or more; got shape (3,). Give inputs of",
        ),
        (lambda: geometric_complexity(network, params, x[:0]), "with one input or more; got shape (0, 3)"),
        (lambda: geometric_complexity(network, params, x[:, :2]), "Expected f(params, x) to accept x of shape (6, 2)"),
        (lambda: geometric_complexity(network, params, jnp.nan * x), "Expected finite numbers in x"),
        (lambda: geometric_complexity(network, params, x, batch_size=0), "batch_size to be at least 1"),
        (lambda: geometric_complexity(network, {}, x), "Expected params to hold at least one array"),
        (lambda: geometric_complexity("net", params, x), "Expected f to be a function f(params, x)"),
        (lambda: gradient_norm(network, params, x, y[:3]), "Expected one row of targets for each of 6 inputs"),
        (lambda: gradient_norm(network, params, x, y[:, :1]), "Expected targets of the outputs' shape, (6, 2)"),
        (
            lambda: gradient_norm(network, params, x, y, loss="absolute"),
            "loss to be one of mse, logistic, hinge, cross_entropy",
        ),
        (lambda: modified_loss(network, params, x, y, -0.1), "Expected learning_rate to be zero or more"),
        (lambda: example_gradient_norms(network, params, x, jnp.inf * y), "Expected finite numbers in targets"),
        (lambda: loss_gradient(lambda p, x: x - x.mean(0), params, x, x), "to treat each example alone"),
    ]
    for call, message in cases:
        with pytest.raises(InputError) as error:
            call()
        assert message in str(error.value)
    with pytest.raises(InputTypeError, match="Expected the name of a loss or a function"):
        gradient_norm(network, params, x, y, loss=3)
