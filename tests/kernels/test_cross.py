"""Kernels between functions of the same parameters, compared with Jacobians of the full batch in forward mode."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CROSS, OUTPUTS, assert_near, cross_case, from_all, function_case

import ntkbias as nb
from ntkbias.errors import InputError, InputTypeError
from ntkbias.kernels.empirical import matched
from ntkbias.kernels.empirical.matched import sides_of


@pytest.fixture
def factors_everywhere(monkeypatch):
    """Contract factors even if Jacobians are as small, as for the small layers of the table of cases."""
    monkeypatch.setattr(matched, "WORTHWHILE", 0)


def jacobian(f, params, x):
    """The Jacobian `(n, o, p)` by all parameters."""
    shape = (len(x), math.prod(jax.eval_shape(f, params, x).shape[1:]), -1)
    return jnp.concatenate([leaf.reshape(shape) for leaf in jax.tree.leaves(jax.jit(jax.jacfwd(f))(params, x))], -1)


def explicit(f, g, params, x1, x2):
    """The kernel between all outputs of f and all outputs of g."""
    return jnp.einsum("nap,mbp->namb", jacobian(f, params, x1), jacobian(g, params, x2))


def paired(name, f, g, params, x1, x2):
    """The options for outputs that apply to two functions."""
    counts = {math.prod(jax.eval_shape(h, params, x).shape[1:]) for h, x in ((f, x1), (g, x2))}
    return OUTPUTS if len(counts) == 1 else ("all",)


@pytest.mark.usefixtures("factors_everywhere")
@pytest.mark.parametrize("name", CROSS)
def test_is_the_product_of_explicit_jacobians(name, x64):
    f, g, *arrays = cross_case(name)
    chosen = paired(name, f, g, *arrays)

    @jax.jit  # one program, since compilation dominates the time
    def kernels(params, x1, x2):
        made = {outputs: nb.cross_ntk(f, g, params, outputs=outputs)(x1, x2) for outputs in chosen}
        return made, explicit(f, g, params, x1, x2)

    found, every = kernels(*arrays)
    for outputs in chosen:
        assert found[outputs].dtype == jnp.float64
        assert_near(found[outputs], from_all(every, outputs), 1e-12)
    kernel = nb.cross_ntk(f, g, arrays[0], outputs="all")
    left, right = sides_of([kernel.left, kernel.right], arrays[1:], "all")
    names = [path[-3] for path in left.matched if path in (*right.matched, *right.formed)]  # of paths like "['w']"
    assert sorted(names) == sorted(CROSS[name].matched)


@pytest.mark.parametrize("name", ["two heads", "a derivative by inputs", "tables", "tokens of two lengths"])
def test_blocks_and_formed_jacobians_give_the_same(name, x64):
    f, g, params, x1, x2 = cross_case(name)
    every = explicit(f, g, params, x1, x2)
    for budget in (1, 6_000, None):  # one example, some and all of them in a block
        kernel = nb.cross_ntk(f, g, params, outputs="all", memory_budget=budget)
        assert_near(kernel(x1, x2), every, 1e-12)


def test_of_a_function_with_itself_it_is_the_ntk(x64):
    f, params, x1, x2 = function_case("cnn")
    for outputs in OUTPUTS:
        cross = nb.cross_ntk(f, f, params, outputs=outputs)
        assert_near(cross(x1, x2), nb.empirical_ntk(f, params, outputs=outputs)(x1, x2), 1e-12)


@pytest.mark.usefixtures("factors_everywhere")
def test_exchanged_functions_transpose_it(x64):
    f, g, params, x1, x2 = cross_case("two heads")
    back = nb.cross_ntk(g, f, params, outputs="all")(x2, x1)
    assert_near(nb.cross_ntk(f, g, params, outputs="all")(x1, x2), back.transpose(2, 3, 0, 1), 1e-12)


def test_a_step_on_one_function_moves_the_other_by_it(x64):
    f, g, params, x1, x2 = cross_case("a derivative by inputs")
    gradient = jax.jit(jax.grad(lambda p: g(p, x2)[1, 0]))(params)
    moved = [f(jax.tree.map(lambda p, d, s=sign: p + s * 1e-5 * d, params, gradient), x1) for sign in (1, -1)]
    kernel = nb.cross_ntk(f, g, params, outputs="all")(x1, x2)
    assert_near((moved[0] - moved[1]) / 2e-5, kernel[:, :, 1, 0], 1e-7)  # the error of a central difference: step^2


def test_gradients_of_it_by_the_parameters(x64):
    f, g, params, x1, x2 = cross_case("scaled weights")
    found = jax.grad(lambda p: jnp.sum(nb.cross_ntk(f, g, p, outputs="all")(x1, x2) ** 2))(params)
    expected = jax.grad(lambda p: jnp.sum(explicit(f, g, p, x1, x2) ** 2))(params)
    for got, wanted in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert_near(got, wanted, 1e-10)


def test_parameters_of_zero_do_not_hide_a_transposed_weight(x64):
    """The order of coordinates is compared at random parameters, not at the given ones."""
    f, g, params, x1, x2 = cross_case("a transposed weight")
    zeros = jax.tree.map(jnp.zeros_like, params)
    made = lambda params: nb.cross_ntk(f, g, params, outputs="all")(x1, x2)  # noqa: E731
    assert not np.any(made({**zeros, "w": params["w"]}) - explicit(f, g, {**zeros, "w": params["w"]}, x1, x2) > 1e-12)
    assert_near(made(params), explicit(f, g, params, x1, x2), 1e-12)


@pytest.mark.usefixtures("factors_everywhere")
def test_undecided_layers_are_formed(x64):
    """If a layer's gradients vanish at all random draws, the comparison cannot decide, and Jacobians are formed."""
    dead = lambda p, x: jax.nn.relu(x @ p["w"] - 100.0) @ p["o"]  # noqa: E731
    also = lambda p, x: jax.nn.relu(x @ p["w"].T - 100.0) @ p["o"]  # noqa: E731
    params = {"w": 100.0 * jnp.eye(2) + 1.0, "o": jnp.ones((2, 1))}
    x = jnp.asarray([[3.0, 4.0], [2.0, 5.0]])
    kernel = nb.cross_ntk(dead, also, params, outputs="all")
    assert sides_of([kernel.left, kernel.right], [x, x], "all")[0].matched == ()
    assert_near(kernel(x, x), explicit(dead, also, params, x, x), 1e-12)


def test_inputs_of_several_arrays_complex_parameters_and_a_choice_of_them(x64, factors_everywhere):
    rng = np.random.default_rng(0)
    params = {
        "w": jnp.asarray(rng.normal(size=(3, 4)) + 1j * rng.normal(size=(3, 4))),
        "v": jnp.asarray(rng.normal(size=(4, 2))),
        "row": jnp.asarray(1),
    }
    f = lambda p, x: x["mask"] * jnp.tanh(jnp.real(x["a"] @ p["w"])) @ p["v"]  # noqa: E731
    g = lambda p, x: jnp.imag(x @ p["w"])[:, p["row"]]  # noqa: E731  # one row of it, by a whole number
    x1 = {"a": jnp.asarray(rng.normal(size=(5, 3))), "mask": jnp.asarray(rng.integers(0, 2, (5, 4)))}
    x2 = jnp.asarray(rng.normal(size=(4, 3)))
    whole = lambda p: {**params, **p}  # noqa: E731
    pair = lambda p: (p["re"] + 1j * p["im"], p.get("v", params["v"]))  # noqa: E731
    parts = {"re": jnp.real(params["w"]), "im": jnp.imag(params["w"])}

    def real(function):
        return lambda p, x: function(whole(dict(zip("wv", pair(p), strict=True))), x)

    for wrt, chosen in ((["['w']", "['v']"], {**parts, "v": params["v"]}), ("['w']", parts)):
        expected = explicit_of(real(f), real(g), chosen, x1, x2)
        kernel = nb.cross_ntk(f, g, params, outputs="all", wrt=wrt)
        assert_near(kernel(x1, x2), expected, 1e-12)
        block = nb.block_ntk({"f": f, "g": g}, params, wrt=wrt)
        assert_near(block.blocks({"f": x1, "g": x2})["f", "g"], expected.reshape(10, 4), 1e-12)


def explicit_of(f, g, params, x1, x2):
    sides = []
    for function, x in ((f, x1), (g, x2)):
        n = len(jax.tree.leaves(x)[0])
        leaves = jax.tree.leaves(jax.jit(jax.jacfwd(function))(params, x))
        sides.append(
            jnp.concatenate(
                [
                    leaf.reshape(n, -1, math.prod(p.shape))
                    for leaf, p in zip(leaves, jax.tree.leaves(params), strict=True)
                ],
                -1,
            )
        )
    return jnp.einsum("nap,mbp->namb", *sides)


# -- a dictionary of functions -----------------------------------------------------------------------------------------


def u(params, z):
    """A network u of (t, x)."""
    return jnp.tanh(z @ params["w"] + params["b"]) @ params["o"]


def slope(f, axis):
    return lambda p, z: jax.jvp(lambda z: f(p, z), (z,), (jnp.zeros_like(z).at[:, axis].set(1),))[1]


def residual(params, z):
    """The residual of a wave equation."""
    return slope(slope(u, 0), 0)(params, z) - 4.0 * slope(slope(u, 1), 1)(params, z)


FUNCTIONS = {"residual": residual, "ends": u, "start": u, "velocity": slope(u, 0)}


def wave():
    """Functions for a wave's residual, boundary and initial conditions, their params, and the inputs of each."""
    rng = np.random.default_rng(0)
    params = {name: jnp.asarray(rng.normal(size=shape)) for name, shape in (("w", (2, 5)), ("b", (5,)), ("o", (5,)))}
    sizes = {"residual": 6, "ends": 4, "start": 3, "velocity": 3}
    return FUNCTIONS, params, {name: jnp.asarray(rng.uniform(size=(n, 2))) for name, n in sizes.items()}


WEIGHTS = {"velocity": 0.5, "residual": 2.0, "start": 0.0, "ends": 3.0}  # in another order than the functions


def stacked(functions, params, x, weights=None):
    """The Jacobians of all functions, stacked in the order of the functions."""
    rows = []
    for name, f in functions.items():
        own = jacobian(f, params, x[name])
        rows.append((1.0 if weights is None else weights[name] ** 0.5) * own.reshape(-1, own.shape[-1]))
    return jnp.concatenate(rows)


@pytest.mark.parametrize("budget", [None, 6_000])  # all pieces kept; some rows a block
def test_block_kernel_is_the_product_of_stacked_jacobians(budget, x64):
    functions, params, x = wave()
    other = jax.tree.map(lambda leaf: leaf[:2] + 0.1, x)
    rows, columns = (stacked(functions, params, inputs, WEIGHTS) for inputs in (x, other))
    kernel = nb.block_ntk(functions, params, weights=WEIGHTS, memory_budget=budget)
    assert_near(kernel(x), rows @ rows.T, 1e-12)
    assert_near(kernel(x, other), rows @ columns.T, 1e-12)


def test_blocks_are_the_kernels_between_the_functions(x64):
    functions, params, x = wave()
    kernel = nb.block_ntk(functions, params, weights=WEIGHTS)
    whole, blocks = kernel(x), kernel.blocks(x)
    assert kernel.rows(x) == {
        "residual": slice(0, 6), "ends": slice(6, 10), "start": slice(10, 13), "velocity": slice(13, 16)
    }  # fmt: skip
    assert list(blocks) == [(i, j) for i in functions for j in functions]
    assert_near(np.block([[blocks[i, j] for j in functions] for i in functions]), whole, 1e-15)
    cross = nb.cross_ntk(functions["residual"], functions["ends"], params)(x["residual"], x["ends"])
    assert_near(blocks["residual", "ends"], 6.0**0.5 * cross, 1e-12)
    assert_near(blocks["ends", "ends"], 3.0 * nb.empirical_ntk(functions["ends"], params)(x["ends"]), 1e-12)


def test_ratios_of_traces_as_weights(x64):
    functions, params, x = wave()
    kernel = nb.block_ntk(functions, params, weights=WEIGHTS)
    plain = stacked(functions, params, x)
    total = float(jnp.sum(plain**2))
    rows = kernel.rows(x)
    weights = kernel.trace_weights(x)
    assert list(weights) == list(functions)
    for name in functions:
        trace = float(jnp.sum(plain[rows[name]] ** 2))
        assert_near(weights[name], total / trace, 1e-12)  # tr K / tr K_ii of the kernel without weights
        assert_near(kernel.traces(x)[name], WEIGHTS[name] * trace, 1e-12)
        assert_near(kernel.weighted(weights).traces(x)[name], total, 1e-12)
    under_jit = jax.jit(lambda p, x: nb.block_ntk(functions, p).trace_weights(x))(params, x)
    small = nb.block_ntk(functions, params, memory_budget=1).trace_weights(x)
    for name in functions:
        assert_near(under_jit[name], weights[name], 1e-12)
        assert_near(small[name], weights[name], 1e-12)


def test_block_kernel_governs_gradient_flow(x64):
    """Under gradient flow on the loss sum w / 2 |r|^2, the errors sqrt(w) r change at the rate -K sqrt(w) r."""
    functions, params, x = wave()
    functions = {name: functions[name] for name in ("start", "velocity", "ends")}

    def errors(params):
        return jnp.concatenate([WEIGHTS[name] ** 0.5 * f(params, x[name]) for name, f in functions.items()])

    gradient = jax.jit(jax.grad(lambda p: jnp.sum(errors(p) ** 2) / 2))(params)
    moved = [errors(jax.tree.map(lambda p, g, s=sign: p - s * 1e-6 * g, params, gradient)) for sign in (1, -1)]
    weights, x = ({name: of_all[name] for name in functions} for of_all in (WEIGHTS, x))
    expected = -nb.block_ntk(functions, params, weights=weights)(x) @ errors(params)
    assert_near((moved[0] - moved[1]) / 2e-6, expected, 1e-6)


def test_its_matrix_has_a_spectrum_and_predicts_learning(x64):
    functions, params, x = wave()
    kernel = nb.block_ntk(functions, params)
    K = kernel(x)
    spectrum = nb.eigen.eigh(K)
    assert_near(kernel.operator(x) @ np.ones(len(K)), K.sum(1), 1e-12)
    assert_near(spectrum.eigenvalues, np.linalg.eigvalsh(K)[::-1] / 16, 1e-12)
    times = nb.learnability(K, {"first": spectrum.eigenfunctions[:, 0]}, centered=False)
    assert times.learning_time.item() == pytest.approx(1 / float(spectrum.eigenvalues[0]), rel=1e-3)


def test_functions_of_several_outputs_and_of_different_parameters(x64):
    params = jax.tree.map(jnp.asarray, {"a": np.eye(3)[:, :2], "b": np.full((2, 1), 0.3), "c": np.full((4, 3), 0.1)})
    functions = {
        "pair": lambda p, x: jnp.tanh(x @ p["a"]),
        "one": lambda p, x: jnp.sin(x @ p["a"] @ p["b"])[:, 0],
        "other inputs": lambda p, x: x @ p["c"],
    }
    rng = np.random.default_rng(0)
    x = {
        name: jnp.asarray(rng.normal(size=(n, d)))
        for name, n, d in (("one", 3, 3), ("pair", 2, 3), ("other inputs", 2, 4))
    }
    rows = stacked(functions, params, x)
    kernel = nb.block_ntk(functions, params)
    assert_near(kernel(x), rows @ rows.T, 1e-12)
    assert not np.any(kernel.blocks(x)["pair", "other inputs"])


@pytest.mark.usefixtures("unchecked")
class TestBadInput:
    def test_one_set_of_inputs(self):
        f, g, params, x, _ = cross_case("two heads")
        with pytest.raises(InputTypeError, match=r"Expected two sets of inputs, x1 for f and x2 for g, .*; got one"):
            nb.cross_ntk(f, g, params, outputs="all")(x)

    def test_no_kernel_of_one_function(self):
        f, g, params, x, _ = cross_case("two heads")
        with pytest.raises(InputTypeError, match="kernel; got CrossNTK, whose matrix is not symmetric; use"):
            nb.spectrum(nb.cross_ntk(f, g, params), x)
        with pytest.raises(
            InputTypeError, match=r"Expected a kernel, .*; got BlockNTK. For a matrix use nb\.eigen\.eigh\(K\)"
        ):
            nb.spectrum(nb.block_ntk({"f": f}, params), x)

    @pytest.mark.parametrize("outputs", ["mean", "sum", "each"])
    def test_outputs_that_do_not_pair(self, outputs):
        f, g, params, x1, x2 = cross_case("two heads")
        message = rf"the same number of outputs for outputs='{outputs}'; got 2 and 3\. Use outputs='all'"
        with pytest.raises(InputError, match=message):
            nb.cross_ntk(f, g, params, outputs=outputs)(x1, x2)

    def test_each_side_is_checked(self):
        f, g, params, x1, x2 = cross_case("two heads")
        kernel = nb.cross_ntk(f, g, params, outputs="all")
        with pytest.raises(InputError, match="Expected finite numbers in x2"):
            kernel(x1, x2.at[0, 0].set(jnp.nan))
        with pytest.raises(InputError, match=r"to accept x1 of shape \(5, 2\)"):
            kernel(x1[:, :2], x2)
        with pytest.raises(InputError, match="Expected at least one input in x2"):
            kernel(x1, x2[:0])
        with pytest.raises(InputTypeError, match=r"Expected f to be a function f\(params, x\).*; got str"):
            nb.cross_ntk(f, "g", params)
        with pytest.raises(InputError, match=r"Expected outputs to be one of mean, sum, each, all; got 'both'"):
            nb.cross_ntk(f, g, params, outputs="both")
        with pytest.raises(InputError, match="treat each example alone"):
            nb.cross_ntk(f, lambda p, x: g(p, x - x.mean(0)), params, outputs="all")(x1, x2)

    @pytest.mark.parametrize(
        ("functions", "got"),
        [({}, "an empty dictionary"), ([len], "list"), ({1: len}, "a dictionary of 1"), (len, "builtin_function")],
    )
    def test_functions(self, functions, got):
        with pytest.raises(InputTypeError, match=rf"Expected functions as a dictionary .*; got {got}.*cross_ntk"):
            nb.block_ntk(functions, {"w": jnp.ones(3)})

    def test_names(self):
        functions, params, x = wave()
        kernel = nb.block_ntk(functions, params)
        with pytest.raises(
            InputError, match="names of the functions, residual, ends, start, velocity; got residual\\.$"
        ):
            kernel({"residual": x["residual"]})
        with pytest.raises(InputError, match="Expected x2 to be a dictionary of inputs .*; got ArrayImpl"):
            kernel(x, x["residual"])
        with pytest.raises(InputError, match="Expected weights to be a dictionary .*; got a dictionary of 'ends'"):
            kernel.weighted({"ends": 1.0})
        with pytest.raises(InputError, match="Expected the weight of 'ends' to be zero or more; got -1.0"):
            kernel.weighted({**WEIGHTS, "ends": -1.0})

    def test_a_function_is_named(self):
        functions, params, x = wave()
        wrong = {**x, "start": x["start"][:, :1]}
        with pytest.raises(InputError, match=r"accept x\['start'\] of shape .*This concerns the function 'start'"):
            nb.block_ntk(functions, params)(wrong)
        constant = {**functions, "start": lambda p, z: z[:, 0]}
        with pytest.raises(InputError, match=r"to depend on params; .*This concerns the function 'start'"):
            nb.block_ntk(constant, params)(x)

    def test_a_function_without_a_trace(self):
        functions, params, x = wave()
        params = jax.tree.map(jnp.zeros_like, params)
        with pytest.raises(InputError, match="gradients of the function 'residual' that are not all zero"):
            nb.block_ntk(functions, params).trace_weights(x)
