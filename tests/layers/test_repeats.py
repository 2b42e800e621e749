"""Blocks of layers that are alike become one scan: only the time and the size of programs may differ."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import LAYERS, assert_near, count_equations

import ntkbias as nb
from ntkbias.errors import InputError
from ntkbias.layers import Conv, Covariance, Dense, Layer, Needs, Relu, Sequential, Tanh
from ntkbias.layers.repeats import repeats

FIRST = {type(layer): name for name, (layer, _) in reversed(LAYERS.items())}  # the first of each class


def block_of(name):
    """A layer of the table after a linear layer, which any layer may follow, and the shape of one input."""
    layer, shape = LAYERS[name]
    return (Dense(shape[-1], 1.2), layer), shape


def settles(name):
    """Whether a block's outputs have the shape of its inputs, from the second block on."""
    block, shape = block_of(name)
    shape = Sequential(block).output_shape(shape)
    return Sequential(block).output_shape(shape) == shape


FIRST[Sequential] = "scale, dropout and frozen"  # "sequential" takes positions and gives none
REPEATED = [name for name in LAYERS if name in FIRST.values() and settles(name)]


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def scaled_by(block, scales):
    """One copy of the block per factor, with the block's numbers multiplied by it."""
    return Sequential(
        [jax.tree.map(lambda v, s=s: v * s if type(v) is float else v, each) for s in scales for each in block]
    )


def written_out(net, x, y):
    """The covariance, computed layer by layer."""
    covariance = Covariance.of_inputs(x, y, net.needs(Needs()))
    for layer in net.layers:
        covariance = layer.propagate(covariance)
    return covariance


def at_once(net, x, y):
    return net.propagate(Covariance.of_inputs(x, y, net.needs(Needs())))


@pytest.mark.parametrize("name", REPEATED)
def test_values_and_derivatives_are_those_of_layers_written_out(name, x64):
    """Derivatives by inputs and by numbers, for blocks whose numbers differ and are therefore stacked."""
    block, shape = block_of(name)
    y = normal(2, *shape, seed=1)

    def total(x, scales, carry):
        arrays = jax.tree.leaves(carry(scaled_by(block, scales), x, y))
        return sum(jnp.vdot(normal(*each.shape, seed=k), each) for k, each in enumerate(arrays)), arrays

    def found(carry):
        arguments = normal(2, *shape), [1.0, 1.05, 1.1, 1.15]
        derivatives, arrays = jax.jit(jax.grad(lambda x, s: total(x, s, carry), (0, 1), has_aux=True))(*arguments)
        return arrays, derivatives[0], jnp.stack(derivatives[1])

    (arrays, by_inputs, by_numbers), (expected, expected_by_inputs, expected_by_numbers) = map(
        found, (at_once, written_out)
    )
    size = max(float(jnp.max(jnp.abs(each))) for each in expected)
    for got, array in zip(arrays, expected, strict=True):
        assert_near(got, array, 1e-12)
    for got, array in ((by_inputs, expected_by_inputs), (by_numbers, expected_by_numbers)):
        # Relative to the values if a derivative is zero up to rounding: a layer may undo the scale of its input.
        np.testing.assert_allclose(got, array, rtol=0, atol=1e-12 * max(size, float(jnp.max(jnp.abs(array)))))


@pytest.mark.parametrize("activation", ["relu", "erf"])
def test_second_derivatives_are_those_of_layers_written_out(activation, x64):
    """Also if two inputs coincide: JAX drops custom derivatives inside scans that are differentiated twice."""
    block = (Dense(8, 1.2, 0.3), nb.layers.activation(activation))
    x = normal(3, 2)

    def along(carry):
        def total(x):
            return jnp.sum(jnp.sin(carry(Sequential(block * 4), x, normal(3, 2)[:2]).ntk))

        def slope(x):
            return jnp.vdot(jax.grad(total)(x), normal(3, 2, seed=1))

        return jax.jit(lambda x: (jax.jvp(jax.grad(total), (x,), (normal(3, 2, seed=1),))[1], jax.grad(slope)(x)))(x)

    for found, expected in zip(along(at_once), along(written_out), strict=True):
        assert_near(found, expected, 1e-12)


@pytest.mark.parametrize("name", REPEATED)
def test_a_program_is_as_large_for_any_depth(name):
    block, shape = block_of(name)
    x, y = normal(2, *shape), normal(2, *shape, seed=1)

    def size(depth):
        return count_equations(jax.make_jaxpr(lambda x: jax.tree.leaves(at_once(Sequential(block * depth), x, y)))(x))

    assert size(5) == size(40)


DEEP = {
    "mlp": (nb.nets.mlp(8, 6, activation="erf", b_std=0.3), (3,)),
    "cnn": (nb.nets.cnn(4, 5, kernel_size=(2,), readout="pool"), (4, 2)),
    "resnet": (nb.nets.resnet(4, 4, kernel_size=(2,), strides=(1, 2), readout="flatten"), (4, 2)),
    "transformer": (nb.nets.transformer(8, 5, num_heads=2, activation="erf"), (3, 2)),
}


@pytest.mark.parametrize("name", DEEP)
def test_kernels_of_deep_networks(name, x64):
    net, shape = DEEP[name]
    x, y = normal(3, *shape), normal(2, *shape, seed=1)
    ntk, nngp = jax.jit(lambda x, y: (nb.infinite_ntk(net)(x, y), nb.infinite_nngp(net)(x, y)))(x, y)
    expected = jax.jit(lambda x, y: written_out(net, x, y))(x, y)
    assert_near(ntk, expected.ntk, 1e-12)
    assert_near(nngp, expected.nngp, 1e-12)


def test_under_vmap_and_forward_derivatives(x64):
    """`vmap` over a number that multiplies the hyperparameters of all hidden layers."""
    x, scales = normal(3, 2), jnp.linspace(0.5, 1.5, 3)

    def kernel(scale, carry):
        net = Sequential((*scaled_by((Dense(4, 1.2, 0.5), Relu()), [scale] * 6).layers, Dense(1)))
        return nb.infinite_ntk(net)(x, x[:2]) if carry is None else carry(net, x, x[:2]).ntk

    def found(carry):
        return jax.jit(jax.vmap(jax.jacfwd(lambda scale: kernel(scale, carry))))(scales)

    assert_near(found(None), found(written_out), 1e-12)


def test_numbers_that_differ_promote_nothing(x64):
    scales = 1 + 0.1 * np.arange(5)
    net = scaled_by((Dense(3, 1.3, 0.5), Relu()), scales.tolist())
    x = normal(4, 3).astype(np.float32)
    after, expected = at_once(net, x, x), written_out(net, x, x)
    assert after.nngp.dtype == after.ntk.dtype == after.self1.dtype == np.float32
    assert_near(after.ntk, expected.ntk, 1e-6)


def test_deep_kernels_are_as_few_programs():
    programs = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: programs.append(event) if "backend_compile" in event else None
    )

    def count(depth):
        before = len(programs)
        nb.infinite_ntk(nb.nets.mlp(8, depth))(np.ones((2, 3), np.float32))
        return len(programs) - before

    count(1)
    assert count(2) == count(60) == 1


class Signed(Layer):
    """A layer that reads the value of its number."""

    factor: float

    def apply(self, params, x):
        return self.factor * x

    def propagate(self, covariance):
        return covariance.map(lambda array, _: array * (self.factor**2 if self.factor > 0 else 0.0))


def test_a_layer_may_look_at_its_numbers():
    net = Sequential([layer for k in range(-1, 5) for layer in (Dense(3), Signed(1.0 + 0.1 * k))])
    x = normal(2, 3)
    assert_near(at_once(net, x, x).ntk, written_out(net, x, x).ntk, 1e-6)


def test_what_is_a_block():
    lengths = lambda *layers: [(len(block), count) for block, count in repeats(layers)]  # noqa: E731
    hidden = [layer for std in (1.0, 1.1, 1.2) for layer in (Dense(4, std), Relu())]
    assert lengths(*hidden, Dense(1)) == [(2, 3), (1, 1)]
    assert lengths(*hidden[:4], Dense(1)) == [(1, 1)] * 5  # two blocks are written out
    assert lengths(*3 * (Dense(4), Relu(), Dense(4), Tanh())) == [(4, 3)]
    assert lengths(*3 * (Dense(4), Relu()), *3 * (Dense(5), Relu())) == [(2, 3), (2, 3)]
    assert lengths(Dense(4), Dense(4, b_std=1.0), Dense(5), Dense(4, parameterization="standard")) == [(1, 1)] * 4
    assert lengths(Dense(4, 1), Dense(4, 2), Dense(4, 3)) == [(1, 1)] * 3  # a whole number may be an exponent
    assert lengths(*3 * (*[Dense(4)] * 3, Relu())) == [(4, 3)]  # not three Dense layers and the rest
    assert lengths() == []


def test_layers_whose_shape_never_settles_are_written_out():
    net = Sequential([Conv(2, (2,), padding="VALID")] * 5)
    x = normal(2, 7, 2)
    assert_near(at_once(net, x, x).ntk, written_out(net, x, x).ntk, 1e-6)


def test_a_block_that_cannot_follow_itself_says_so():
    with pytest.raises(InputError, match="Expected a Dense or Conv layer before Relu"):
        at_once(Sequential([Dense(3), *[Relu()] * 5]), normal(2, 3), normal(2, 3))
