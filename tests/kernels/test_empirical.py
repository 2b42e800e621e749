"""The kernels of f(params, x), compared with the Jacobian of the full batch, and tested against their own laws."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import FUNCTIONS, OUTPUTS, assert_near, budget_for, from_all, function_case

import ntkbias as nb
from ntkbias.errors import InputError, InputTypeError
from ntkbias.kernels import gradients, tiles
from ntkbias.kernels.empirical.parts import Stacked
from ntkbias.kernels.factors import convolution, formable, pieces

each_function = pytest.mark.parametrize("name", FUNCTIONS)
LINEAR = {"w": np.arange(6.0).reshape(3, 2) - 2.0}


def linear(params, x):
    return x @ params["w"]


def explicit_ntk(f, params, x):
    """The kernel of all outputs, from the Jacobian of the full batch in forward mode, unlike the code under test."""
    mode = jax.jacrev if f is FUNCTIONS["custom derivative"].f else jax.jacfwd  # a custom_vjp has no JVP
    shape = (len(x), math.prod(jax.eval_shape(f, params, x).shape[1:]), -1)
    jacobian = jnp.concatenate([leaf.reshape(shape) for leaf in jax.tree.leaves(mode(f)(params, x))], -1)
    return jnp.einsum("nap,mbp->namb", jacobian, jacobian)


@functools.cache
def explicit_ntk_of_case(name):
    f, params, x1, x2 = function_case(name)
    return np.asarray(jax.jit(explicit_ntk, static_argnums=0)(f, params, jnp.concatenate([x1, x2])))


@pytest.mark.parametrize("pair", ["all and sum", "each and mean"])
@each_function
def test_ntk_is_the_product_of_explicit_jacobians(name, pair, x64):
    f, *double = function_case(name)
    single = jax.tree.map(lambda leaf: leaf.astype(jnp.float32) if leaf.dtype == jnp.float64 else leaf, double)
    chosen = pair.split(" and ")

    @jax.jit  # one program, since compilation dominates the time
    def kernels(double, single):
        def made(params, x1, x2):
            kernels = {outputs: nb.empirical_ntk(f, params, outputs=outputs) for outputs in chosen}
            return {outputs: (kernel(x1, x2), kernel(x1)) for outputs, kernel in kernels.items()}

        x = jnp.concatenate(double[1:])
        return explicit_ntk(f, double[0], x), made(*double), nb.empirical_ntk(f, single[0], outputs="all")(single[1])

    every, doubles, single_own = kernels(double, single)
    n = len(double[1])
    cross, own = every[:n, :, n:], every[:n, :, :n]
    for outputs in chosen:
        for got, expected in zip(doubles[outputs], (cross, own), strict=True):
            assert got.dtype == jnp.float64
            assert_near(got, from_all(expected, outputs), 1e-10)
    assert single_own.dtype == jnp.float32
    assert_near(single_own, own, 30 * np.finfo(np.float32).eps)  # rounding adds up over the few layers of f
    assert_symmetric_and_positive(np.asarray(single_own))
    if "all" in chosen:
        assert_symmetric_and_positive(np.asarray(doubles["all"][1]))


def assert_symmetric_and_positive(gram):
    rows = len(gram) * (gram.shape[1] if gram.ndim == 4 else 1)
    gram = gram.reshape(rows, rows)
    eps = float(np.finfo(gram.dtype).eps)
    assert_near(gram, gram.T, 4 * eps)
    eigenvalues = np.linalg.eigvalsh(gram)
    assert eigenvalues[0] >= -rows * eps * eigenvalues[-1]


# The result does not depend on blocks of one, two, three or four rows, which do not divide 7 and 5 inputs.
@pytest.mark.parametrize(
    ("name", "outputs", "rows"),
    [
        *(("outputs with axes", outputs, 3) for outputs in OUTPUTS),
        *(("mlp", outputs, 2) for outputs in OUTPUTS),
        ("one output, no axis", "mean", 1),
        ("embedding", "all", 4),
    ],
)
def test_blocks_do_not_change_the_ntk(name, outputs, rows, x64):
    f, params, x1, x2 = function_case(name)
    make = functools.partial(nb.empirical_ntk, f, params, outputs=outputs)
    kernel = make(memory_budget=budget_for(make, x1, rows))
    expected = explicit_ntk_of_case(name)
    assert_near(kernel(x1, x2), from_all(expected[:7, :, 7:], outputs), 1e-10)
    assert_near(kernel(x1), from_all(expected[:7, :, :7], outputs), 1e-10)


@pytest.mark.parametrize("name", ["cnn", "several heads", "embedding"])
def test_pieces_and_strips_do_not_change_the_ntk(name, x64, monkeypatch):
    for module, constant, few in (
        (formable, "CACHED", 256),  # bytes
        (pieces, "WIDEST", 64),
        (pieces, "LEAST_WIDTH", 3),  # numbers
        (convolution, "PATCHED", 1024),
        (tiles, "LEAST_STRIP", 2),  # rows
    ):
        monkeypatch.setattr(module, constant, few)
    f, params, x1, x2 = function_case(name)

    @jax.jit
    def kernels(params, x1, x2):
        anew = lambda params, x: f(params, x)  # noqa: E731  # programs of f itself may be there already
        made = [nb.empirical_ntk(anew, params, outputs=outputs) for outputs in OUTPUTS]
        return [(kernel(x1, x2), kernel(x1)) for kernel in made]

    expected = explicit_ntk_of_case(name)
    for outputs, (across, own) in zip(OUTPUTS, kernels(params, x1, x2), strict=True):
        assert_near(across, from_all(expected[:7, :, 7:], outputs), 1e-10)
        assert_near(own, from_all(expected[:7, :, :7], outputs), 1e-10)


@pytest.mark.parametrize("make", [nb.empirical_nngp, nb.empirical_ntk])
def test_a_budget_of_one_byte_still_gives_the_kernel(make):
    f, params, x1, x2 = function_case("mlp")
    assert_near(make(f, params, memory_budget=1)(x1, x2), make(f, params)(x1, x2), 1e-6)


@pytest.mark.parametrize("outputs", ["mean", "sum"])
def test_many_outputs_are_taken_in_groups(outputs, x64, monkeypatch):
    """If the gradients of one example do not fit the budget: the kernel is the sum of the kernels of the groups."""
    monkeypatch.setattr(gradients, "MANY", 3)
    rng = np.random.default_rng(0)
    params = {"e": jnp.asarray(rng.normal(size=(9, 4))), "o": jnp.asarray(rng.normal(size=(4, 7)))}
    f, x = lambda p, x: jnp.tanh(p["e"][x]) @ p["o"], jnp.asarray(rng.integers(0, 9, (6, 2)))
    expected = nb.empirical_ntk(f, params, outputs=outputs)(x)
    for budget, at_once in ((1, 1), (6_000, 4)):
        kernel = nb.empirical_ntk(f, params, outputs=outputs, memory_budget=budget)
        assert 1 <= kernel.gradients.outputs_at_once(x) <= at_once  # of 14
        assert_near(kernel(x), expected, 1e-12)
        assert_near(kernel(x, x[:4]), expected[:, :4], 1e-12)
    assert_near(jax.jit(lambda kernel, x: kernel(x))(kernel, x), expected, 1e-12)


@pytest.mark.slow
@each_function
def test_nngp_is_the_product_of_outputs(name, x64):
    f, params, x1, x2 = function_case(name)

    @jax.jit
    def kernels(params, x1, x2):
        grams = [nb.empirical_nngp(f, params, outputs=outputs)(x1, x2) for outputs in OUTPUTS]
        return grams, [f(params, x).reshape(len(x), -1) for x in (x1, x2)]

    grams, values = kernels(params, x1, x2)
    for outputs, gram in zip(OUTPUTS, grams, strict=True):
        assert_near(gram, from_all(np.einsum("na,mb->namb", *values), outputs), 1e-10)


@pytest.mark.parametrize("make", [nb.empirical_nngp, nb.empirical_ntk])
def test_laws_of_outputs(make, x64):
    f, params, x1, x2 = function_case("cnn", n=4, m=4)
    whole = make(f, params, outputs="all")
    across, back = np.asarray(whole(x1, x2)), np.asarray(whole(x2, x1))
    assert_near(across, back.transpose(2, 3, 0, 1), 1e-12)
    for outputs in OUTPUTS:
        kernel = make(f, params, outputs=outputs)
        assert_near(kernel(x1, x2), from_all(across, outputs), 1e-12)
        assert_near(kernel(x1), kernel(x1, x1), 1e-12)


def test_ntk_is_what_a_step_of_gradient_descent_moves(x64):
    """The law that defines the NTK: a small gradient step on one output changes another by their kernel."""

    @jax.jit
    def moved(params, x):
        gradient = jax.jit(jax.grad(lambda p: FUNCTIONS["mlp"].f(p, x)[1, 0]))(params)
        ahead = FUNCTIONS["mlp"].f(jax.tree.map(lambda p, g: p + 1e-5 * g, params, gradient), x)
        behind = FUNCTIONS["mlp"].f(jax.tree.map(lambda p, g: p - 1e-5 * g, params, gradient), x)
        return (ahead - behind) / 2e-5, nb.empirical_ntk(FUNCTIONS["mlp"].f, params, outputs="all")(x)[:, :, 1, 0]

    for seed in range(3):
        _, params, x, _ = function_case("mlp", seed)
        assert_near(*moved(params, x), 1e-7)  # the error of a central difference: step^2


def test_params_may_be_numpy_arrays_and_numbers():
    f = lambda p, x: p[0] * x + p[1]  # noqa: E731
    x = np.array([[1.0], [2.0]], np.float32)
    np.testing.assert_allclose(nb.empirical_ntk(f, [2.0, np.float32(1.0)])(x), [[2.0, 3.0], [3.0, 5.0]])
    np.testing.assert_allclose(nb.empirical_ntk(f, [2.0, 1.0])([[1.0], [2.0]]), [[2.0, 3.0], [3.0, 5.0]])


@pytest.mark.usefixtures("unchecked")
class TestBadInput:
    @pytest.fixture
    def x(self):
        return jnp.ones((4, 3))

    def test_f(self):
        with pytest.raises(
            InputTypeError, match=r"Expected f to be a function f\(params, x\), e.g. net.apply; got str"
        ):
            nb.empirical_ntk("f", LINEAR)

    @pytest.mark.parametrize("make", [nb.empirical_ntk, nb.empirical_nngp])
    @pytest.mark.parametrize("outputs", ["median", None, ["mean"], 1])
    def test_outputs(self, make, outputs):
        with pytest.raises(InputError, match=r"Expected outputs to be one of mean, sum, each, all; got"):
            make(linear, LINEAR, outputs=outputs)

    @pytest.mark.parametrize("value", [0, -1])
    def test_memory_budget(self, value):
        with pytest.raises(InputError, match=r"Expected memory_budget \(bytes\) to be at least 1; got"):
            nb.empirical_ntk(linear, LINEAR, memory_budget=value)

    @pytest.mark.parametrize("value", [1e9, "1GB", True])
    def test_memory_budget_type(self, value):
        with pytest.raises(InputTypeError, match=r"Expected memory_budget \(bytes\) to be a whole number; got"):
            nb.empirical_ntk(linear, LINEAR, memory_budget=value)

    @pytest.mark.parametrize("params", [{}, [], None, [None, {}]])
    def test_empty_params(self, params):
        with pytest.raises(InputError, match="Expected params to hold at least one array; got an empty pytree"):
            nb.empirical_ntk(linear, params)

    def test_nan_in_params(self):
        params = {"a": [np.ones(3), np.array([1.0, np.nan, np.inf])]}
        with pytest.raises(
            InputError, match=r"Expected finite numbers in params\['a'\]\[1\]; got 2 NaN or infinite of 3"
        ):
            nb.empirical_ntk(linear, params)

    @pytest.mark.parametrize("leaf", [np.ones(3, int), np.ones(3, bool), 3])
    def test_integers_in_params(self, leaf):
        with pytest.raises(
            InputTypeError, match=r"Expected floating-point numbers in params\['steps'\]; got (u?int|bool)"
        ):
            nb.empirical_ntk(linear, {**LINEAR, "steps": leaf})

    @pytest.mark.parametrize("leaf", ["weights", jnp.tanh, np.array([object()])])
    def test_other_things_in_params(self, leaf):
        with pytest.raises(InputTypeError, match=r"Expected params\['w'\] to be an array of numbers; got"):
            nb.empirical_ntk(linear, {"w": leaf})

    @pytest.mark.parametrize(
        ("f", "got"),
        [
            (lambda p, x: (x @ p["w"], x), "tuple"),
            (lambda p, x: {"logits": x @ p["w"]}, "dict"),
            (lambda p, x: None, "NoneType"),
            (lambda p, x: (x @ p["w"]).T, r"shape \(2, 4\)"),
            (lambda p, x: (x @ p["w"])[0], r"shape \(2,\)"),
            (lambda p, x: jnp.sum(x @ p["w"]), r"shape \(\)"),
        ],
    )
    @pytest.mark.parametrize("make", [nb.empirical_ntk, nb.empirical_nngp])
    def test_what_f_returns(self, make, f, got, x):
        with pytest.raises(
            InputError, match=rf"to return one array with 4 rows for 4 inputs; got {got}\. Return only the outputs"
        ):
            make(f, LINEAR)(x)

    def test_outputs_that_have_no_derivative(self, x):
        with pytest.raises(InputTypeError, match="to return real floating-point numbers; got int32"):
            nb.empirical_ntk(lambda p, x: jnp.argmax(x @ p["w"], 1), LINEAR)(x)

    def test_outputs_that_do_not_depend_on_params(self, x):
        with pytest.raises(InputError, match=r"Expected f\(params, x\) to depend on params; its outputs are the same"):
            nb.empirical_ntk(lambda p, x: jnp.sin(x), LINEAR)(x)

    def test_f_that_mixes_examples(self):
        x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3)))
        with pytest.raises(InputError, match=r"Expected f\(params, x\) to treat each example alone; got outputs"):
            nb.empirical_ntk(lambda p, x: (x - x.mean(0)) @ p["w"], LINEAR)(x)

    def test_inputs_that_f_refuses(self):
        message = r"Expected f\(params, x\) to accept x1 of shape \(4, 5\) and type float32; got: .*\(5,\) and \(3,\)"
        with pytest.raises(InputError, match=message):
            nb.empirical_ntk(linear, LINEAR)(jnp.ones((4, 5)))

    @pytest.mark.parametrize("error", [ValueError("not this"), TypeError("not this\nmore")])
    def test_f_that_raises(self, error, x):
        def f(params, x):
            raise error

        with pytest.raises(InputError, match=r"got: not this$") as caught:
            nb.empirical_ntk(f, LINEAR)(x)
        assert caught.value.__cause__ is error

    def test_f_that_raises_without_a_word(self, x):
        def f(params, x):
            raise ValueError

        with pytest.raises(InputError, match="got: ValueError"):
            nb.empirical_ntk(f, LINEAR)(x)

    def test_an_input_error_of_a_layer_is_passed_on(self):
        net = nb.layers.Conv(2, (3,))
        with pytest.raises(InputError, match="Expected inputs of Conv to have 1 spatial axes"):
            nb.empirical_ntk(net.apply, net.init(jax.random.key(0), (4, 1)))(jnp.ones((4, 3)))


# -- by layer, and explained -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "paths"), [("cnn", ("w1", "w2")), ("conjugate", ("a", "b", "c"))])
def test_layers_sum_to_the_kernel(name, paths, x64):
    f, params, x1, x2 = function_case(name)
    parts = nb.empirical_ntk_by_layer(f, params, outputs="all")
    assert sorted(parts) == [f"['{path}']" for path in paths]
    assert_near(sum(parts.values())(x1, x2), nb.empirical_ntk(f, params, outputs="all")(x1, x2), 1e-12)
    last = paths[-1]
    frozen = nb.empirical_ntk(lambda leaf, x: f({**params, last: leaf}, x), params[last], outputs="all")
    assert_near(parts[f"['{last}']"](x1), frozen(x1), 1e-12)


@pytest.mark.parametrize(("outputs", "rows"), [("all", 3), ("each", 2), ("mean", None)])
def test_all_layers_at_once_are_those_one_by_one(outputs, rows, x64):
    f, params, x1, x2 = function_case("mlp")
    make = functools.partial(nb.empirical_ntk_by_layer, f, params, outputs=outputs)
    parts = make()
    if rows:  # several blocks, ragged, each of passes

        def stacked(memory_budget):
            gradients = next(iter(make(memory_budget=memory_budget).values())).gradients
            return Stacked(gradients.by(gradients.paths))

        parts = make(memory_budget=budget_for(stacked, x1, rows))
    across, own = parts(x1, x2), parts(x1)
    assert list(across) == list(own) == list(parts)
    for path in list(parts)[::3]:
        assert_near(across[path], parts[path](x1, x2), 1e-12)
        assert_near(own[path], parts[path](x1), 1e-12)
    assert_near(sum(across.values()), nb.empirical_ntk(f, params, outputs=outputs)(x1, x2), 1e-12)


def test_all_layers_at_once_under_jit_and_of_unused_parameters(x64):
    f, params, x, _ = function_case("unused and empty")
    found = jax.jit(lambda parts, x: parts(x))(nb.empirical_ntk_by_layer(f, params), x)
    assert list(found) == ["['w']"]
    assert_near(found["['w']"], nb.empirical_ntk(f, params)(x), 1e-12)
    with pytest.raises(InputError, match="Expected x1 and x2 to hold inputs of one shape"):
        nb.empirical_ntk_by_layer(lambda p, x: x.sum(1, keepdims=True) * p, 1.0)(x, x[:, :2])


def test_the_kernel_of_an_unused_parameter_is_named():
    f, params, x, _ = function_case("unused and empty")
    with pytest.raises(
        InputError, match=r"to depend on the parameter \['unused'\]; .* Leave its kernel out of the sum"
    ):
        nb.empirical_ntk_by_layer(f, params)["['unused']"](x)


def test_explanation_names_every_parameter():
    f, params, x, _ = function_case("unused and empty")
    lines = nb.kernels.explain_ntk(f, params, x).splitlines()
    assert lines[0].split() == ["parameter", "shape", "contracted", "as", "bytes", "per", "example", "share"]
    assert {line.split("  ")[0] for line in lines[1:]} == {"['w']", "['unused']", "['empty']"}
    assert next(line for line in lines if "unused" in line).split()[-5:] == ["not", "used", "0", "0", "%"]
    assert next(line for line in lines if "['w']" in line).endswith("100 %")
    pooled = nb.kernels.explain_ntk(*function_case("cnn")[:2], function_case("cnn")[2])
    assert "gradients formed" in pooled


def test_what_f_must_not_return(unchecked):
    x = jnp.ones((4, 3))
    with pytest.raises(InputError, match=r"f\(params, x\) to return finite numbers; got NaN or infinity"):
        nb.empirical_ntk(lambda p, x: jnp.log(-jnp.abs(x @ p)), jnp.ones((3, 2)))(x)
    with pytest.raises(InputError, match="at least one output per input; got shape \\(4, 0\\)"):
        nb.empirical_ntk(lambda p, x: (x @ p)[:, :0], jnp.ones((3, 2)))(x)
    for error in (KeyError("w"), AttributeError("w"), IndexError("w"), AssertionError("w"), OverflowError("w")):

        def broken(params, x, error=error):
            raise error

        with pytest.raises(
            InputError, match="to accept x1 of shape \\(4, 3\\) and type float32; got: \\w+Error: '?w'?"
        ):
            nb.empirical_ntk(broken, jnp.ones((3, 2)))(x)


def test_zero_outputs_are_no_mixing():
    x = jnp.ones((3, 2))
    assert float(nb.empirical_ntk(lambda p, x: x @ p, jnp.zeros((2, 1)))(x)[0, 0]) == 2.0


def test_narrow_arithmetic_in_f_does_not_narrow_the_kernel():
    """Products of bfloat16 factors are summed in the parameters' float32, so the kernel stays positive definite."""

    def f(params, x):
        half = (x.astype(jnp.bfloat16) @ params["w"].astype(jnp.bfloat16)).astype(jnp.float32)
        return jnp.tanh(half) @ params["o"]

    rng = np.random.default_rng(0)
    params = {
        "w": jnp.asarray(rng.normal(size=(3, 64)) / 2, jnp.float32),
        "o": jnp.asarray(rng.normal(size=(64, 1)) / 8, jnp.float32),
    }
    x = jnp.asarray(rng.normal(size=(30, 3)), jnp.float32)
    gram = nb.empirical_ntk(f, params)(x)
    assert gram.dtype == jnp.float32
    leaves = jax.tree.leaves(jax.jit(jax.jacrev(f))(params, x))
    explicit = sum(leaf.reshape(30, -1) @ leaf.reshape(30, -1).T for leaf in leaves)
    assert_near(gram, explicit, 4 * 2.0**-8)  # a bfloat16 gradient is itself rounded by up to 2^-9
    values = np.linalg.eigvalsh(np.asarray(gram, float))
    assert values[0] > -1e-6 * values[-1]  # contracted in bfloat16 it would be -1e-3
