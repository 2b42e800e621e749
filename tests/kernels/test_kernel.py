"""Laws of every kernel, empirical or infinite: JAX's transformations, sums, multiples, bad input."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import BROKEN_GRADIENTS, assert_near, function_case

import ntkbias as nb
from ntkbias.errors import InputError, InputTypeError
from ntkbias.kernels.empirical import EmpiricalNNGP, EmpiricalNTK

F, PARAMS, X1, X2 = function_case("mlp")
NET = nb.nets.mlp(16, 2, 2, b_std=0.3)
KERNELS = {
    "empirical NTK": lambda **options: nb.empirical_ntk(F, PARAMS, **options),
    "empirical NNGP": lambda **options: nb.empirical_nngp(F, PARAMS, **options),
    "infinite NTK": lambda **options: nb.infinite_ntk(NET, **options),
    "infinite NNGP": lambda **options: nb.infinite_nngp(NET, **options),
    "sum": lambda **options: nb.empirical_ntk(F, PARAMS, **options) + 0.5 * nb.infinite_ntk(NET, **options),
}
each_kernel = pytest.mark.parametrize("make", KERNELS.values(), ids=KERNELS.keys())
EPS = 1e-6  # a few float32 roundings


@each_kernel
def test_jit(make):
    kernel = make()
    expected = kernel(X1, X2)
    assert_near(jax.jit(lambda a, b: kernel(a, b))(X1, X2), expected, EPS)  # closed over
    assert_near(jax.jit(lambda k, a, b: k(a, b))(kernel, X1, X2), expected, EPS)  # an argument
    assert_near(eqx.filter_jit(kernel)(X1, X2), expected, EPS)  # called itself


@each_kernel
def test_blocks_inside_jit(make):
    kernel, small = make(), make(memory_budget=1)  # blocks of one row
    assert small.block_rows(X1) == 1
    assert_near(jax.jit(lambda a, b: small(a, b))(X1[:2], X2[:3]), kernel(X1, X2)[:2, :3], EPS)
    assert_near(small(X1[:4]), kernel(X1)[:4, :4], EPS)


@pytest.mark.parametrize("name", ["mlp", "shared read-outs", "lookup of any index"])
@pytest.mark.parametrize("rows", [1, 3])
def test_features_are_made_in_passes(name, rows, monkeypatch):
    """The last pass overlaps the one before it, and arrays that all examples share stay shared."""
    f, params, x, _ = function_case(name)
    monkeypatch.setattr(EmpiricalNTK, "pass_rows", lambda kernel, x: rows)
    kernel = nb.empirical_ntk(lambda params, x: f(params, x), params, outputs="all")  # a function not seen before
    assert len(x) % 3
    assert_near(kernel(x), kernel.contract(kernel.features(x), None), EPS)


def test_checks_of_shapes_run_once(monkeypatch):
    asked, check = [], EmpiricalNTK.check
    monkeypatch.setattr(EmpiricalNTK, "check", lambda kernel, x, name: asked.append(len(x)) or check(kernel, x, name))

    def f(params, x):
        return F(params, x)

    for params in (PARAMS, jax.tree.map(lambda p: 2 * p, PARAMS)):
        nb.empirical_ntk(f, params)(X1, X2)
    jax.jit(lambda x: nb.empirical_ntk(f, PARAMS)(x))(X1[:2])  # traced: checks that need values are skipped
    nb.empirical_ntk(f, PARAMS)(X1[:2])
    assert asked == [len(X1), len(X2), 2, 2]
    for _ in range(2):
        with pytest.raises(InputError, match="Expected f"):
            nb.empirical_ntk(f, PARAMS)(X1[:, :1])


@each_kernel
def test_vmap_over_inputs(make):
    kernel = make()
    stacked = jnp.stack([X1, 2 * X1])
    assert_near(jax.vmap(kernel)(stacked), jnp.stack([kernel(X1), kernel(2 * X1)]), EPS)


def test_vmap_over_stacked_params():
    kernels = [nb.empirical_ntk(F, jax.tree.map(lambda p: scale * p, PARAMS)) for scale in (0.5, 1.0, 2.0)]  # noqa: B023
    expected = jnp.stack([kernel(X1) for kernel in kernels])
    params = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(kernel.gradients.params for kernel in kernels))
    assert_near(jax.vmap(lambda p: nb.empirical_ntk(F, p)(X1))(params), expected, EPS)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *kernels)
    assert_near(jax.vmap(lambda kernel: kernel(X1))(stacked), expected, EPS)


def directional(function, point, direction, step=1e-5):
    """The derivative along a direction by central differences, of relative error step^2."""
    ahead, behind = (jax.tree.map(lambda p, d: p + s * d, point, direction) for s in (step, -step))  # noqa: B023
    return (np.asarray(function(ahead)) - np.asarray(function(behind))) / (2 * step)


@pytest.mark.parametrize(
    ("name", "x2"),
    [("empirical NTK", None), ("empirical NTK", X2), ("infinite NTK", None), ("infinite NTK", X2), ("sum", X2)],
    ids=lambda value: value if isinstance(value, str) else "x1" if value is None else "x1, x2",
)
def test_derivative_by_inputs(name, x2, x64):
    kernel = KERNELS[name]()
    kernel = jax.tree.map(lambda leaf: jnp.asarray(leaf, float), kernel)
    x1 = jnp.asarray(X1, float)
    direction = jnp.cos(jnp.arange(x1.size, dtype=float)).reshape(x1.shape)
    value = jax.jit(lambda x: kernel(x, x2))
    cotangent = jnp.sin(jnp.arange(len(x1), dtype=float))[:, None]

    @jax.jit
    def derivatives(x):
        return jax.jvp(value, (x,), (direction,))[1], jax.grad(lambda x: jnp.sum(cotangent * value(x)))(x)

    tangent, gradient = derivatives(x1)
    assert_near(tangent, directional(value, x1, direction), 1e-7)
    cotangent = jnp.broadcast_to(cotangent, tangent.shape)
    np.testing.assert_allclose(jnp.vdot(gradient, direction), jnp.vdot(cotangent, tangent), rtol=1e-9)


@pytest.mark.parametrize("make", [nb.empirical_ntk, nb.empirical_nngp])
def test_derivative_by_params(make, x64):
    params = jax.tree.map(lambda p: jnp.asarray(p, float), PARAMS)
    direction = jax.tree.map(jnp.cos, params)
    value = jax.jit(lambda p: make(F, p)(X1, X2))

    @jax.jit
    def derivatives(p):
        return jax.jvp(value, (p,), (direction,))[1], jax.grad(lambda p: value(p).sum())(p)

    tangent, gradient = derivatives(params)
    assert_near(tangent, directional(value, params, direction), 1e-7)
    total = sum(jnp.vdot(g, d) for g, d in zip(*map(jax.tree.leaves, (gradient, direction)), strict=True))
    np.testing.assert_allclose(total, tangent.sum(), rtol=1e-9)


def test_derivative_through_a_kernel_passed_as_argument():
    kernel = nb.empirical_ntk(F, PARAMS)
    gradient = jax.grad(lambda k: k(X1).sum())(kernel)
    assert jax.tree.structure(gradient) == jax.tree.structure(kernel)
    *_, last_bias, _ = leaves = jax.tree.leaves(gradient)
    assert all(np.any(leaf != 0) for leaf in leaves if leaf is not last_bias)  # that one adds a constant


def test_scales_of_an_infinite_kernel_are_differentiable(x64):
    x = jnp.asarray(X1, float)

    def net(factor):
        return nb.nets.mlp(4, 2, w_std=1.2 * factor, b_std=0.5 * factor, b_init=0.9 * factor)

    kernel = nb.infinite_ntk(net(1.0))
    scaled = lambda factor: jax.tree.map(lambda leaf: leaf * factor, kernel)(x).sum()  # noqa: E731
    slope = jax.jvp(scaled, (1.0,), (1.0,))[1]
    difference = nb.infinite_ntk(net(1.0 + 1e-5))(x).sum() - nb.infinite_ntk(net(1.0 - 1e-5))(x).sum()
    np.testing.assert_allclose(slope, difference / 2e-5, rtol=1e-8)


@pytest.mark.parametrize("outputs", ["mean", "all"])
def test_sum_and_product_with_a_number(outputs):
    left, right = (KERNELS[name](outputs=outputs) for name in ("empirical NTK", "infinite NTK"))
    expected = np.asarray(left(X1, X2)) + 3 * np.asarray(right(X1, X2))
    assert_near((left + 3.0 * right)(X1, X2), expected, EPS)
    assert_near((right * 3.0 + left)(X1, X2), expected, EPS)
    assert (left + right).outputs == (2.0 * left).outputs == outputs


@pytest.mark.parametrize(
    "factor", [2, 2.0, np.float32(2), np.float64(2), np.array(2.0), jnp.float32(2), jnp.array(2.0)]
)
@pytest.mark.usefixtures("unchecked")  # an integer is no float to beartype
def test_numbers_of_any_kind_scale_a_kernel(factor):
    kernel = nb.infinite_ntk(NET)
    for scaled in (factor * kernel, kernel * factor):
        assert isinstance(scaled, nb.Kernel)
        assert_near(scaled(X1), 2 * kernel(X1), EPS)


def test_a_kernel_is_immutable():
    with pytest.raises(AttributeError):
        nb.infinite_ntk(NET).outputs = "sum"


def test_one_program_serves_equal_nets():
    """A second kernel, made from an equal net, does not compile again."""
    traces = []

    class Counting(nb.layers.Dense):
        def apply(self, params, x):
            traces.append(1)
            return super().apply(params, x)

    params = Counting(2).init(jax.random.key(0), (3,))
    nb.empirical_ntk(Counting(2).apply, params).block_rows(X1)
    once = len(traces)
    nb.empirical_ntk(Counting(2).apply, params)(X1)
    first = len(traces)
    nb.empirical_ntk(Counting(2).apply, params)(X1)
    assert len(traces) - first < first - once  # shapes are looked up again; the block is not traced again


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.usefixtures("unchecked")
class TestBadInput:
    @pytest.fixture
    def kernel(self, name):
        return KERNELS[name]()

    @pytest.mark.parametrize("shape", [(), (3,)])
    def test_rank(self, kernel, shape):
        with pytest.raises(
            InputError, match=r"Expected x1 to be a batch of inputs, with two axes or more; got shape \("
        ):
            kernel(jnp.ones(shape))
        with pytest.raises(InputError, match=r"Expected x2 to be a batch of inputs"):
            kernel(X1, jnp.ones(shape))

    @pytest.mark.parametrize("shape", [(0, 3), (4, 0)])
    def test_empty(self, kernel, shape):
        with pytest.raises(InputError, match=r"Expected at least one input in x1; got shape \("):
            kernel(jnp.ones(shape))
        with pytest.raises(InputError, match=r"Expected at least one input in x2; got shape \("):
            kernel(X1, jnp.ones(shape))

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_not_finite(self, kernel, bad):
        with pytest.raises(InputError, match="Expected finite numbers in x1; got 1 NaN or infinite of 21"):
            kernel(X1.at[1, 2].set(bad))
        with pytest.raises(InputError, match="Expected finite numbers in x2; got 1 NaN or infinite of 15"):
            kernel(X1, X2.at[0, 0].set(bad))

    @pytest.mark.parametrize("bad", [[["a", "b", "c"]], None, [[1.0, 2.0, 3.0], [4.0]], np.array([[object()]])])
    def test_not_numbers(self, kernel, bad):
        with pytest.raises(InputTypeError, match="Expected x1 to be an array of numbers; got"):
            kernel(bad)

    def test_complex(self, kernel):
        """Functions may take complex inputs, infinite networks may not."""
        if isinstance(kernel, EmpiricalNTK | EmpiricalNNGP):
            assert np.isfinite(kernel(1j * X1)).all()
            return
        with pytest.raises(InputError, match=r"as one array of real numbers \(n, ...\); got complex64\[n, 3\]"):
            kernel(1j * X1)

    def test_two_shapes(self, kernel):
        refused = (
            r"x2 of shape \(2, 4\)|one shape; got \(3,\) and \(4,\) after the batch axis"  # by f, or by the kernel
        )
        with pytest.raises(InputError, match=refused):
            kernel(X1, jnp.ones((2, 4)))


@pytest.mark.usefixtures("unchecked")
class TestBadSums:
    def test_outputs(self):
        with pytest.raises(InputError, match="Expected kernels with the same outputs to add; got 'mean' and 'all'"):
            nb.infinite_ntk(NET) + nb.infinite_ntk(NET, outputs="all")

    @pytest.mark.parametrize("operation", [lambda k: k + 1.0, lambda k: k * k, lambda k: k * jnp.ones(2)])
    def test_operands(self, operation):
        with pytest.raises(TypeError):
            operation(nb.infinite_ntk(NET))


def test_factors_and_sums_that_make_no_kernel(unchecked):
    kernel = nb.infinite_ntk(nb.nets.mlp())
    for factor in ("a", None, kernel, jnp.ones(2), 1j):
        with pytest.raises(TypeError):
            kernel * factor
    with pytest.raises(InputError, match="Expected finite numbers in the factor of a kernel"):
        kernel * float("nan")
    one, three = (nb.infinite_ntk(nb.nets.mlp(num_outputs=o), outputs="each") for o in (1, 3))
    with pytest.raises(InputError, match="Expected kernels with the same number of outputs to add"):
        (one + three)(X1)


def test_halves_sum_to_the_kernel():
    kernel = nb.infinite_ntk(nb.nets.mlp())
    np.testing.assert_allclose(sum([kernel / 2, 0.5 * kernel])(X1), kernel(X1), rtol=1e-6)


@pytest.mark.parametrize("name", BROKEN_GRADIENTS)
def test_an_error_names_the_parameter_whose_gradient_is_not_finite(name):
    """For one set of inputs and for two."""
    f, params, x, message = BROKEN_GRADIENTS[name]
    kernel = nb.empirical_ntk(f, params)
    with pytest.raises(
        InputError, match="Expected inputs at which the kernel is finite; got NaN or infinity.*" + message
    ):
        kernel(x)
    with pytest.raises(
        InputError, match="Expected inputs at which the kernel is finite; got NaN or infinity.*" + message
    ):
        kernel(x[:2], x) if name != "products" else kernel(x, x)
