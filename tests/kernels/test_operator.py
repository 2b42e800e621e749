"""Kernels as operators: products compared with the explicit matrix, and the way in which products are computed."""

import functools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse.linalg
from cases import FUNCTIONS, LAYERS, NETS, assert_near, budget_for, count_equations, function_case, net_case

import ntkbias as nb
from ntkbias.errors import InputError, InputTypeError
from ntkbias.kernels.factors import Lookup
from ntkbias.kernels.gradients import Gradients
from ntkbias.kernels.operators import Jacobian, JacobianOperator, by_gradients, by_vjp, jacobian
from ntkbias.kernels.operators.layout import Layout

WAYS = ("passes", "gradients", "gradients held")
WITHOUT_JVP = ("custom derivative",)  # a custom_vjp has no JVP, so all its products use per-example gradients
# Together these have products, full Jacobians, folded read-outs, and complex numbers.
FEW = [("mlp", "all"), ("shared read-outs", "sum"), ("Fourier layer", "mean")]


def take(monkeypatch, way, rows=None):
    """Force one way to compute products. With `rows`, batches have that many examples, and twice as many in passes."""
    monkeypatch.setattr(JacobianOperator, "uses_matrix", lambda operator, k, halves: False)
    monkeypatch.setattr(JacobianOperator, "uses_vjp", lambda operator, k: way == "passes")
    monkeypatch.setattr(Jacobian, "_can_keep", lambda jacobian: way == "gradients held")
    if rows:
        monkeypatch.setattr(Gradients, "pass_rows", lambda gradients, x: rows)
        monkeypatch.setattr(jacobian, "BATCH", 2 * rows)


def matrix_of(kernel, x):
    """The Gram matrix `(rows, rows)` in float64."""
    gram = np.asarray(kernel(x), np.float64)
    rows = round(gram.size**0.5)
    return gram.reshape(rows, rows)


def vectors(rows, *columns, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, *columns))


def inner(left, right):
    """The inner products of vectors, given as pytrees."""
    pairs = zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)
    return sum(float(np.vdot(np.asarray(a, float), np.asarray(b, float))) for a, b in pairs)


def like(tree, seed=1):
    """A pytree of random arrays with the same shapes."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype), tree)


def assert_operator_is(operator, gram, rtol, vector=True):
    """Products with a block and a vector, the diagonal and the trace are those of the matrix.

    A vector has programs of its own: compiling them is most of the time.
    """
    rows = len(gram)
    assert operator.shape == (rows, rows)
    assert operator.num_examples * operator.num_outputs == rows
    block = vectors(rows, 3)
    assert_near(operator @ block, gram @ block, rtol)
    if vector:
        assert_near(operator @ block[:, 0], gram @ block[:, 0], rtol)
    assert_near(operator.diagonal(), np.diag(gram), rtol)
    assert abs(operator.trace() - np.trace(gram)) <= rtol * np.abs(np.diag(gram)).sum()


def assert_laws_of_the_jacobian(operator, gram, rtol, passes=True):
    """Pull and push are transposes of each other, and J^T J on parameters agrees with J J^T on rows."""
    rows = len(gram)
    v = operator.pack(vectors(rows, 3).astype(operator.dtype))
    halves = [(operator.pull, operator.push)] + [(operator.pull_by_vjp, operator.push_by_jvp)] * passes
    for pull, push in halves:
        pulled = pull(v)
        u = like(pulled)
        left, right = inner(pulled, u), inner(v, push(u))
        assert abs(left - right) <= rtol * (inner(pulled, pulled) * inner(u, u)) ** 0.5
    on_parameters = operator.on_parameters()
    size = on_parameters.shape[0]
    assert size == operator.num_parameters
    assert abs(on_parameters.trace() - np.trace(gram)) <= rtol * np.trace(gram)
    u, w = vectors(size, 3), vectors(size, 3, seed=1)
    product = on_parameters @ u
    norm = np.linalg.norm(w) * np.linalg.norm(product)
    assert abs(inner(w, product) - inner(on_parameters @ w, u)) <= rtol * max(norm, 1e-300)

    def lifted(vectors):
        return operator.unpack(on_parameters.lift(on_parameters.pack(vectors.astype(operator.dtype))))

    assert_near(lifted(product), gram @ lifted(u), rtol)  # J (J^T J u) = (J J^T) J u


def assert_all_laws(kernel, x, monkeypatch, rtol, rows=None, passes=True):
    gram = matrix_of(kernel, x)
    for way in WAYS if passes else WAYS[1:]:
        with monkeypatch.context() as patch:
            take(patch, way, rows)
            assert_operator_is(kernel.operator(x), gram, rtol, vector=way == "passes")
    with monkeypatch.context() as patch:
        take(patch, "gradients", rows)
        assert_laws_of_the_jacobian(kernel.operator(x), gram, rtol, passes)


# -- the Jacobian, in batches -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "outputs"), FEW)
def test_products_are_those_of_the_matrix(name, outputs, monkeypatch, x64):
    f, params, x, _ = function_case(name)  # 7 examples in batches of 3 and of 6: none divides them
    assert_all_laws(nb.empirical_ntk(f, params, outputs=outputs), x, monkeypatch, 1e-12, rows=3)


@pytest.mark.slow
@pytest.mark.parametrize("outputs", ["all", "mean"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_products_of_every_function(name, outputs, monkeypatch, x64):
    f, params, x, _ = function_case(name)
    kernel = nb.empirical_ntk(f, params, outputs=outputs)
    assert_all_laws(kernel, x, monkeypatch, 1e-12, rows=3, passes=name not in WITHOUT_JVP)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETS)
def test_products_of_every_net(name, monkeypatch, x64):
    net, shape = net_case(name)
    x = vectors(5, *shape)
    kernel = nb.empirical_ntk(net.apply, net.init(jax.random.key(0), shape), outputs="all")
    assert_all_laws(kernel, x, monkeypatch, 1e-12, rows=2)


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYERS)
def test_products_of_every_layer(name, monkeypatch, x64):
    net, shape = LAYERS[name]
    params = net.init(jax.random.key(0), shape)
    if not jax.tree.leaves(params):
        pytest.skip("without parameters")
    x = vectors(5, *shape)
    try:
        kernel = nb.empirical_ntk(net.apply, params, outputs="sum")
        kernel(x[:1])
    except InputError as error:
        pytest.skip(str(error))  # the layer has no parameters
    assert_all_laws(kernel, x, monkeypatch, 1e-12, rows=2)


@pytest.mark.parametrize("way", [pytest.param("passes", marks=pytest.mark.slow), "gradients"])
def test_products_in_float32_are_as_good_as_its_rounding(way, monkeypatch):
    f, params, x, _ = function_case("cnn")
    take(monkeypatch, way)
    kernel = nb.empirical_ntk(f, params, outputs="all")
    assert kernel.operator(x).dtype == np.float32
    # Sums of up to 72 products of rounded numbers.
    assert_operator_is(kernel.operator(x), matrix_of(kernel, x), 30 * np.finfo(np.float32).eps, vector=False)


def test_a_small_budget_takes_small_batches_and_few_vectors_at_once(x64):
    f, params, x, _ = function_case("mlp")
    make = functools.partial(nb.empirical_ntk, f, params, outputs="all")
    gram = matrix_of(make(), x)
    least = make(memory_budget=1).operator(x)
    assert least.jacobian.layout.small == least.jacobian.vectors_at_once() == 1
    assert not least.jacobian.keeps
    assert_operator_is(least, gram, 1e-12, vector=False)  # three products of one vector
    size = least.num_parameters * least.dtype.itemsize
    assert make(memory_budget=8 * size).operator(x).jacobian.vectors_at_once() == 2  # a quarter of the budget


def test_layouts_hold_every_example_once():
    """Batches fill a device's share exactly, and padding is only a part of each batch."""
    for n in (1, 2, 3, 7, 100, 101, 1000):
        for small, large in ((1, 1), (1, 7), (3, 4), (5, 128), (200, 200), (64, 128)):
            layout = Layout.of(n, 2, small, large)
            assert 1 <= layout.small <= small
            assert layout.large <= large
            assert layout.large % layout.small == 0
            assert layout.share == layout.large * layout.num_batches
            assert 0 <= layout.share - n < (layout.num_batches + 1) * layout.small
    layout = Layout.of(7, 2, 3, 6)
    rows = vectors(14, 3).astype(np.float32)
    packed = np.asarray(layout.pack(rows))
    assert packed.shape == (1, 12, 2, 3)
    assert not packed[:, 7:].any()
    np.testing.assert_array_equal(layout.unpack(jnp.asarray(packed)), rows)
    inputs = [np.asarray(batch[0]) for batch, _ in layout.batches(np.arange(7), layout.small)]
    np.testing.assert_array_equal(np.concatenate(inputs), [0, 1, 2, 3, 4, 5, 6, 0, 0, 0, 0, 0])


def test_one_example(monkeypatch, x64):
    f, params, x, _ = function_case("mlp", n=1)
    kernel = nb.empirical_ntk(f, params, outputs="all")
    take(monkeypatch, "gradients")
    assert_operator_is(kernel.operator(x), matrix_of(kernel, x), 1e-12, vector=False)


def test_held_factors_give_the_same_products(monkeypatch, x64):
    f, params, x, _ = function_case("mlp")
    take(monkeypatch, "gradients held", rows=3)
    operator = nb.empirical_ntk(f, params, outputs="all").operator(x)
    first = operator @ vectors(14, 3)
    assert operator.jacobian.keeps
    assert operator.jacobian.layout.share > operator.jacobian.layout.small
    np.testing.assert_array_equal(operator @ vectors(14, 3), first)


def test_cheaper_way_is_taken():
    """Single vectors use VJPs unless factors are kept for many products, or VJPs do not fit. Blocks use gradients."""
    rng = np.random.default_rng(0)
    params = {"w": rng.normal(size=(8, 64)).astype(np.float32), "o": rng.normal(size=(64, 4)).astype(np.float32)}
    x = rng.normal(size=(200, 8)).astype(np.float32)
    make = functools.partial(nb.empirical_ntk, two_layers, params, outputs="all")
    tight, loose = make(memory_budget=2**16).operator(x), make().operator(x)
    assert not tight.jacobian.keeps
    assert loose.jacobian.keeps
    assert tight.uses_vjp(1)
    assert not tight.uses_vjp(64)
    assert not loose.uses_vjp(1)
    assert make().operator(x, num_products=1).uses_vjp(1)
    # A pass keeps, per example, the inputs and derivatives of two layers: 8 + 64 and 64 + 4 numbers.
    assert tight.jacobian.pass_bytes == 4 * 140
    assert tight.jacobian.layout.large <= tight.jacobian.pass_rows(1) == 2**16 // (jacobian.TANGENT_SHARE * 4 * 140)
    assert make(memory_budget=2).operator(x).jacobian.layout.large == 1
    assert not make(memory_budget=2).operator(x).uses_vjp(1)
    mean = nb.empirical_ntk(two_layers, params, outputs="mean").operator(x)
    assert mean.jacobian.pass_bytes == 4 * tight.jacobian.pass_bytes  # VJPs take every output separately


@pytest.mark.parametrize("num_products", [1, 16])
def test_a_product_does_not_depend_on_what_was_asked_before(num_products, x64):
    """The way depends only on the arguments: factors kept from earlier products change no bit."""
    f, params, x, _ = function_case("mlp")
    kernel = nb.empirical_ntk(f, params, outputs="all")
    operator, v = kernel.operator(x, num_products=num_products), vectors(14, 3)
    ways = [operator.uses_vjp(count) for count in range(1, 8)]
    first = operator @ v
    for _ in range(4):
        operator.diagonal()
        np.testing.assert_array_equal(operator @ v, first)
    assert [operator.uses_vjp(count) for count in range(1, 8)] == ways
    np.testing.assert_array_equal(
        (2.0 * operator).weighted(np.full(7, 1 / 7)) @ v, 2.0 * operator.weighted(np.full(7, 1 / 7)) @ v
    )


def test_multiples_and_weighted_operators_share_the_jacobian(x64):
    f, params, x, _ = function_case("mlp")
    operator = nb.empirical_ntk(f, params, outputs="all").operator(x)
    assert (2.0 * operator).jacobian is operator.weighted(np.full(7, 1 / 7)).jacobian is operator.jacobian


def test_operators_know_their_kernel_and_inputs():
    """The source of a multiple or a sum is the kernel that has this operator."""
    f, params, x, _ = function_case("mlp")
    kernel, limit = nb.empirical_ntk(f, params), nb.infinite_ntk(nb.nets.mlp(depth=1))
    for made in (kernel, limit, kernel + limit, kernel + kernel, kernel.centered(x), limit.centered(x)):
        source = made.operator(x).source
        assert source.kernel is made
        np.testing.assert_array_equal(source.x, x)
    doubled = (2.0 * kernel.operator(x)).source
    assert_near(doubled.kernel(x), 2.0 * kernel(x), 1e-6)
    assert (2.0 * kernel).operator(x).source.kernel.kernel is kernel
    assert kernel.operator(x).weighted(np.full(7, 1 / 7)).source is None
    assert nb.kernels.as_operator(np.eye(7)).source is None


@pytest.mark.parametrize("way", ["passes", pytest.param("gradients", marks=pytest.mark.slow)])
def test_the_kernel_of_one_layer_is_that_of_its_columns(way, monkeypatch, x64):
    f, params, x, _ = function_case("mlp")
    parts = nb.empirical_ntk_by_layer(f, params, outputs="all")
    one, two = parts["[1]['w']"], parts["[2]['b']"]
    take(monkeypatch, way)
    assert_operator_is(one.operator(x), matrix_of(one, x), 1e-12, vector=False)
    assert_near(
        (one + two).operator(x) @ vectors(14, 3), (matrix_of(one, x) + matrix_of(two, x)) @ vectors(14, 3), 1e-12
    )


@pytest.mark.slow
def test_many_outputs_under_a_mean(monkeypatch, x64):
    """Outputs that differ only by weights are folded: fewer coordinates than VJPs have, and the same kernel."""
    f = lambda params, x: jnp.tanh(x @ params["a"]) @ params["o"]  # noqa: E731
    params = {"a": vectors(3, 4), "o": vectors(4, 40)}
    x = vectors(5, 3, seed=1)
    kernel = nb.empirical_ntk(f, params, outputs="mean")
    outputs_apart = np.asarray(jax.jit(jax.jacfwd(f))(params, x)["a"]).reshape(5, -1)
    last = np.tanh(x @ params["a"])
    gram = outputs_apart @ outputs_apart.T / 40 + last @ last.T
    assert kernel.operator(x).num_parameters < 40 * (12 + 160) // 10
    for way in WAYS[:2]:
        take(monkeypatch, way, rows=2)
        assert_operator_is(kernel.operator(x), gram, 1e-12, vector=False)


@pytest.mark.parametrize("outputs", ["all", "mean"])
def test_embeddings_beside_their_table(outputs, x64):
    """Indices before or after the table stand for no row: not for the last one, nor for the first."""
    rng = np.random.default_rng(0)
    indices = jnp.asarray([[0, 6, -1], [-9, 7, 3], [3, 3, 12], [-1, -2, 99]])[..., None]
    lookup = Lookup(0.5, indices, jnp.asarray(rng.normal(size=(4, 2, 3, 2))), 7)
    rows = 2 if outputs == "all" else 1
    v, u = rng.normal(size=(4, rows, 3)), rng.normal(size=(28 // rows, 3))

    def reordered(vectors):  # the coordinates of a look-up have its rows first, those of gradients the outputs
        return vectors.reshape(7, 2 // rows, 2, 3).swapaxes(0, 1).reshape(-1, 3)

    @jax.jit  # one program, since compilation dominates the time
    def both(lookup, v, u):
        whole = lookup.formed()
        one = reordered(lookup.pull(v)), lookup.push(u, rows), lookup.squares()
        return one, (whole.pull(v), whole.push(reordered(u), rows), whole.squares())

    for got, expected in zip(*both(lookup, v, u), strict=True):
        assert_near(got, expected, 1e-12)
    assert not np.any(np.asarray(both(lookup, v, u)[0][1])[3])  # the last example has no index in the table


# -- types of parameters and inputs -----------------------------------------------------------------------------------


def test_a_function_without_a_jvp_uses_gradients(monkeypatch, x64):
    """A custom_vjp has no JVP. Its kernel is that of its custom derivative, computed from per-example gradients."""
    f, params, x, _ = function_case("custom derivative")
    # No factors are held, so that VJPs would be cheaper for one vector.
    monkeypatch.setattr(Jacobian, "_can_keep", lambda jacobian: False)
    kernel = nb.empirical_ntk(f, params, outputs="all")
    operator = kernel.operator(x)
    plain = nb.empirical_ntk(lambda p, x: jnp.tanh(x @ p["w"]) @ p["o"], params, outputs="all").operator(x)
    assert plain.uses_vjp(1)
    assert not operator.uses_vjp(1)
    assert_operator_is(operator, matrix_of(kernel, x), 1e-12)
    assert_laws_of_the_jacobian(operator, matrix_of(kernel, x), 1e-12, passes=False)


def two_layers(params, x):
    return jnp.tanh(x @ params["w"]) @ params["o"]


@pytest.mark.parametrize(
    ("first", "second"),
    [("bfloat16", "bfloat16"), *(pytest.param(*pair, marks=pytest.mark.slow) for pair in (("bfloat16", "float32"),))],
)
def test_narrow_parameters(first, second, monkeypatch):
    """Vectors and sums over examples are float32 or wider, for parameters of any type."""
    monkeypatch.setattr(Jacobian, "_can_keep", lambda jacobian: False)
    rng = np.random.default_rng(0)
    params = {"w": jnp.asarray(rng.normal(size=(3, 8)), first), "o": jnp.asarray(rng.normal(size=(8, 2)), second)}
    x = rng.normal(size=(60, 3)).astype(np.float32)
    kernel = nb.empirical_ntk(two_layers, params, outputs="all")
    operator = kernel.operator(x)
    assert operator.dtype == np.float32
    assert not operator.uses_vjp(1)
    gram = matrix_of(kernel, x)
    # Gradients and entries of the kernel are rounded to bfloat16, by 2^-8 each. Sums over examples are not.
    assert_operator_is(operator, gram, 2 * 2.0**-8, vector=False)


@pytest.mark.slow
def test_double_inputs_where_jax_is_single(monkeypatch, tmp_path):
    take(monkeypatch, "gradients")  # one way: the same numbers
    f, params, x, _ = function_case("mlp")
    doubles = np.asarray(x, np.float64)
    kernel = nb.empirical_ntk(f, params, outputs="all")
    operator = kernel.operator(doubles)
    assert operator.dtype == np.float32
    block = vectors(14, 2)
    assert (operator @ block).dtype == np.float32
    assert_near(operator @ block, matrix_of(kernel, x) @ block, 1e-5)
    np.testing.assert_array_equal(operator @ block, kernel.operator(x) @ block)
    np.testing.assert_array_equal(kernel.operator(doubles.tolist()) @ block, kernel.operator(x) @ block)
    np.save(tmp_path / "x.npy", doubles)
    mapped = kernel.operator(np.load(tmp_path / "x.npy", mmap_mode="r"))
    assert isinstance(mapped.jacobian.x, np.memmap)  # read batch by batch, and not before
    np.testing.assert_array_equal(mapped @ block, kernel.operator(x) @ block)


@pytest.mark.parametrize("outputs", ["all", "mean"])
def test_every_product_is_at_highest_precision(outputs, monkeypatch):
    """On a CPU this does not matter. On an accelerator, one product at default precision would spoil the result."""
    f, params, x, _ = function_case("embedding")
    operator = nb.empirical_ntk(f, params, outputs=outputs).operator(x[:1])
    on_parameters = operator.on_parameters()
    v, u = (each.pack(vectors(each.shape[0], 1).astype(np.float32)) for each in (operator, on_parameters))
    found = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((1, *leaf.shape), leaf.dtype), operator.jacobian.factors)

    def diagonal(found):
        return by_gradients.write_squares((found, jnp.int32(0), None), v)

    programs = [("passes", operator.product, v), ("gradients", operator.product, v)]
    programs += [("gradients", on_parameters.product, u), ("gradients", diagonal, found)]
    for way, program, argument in programs:
        take(monkeypatch, way)
        text = str(jax.make_jaxpr(program)(argument))
        assert "HIGHEST" in text
        assert "precision=None" not in text


# -- operators made from operators ------------------------------------------------------------------------------------


@pytest.fixture
def mlp_of_two(x64):
    """A kernel of two outputs, its inputs and matrix, and another kernel with its matrix."""
    f, params, x, _ = function_case("mlp")
    _, others, _, _ = function_case("mlp", seed=1)
    kernels = [nb.empirical_ntk(f, each, outputs="all") for each in (params, others)]
    return x, *((kernel, matrix_of(kernel, x)) for kernel in kernels)


@pytest.mark.slow
def test_sums_and_multiples(mlp_of_two):
    x, (one, gram1), (two, gram2) = mlp_of_two
    operator, other = one.operator(x), two.operator(x)
    for factor in (2.5, 0.0, -1.5, 3, np.float32(2.0), np.array(2.0), jnp.array(2.0)):
        for scaled in (factor * operator, operator * factor):
            assert_operator_is(scaled, float(factor) * gram1, 1e-12)
    assert isinstance(2.5 * operator, JacobianOperator)  # a multiple is an operator of the same kind
    assert_laws_of_the_jacobian(2.5 * operator, 2.5 * gram1, 1e-12)
    assert_operator_is(operator / 4, gram1 / 4, 1e-12)
    assert_operator_is(operator + other, gram1 + gram2, 1e-12)
    total = (operator + -0.5 * other) * 3.0
    assert_operator_is(total, 3 * gram1 - 1.5 * gram2, 1e-12)
    for each, gram in ((total, 3 * gram1 - 1.5 * gram2), (2.5 * operator, 2.5 * gram1), (-1.0 * operator, -gram1)):
        assert_near(each.matrix(), gram, 1e-12)
    assert_operator_is(operator + nb.kernels.as_operator(gram2.reshape(7, 2, 7, 2)), gram1 + gram2, 1e-12)
    assert_operator_is(nb.kernels.as_operator(gram2.reshape(7, 2, 7, 2)) + operator, gram1 + gram2, 1e-12)
    assert_operator_is((one + 2.0 * (-1.0 * two)).operator(x), gram1 - 2 * gram2, 1e-12)  # kernels as operators


@pytest.mark.slow
def test_sums_of_two_precisions(monkeypatch, mlp_of_two):
    """The sum has the wider type, and each part is computed in its own."""
    x, (double, gram), _ = mlp_of_two
    narrow = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), double.gradients.params)
    single = nb.empirical_ntk(double.gradients.f, narrow, outputs="all")
    matrix = nb.kernels.as_operator(gram.reshape(7, 2, 7, 2))
    v = vectors(14, 3)
    expected = matrix_of(single, x) + gram
    for way in WAYS[1:2]:
        take(monkeypatch, way)
        assert (single.operator(x) @ v).dtype == np.float32
        assert_near(single.operator(x) @ v, matrix_of(single, x) @ v, 1e-6)
        for total in (single.operator(x) + matrix, matrix + single.operator(x)):
            assert total.dtype == (total @ v).dtype == np.float64
            assert_near(total @ v, expected @ v, 1e-6)
    assert_near(-1.0 * (single.operator(x) + matrix).centered() @ v, -centered(expected, 2) @ v, 1e-6)


def centered(gram, num_outputs):
    """C K C for the dense matrix of the projection C."""
    n = len(gram) // num_outputs
    projection = np.eye(len(gram)) - np.kron(np.ones((n, n)) / n, np.eye(num_outputs))
    return projection @ gram @ projection


def test_centering_is_that_of_the_dense_matrix(mlp_of_two):
    x, (kernel, gram), (_, other) = mlp_of_two
    operator = kernel.operator(x).centered()
    assert_operator_is(operator, centered(gram, 2), 1e-12)
    assert_near(operator.matrix(), centered(gram, 2), 1e-12)
    # Its null space consists of one constant per output.
    assert np.abs(operator @ np.tile(np.eye(2), (7, 1))).max() <= 1e-12 * np.abs(gram).max()
    assert_operator_is(operator.centered(), centered(gram, 2), 1e-12)
    nngp = nb.empirical_nngp(kernel.gradients.f, kernel.gradients.params)
    assert_operator_is(nngp.centered(x).operator(x), centered(matrix_of(nngp, x), 1), 1e-12)  # by blocks
    mean = np.einsum("nama->nm", gram.reshape(7, 2, 7, 2))
    assert_operator_is(nb.kernels.as_operator(mean).centered(), centered(mean, 1), 1e-12)
    total = (kernel.operator(x) + nb.kernels.as_operator(other.reshape(7, 2, 7, 2))).centered()
    assert_operator_is(total, centered(gram + other, 2), 1e-12)


def test_weights_are_of_examples(mlp_of_two):
    x, (kernel, gram), (_, other) = mlp_of_two
    weights = np.arange(1.0, 8.0) / 28
    roots = np.repeat(weights**0.5, 2)
    expected = roots[:, None] * gram * roots
    operator = kernel.operator(x)
    assert isinstance(operator.weighted(weights), JacobianOperator)
    assert_operator_is(operator.weighted(weights), expected, 1e-12)
    assert_laws_of_the_jacobian(operator.weighted(weights), expected, 1e-12)
    assert_operator_is((2.0 * operator).weighted(weights) * 3.0, 6 * expected, 1e-12)
    assert_near((2.0 * operator).weighted(weights).matrix(), 2 * expected, 1e-12)
    assert_near((-2.0 * operator).weighted(weights).matrix(), -2 * expected, 1e-12)
    assert_operator_is((-1.0 * operator).weighted(weights), -expected, 1e-12)
    total = (operator + nb.kernels.as_operator(other.reshape(7, 2, 7, 2))).weighted(weights)
    assert_operator_is(total, expected + roots[:, None] * other * roots, 1e-12)
    assert_operator_is(operator.weighted(weights).centered(), centered(expected, 2), 1e-12)


def test_scipy_finds_the_eigenvalues(mlp_of_two):
    x, (kernel, gram), _ = mlp_of_two
    expected = np.linalg.eigvalsh(gram)
    for operator in (
        kernel.operator(x),
        nb.kernels.as_operator(gram),
        kernel.operator(x) * 0.5 + 0.5 * kernel.operator(x),
    ):
        linear = operator.to_scipy()
        assert linear.shape == gram.shape
        assert linear.dtype == np.float64
        values = scipy.sparse.linalg.eigsh(linear, 4, return_eigenvectors=False, v0=np.ones(14))
        assert_near(np.sort(values), expected[-4:], 1e-10)
        # Matrices and the adjoint are products like any other.
        assert_near(linear.matmat(np.eye(14)), gram, 1e-12)
        assert_near(linear.rmatvec(np.ones(14)), gram @ np.ones(14), 1e-12)
        assert_near(linear.H @ np.eye(14), gram, 1e-12)


def test_matrices_in_other_forms(mlp_of_two, tmp_path):
    x, (kernel, gram), _ = mlp_of_two
    network = kernel.gradients.f, kernel.gradients.params
    mean, whole = (nb.empirical_nngp(*network, outputs=outputs) for outputs in ("mean", "all"))
    forms = {
        "array": (gram, gram, 1),
        "array of outputs": (gram.reshape(7, 2, 7, 2), gram, 2),
        "JAX array": (jnp.asarray(gram), gram, 1),
        "whole numbers": (np.arange(9).reshape(3, 3) + np.arange(9).reshape(3, 3).T, None, 1),
        "SciPy's": (scipy.sparse.linalg.aslinearoperator(gram), gram, 1),
        "SciPy's, sparse": (scipy.sparse.linalg.aslinearoperator(scipy.sparse.csr_array(np.diag(gram[0]))), None, 1),
        "on disk": (nb.gram_on_disk(tmp_path / "mean", mean, x, rows=3), matrix_of(mean, x), 1),
        "on disk, outputs": (nb.gram_on_disk(tmp_path / "all", whole, x, rows=3), matrix_of(whole, x), 2),
        "operator": (kernel.operator(x), gram, 2),
    }
    for name, (form, expected, num_outputs) in forms.items():
        operator = nb.kernels.as_operator(form)
        if expected is None:
            expected = form @ np.eye(form.shape[0])
        assert operator.num_outputs == num_outputs, name
        assert_operator_is(operator, np.asarray(expected, float), 1e-12)


def test_the_diagonal_of_a_long_linear_operator_is_found_by_blocks(x64):
    values = np.arange(1.0, 151.0)
    seen = []

    def times(block):
        seen.append(block.shape[1])
        return values[:, None] * block

    shape = (150, 150)
    linear = scipy.sparse.linalg.LinearOperator(shape, matvec=lambda v: values * v, matmat=times, dtype=float)
    np.testing.assert_array_equal(nb.kernels.as_operator(linear).diagonal(), values)
    assert max(seen) <= 64


# -- products from blocks of a kernel ---------------------------------------------------------------------------------


def test_kernels_of_infinite_width_by_blocks(x64):
    net = nb.nets.mlp(depth=1)
    kernel = nb.infinite_ntk(net) + 0.5 * nb.infinite_nngp(net)
    x = vectors(11, 3)
    assert_operator_is(kernel.operator(x), matrix_of(kernel, x), 1e-12)


@pytest.mark.parametrize(("outputs", "velocity"), [("all", False), pytest.param("mean", True, marks=pytest.mark.slow)])
def test_kernels_by_blocks_that_do_not_divide_the_inputs(outputs, velocity, x64):
    f, params, x, _ = function_case("mlp")
    make = functools.partial(nb.empirical_nngp, f, params, outputs=outputs)
    if velocity:  # which is indefinite
        make = functools.partial(nb.ntk_velocity, f, params, direction=params, outputs=outputs)
    gram = matrix_of(make(), x)
    kernel = make(memory_budget=budget_for(make, x, 3))
    assert_operator_is(kernel.operator(x), gram, 1e-12)
    assert_operator_is(kernel.operator(x).centered(), centered(gram, len(gram) // 7), 1e-12)


def test_blocks_have_the_type_of_the_kernel(x64):
    """Inputs may be narrower than parameters, or whole numbers."""
    f, params, x, _ = function_case("mlp")
    kernel = nb.empirical_nngp(f, params)
    single = np.asarray(x, np.float32)
    assert kernel(single).dtype == kernel.operator(single).dtype == np.float64
    assert_operator_is(kernel.operator(single), matrix_of(kernel, single), 1e-12)
    f, params, tokens, _ = function_case("embedding")
    kernel = nb.empirical_nngp(f, jax.tree.map(lambda leaf: leaf.astype(jnp.float32), params))
    assert kernel(tokens).dtype == kernel.operator(tokens).dtype == np.float32


# -- compiled programs, and memory ------------------------------------------------------------------------------------


@functools.cache
def compilations():
    """A list to which every program that is compiled from now on is appended."""
    found = []

    def listen(event, duration, **_):
        if "backend_compile" in event:
            found.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    return found


@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_compiled_or_traced_from_one_product_to_the_next(way, monkeypatch):
    traced = []

    def f(params, x):
        traced.append(x.shape)
        return jnp.tanh(x @ params["w"]) @ params["o"]

    rng = np.random.default_rng(0)
    params = {"w": rng.normal(size=(3, 4)).astype(np.float32), "o": rng.normal(size=(4, 2)).astype(np.float32)}
    x = rng.normal(size=(29, 3)).astype(np.float32)
    take(monkeypatch, way, rows=4)
    kernel = nb.empirical_ntk(f, params, outputs="all")
    operator, v = kernel.operator(x), vectors(58, 2)
    on_parameters = operator.on_parameters()
    u = vectors(on_parameters.shape[0], 2)
    compiled = compilations()
    compiled.clear()
    before = operator @ v, on_parameters @ u, operator.diagonal()
    assert compiled  # the counter works
    assert traced
    compiled.clear()
    traced.clear()
    again = operator @ v, on_parameters @ u, operator.diagonal()
    other = nb.empirical_ntk(f, params, outputs="all").operator(x + 0.0)  # nor for other inputs of the same number
    again_there = other @ v, other.on_parameters() @ u, other.diagonal()
    assert not traced
    assert not compiled
    for first, second, third in zip(before, again, again_there, strict=True):
        np.testing.assert_array_equal(first, second)
        np.testing.assert_array_equal(first, third)


def test_a_compiled_program_is_as_large_for_any_number_of_examples(monkeypatch):
    f, params, x, _ = function_case("cnn", n=96)
    x = np.asarray(x)

    def sizes(n):
        operator = nb.empirical_ntk(f, params, outputs="all").operator(x[:n])
        whole = operator.jacobian
        layout, mesh = whole.layout, whole.layout.mesh
        batch, start = next(layout.batches(whole.x, layout.small))
        large, _ = next(layout.batches(whole.x, layout.large))
        v = operator.pack(np.ones((2 * n, 2), np.float32))
        found = by_gradients.factors(whole.replicated, mesh, batch)
        tangents = jax.tree.map(lambda total: total[0], whole._zero_coordinates(2))
        chosen = [jnp.zeros((2, *leaf.shape), leaf.dtype) for leaf in jax.tree.leaves(params)]
        totals = [leaf[None] for leaf in chosen]
        of, both = (whole.replicated, large), (found, tangents, operator.roots, start, mesh)
        programs = [
            lambda: by_gradients.factors(whole.replicated, mesh, batch),
            lambda: by_gradients.add_pulled((found, v, start, mesh), whole._zero_coordinates(2)),
            lambda: by_gradients.write_pushed((found, tangents, start, mesh), v),
            lambda: by_gradients.add_pushed_and_pulled(both, whole._zero_coordinates(2)),
            lambda: by_vjp.add_vjp((*of, v, start, mesh), totals),
            lambda: by_vjp.write_jvp((*of, chosen, start, mesh), v),
        ]
        return [count_equations(jax.make_jaxpr(program)().jaxpr) for program in programs]

    with monkeypatch.context() as patch:
        take(patch, "passes", rows=6)
        small, large = sizes(24), sizes(96)
    assert small == large
    assert min(small) > 3  # equations were counted


MEMORY = """
import resource, sys
import jax, numpy as np, ntkbias as nb
from ntkbias.kernels.operators import Jacobian, JacobianOperator
way, n = sys.argv[1], int(sys.argv[2])
JacobianOperator.uses_vjp = lambda operator, k: way == "passes"
Jacobian._can_keep = lambda jacobian: False
net = nb.nets.mlp(256, 2, 2)
x = np.random.default_rng(0).normal(size=(n, 8)).astype(np.float32)
kernel = nb.empirical_ntk(net.apply, net.init(jax.random.key(0), (8,)), outputs="all", memory_budget=2**25)
small = kernel.operator(x[:2048])
operator = small if n == 2048 else kernel.operator(x)
operator @ np.ones((2 * n, 4), np.float32)
operator.on_parameters() @ np.ones((operator.num_parameters, 4), np.float32)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


CONVOLUTIONS = """
import resource, sys
import jax, numpy as np, ntkbias as nb
outputs, k, budget = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
net = nb.nets.cnn(64, 3, 10, readout="pool")
x = np.random.default_rng(0).normal(size=(64, 32, 32, 3)).astype(np.float32)
kernel = nb.empirical_ntk(net.apply, net.init(jax.random.key(0), (32, 32, 3)), outputs=outputs, memory_budget=budget)
operator = kernel.operator(x)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
operator @ np.ones((operator.shape[0], k), np.float32)
print(1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("outputs", "k"), [("mean", 1), ("all", 8)])
def test_passes_stay_within_the_memory_budget(outputs, k):
    """Ten outputs, or eight vectors, of 64 images at once would take 700 MB."""
    budget = 2**26
    command = [sys.executable, "-c", CONVOLUTIONS, outputs, str(k), str(budget)]
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    peak = int(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
    print(f"{outputs}: {peak / 2**20:.0f} MiB")
    assert peak < 3 * budget  # compilation takes another 60 MB or so


@pytest.mark.slow
@pytest.mark.parametrize("way", ["passes", "gradients"])
def test_the_memory_of_a_product_does_not_grow_with_the_examples(way):
    """With sixteen times as many examples the peak grows only by vectors and inputs, 3 MB in all, and by chance."""

    def peak(n):
        command = [sys.executable, "-c", MEMORY, way, str(n)]
        environment = {**os.environ, "PYTHONPATH": os.getcwd()}
        return int(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)

    few, many = peak(2048), peak(16 * 2048)
    print(f"{way}: {few / 2**20:.0f} MiB, {many / 2**20:.0f} MiB")
    # The gradients of all examples would be 18 GB, their factors 200 MB, the kernel 17 GB.
    assert many - few < 60 * 2**20


# -- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("unchecked")
class TestBadInput:
    @pytest.fixture
    def operator(self):
        f, params, x, _ = function_case("mlp")
        return nb.empirical_ntk(f, params, outputs="all").operator(x)

    @pytest.mark.parametrize("shape", [(13,), (7, 2), (14, 2, 1), (), (14, 0), (0,)])
    def test_shapes_of_vectors(self, operator, shape):
        with pytest.raises(InputError, match=r"Expected a vector \(14,\) or a block \(14, k\); got shape .* reshape"):
            operator @ np.ones(shape)

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_vectors_that_are_not_finite(self, operator, value):
        with pytest.raises(InputError, match="Expected finite numbers in the vectors; got 1 NaN or infinite of 14"):
            operator @ np.where(np.arange(14) == 3, value, 1.0)

    @pytest.mark.parametrize("value", ["vector", [object()] * 14])
    def test_vectors_of_other_things(self, operator, value):
        with pytest.raises(InputTypeError, match="Expected the vectors to be an array of numbers; got"):
            operator @ value

    def test_complex_vectors(self, operator):
        with pytest.raises(InputTypeError, match="Expected the vectors to be an array of real numbers; got complex"):
            operator @ (np.ones(14) * 1j)

    def test_kernels_that_are_not_finite(self):
        kernel = nb.empirical_ntk(lambda p, x: jnp.sqrt(x @ p), jnp.ones((3, 1)))
        x = np.ones((5, 3))
        x[4] = -1.0  # the check of independence looks at the first three
        operator = kernel.operator(x)
        with pytest.raises(InputError, match="Expected inputs at which the kernel is finite; got NaN or infinity in"):
            operator @ np.ones(5)

    def test_every_output_apart(self):
        f, params, x, _ = function_case("mlp")
        with pytest.raises(InputError, match="Expected a kernel that is one matrix, of outputs 'mean', 'sum' or 'all'"):
            nb.empirical_ntk(f, params, outputs="each").operator(x)

    @pytest.mark.parametrize("make", [nb.empirical_ntk, nb.empirical_nngp])
    @pytest.mark.parametrize(
        ("x", "message"),
        [
            (np.ones(3), "with two axes or more"),
            (np.ones((0, 3)), "at least one input in x"),
            (np.full((4, 3), np.nan), "finite numbers in x; got 12 NaN"),
            (np.ones((4, 2)), r"to accept x of shape \(4, 2\)"),
            ("inputs", "x to be an array of numbers; got type <U"),
            ([[1.0, 2.0], [3.0]], "x to be an array of numbers; got list"),
        ],
    )
    def test_inputs(self, make, x, message):
        f, params, _, _ = function_case("mlp")
        with pytest.raises(InputError, match=message):
            make(f, params).operator(x)

    def test_numbers_of_products(self):
        f, params, x, _ = function_case("mlp")
        with pytest.raises(InputError, match="Expected num_products to be at least 1; got 0"):
            nb.empirical_ntk(f, params).operator(x, num_products=0)

    def test_late_inputs_that_are_not_finite(self, monkeypatch):
        """A long array is checked piece by piece, including the last piece."""
        monkeypatch.setattr("ntkbias.kernels.form.PIECE_BYTES", 100)
        f, params, x, _ = function_case("mlp", n=40)
        x = np.array(x)
        x[39, 1] = np.inf
        with pytest.raises(InputError, match="finite numbers in x; got 1 NaN or infinite"):
            nb.empirical_ntk(f, params).operator(x)

    @pytest.mark.parametrize("factor", ["2", None, np.ones(2), [1.0]])
    def test_factors_that_are_not_numbers(self, operator, factor):
        assert operator.__mul__(factor) is NotImplemented

    @pytest.mark.parametrize("factor", [np.nan, np.inf])
    def test_factors_that_are_not_finite(self, operator, factor):
        with pytest.raises(InputError, match="Expected finite numbers in the factor of an operator; got 1 NaN or inf"):
            factor * operator

    def test_sums_of_other_things(self, operator):
        with pytest.raises(TypeError, match="unsupported operand"):
            operator + 1.0
        other = nb.kernels.as_operator(np.eye(14))
        message = "on the same rows to add; got 7 examples of 2 outputs and 14 examples of 1 outputs"
        with pytest.raises(InputError, match=message):
            operator + other

    @pytest.mark.parametrize("weights", [np.ones(7), np.ones(14) / 14, -np.ones(7) / 7])
    def test_weights(self, operator, weights):
        with pytest.raises(InputError, match="Expected (one weight for each of 7|positive weights|weights that sum)"):
            operator.weighted(weights)

    def test_the_diagonal_on_parameters(self, operator):
        with pytest.raises(InputError, match=r"Expected a call of trace\(\); got .* Use trace\(\)"):
            operator.on_parameters().diagonal()

    @pytest.mark.parametrize(
        "matrix",
        [
            np.ones((3, 4)),
            np.ones((2, 3, 2, 2)),
            np.ones((2, 3, 3, 2)),
            np.ones((2, 2, 2)),
            np.ones((0, 0)),
            np.ones(4),
        ],
    )
    def test_matrices_that_are_not_square(self, matrix):
        with pytest.raises(
            InputError, match=r"Expected a matrix \(n, n\), or \(n, o, n, o\) for all outputs; got shape"
        ):
            nb.kernels.as_operator(matrix)

    def test_matrices_that_are_not_finite(self):
        with pytest.raises(InputError, match="Expected finite numbers in the matrix; got 4 NaN"):
            nb.kernels.as_operator(np.full((2, 2), np.nan))

    @pytest.mark.parametrize("matrix", ["matrix", None, [[1.0]], lambda v: v, nb.infinite_ntk(nb.nets.mlp(depth=1))])
    def test_other_things_as_operators(self, matrix):
        with pytest.raises(
            InputTypeError, match=r"Expected a kernel on inputs: kernel.operator\(x\), a matrix \(n, n\)"
        ):
            nb.kernels.as_operator(matrix)

    def test_complex_matrices(self):
        with pytest.raises(InputTypeError, match="Expected the matrix to be an array of real numbers; got complex"):
            nb.kernels.as_operator(np.eye(2) * 1j)
        with pytest.raises(InputTypeError, match="Expected an operator of real numbers; got complex128"):
            nb.kernels.as_operator(scipy.sparse.linalg.aslinearoperator(np.eye(2) * 1j))

    def test_stores_and_linear_operators_that_are_not_square(self, tmp_path):
        f, params, x1, x2 = function_case("mlp")
        store = nb.gram_on_disk(tmp_path / "two", nb.empirical_nngp(f, params), x1, x2)
        for matrix in (store, scipy.sparse.linalg.aslinearoperator(np.ones((7, 5)))):
            with pytest.raises(InputError, match=r"Expected a square matrix, .* got one of shape \(7, 5\)"):
                nb.kernels.as_operator(matrix)

    def test_a_store_of_every_output_apart(self, tmp_path):
        f, params, x, _ = function_case("mlp")
        store = nb.gram_on_disk(tmp_path / "each", nb.empirical_nngp(f, params, outputs="each"), x)
        with pytest.raises(
            InputError, match="Expected a single matrix, with outputs 'mean', 'sum' or 'all', for to_scipy"
        ):
            nb.kernels.as_operator(store)
