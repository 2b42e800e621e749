"""Linearized networks are exact at any width; lazy and wide networks tend to them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import ntkbias as nb
from ntkbias.errors import InputError
from ntkbias.learning import critical_learning_rate, gradient_descent, lazy, linearize

X = jax.random.normal(jax.random.key(0), (6, 3))
X_TEST = jax.random.normal(jax.random.key(1), (4, 3))
Y = jax.random.normal(jax.random.key(2), (6, 2))


def network(width, seed=3):
    net = nb.nets.mlp(width, 2, 2, activation="erf", b_std=0.1)
    return net.apply, net.init(jax.random.key(seed), (3,))


def of_type(params, dtype):
    return jax.tree.map(lambda leaf: leaf.astype(dtype), params)


def trained(loss, params, optimizer, num_steps, *data):
    """The parameters after the given number of steps of an optimizer."""

    def step(carry, _):
        moving, state = carry
        updates, state = optimizer.update(jax.grad(loss)(moving, *data), state)
        return (optax.apply_updates(moving, updates), state), None

    return jax.jit(lambda p: jax.lax.scan(step, (p, optimizer.init(p)), None, num_steps)[0][0])(params)


@pytest.mark.slow
def test_it_is_the_first_order_expansion(x64):
    f, params = network(5)
    params = of_type(params, float)
    model, x = linearize(f, params), X.astype(float)
    np.testing.assert_allclose(model(params, x), f(params, x), rtol=1e-12)
    np.testing.assert_allclose(linearize(f, params, centered=True)(params, x), 0)
    away = jax.tree.map(lambda leaf: jnp.sin(jnp.arange(leaf.size, dtype=float)).reshape(leaf.shape), params)
    jacobian = jax.jit(jax.jacrev(f))(params, x)
    products = jax.tree.map(lambda j, d: np.tensordot(j, d, d.ndim), jacobian, away)
    moved = jax.tree.map(jnp.add, params, away)
    np.testing.assert_allclose(model(moved, x), f(params, x) + sum(jax.tree.leaves(products)), rtol=1e-10)
    errors = []  # of the linearization of f: second order in the step
    for size in (1e-2, 1e-3):
        near = jax.tree.map(lambda p, d, size=size: p + size * d, params, away)
        errors.append(float(jnp.max(jnp.abs(f(near, x) - model(near, x)))))
    assert 80 < errors[0] / errors[1] < 120


@pytest.mark.slow
@pytest.mark.parametrize(("centered", "momentum"), [(False, 0.9), (True, 0.0)])
def test_optax_trains_it_as_predicted(x64, centered, momentum):
    """At width 5, outputs at training and test points agree to rounding, with and without f0."""
    f, params = network(5)
    params, x, x_test, y = of_type(params, float), X.astype(float), X_TEST.astype(float), Y.astype(float)
    model, kernel = linearize(f, params, centered=centered), nb.empirical_ntk(f, params, outputs="all")
    rate = critical_learning_rate(kernel, x, momentum=momentum) / 3
    start = {} if centered else {"f0": f(params, x), "f0_test": f(params, x_test)}
    predicted = gradient_descent(kernel, x, y, [30], rate, momentum=momentum, x_test=x_test, **start)
    moved = trained(model.loss, params, optax.sgd(rate, momentum=momentum), 30, x, y)
    np.testing.assert_allclose(model(moved, x), predicted.outputs[0], atol=1e-10)
    np.testing.assert_allclose(model(moved, x_test), predicted.test_outputs[0], atol=1e-10)
    np.testing.assert_allclose(model.loss(moved, x, y), predicted.loss[0], atol=1e-10)


@pytest.mark.slow
def test_its_kernel_never_moves(x64):
    f, params = network(5)
    params = of_type(params, float)
    moved = jax.tree.map(lambda leaf: leaf + 1, params)
    kernels = [nb.empirical_ntk(linearize(f, params).__call__, p)(X.astype(float)) for p in (params, moved)]
    np.testing.assert_allclose(kernels[0], kernels[1])
    np.testing.assert_allclose(kernels[0], nb.empirical_ntk(f, params)(X.astype(float)), rtol=1e-10)


def test_laziness_tends_to_linearization(x64):
    """Chizat et al. 2019: at the same rate, the difference falls as 1 / scale."""
    f, params = network(5)
    params, x, y = of_type(params, float), X.astype(float), Y.astype(float)
    linear = linearize(f, params, centered=True)
    optimizer = optax.sgd(0.2)
    target = linear(trained(linear.loss, params, optimizer, 30, x, y), x)
    differences = []
    for scale in (100.0, 1_000.0):
        model = lazy(f, params, scale)
        assert float(jnp.abs(model(params, x)).max()) == 0
        moved = trained(model.loss, params, optimizer, 30, x, y)
        differences.append(float(jnp.max(jnp.abs(model(moved, x) - target))))
    assert 8 < differences[0] / differences[1] < 12


def wide_errors(width, seed):
    """The largest differences from the prediction: for the training of a network, and for its part in the modes."""
    f, params = network(width, seed)
    kernel = nb.empirical_ntk(f, params, outputs="all")
    rate = critical_learning_rate(kernel, X) / 4
    start = f(params, X), f(params, X_TEST)
    predicted = gradient_descent(kernel, X, Y, [100], rate, x_test=X_TEST, f0=start[0], f0_test=start[1])
    moved = trained(lambda p, x, y: jnp.sum((f(p, x) - y) ** 2) / (2 * len(y)), params, optax.sgd(rate), 100, X, Y)
    coefficients = nb.spectrum(kernel, X).project(f(moved, X) - Y)
    modes = predicted.mode_errors[0]
    return [
        float(jnp.sqrt(jnp.mean((f(moved, X) - predicted.outputs[0]) ** 2))),
        float(jnp.sqrt(jnp.mean((f(moved, X_TEST) - predicted.test_outputs[0]) ** 2))),
        float(jnp.sqrt(jnp.mean((coefficients[: len(modes)] - modes) ** 2))),
    ]


@pytest.mark.slow
def test_wide_networks_follow_their_kernel_mode_by_mode():
    """Lee et al. 2019: finite and linearized outputs agree as width grows, with an error of width^-1/2 or faster."""
    widths = [64, 256, 1024]
    errors = np.array([[wide_errors(width, seed) for seed in range(5)] for width in widths])  # (widths, seeds, 3)
    slopes = np.polyfit(np.log(widths), np.log(errors).reshape(len(widths), -1), 1)[0].reshape(5, 3)
    mean, standard_error = slopes.mean(0), slopes.std(0, ddof=1) / 5**0.5
    print("errors", np.exp(np.log(errors).mean(1)).tolist(), "exponents", mean.tolist(), "+-", standard_error.tolist())
    assert np.all(mean + 2 * standard_error < -0.4)
    assert np.all(np.median(errors[-1], 0) < 0.05 * float(jnp.std(Y)))


@pytest.mark.usefixtures("unchecked")
def test_errors_say_what_to_do():
    f, params = network(5)

    def g(params, x):
        return params["a"] * x

    cases = [
        (lambda: linearize("net", params), "Expected a function f(params, x); got str"),
        (lambda: linearize(f, {"steps": 3}), "Expected params to be a pytree of floating-point arrays"),
        (lambda: lazy(f, params, 0.0), "Expected a scale above zero; got 0.0"),
        (lambda: linearize(g, {"a": X})({}, X), "linearized, shape (6, 3) at ['a']; got none. Start from them"),
        (lambda: linearize(g, {"a": X})({"a": X, "b": X}, X), "linearized, none at ['b']; got shape (6, 3). Start"),
        (lambda: linearize(g, {"a": X})({"a": X[:2]}, X), "linearized, shape (6, 3) at ['a']; got shape (2, 3). Start"),
        (lambda: linearize(f, params).loss(params, X, Y[:, 0]), "Expected targets of the shape of the outputs, (6, 2)"),
    ]
    for call, message in cases:
        with pytest.raises(InputError) as error:
            call()
        assert message in str(error.value)
