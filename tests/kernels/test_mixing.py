"""Whether a function treats each example alone: proven from its jaxpr, or found by trials."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import FUNCTIONS, MIXING, NETS, function_case, net_case

import ntkbias as nb
from ntkbias.compilation import Function
from ntkbias.mixing.independence import _is_proven
from ntkbias.mixing.trials import Trial, run_trials

X = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
PARAMS = {"w": np.random.default_rng(1).normal(size=(4, 8)).astype(np.float32), "o": np.ones((8, 1), np.float32)}
AT_ZERO = {**PARAMS, "o": np.zeros((8, 1), np.float32)}
each_mixing = pytest.mark.parametrize("name", MIXING)


def proven(f, params, x):
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf)), (params, x))
    return _is_proven(Function.of(f), *shapes)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_jaxpr_proves_that_a_function_does_not_mix(name):
    f, params, x, _ = function_case(name)
    assert proven(f, params, x)


@pytest.mark.parametrize("name", NETS)
def test_the_jaxpr_proves_that_a_net_does_not_mix(name):
    net, shape = net_case(name)
    assert proven(net.apply, net.init(jax.random.key(0), shape), jnp.ones((5, *shape)))


@each_mixing
def test_no_function_that_mixes_is_proven_independent(name):
    assert not proven(MIXING[name], PARAMS, X)


@each_mixing
def test_a_function_that_mixes_is_found_at_a_head_of_zeros(name):
    with pytest.raises(nb.InputError, match="to treat each example alone; got outputs of an example that change"):
        nb.empirical_ntk(MIXING[name], AT_ZERO)(X)


@each_mixing
def test_a_function_that_mixes_is_found_in_bfloat16(name):
    f = lambda p, x: MIXING[name](p, x).astype(jnp.bfloat16)  # noqa: E731
    with pytest.raises(nb.InputError, match="to treat each example alone"):
        nb.empirical_ntk(f, PARAMS)(X)


@pytest.mark.parametrize("transform", [jax.jit, jax.grad])
@pytest.mark.parametrize("name", ["batch statistics", "neighbors", "beyond the third"])
def test_a_function_that_mixes_is_refused_where_it_is_traced(name, transform):
    f = lambda p, x: MIXING[name](p, x)  # noqa: E731  # not asked before
    with pytest.raises(nb.InputError, match="to treat each example alone"):
        transform(lambda p: nb.empirical_ntk(f, p)(X).sum())(AT_ZERO)


def test_trials_decide_if_the_jaxpr_does_not():
    """A callback to the host has no equations to read."""

    def f(params, x):
        h = x @ params["w"]
        h = jax.pure_callback(lambda h: np.tanh(h), jax.ShapeDtypeStruct(h.shape, h.dtype), h)
        return h @ params["o"]

    assert not proven(f, PARAMS, X)
    assert run_trials(Function.of(f), PARAMS, jnp.asarray(X)) is Trial.INDEPENDENT


def test_one_warning_if_nothing_decides():
    f = lambda p, x: jnp.log(-jnp.abs(p["w"].sum())) * (x - x[::-1])  # noqa: E731  # NaN everywhere
    kernel = jax.jit(lambda p: nb.empirical_ntk(f, p)(X))
    with pytest.warns(UserWarning, match="It is not known whether .* treats each example alone"):
        kernel(PARAMS)


def test_a_function_of_one_number_of_examples_is_told_what_works():
    graph = jnp.eye(6) + jnp.eye(6, k=1)
    for f in (
        lambda p, x: graph @ x @ p["w"],
        lambda p, x: jnp.tanh(x @ p["w"] + jnp.zeros((6, 8))),
        lambda p, x: (x @ p["w"]).reshape(6, -1, 1)[..., 0],
    ):
        with pytest.raises(nb.InputError, match=r"accept any number of examples; it takes the 6 in x1.*node indices"):
            nb.empirical_ntk(f, PARAMS)(X)


def test_nothing_is_compiled_to_find_out():
    """A proof compiles nothing: the only compiled program is the kernel's."""
    f = lambda p, x: jnp.tanh(x @ p["w"]) @ p["o"]  # noqa: E731
    assert proven(f, PARAMS, X)
    assert not Function.of(f).programs.jitted


@pytest.mark.parametrize("x", [np.ones((6, 4), np.float32), np.zeros((6, 4), np.float32)])
def test_equal_examples_do_not_hide_that_a_function_mixes(x):
    f = lambda p, x: (x - x.mean(0)) @ p["w"]  # noqa: E731
    with pytest.raises(nb.InputError, match="to treat each example alone"):
        nb.empirical_ntk(f, PARAMS)(x)


def test_equal_lengths_do_not_hide_that_a_function_mixes():
    f = lambda p, x: jnp.where(jnp.arange(8) < x["length"].max(), x["u"] @ p["w"], 0)  # noqa: E731
    with pytest.raises(nb.InputError, match="to treat each example alone"):
        nb.empirical_ntk(f, PARAMS)({"u": X, "length": np.full(6, 3)})


def test_what_is_traced_around_is_no_reason_to_refuse():
    def outer(scale):
        f = lambda p, x: jnp.stack([jnp.tanh(row @ p["w"] * scale) for row in x])  # noqa: E731
        return nb.empirical_ntk(f, PARAMS)(X).sum()

    with pytest.warns(UserWarning, match="cannot be tried"):
        assert np.isfinite(jax.grad(outer)(1.0))
