"""Inputs of several arrays, selected parameters, complex parameters and outputs, compared with dense Jacobians."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import COMPLEX, OUTPUTS, STRUCTURED, assert_near, from_all, function_case

import ntkbias as nb
from ntkbias.packing import Layout, num_examples

RNG = np.random.default_rng(0)
TOKENS = {"ids": RNG.integers(0, 7, (6, 5)), "mask": np.ones((6, 5), bool)}


def structured_case(name):
    f, params, inputs = STRUCTURED[name]
    rng = np.random.default_rng(3)
    return f, jax.tree.map(jnp.asarray, params(rng)), jax.tree.map(jnp.asarray, inputs(rng, 6))


def real_jacobian(f, params, x):
    """d (Re f, Im f) / d (Re params, Im params), (n, o, p)."""
    leaves, treedef = jax.tree.flatten(params)
    parts = [[leaf.real, leaf.imag] if jnp.iscomplexobj(leaf) else [leaf] for leaf in leaves]

    def outputs(parts):
        found = f(jax.tree.unflatten(treedef, [jax.lax.complex(*p) if len(p) == 2 else p[0] for p in parts]), x)
        found = jnp.stack([found.real, found.imag], 1) if jnp.iscomplexobj(found) else found
        return found.reshape(len(found), -1)

    found = jax.tree.leaves(jax.jit(jax.jacrev(outputs))(parts))
    return np.concatenate([np.asarray(leaf).reshape(*leaf.shape[:2], -1) for leaf in found], 2)


@pytest.mark.parametrize("name", STRUCTURED)
class TestSeveralArrays:
    def test_the_ntk_is_the_product_of_jacobians(self, name, x64):
        f, params, x = structured_case(name)
        whole = np.einsum("nap,mbp->namb", *2 * (real_jacobian(f, params, x),))
        few = jax.tree.map(lambda leaf: leaf[:2], x)
        for outputs in OUTPUTS:
            kernel = nb.empirical_ntk(f, params, outputs=outputs)
            assert_near(kernel(x), from_all(whole, outputs), 1e-10)
            assert_near(kernel(x, few), from_all(whole[:, :, :2], outputs), 1e-10)

    def test_operators_and_spectra_take_them(self, name, x64):
        f, params, x = structured_case(name)
        kernel = nb.empirical_ntk(f, params, outputs="sum")
        gram = np.asarray(kernel(x))
        assert_near(kernel.operator(x) @ np.eye(6), gram, 1e-10)
        spectrum = nb.spectrum(kernel, x)
        assert_near(spectrum.extend(x, 2), spectrum.eigenfunctions[:, :2], 1e-6)


def test_blocks_and_stores_take_several_arrays(tmp_path):
    f, params, x = structured_case("tokens and a mask")
    kernel = nb.empirical_ntk(f, params, memory_budget=1_000)
    gram = np.asarray(nb.empirical_ntk(f, params)(x))
    assert_near(kernel(x), gram, 1e-5)
    assert_near(np.asarray(nb.gram_on_disk(tmp_path / "store", kernel, x)[:, :]), gram, 1e-5)


def test_training_tracking_and_learnability_take_several_arrays():
    f, params, x = structured_case("branch and trunk")
    y = np.asarray(f(params, x)) + 1
    options = {"optimizer": optax.sgd(0.02), "num_steps": 10, "at": [10]}
    history = nb.track(f, params, (x, y), probe=nb.tracking.Probe(outputs="all"), **options)
    assert history["loss"][-1] < history["loss"][0]
    *_, (_, last) = nb.train(f, params, (x, y), **options)
    jax.tree.map(lambda a, b: assert_near(a, b, 1e-6), history.params, last)
    kernel = nb.empirical_ntk(f, params)
    found = nb.learnability(kernel, x, {"trunk": lambda x: x[1]})
    assert_near(found.learning_time, nb.learnability(kernel, x, {"trunk": x[1]}).learning_time, 1e-6)


def test_what_a_layout_packs_it_unpacks():
    for name in STRUCTURED:
        _, _, x = structured_case(name)
        layout = Layout(x)
        jax.tree.map(np.testing.assert_array_equal, layout.unpack(layout.pack(x)), x)
        assert num_examples(x) == 6


class TestBadInput:
    def test_derivatives_by_several_arrays(self):
        f, params, x = structured_case("branch and trunk")
        kernel = nb.empirical_ntk(f, params)
        with pytest.raises(nb.InputError, match="got one by inputs of several arrays, or by complex inputs"):
            jax.grad(lambda a: kernel((a, x[1])).sum())(x[0])

    def test_arrays_of_other_lengths(self):
        kernel = nb.empirical_ntk(*structured_case("tokens and a mask")[:2])
        with pytest.raises(nb.InputError, match=r"same number of examples in all arrays of x1; got 6 in x1.*, 5 in"):
            kernel({**TOKENS, "mask": np.ones((5, 5), bool)})

    def test_a_number_beside_arrays(self):
        kernel = nb.empirical_ntk(*structured_case("tokens and a mask")[:2])
        with pytest.raises(nb.InputError, match=r"got a single number in x1\['mask'\]. Close over what all"):
            kernel({**TOKENS, "mask": 1.0})

    def test_other_arrays_than_f_takes(self):
        kernel = nb.empirical_ntk(*structured_case("tokens and a mask")[:2])
        with pytest.raises(
            nb.InputError, match=r"to accept x1 of several arrays, {'ids': 'int32\[n, 5\]'}, 6 examples"
        ):
            kernel({"ids": TOKENS["ids"]})
        with pytest.raises(nb.InputError, match=r"Expected inputs like the earlier ones, {'ids': .*; got {'ids'"):
            kernel(TOKENS, {"ids": TOKENS["ids"]})

    def test_where_coordinates_are_needed(self):
        f, params, x = structured_case("tokens and a mask")
        with pytest.raises(nb.InputError, match=r"as one array of real numbers \(n, ...\); got {'ids'"):
            nb.infinite_ntk(nb.nets.mlp(depth=1))(x)
        spectrum = nb.spectrum(nb.empirical_ntk(f, params), x)
        with pytest.raises(nb.InputError, match="as one array of coordinates, which Circle needs; got several arrays"):
            nb.rank_by_frequency(spectrum, nb.domains.Circle())
        with pytest.raises(nb.InputError, match="as one array of coordinates; got several arrays"):
            nb.complexity.geometric_complexity(f, params, x)

    @pytest.mark.parametrize(
        ("x", "advice"),
        [
            ([np.ones((3, 2)), np.ones((5, 2))], "pad its parts to one"),
            (np.ma.masked_array(np.ones((3, 2)), np.eye(3, 2)), "got a masked array. Fill it"),
            (np.full((3, 2), np.longdouble("1e400")), "Expected finite numbers in x1?; got 6 NaN or inf"),
            (np.full((3, 2), 2**40), "Set jax_enable_x64, or renumber them from zero"),
        ],
    )
    def test_arrays_that_jax_would_misread(self, x, advice):
        with pytest.raises(nb.InputError, match=advice):
            nb.empirical_ntk(lambda p, x: x @ p, jnp.ones((2, 1)))(x)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int32", "bool", ">f4", "g", ">f8"])
def test_inputs_of_any_type_are_multiplied_in_the_type_of_the_parameters(dtype):
    """Products of bytes overflow."""
    f, params, _, _ = function_case("mlp")
    x = np.random.default_rng(0).integers(0, 100, (6, 3)).astype(dtype)
    params = jax.tree.map(lambda leaf: leaf / 30, params)
    jacobian = real_jacobian(f, params, np.asarray(x, np.float32))
    kernel = nb.empirical_ntk(f, params, outputs="sum")
    expected = np.einsum("nap,map->nm", jacobian, jacobian)
    assert_near(kernel(x), expected, 1e-5)
    assert_near(kernel.operator(x) @ np.eye(6, dtype=np.float32), expected, 1e-5)


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_ids_of_eight_bits_reach_a_long_table(dtype):
    x = np.arange(20, 26).astype(dtype).reshape(3, 2)
    f = lambda p, x: jnp.take(p["table"], x, axis=0, mode="clip").sum(1)  # noqa: E731
    kernel = nb.empirical_ntk(f, {"table": jnp.ones((1000, 2))})
    assert_near(kernel(x), 2 * np.eye(3), 1e-6)


def test_promotion_of_ranks_is_asked_for():
    with (
        jax.numpy_rank_promotion("raise"),
        pytest.raises(nb.InputError, match="jax_numpy_rank_promotion to be 'allow'"),
    ):
        nb.infinite_ntk(nb.nets.mlp(depth=1))(jnp.eye(3))
    with jax.numpy_rank_promotion("raise"), jax.numpy_rank_promotion("allow"):
        assert nb.infinite_ntk(nb.nets.mlp(depth=1))(jnp.eye(3)).shape == (3, 3)


def test_ids_outside_of_a_table_are_refused():
    """For such ids JAX's forward and reverse derivatives differ."""
    f = lambda p, ids: p[ids[:, 0]]  # noqa: E731
    kernel, ids = nb.empirical_ntk(f, jnp.ones((5, 3)), outputs="all"), jnp.array([[0], [5], [4]])
    with pytest.raises(nb.InputError, match="and that ids lie within their tables"):
        kernel(ids)
    with pytest.raises(nb.InputError, match="ids in x that lie within the tables of f; got some outside"):
        kernel.operator(ids)
    assert_near(kernel.operator(ids[::2]) @ np.eye(6, dtype=np.float32), np.eye(6), 1e-6)


WRT = {
    "a path": ("[0]['w']", ("[0]['w']",)),
    "a beginning": ("[0]", ("[0]['b']", "[0]['w']")),
    "paths": (["[0]['b']", "[2]"], ("[0]['b']", "[2]['b']", "[2]['w']")),
    "a predicate": (lambda path: path.endswith("['b']"), ("[0]['b']", "[1]['b']", "[2]['b']")),
    "a mask": ([{"b": True, "w": False}] + [{"b": False, "w": False}] * 2, ("[0]['b']",)),
}


@pytest.mark.parametrize("choice", WRT)
def test_selected_parameters_give_the_kernels_of_their_layers(choice, x64):
    f, params, x, _ = function_case("mlp")
    wrt, paths = WRT[choice]
    kernel = nb.empirical_ntk(f, params, wrt=wrt)
    parts = nb.empirical_ntk_by_layer(f, params)
    expected = sum(np.asarray(parts[path](x)) for path in paths)
    assert_near(kernel(x), expected, 1e-10)
    assert_near(kernel.operator(x) @ np.eye(len(x)), expected, 1e-10)
    assert set(nb.empirical_ntk_by_layer(f, params, wrt=wrt)) == set(paths)


def test_other_parameters_may_be_of_any_type():
    f = lambda p, x: jnp.tanh(x @ p["w"]) @ p["o"] * p["steps"]  # noqa: E731
    rng = np.random.default_rng(0)
    params = {"w": rng.normal(size=(3, 4)), "o": rng.normal(size=(4, 2)), "steps": 2, "flag": np.array([True])}
    x, y = rng.normal(size=(5, 3)), rng.normal(size=(5, 2))
    kernel = nb.empirical_ntk(f, params, wrt="['o']", outputs="all")
    hidden = np.tanh(x @ params["w"])
    expected = np.einsum("nm,ab->namb", 4 * hidden @ hidden.T, np.eye(2))
    assert_near(kernel(x), expected, 1e-5)
    options = {"wrt": "['o']", "probe": nb.tracking.Probe(outputs="all")}
    history = nb.track(f, params, (x, y), optimizer=optax.sgd(0.01), num_steps=3, **options)
    assert_near(history["trace"][0], np.trace(expected.reshape(10, 10)) / 5, 1e-5)
    assert np.array_equal(history.params["w"], params["w"].astype(np.float32))
    assert not np.allclose(history.params["o"], params["o"])
    norms = [
        float(nb.complexity.gradient_norm(f, params, x, y, wrt=wrt)) for wrt in ("['w']", "['o']", ["['w']", "['o']"])
    ]
    assert_near(np.hypot(norms[0], norms[1]), norms[2], 1e-5)


class TestBadChoice:
    @pytest.mark.parametrize(
        ("wrt", "message"),
        [
            ("['head']", r"wrt= to name parameters, of \['o'\], \['w'\]; got \"\['head'\]\""),
            (lambda path: False, "wrt= to select one parameter or more"),
            ({"w": True}, "or a pytree of True and False like params"),
            ({"w": 1, "o": 0}, "True and False in the mask wrt=; got"),
            ("w", "got 'w'. Write \"\\['w'\\]\"."),
            ([], "wrt= to select one parameter or more, of .*; got none"),
            (
                lambda path, leaf: True,
                "wrt= to be a predicate of one path, e.g. lambda path: .*missing a required argument: 'leaf'",
            ),
        ],
    )
    def test_messages(self, wrt, message):
        with pytest.raises(nb.InputError, match=message):
            nb.empirical_ntk(lambda p, x: x @ p["w"] @ p["o"], {"w": jnp.ones((2, 2)), "o": jnp.ones((2, 1))}, wrt=wrt)

    def test_a_mask_of_arrays_is_one_of_python_values(self):
        f, params = lambda p, x: x @ p["w"] @ p["o"], {"w": jnp.ones((2, 2)), "o": jnp.ones((2, 1))}
        kernel = nb.empirical_ntk(f, params, wrt={"w": jnp.array(True), "o": np.bool_(False)})
        assert kernel.gradients.only == ("['w']",)

    def test_flax_variables(self):
        variables = {"params": {"w": jnp.ones(2)}, "batch_stats": {"mean": jnp.ones(2)}}
        with pytest.raises(nb.InputError, match=r"only the trained params.*adapters.flax_linen\(model, variables\)"):
            nb.empirical_ntk(lambda v, x: x * v["params"]["w"], variables)


@pytest.mark.parametrize("name", COMPLEX)
class TestComplexNumbers:
    def case(self, name):
        f, params, holomorphic = COMPLEX[name]
        rng = np.random.default_rng(5)
        return f, jax.tree.map(jnp.asarray, params(rng)), jnp.asarray(rng.normal(size=(5, 3))), holomorphic

    def test_the_ntk_is_the_product_of_real_jacobians(self, name, x64):
        f, params, x, _ = self.case(name)
        whole = np.einsum("nap,mbp->namb", *2 * (real_jacobian(f, params, x),))
        for outputs in OUTPUTS:
            assert_near(nb.empirical_ntk(f, params, outputs=outputs)(x), from_all(whole, outputs), 1e-10)
        operator = nb.empirical_ntk(f, params, outputs="all").operator(x)
        rows = whole.reshape(operator.shape)
        assert_near(operator @ np.eye(len(rows)), rows, 1e-10)
        parts = nb.empirical_ntk_by_layer(f, params, outputs="sum")
        assert_near(sum(kernel(x) for kernel in parts.values()), from_all(whole, "sum"), 1e-10)

    def test_the_hermitian_kernel_is_j_j_h(self, name, x64):
        f, params, x, holomorphic = self.case(name)
        if holomorphic:
            found = jax.tree.leaves(jax.jit(jax.jacrev(f, holomorphic=True))(params, x.astype(complex)))
        elif name == "complex outputs":
            parts = [jax.jit(jax.jacrev(lambda p, part=part: part(f(p, x))))(params) for part in (jnp.real, jnp.imag)]
            found = jax.tree.leaves(jax.tree.map(lambda re, im: re + 1j * im, *parts))
        else:
            with pytest.raises(nb.InputError, match="to be holomorphic in its|to return complex numbers"):
                nb.kernels.holomorphic_ntk(f, params, x)
            return
        jacobian = np.concatenate([np.asarray(leaf).reshape(5, f(params, x)[0].size, -1) for leaf in found], 2)
        expected = np.einsum("nap,mbp->namb", jacobian, jacobian.conj())
        found = np.asarray(nb.kernels.holomorphic_ntk(f, params, x))
        assert_near(np.stack([found.real, found.imag]), np.stack([expected.real, expected.imag]), 1e-10)


def test_the_gradient_of_complex_parameters_is_that_of_their_parts(x64):
    f = lambda p, x: jnp.abs(x @ p["w"]) ** 2  # noqa: E731
    params = {"w": jnp.array([[1.0 + 2.0j], [0.5 - 1.0j]])}
    x, y = jnp.array([[1.0, 2.0], [0.3, -1.0]]), jnp.zeros((2, 1))
    found = nb.complexity.loss_gradient(f, params, x, y)["w"]
    expected = jax.jit(jax.grad(lambda p: jnp.sum(f(p, x) ** 2) / 4))(params)["w"].conj()
    assert_near(np.stack([found.real, found.imag]), np.stack([expected.real, expected.imag]), 1e-12)
    with pytest.raises(nb.InputError, match="real params; got complex ones. Keep the real"):
        nb.learning.linearize(f, params)


def test_complex_numbers_are_not_trained():
    f, params, _ = COMPLEX["holomorphic"]
    x, y = np.ones((4, 3)), np.ones((4, 2))
    drawn = params(np.random.default_rng(0))
    with pytest.raises(nb.InputError, match="Expected real parameters to train; got complex ones"):
        nb.track(f, drawn, (x, y), optimizer=optax.sgd(0.1), num_steps=2)
    outputs, real, _ = COMPLEX["complex outputs"]
    with pytest.raises(nb.InputError, match=r"to return real numbers to train it; got complex64"):
        nb.track(outputs, real(np.random.default_rng(0)), (x, y), optimizer=optax.sgd(0.1), num_steps=2)
