"""Learning times and critical learning rates: gradient descent converges below, and diverges above."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkbias as nb
from ntkbias.errors import InputError
from ntkbias.kernels.operators import JacobianOperator
from ntkbias.learning import critical_learning_rate, gradient_descent, gradient_flow, learning_times, linearize

NET = nb.nets.mlp(16, 1, 3)
PARAMS = NET.init(jax.random.key(1), (4,))
X = jax.random.normal(jax.random.key(2), (9, 4))


def test_in_its_learning_time_an_error_falls_by_a_factor_of_e(x64):
    spectrum = nb.eigen.eigh(np.diag([5.0, 1.0, 0.1, 0.0]))
    times = learning_times(spectrum)
    flow = gradient_flow(spectrum, np.ones(4), times[:3])
    np.testing.assert_allclose(jnp.diagonal(flow.decay), np.exp(-1) * np.ones(3))
    assert times[3] == jnp.inf


@pytest.mark.parametrize("momentum", [0.0, 0.8])
def test_descent_converges_below_it_and_diverges_above(x64, momentum):
    features = np.random.default_rng(0).normal(size=(6, 8))
    K, y = features @ features.T, np.ones(6)
    critical = critical_learning_rate(K, momentum=momentum)
    np.testing.assert_allclose(critical, 2 * (1 + momentum) * 6 / np.linalg.eigvalsh(K)[-1], rtol=1e-9)
    below, above = (gradient_descent(K, y, [2_000], factor * critical, momentum=momentum) for factor in (0.99, 1.01))
    assert below.loss[0] < 0.6 < 1e3 < above.loss[0]


def test_the_network_itself_diverges_above_it(x64):
    """Gradient descent of the linearized network, on the loss that the convention names."""
    params = jax.tree.map(lambda leaf: leaf.astype(float), PARAMS)
    model = linearized(params)
    kernel = nb.empirical_ntk(NET.apply, params, outputs="all")
    critical = critical_learning_rate(kernel, X.astype(float))
    x, y = X.astype(float), jnp.ones((9, 3))
    step = jax.jit(
        lambda p, rate: jax.tree.map(lambda a, g: a - rate * g, p, jax.grad(model.loss)(p, x, y)),
    )
    losses = []
    for factor in (0.98, 1.02):
        moved = params
        for _ in range(400):
            moved = step(moved, factor * critical)
        losses.append(float(model.loss(moved, x, y)))
    assert losses[0] < 1.5 < 1e3 < losses[1]


def linearized(params):
    return linearize(NET.apply, params, centered=True)


@pytest.mark.slow
def test_no_matrix_is_formed(monkeypatch):
    x = jax.random.normal(jax.random.key(0), (150, 4))
    kernel = nb.empirical_ntk(NET.apply, PARAMS, outputs="all")
    exact = 2 / float(nb.spectrum(kernel, x).eigenvalues[0])

    def refuse(*_):
        raise AssertionError

    monkeypatch.setattr(JacobianOperator, "matrix", refuse)
    assert abs(critical_learning_rate(kernel, x) / exact - 1) < 1e-3


def test_infinite_kernels_of_all_and_of_the_mean_agree():
    net = nb.nets.mlp(depth=1, num_outputs=2)
    rates = [critical_learning_rate(nb.infinite_ntk(net, outputs=outputs), X) for outputs in ("all", "mean")]
    np.testing.assert_allclose(rates[0], rates[1], rtol=1e-5)


@pytest.mark.usefixtures("unchecked")
def test_errors_say_what_to_do():
    kernel = nb.empirical_ntk(NET.apply, PARAMS)
    cases = [
        (lambda: learning_times(np.ones(3)), "Expected a Spectrum; got ndarray. Use spectrum(kernel, x)"),
        (lambda: critical_learning_rate(kernel, X), "Expected a kernel of all outputs, whose largest eigenvalue"),
        (
            lambda: critical_learning_rate(nb.spectrum(kernel, X)),
            "largest eigenvalue bounds the learning rate; got out",
        ),
        (
            lambda: critical_learning_rate(kernel.operator(X)),
            "largest eigenvalue bounds the learning rate; got outputs",
        ),
        (lambda: critical_learning_rate(2 * kernel.operator(X)), "largest eigenvalue bounds the learning rate"),
        (lambda: critical_learning_rate(0.5 * kernel, X), "Expected a kernel of all outputs, whose largest eigenvalue"),
        (lambda: jax.jit(critical_learning_rate)(np.eye(3)), "Expected arrays with values in critical_learning_rate"),
        (lambda: critical_learning_rate(kernel), "Expected critical_learning_rate(kernel, x); got no x"),
        (lambda: critical_learning_rate(np.zeros((3, 3))), "Expected a kernel with an eigenvalue above zero; got none"),
        (lambda: critical_learning_rate(np.eye(3), momentum=1), "Expected a momentum of at least 0 and below 1"),
    ]
    for call, message in cases:
        with pytest.raises(InputError) as error:
            call()
        assert message in str(error.value)
