"""The examples on the pages of docs/ run as they are written."""

import importlib.util
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest

import ntkbias as nb

DOCS = Path(__file__).parent.parent / "docs"


# Pages whose examples need no other library, and what they print.
OTHERS = {
    "index.md": "Eigenspaces: 33",
    "kernels.md": "all (32, 3, 32, 3)",
    "eigensolvers.md": "dense dense nystrom",
    "frequency.md": "harmonic [0. 1. 1. 2. 2.]",
    "faq.md": "(80, 80) (8, 10, 80)",
}


def run(page):
    """The names that the examples of a page define, run in order."""
    namespace = {}
    for block in re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL):
        exec(compile(block, page, "exec"), namespace)
    return namespace


def test_every_page_with_examples_is_run_here():
    pages = {path.name for path in DOCS.glob("*.md") if "```python" in path.read_text()}
    assert pages == {"guide.md", "physics_informed.md", "pytorch.md", "coming_from.md", *OTHERS}


@pytest.mark.parametrize("page", OTHERS)
def test_examples_print_what_they_say(page, capsys):
    run(page)
    assert OTHERS[page] in capsys.readouterr().out


def test_numbers_of_other_libraries_are_converted():
    """The page itself compares with the recipe of torch.func and with neural-tangents."""
    if importlib.util.find_spec("neural_tangents") is None:
        pytest.skip("neural_tangents is not installed")
    run("coming_from.md")


def test_the_guide(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    for library in ("flax", "equinox", "haiku", "keras", "neural_tangents", "pandas", "xarray"):
        if importlib.util.find_spec(library) is None:
            pytest.skip(f"{library} is not installed")
    names = run("guide.md")
    plt.close("all")
    assert names["history"]["kernel_drift"][-1] > 0
    assert names["modes"].converged.all()
    assert names["store"].shape == (64, 64)
    assert len(names["frame"]) == 256
    assert [step for step, _ in names["log"]][-1] == 50
    assert names["process"].kernel_.kernel is names["convolutional"]
    assert "even degrees -5.00, odd degrees -5.00" in capsys.readouterr().out


def test_physics_informed_networks():
    names = run("physics_informed.md")
    K, rows, weights = names["K"], names["rows"], names["weights"]
    assert K.shape == (160, 160)
    assert names["share"][0, 0] > 0.9  # as the page says about the first mode
    traces = {name: float(jnp.trace(K[own, own])) for name, own in rows.items()}
    assert traces["residual"] > 10 * max(trace for name, trace in traces.items() if name != "residual")
    for name, trace in traces.items():
        np.testing.assert_allclose(weights[name], sum(traces.values()) / trace, rtol=1e-4)
        np.testing.assert_allclose(names["loss_weights"](names["params"])[name], weights[name], rtol=1e-4)


def test_pytorch():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    names = run("pytorch.md")
    module, x, operator = names["module"], names["x"], names["operator"]
    rows = []
    for output in module(x).reshape(-1):
        gradients = torch.autograd.grad(output, list(module.parameters()), retain_graph=True)
        rows.append(torch.cat([gradient.flatten() for gradient in gradients]).numpy())
    K = np.stack(rows) @ np.stack(rows).T
    assert operator.shape == K.shape == (80, 80)
    np.testing.assert_allclose(operator.matrix(), K, atol=1e-4 * K.max())
    np.testing.assert_allclose(operator.diagonal(), np.diag(K), rtol=1e-4)
    np.testing.assert_allclose(names["modes"].eigenvalues, np.linalg.eigvalsh(K)[:-6:-1] / 40, rtol=1e-3)


def test_an_operator_of_another_library_s_products():
    """The class of the page, with NumPy in place of PyTorch: K v, the diagonal and the number of outputs suffice."""
    J = np.random.default_rng(0).normal(size=(30, 7)).astype(np.float32)

    class Products(nb.kernels.KernelOperator):
        def product(self, vectors):
            return jnp.asarray(J @ (J.T @ np.asarray(vectors)))

        def diagonal(self):
            return np.sum(J**2, 1)

    modes = nb.top_modes(Products(15, 2, np.float32), 3, key=jax.random.key(0))
    np.testing.assert_allclose(modes.eigenvalues, np.linalg.eigvalsh(J @ J.T)[:-4:-1] / 15, rtol=1e-4)
    assert modes.eigenfunctions.shape == (15, 2, 3)
    np.testing.assert_allclose(modes.trace, np.sum(J**2) / 15, rtol=1e-4)
