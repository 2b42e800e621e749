"""The top of a spectrum by products: the same as the dense one, whatever repeats, however it is cut short."""

import os
import re
import signal
import subprocess
import sys
import textwrap
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse.linalg

import ntkbias as nb
from ntkbias import files
from ntkbias.eigen import checkpoint, choose, krylov, subspace, vectors
from ntkbias.eigen.subspace import Purpose, random_key
from ntkbias.errors import InputError
from ntkbias.files import StorageError

KEY = jax.random.key(0)


@pytest.fixture(autouse=True)
def small_subspaces(monkeypatch):
    """Subspaces of a few blocks, and no dense way out, so that small matrices take every turn that large ones do."""
    monkeypatch.setattr(krylov, "DENSE", 0)
    monkeypatch.setattr(subspace, "BLOCKS", 4)


def matrix_of(eigenvalues, seed=0):
    """A symmetric matrix with these eigenvalues."""
    rng = np.random.default_rng(seed)
    vectors = np.linalg.qr(rng.normal(size=(len(eigenvalues), len(eigenvalues))))[0]
    return (vectors * np.asarray(eigenvalues)) @ vectors.T


FAST = {("one repeated 40 times", 16), ("pairs", 1), ("rank 12", 16)}


def spectra():
    """Name -> eigenvalues, descending: a power law, repeated eigenvalues, a gap, and finite rank."""
    law = np.arange(1.0, 301) ** -2.0
    return {
        "power law": law,
        "one repeated 40 times": np.concatenate([law[:5], np.full(40, 0.02), 0.01 * law[:255]]),
        "the first repeated": np.concatenate([np.full(30, 1.0), 0.3 * law[:270]]),
        "pairs": np.repeat(law[:150], 2),
        "rank 12": np.concatenate([law[:12], np.zeros(288)]),
        "large gap": np.concatenate([[1e4, 1e3], law[:298]]),
        "exponential": 0.9 ** np.arange(300.0),
    }


@pytest.mark.parametrize(
    ("name", "block_size"),
    [
        pytest.param(name, size, marks=[] if (name, size) in FAST else pytest.mark.slow)
        for name in spectra()
        for size in (1, 16)
    ],
)
def test_eigenvalues_with_their_multiplicity(name, block_size, x64):
    values = spectra()[name]
    num_modes = 12 if block_size == 1 or name == "rank 12" else 50
    modes = nb.top_modes(
        matrix_of(values), num_modes, key=KEY, block_size=block_size, tolerance=1e-6, max_products=2_000
    )
    assert bool(modes.converged.all())
    rounding = 10 * np.finfo(float).eps * values[0]
    np.testing.assert_allclose(
        np.asarray(modes.eigenvalues) * len(values), values[:num_modes], rtol=1e-10, atol=rounding
    )


@pytest.mark.slow
def test_float32_finds_small_eigenvalues_beside_large_ones():
    """For K = J J^T from passes through a network, an eigenvalue 3e4 times below the first is exact to 1e-4."""
    net = nb.nets.mlp(64, 2, b_std=0.1)
    x = np.asarray(jax.random.normal(jax.random.key(1), (600, 6)), np.float32) + 1
    params = net.init(KEY, (6,))
    operator = nb.empirical_ntk(net.apply, params).operator(x)
    modes = nb.top_modes(operator, 100, key=KEY)
    with jax.enable_x64(True):
        exact = nb.empirical_ntk(net.apply, jax.tree.map(lambda p: p.astype(float), params))
        K = np.asarray(exact(x.astype(float))) / 600
    values = np.linalg.eigvalsh(K)[::-1][:100]
    functions = np.asarray(modes.eigenfunctions, float)
    vectors = functions / np.linalg.norm(functions, axis=0)
    residuals = np.linalg.norm(K @ vectors - vectors * np.asarray(modes.eigenvalues, float), axis=0)
    assert values[0] / values[-1] > 1e3
    assert bool(modes.converged.all())
    np.testing.assert_allclose(modes.eigenvalues, values, rtol=1e-5)
    assert np.max(residuals / values) < 2e-4
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(100), atol=1e-6)


@pytest.mark.parametrize("outputs", ["mean", "sum", "all"])
@pytest.mark.slow
def test_same_as_the_dense_spectrum_of_a_kernel(outputs, x64):
    net = nb.nets.mlp(8, 1, 3)
    x = jax.random.normal(jax.random.key(1), (90, 4))
    kernel = nb.empirical_ntk(net.apply, net.init(KEY, (4,)), outputs=outputs)
    weights = jax.random.uniform(jax.random.key(2), (90,), minval=0.5)
    weights = weights / weights.sum()
    for given in (None, weights):
        dense = nb.spectrum(kernel, x, weights=given)
        modes = nb.top_modes(kernel.operator(x), 10, key=KEY, tolerance=1e-7, weights=given)
        assert modes.eigenfunctions.shape == dense.eigenfunctions[..., :10].shape
        np.testing.assert_allclose(modes.eigenvalues, dense.eigenvalues[:10], rtol=1e-10)
        np.testing.assert_allclose(modes.trace, dense.trace, rtol=1e-12)
        np.testing.assert_allclose(modes.eigenfunctions, dense.eigenfunctions[..., :10], atol=1e-4)
        np.testing.assert_array_equal(modes.eigenspace, dense.eigenspace[:10])
        np.testing.assert_allclose(modes.extend(x[:5], 4), modes.eigenfunctions[:5, ..., :4], atol=1e-5)


@pytest.mark.slow
def test_fewer_parameters_than_rows_and_more(x64):
    """J^T J and J J^T give the same answer."""
    net = nb.nets.mlp(4, 1)
    x = jax.random.normal(jax.random.key(1), (200, 3))
    operator = nb.empirical_ntk(net.apply, net.init(KEY, (3,))).operator(x)
    assert operator.num_parameters < 200
    through_matrix = nb.top_modes(operator.matrix(), 8, key=KEY, tolerance=1e-8)
    modes = nb.top_modes(operator, 8, key=KEY, tolerance=1e-8)
    np.testing.assert_allclose(modes.eigenvalues, through_matrix.eigenvalues, rtol=1e-12)
    np.testing.assert_allclose(modes.eigenfunctions, through_matrix.eigenfunctions, atol=1e-6)


@pytest.mark.parametrize(
    ("domain", "num_modes"),
    [
        pytest.param(nb.domains.Circle(), 21, id="circle", marks=pytest.mark.slow),
        pytest.param(nb.domains.Hypercube(8), 37, id="cube", marks=pytest.mark.slow),
        pytest.param(nb.domains.Sphere(3), 25, id="sphere", marks=pytest.mark.slow),
    ],
)
def test_eigenspaces_of_domains(domain, num_modes, x64):
    """Repeated eigenvalues on a cube, a sphere and a circle, and the angles to the eigenspaces of a dense solver."""
    x, weights = domain.quadrature(256)
    kernel = nb.infinite_ntk(nb.nets.mlp(depth=2, b_std=0.1))
    dense = nb.spectrum(kernel, x, weights=weights)
    for block_size in (12, 40):
        modes = nb.top_modes(
            kernel.operator(x), num_modes, key=KEY, weights=weights, block_size=block_size, max_products=1_000
        )
        np.testing.assert_allclose(modes.eigenvalues, dense.eigenvalues[:num_modes], rtol=1e-7)
        spaces = np.asarray(dense.eigenspace)
        roots = np.sqrt(np.asarray(weights))[:, None]
        for space in np.unique(spaces[:num_modes]):
            members = np.flatnonzero(spaces == space)
            if members[-1] >= num_modes:
                continue
            exact, found = (roots * np.asarray(s.eigenfunctions)[:, members] for s in (dense, modes))
            cosines = np.linalg.svd(exact.T @ found, compute_uv=False)
            assert cosines.min() > 1 - 1e-3**2 / 2


@pytest.mark.slow
def test_agrees_with_eigsh():
    K = matrix_of(spectra()["power law"]).astype(np.float32)
    operator = nb.kernels.as_operator(K)
    values, _ = scipy.sparse.linalg.eigsh(operator.to_scipy(), 20)
    modes = nb.top_modes(operator, 20, key=KEY)
    np.testing.assert_allclose(np.asarray(modes.eigenvalues) * 300, values[::-1], rtol=1e-5)


@pytest.mark.slow
def test_small_matrices_are_decomposed_whole(monkeypatch):
    monkeypatch.setattr(krylov, "DENSE", 2)
    for rows in (1, 2, 7, 40):
        values = np.arange(rows, 0.0, -1)
        modes = nb.top_modes(matrix_of(values), rows, key=KEY)
        np.testing.assert_allclose(np.asarray(modes.eigenvalues) * rows, values, rtol=1e-5)
        assert bool(modes.converged.all())


@pytest.mark.slow
def test_zero_operator_converges_to_noise(monkeypatch):
    modes = nb.top_modes(np.zeros((300, 300), np.float32), 5, key=KEY)
    assert modes.num_above_noise == 0
    assert float(jnp.max(jnp.abs(modes.eigenvalues))) == 0


@pytest.mark.slow
def test_residuals_are_true_and_bound_eigenvalues(x64):
    """This also holds if the search stopped early."""
    values = spectra()["power law"]
    K = matrix_of(values)
    with pytest.warns(UserWarning, match="Expected 20 modes to converge; got"):
        modes = nb.top_modes(K, 20, key=KEY, block_size=8, max_products=6)
    assert not bool(modes.converged.all())
    vectors = np.asarray(modes.eigenfunctions) / 300**0.5
    found = np.asarray(modes.eigenvalues) * 300
    true = np.linalg.norm(K @ vectors - vectors * found, axis=0)
    np.testing.assert_allclose(np.asarray(modes.residuals) * 300, true, rtol=1e-6, atol=1e-14)
    for value, residual in zip(found, true, strict=True):
        assert np.min(np.abs(values - value)) <= residual * (1 + 1e-9)


@pytest.mark.slow
def test_same_key_same_result_and_others_agree():
    K = matrix_of(spectra()["pairs"]).astype(np.float32)
    first, second = (nb.top_modes(K, 10, key=KEY) for _ in range(2))
    np.testing.assert_array_equal(first.eigenfunctions, second.eigenfunctions)
    other = nb.top_modes(K, 10, key=jax.random.key(5))
    np.testing.assert_allclose(other.eigenvalues, first.eigenvalues, rtol=1e-5)


def test_nothing_is_compiled_twice():
    K = matrix_of(spectra()["power law"]).astype(np.float32)
    nb.top_modes(K, 10, key=KEY)
    programs = vectors.residual_norms, vectors.outside, vectors.placed
    before = [program._cache_size() for program in programs]
    nb.top_modes(2 * K, 10, key=jax.random.key(1))
    assert [program._cache_size() for program in programs] == before


class TestCheckpoints:
    def test_resumes_to_the_same_bits(self, tmp_path, monkeypatch):
        monkeypatch.setattr(krylov, "SAVE_SECONDS", 0.0)
        K = matrix_of(spectra()["power law"]).astype(np.float32)
        expected = nb.top_modes(K, 20, key=KEY, block_size=8)
        path = tmp_path / "search"
        with pytest.warns(UserWarning, match="with a checkpoint, the same call resumes"):
            nb.top_modes(K, 20, key=KEY, block_size=8, max_products=5, checkpoint=path)
        assert [entry.name for entry in tmp_path.iterdir()] == ["search.npz"]
        modes = nb.top_modes(K, 20, key=KEY, block_size=8, checkpoint=path)
        np.testing.assert_array_equal(modes.eigenfunctions, expected.eigenfunctions)
        np.testing.assert_array_equal(modes.eigenvalues, expected.eigenvalues)
        again = nb.top_modes(K, 20, key=KEY, block_size=8, checkpoint=path)  # from the checkpoint of a finished search
        np.testing.assert_array_equal(again.eigenfunctions, expected.eigenfunctions)

    def test_refuses_another_problem(self, tmp_path):
        K = matrix_of(spectra()["power law"]).astype(np.float32)
        path = tmp_path / "search.npz"
        nb.top_modes(K, 20, key=KEY, checkpoint=path)
        with pytest.raises(InputError, match=r"differs in num_modes \(20 in the file, 21 now\)"):
            nb.top_modes(K, 21, key=KEY, block_size=25, checkpoint=path)
        with pytest.raises(InputError, match=r"differs in key"):
            nb.top_modes(K, 20, key=jax.random.key(1), checkpoint=path)
        with pytest.raises(InputError, match=r"got one whose product with a vector differs by"):
            nb.top_modes(1.01 * K, 20, key=KEY, checkpoint=path)
        path.write_bytes(path.read_bytes()[:1000])
        with pytest.raises(InputError, match=r"it cannot be read.*delete it to begin again"):
            nb.top_modes(K, 20, key=KEY, checkpoint=path)
        path.write_text("1, 2, 3")
        with pytest.raises(InputError, match=r"it cannot be read: it is a text file.*delete it to begin again"):
            nb.top_modes(K, 20, key=KEY, checkpoint=path)
        (tmp_path / "folder.npz").mkdir()
        with pytest.raises(InputError, match="got the folder"):
            nb.top_modes(K, 20, key=KEY, checkpoint=tmp_path / "folder.npz")

    def test_another_operator_gets_no_old_results(self, tmp_path):
        """If a small eigenvalue changes by much, the search is refused; if by little, the residuals are recomputed."""
        law = spectra()["power law"]
        path = tmp_path / "search.npz"
        nb.top_modes(matrix_of(law).astype(np.float32), 20, key=KEY, block_size=8, checkpoint=path)

        def again(change, at=15):
            changed = matrix_of(np.where(np.arange(300) == at, law + change, law)).astype(np.float32)
            return nb.top_modes(changed, 20, key=KEY, block_size=8, checkpoint=path)

        with pytest.raises(InputError, match="product with a vector differs by .*, compared with .*Choose another"):
            again(3e-4)
        with pytest.warns(UserWarning, match="fresh ones differ by up to .*e-09, as on another device"):
            modes = again(2e-6)
        # The change is 2e-6 / 300; the eigenvalue is 1 / 16^2 / 300.
        np.testing.assert_allclose(float(modes.residuals[15]), 2e-6 / 300, rtol=0.1)
        assert not modes.converged[15]
        assert modes.converged[:10].all()

    def test_one_search_at_a_time(self, tmp_path):
        K = matrix_of(spectra()["power law"]).astype(np.float32)
        path, products = tmp_path / "search.npz", []

        def product(v):
            products.append(0)
            if len(products) == 5:
                with pytest.raises(InputError, match="to be free; another thread of this process is using it."):
                    nb.top_modes(K, 20, key=KEY, checkpoint=path)
            return K @ v

        operator = scipy.sparse.linalg.LinearOperator((300, 300), matvec=product, matmat=product, dtype=np.float32)
        nb.top_modes(operator, 20, key=KEY, checkpoint=path)
        assert len(products) > 5
        assert [entry.name for entry in tmp_path.iterdir()] == ["search.npz"]

    def test_files_of_others_stay(self, tmp_path):
        K = matrix_of(spectra()["power law"]).astype(np.float32)
        np.savez(tmp_path / "mine.npz", precious=np.ones(3))
        (tmp_path / "other.npz.part").write_text("precious")
        before = {path: path.read_bytes() for path in tmp_path.iterdir()}
        with pytest.raises(InputError, match="mine.npz to be a checkpoint of top_modes; .* it does not hold 'problem'"):
            nb.top_modes(K, 20, key=KEY, checkpoint=tmp_path / "mine.npz")
        with pytest.raises(InputError, match="no file of another program at .*other.npz.part; got one. Move it"):
            nb.top_modes(K, 20, key=KEY, checkpoint=tmp_path / "other.npz")
        assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before

    def test_a_checkpoint_that_cannot_be_written_is_a_warning(self, tmp_path, monkeypatch):
        def full(*_):
            raise StorageError("Expected to write search.npz; got: No space left on device.")

        monkeypatch.setattr(checkpoint, "write_arrays", full)
        K = matrix_of(spectra()["power law"]).astype(np.float32)
        with pytest.warns(UserWarning, match="No space left on device. The search continues without that checkpoint"):
            modes = nb.top_modes(K, 20, key=KEY, checkpoint=tmp_path / "search.npz")
        np.testing.assert_array_equal(modes.eigenvalues, nb.top_modes(K, 20, key=KEY).eigenvalues)

    def test_an_invalid_subspace_is_refused(self, tmp_path):
        K = matrix_of(spectra()["power law"]).astype(np.float32)
        path = tmp_path / "search.npz"
        nb.top_modes(K, 20, key=KEY, checkpoint=path)
        arrays = files.read_arrays(path, "a search")
        for changed, message in (
            ({"projected": arrays["projected"][:5]}, "its array 'projected' does not fit a subspace"),
            ({"vectors": arrays["vectors"] * np.nan}, "its array 'vectors' holds NaN or infinity"),
            ({"counts": -arrays["counts"]}, "cannot be read: "),
            ({"scale": np.array(0.0)}, "its counts or its scale are impossible"),
        ):
            files.write_arrays(path, arrays | changed)
            with pytest.raises(InputError, match=message):
                nb.top_modes(K, 20, key=KEY, checkpoint=path)
        # The subspace has the right form but belongs to another operator: the products at the end detect it.
        files.write_arrays(path, arrays | {"products": 1.01 * arrays["products"]})
        with pytest.warns(UserWarning, match="The residuals use the fresh products"):
            modes = nb.top_modes(K, 20, key=KEY, checkpoint=path)
        errors = np.abs(np.asarray(modes.eigenvalues, float) - np.linalg.eigvalsh(K.astype(float))[::-1][:20] / 300)
        assert np.all(errors <= np.asarray(modes.residuals, float))

    @pytest.mark.slow
    def test_killed_and_called_again(self, tmp_path):
        """After SIGKILL at several moments, the same call resumes and gives the same bits."""
        script = """
        import sys, time, jax, numpy as np, ntkbias as nb
        from ntkbias.eigen import krylov, subspace
        krylov.SAVE_SECONDS = 0.0
        rng = np.random.default_rng(0)
        vectors = np.linalg.qr(rng.normal(size=(800, 800)))[0]
        K = ((vectors / np.arange(1, 801.0) ** 1.5) @ vectors.T).astype(np.float32)
        def slow(v):
            time.sleep(0.3)
            return K @ v
        import scipy.sparse.linalg
        operator = scipy.sparse.linalg.LinearOperator((800, 800), matvec=slow, matmat=slow, dtype=np.float32)
        krylov.DENSE, subspace.BLOCKS = 0, 4
        path = None if sys.argv[1] == "none" else sys.argv[1]
        modes = nb.top_modes(operator, 20, key=jax.random.key(0), block_size=8, checkpoint=path)
        np.savez(sys.argv[2], values=modes.eigenvalues, functions=modes.eigenfunctions)
        """

        def start(*args):
            environment = {**os.environ, "PYTHONPATH": os.getcwd()}
            return subprocess.Popen([sys.executable, "-c", textwrap.dedent(script), *map(str, args)], env=environment)

        assert start("none", tmp_path / "expected.npz").wait(300) == 0
        checkpoint = tmp_path / "search.npz"
        for _ in range(3):
            process = start(checkpoint, tmp_path / "got.npz")
            there = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
            deadline = time.monotonic() + 120
            while process.poll() is None and time.monotonic() < deadline:
                if checkpoint.exists() and checkpoint.stat().st_mtime_ns != there:
                    break
                time.sleep(0.02)
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert start(checkpoint, tmp_path / "got.npz").wait(300) == 0
        with np.load(tmp_path / "got.npz") as got, np.load(tmp_path / "expected.npz") as expected:
            np.testing.assert_array_equal(got["values"], expected["values"])
            np.testing.assert_array_equal(got["functions"], expected["functions"])


class TestSpectrumChooses:
    @pytest.mark.slow
    def test_dense_or_by_products(self, monkeypatch):
        monkeypatch.setattr(krylov, "DENSE", 2)
        kernel = nb.infinite_ntk(nb.nets.mlp(depth=1))
        x = jax.random.normal(KEY, (200, 3))
        whole = nb.spectrum(kernel, x)
        assert whole.method == "dense"
        monkeypatch.setattr(choose, "CHEAP", 100)
        few = nb.spectrum(kernel, x, num_modes=5)
        assert few.method == "matrix-free"
        assert nb.spectrum(kernel, x, num_modes=50).method == "dense"
        np.testing.assert_allclose(few.eigenvalues, whole.eigenvalues[:5], rtol=1e-5)
        np.testing.assert_allclose(few.eigenfunctions[:, 0], whole.eigenfunctions[:, 0], atol=1e-4)
        monkeypatch.setattr(choose, "default_memory_budget", lambda: 10_000)
        with pytest.warns(UserWarning, match="got 200 rows, for which all modes need .* Computing the first 100 modes"):
            assert len(nb.spectrum(kernel, x).eigenvalues) == 100

    @pytest.mark.slow
    def test_saved_and_loaded(self, tmp_path):
        modes = nb.top_modes(matrix_of(spectra()["pairs"]), 6, key=KEY)
        nb.save(tmp_path / "modes", modes)
        loaded = nb.load(tmp_path / "modes")
        assert loaded.method == "matrix-free"
        assert loaded.tolerance == modes.tolerance
        np.testing.assert_array_equal(loaded.converged, modes.converged)


class TestBadInput:
    pytestmark = pytest.mark.usefixtures("unchecked")
    K = matrix_of(spectra()["power law"])

    def test_nan(self):
        operator = scipy.sparse.linalg.LinearOperator((300, 300), matvec=lambda v: np.nan * v, dtype=np.float32)
        with pytest.raises(InputError, match="Expected an operator with finite products; got NaN or infinity"):
            nb.top_modes(operator, 3, key=KEY)
        with pytest.raises(InputError, match="Expected finite numbers in the matrix; got 1 NaN"):
            nb.top_modes(np.where(np.arange(9).reshape(3, 3) == 4, np.nan, 1.0), 1, key=KEY)

    @pytest.mark.parametrize("dense", [0, 2])
    def test_asymmetric(self, dense, monkeypatch):
        monkeypatch.setattr(krylov, "DENSE", dense)
        K = self.K + 0.1 * np.triu(np.ones((300, 300)))
        with pytest.raises(InputError, match=r"Expected a symmetric operator; got products with x\^T \(K y\)"):
            nb.top_modes(K, 3, key=KEY)

    @pytest.mark.parametrize("dense", [0, 2])
    def test_indefinite(self, dense, monkeypatch):
        monkeypatch.setattr(krylov, "DENSE", dense)
        message = (
            r"Expected a positive semi-definite (operator|kernel); got an eigenvalue of (-\S+), .* \(both of K / n\)\."
        )
        with pytest.raises(InputError, match=message) as caught:
            nb.top_modes(1e6 * matrix_of(np.linspace(1, -1, 300)), 3, key=KEY)
        assert -1e6 / 300 <= float(re.search(message, str(caught.value))[2]) <= -1e6 / 600  # the user's scale

    @pytest.mark.parametrize("dense", [0, pytest.param(2, marks=pytest.mark.wide)])
    def test_negative_eigenvalues_of_operators_that_may_have_them(self, dense, monkeypatch, x64):
        monkeypatch.setattr(krylov, "DENSE", dense)
        values = np.concatenate([np.linspace(1, 0.5, 40), np.zeros(220), -np.linspace(1.5, 0.7, 40)])
        operator = nb.kernels.as_operator(matrix_of(values), definite=False)
        for sign, expected in ((1, values[:3]), (-1, -values[260:263])):
            modes = nb.top_modes(sign * operator, 3, key=KEY, tolerance=1e-6)
            assert bool(jnp.all(modes.converged))
            assert np.isnan(modes.trace)
            np.testing.assert_allclose(300 * modes.eigenvalues, expected, rtol=1e-9)
        modes = nb.top_modes(operator - operator, 1, key=KEY)
        assert float(modes.eigenvalues[0]) == 0

    def test_arguments(self):
        with pytest.raises(InputError, match="Expected num_modes to be at most the number of rows, 300; got 301"):
            nb.top_modes(self.K, 301, key=KEY)
        with pytest.raises(InputError, match="Expected num_modes to be at least 1; got 0"):
            nb.top_modes(self.K, 0, key=KEY)
        with pytest.raises(InputError, match="Expected num_modes to be a whole number; got None"):
            nb.top_modes(self.K, None, key=KEY)
        for tolerance in (0, 2.0, "small", np.nan):
            with pytest.raises(InputError, match="Expected a tolerance between 0 and 1, relative to each eigenvalue"):
                nb.top_modes(self.K, 3, key=KEY, tolerance=tolerance)
        with pytest.raises(InputError, match="Expected block_size to be at least 1; got 0"):
            nb.top_modes(self.K, 3, key=KEY, block_size=0)
        with pytest.raises(InputError, match="Expected a key of jax.random"):
            nb.top_modes(self.K, 3, key="seed")
        with pytest.raises(InputError, match=r"Expected top_modes\(kernel, x, num_modes\); got no num_modes"):
            nb.top_modes(nb.infinite_ntk(nb.nets.mlp()), 3, key=KEY)
        with pytest.raises(InputError, match="Expected weights that sum to one"):
            nb.top_modes(self.K, 3, key=KEY, weights=np.ones(300))
        with pytest.raises(InputError, match="Expected checkpoint to be the path of a file"):
            nb.top_modes(self.K, 3, key=KEY, checkpoint=3)


class TestWhatAFreshReaderFound:
    @pytest.mark.slow
    @pytest.mark.parametrize("scale", [1e-25, 1e-17, 1e17, 1e25])
    def test_scale_drops_out(self, scale):
        """Squares of such numbers underflow or overflow in float32."""
        K = matrix_of(spectra()["power law"]).astype(np.float32)
        expected = nb.top_modes(K, 10, key=KEY)
        modes = nb.top_modes(np.float32(scale) * K, 10, key=KEY)
        np.testing.assert_allclose(np.asarray(modes.eigenvalues, float) / scale, expected.eigenvalues, rtol=1e-5)

    def test_residuals_of_a_decomposed_matrix_include_rounding(self, monkeypatch):
        monkeypatch.setattr(krylov, "DENSE", 5)
        K = matrix_of(spectra()["exponential"]).astype(np.float32)
        modes = nb.top_modes(K, 10, key=KEY)
        assert modes.method == "dense"
        exact = np.linalg.eigvalsh(K.astype(float))[::-1][:10] / 300
        assert np.all(np.abs(np.asarray(modes.eigenvalues, float) - exact) <= np.asarray(modes.residuals, float))

    @pytest.mark.slow
    def test_stops_where_rounding_is_the_limit(self):
        K = matrix_of(spectra()["power law"]).astype(np.float32)
        with pytest.warns(UserWarning, match=r"not improved in 30 products: raise tolerance, or use float64"):
            nb.top_modes(K, 5, key=KEY, tolerance=1e-12)

    def test_ctrl_c_leaves_a_checkpoint(self, tmp_path):
        K = matrix_of(spectra()["power law"]).astype(np.float32)
        times = []

        def product(v):
            times.append(0)
            if len(times) == 5:
                raise KeyboardInterrupt
            return K @ v

        operator = scipy.sparse.linalg.LinearOperator((300, 300), matvec=product, matmat=product, dtype=np.float32)
        path = tmp_path / "search.npz"
        with pytest.raises(KeyboardInterrupt):
            nb.top_modes(operator, 20, key=KEY, block_size=8, checkpoint=path)
        assert path.exists()
        expected = nb.top_modes(K, 20, key=KEY, block_size=8)
        modes = nb.top_modes(K, 20, key=KEY, block_size=8, checkpoint=path)
        np.testing.assert_allclose(modes.eigenvalues, expected.eigenvalues, rtol=1e-5)

    @pytest.mark.slow
    def test_few_parameters_and_many_rows_never_form_the_large_matrix(self, monkeypatch):
        monkeypatch.setattr(krylov, "DENSE", 2)
        net = nb.nets.mlp(6, 1)
        operator = nb.empirical_ntk(net.apply, net.init(KEY, (3,))).operator(np.ones((20_000, 3), np.float32))
        monkeypatch.setattr(type(operator), "matrix", lambda operator: pytest.fail("formed the large matrix"))
        modes = nb.top_modes(operator, 1, key=KEY)
        np.testing.assert_allclose(modes.eigenvalues[0], modes.trace, rtol=1e-5)  # equal inputs: rank one


def test_random_vectors_are_drawn_by_number_purpose_and_attempt_each():
    draws = [(number, purpose, attempt) for number in range(6) for purpose in Purpose for attempt in range(4)]
    keys = {tuple(np.asarray(jax.random.key_data(random_key(KEY, *draw))).tolist()) for draw in draws}
    assert len(keys) == len(draws)
    assert len({purpose.value for purpose in Purpose}) == len(Purpose.__members__)  # no two purposes share a number
