"""Branches, frozen layers, windows, pools and locally connected layers: their own laws, and bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
from cases import assert_near

import ntkbias as nb
from ntkbias.errors import InputError, InputTypeError
from ntkbias.layers import (
    AvgPool,
    Concatenate,
    Conv,
    Covariance,
    Dense,
    Dropout,
    Erf,
    Flatten,
    Frozen,
    GlobalAvgPool,
    GlobalSumPool,
    Identity,
    LocallyConnected,
    Needs,
    Positions,
    Product,
    Relu,
    Residual,
    Scale,
    Sequential,
    Sum,
    SumPool,
)


def inputs(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def kernels(net, x):
    """The NTK and the NNGP of one set of inputs, from one propagation instead of two."""

    @jax.jit
    def both(x):
        same = jnp.eye(len(x), dtype=bool)
        after = net.propagate(Covariance.of_inputs(x, x, net.needs(Needs()), same=same))
        return jnp.zeros_like(after.nngp) if after.ntk is None else after.ntk, after.nngp

    return both(x)


# -- frozen layers -----------------------------------------------------------------------------------------------------

HIDDEN = {
    "dense": (Sequential((Dense(6, 1.2, 0.3), Relu(), Dense(5, 1.4), Erf())), (3,)),
    "residual": (Sequential((Dense(5), Residual(Sequential((Relu(), Dense(5, b_std=0.3)))), Relu())), (3,)),
    "pools": (
        Sequential(
            (Conv(4, (2,), b_std=0.3), Relu(), AvgPool((2,)), LocallyConnected(3, (2,)), Erf(), GlobalAvgPool())
        ),
        (4, 2),
    ),
    "branches": (
        Sequential((Dense(4), Concatenate((Relu(), Product((Dense(4), Identity())))), Dense(4), Relu())),
        (3,),
    ),
}


@pytest.mark.parametrize("name", HIDDEN)
@pytest.mark.parametrize("parameterization", ["ntk", "standard"])
def test_training_the_last_layer_alone_gives_the_nngp(name, parameterization, x64):
    hidden, shape = HIDDEN[name]
    last = Dense(2, 1.3, parameterization=parameterization)
    ntk, nngp = kernels(Sequential((Frozen(hidden), last)), inputs(4, *shape))
    fan_in = 1 if parameterization == "ntk" else hidden.output_shape(shape)[0] / 1.3**2
    assert_near(ntk, fan_in * nngp, 1e-14)


def test_a_frozen_net_has_no_ntk():
    hidden, shape = HIDDEN["dense"]
    ntk, nngp = kernels(Frozen(hidden), inputs(3, *shape))
    assert np.all(ntk == 0)
    assert np.all(np.diag(nngp) > 0)


@pytest.mark.slow
def test_the_empirical_kernel_is_that_of_the_last_layer(x64):
    hidden, shape = HIDDEN["dense"]
    net, x = Sequential((Frozen(hidden), Dense(2, 1.3))), inputs(4, *shape)
    params = net.init(jax.random.key(0), shape)
    features = hidden.apply(params[0], x)
    assert_near(nb.empirical_ntk(net.apply, params)(x), 1.3**2 / 5 * features @ features.T, 1e-13)


def test_frozen_holds_for_its_layer_alone(x64):
    """Layers before and after are trained. A frozen layer inside a frozen layer changes nothing."""
    first, middle, last = Dense(5), Sequential((Relu(), Dense(5, 1.2, 0.4), Relu())), Dense(2)
    x = inputs(4, 3)
    net = Sequential((first, Frozen(Sequential((Frozen(middle), Identity()))), last))
    whole, without = kernels(Sequential((first, middle, last)), x)[0], kernels(net, x)[0]
    alone = kernels(Sequential((Frozen(first), middle, Frozen(last))), x)[0]
    assert_near(without + alone, whole, 1e-14)
    assert np.all(np.diag(without) > 0.1 * np.diag(whole))
    assert np.all(np.diag(alone) > 0.1 * np.diag(whole))


def test_frozen_parameters_have_no_gradient_and_inputs_have_one(x64):
    layer = Frozen(Dense(2, b_std=0.5))
    params, x = layer.init(jax.random.key(0), (3,)), inputs(4, 3)
    by_params, by_x = jax.jit(jax.grad(lambda p, x: jnp.sum(layer.apply(p, x)), (0, 1)))(params, x)
    assert all(np.all(leaf == 0) for leaf in jax.tree.leaves(by_params))
    assert_near(layer.apply(params, x), layer.layer.apply(params, x), 1e-15)
    assert np.all(by_x != 0)


# -- branches ----------------------------------------------------------------------------------------------------------


def test_sum_of_two_is_residual(x64):
    branch, x = Sequential((Relu(), Dense(4, 1.2, 0.4))), inputs(4, 3)
    nets = [Sequential((Dense(4), join, Relu(), Dense(1))) for join in (Residual(branch), Sum((branch, Identity())))]
    for one, other in zip(*[kernels(net, x) for net in nets], strict=True):
        assert_near(one, other, 1e-15)


@pytest.mark.parametrize("join", [Sum, Product, Concatenate])
def test_one_branch_is_itself(join, x64):
    x = inputs(4, 3)
    nets = [Sequential((Dense(4), each, Relu(), Dense(1))) for each in (Dense(5, 1.2), join([Dense(5, 1.2)]))]
    for one, other in zip(*[kernels(net, x) for net in nets], strict=True):
        assert_near(one, other, 1e-15)


def test_branches_apply():
    x = inputs(2, 3)
    for join, expected in ((Sum, 2 * x), (Product, x * x), (Concatenate, jnp.concatenate([x, x], 1))):
        layer = Sequential((join((Dense(3, parameterization="standard"), Identity())),))
        params = [[{"w": jnp.eye(3)}, ()]]
        assert_near(layer.apply(params, x), expected, 1e-6)
    assert_near(Scale(-2.0).apply((), x), -2 * x, 1e-7)
    assert_near(Dropout(0.5).apply((), x), x, 1e-7)


def test_branches_that_ask_for_different_pairs(x64):
    """One branch pools and needs all pairs; the other has an activation and needs variances. Both get their needs."""
    pooled = Sequential((AvgPool((3,), None, "SAME"), Dense(3)))
    branches = (pooled, Sequential((Relu(), Dense(3))))
    x = inputs(3, 4, 2)
    net = Sequential((Conv(4, (2,)), Sum(branches), Flatten(), Dense(1)))
    alone = [Sequential((Conv(4, (2,)), branch, Flatten(), Dense(1))) for branch in branches]
    ntk, nngp = kernels(net, x)
    assert_near(nngp, sum(kernels(each, x)[1] for each in alone), 1e-13)
    # the readout's own term also counts the sum of both once
    assert_near(ntk, sum(kernels(each, x)[0] for each in alone), 1e-13)


def test_restricted_carries_less(x64):
    x = inputs(3, 2, 3, 2)
    everything = Covariance.of_inputs(x[:1], x, Needs(Positions.ALL, Positions.ALL))
    for cross, own in ((Positions.EQUAL, Positions.EQUAL), (Positions.ALL, Positions.NONE)):
        few, expected = everything.restricted(Needs(cross, own)), Covariance.of_inputs(x[:1], x, Needs(cross, own))
        assert (few.cross, few.own) == (cross, own)
        assert_near(few.nngp, expected.nngp, 1e-15)
        assert (few.self2 is None) == (own == Positions.NONE)
    assert_near(everything.restricted(Needs(own=Positions.EQUAL)).self2, jnp.sum(x**2, -1) / 2, 1e-15)


def test_a_gated_layer_of_finite_width(x64):
    """For two dense layers on given inputs, E[(a b)(a b)'] is the product of their covariances at any width."""
    gate = Product((Dense(40), Sequential((Dense(40), Erf()))))
    x = inputs(3, 4)
    layer_keys = jax.random.split(jax.random.key(0), 4000)

    @jax.jit
    def moments(keys):
        outputs = jax.vmap(lambda key: gate.apply(gate.init(key, (4,)), x))(keys)
        return jnp.einsum("snc,smc->snm", outputs, outputs) / 40

    samples, expected = np.asarray(moments(layer_keys)), np.asarray(kernels(gate, x)[1])
    errors = samples.std(0) / len(samples) ** 0.5
    assert np.all(np.abs(samples.mean(0) - expected) < 5 * errors)
    assert errors.max() < 0.02 * expected.max()


# -- windows -----------------------------------------------------------------------------------------------------------


def test_dilated_conv_has_zeros_between_its_weights(x64):
    x, w = inputs(2, 9, 7, 1), inputs(2, 3, 1, 1, seed=1)
    layer = Conv(1, (2, 3), (2, 1), "VALID", dilation=(3, 2), parameterization="standard")
    spread = np.zeros((4, 5))
    spread[::3, ::2] = np.asarray(w)[..., 0, 0]
    for image, got in zip(x, layer.apply({"w": w}, x), strict=True):
        expected = scipy.signal.correlate2d(np.asarray(image)[..., 0], spread, "valid")[::2]
        assert_near(got[..., 0], expected, 1e-14)


@pytest.mark.slow
def test_locally_connected_is_a_convolution_where_weights_are_equal(x64):
    x, w = inputs(2, 5, 4, 3), inputs(3, 2, 3, 2, seed=1)
    options = {"strides": (2, 1), "padding": "CIRCULAR", "dilation": (1, 2), "w_std": 1.3, "b_std": 0.4}
    shared, local = Conv(2, (3, 2), **options), LocallyConnected(2, (3, 2), **options)
    params = local.init(jax.random.key(0), x.shape[1:])
    same = {
        "w": jnp.broadcast_to(jnp.moveaxis(w, 2, 0).reshape(18, 2), params["w"].shape),  # channels first
        "b": jnp.broadcast_to(jnp.array([0.3, -2.0]), params["b"].shape),
    }
    assert_near(local.apply(same, x), shared.apply({"w": w, "b": jnp.array([0.3, -2.0])}, x), 1e-14)


@pytest.mark.parametrize(("readout", "same"), [(Flatten(), True), (GlobalAvgPool(), False)])
def test_locally_connected_and_shared_weights_differ_by_pooling_alone(readout, same, x64):
    """Novak et al. 2019: with a Flatten readout, the infinite kernel is the same with and without shared weights."""
    x = inputs(3, 4, 2)
    nets = [
        Sequential((make(4, (2,), b_std=0.4), Relu(), make(4, (3,)), Erf(), readout, Dense(1)))
        for make in (Conv, LocallyConnected)
    ]
    shared, local = (np.asarray(kernels(net, x)[0]) for net in nets)
    assert np.allclose(shared, local, rtol=1e-12) == same


def slow_pool(x, window, strides, padding, divisor):
    """Sums over windows of a 1-D signal `(n, size, c)`, one placement at a time."""
    size = x.shape[1]
    after = -(-size // strides) if padding != "VALID" else (size - window) // strides + 1
    before = 0 if padding == "VALID" else max((after - 1) * strides + window - size, 0) // 2
    outputs = []
    for place in range(after):
        places = [place * strides - before + offset for offset in range(window)]
        inside = places if padding == "CIRCULAR" else [p for p in places if 0 <= p < size]
        outputs.append(sum(x[:, p % size] for p in inside) / divisor(len(inside)))
    return np.stack(outputs, 1)


@pytest.mark.parametrize("padding", ["VALID", "SAME", "CIRCULAR"])
@pytest.mark.parametrize(("window", "strides"), [(2, 1), (3, 2), (2, 3)])
def test_pools_are_sums_over_windows(window, strides, padding, x64):
    x = inputs(2, 7, 3)
    options = (window,), (strides,), padding
    for layer, divisor in (
        (SumPool(*options), lambda inside: 1),
        (AvgPool(*options), lambda inside: window),
        (AvgPool(*options, normalize_edges=True), lambda inside: inside),
    ):
        assert_near(layer.apply((), x), slow_pool(np.asarray(x), window, strides, padding, divisor), 1e-14)
        assert layer.output_shape((7, 3)) == layer.apply((), x).shape[1:]


@pytest.mark.parametrize(("window", "whole"), [(AvgPool, GlobalAvgPool), (SumPool, GlobalSumPool)])
def test_pools_over_everything_are_global(window, whole, x64):
    x = inputs(3, 3, 2, 2)
    nets = [Sequential((Conv(4, (2, 2)), *pools, Dense(1))) for pools in ((window((3, 2)), Flatten()), (whole(),))]
    for one, other in zip(*[kernels(net, x) for net in nets], strict=True):
        assert_near(one, other, 1e-13)


def test_pools_of_pools(x64):
    """If the windows divide the sides, averages of averages are averages, so two pools equal one."""
    x = inputs(3, 8, 2)
    twice = (AvgPool((2,), (2,)), Scale(0.5), SumPool((2,), (2,)))
    nets = [
        Sequential((Conv(4, (3,)), Relu(), *pools, Dense(3), Relu(), Flatten(), Dense(1)))
        for pools in (twice, (AvgPool((4,), (4,)),))
    ]
    for one, other in zip(*[kernels(net, x) for net in nets], strict=True):
        assert_near(one, other, 1e-13)


# -- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("unchecked")
class TestBadInput:
    @pytest.mark.parametrize("join", [Sum, Product, Concatenate])
    def test_branches(self, join):
        with pytest.raises(InputError, match=f"Expected at least one branch in {join.__name__}; got none"):
            join(())
        with pytest.raises(InputTypeError, match=f"Expected the branches of {join.__name__} to be layers; got <class"):
            join((Dense(3), Relu))
        layer = join((Dense(3), Conv(2, (1,), (2,))))
        shapes = r"\(4, 3\), \(2, 2\)"
        message = f"Expected the branches of {join.__name__} to give .*; got .*{shapes}"
        for call in (
            lambda: layer.output_shape((4, 3)),
            lambda: layer.init(jax.random.key(0), (4, 3)),
            lambda: layer.apply([(), ()], jnp.ones((1, 4, 3))),
            lambda: layer.propagate(Covariance.of_inputs(jnp.ones((1, 4, 3)), jnp.ones((1, 4, 3)))),
        ):
            with pytest.raises(InputError, match=message):
                call()

    def test_sum_of_correlated_branches(self):
        for branches in ((Relu(), Identity()), (Dense(3), Erf(), Sequential((Dense(3), Relu())))):
            with pytest.raises(
                InputError, match="all branches of Sum but one to end with a linear layer; got 2 that do not"
            ):
                Sum(branches)
        Sum((Dense(3), Relu(), LocallyConnected(3, (1,))))
        Sum((Product((Dense(3), Identity())), Identity()))  # a factor of mean zero

    def test_product_of_dependent_branches(self):
        gated = Product((Dense(3), Identity()))  # uncorrelated with its inputs, and yet not independent of them
        for branches in ((Relu(), Identity()), (gated, Identity()), (Residual(Dense(3)), Relu(), Dense(3))):
            with pytest.raises(InputError, match="of Product but one to contain a linear layer; got 2 that do not"):
                Product(branches)
        Product((Sequential((Dense(3), Relu())), Frozen(Dense(3)), Identity()))
        Product((gated, Dense(3)))
        Product((Sequential((Dense(3), Residual(Dense(3)), Relu())), Identity()))

    def test_activation_of_what_is_not_gaussian(self):
        x = jnp.ones((2, 3))
        for join in (Product((Dense(3), Identity())), Concatenate((Dense(3), Identity())), Sum((Dense(3), Identity()))):
            with pytest.raises(
                InputError, match="Expected a Dense or Conv layer before Relu; got an input that is not"
            ):
                nb.infinite_ntk(Sequential((join, Relu())))(x)

    def test_frozen(self):
        with pytest.raises(InputTypeError, match="Expected a layer in Frozen; got <class"):
            Frozen(Relu)

    def test_scale(self):
        with pytest.raises(InputError, match="Expected finite numbers in factor of Scale"):
            Scale(float("inf"))
        with pytest.raises(InputTypeError, match="Expected factor of Scale to be an array of numbers; got"):
            Scale("2")
        with pytest.raises(
            InputError, match=r"Expected factor of Scale to be one number; got an array of shape \(2,\)"
        ):
            Scale(jnp.ones(2))

    def test_dropout(self):
        with pytest.raises(InputError, match="Expected rate of Dropout to be zero or more; got -0.1"):
            Dropout(-0.1)
        for rate in (1, 1.5):
            with pytest.raises(
                InputError, match=f"Expected rate of Dropout, the fraction .*, to be below 1; got {rate}"
            ):
                Dropout(rate)

    @pytest.mark.parametrize("pool", [AvgPool, SumPool])
    def test_windows(self, pool):
        name = pool.__name__
        with pytest.raises(InputTypeError, match=rf"Expected window of {name} to be one number for each .*; got 2"):
            pool(2)
        with pytest.raises(InputError, match=rf"Expected every number in strides of {name} to be at least 1; got 0"):
            pool((2, 2), (1, 0))
        with pytest.raises(
            InputError, match=r"Expected one stride per spatial axis; got window=\(2,\) and strides=\(1, 1"
        ):
            pool((2,), (1, 1))
        with pytest.raises(InputError, match="Expected padding to be one of SAME, VALID, CIRCULAR; got 'same'"):
            pool((2,), padding="same")
        for call in (pool((5,)).output_shape, lambda shape: pool((5,)).apply((), jnp.ones((1, *shape)))):
            with pytest.raises(InputError, match=r"as large as the window \(5,\); got positions \(4,\)"):
                call((4, 2))
        with pytest.raises(InputError, match=rf"inputs of {name} to have 1 spatial axes and one of channels"):
            pool((2,)).output_shape((4,))

    @pytest.mark.parametrize("make", [Conv, LocallyConnected])
    def test_dilation(self, make):
        with pytest.raises(InputError, match=rf"Expected every number in dilation of {make.__name__} to be at least 1"):
            make(3, (2, 2), dilation=(1, 0))
        with pytest.raises(
            InputError, match=r"one dilation per spatial axis; got kernel_size=\(2, 2\) and dilation=\(2,\)"
        ):
            make(3, (2, 2), dilation=(2,))
        with pytest.raises(InputError, match=r"as large as the window \(5,\); got positions \(4,\)"):
            make(3, (3,), padding="VALID", dilation=(2,)).output_shape((4, 1))

    def test_locally_connected_inputs_of_another_size(self):
        layer = LocallyConnected(3, (2,))
        params = layer.init(jax.random.key(0), (4, 2))
        with pytest.raises(
            InputError, match=r"LocallyConnected to have the size that it was initialized for, .* \(4,\); got \(5,\)"
        ):
            layer.apply(params, jnp.ones((1, 5, 2)))


@pytest.mark.parametrize(
    ("kind", "field"), [(Sequential, "layers"), (Sum, "branches"), (Product, "branches"), (Concatenate, "branches")]
)
def test_layers_one_by_one_or_in_a_list(kind, field, unchecked):
    parts = Dense(3), Dense(3, 1.2)
    for same in (kind(list(parts)), kind(parts), kind(part for part in parts), kind(**{field: parts})):
        assert same == kind(*parts)
        assert getattr(same, field) == parts
    assert kind(parts[0]) == kind([parts[0]])
    with pytest.raises(
        InputTypeError, match=f"Expected layers of {kind.__name__} one by one, or as {field}=; got both"
    ):
        kind(*parts, **{field: parts})
    for wrong in ((Dense(3), Relu), (Relu,), (3,), (Dense(3), [Dense(3)])):
        with pytest.raises(InputTypeError, match=f"Expected the {field} of {kind.__name__} to be layers; got"):
            kind(*wrong)
