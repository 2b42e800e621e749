"""Once a user drops a function, it is freed with its parameters, its data and its compiled programs."""

import functools
import gc
import weakref

import equinox as eqx
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
    """A function that holds data, as a bound method."""

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


def cross(make, data):
    f, g = make(data), make(2.0 * data)
    nb.cross_ntk(f, g, jnp.ones((3, 2)))(X, X)


def block(make, data):
    nb.block_ntk({"f": make(data), "g": make(2.0 * data)}, jnp.ones((3, 2)))({"f": X, "g": X[:2]})


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


def activation(make, data):
    layers = nb.layers.Dense(2), nb.layers.Elementwise(lambda u: jnp.tanh(u) * data[0, 0]), nb.layers.Dense(1)
    nb.infinite_ntk(nb.layers.Sequential(layers))(X)


def encoding(make, data):
    layer = nb.layers.PositionalEncoding(0.5, decay=lambda d: np.exp(-d / float(data[0, 0])))
    net = nb.layers.Sequential((nb.layers.Dense(2), layer, nb.layers.Relu(), nb.layers.Flatten(), nb.layers.Dense(1)))
    nb.infinite_ntk(net)(X[:, :, None])


USES = [
    activation,
    encoding,
    kernel,
    of_one_output_at_a_time,
    operator,
    cross,
    block,
    weighted,
    velocity,
    sharpness,
    training,
    tracking,
]
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


# -- never another function's program ----------------------------------------------------------------------------------


class Energy(eqx.Module):
    """A model of one example, from whose method other functions are made."""

    scale: float

    def energy(self, params, x):
        return self.scale * jnp.sum(jnp.tanh(x * params) ** 2)


def wrapped(f, factor):
    return functools.wraps(f)(lambda params, x: factor * f(params, x))


class Named(Network):
    """A user's class with an attribute that means something else to the package."""

    equality = "soft"

    def __call__(self, params, x):
        return self.apply(params, x)


def two_of_vmap():
    model = Energy(1.0)
    return jax.vmap(model.energy, (None, 0)), jax.vmap(lambda p, x: 2.0 * model.energy(p, x), (None, 0))


PAIRS = {  # two similar functions; the second is ten times, or twice, the first
    "wrapper of a network's method": lambda: (
        (net := nb.layers.Dense(2)).apply,
        wrapped(net.apply, 10.0),
    ),
    "wrapper of a bound method": lambda: ((method := Network(jnp.ones((2, 2))).apply), wrapped(method, 10.0)),
    "wrapper of a map of a method": lambda: ((f := two_of_vmap()[0]), wrapped(f, 2.0)),
    "maps of two methods": two_of_vmap,
    "objects with an attribute of ours": lambda: (Named(jnp.ones((2, 2))), Named(jnp.full((2, 2), 10.0))),
    "lambdas in one line": lambda: ((lambda p, x: x @ p), (lambda p, x: 10.0 * (x @ p))),
    "signs of zero": lambda: (Energy(0.0).energy, Energy(-0.0).energy),
}


@pytest.mark.parametrize("name", PAIRS)
def test_no_function_runs_another_s_program(name):
    first, second = PAIRS[name]()
    assert Function.of(first) != Function.of(second)
    assert Function.of(first) == Function.of(first)


def test_a_wrapper_of_a_method_has_a_kernel_of_its_own():
    net = nb.layers.Dense(2)
    params = net.init(jax.random.key(0), (3,))
    once = nb.empirical_ntk(net.apply, params)(X)
    np.testing.assert_allclose(nb.empirical_ntk(wrapped(net.apply, 10.0), params)(X), 100 * once, rtol=1e-5)
