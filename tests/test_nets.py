"""Named architectures: their layers and their parameters."""

import jax
import numpy as np
import pytest
from cases import NETS, PARAMETERIZATIONS, assert_near, net_case

import ntkbias as nb
from ntkbias.errors import InputError, InputTypeError
from ntkbias.layers import AvgPool, Conv, Dense, Erf, Flatten, GlobalAvgPool, Identity, Relu, Residual, Sequential


def linear_layers(net):
    return [layer for layer in net.layers if isinstance(layer, Dense | Conv)]


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("parameterization", PARAMETERIZATIONS)
def test_shapes_agree(name, parameterization):
    net, shape = net_case(name, 8, parameterization)
    params = jax.eval_shape(lambda key: net.init(key, shape), jax.random.key(0))
    x = jax.ShapeDtypeStruct((5, *shape), np.float32)
    assert net.output_shape(shape) == (2,)
    assert jax.eval_shape(net.apply, params, x).shape == (5, 2)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_depth_counts_hidden_layers(depth):
    for net in (nb.nets.mlp(16, depth, 3), nb.nets.cnn(16, depth, 3)):
        layers = linear_layers(net)
        assert [layer.num_outputs for layer in layers] == [16] * depth + [3]
        assert sum(isinstance(layer, Relu) for layer in net.layers) == depth


@pytest.mark.parametrize("make", [nb.nets.mlp, nb.nets.cnn])
@pytest.mark.parametrize("activation", nb.layers.ACTIVATIONS)
def test_stds(make, activation):
    gain = nb.layers.activation(activation).gain
    assert [layer.w_std for layer in linear_layers(make(4, 3, activation=activation))] == [1.0, gain, gain, 1.0]
    assert [layer.w_std for layer in linear_layers(make(4, 2, w_std=0.9))] == [0.9] * 3
    for layer in linear_layers(make(4, 2, b_std=0.3, b_init=0.0, parameterization="standard")):
        assert (layer.b_std, layer.b_init, layer.parameterization) == (0.3, 0.0, "standard")
    assert all(layer.b_std is None for layer in linear_layers(make(4, 2)))


def test_an_activation_may_be_given_as_a_layer():
    assert jax.tree.structure(nb.nets.mlp(activation=Relu())) == jax.tree.structure(nb.nets.mlp(activation="relu"))


def test_readouts():
    assert any(isinstance(layer, Flatten) for layer in nb.nets.cnn(readout="flatten").layers)
    assert any(isinstance(layer, GlobalAvgPool) for layer in nb.nets.cnn(readout="pool").layers)


def test_mlp_flattens_images():
    assert nb.nets.mlp(8, 1, 3).output_shape((4, 4, 2)) == (3,)


def test_equal_nets_are_equal():
    """Equal networks share compiled programs, and their kernels can be stacked."""
    assert jax.tree.structure(nb.nets.cnn(8)) == jax.tree.structure(nb.nets.cnn(8))
    assert hash(nb.nets.mlp(8).apply) == hash(nb.nets.mlp(8).apply)
    assert nb.nets.mlp(8) == nb.nets.mlp(8)


def test_strides_and_sizes_may_be_lists():
    net = nb.nets.cnn(4, 1, kernel_size=[3, 3], strides=[2, 2])
    assert hash(net.apply) is not None
    assert net.layers[0].output_shape((4, 4, 1)) == (2, 2, 4)


def test_cnn_dilation():
    net = nb.nets.cnn(4, 1, kernel_size=(3,), padding="VALID", dilation=[2])
    assert net.layers[0].output_shape((9, 1)) == (5, 4)


# -- residual networks -------------------------------------------------------------------------------------------------


def convolutions(layer):
    """All convolutions in a network, including those in its blocks."""
    if isinstance(layer, Residual):
        return convolutions(layer.branch) + convolutions(layer.shortcut)
    if isinstance(layer, Sequential):
        return [conv for each in layer.layers for conv in convolutions(each)]
    return [layer] if isinstance(layer, Conv) else []


@pytest.mark.parametrize(("block_size", "k"), [(1, 1), (2, 3)])
def test_resnet_is_wide_and_deep(block_size, k):
    net = nb.nets.resnet(4, block_size, 10, k=k)
    blocks = [layer for layer in net.layers if isinstance(layer, Residual)]
    assert len(blocks) == 3 * block_size
    assert [isinstance(block.shortcut, Identity) for block in blocks] == 3 * [False, *[True] * (block_size - 1)]
    layers = convolutions(net)
    assert len(layers) == 1 + 6 * block_size + 3  # WRN-(6 block_size + 4), whose last layer is dense; three shortcuts
    widths = [4 * k * 2**group for group in range(3) for _ in range(2 * block_size + 1)]
    assert [conv.num_outputs for conv in layers] == [4, *widths]
    assert net.output_shape((32, 32, 3)) == (10,)
    assert Sequential(net.layers[:-2]).output_shape((32, 32, 3)) == (8, 8, 16 * k)


def test_resnet_options():
    net = nb.nets.resnet(
        4,
        1,
        2,
        strides=[1, 3],
        kernel_size=(3,),
        readout="flatten",
        padding="CIRCULAR",
        w_std=1.1,
        b_std=0.2,
        b_init=0.0,
    )
    assert {conv.w_std for conv in convolutions(net)} == {1.1}
    assert {(conv.b_std, conv.b_init, conv.padding) for conv in convolutions(net)} == {(0.2, 0.0, "CIRCULAR")}
    assert Sequential(net.layers[:-1]).output_shape((9, 2)) == (3 * 8,)
    scales = [conv.w_std for conv in convolutions(nb.nets.resnet(4, 1, activation="erf"))]
    gain = Erf().gain
    assert scales == [1.0, *[gain, gain, 1.0] * 3]  # a shortcut follows no activation


# -- Myrtle networks ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("depth", "stages"), [(5, "ccPcPcP"), (7, "ccPccPccP"), (10, "cccPcccPcccP")])
def test_myrtle_layout(depth, stages):
    net = nb.nets.myrtle(8, depth, 10)
    letters = {Conv: "c", AvgPool: "P", GlobalAvgPool: "P", Dense: "d", Relu: ""}
    assert "".join(letters[type(layer)] for layer in net.layers) == stages + "d"
    assert len(linear_layers(net)) == depth
    assert [layer.w_std for layer in linear_layers(net)] == [1.0, *[2**0.5] * (depth - 2), 1.0]
    for side, left in ((32, 8), (16, 4), (24, 6)):
        assert Sequential(net.layers[:-2]).output_shape((side, side, 3)) == (left, left, 8)
    assert net.output_shape((32, 32, 3)) == (10,)


# -- patch networks ----------------------------------------------------------------------------------------------------


def leaves(n, num_leaves, dimension=3, seed=0):
    """Products of spheres of radius sqrt(dimension), so that t = <x, x'> / dimension is a correlation."""
    x = np.random.default_rng(seed).normal(size=(n, num_leaves, dimension))
    return dimension**0.5 * x / np.linalg.norm(x, axis=-1, keepdims=True)


def relu_dual(t):
    """phi* and its derivative for sqrt(2) relu: the arc-cosine kernels (Cho and Saul 2009)."""
    angle = np.arccos(np.clip(t, -1, 1))
    return (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / np.pi, (np.pi - angle) / np.pi


def tree_kernel(t, branching):
    """Xiao's recursion (2021), from the leaves to the root. A leaf has S = T = t, and t is `(n, m, leaves)`."""
    nngp = ntk = t
    for p in branching:
        value, slope = relu_dual(nngp)
        nngp, ntk = (z.reshape(*z.shape[:2], -1, p).mean(-1) for z in (value, value + slope * ntk))
    return nngp[..., 0], ntk[..., 0]


@pytest.mark.parametrize("branching", [(6,), (3, 1, 2)])
def test_patch_network_is_the_recursion_of_its_tree(branching, x64):
    num_leaves = int(np.prod(branching))
    x, y = leaves(3, num_leaves), leaves(4, num_leaves, seed=1)
    t = np.einsum("nid,mid->nmi", x, y) / 3
    for additive, nodes in ((False, (*branching, 1)), (True, branching)):
        net = nb.nets.patch_network(8, branching, additive=additive)
        # phi acts on the leaves and on each node; the output is linear with weights of standard deviation one: half
        expected = tree_kernel(t, nodes)
        nngp, ntk = nb.infinite_nngp(net), nb.infinite_ntk(net)
        for got, kernel in zip(jax.jit(lambda x, y: (nngp(x, y), ntk(x, y)))(x, y), expected, strict=True):  # noqa: B023
            assert_near(got, kernel / 2, 1e-12)


@pytest.mark.parametrize("additive", [True, False])
def test_an_additive_network_never_mixes_the_children_of_its_root(additive, x64):
    """For a sum of functions of one patch each, the mixed difference in leaves of different patches is zero."""
    x, y = leaves(2, 4), leaves(3, 4, seed=1)
    kernel = nb.infinite_ntk(nb.nets.patch_network(8, (2, 2), additive=additive))

    def mixed(first, second):
        corners = np.stack([x[0]] * 4)
        corners[[1, 3], first] = x[1, first]
        corners[[2, 3], second] = x[1, second]
        a, b, c, d = np.asarray(kernel(corners, y))
        return np.abs(a - b - c + d).max()

    assert mixed(0, 1) > 1e-4  # of one patch
    assert (mixed(0, 2) < 1e-14) == additive


def test_patch_network_of_a_finite_width():
    net = nb.nets.patch_network(16, [2, 2], 3, b_std=0.3, b_init=0.0, parameterization="standard")
    params = jax.eval_shape(lambda key: net.init(key, (4, 5)), jax.random.key(0))
    assert jax.eval_shape(net.apply, params, jax.ShapeDtypeStruct((7, 4, 5), np.float32)).shape == (7, 3)
    assert [layer.w_std for layer in linear_layers(net)] == [1.0, 2**0.5, 2**0.5, 1.0]
    assert len(linear_layers(nb.nets.patch_network(16, (2, 2), additive=True))) == 3


# -- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [nb.nets.mlp, nb.nets.cnn])
@pytest.mark.usefixtures("unchecked")
class TestBadInput:
    @pytest.mark.parametrize("name", ["width", "depth", "num_outputs"])
    @pytest.mark.parametrize(
        ("value", "error", "message"),
        [
            (0, InputError, "at least 1; got 0"),
            (-3, InputError, "at least 1; got -3"),
            (2.5, InputTypeError, "a whole number; got 2.5"),
            ("3", InputTypeError, "a whole number; got '3'"),
            (True, InputTypeError, "a whole number; got True"),
            (None, InputTypeError, "a whole number; got None"),
        ],
    )
    def test_counts(self, make, name, value, error, message):
        with pytest.raises(error, match=f"Expected {name}.* to be {message}"):
            make(**{name: value})

    @pytest.mark.parametrize("value", ["tan", Relu, None, jax.nn.relu])
    def test_activation(self, make, value):
        with pytest.raises(InputError, match="Expected activation to be one of relu, .*; got"):
            make(activation=value)

    def test_parameterization(self, make):
        with pytest.raises(InputError, match="Expected parameterization to be one of ntk, standard, mup; got 'NTP'"):
            make(parameterization="NTP")


@pytest.mark.usefixtures("unchecked")
class TestBadCnn:
    def test_readout(self):
        with pytest.raises(InputError, match="Expected readout to be one of flatten, pool; got 'mean'"):
            nb.nets.cnn(readout="mean")

    def test_padding(self):
        with pytest.raises(InputError, match="Expected padding to be one of SAME, VALID, CIRCULAR; got 'same'"):
            nb.nets.cnn(padding="same")

    def test_strides(self):
        message = r"Expected one stride per spatial axis; got kernel_size=\(3, 3\) and strides=\(2,\)"
        with pytest.raises(InputError, match=message):
            nb.nets.cnn(strides=(2,))

    def test_dilation(self):
        with pytest.raises(
            InputError, match=r"Expected one dilation per spatial axis; got kernel_size=\(3, 3\) and dila"
        ):
            nb.nets.cnn(dilation=(2,))


@pytest.mark.usefixtures("unchecked")
class TestBadNets:
    @pytest.mark.parametrize("make", [nb.nets.resnet, nb.nets.myrtle, nb.nets.patch_network])
    def test_what_they_share(self, make):
        for name, value, message in (
            ("width", 0, "at least 1; got 0"),
            ("num_outputs", 2.5, "a whole number; got 2.5"),
            ("activation", "tan", "one of .*; got 'tan'"),
            ("parameterization", "NTP", "one of ntk, standard, mup; got 'NTP'"),
        ):
            with pytest.raises(InputError, match=f"Expected {name}.* to be {message}"):
                make(**{name: value})

    def test_resnet(self):
        for name, value, message in (
            ("block_size", 0, "to be at least 1; got 0"),
            ("k", 1.5, "to be a whole number; got 1.5"),
            ("readout", "mean", "to be one of flatten, pool; got 'mean'"),
            ("strides", 2, r"of resnet, one per group, to be whole numbers, as \(2, 2\); got 2"),
        ):
            with pytest.raises(InputError, match=f"Expected {name} {message}"):
                nb.nets.resnet(**{name: value})
        with pytest.raises(
            InputError, match="every number in strides of resnet, one per group, to be at least 1; got 0"
        ):
            nb.nets.resnet(strides=(1, 0))

    @pytest.mark.parametrize(
        ("make", "name"),
        [
            (nb.nets.mlp, "depth"),
            (nb.nets.cnn, "depth"),
            (nb.nets.transformer, "depth"),
            (nb.nets.resnet, "block_size"),
        ],
    )
    def test_too_many_layers(self, make, name):
        with pytest.raises(InputError, match=f"Expected {name} to be at most 10000; got 100000. .*: choose fewer"):
            make(**{name: 100_000})

    @pytest.mark.parametrize("depth", [6, "5", None])
    def test_myrtle(self, depth):
        with pytest.raises(InputError, match=f"Expected depth of myrtle to be one of 5, 7, 10; got {depth!r}"):
            nb.nets.myrtle(depth=depth)

    def test_patch_network(self):
        for value in (4, (), "44"):
            with pytest.raises(InputTypeError, match="Expected branching of patch_network to be whole numbers, as"):
                nb.nets.patch_network(branching=value)
        with pytest.raises(
            InputError, match="Expected every number in branching of patch_network to be at least 1; got 0"
        ):
            nb.nets.patch_network(branching=(2, 0))
        with pytest.raises(InputTypeError, match="Expected additive to be True or False; got 1"):
            nb.nets.patch_network(additive=1)

    @pytest.mark.parametrize("shape", [(5, 3), (4,), (2, 2, 3)])
    def test_leaves(self, shape):
        net = nb.nets.patch_network(8, (2, 2))
        message = (
            r"Expected inputs of patch_network to be 4 leaves with their coordinates, \(n, 4, leaf_dimension\); got"
        )
        for call in (lambda: net.init(jax.random.key(0), shape), lambda: nb.infinite_ntk(net)(np.ones((2, *shape)))):
            with pytest.raises(InputError, match=message):
                call()
