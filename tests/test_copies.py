"""Every public value goes through `pickle`, `copy.copy` and `copy.deepcopy`, and comes out equal and at work."""

import copy
import dataclasses
import inspect
import os
import pickle
import re
import subprocess
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.sparse.linalg
from cases import ACTIVATION_CASES, DOMAINS, LAYERS
from values import CIRCLE, PARAMS, X, f, results

import ntkbias as nb
from ntkbias.adapters.sklearn_kernels import SklearnKernel
from ntkbias.kernels import KernelOperator, SymmetricForm
from ntkbias.kernels.operators import as_operator

Y = X[:, :1] * X[:, 1:]
NET = nb.nets.mlp(8, 1, b_std=0.1)
START = NET.init(jax.random.key(0), (2,))
WAYS = {"copy": copy.copy, "deepcopy": copy.deepcopy, "pickle": lambda value: pickle.loads(pickle.dumps(value))}


def cosine(u):
    return jnp.exp(u) / 3


def absolute(outputs, targets):
    return jnp.mean(jnp.sum(jnp.abs(outputs - targets), -1))


def gap(at):
    return at.spectrum.eigenvalues[0] - at.spectrum.eigenvalues[1]


def kernels():
    kernel, limit = nb.empirical_ntk(f, PARAMS), nb.infinite_ntk(NET)
    return {
        "empirical NTK": kernel,
        "of a method": nb.empirical_ntk(NET.apply, START),
        "of some parameters": nb.empirical_ntk(f, PARAMS, wrt="['out']"),
        "empirical NNGP": nb.empirical_nngp(NET.apply, START),
        "infinite NTK": limit,
        "multiple": 2 * kernel,
        "sum": 2 * kernel + limit,
        "centered": limit.centered(X),
        "velocity": nb.ntk_velocity(f, PARAMS, PARAMS),
        "sum of forms": nb.ntk_velocity(f, PARAMS, PARAMS) + 2 * kernel,
        "multiple of a form": 2 * nb.ntk_velocity(f, PARAMS, PARAMS),
        "centered form": nb.ntk_velocity(f, PARAMS, PARAMS).centered(X),
        "loss-weighted": nb.loss_weighted_ntk(f, PARAMS, "mse"),
        "preconditioned": nb.preconditioned_ntk(f, PARAMS, PARAMS),
        "linearized": nb.empirical_ntk(nb.linearize(f, PARAMS), PARAMS),
        "lazy": nb.empirical_ntk(nb.learning.lazy(f, PARAMS, 2.0), PARAMS),
        "of an angle": nb.exact.DotProductKernel(cosine),
    }


def operators():
    kernel, limit = nb.empirical_ntk(f, PARAMS), nb.infinite_ntk(NET)
    return {
        "by the Jacobian": kernel.operator(X),
        "by blocks": limit.operator(X),
        "sum": (2 * kernel + limit).operator(X),
        "centered": kernel.centered(X).operator(X),
        "of a matrix": as_operator(limit(X)),
        "of a loss": nb.complexity.hessian_operator(f, PARAMS, X, Y),
        "of SciPy": as_operator(scipy.sparse.linalg.aslinearoperator(np.asarray(limit(X)))),
    }


def more_domains():
    return {
        "points": nb.domains.PointCloud(),
        "images": nb.domains.Images(5),
        "from harmonics": nb.domains.FromHarmonics(cosine, (0.0, 1.0)),
        "edges": nb.domains.Edges(np.arange(2), np.arange(2) + 1, np.ones(2)),
        "merged": nb.domains.Merged(X, jnp.ones(24), np.arange(24), np.arange(24)),
    }


def more_layers():
    layers = nb.layers
    found = [layers.Angle(), layers.Dropout(0.3), layers.Frozen(layers.Dense(2)), layers.GlobalSumPool()]
    found += [layers.Scale(0.5), layers.Elementwise(cosine), layers.FourierFeatures(np.ones((3, 2)))]
    return {type(layer).__name__: layer for layer in (*found, nb.nets.Leaves(2))}


def others(folder):
    return {
        "cross": nb.cross_ntk(f, f, PARAMS),
        "blocks": nb.block_ntk({"a": f}, PARAMS),
        "parts": nb.empirical_ntk_by_layer(f, PARAMS),
        "sketch": nb.kernels.sketch(nb.empirical_ntk(f, PARAMS), X, 8, key=jax.random.key(0)),
        "gradients": nb.empirical_ntk(f, PARAMS).gradients,
        "on disk": nb.gram_on_disk(folder / "gram", nb.empirical_ntk(f, PARAMS), X),
        "compared kernel": results()["7 Comparison"]["mlp"],
        "history of runs": nb.track_many(
            f, jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), PARAMS), (X, Y), optimizer=optax.sgd(0.1), num_steps=1
        ),
        "probe": nb.tracking.Probe(X, domain=CIRCLE, watched={"y": Y}),
        "measures": nb.tracking.measures.ALL,
        "my measure": nb.tracking.Measure("gap", gap),
        "loss": nb.losses.cross_entropy,
        "my loss": nb.losses.Loss("mine", absolute, "values"),
        "Sobolev loss": nb.losses.sobolev(CIRCLE, X, 1.0, max_degree=2),
        "Sobolev loss of images": nb.losses.ImageSobolev(1.0),
        "contrast": nb.learning.Contrast(0, 1),
        "readiness": results()["9 Learnability"]["mlp", "y"],
        "measure of frequency": nb.frequency.MEASURES["graph"],
        "covariance": nb.layers.Covariance(jnp.ones((2, 2)), None, jnp.ones(2), jnp.ones(2), ()),
        "power law": nb.scaling.PowerLaw(-1.0, 0.5),
        "power spectrum": nb.frequency.power_spectrum(np.arange(8.0)),
        "unloaded kernel": nb.kernels.UnloadedKernel("Expected f=; got none."),
        "data": nb.datasets.digits(5),
        "task": nb.tasks.disk(5, key=jax.random.key(0)),
        "labels": nb.tasks.with_random_labels(np.arange(4), 0.5, key=jax.random.key(0)),
        "linearization": nb.linearize(f, PARAMS),
        "lazy function": nb.learning.lazy(f, PARAMS, 2.0),
        "needs": nb.layers.Needs(nb.layers.Positions.ALL, nb.layers.Positions.EQUAL),
        "positions": nb.layers.Positions.ALL,
        "adapted": nb.empirical_ntk(*nb.adapters.equinox(eqx.nn.Linear(2, 1, key=jax.random.key(0)))),
        "of scikit-learn": nb.adapters.sklearn_kernel(nb.infinite_ntk(NET), (2,)),
    }


@pytest.fixture(scope="module")
def values(tmp_path_factory):
    """name -> value"""
    tables = {
        "result": results(),
        "kernel": kernels(),
        "operator": operators(),
        "domain": {name: case.domain for name, case in DOMAINS.items()} | more_domains(),
        "layer": {name: layer for name, (layer, _) in LAYERS.items()} | more_layers(),
        "activation": {name: case.phi for name, case in ACTIVATION_CASES.items() if name != "any function"},
        "other": others(tmp_path_factory.mktemp("values")),
    }
    return {f"{kind} {name}": value for kind, table in tables.items() for name, value in table.items()}


def require_same(one, other, path):
    """The two have the same type, structure, arrays and functions, part by part."""
    assert type(one) is type(other), path
    if isinstance(one, jax.Array | np.ndarray | np.generic | int | float | str | None):
        np.testing.assert_array_equal(one, other, path)
    elif isinstance(one, KernelOperator):
        np.testing.assert_array_equal(one.matrix(), other.matrix(), path)
        assert (one.source is None) == (other.source is None), path
    elif isinstance(one, nb.kernels.GramOnDisk):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other), path)
    elif isinstance(one, dict):
        assert list(one) == list(other), path
        for key in one:
            require_same(one[key], other[key], f"{path}[{key!r}]")
    elif isinstance(one, tuple | list):
        assert len(one) == len(other), path
        for place, parts in enumerate(zip(one, other, strict=True)):
            require_same(*parts, f"{path}[{place}]")
    elif isinstance(one, eqx.Module):
        structures = jax.tree.structure(one), jax.tree.structure(other)
        if path.startswith("pickle"):  # functions that hold arrays are others when they are loaded
            structures = tuple(re.sub("at 0x[0-9a-f]+", "", str(each)) for each in structures)
        assert structures[0] == structures[1], path
        require_same(jax.tree.leaves(one), jax.tree.leaves(other), path)
        if isinstance(one, SymmetricForm) and not isinstance(one, nb.kernels.UnloadedKernel):
            np.testing.assert_array_equal(one(X), other(X), path)
    elif dataclasses.is_dataclass(one) and not callable(one):
        for field in dataclasses.fields(one):
            require_same(getattr(one, field.name), getattr(other, field.name), f"{path}.{field.name}")
    elif isinstance(one, SklearnKernel):
        require_same(one.get_params(), other.get_params(), path)
    elif isinstance(one, nb.losses.Loss | nb.tracking.Measure):
        assert one is other or vars(one) == vars(other), path
    else:
        assert one == other, path


@pytest.mark.parametrize("way", WAYS)
def test_values_are_equal_after(way, values):
    for name, value in values.items():
        require_same(value, WAYS[way](value), f"{way} of {name}")


def test_copies_of_kernels_share_their_programs():
    """A copy runs at once: nothing is traced for it."""
    traced = []

    def g(params, x):
        traced.append(1)
        return f(params, x)

    for kernel in (nb.empirical_ntk(g, PARAMS), 2 * nb.empirical_ntk(g, PARAMS)):
        gram, before = kernel(X), len(traced)
        assert before
        for way in ("copy", "deepcopy"):
            np.testing.assert_array_equal(WAYS[way](kernel)(X), gram, way)
        assert len(traced) == before


EXCEPTIONS = {
    "InputError": "an exception",
    "InputTypeError": "an exception",
    "NamedTarget": "an entry of a table of functions",
    **dict.fromkeys(("Bound", "Claim", "Figure", "Paper", "Study"), "an entry of a table of studies"),
    "PowerSpectrum": "a pair of arrays",
    **dict.fromkeys(("Contrast", "ContinuationContrast"), "functions, tested in tests/behaviors"),
    **dict.fromkeys(("LanguageModel", "Tokenizer", "Transformer"), "parts of a model, tested in tests/language"),
    "Setting": "inside a run",
    "Snapshot": "inside a run, with the kernel's values as they are computed",
}


def test_each_public_type_has_a_value(values):
    seen = {type(value) for value in values.values()}
    seen |= {type(part) for value in values.values() if isinstance(value, dict) for part in value.values()}
    for namespace in (nb, *(getattr(nb, name) for name in nb.__all__ if inspect.ismodule(getattr(nb, name)))):
        for name in namespace.__all__:
            kind = getattr(namespace, name)
            if isinstance(kind, type) and name not in EXCEPTIONS and not inspect.isabstract(kind):
                assert any(issubclass(each, kind) for each in seen), f"{name}: add a value, or a reason not to"


IN_ANOTHER_PROCESS = """
import pickle, sys
import numpy as np
values, x, grams = pickle.load(open(sys.argv[1], "rb"))
for name, kernel in values.items():
    np.testing.assert_allclose(kernel(x), grams[name], rtol=1e-5, atol=1e-6, err_msg=name)
"""


def test_kernels_work_in_another_process(tmp_path):
    chosen = {name: kernels()[name] for name in ("empirical NTK", "of a method", "infinite NTK", "loss-weighted")}
    grams = {name: np.asarray(kernel(X)) for name, kernel in chosen.items()}
    (tmp_path / "values").write_bytes(pickle.dumps((chosen, np.asarray(X), grams)))
    run = [sys.executable, "-c", IN_ANOTHER_PROCESS, str(tmp_path / "values")]
    subprocess.run(run, check=True, env=os.environ | {"PYTHONPATH": ":".join(filter(None, sys.path))})
