"""Infinitely wide networks: compared with closed forms written independently, and with the limit of finite networks."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from cases import NETS, OUTPUTS, PARAMETERIZATIONS, assert_near, budget_for, net_case, standard_errors

import ntkbias as nb
from ntkbias.errors import InputError, InputTypeError
from ntkbias.layers import Conv, Dense, Flatten, Frozen, GlobalAvgPool, Relu, Sequential

each_net = pytest.mark.parametrize("name", NETS)
MAKERS = {"ntk": nb.infinite_ntk, "nngp": nb.infinite_nngp}
GAIN = {"relu": math.sqrt(2), "erf": math.sqrt(math.pi) / 2}


def inputs(shape, n=3, seed=0):
    """Mostly three inputs, so that the kernels of one set and of two share a compiled program."""
    return jnp.asarray(np.random.default_rng(seed).normal(size=(n, *shape)))


def both_kinds(net):
    """The NTK and the NNGP, computed in one program."""
    return jax.jit(lambda x, y: {kind: make(net)(x, y) for kind, make in MAKERS.items()})


# -- the recursion in NumPy, on one matrix over all inputs (and positions) -----------------------------------------


def dual(activation, gram):
    """E[phi phi] and E[phi' phi'] for the Gaussians of covariance `gram`: Cho and Saul; Williams."""
    scale = np.sqrt(np.outer(np.diag(gram), np.diag(gram)))
    if activation == "relu":
        angle = np.arccos(np.clip(gram / scale, -1, 1))
        np.fill_diagonal(angle, 0)  # arccos near 1 loses half of the digits
        return (
            scale * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / (2 * np.pi),
            (np.pi - angle) / (2 * np.pi),
        )
    outer = np.outer(1 + 2 * np.diag(gram), 1 + 2 * np.diag(gram))
    return 2 / np.pi * np.arcsin(2 * gram / np.sqrt(outer)), 4 / np.pi / np.sqrt(outer - 4 * gram**2)


def linear(nngp, ntk, fan_in, w_std, b_std, b_init, parameterization, fan_out=None):
    """One linear layer whose inputs have the mean products `nngp`; `fan_out=None` is the readout."""
    weights, bias = (fan_in, float(b_std > 0)) if parameterization == "standard" else (w_std**2, b_std**2)
    gain = w_std**2
    if parameterization == "mup" and fan_out is None:
        gain /= fan_in
    elif parameterization == "mup":
        weights, bias = fan_out * weights, fan_out * bias
    return gain * nngp + (b_std * b_init) ** 2, gain * ntk + weights * nngp + bias


def window_matrices(size, window, stride, padding):
    """For each offset of a window on one axis, the matrix from positions before to positions after."""
    after = (size - window) // stride + 1 if padding == "VALID" else -(-size // stride)
    before = 0 if padding == "VALID" else max((after - 1) * stride + window - size, 0) // 2
    matrices = np.zeros((window, after, size))
    for offset, position in itertools.product(range(window), range(after)):
        source = position * stride + offset - before
        if padding == "CIRCULAR":
            source %= size
        if 0 <= source < size:
            matrices[offset, position, source] = 1
    return matrices


def reference(x, widths, activation, w_stds, b_std, b_init, parameterization, windows=None, readout="flatten"):
    """The NTK and NNGP of an MLP, or of a CNN with `windows` = (kernel_size, strides, padding).

    Every pair of positions is carried, whatever the readout, on a plain matrix over (example, position).
    """
    x = np.asarray(x)
    n, channels, positions = len(x), x.shape[-1], x.shape[1:-1]
    if windows is None:
        x = x.reshape(n, -1)
        channels, positions = x.shape[-1], ()
    points = x.reshape(-1, channels)
    nngp, ntk = points @ points.T / channels, 0.0
    fan_in = channels
    for layer, width in enumerate(widths):
        if windows is not None:
            sizes, strides, padding = windows
            per_axis = [window_matrices(*axis, padding) for axis in zip(positions, sizes, strides, strict=True)]
            actions = []
            for matrices in itertools.product(*per_axis):
                action = np.eye(1)
                for matrix in matrices:
                    action = np.kron(action, matrix)
                actions.append(np.kron(np.eye(n), action))
            positions = tuple(matrices.shape[1] for matrices in per_axis)
            nngp = sum(a @ nngp @ a.T for a in actions) / len(actions)
            ntk = 0.0 if layer == 0 else sum(a @ ntk @ a.T for a in actions) / len(actions)
            fan_in *= len(actions)
        nngp, ntk = linear(nngp, ntk, fan_in, w_stds[layer], b_std, b_init, parameterization, width)
        nngp, slope = dual(activation, nngp)
        ntk, fan_in = ntk * slope, width
    if windows is not None:
        size = math.prod(positions)

        def read(gram):
            gram = gram.reshape(n, size, n, size)
            return np.einsum("npmp->nm", gram) / size if readout == "flatten" else gram.mean((1, 3))

        nngp, ntk = read(nngp), read(ntk)
        fan_in *= size if readout == "flatten" else 1
    nngp, ntk = linear(nngp, ntk, fan_in, w_stds[-1], b_std, b_init, parameterization)
    return {"nngp": nngp, "ntk": ntk}


@pytest.mark.parametrize("parameterization", PARAMETERIZATIONS)
@pytest.mark.parametrize("activation", ["relu", "erf"])
@pytest.mark.parametrize(
    ("depth", "options"),
    [
        (1, {}),
        (2, {"b_std": 0.6, "w_std": 1.3}),
        (3, {"b_std": 0.6, "b_init": 0.0}),
        pytest.param(5, {"b_std": 0.4, "b_init": 1.7}, marks=pytest.mark.slow),
    ],
)
def test_mlp_is_the_closed_form(activation, depth, options, parameterization, x64):
    x = inputs((3,), 8)
    net = nb.nets.mlp(7, depth, 2, activation=activation, parameterization=parameterization, **options)
    stds = [options["w_std"]] * (depth + 1) if "w_std" in options else [1, *[GAIN[activation]] * (depth - 1), 1]
    bias = options.get("b_std", 0.0), options.get("b_init", 1.0)
    expected = reference(x, [7] * depth, activation, stds, *bias, parameterization)
    kernels = both_kinds(net)
    for kind in MAKERS:
        assert_near(kernels(x[:4], x[:4])[kind], expected[kind][:4, :4], 1e-10)
        assert_near(kernels(x[:4], x[4:])[kind], expected[kind][:4, 4:], 1e-10)


@pytest.mark.parametrize(
    ("shape", "windows", "readout"),
    [
        ((5, 2), ((3,), (1,), "SAME"), "flatten"),
        ((5, 2), ((3,), (1,), "SAME"), "pool"),
        ((6, 2), ((4,), (2,), "SAME"), "pool"),
        ((7, 1), ((3,), (2,), "VALID"), "flatten"),
        ((7, 1), ((3,), (2,), "VALID"), "pool"),
        ((4, 2), ((3,), (1,), "CIRCULAR"), "flatten"),
        ((2, 1), ((5,), (1,), "CIRCULAR"), "pool"),  # a window larger than the image wraps around twice
        ((4, 3, 2), ((3, 2), (2, 1), "SAME"), "flatten"),
        ((4, 3, 2), ((3, 2), (2, 1), "SAME"), "pool"),
        ((5, 4, 1), ((2, 2), (1, 2), "VALID"), "flatten"),
        ((3, 4, 1), ((3, 3), (1, 2), "CIRCULAR"), "flatten"),
        ((3, 4, 1), ((3, 3), (1, 2), "CIRCULAR"), "pool"),
        ((2, 3, 2, 2), ((2, 2, 1), (1, 1, 1), "SAME"), "pool"),
    ],
    ids=str,
)
def test_cnn_is_the_slow_sum_over_positions(shape, windows, readout, x64):
    x = inputs(shape, 6)
    depth = 1 if "VALID" in windows else 2
    # the bias and the parameterization are tested on each readout; activations on each padding
    activation = "erf" if windows[1][0] == 2 else "relu"
    parameterization = "standard" if windows[2] == "SAME" else "ntk"
    sizes, strides, padding = windows
    net = nb.nets.cnn(
        5,
        depth,
        2,
        readout=readout,
        kernel_size=sizes,
        strides=strides,
        padding=padding,
        activation=activation,
        b_std=0.5,
        b_init=0.8,
        parameterization=parameterization,
    )
    stds = [1, *[GAIN[activation]] * (depth - 1), 1]
    expected = reference(x, [5] * depth, activation, stds, 0.5, 0.8, parameterization, windows, readout)
    kernels = both_kinds(net)
    for kind in MAKERS:
        assert_near(kernels(x[:3], x[:3])[kind], expected[kind][:3, :3], 1e-10)
        assert_near(kernels(x[:3], x[3:])[kind], expected[kind][:3, 3:], 1e-10)


# -- laws ------------------------------------------------------------------------------------------------------------


@each_net
def test_symmetric_positive_and_without_order(name, precision):
    net, shape = net_case(name)
    x, y = inputs(shape), inputs(shape, seed=1)
    kernel = nb.infinite_ntk(net)
    whole, eps = np.asarray(kernel(x)), float(jnp.finfo(x.dtype).eps)
    assert_near(whole, whole.T, 10 * eps)
    assert np.linalg.eigvalsh(whole)[0] >= -10 * len(whole) * eps * np.linalg.norm(whole)
    assert_near(kernel(x, x), whole, 10 * eps)
    assert_near(kernel(x, y), np.asarray(kernel(y, x)).T, 10 * eps)
    order = np.array([2, 0, 1])
    assert_near(kernel(x[order]), whole[np.ix_(order, order)], 10 * eps)


@pytest.mark.slow
@pytest.mark.parametrize("outputs", OUTPUTS)
def test_outputs_and_blocks(outputs, x64):
    net, shape = net_case("cnn, strides")
    x, y = inputs(shape), inputs(shape, seed=1)
    whole = np.asarray(nb.infinite_ntk(net)(x, y))
    expected = {
        "mean": whole,
        "sum": 2 * whole,
        "each": np.stack([whole, whole]),
        "all": np.einsum("nm,ab->namb", whole, np.eye(2)),
    }[outputs]
    kernel, small = (nb.infinite_ntk(net, outputs=outputs, memory_budget=budget) for budget in (None, 1))
    assert_near(kernel(x, y), expected, 1e-14)
    assert_near(small(x, y), expected, 1e-12)
    assert_near(small(x), kernel(x), 1e-12)


@pytest.mark.slow
def test_ragged_blocks(x64):
    x, y = inputs((3,), 7), inputs((3,), 5, seed=1)
    net, _ = net_case("mlp, erf")
    whole, own = nb.infinite_ntk(net)(x, y), nb.infinite_ntk(net)(x)
    make = functools.partial(nb.infinite_ntk, net)
    for rows in (2, 3, 6):
        kernel = make(memory_budget=budget_for(make, x, rows))
        assert_near(kernel(x, y), whole, 1e-12)
        assert_near(kernel(x), own, 1e-12)


@pytest.mark.parametrize("name", ["mlp, relu", "cnn, flatten", "cnn, pool"])
def test_ntk_is_the_nngp_with_every_layer_trained(name, x64):
    """Training the last layer alone gives the NNGP, so the NTK is larger: their difference is a kernel too."""
    net, shape = net_case(name)
    x = inputs(shape)
    difference = np.asarray(nb.infinite_ntk(net)(x) - nb.infinite_nngp(net)(x))
    assert np.linalg.eigvalsh(difference)[0] >= -1e-12
    assert np.linalg.eigvalsh(difference)[-1] > 0.1 * np.linalg.norm(difference)


def test_rotations_of_inputs_do_not_change_an_mlp(x64):
    x = inputs((4,), 6)
    rotation = scipy.stats.ortho_group.rvs(4, random_state=0)
    kernel = nb.infinite_ntk(nb.nets.mlp(8, 3, b_std=0.3))
    assert_near(kernel(x @ rotation), kernel(x), 1e-12)


def test_relu_without_biases_is_homogeneous(x64):
    x = inputs((4,), 6)
    kernel = nb.infinite_ntk(nb.nets.mlp(8, 3))
    assert_near(kernel(3.0 * x, x), 3 * np.asarray(kernel(x)), 1e-7)  # 1e-7: the kink on the diagonal


@pytest.mark.parametrize("padding", ["CIRCULAR", "SAME"])
def test_pooling_makes_shifts_invisible(padding, x64):
    x = inputs((4, 3, 1), 3)
    net = nb.nets.cnn(8, 2, readout="pool", padding=padding)
    kernel = nb.infinite_ntk(net)
    shifted = kernel(np.roll(x, (1, 2), (1, 2)), x)
    invariant = np.allclose(shifted, kernel(x, x), rtol=1e-7)
    assert invariant == (padding == "CIRCULAR")


@pytest.mark.parametrize("name", ["mlp, biases", "cnn, pool", "residual"])
def test_nngp_does_not_know_the_parameterization(name, x64):
    build, shape = NETS[name]
    ntk, standard, _ = (nb.infinite_nngp(build(8, p))(inputs(shape)) for p in PARAMETERIZATIONS)
    np.testing.assert_allclose(ntk, standard, rtol=1e-12)


def test_mup_has_the_ntk_of_equal_widths_and_outputs_that_vanish(x64):
    x = inputs((3,))
    for options in ({}, {"b_std": 0.5, "b_init": 0.6}):
        ntk, mup = (nb.nets.mlp(40, 2, 2, parameterization=p, **options) for p in ("ntk", "mup"))
        assert_near(nb.infinite_ntk(mup)(x), nb.infinite_ntk(ntk)(x), 1e-13)
        bias = (options.get("b_std", 0) * options.get("b_init", 0)) ** 2
        assert_near(40 * (nb.infinite_nngp(mup)(x) - bias), nb.infinite_nngp(ntk)(x) - bias, 1e-12)


@pytest.mark.parametrize(("readout", "positions"), [("pool", 1), ("flatten", 6)])
def test_hidden_layers_under_mup_count_by_their_width_over_the_fan_in_of_the_readout(readout, positions, x64):
    x = inputs((2, 3, 1))
    parts = []
    for parameterization in ("ntk", "mup"):
        *hidden, last = nb.nets.cnn(9, 1, readout=readout, parameterization=parameterization).layers
        whole, own = (nb.infinite_ntk(Sequential((*ends, last)))(x) for ends in (hidden, map(Frozen, hidden)))
        parts.append((whole - own, own))
    assert_near(positions * parts[1][0], parts[0][0], 1e-12)
    assert_near(parts[1][1], parts[0][1], 1e-12)


def test_width_matters_only_in_the_standard_parameterization(x64):
    x = inputs((3,))
    ntk = [np.asarray(nb.infinite_ntk(nb.nets.mlp(w, 2))(x)) for w in (10, 1000)]
    assert_near(ntk[0], ntk[1], 1e-14)
    nets = [nb.nets.mlp(w, 2, parameterization="standard") for w in (1000, 2000, 3000)]
    standard = [np.asarray(nb.infinite_ntk(net)(x)) for net in nets]
    assert_near(standard[2] - standard[1], standard[1] - standard[0], 1e-10)  # linear in the width
    assert np.all(np.diag(standard[1]) > 1.9 * np.diag(standard[0]))


# -- derivatives -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["relu", pytest.param("erf", marks=pytest.mark.slow)])
@pytest.mark.parametrize("b_std", [None, 0.5])
def test_derivatives_are_finite_where_inputs_meet(activation, b_std):
    kernel = nb.infinite_ntk(nb.nets.mlp(8, 2, activation=activation, b_std=b_std))
    x = inputs((3,), 2)

    @jax.jit
    def derivatives(x1, x2):
        return (
            jax.grad(lambda a, b: kernel(a, b).sum(), (0, 1))(x1, x2),
            jax.jvp(kernel, (x1, x2), (jnp.ones_like(x1), jnp.zeros_like(x2))),
            jax.grad(lambda a: kernel(a).sum())(x1),
        )

    for x1, x2 in [(x, x), (x, -x), (x, 0 * x), (0 * x, 0 * x), (x, 3.0 * x), (1e-30 * x, x)]:
        assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(derivatives(x1, x2)))


def slope_and_difference(value):
    """The derivative at zero, by autodiff and by central differences (of relative error 1e-10), in one program."""
    return jax.jit(lambda: (jax.grad(value)(0.0), (value(1e-5) - value(-1e-5)) / 2e-5))()


@pytest.mark.parametrize("activation", ["relu", "erf"])
def test_derivative_on_the_diagonal_is_that_of_the_closed_form(activation, x64):
    """K(x, x) as one function of x, by autodiff through a cosine of 1, and by differences."""
    kernel = nb.infinite_ntk(nb.nets.mlp(8, 2, activation=activation, b_std=0.5))
    x, v = inputs((3,), 1), inputs((3,), 1, seed=1)
    np.testing.assert_allclose(*slope_and_difference(lambda t: kernel(x + t * v)[0, 0]), rtol=1e-8)


@pytest.mark.parametrize("name", ["cnn, flatten", "cnn, pool", "residual"])
def test_gradient_agrees_with_differences(name, x64):
    net, shape = net_case(name)
    kernel = nb.infinite_ntk(net)
    x, y, v = (inputs(shape, 2, seed) for seed in range(3))
    np.testing.assert_allclose(*slope_and_difference(lambda t: jnp.sum(kernel(x + t * v, y))), rtol=1e-7)


# -- precision -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["relu", "erf"])
@pytest.mark.parametrize("data", ["plane", "large", "784 features", "pixels"])
def test_float32_diagonal(activation, data):
    """A ReLU kernel has a kink on its diagonal, where a rounding error of eps would become sqrt(eps)."""
    rng = np.random.default_rng(0)
    x = {
        "plane": rng.normal(size=(20, 2)),
        "784 features": rng.normal(size=(20, 784)),
        "pixels": rng.integers(0, 256, (20, 784)),
        "large": 1e4 * rng.normal(size=(20, 3)),
    }[data].astype(np.float32)
    kernel = nb.infinite_ntk(nb.nets.mlp(8, 2, activation=activation))
    single = np.asarray(kernel(x))
    with jax.enable_x64(True):
        double = np.asarray(kernel(jnp.asarray(x, jnp.float64)))
    # 30 roundings, in two layers and the sum over features: 4e-6
    np.testing.assert_allclose(np.diag(single), np.diag(double), rtol=30 * np.finfo(np.float32).eps)


@pytest.mark.parametrize("activation", ["relu", "erf"])
def test_float32_off_the_diagonal(activation):
    x = inputs((5,), 20)
    kernel = nb.infinite_ntk(nb.nets.mlp(8, 3, activation=activation, b_std=0.3))
    with jax.enable_x64(True):
        double = np.asarray(kernel(jnp.asarray(x, jnp.float64)))
    assert_near(kernel(x), double, 30 * np.finfo(np.float32).eps)


# -- finite networks -------------------------------------------------------------------------------------------------


def finite_kernels(net, shape, x, seeds):
    """The empirical NTK and NNGP of several seeds, each `(seeds, n, n)`."""

    @jax.jit
    def one(key):
        params = net.init(key, shape)
        return nb.empirical_ntk(net.apply, params)(x), nb.empirical_nngp(net.apply, params)(x)

    return map(np.stack, zip(*map(one, jax.random.split(jax.random.key(7), seeds)), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "parameterization"), [(name, p) for name in NETS for p in PARAMETERIZATIONS])
def test_finite_networks_scatter_around_the_limit(name, parameterization):
    width = 64
    net, shape = net_case(name, width, parameterization)
    x = inputs(shape)
    ntk, nngp = finite_kernels(net, shape, x, seeds=100)
    # The mean over networks of this width is off by O(1 / width): by up to 2 / width of the largest entry.
    for samples, make in ((ntk, nb.infinite_ntk), (nngp, nb.infinite_nngp)):
        limit = np.asarray(make(net)(x))
        assert np.all(standard_errors(samples, limit, bias=2 / width * np.abs(limit).max()) < 4)
    error = ntk.std(0, ddof=1) / len(ntk) ** 0.5
    assert error.max() < 0.04 * np.abs(ntk.mean(0)).max()  # otherwise the assertions above would be too weak


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "build"),
    [
        ((3,), lambda w: nb.nets.mlp(w, 2)),
        ((3,), lambda w: nb.nets.mlp(w, 2, activation="erf", b_std=0.3)),
        ((4, 1), lambda w: nb.nets.cnn(w, 2, kernel_size=(3,))),
        ((4, 1), lambda w: nb.nets.cnn(w, 2, kernel_size=(3,), readout="pool", padding="CIRCULAR")),
    ],
    ids=["mlp, relu", "mlp, erf", "cnn, flatten", "cnn, pool"],
)
def test_error_falls_as_the_root_of_the_width(shape, build):
    """Jacot et al. 2018: the empirical NTK differs from its limit by O(width^-1/2)."""
    widths, seeds = [32, 64, 128, 256, 512, 1024], 32
    x = inputs(shape, 6)
    errors = []
    for width in widths:
        limit = np.asarray(nb.infinite_ntk(build(width))(x))
        samples, _ = finite_kernels(build(width), shape, x, seeds)
        distance = np.linalg.norm(samples - limit, axis=(1, 2)) / np.linalg.norm(limit)
        errors.append(np.mean(distance**2) ** 0.5)
    slope = np.polyfit(np.log(widths), np.log(errors), 1)[0]
    print(f"relative error {np.round(errors, 4)}, slope {slope:.3f}")
    assert abs(slope + 0.5) < 0.1


# -- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("unchecked")
class TestBadInput:
    @pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
    @pytest.mark.parametrize("net", [jnp.tanh, None, Dense, [Dense(1)], nb.nets.mlp])
    def test_not_a_net(self, make, net):
        with pytest.raises(InputTypeError, match=r"Expected a network made of ntkbias layers, e.g. nets.mlp\(\); got"):
            make(net)

    def test_outputs(self):
        with pytest.raises(InputError, match="Expected outputs to be one of mean, sum, each, all; got 'trace'"):
            nb.infinite_ntk(nb.nets.mlp(), outputs="trace")

    def test_memory_budget(self):
        with pytest.raises(InputError, match=r"Expected memory_budget \(bytes\) to be at least 1; got -5"):
            nb.infinite_ntk(nb.nets.mlp(), memory_budget=-5)
        with pytest.raises(
            InputTypeError, match=r"Expected memory_budget \(bytes\) to be a whole number; got 1e\+09|1000"
        ):
            nb.infinite_ntk(nb.nets.mlp(), memory_budget=1e9)

    @pytest.mark.parametrize("x", [[[1, 2]], np.ones((2, 2), bool)])
    def test_integers(self, x):
        with pytest.raises(InputTypeError, match=r"Expected floating-point inputs in x1; got (int32|bool)"):
            nb.infinite_ntk(nb.nets.mlp())(x)

    @pytest.mark.parametrize("net", [Conv(3, (2,)), Sequential((Conv(3, (2,)), Relu())), Sequential(())])
    def test_a_net_that_ends_in_positions(self, net):
        message = r"Expected a network whose outputs are \(n, o\); got outputs of shape \(4, [23]\) for one input of x1"
        with pytest.raises(InputError, match=message):
            nb.infinite_ntk(net)(jnp.ones((2, 4, 2)))

    @pytest.mark.parametrize(
        ("net", "shape"),
        [
            (Sequential((Relu(), Dense(1))), (3,)),
            (Sequential((Dense(4), Relu(), Relu(), Dense(1))), (3,)),
            (Sequential((Dense(4), Relu(), Flatten(), Relu())), (3,)),
            (Sequential((Conv(3, (2,)), Relu(), GlobalAvgPool(), Relu())), (4, 1)),
            (Sequential((Conv(3, (2,)), Flatten(), Relu(), Dense(1))), (4, 1)),  # entries of unlike variance
        ],
    )
    def test_an_activation_of_what_is_not_gaussian(self, net, shape):
        with pytest.raises(InputError, match="Expected a Dense or Conv layer before Relu; got an input that is not"):
            nb.infinite_ntk(net)(jnp.ones((2, *shape)))

    def test_wrong_number_of_spatial_axes(self):
        message = r"Expected inputs of Conv to have 2 spatial axes and one of channels; got shape \(4, 1\)"
        with pytest.raises(InputError, match=message):
            nb.infinite_ntk(nb.nets.cnn())(jnp.ones((2, 4, 1)))

    def test_window_beyond_the_image(self):
        with pytest.raises(
            InputError, match=r"Expected inputs at least as large as the window \(3, 3\); got positions"
        ):
            nb.infinite_ntk(nb.nets.cnn(padding="VALID"))(jnp.ones((2, 4, 4, 1)))
