"""The laws of every layer in the table: shapes, independence of examples, and the covariance of its outputs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from cases import LAYERS, LIMITS, assert_near, standard_errors

import ntkbias as nb
from ntkbias.errors import InputError, InputTypeError
from ntkbias.layers import (
    Activation,
    Conv,
    Covariance,
    Dense,
    Flatten,
    GlobalAvgPool,
    Identity,
    LocallyConnected,
    Needs,
    Positions,
    Product,
    Relu,
    Residual,
    Sequential,
)

each_layer = pytest.mark.parametrize("name", LAYERS)


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def case(name, n=3):
    layer, shape = LAYERS[name]
    return layer, shape, normal(n, *shape)


def init(layer, shape, seed=0):
    return jax.jit(layer.init, static_argnums=1)(jax.random.key(seed), shape)


@each_layer
def test_output_shape_is_that_of_apply(name):
    layer, shape, x = case(name)
    params = jax.eval_shape(lambda key: layer.init(key, shape), jax.random.key(0))
    assert jax.eval_shape(layer.apply, params, x).shape == (3, *layer.output_shape(shape))
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params))


@each_layer
def test_rates_under_mup_are_numbers_like_the_parameters(name):
    layer, shape, _ = case(name)
    params = jax.eval_shape(lambda key: layer.init(key, shape), jax.random.key(0))
    rates = layer.adam_rates(shape)
    assert jax.tree.structure(rates) == jax.tree.structure(params)
    assert all(0 < rate <= 1 for rate in jax.tree.leaves(rates))


@each_layer
def test_examples_do_not_mix(name):
    layer, shape, x = case(name)

    @jax.jit
    def together_and_alone(key):
        params = layer.init(key, shape)
        return layer.apply(params, x)[1:2], layer.apply(params, x[1:2])

    # one eps per summed product: batches of different sizes sum in different orders
    assert_near(*together_and_alone(jax.random.key(0)), 1e-6)


@each_layer
def test_who_needs_more_after_needs_no_less_before(name):
    layer, *_ = case(name)
    levels = [Needs(cross, own) for cross in list(Positions)[1:] for own in Positions]
    for less in levels:
        for more in levels:
            if less | more == more:
                assert layer.needs(less) | layer.needs(more) == layer.needs(more)


ALL = Needs(Positions.ALL, Positions.ALL)
EQUAL = Needs(Positions.EQUAL, Positions.EQUAL)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, (layer, _) in LAYERS.items() if layer.needs(EQUAL) == EQUAL])
def test_pairs_hold_the_same_positions(name, x64):
    """Two ways to one answer: the arrays at equal positions are the diagonals of the arrays for all pairs."""
    layer, shape, _ = case(name)
    before = prefix(layer, shape)
    x = normal(3, *shape[:-1], 2)

    @jax.jit
    def both(x):
        few, many = (
            layer.propagate(before.propagate(Covariance.of_inputs(x[:2], x[1:], needs))) for needs in (EQUAL, ALL)
        )
        return [
            (getattr(few, key), many.at_equal(getattr(many, key), carried))
            for key, carried in (("nngp", many.cross), ("ntk", many.cross), ("self1", many.own), ("self2", many.own))
        ]

    for few, many in both(x):
        assert_near(few, many, 1e-12)


def prefix(layer, shape):
    """A linear layer whose outputs have the given shape. After it the channels are exactly Gaussian.

    A product gets the identity: its factors are independent only given its inputs, so it acts on the inputs themselves.
    """
    if isinstance(layer, Product):
        return Identity()
    sizes = tuple(min(2, size) for size in shape[:-1])
    return Conv(shape[-1], sizes, b_std=0.5) if sizes else Dense(shape[-1], b_std=0.5)


@pytest.mark.parametrize("name", [name for name in LAYERS if name not in LIMITS])
def test_propagate_is_the_covariance_of_apply(name):
    """After one Gaussian linear layer, the covariances of these layers are exact at any width."""
    layer, shape, _ = case(name)
    net = Sequential((prefix(layer, shape), layer))
    x = normal(2, *shape[:-1], 2)
    seeds = 2000

    @jax.jit
    def moments(keys):
        def one(key):
            z = net.apply(net.init(key, x.shape[1:]), x)
            return jnp.einsum("npc,mqc->nmpq", *[z.reshape(2, -1, z.shape[-1])] * 2) / z.shape[-1]

        return jax.vmap(one)(keys)

    after = jax.jit(lambda x: net.propagate(Covariance.of_inputs(x, x, ALL)))(x)
    samples = np.asarray(moments(jax.random.split(jax.random.key(5), seeds)))
    expected = np.asarray(after.nngp).reshape(samples.shape[1:])
    errors = standard_errors(samples, expected)
    # If the law is true, some entry exceeds this bound with probability 1e-5.
    assert errors.max() < scipy.stats.norm.isf(1e-5 / 2 / errors.size)
    assert after.shape == net.output_shape(x.shape[1:])
    own = np.asarray(after.self1).reshape(2, *samples.shape[3:])
    assert_near(own, np.stack([expected[0, 0], expected[1, 1]]), 1e-6)


@pytest.mark.parametrize("name", LIMITS)
def test_propagate_is_the_limit_of_apply(name):
    """The second moments of each random network differ from the limit by an error of order width^-1/2."""
    widths, seeds = (16, 128), 16
    errors = []
    for width in widths:
        layer, shape = LIMITS[name](width)
        net = Sequential((prefix(layer, shape), layer))
        x = normal(2, *shape[:-1], 2)

        @jax.jit
        def moments(key, net=net, x=x):
            z = net.apply(net.init(key, x.shape[1:]), x)
            return jnp.einsum("npc,mqc->nmpq", *[z.reshape(2, -1, z.shape[-1])] * 2) / z.shape[-1]

        after = jax.jit(lambda x, net=net: net.propagate(Covariance.of_inputs(x, x, ALL)))(x)
        samples = np.stack([moments(key) for key in jax.random.split(jax.random.key(5), seeds)])
        expected = np.asarray(after.nngp).reshape(samples.shape[1:])
        scale = np.linalg.norm(expected)
        errors.append(np.median(np.linalg.norm((samples - expected).reshape(seeds, -1), axis=1)) / scale)
        # The mean differs from the limit only by a bias of order 1 / width.
        assert standard_errors(samples, expected, bias=8 / width * np.abs(expected).max()).max() < 5
    # Eight times the width gives 0.35 times the error. The median of 16 networks is accurate to about 30 %.
    assert errors[1] < 0.6 * errors[0]
    assert errors[1] < 4 / widths[1] ** 0.5


@each_layer
def test_is_a_hashable_pytree(name):
    layer, *_ = LAYERS[name]
    same = jax.tree.unflatten(jax.tree.structure(layer), jax.tree.leaves(layer))
    assert same == layer
    assert hash(layer) == hash(same)


STDS = {
    "dense": (lambda **options: Dense(300, 1.5, 0.7, **options), (200,), 200),
    "conv": (lambda **options: Conv(300, (3, 2), w_std=1.5, b_std=0.7, **options), (4, 4, 30), 180),
    "locally connected": (
        lambda **options: LocallyConnected(50, (3, 2), (2, 4), w_std=1.5, b_std=0.7, **options),
        (4, 8, 10),
        60,
    ),
}


@pytest.mark.parametrize("name", STDS)
@pytest.mark.parametrize("b_init", [1.0, 0.5, 0.0])
def test_variance_of_parameters(name, b_init):
    make, shape, fan_in = STDS[name]
    wide = make().num_outputs ** -0.5
    for parameterization, readout, w_std, b_std in (
        ("ntk", False, 1.0, 1.0),
        ("standard", True, 1.5 / fan_in**0.5, 0.7),
        ("mup", False, wide, wide),
        ("mup", True, fan_in**-0.5, 1.0),
    ):
        params = init(make(b_init=b_init, parameterization=parameterization, readout=readout), shape)
        weights, biases = np.asarray(params["w"]), np.asarray(params["b"])
        num_outputs = make().num_outputs
        assert weights.size == fan_in * biases.size
        assert biases.shape == ((2, 2, num_outputs) if name == "locally connected" else (num_outputs,))
        # the standard error of a standard deviation is std / sqrt(2 n)
        assert abs(weights.std() - w_std) < 4 * w_std / (2 * weights.size) ** 0.5
        assert abs(weights.mean()) < 4 * w_std / weights.size**0.5
        assert abs(biases.std() - b_init * b_std) <= 4 * b_init * b_std / (2 * biases.size) ** 0.5


@pytest.mark.parametrize("name", STDS)
def test_parameterizations_are_one_function_of_scaled_parameters(name):
    make, shape, fan_in = STDS[name]
    ntk, standard, mup = (make(parameterization=p) for p in ("ntk", "standard", "mup"))
    params = init(ntk, shape)
    scaled = {"w": params["w"] * 1.5 / fan_in**0.5, "b": 0.7 * params["b"]}
    x = normal(2, *shape)
    outputs = ntk.apply(params, x)
    assert_near(outputs, standard.apply(scaled, x), 1e-5)  # sums of 200 products in different orders
    wide = jax.tree.map(lambda leaf: leaf * mup.num_outputs**-0.5, params)  # smaller, at larger multipliers
    assert_near(outputs, mup.apply(wide, x), 1e-5)
    readout = make(parameterization="mup", readout=True)
    assert_near(outputs, readout.apply(params, x), 1e-5)


def test_keys_decide():
    layer = Dense(4, b_std=1.0)
    first, again, other = (init(layer, (3,), seed) for seed in (0, 0, 1))
    assert np.array_equal(first["w"], again["w"])
    assert not np.array_equal(first["w"], other["w"])
    net = Sequential((Dense(3), Dense(3)))
    one, two = init(net, (3,))
    assert not np.array_equal(one["w"], two["w"])


def test_conv_is_the_sum_over_offsets():
    """One circular axis, by hand."""
    layer = Conv(2, (3,), None, "CIRCULAR", parameterization="standard")
    x = normal(2, 5, 3)
    w = normal(3, 3, 2, seed=1)
    expected = sum(np.roll(x, 1 - offset, 1) @ w[offset] for offset in range(3))
    assert_near(layer.apply({"w": w}, x), expected, 1e-6)


def test_residual_adds():
    layer = Residual(Dense(3, parameterization="standard"))
    x, w = jnp.ones((2, 3)), jnp.arange(9.0).reshape(3, 3)
    assert_near(layer.apply({"branch": {"w": w}, "shortcut": ()}, x), x + x @ w, 1e-6)


@pytest.mark.usefixtures("unchecked")
class TestBadInput:
    @pytest.mark.parametrize("make", [Dense, lambda n: Conv(n, (3,))])
    @pytest.mark.parametrize(
        ("value", "error", "message"),
        [(0, InputError, "at least 1; got 0"), (2.5, InputTypeError, "a whole number; got 2.5")],
    )
    def test_num_outputs(self, make, value, error, message):
        with pytest.raises(error, match=f"Expected num_outputs of (Dense|Conv) to be {message}"):
            make(value)

    @pytest.mark.parametrize("make", [Dense, lambda n, **options: Conv(n, (3,), **options)])
    def test_parameterization(self, make):
        with pytest.raises(InputError, match="Expected parameterization to be one of ntk, standard, mup; got 'NTK'"):
            make(3, parameterization="NTK")

    def test_padding(self):
        with pytest.raises(InputError, match="Expected padding to be one of SAME, VALID, CIRCULAR; got 1"):
            Conv(3, (3,), padding=1)

    @pytest.mark.parametrize(("size", "strides"), [((0,), None), ((3, -1), None), ((3,), (0,))])
    def test_sizes(self, size, strides):
        with pytest.raises(InputError, match=r"Expected every number in \w+ of Conv to be at least 1; got"):
            Conv(3, size, strides)

    def test_fractional_size(self):
        with pytest.raises(InputTypeError, match="Expected every number in kernel_size of Conv to be a whole number"):
            Conv(3, (1.5,))

    def test_number_of_strides(self):
        with pytest.raises(
            InputError, match=r"Expected one stride per spatial axis; got kernel_size=\(3, 3\) and strides"
        ):
            Conv(3, (3, 3), (1,))

    @pytest.mark.parametrize("method", ["output_shape", "init"])
    def test_axes(self, method):
        def call(layer, shape):
            return layer.output_shape(shape) if method == "output_shape" else layer.init(jax.random.key(0), shape)

        with pytest.raises(
            InputError, match=r"inputs of Conv to have 1 spatial axes and one of channels; got shape \(3,\)"
        ):
            call(Conv(2, (3,)), (3,))

    def test_no_axes(self):
        for layer in (Dense(2), Flatten(), GlobalAvgPool()):
            with pytest.raises(InputError, match=r"Expected inputs of \w+ to have at least one axis; got shape \(\)"):
                layer.output_shape(())

    @pytest.mark.parametrize("layer", [Dense(2), Flatten()])
    def test_sizes_of_inputs(self, layer):
        with pytest.raises(InputError, match=r"Expected every size of the input shape \(0,\) of \w+ to be at least 1"):
            layer.output_shape((0,))

    def test_window_beyond_the_image(self):
        layer = Conv(2, (3, 5), padding="VALID")
        for call in (layer.output_shape, lambda shape: layer.init(jax.random.key(0), shape)):
            with pytest.raises(InputError, match=r"as large as the window \(3, 5\); got positions \(4, 4\)"):
                call((4, 4, 1))

    def test_sequential_of_other_things(self):
        for other, what in (
            (jax.nn.relu, 'the function relu. Write layers.activation("relu") or Relu(), or Elementwise(jax.nn.relu)'),
            ("relu", "'relu'. Write layers.activation(\"relu\") or Relu(), or"),
            (Relu, "the class Relu. Write Relu(...)."),
            (3, "3."),
        ):
            with pytest.raises(InputTypeError) as error:
                Sequential((Dense(3), other))
            assert str(error.value).startswith(f"Expected the layers of Sequential to be layers; got {what}")
        with pytest.raises(InputTypeError, match='Expected an activation by its name, layers.activation."relu".'):
            Activation("relu")

    def test_residual_of_two_shapes(self):
        layer = Residual(Dense(4))
        message = r"Expected branch and shortcut of Residual to give one shape; got \(4,\) and \(3,\)"
        for call in (
            lambda: layer.output_shape((3,)),
            lambda: layer.init(jax.random.key(0), (3,)),
            lambda: nb.infinite_ntk(layer)(jnp.ones((2, 3))),
        ):
            with pytest.raises(InputError, match=message):
                call()


class TestOptionsOfLinearLayers:
    @pytest.mark.parametrize("value", [3, (), "33"])
    def test_window_that_is_no_tuple(self, value, unchecked):
        with pytest.raises(
            TypeError, match=r"Expected kernel_size of Conv to be one number for each spatial axis, as \(3"
        ):
            Conv(2, value)

    @pytest.mark.parametrize("name", ["w_std", "b_std", "b_init"])
    def test_scales(self, name, unchecked):
        for make in (lambda **scale: Dense(2, **scale), lambda **scale: Conv(2, (3,), **scale)):
            with pytest.raises(InputError, match=rf"Expected {name} of \w+ to be zero or more; got -1"):
                make(**{name: -1.0})
            with pytest.raises(InputError, match=rf"Expected finite numbers in {name} of"):
                make(**{name: float("nan")})
            with pytest.raises(TypeError, match=rf"Expected {name} of \w+ to be an array of numbers; got"):
                make(**{name: "wide"})

    def test_residual_of_correlated_sides(self, unchecked):
        for branch in (Relu(), Identity(), Sequential((Dense(3), Relu()))):
            with pytest.raises(InputError, match="got neither. Covariances of correlated branches do not add"):
                Residual(branch)
        Residual(Sequential((Relu(), Dense(3))))  # the branch ends with a linear layer
        Residual(Sequential((Dense(3), Relu())), Dense(3))  # the shortcut does
        with pytest.raises(TypeError, match="Expected branch and shortcut of Residual to be layers"):
            Residual(lambda x: x)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", LAYERS)
def test_bad_input_in_place_of_a_key_is_named(name):
    """A seed is no key of jax.random, and keys of the old kind are."""
    layer, shape = LAYERS[name]
    with pytest.raises(InputTypeError, match=r"Expected a key of jax.random, as jax.random.key\(3\); got int"):
        layer.init(3, shape)
    old, new = layer.init(jax.random.PRNGKey(0), shape), layer.init(jax.random.key(0), shape)
    assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(old), jax.tree.leaves(new), strict=True))
