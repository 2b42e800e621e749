"""Gradient flow, descent and momentum, compared with matrix exponentials, ODE solvers, and explicit loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.linalg

import ntkbias as nb
from ntkbias.errors import InputError
from ntkbias.learning import gradient_descent, gradient_flow

RNG = np.random.default_rng(0)
N, M, OUTPUTS = 7, 4, 2
TIMES = [0.0, 0.3, 2.0, 50.0]
LOSSES = ("none", "singular")


def gram(rows, test):
    features = RNG.normal(size=(rows + test, rows + 2))
    whole = features @ features.T
    return whole[:rows, :rows], whole[rows:, :rows]


K, K_TEST = gram(N, M)
Y, F0, F0_TEST = RNG.normal(size=(N, 3)), RNG.normal(size=(N, 3)), RNG.normal(size=(M, 3))


def loss_matrix(name, rows=N):
    root = RNG.normal(size=(rows, rows if name == "matrix" else rows - 3))
    return {"none": None, "diagonal": RNG.uniform(0.5, 2, rows)}.get(name, root @ root.T / rows)


def as_matrix(P, rows=N, n=N):
    return np.eye(rows) / n if P is None else np.diag(P) if P.ndim == 1 else P


def by_exponential(K, K_test, P, y, f0, f0_test, time):
    """The flow of training and test outputs together, d (f, g) = -(K, K_test) P (f - y), by one matrix exponential."""
    rows = len(K)
    generator = np.zeros((rows + len(K_test), rows + len(K_test)))
    generator[:rows, :rows], generator[rows:, :rows] = -K @ P, -K_test @ P
    state = scipy.linalg.expm(time * generator) @ np.concatenate([f0 - y, f0_test])
    return state[:rows] + y, state[rows:]


@pytest.mark.parametrize("loss", LOSSES)
def test_flow_is_the_matrix_exponential(x64, loss):
    P = loss_matrix(loss)
    found = gradient_flow(K, Y, TIMES, K_test=K_TEST, f0=F0, f0_test=F0_TEST, P=P)
    for place, time in enumerate(TIMES):
        train, test = by_exponential(K, K_TEST, as_matrix(P), Y, F0, F0_TEST, time)
        np.testing.assert_allclose(found.outputs[place], train, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(found.test_outputs[place], test, rtol=1e-9, atol=1e-9)
        error = train - Y
        np.testing.assert_allclose(found.loss[place], np.sum(error * (as_matrix(P) @ error)) / 2, atol=1e-9)


def test_flow_solves_the_differential_equation(x64):
    def slope(_, f):
        return -K @ (f - Y[:, 0]) / N

    solved = scipy.integrate.solve_ivp(slope, (0, 2), np.zeros(N), t_eval=[0.3, 2.0], rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(gradient_flow(K, Y[:, 0], [0.3, 2.0]).outputs, solved.y.T, atol=1e-7)


def by_loop(K, K_test, P, y, f0, f0_test, steps, rate, momentum):
    """Heavy ball on the weights a of f = f0 + K a, as optax.sgd has it."""
    weights, velocity = np.zeros_like(y), np.zeros_like(y)
    for _ in range(steps):
        velocity = momentum * velocity - P @ (f0 + K @ weights - y)
        weights = weights + rate * velocity
    return f0 + K @ weights, f0_test + K_test @ weights


@pytest.mark.parametrize(("loss", "momentum"), [("none", 0.0), ("diagonal", 0.9), ("matrix", 0.9)])
def test_steps_are_those_of_a_loop(x64, loss, momentum):
    P = loss_matrix(loss)
    rate = 1.5 / np.linalg.eigvals(K @ as_matrix(P)).real.max()
    steps = [40, 0, 3]  # in any order
    arguments = {"K_test": K_TEST, "f0": F0, "f0_test": F0_TEST, "P": P, "momentum": momentum}
    found = gradient_descent(K, Y, steps, rate, **arguments)
    for place, count in enumerate(steps):
        train, test = by_loop(K, K_TEST, as_matrix(P), Y, F0, F0_TEST, count, rate, momentum)
        np.testing.assert_allclose(found.outputs[place], train, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(found.test_outputs[place], test, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found.times, np.array(steps) * rate / (1 - momentum))


def test_all_pairs_of_outputs(x64):
    matrix, test = gram(N * OUTPUTS, M * OUTPUTS)
    P = loss_matrix("singular", N * OUTPUTS)
    y, f0, f0_test = RNG.normal(size=(N, OUTPUTS)), RNG.normal(size=(N, OUTPUTS)), RNG.normal(size=(M, OUTPUTS))
    found = gradient_flow(
        matrix.reshape(N, OUTPUTS, N, OUTPUTS),
        y,
        TIMES,
        K_test=test.reshape(M, OUTPUTS, N, OUTPUTS),
        f0=f0,
        f0_test=f0_test,
        P=P.reshape(N, OUTPUTS, N, OUTPUTS),
    )
    train, beyond = by_exponential(
        matrix, test, P, y.reshape(-1, 1), f0.reshape(-1, 1), f0_test.reshape(-1, 1), TIMES[2]
    )
    np.testing.assert_allclose(found.outputs[2].reshape(-1, 1), train, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found.test_outputs[2].reshape(-1, 1), beyond, rtol=1e-9, atol=1e-9)


def test_equivalent_arguments_agree(x64):
    """A kernel with inputs, its matrix, and its spectrum; P as weights, as a diagonal, and as a matrix."""
    circle, kernel = nb.domains.Circle(), nb.infinite_ntk(nb.nets.mlp(depth=2, b_std=0.1))
    x, x_test = (circle.sample(count, key=jax.random.key(seed)) for seed, count in ((0, N), (1, M)))
    weights = np.arange(1.0, N + 1) / np.sum(np.arange(1.0, N + 1))
    ways = [
        gradient_flow(kernel, x, Y, TIMES, x_test=x_test, P=weights),
        gradient_flow(kernel(x), Y, TIMES, K_test=kernel(x_test, x), P=np.diag(weights)),
        gradient_flow(nb.spectrum(kernel, x, weights=weights), Y, TIMES, x_test=x_test),
        gradient_flow(nb.spectrum(kernel, x, weights=weights), Y, TIMES, K_test=kernel(x_test, x)),
    ]
    for way in ways[1:]:
        np.testing.assert_allclose(way.outputs, ways[0].outputs, atol=1e-8)
        np.testing.assert_allclose(way.test_outputs, ways[0].test_outputs, atol=1e-8)
        np.testing.assert_allclose(way.rates, ways[0].rates, rtol=1e-8)


def test_laws(precision):
    tolerance = 100 * float(jnp.finfo(jnp.zeros(()).dtype).eps) * np.linalg.cond(K)
    start = gradient_flow(K, Y, [0.0], f0=F0).outputs[0]
    np.testing.assert_allclose(start, F0, rtol=1e-6)
    end = gradient_flow(K, Y, [np.inf], K_test=K_TEST)
    np.testing.assert_allclose(end.outputs[0], Y, atol=tolerance)  # it interpolates
    np.testing.assert_allclose(end.test_outputs[0], K_TEST @ np.linalg.solve(K, Y), atol=tolerance)
    flow = gradient_flow(K, Y, TIMES)
    assert bool(jnp.all(jnp.diff(flow.loss) < 0))
    np.testing.assert_allclose(flow.decay, np.exp(-np.outer(TIMES, flow.rates)), rtol=1e-4, atol=1e-30)
    spectrum = nb.eigen.eigh(K)
    errors = spectrum.project(flow.outputs[1] - Y)
    np.testing.assert_allclose(flow.mode_errors[1], errors, atol=10 * tolerance)
    slow = gradient_descent(K, Y, [2_000], 1e-3 / float(flow.rates[0]))  # small steps equal flow, to first order
    near = gradient_flow(K, Y, slow.times)
    np.testing.assert_allclose(slow.outputs, near.outputs, atol=2e-3)


def test_a_mode_decays_as_the_recurrence_says(x64):
    found = gradient_descent(np.eye(N) * N, np.ones(N), [0, 1, 2, 500], 0.5, momentum=0.5)
    rate, decay = 1.0, [1.0, 0.5]
    while len(decay) < 501:
        decay.append(decay[-1] + 0.5 * (decay[-1] - decay[-2]) - 0.5 * rate * decay[-1])
    np.testing.assert_allclose(found.decay[:, 0], np.array(decay)[[0, 1, 2, 500]], atol=1e-15)


def test_a_kernel_of_zeros_moves_nothing():
    for P in (None, np.ones(N)):
        flow = gradient_flow(0 * K, Y, [0.0, np.inf], K_test=0 * K_TEST, f0=F0, f0_test=F0_TEST, P=P)
        np.testing.assert_array_equal(flow.outputs, np.float32([F0, F0]))
        np.testing.assert_array_equal(flow.test_outputs, np.float32([F0_TEST, F0_TEST]))
        assert flow.rates.shape == (0,)
        assert flow.loss[0] == flow.loss[1]
    np.testing.assert_array_equal(gradient_descent(0 * K, Y, [5], 1.0).outputs, 0 * Y[None])


@pytest.mark.parametrize("scale", [1e-20, 1e20])
def test_scaling_a_kernel_scales_time(scale):
    """This holds even if squares of its entries overflow float32: rounding and signal are not confused."""
    features = np.random.default_rng(1).normal(size=(N, 2)).astype(np.float32)
    matrix = features @ features.T
    one, scaled = gradient_flow(matrix, Y, [1.0, np.inf]), gradient_flow(matrix * scale, Y, [1 / scale, np.inf])
    assert scaled.rates.shape == (2,)
    np.testing.assert_allclose(scaled.loss, one.loss, rtol=1e-5)


def test_steps_beyond_int32_are_counted():
    flow = gradient_descent(np.diag([N * 1e-9] * N), np.ones(N), np.array([2**31, 3e9]), 0.1)
    np.testing.assert_allclose(flow.decay[:, 0], np.exp([-0.1 * 2.147483648, -0.3]), rtol=1e-6)
    whole = gradient_descent(np.diag([N * 1e-9] * N), np.ones(N), [2**31], 0.1)
    np.testing.assert_array_equal(whole.outputs[0], flow.outputs[0])


def test_part_of_a_finite_network_s_outputs_gives_a_warning():
    net, x = nb.nets.mlp(4, 1, 3), np.eye(3, dtype=np.float32)
    params = net.init(jax.random.key(0), (3,))
    kernel = nb.empirical_ntk(net.apply, params, outputs="sum")
    for known in ((kernel, x), (nb.spectrum(kernel, x),), (0.5 * kernel, x), (kernel.operator(x),)):
        with pytest.warns(UserWarning, match="got outputs='sum' of 3 outputs, whose rates are .* 3 times too fast"):
            gradient_flow(*known, np.ones(3), [1.0])


def test_a_trajectory_is_saved_and_printed(tmp_path):
    flow = gradient_flow(K, Y, TIMES)
    nb.save(tmp_path / "flow", flow)
    np.testing.assert_array_equal(nb.load(tmp_path / "flow").outputs, flow.outputs)
    lines = str(flow).splitlines()
    assert lines[1].split() == ["time", "loss", "error", "left", "modes", "left"]
    assert lines[2].split()[2:] == ["100.0%", "7", "of", "7"]
    assert len(lines) == 2 + len(TIMES)


@pytest.mark.usefixtures("unchecked")
def test_errors_say_what_to_do():
    kernel, x = nb.infinite_ntk(nb.nets.mlp(depth=1)), np.eye(3)
    y = np.ones(3)
    each = nb.infinite_ntk(nb.nets.mlp(depth=1, num_outputs=2), outputs="each")
    cases = [
        (lambda: gradient_flow(K, np.ones(3), [1.0]), "Expected targets of shape (7,), one value per input, or with"),
        (lambda: gradient_flow(K, Y, [-1.0]), "Expected times (t,) of zero or more; got -1 as the smallest"),
        (lambda: gradient_flow(K, Y, 1.0), "Expected times (t,) of zero or more; got shape ()"),
        (
            lambda: gradient_flow(kernel, y, [1.0]),
            "Expected gradient_flow(kernel, x, targets, times); got no times. The inputs x come second",
        ),
        (lambda: gradient_flow(each, x, y, [1.0]), "got outputs='each'. Use outputs='all'"),
        (lambda: gradient_flow(K, Y, [1.0], x=x), "Expected inputs x= only with a Kernel; got them with ndarray"),
        (lambda: gradient_flow(K, Y, [1.0], x_test=x), "Expected x_test= with a kernel or its spectrum"),
        (
            lambda: gradient_flow(nb.eigen.eigh(K), Y, [1.0], P=np.eye(N)),
            "Expected no P= with a spectrum, whose weights serve as P",
        ),
        (lambda: gradient_flow(kernel, x, y, [1.0], x_test=x, K_test=x), "Expected test points as x_test= or as"),
        (lambda: gradient_flow(K, Y, [1.0], f0=F0, K_test=K_TEST), "Expected f0_test, the outputs at the test points"),
        (lambda: gradient_flow(K, Y, [1.0], f0_test=F0), "Expected x_test= or K_test= with f0_test; got neither"),
        (
            lambda: gradient_flow(K, Y, [1.0], f0=np.ones(N)),
            "Expected f0 of the shape of the targets, (7, 3); got (7,)",
        ),
        (lambda: gradient_flow(K, Y, [1.0], K_test=K_TEST.T), "Expected K_test of shape (m, 7), kernel(x_test, x)"),
        (lambda: gradient_flow(K, Y, [1.0], P=np.ones(3)), "Expected a loss matrix P of shape (7,) for its diagonal"),
        (lambda: gradient_flow(K, Y, [1.0], P=-np.eye(N)), "Expected a loss matrix P that is symmetric, positive"),
        (lambda: gradient_flow(K, Y, [1.0], P=-np.ones(N)), "Expected a loss matrix P that is positive semi-definite"),
        (lambda: gradient_flow(K[:, ::-1], Y, [1.0]), "Expected a symmetric matrix"),
        (lambda: gradient_flow(K, Y * np.nan, [1.0]), "Expected finite numbers in targets"),
        (lambda: gradient_descent(K, Y, [0.5], 0.1), "Expected steps (t,) of whole numbers of zero or more"),
        (lambda: gradient_descent(K, Y, [1], 0.0), "Expected a learning rate above zero; got 0.0"),
        (lambda: gradient_descent(K, Y, [1], 0.1, momentum=1.0), "Expected a momentum of at least 0 and below 1"),
        (lambda: gradient_descent(K, Y, [1, 10_000], 10.0), "got infinity by step 10000. Choose a learning rate below"),
        (
            lambda: gradient_descent(K, Y, [1, 50], 1e3),
            "float32; got infinity by step 50. Choose a learning rate below",
        ),
        (lambda: gradient_descent(K, Y * 1e25, [1], 1e-3), "got infinity by step 1. Divide targets and initial out"),
        (lambda: gradient_flow(K, Y * 1e25, [1.0]), "a loss within the range of float32; got infinity at time 1. Div"),
        (
            lambda: gradient_descent(K, Y, [np.inf], 0.1),
            "Expected steps (t,) of whole numbers of zero or more; got inf",
        ),
        (lambda: gradient_flow(K, Y, [1.0], P=np.zeros(N)), "positive semi-definite and not zero; got zeros"),
        (lambda: gradient_flow(K, Y, [1.0], P=np.zeros((N, N))), "positive semi-definite and not zero; got zeros"),
        (lambda: jax.jit(lambda k: gradient_flow(k, Y, [1.0]))(K), "Expected arrays with values in gradient_flow; got"),
        (lambda: jax.jit(lambda h: gradient_descent(K, Y, [1], h))(1.0), "Expected arrays with values in gradient_des"),
    ]
    for call, message in cases:
        with pytest.raises(InputError) as error:
            call()
        assert message in str(error.value)


def test_steps_to_learn_are_those_of_the_descent(unchecked):
    """One step fewer is not enough, under each loss, for each of several targets."""
    rng = np.random.default_rng(0)
    root = rng.normal(size=(6, 6))
    matrix, targets = root @ root.T + np.eye(6), rng.normal(size=(6, 3))
    for P in (None, rng.uniform(0.5, 1.5, 6)):
        rate = float(nb.critical_learning_rate(matrix, P=np.full(6, 1 / 6) if P is None else P)) / 2
        found = nb.learning.steps_to_learn(matrix, targets, 0.05, rate, P=P)
        for column, steps in zip(targets.T, found, strict=True):
            loss = np.asarray(gradient_descent(matrix, column, [0, int(steps) - 1, int(steps)], rate, P=P).loss)
            assert loss[1] > 0.05**2 * loss[0] >= loss[2]
    assert nb.learning.steps_to_learn(np.diag([1.0, 0.0]), np.ones(2), 0.5, 1.0) == np.inf
    for arguments, message in (
        ((matrix, targets, 1.0, rate), "Expected a tolerance above 0 and below 1; got 1.0"),
        ((matrix, targets, 0.1, 1e3), "Expected a learning rate below the critical one, "),
        ((matrix, targets, "0.1", rate), "Expected .*tolerance"),
        ((matrix, targets, 0.1, "0.5"), "Expected a learning rate that is one number"),
        ((matrix, 0 * targets, 0.1, 1e-3), "Expected targets that are not zero under the loss"),
    ):
        with pytest.raises((InputError, TypeError), match=message):
            nb.learning.steps_to_learn(*arguments)
    slow = nb.learning.steps_to_learn(np.eye(2), np.ones(2), 0.5, 1e-12, P=np.ones(2))  # a factor near one is no one
    assert float(slow) == pytest.approx(np.log(2) / 1e-12, rel=1e-6)
