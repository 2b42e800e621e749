"""neural-tangents: its import, the repairs, a script of one of its users, and its networks as layers."""

import dataclasses
import importlib
import importlib.util
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import assert_near, budget_for

import ntkbias as nb
from ntkbias.errors import InputError, InputTypeError
from ntkbias.layers import Conv, Covariance, Dense, Flatten, GlobalAvgPool, Needs, Positions, Relu, Residual, Sequential

if importlib.util.find_spec("neural_tangents") is None:
    pytest.skip("neural-tangents is not installed", allow_module_level=True)

from ntkbias.adapters.neural_tangents import Stax, from_stax, nt, stax

EQUAL, ALL = Needs(Positions.EQUAL, Positions.EQUAL), Needs(Positions.ALL, Positions.ALL)
IMAGE = (3, 2, 2)


def each(case, fast):
    """One case of a test; `make test` runs it only if it is fast."""
    return pytest.param(case, marks=() if fast else pytest.mark.slow)


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


# The import.

IMPORT = """
    import sys, warnings
    import jax, jax.interpreters.ad, jax.extend.core
    import ntkbias

    def names():
        owners = jax, jax.core, jax.interpreters, jax.interpreters.ad, jax.extend.core, jax.extend.core.Primitive
        return [dict(vars(owner)) for owner in owners]

    try:
        import neural_tangents  # a user's failed attempt must not disturb the repair
        raise SystemExit("neural-tangents can be imported by itself: this adapter is not needed any more")
    except ImportError:
        pass
    before, modules = names(), set(sys.modules)
    jax.__version__, jax.__version_info__ = "0.99.1", (0, 99, 1)
    with warnings.catch_warnings(record=True) as caught:
        from ntkbias.adapters.neural_tangents import nt, stax
    (message,) = {str(each.message) for each in caught if "neural-tangents" in str(each.message)}
    assert "repaired and tested for JAX 0.8, 0.10, 0.12; this is 0.99.1. Compare" in message
    assert [each.filename for each in caught if str(each.message) == message] == ["<string>"]
    jax.__version__, jax.__version_info__ = before[0]["__version__"], before[0]["__version_info__"]

    for old, new in zip(before, names(), strict=True):
        gone, added = old.keys() - new.keys(), new.keys() - old.keys()
        assert not gone, gone
        assert all(f"jax.{name}" in sys.modules for name in added), added  # submodules that were loaded
        assert all(new[name] is value for name, value in old.items()), "replaced"
    added = set(sys.modules) - modules
    strangers = {name for name in added if name.split(".")[0] in ("tensorflow", "tf2jax", "keras")}
    assert not strangers, strangers
    assert "neural_tangents" in added
    assert not {"jax.util", "neural_tangents.experimental"} & added
    import neural_tangents as again
    from neural_tangents import stax as same
    assert again is nt and same is stax and not hasattr(nt, "experimental")
    for statement in ("import jax.util", "from jax.core import Primitive"):
        try:
            exec(statement)
        except ImportError:
            continue
        raise AssertionError(statement)
"""


def test_the_import_leaves_jax_and_the_modules_as_they_were():
    """In its own process, with a JAX that reports another version: a warning says so, and JAX is unchanged after it."""
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(IMPORT)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_without_neural_tangents(monkeypatch):
    monkeypatch.setitem(sys.modules, "neural_tangents", None)
    monkeypatch.delitem(sys.modules, "ntkbias.adapters.neural_tangents")
    with pytest.raises(ImportError, match=r"Expected neural-tangents to be installed; got: .*pip install --no-deps"):
        importlib.import_module("ntkbias.adapters.neural_tangents")
    assert not {"jax.util", "neural_tangents.experimental"} & set(sys.modules)


def test_names_are_found_when_asked_for():
    assert nb.adapters.from_stax is from_stax
    assert nb.adapters.neural_tangents.stax is stax
    with pytest.raises(AttributeError, match="has no attribute 'from_torch'"):
        _ = nb.adapters.from_torch


# A script of a user, in which only the import line changes.

OLD_IMPORT = """
import neural_tangents as nt
from neural_tangents import stax
"""
NEW_IMPORT = """
from ntkbias.adapters.neural_tangents import nt, stax
"""
HEAD = """
import jax
from jax import numpy as jnp, random

import neural_tangents as nt
from neural_tangents import stax
"""
LARGE = """

def block(width):
    main = stax.serial(
        stax.Relu(),
        stax.Conv(width, (3, 3), padding="SAME", W_std=1.4, b_std=0.1),
        stax.Gelu(),
        stax.Conv(width, (3, 3), padding="SAME", W_std=1.4),
    )
    return stax.serial(stax.FanOut(2), stax.parallel(main, stax.Identity()), stax.FanInSum())


init_fn, apply_fn, kernel_fn = stax.serial(
    stax.Conv(32, (3, 3), padding="SAME", W_std=1.4, b_std=0.1),
    block(32),
    stax.GlobalSelfAttention(
        n_chan_out=32, n_chan_key=32, n_chan_val=8, n_heads=4, linear_scaling=False,
        attention_mechanism="IDENTITY", pos_emb_type="SUM", W_pos_emb_std=0.5,
        pos_emb_decay_fn=lambda distance: 1 / (1 + distance**2),
    ),
    stax.LayerNorm(axis=-1),
    stax.Erf(),
    stax.GlobalAvgPool(),
    stax.Dense(2, W_std=1.0, b_std=0.05),
)
"""
SMALL = """
init_fn, apply_fn, kernel_fn = stax.serial(
    stax.Flatten(), stax.Dense(32, W_std=1.4, b_std=0.1), stax.LayerNorm(), stax.Erf(), stax.Dense(2, b_std=0.05)
)
"""
TAIL = """
key1, key2, key3, key4 = random.split(random.PRNGKey(0), 4)
x_train = random.normal(key1, (6, 3, 3, 2))
y_train = random.normal(key2, (6, 2))
x_test = random.normal(key3, (4, 3, 3, 2))

kernel_fn = jax.jit(kernel_fn, static_argnames="get")
k_train = kernel_fn(x_train, None, ("nngp", "ntk"))
k_test = kernel_fn(x_test, x_train, "ntk")
kernel_fn_batched = nt.batch(kernel_fn, batch_size=2, device_count=0)
k_batched = kernel_fn_batched(x_test, x_train, "ntk")

predict_fn = nt.predict.gradient_descent_mse_ensemble(kernel_fn, x_train, y_train, diag_reg=1e-4)
y_ntk = predict_fn(x_test=x_test, get="ntk")
y_nngp, cov_nngp = predict_fn(x_test=x_test, get="nngp", compute_cov=True)
y_late = predict_fn(t=1e9, x_test=x_test, get="ntk")
y_early = jax.jit(lambda t: predict_fn(t=t, x_test=x_test, get="ntk"))(0.5)
fit = jax.jit(lambda k, k_test: nt.predict.gradient_descent_mse(k, y_train, diag_reg=1e-4)(None, 0.0, 0.0, k_test))
y_fit = fit(k_train.ntk, k_test)[1]
largest_rate = nt.predict.max_learning_rate(k_train.ntk)
"""
FINITE = """
init_fn, apply_fn, _ = stax.serial(
    stax.Conv(16, (2, 2)), stax.LayerNorm(), stax.Relu(), stax.Flatten(), stax.Dense(2)
)
_, params = init_fn(key4, x_train.shape)
empirical = nt.empirical_kernel_fn(apply_fn, trace_axes=(), vmap_axes=0)
finite = jax.jit(empirical, static_argnames="get")(x_test, x_train, "ntk", params)
linear_fn = nt.linearize(apply_fn, params)
y_linear = linear_fn(params, x_test)

_, _, dense_kernel_fn = dense = stax.serial(stax.Dense(128), stax.Relu(), stax.Dense(128))
flat = x_train.reshape(6, -1)
sampled = nt.monte_carlo_kernel_fn(dense[0], dense[1], key4, n_samples=16, device_count=0)(flat, None, "nngp")
expected = dense_kernel_fn(flat, None, "nngp")
"""


@pytest.mark.parametrize("script", [SMALL + TAIL, each(LARGE + TAIL + FINITE, False)], ids=["small", "large"])
def test_a_script_runs_unchanged_but_for_its_import(script, x64):
    assert OLD_IMPORT in HEAD
    got = {}
    exec(HEAD.replace(OLD_IMPORT, NEW_IMPORT) + script, got)
    assert_near(got["k_batched"], got["k_test"], 1e-13)
    nngp, ntk = got["k_train"].nngp, got["k_train"].ntk
    for kernel in (nngp, ntk):
        assert_near(kernel, kernel.T, 1e-13)
    regularized = ntk + 1e-4 * np.trace(ntk) / 6 * np.eye(6)
    # Kernel regression by another solver. The error is float64 rounding times the condition number, about 1e3.
    assert_near(got["y_ntk"], got["k_test"] @ np.linalg.solve(regularized, got["y_train"]), 1e-10)
    for name in ("y_late", "y_fit"):
        assert_near(got[name], got["y_ntk"], 1e-10)
    moved = np.linalg.norm(got["y_early"]) / np.linalg.norm(got["y_ntk"])
    assert 0 < moved < 1  # it starts at zero
    assert np.linalg.eigvalsh(got["cov_nngp"]).min() > 0
    assert got["y_nngp"].shape == (4, 2)
    assert got["largest_rate"] == pytest.approx(2 * 6 / np.linalg.eigvalsh(ntk)[-1], rel=1e-9)
    if FINITE in script:
        assert_finite_networks(got)


def assert_finite_networks(got):
    ours = nb.empirical_ntk(got["apply_fn"], got["params"], outputs="all")(got["x_test"], got["x_train"])
    assert_near(np.moveaxis(got["finite"], 2, 1), ours, 1e-12)
    assert_near(got["y_linear"], got["apply_fn"](got["params"], got["x_test"]), 1e-13)
    # 16 networks with width 128 and 128 outputs: the error of a variance is about sqrt(7 / (16 * 128)) = 0.06 at most.
    assert_near(got["sampled"], got["expected"], 0.15)


# The repairs that stay. Without them structured derivatives raise, and so does the automatic choice among all.


def sliced(params, x):
    w, v = params
    h = jnp.tanh(jax.lax.slice(x @ w, (0, 1), (x.shape[0], 5)))
    return jax.checkpoint(lambda h: jnp.sin(h @ v))(h)


def chosen(params, x):
    w, v = params
    h = jax.lax.cond(x.sum() > 1e9, lambda h: h, lambda h: 2 * h, x @ w)
    return jnp.tanh(h)[:, :4] @ v


@pytest.mark.filterwarnings("ignore:No Jacobian rule:UserWarning")
@pytest.mark.parametrize("f", [sliced, chosen])
@pytest.mark.parametrize(
    "implementation", [each(way, way.name == "STRUCTURED_DERIVATIVES") for way in nt.NtkImplementation]
)
def test_each_way_to_the_empirical_kernel(f, implementation, x64):
    params, x1, x2 = (normal(3, 5), normal(4, 2, seed=1)), normal(3, 3, seed=2), normal(2, 3, seed=3)
    kernel_fn = nt.empirical_ntk_fn(f, trace_axes=(), implementation=implementation)
    with jax.enable_checks(True):
        got = jax.jit(kernel_fn)(x1, x2, params)
    assert_near(np.moveaxis(got, 2, 1), nb.empirical_ntk(f, params, outputs="all")(x1, x2), 1e-12)


# Networks as layers.


def convolution(width=4, window=(2, 2)):
    return stax.Conv(width, window, padding="SAME", W_std=1.2, b_std=0.3)


def attention():
    return stax.GlobalSelfAttention(
        4, n_chan_key=4, n_chan_val=2, n_heads=2, linear_scaling=False, attention_mechanism="IDENTITY"
    )


def residual():
    branch = stax.serial(stax.Relu(), convolution())
    return stax.serial(stax.FanOut(2), stax.parallel(branch, stax.Identity()), stax.FanInSum())


NETS = {  # a network, the shape of one input, and the pairs of positions that it needs
    "mlp": (stax.serial(stax.Dense(5, b_std=0.1), stax.Relu(), stax.Dense(3)), (4,), EQUAL),
    "standard": (
        stax.serial(stax.Dense(5, parameterization="standard"), stax.Erf(), stax.Dense(1, parameterization="standard")),
        (4,),
        EQUAL,
    ),
    "flatten": (stax.serial(convolution(), stax.Gelu(), convolution(), stax.Flatten(), stax.Dense(2)), IMAGE, EQUAL),
    "flatten first": (stax.serial(stax.Flatten(), stax.Dense(4), stax.Relu(), stax.Dense(2)), IMAGE, EQUAL),
    # An odd number of convolutions, because neural-tangents reverses its axes at each one.
    "pooled": (stax.serial(convolution(), stax.Relu(), stax.GlobalAvgPool(), stax.Dense(1)), IMAGE, ALL),
    "windows": (
        stax.serial(convolution(), stax.Erf(), stax.AvgPool((2, 1)), stax.Flatten(), stax.Dense(1)),
        IMAGE,
        ALL,
    ),
    "attention": (stax.serial(convolution(), attention(), stax.Flatten(), stax.Dense(1)), IMAGE, ALL),
    "normalized": (
        stax.serial(convolution(), residual(), stax.LayerNorm((1, 2, 3)), stax.Erf(), stax.Flatten(), stax.Dense(1)),
        IMAGE,
        EQUAL,
    ),
}
FAST = "mlp", "pooled", "attention", "normalized"  # the others cost much and add little
quiet = pytest.mark.filterwarnings("ignore:.*FanIn:UserWarning:neural_tangents")


@quiet
@pytest.mark.parametrize("name", [each(name, name in FAST) for name in NETS])
def test_the_kernels_are_those_of_kernel_fn(name, x64):
    net, shape, needs = NETS[name]
    layer, kernel_fn = from_stax(*net), net[2]
    x1, x2 = normal(3, *shape), normal(2, *shape, seed=1)

    @jax.jit  # one program, since compilation dominates the time
    def both(x1, x2):
        limits = nb.infinite_ntk(layer), nb.infinite_nngp(layer)
        names = "ntk", "nngp"
        return [
            ([limit(x1, x2) for limit in limits], list(kernel_fn(x1, x2, names))),
            ([limit(x1) for limit in limits], list(kernel_fn(x1, None, names))),
        ]

    assert layer.needs(Needs()) == needs
    crossed, alone = both(x1, x2)
    for got, expected in zip(*crossed, strict=True):
        assert got.dtype == jnp.float64
        assert_near(got, expected, 1e-12)
        assert np.abs(expected).max() > 0
    for got, expected in zip(*alone, strict=True):
        # theirs sums the diagonal in two orders, and a ReLU's derivative takes the root of the difference: 1e-8
        off = ~np.eye(len(x1), dtype=bool)
        assert_near(got[off], expected[off], 1e-12)
        assert_near(got, expected, 1e-7)


@quiet
@pytest.mark.parametrize("name", [each(name, name == "pooled") for name in NETS])
def test_the_finite_network_is_that_of_stax(name, x64):
    (init_fn, apply_fn, kernel_fn), shape, _ = NETS[name]
    layer, x = from_stax(init_fn, apply_fn, kernel_fn), normal(3, *shape)

    @jax.jit
    def both(key, x):
        params = layer.init(key, shape)
        _, expected = init_fn(key, (1, *shape))
        kernels = nb.empirical_ntk(layer.apply, params)(x), nt.empirical_ntk_fn(apply_fn)(x, None, params)
        return (params, expected), (layer.apply(params, x), apply_fn(params, x)), kernels

    (params, expected), (got, outputs), (kernel, theirs) = both(jax.random.key(0), x)
    jax.tree.map(np.testing.assert_array_equal, params, expected)
    assert layer.output_shape(shape) == outputs.shape[1:]
    assert_near(got, outputs, 1e-13)
    assert_near(kernel, theirs, 1e-12)


PARTS = {  # the same network, with some of its layers ours
    "ours after": lambda head, tail: (from_stax(*stax.serial(*head)), tail),
    "ours before": lambda head, tail: (Conv(4, (2, 2), w_std=1.2, b_std=0.3), from_stax(*head[1]), tail),
    "one by one": lambda head, tail: (*(from_stax(*part) for part in head), tail),
}


@pytest.mark.parametrize("mix", [each(mix, mix != "one by one") for mix in PARTS])
@pytest.mark.parametrize("readout", [each(Flatten(), False), GlobalAvgPool()])
def test_layers_of_both_in_one_network(mix, readout, x64):
    head = convolution(), stax.Relu()
    mixed = Sequential((*PARTS[mix](head, readout), Dense(1)))
    ours = Sequential((Conv(4, (2, 2), w_std=1.2, b_std=0.3), Relu(), readout, Dense(1)))
    x1, x2 = normal(3, *IMAGE), normal(2, *IMAGE, seed=1)
    assert mixed.output_shape(IMAGE) == (1,)
    got, expected = jax.jit(lambda x1, x2: [nb.infinite_ntk(net)(x1, x2) for net in (mixed, ours)])(x1, x2)
    assert_near(got, expected, 1e-12)


def test_positions_that_others_ask_for(x64):
    """If a neighboring layer needs more pairs of one kernel only, both kernels keep the pairs that they had."""
    layer = from_stax(*stax.serial(convolution(), stax.Relu(), convolution(3, (2, 1))))
    x1, x2 = normal(3, *IMAGE), normal(2, *IMAGE, seed=1)
    levels = [Needs(cross, own) for cross in list(Positions)[1:] for own in list(Positions)[1:]]
    full, *rest = jax.jit(
        lambda x1, x2: [layer.propagate(Covariance.of_inputs(x1, x2, needs)) for needs in (ALL, *levels)]
    )(x1, x2)
    for needs, part in zip(levels, rest, strict=True):
        assert layer.needs(needs) == Needs(max(needs), max(needs))
        assert (part.cross, part.own) == needs
        for key, carried in (("nngp", needs.cross), ("ntk", needs.cross), ("self1", needs.own), ("self2", needs.own)):
            whole = getattr(full, key)
            expected = whole if carried == Positions.ALL else full.at_equal(whole, Positions.ALL)
            assert_near(getattr(part, key), expected, 1e-13)


def test_a_residual_with_a_stax_shortcut(x64):
    stride = Conv(3, (2, 2), strides=(2, 2))
    mixed, ours = (
        Sequential((Residual(Sequential((stride, Relu(), Conv(3, (1, 1)))), shortcut), GlobalAvgPool(), Dense(1)))
        for shortcut in (from_stax(*stax.Conv(3, (2, 2), strides=(2, 2), padding="SAME")), stride)
    )
    x = normal(3, 4, 4, 2)
    assert_near(nb.infinite_nngp(mixed)(x), nb.infinite_nngp(ours)(x), 1e-12)


@pytest.mark.parametrize("given", [False, True])
def test_parameters_that_are_not_trained(given, x64):
    """The NTK of the inputs passes through without an addition."""
    theirs = from_stax(*stax.serial(stax.Dense(5, 1.3, 0.2), stax.Erf(), stax.Dense(2, 0.7, 0.1)))
    ours = nb.layers.Sequential((Dense(5, 1.3, 0.2), nb.layers.Erf(), Dense(2, 0.7, 0.1)))
    inputs = Covariance.of_inputs(normal(3, 4), normal(2, 4, seed=1))
    inputs = dataclasses.replace(inputs, ntk=normal(3, 2) if given else None, trained=False)
    got, expected = jax.jit(lambda inputs: (theirs.propagate(inputs), ours.propagate(inputs)))(inputs)
    for key in ("nngp", "self1", "self2"):
        assert_near(getattr(got, key), getattr(expected, key), 1e-13)
    assert (got.ntk is None) == (expected.ntk is None) == (not given)
    if given:
        assert_near(got.ntk, expected.ntk, 1e-13)


def test_a_layer_in_everything_else(x64, tmp_path):
    net, shape, _ = NETS["mlp"]
    layer, x = from_stax(*net), normal(5, *shape)
    limit = nb.infinite_ntk(layer)
    K = limit(x)
    small = nb.infinite_ntk(layer, memory_budget=budget_for(lambda **given: nb.infinite_ntk(layer, **given), x, 2))
    assert_near(small(x), K, 1e-13)
    assert_near(nb.gram_on_disk(tmp_path / "kernel", small, x)[:], K, 1e-13)
    assert_near(jax.jit(lambda kernel, x: kernel(x))(limit, x), K, 1e-13)
    spectrum = nb.spectrum(limit, x)
    assert_near(spectrum.eigenvalues, np.linalg.eigvalsh(K)[::-1] / len(x), 1e-12)

    def total(kernel):
        return jax.jit(jax.grad(lambda x1: jnp.sum(jnp.sin(kernel(x1, x[2:])))))(x[:2])

    assert_near(total(limit), total(lambda x1, x2: net[2](x1, x2, "ntk")), 1e-11)


def test_layers_are_values():
    triple = stax.serial(stax.Dense(1))
    layer = from_stax(*triple)
    assert isinstance(layer, Stax)
    assert layer == from_stax(*triple)
    assert hash(layer) == hash(from_stax(*triple))
    assert layer != from_stax(*stax.serial(stax.Dense(1)))
    assert not jax.tree.leaves(layer)
    assert not layer.decorrelates(True)


# Bad input.


@pytest.mark.usefixtures("unchecked")
class TestBadInput:
    def test_what_is_no_network(self):
        init_fn, apply_fn, kernel_fn = stax.Dense(1)
        with pytest.raises(
            InputTypeError, match=r"Expected the three functions that stax returns; got int for apply_fn"
        ):
            from_stax(init_fn, 1, kernel_fn)
        with pytest.raises(InputTypeError, match=r"got tuple for init_fn. Pass them as from_stax\(\*stax.serial"):
            from_stax((init_fn, apply_fn, kernel_fn))
        with pytest.raises(
            InputTypeError, match=r"Expected kernel_fn as stax returns it; got function .*call it yours"
        ):
            from_stax(init_fn, apply_fn, lambda *args: kernel_fn(*args, mask_constant=0.0))

    def test_dropout(self):
        with pytest.raises(InputError, match=r"Expected a stax network at inference; got Dropout.*mode='test'"):
            from_stax(*stax.serial(stax.Dense(1), stax.Dropout(0.5), stax.Dense(1)))
        from_stax(*stax.serial(stax.Dense(1), stax.Dropout(0.5, mode="test"), stax.Dense(1)))

    @pytest.mark.parametrize(
        ("axes", "name"), [({"channel_axis": 1}, "channel_axis=1"), ({"batch_axis": 1}, "batch_axis=1")]
    )
    def test_other_axes(self, axes, name):
        layer = from_stax(*stax.serial(stax.LayerNorm(2, **axes), stax.Flatten()))
        for use in (
            lambda: layer.output_shape(IMAGE),
            lambda: layer.propagate(Covariance.of_inputs(jnp.ones((2, *IMAGE)), jnp.ones((2, *IMAGE)))),
        ):
            with pytest.raises(
                InputError, match=rf"of inputs \(n, \*positions, channels\); got {name} for inputs of 4"
            ):
                use()

    def test_axes_that_change(self):
        layer = from_stax(*stax.Flatten(batch_axis_out=1))
        with pytest.raises(InputError, match=r"with outputs \(n, .*; got batch_axis=1 and channel_axis=0"):
            layer.propagate(Covariance.of_inputs(jnp.ones((2, *IMAGE)), jnp.ones((2, *IMAGE))))

    def test_inputs_of_another_shape(self):
        layer = from_stax(*stax.serial(convolution(), stax.Flatten(), stax.Dense(1)))
        with pytest.raises(InputError, match=r"Expected inputs that the stax network takes; got shape \(5,\)"):
            nb.infinite_ntk(layer)(jnp.ones((3, 5)))
        with pytest.raises(InputError, match=r"shape of one input of a stax network"):
            layer.output_shape("image")

    def test_several_outputs(self):
        layer = from_stax(*stax.serial(stax.Dense(3), stax.FanOut(2)))
        for use in (
            lambda: layer.output_shape((4,)),
            lambda: layer.propagate(Covariance.of_inputs(jnp.ones((2, 4)), jnp.ones((2, 4)))),
        ):
            with pytest.raises(InputError, match="Expected a stax network with one output; got 2. End it with"):
                use()

    def test_no_limit_is_known(self):
        x = jnp.ones((2, 4))
        layer = from_stax(*stax.serial(stax.Dense(3), stax.Relu(), stax.LayerNorm(), stax.Dense(1)))
        with pytest.raises(InputError, match=r"a known infinite-width limit here; got: LayerNorm only.* empirical_ntk"):
            nb.infinite_ntk(layer)(x)
        with pytest.raises(InputError, match=r"that holds that of each input with itself.*needs\(\)"):
            layer.propagate(Covariance.of_inputs(x, x).without_own())
