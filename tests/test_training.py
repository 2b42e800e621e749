"""The training loop, compared with the same steps written by hand, with states and keys, in one program."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import ntkbias as nb
from ntkbias import losses
from ntkbias.errors import InputError
from ntkbias.training import effective_learning_rates, log_steps, parameter_flow, train
from ntkbias.training.trainer import Trainer

NET = nb.nets.mlp(width=8, depth=1)
X = jax.random.normal(jax.random.key(1), (12, 3))
Y = jnp.sign(X[:, 0])


def by_hand(params, optimizer, loss, num_steps):
    """Full-batch training, written in the slow, obvious way."""
    state = optimizer.init(params)
    for _ in range(num_steps):
        gradient = jax.grad(lambda p: losses.named(loss)(NET.apply(p, X), Y))(params)
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    return params


@pytest.mark.parametrize("loss", ["mse", pytest.param("logistic", marks=pytest.mark.slow)])
def test_training_is_the_loop_by_hand(precision, loss):
    x = X.astype(precision)
    params = NET.init(jax.random.key(0), (3,))
    optimizer = optax.sgd(0.1, momentum=0.5)
    (_, last) = list(train(NET.apply, params, (x, Y), optimizer=optimizer, num_steps=7, loss=loss))[-1]
    tolerance = 100 * float(jnp.finfo(precision).eps)  # seven steps, with sums in another order
    for found, wanted in zip(jax.tree.leaves(last), jax.tree.leaves(by_hand(params, optimizer, loss, 7)), strict=True):
        np.testing.assert_allclose(found, wanted, atol=tolerance * float(jnp.abs(wanted).max()))


def test_each_example_is_seen_at_most_once_per_epoch():
    """With the identity as inputs and minus the sum of outputs as loss, parameters count how often each is seen."""
    seen = train(
        lambda params, x: x @ params,
        jnp.zeros(12),
        (jnp.eye(12), jnp.zeros(12)),
        optimizer=optax.sgd(1.0),
        loss=lambda outputs, _: -jnp.sum(outputs),
        num_steps=7,
        batch_size=5,  # two batches per epoch of ten examples
        at=range(8),
        key=jax.random.key(3),
    )
    counts = np.stack([np.asarray(params) for _, params in seen])
    assert counts.sum(1).tolist() == [5 * step for step in range(8)]
    epochs = np.diff(counts[::2], axis=0)
    assert epochs.max() == 1  # no example twice
    assert len(np.unique(epochs, axis=0)) == 3  # in another order each time


def test_a_network_of_convolutions_runs_step_by_step_on_a_cpu_to_the_same_numbers():
    net, x = nb.nets.cnn(width=3, depth=1), jax.random.normal(jax.random.key(0), (6, 4, 4, 1))
    params = net.init(jax.random.key(0), (4, 4, 1))
    trainer, data = Trainer.checked(net.apply, params, (x, x[:, 0, 0, 0]), optax.sgd(0.1), "mse", 3)
    start, key = trainer.start(params), jax.random.key(0)
    suited = trainer.suited(start, *data, key=key)
    assert not suited.scanned
    dense, own = Trainer.checked(NET.apply, NET.init(key, (3,)), (X, Y), optax.sgd(0.1), "mse")
    assert dense.suited(dense.start(NET.init(key, (3,))), *own, key=key).scanned
    ends = [each.advance(start, 5, *data, key=key).params for each in (suited, trainer)]
    for one, other in zip(*map(jax.tree.leaves, ends), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_the_same_call_gives_the_same_bits_wherever_it_stops():
    params = NET.init(jax.random.key(0), (3,))
    options = {"optimizer": optax.adam(0.01), "num_steps": 60, "batch_size": 4, "key": jax.random.key(2)}
    ends = [list(train(NET.apply, params, (X, Y), at=at, **options))[-1][1] for at in (None, range(0, 61, 2), [59])]
    for other in ends[1:]:
        for one, two in zip(jax.tree.leaves(ends[0]), jax.tree.leaves(other), strict=True):
            np.testing.assert_array_equal(one, two)


def test_states_and_keys_are_carried_along():
    """Running statistics are carried along, and each step has its own key."""

    def forward(params, state, x, key):
        return x @ params, {"mean": 0.9 * state["mean"] + 0.1, "noise": jax.random.normal(key)}

    def f(variables, x):
        params, state = variables
        return x @ params + 0 * state["mean"]

    start = {"mean": jnp.zeros(()), "noise": jnp.zeros(())}
    loop = train(
        f, jnp.zeros(3), (X, Y), optimizer=optax.sgd(0.1), num_steps=4, at=range(5), state=start, forward=forward
    )
    states = [variables[1] for _, variables in loop]
    np.testing.assert_allclose([float(s["mean"]) for s in states], 1 - 0.9 ** np.arange(5), rtol=1e-6)
    assert len({float(s["noise"]) for s in states}) == 5


@pytest.mark.slow
def test_several_runs_together_are_those_of_each_alone():
    keys = jax.random.split(jax.random.key(0), 3)
    params = jax.vmap(lambda key: NET.init(key, (3,)))(keys)
    one = jax.tree.map(lambda leaf: leaf[1], params)
    trainer, data = Trainer.checked(NET.apply, one, (X, Y), optax.adam(0.01), "mse", 4)
    key = jax.random.key(5)
    alone = trainer.advance(trainer.start(one), 8, *data, key=jax.random.fold_in(key, 1))
    many = Trainer(trainer.f, None, trainer.loss, trainer.optimizer, 4, many=True)
    together = many.advance(many.start(params, None, jnp.arange(3)), 8, *data, key=key)
    for leaf, wanted in zip(jax.tree.leaves(together.params), jax.tree.leaves(alone.params), strict=True):
        np.testing.assert_allclose(leaf[1], wanted, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(together.path_length[1], alone.path_length, rtol=1e-4)


def test_rates_are_how_far_a_gradient_of_one_moves():
    np.testing.assert_allclose(effective_learning_rates(optax.sgd(0.1), 5), 0.1, rtol=1e-6)
    momentum = effective_learning_rates(optax.sgd(0.1, momentum=0.9), 200)
    np.testing.assert_allclose(momentum[[0, 1, -1]], [0.1, 0.19, 1.0], rtol=1e-5)
    schedule = optax.linear_schedule(1.0, 0.0, 4)
    np.testing.assert_allclose(effective_learning_rates(optax.sgd(schedule), 5), [1, 0.75, 0.5, 0.25, 0], atol=1e-6)
    assert effective_learning_rates(optax.adam(0.1), 5) is None
    assert effective_learning_rates(optax.chain(optax.clip(1.5), optax.sgd(0.1)), 5) is None
    labeled = optax.multi_transform({"a": optax.sgd(0.1)}, {"w": "a"})  # needs named parameters
    assert effective_learning_rates(labeled, 5) is None


@pytest.mark.parametrize(("num_steps", "count"), [(1, 30), (10, 5), (3_000, 30), (7, 2), (9, 1)])
def test_log_steps_begin_at_zero_and_end_at_the_last(num_steps, count):
    steps = log_steps(num_steps, count)
    assert list(steps) == sorted(set(steps))
    assert len(steps) <= count
    assert steps[-1] == num_steps
    assert steps[0] == (0 if count > 1 else num_steps)


def test_training_that_diverges_ends():
    loop = train(lambda params, x: x @ params, jnp.zeros(3), (X, Y), optimizer=optax.sgd(1e3), num_steps=100_000)
    assert list(loop)[-1][0] < 1_000


def test_bad_input_is_named_before_training(unchecked):
    params = NET.init(jax.random.key(0), (3,))
    good = {"optimizer": optax.sgd(0.1), "num_steps": 5}

    def refused(message, f=NET.apply, data=(X, Y), error=InputError, **changed):
        with pytest.raises(error, match=message):
            train(f, params, data, **good | changed)

    refused("as many targets as inputs in the data; got 3 targets for 12", data=(X, Y[:3]))
    refused("Expected the data to be a pair \\(x, y\\) of inputs and targets; got 3 values", data=(X, Y, Y))
    refused("Expected targets of the outputs' shape", data=(X, jnp.ones((12, 4))))
    refused("Expected finite numbers in x of the data; got 1 NaN", data=(X.at[0, 0].set(jnp.nan), Y))
    refused("Expected labels -1 and \\+1 for the logistic loss", data=(X, 0 * Y), loss="logistic")
    refused("Expected an optax optimizer, such as optax.sgd\\(0.1\\); got float", optimizer=0.1, error=TypeError)
    refused("Expected at= in ascending order, each step once; got \\[0, 3, 3\\]", at=[0, 3, 3])
    refused("Expected at= between 0 and num_steps, 5; got 0 to 9", at=[0, 9])
    refused("Expected at= to be whole numbers of steps", at=[0.5], error=TypeError)
    refused("num_steps to be at least 1; got 0", num_steps=0)
    refused("batch_size to be at most the number of inputs, 12; got 13", batch_size=13)
    refused("Expected forward= beside state=", state=jnp.ones(2))
    refused("loss to be one of mse, logistic, hinge, cross_entropy; got 'absolute'", loss="absolute")
    refused("Expected f to be a function", f=3, error=TypeError)
    refused("Expected a key of jax.random", key="zero", error=TypeError)


def test_training_stops_early_where_it_is_told(unchecked):
    params, settings = jnp.zeros(3), {"optimizer": optax.sgd(0.1), "num_steps": 40}

    def f(params, x):
        return x @ params

    seen = dict(train(f, params, (X, X[:, 0]), at=range(41), **settings))
    losses_seen = {step: float(jnp.mean((f(w, X) - X[:, 0]) ** 2)) for step, w in seen.items()}

    def fits(w):
        return float(jnp.mean((f(w, X) - X[:, 0]) ** 2)) < losses_seen[10]

    assert nb.training.steps_until(f, params, (X, X[:, 0]), fits, **settings) == 11
    assert nb.training.steps_until(f, params, (X, X[:, 0]), fits, every=4, **settings) == 12
    assert nb.training.steps_until(f, params, (X, X[:, 0]), lambda w: False, **settings) is None
    np.testing.assert_array_equal(
        nb.training.trained(f, params, (X, X[:, 0]), until=fits, every=4, **settings), seen[12]
    )
    np.testing.assert_array_equal(nb.training.trained(f, params, (X, X[:, 0]), **settings), seen[40])
    with pytest.raises(TypeError, match="Expected until to be a function of the parameters that returns a bool; got"):
        nb.training.trained(f, params, (X, X[:, 0]), until=0.1, **settings)


def test_accuracy_takes_labels_probabilities_and_signs(unchecked):
    outputs, labels = np.array([[3.0, 1.0, 0.0], [0.0, 1.0, 2.0]]), np.array([0, 1])
    assert nb.training.accuracy(outputs, labels) == nb.training.accuracy(outputs, np.eye(3)[labels]) == 0.5
    assert nb.training.accuracy([[1.0], [-2.0]], [1.0, 1.0]) == 0.5
    with pytest.raises(InputError, match=r"Expected labels from 0 to o - 1, .* got targets of shape \(2,\)"):
        nb.training.accuracy([1.0, 2.0], [0.5, 1.0])


class TestParameterFlow:
    def test_of_linear_regression_is_known(self, precision):
        """w(t) = w* + exp(-t H)(w(0) - w*). At ten steps or so, errors add up to less than ten tolerances."""
        rng = np.random.default_rng(0)
        x, ends, start = rng.normal(size=(9, 3)), rng.normal(size=3), rng.normal(size=3)
        eigenvalues, vectors = np.linalg.eigh(x.T @ x / 9)
        times = np.array([0.0, 0.5, 3.0])
        data = jnp.asarray(x), jnp.asarray(x @ ends)
        found = parameter_flow(
            lambda p: losses.mse(data[0] @ p["w"], data[1]), {"w": jnp.asarray(start)}, times, tolerance=1e-6
        )
        decays = np.exp(-times[:, None] * eigenvalues)
        expected = ends + (decays * (vectors.T @ (start - ends))) @ vectors.T
        np.testing.assert_allclose(found["w"], expected, atol=1e-5)
        assert found["w"].dtype == jnp.result_type(float)
        np.testing.assert_array_equal(found["w"][0], jnp.asarray(start))

    def test_is_the_limit_of_small_steps(self, x64):
        """Euler's error is halved with the step: extrapolated, it is the flow up to an error quadratic in the step."""
        net = nb.nets.mlp(width=8, depth=1, activation="tanh")  # at kinks the error is not smooth in the step
        params = net.init(jax.random.key(0), (3,))
        objective = lambda p: losses.mse(net.apply(p, X), Y)  # noqa: E731
        flow = jax.tree.map(lambda leaf: leaf[0], parameter_flow(objective, params, [1.0], tolerance=1e-9))
        step = jax.jit(lambda p, h: jax.tree.map(lambda a, b: a - h * b, p, jax.grad(objective)(p)))
        ends = []
        for count in (400, 800):
            end = params
            for _ in range(count):
                end = step(end, 1 / count)
            ends.append(end)
        for coarse, fine, leaf in zip(*map(jax.tree.leaves, (*ends, flow)), strict=True):
            scale = float(jnp.abs(coarse - leaf).max())
            np.testing.assert_allclose(2 * fine - coarse, leaf, atol=0.02 * scale)

    def test_tolerance_bounds_the_error(self, x64):
        """Of a pendulum-like path, at three tolerances."""
        objective = lambda w: jnp.sum(jnp.cos(3 * w)) + jnp.sum(w**2) / 2  # noqa: E731
        exact, *others = (
            parameter_flow(objective, jnp.array([0.3, 2.0]), [2.0], tolerance=t) for t in (1e-12, 1e-4, 1e-6, 1e-8)
        )
        for tolerance, found in zip((1e-4, 1e-6, 1e-8), others, strict=True):
            assert np.abs(found - exact).max() < 10 * tolerance

    @pytest.mark.usefixtures("unchecked")
    def test_bad_input_is_named(self):
        loss = lambda w: jnp.sum(w**2)  # noqa: E731
        w = jnp.ones(2)
        cases = [
            (
                lambda: parameter_flow(loss, w, [2.0, 1.0]),
                "Expected times (t,) that ascend from zero or more; got [2.0",
            ),
            (lambda: parameter_flow(loss, w, [-1.0]), "Expected times (t,) that ascend from zero or more; got [-1.0]."),
            (lambda: parameter_flow(loss, w, []), "Expected times (t,) that ascend from zero or more; got []."),
            (lambda: parameter_flow(loss, w, [np.nan]), "Expected finite numbers in times"),
            (lambda: parameter_flow(loss, w, [1.0], tolerance=0.0), "Expected a tolerance from 1e-13 to below 1; got"),
            (lambda: parameter_flow(loss, {}, [1.0]), "Expected params to hold at least one array; got an empty"),
            (lambda: parameter_flow(loss, {"a": jnp.nan}, [1.0]), "Expected finite numbers in params['a']"),
            (lambda: parameter_flow(loss, jnp.arange(2), [1.0]), "Expected floating-point numbers in params; got int"),
            (lambda: parameter_flow(lambda w: w, w, [1.0]), "Expected objective(params) to return one real number"),
            (lambda: parameter_flow(3, w, [1.0]), "Expected objective to be a function of params; got int."),
            (lambda: parameter_flow(lambda w: -jnp.sum(w**4), w, [1.0]), "Expected a gradient flow up to time 1; it"),
            (lambda: parameter_flow(lambda w: jnp.sum(jnp.log(w - 2)), -w / 0, [1.0]), "Expected finite numbers"),
            (lambda: parameter_flow(lambda w: jnp.sum(jnp.sqrt(w - 2)), w, [1.0]), "Expected a finite gradient of"),
            (lambda: parameter_flow(lambda w: jnp.sum(jnp.sqrt(w)), w, [9.0]), "Expected a gradient flow up to time 9"),
        ]
        for call, message in cases:
            with pytest.raises(InputError) as error:
                call()
            assert message in str(error.value)
