"""Kernels derived from the empirical NTK: centered kernels, velocity, the pseudo-NTK, and other precisions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import OUTPUTS, assert_near, budget_for, function_case

import ntkbias as nb
from ntkbias.errors import InputError, InputTypeError
from ntkbias.kernels.outputs import arrangement

F, PARAMS, X1, X2 = function_case("mlp")
KEY = jax.random.key(0)
# What needs a kernel, of a symmetric form, or of its operator.
REFUSING = {
    "spectrum": lambda form: nb.spectrum(form, X1),
    "nystrom": lambda form: nb.nystrom(form, X1, 2),
    "compare": lambda form: nb.compare({"a": form}, X1, nb.domains.PointCloud()),
    "sketch": lambda form: nb.kernels.sketch(form, X1, 2, key=KEY),
    "exact_spectrum": lambda form: nb.exact_spectrum(form, nb.domains.Sphere(3), 2),
    "top_modes": lambda form: nb.top_modes(form.operator(X1), 2, key=KEY),
    "alignment": lambda form: nb.alignment(form, X1, jnp.ones(len(X1))),
    "spectral_density": lambda form: nb.spectral_density(form.operator(X1), key=KEY),
    "critical_learning_rate": lambda form: nb.critical_learning_rate(form.operator(X1)),
    "kernel_regression": lambda form: nb.kernel_regression(form.operator(X1), jnp.ones(len(X1))),
    "gradient_flow": lambda form: nb.gradient_flow(form, X1, jnp.ones(len(X1)), [1.0]),
}


def centering(n):
    return np.eye(n) - 1 / n


class TestCentered:
    @pytest.mark.parametrize("outputs", OUTPUTS)
    def test_is_the_doubly_centered_gram_matrix(self, outputs, x64):
        f, params, x1, x2 = function_case("mlp")
        kernel = nb.empirical_ntk(f, params, outputs=outputs)
        axes = arrangement(outputs).axes
        rule = {(0, 1): "ni,ij,mj->nm", (1, 2): "ni,oij,mj->onm", (0, 2): "ni,iajb,mj->namb"}[axes]
        center = centering(len(x1))
        centered = kernel.centered(x1)
        assert_near(centered(x1), np.einsum(rule, center, kernel(x1), center), 1e-12)
        both = centered(jnp.concatenate([x1, x2]))
        first, second = (slice(None),) * axes[0], (slice(None),) * (axes[1] - axes[0] - 1)
        assert_near(centered(x1, x2), both[(*first, slice(len(x1)), *second, slice(len(x1), None))], 1e-12)

    def test_blocks_do_not_matter(self, x64):
        f, params, x1, x2 = function_case("mlp")
        make = lambda **options: nb.empirical_ntk(f, params, **options)  # noqa: E731
        small = make(memory_budget=budget_for(make, x1, 2)).centered(x1)
        assert_near(small(x1, x2), make().centered(x1)(x1, x2), 1e-12)

    def test_infinite_sums_and_multiples(self, x64):
        kernel = (nb.infinite_ntk(nb.nets.mlp(4, 1)) + nb.infinite_nngp(nb.nets.mlp(4, 2))) * 2.0
        x = jnp.asarray(X1, float)
        center = centering(len(x))
        assert_near(kernel.centered(x)(x), center @ np.asarray(kernel(x)) @ center, 1e-12)

    @pytest.mark.usefixtures("unchecked")
    def test_bad_input(self):
        kernel = nb.empirical_ntk(F, PARAMS)
        with pytest.raises(InputError, match=r"Expected at least one input in reference; got shape"):
            kernel.centered(X1[:0])
        with pytest.raises(InputError, match=r"Expected f\(params, x\) to accept x1 of shape"):
            kernel.centered(X1)(X1[:, :2])
        limit = nb.infinite_ntk(nb.nets.mlp(4, 1)).centered(X1)
        with pytest.raises(InputError, match="x1 to hold inputs like the reference inputs of the centered kernel"):
            limit(X1[:, :2])


class TestVelocity:
    @pytest.mark.parametrize("name", ["mlp", "cnn", "attention", "embedding", "tied", "Fourier layer"])
    def test_is_the_difference_quotient(self, name, x64):
        f, params, x1, x2 = function_case(name, n=3, m=2)
        direction = jax.tree.map(lambda p: jnp.cos(jnp.arange(p.size, dtype=p.dtype)).reshape(p.shape), params)

        @jax.jit
        def kernels(step):
            moved = jax.tree.map(lambda p, d: p + step * d, params, direction)
            kernel = nb.empirical_ntk(f, moved, outputs="all")
            return kernel(x1), kernel(x1, x2)

        velocity = nb.ntk_velocity(f, params, direction, outputs="all")
        step = 1e-5  # the error of a central difference is of order step^2, and rounding of order 1e-16 / step
        for got, ahead, behind in zip((velocity(x1), velocity(x1, x2)), kernels(step), kernels(-step), strict=True):
            assert_near(got, (np.asarray(ahead) - np.asarray(behind)) / (2 * step), 1e-7)

    def test_of_a_linear_model_is_zero(self, x64):
        f = lambda params, x: x @ params  # noqa: E731
        params = jnp.ones((3, 2))
        assert not np.any(nb.ntk_velocity(f, params, params)(jnp.eye(3)))

    def test_where_the_read_out_is_zero(self, x64):
        f, params, x1, _ = function_case("mlp")
        params = jax.tree.map(jnp.zeros_like, params)
        assert np.all(np.isfinite(nb.ntk_velocity(f, params, jax.tree.map(jnp.ones_like, params))(x1)))

    def test_blocks_do_not_matter(self, x64):
        f, params, x1, _ = function_case("mlp")
        make = lambda **options: nb.ntk_velocity(f, params, params, **options)  # noqa: E731
        assert_near(make(memory_budget=1)(x1[:4]), make()(x1)[:4, :4], 1e-12)

    def test_custom_vjp(self):
        f, params, x1, _ = function_case("custom derivative")
        with pytest.raises(
            InputError, match=r"Expected the gradient of f\(params, x\) to be differentiable in forward"
        ):
            nb.ntk_velocity(f, params, params)(x1)

    @pytest.mark.usefixtures("unchecked")
    def test_bad_input(self):
        with pytest.raises(InputError, match=r"Expected direction to be a pytree like params, .*; got"):
            nb.ntk_velocity(F, PARAMS, {"other": X1})
        wrong = jax.tree.map(lambda p: jnp.zeros((*p.shape, 1)), PARAMS)
        with pytest.raises(InputError, match=r"Expected direction.* to have the shape of its parameter, \("):
            nb.ntk_velocity(F, PARAMS, wrong)
        nan = jax.tree.map(lambda p: jnp.full(p.shape, jnp.nan), PARAMS)
        with pytest.raises(InputError, match=r"Expected finite numbers in direction"):
            nb.ntk_velocity(F, PARAMS, nan)

    def test_is_a_form_that_keeps_its_kind(self):
        kernel, velocity = nb.empirical_ntk(F, PARAMS), nb.ntk_velocity(F, PARAMS, PARAMS)
        assert isinstance(kernel, nb.Kernel)
        for kernels in (kernel + kernel, -0.5 * kernel, kernel.centered(X1)):
            assert isinstance(kernels, nb.Kernel)
        ahead = kernel + 0.1 * velocity
        for form in (velocity, ahead, velocity + kernel, 2.0 * velocity, velocity.centered(X1)):
            assert isinstance(form, nb.kernels.SymmetricForm)
            assert not isinstance(form, nb.Kernel)
        assert_near(ahead(X1, X2), kernel(X1, X2) + 0.1 * velocity(X1, X2), 1e-5)

    def test_multiplies_and_is_stored(self, x64, tmp_path):
        f, params, x1, _ = function_case("mlp")
        velocity = nb.ntk_velocity(f, params, params, outputs="all")
        gram = np.asarray(velocity(x1))
        size = round(gram.size**0.5)
        assert_near(velocity.operator(x1) @ np.eye(size), gram.reshape(size, size), 1e-12)
        assert_near(np.asarray(nb.gram_on_disk(tmp_path / "velocity", velocity, x1, rows=2)), gram, 1e-12)

    @pytest.mark.usefixtures("unchecked")
    @pytest.mark.parametrize("name", REFUSING)
    def test_what_needs_a_kernel_says_why_this_is_none(self, name):
        velocity = nb.ntk_velocity(F, PARAMS, PARAMS)
        message = (
            "Expected a positive semi-definite kernel; got VelocityForm, whose Gram matrix has negative eigenvalues"
        )
        with pytest.raises(InputTypeError, match=message):
            REFUSING[name](velocity)


class TestPseudo:
    @pytest.fixture
    def network(self):
        net = nb.nets.mlp(12, 2, 6)
        return net.apply, net.init(jax.random.key(0), (3,)), jax.random.normal(jax.random.key(1), (4, 3))

    @pytest.mark.parametrize("outputs", ["mean", "sum"])
    def test_is_unbiased_with_the_stated_error(self, network, outputs, x64):
        f, params, x = jax.tree.map(lambda leaf: jnp.asarray(leaf, float) if hasattr(leaf, "shape") else leaf, network)
        whole = np.asarray(nb.empirical_ntk(f, params, outputs="all")(x)).transpose(0, 2, 1, 3)
        exact = np.trace(whole, axis1=2, axis2=3)
        off = whole * (1 - np.eye(6))
        draws, directions = 400, 2
        stated = np.sqrt((off * (off + off.swapaxes(2, 3))).sum((2, 3)) / directions)
        scale = 1 / 6 if outputs == "mean" else 1.0

        def estimate(key):
            signs = jax.random.rademacher(key, (6, directions), float)
            projected = lambda p, x: f(p, x) @ signs * scale**0.5  # noqa: E731
            return nb.empirical_ntk(projected, params)(x)

        samples = np.asarray(jax.lax.map(jax.jit(estimate), jax.random.split(jax.random.key(2), draws)))
        error = samples.std(0) / draws**0.5
        assert np.all(np.abs(samples.mean(0) - scale * exact) < 4.5 * error + 1e-12)  # some entries have no noise
        np.testing.assert_allclose(
            samples.std(0), scale * stated, rtol=0.15, atol=1e-12
        )  # of 400 draws: 3.5 % each, not normal
        # The function itself is such a draw.
        key = jax.random.key(7)
        got = nb.kernels.pseudo_ntk(f, params, key=key, num_directions=directions, outputs=outputs)(x)
        assert_near(got, estimate(key), 1e-12)

    def test_equal_keys_share_a_program(self, network):
        f, params, _ = network
        make = lambda: nb.kernels.pseudo_ntk(f, params, key=jax.random.key(3)).gradients.f  # noqa: E731
        assert make() == make()
        assert hash(make()) == hash(make())

    @pytest.mark.usefixtures("unchecked")
    def test_bad_input(self, network):
        f, params, _ = network
        with pytest.raises(InputError, match="Expected outputs to be one of mean, sum; got 'all'"):
            nb.kernels.pseudo_ntk(f, params, key=jax.random.key(0), outputs="all")
        with pytest.raises(InputError, match="Expected num_directions to be at least 1; got 0"):
            nb.kernels.pseudo_ntk(f, params, key=jax.random.key(0), num_directions=0)
        for key, got in ((None, "NoneType"), (3, "int")):
            with pytest.raises(InputTypeError, match=f"Expected a key of jax.random, .*; got {got}"):
                nb.kernels.pseudo_ntk(f, params, key=key)
        with pytest.raises(InputTypeError, match=r"Expected f to be a function f\(params, x\)"):
            nb.kernels.pseudo_ntk("f", params, key=jax.random.key(0))


class TestPrecision:
    def test_reaches_every_product(self):
        kernel = nb.empirical_ntk(F, PARAMS, precision="default")
        for precision, wanted in (("default", "DEFAULT"), ("high", "HIGH,"), ("highest", "HIGHEST")):
            kernel = nb.empirical_ntk(F, PARAMS, precision=precision)
            text = str(jax.make_jaxpr(lambda x: kernel.contract(kernel.features(x), None))(X1))  # noqa: B023
            products = [line for line in text.splitlines() if "precision=" in line]
            if precision == "default":
                assert not any("HIGH" in line for line in products)
            else:
                assert products
                assert all(wanted.rstrip(",") in line for line in products)

    @pytest.mark.parametrize("precision", ["highest", "high", "default"])
    def test_is_float32_on_a_cpu(self, precision):
        assert_near(nb.empirical_ntk(F, PARAMS, precision=precision)(X1), nb.empirical_ntk(F, PARAMS)(X1), 1e-6)

    @pytest.mark.usefixtures("unchecked")
    @pytest.mark.parametrize("make", [nb.empirical_ntk, nb.empirical_nngp, nb.empirical_ntk_by_layer])
    def test_bad_input(self, make):
        with pytest.raises(InputError, match="Expected precision to be one of highest, high, default; got 'half'"):
            make(F, PARAMS, precision="half")
