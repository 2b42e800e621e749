"""What a user lets go of is gone: functions, parameters, data, and the programs made of them."""

import functools
import gc
import weakref

import jax
import jax.extend.backend
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import ntkbias as nb
from ntkbias.compilation import Function

X = np.linspace(-1.0, 1.0, 12, dtype=np.float32).reshape(4, 3)
Y = np.ones((4, 2), np.float32)


class Network:
    """A function of its own data, as a bound method."""

    def __init__(self, data):
        self.data = data

    def apply(self, params, x):
        return jnp.tanh(x @ params) @ self.data


def closure(data):
    return lambda params, x: jnp.tanh(x @ params) @ data


def partial(data):
    return functools.partial(lambda data, params, x: jnp.tanh(x @ params) @ data, data)


def method(data):
    return Network(data).apply


def loss(data):
    return lambda outputs, y: jnp.mean((outputs - y) ** 2) * data[0, 0]


def kernel(make, data):
    nb.empirical_ntk(make(data), jnp.ones((3, 2)))(X)


def of_one_output_at_a_time(make, data):
    nb.empirical_ntk(make(data), jnp.ones((3, 2)), outputs="each")(X, X)


def operator(make, data):
    nb.empirical_ntk(make(data), jnp.ones((3, 2)), outputs="all").operator(X) @ np.ones(8)


def weighted(make, data):
    nb.loss_weighted_ntk(make(data), jnp.ones((3, 2)), "cross_entropy")(X)


def velocity(make, data):
    nb.ntk_velocity(make(data), jnp.ones((3, 2)), direction=jnp.ones((3, 2)))(X)


def sharpness(make, data):
    nb.complexity.loss_gradient(make(data), jnp.ones((3, 2)), X, Y, loss=loss(data))


def training(make, data):
    steps = nb.train(make(data), jnp.ones((3, 2)), (X, Y), optimizer=optax.adam(0.1), num_steps=3, loss=loss(data))
    for _ in steps:
        pass


def tracking(make, data):
    nb.track(make(data), jnp.ones((3, 2)), (X, Y), optimizer=optax.sgd(0.1), num_steps=2, loss=loss(data))


USES = [kernel, of_one_output_at_a_time, operator, weighted, velocity, sharpness, training, tracking]
CASES = [*((closure, use) for use in USES), *((make, use) for make in (partial, method) for use in (kernel, training))]


def executables():
    gc.collect()
    return len(jax.extend.backend.get_backend().live_executables())


@pytest.mark.parametrize(("make", "use"), CASES, ids=lambda case: case.__name__)
def test_nothing_outlives_the_function(make, use):
    use(make, jnp.asarray(np.ones((2, 2), np.float32)))  # what no function is part of is compiled once and stays
    before = executables()
    gone = []
    for number in range(1, 4):
        data = jnp.asarray(np.full((2, 2), number + 1, np.float32))
        gone.append(weakref.ref(data))
        use(make, data)
    del data
    assert executables() == before
    assert [reference() for reference in gone] == [None] * 3


def test_equal_functions_share_their_programs():
    network, net = Network(jnp.ones((2, 2))), nb.nets.mlp(4, 1)
    assert Function.of(network.apply) == Function.of(network.apply)
    assert Function.of(net.apply) == Function.of(nb.nets.mlp(4, 1).apply)
    assert Function.of(net.apply) != Function.of(nb.nets.mlp(5, 1).apply)
    assert Function.of(network.apply) != Function.of(Network(network.data).apply)


def test_programs_of_two_functions_end_with_the_first():
    held = closure(jnp.ones((2, 2)))
    both = lambda f: nb.empirical_ntk(held, jnp.ones((3, 2))) + nb.empirical_ntk(f, jnp.ones((3, 2)))  # noqa: E731
    both(closure(jnp.ones((2, 2))))(X)
    before = executables()
    both(closure(jnp.ones((2, 2))))(X)
    assert executables() == before
