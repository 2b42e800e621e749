"""Adapted functions as values, and missing libraries."""

import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

import ntkbias as nb
from ntkbias.adapters.adapted import Adapted


def affine(fixed, params, x):
    return x * params + fixed["shift"]


def test_equal_where_the_program_and_the_fixed_arrays_are_the_same():
    shift = jnp.ones(2)
    f = Adapted(affine, {"shift": shift})
    assert f == Adapted(affine, {"shift": shift})
    assert hash(f) == hash(Adapted(affine, {"shift": shift}))
    assert f != Adapted(affine, {"shift": jnp.ones(2)})
    assert f != Adapted(lambda *args: affine(*args), {"shift": shift})
    assert f != affine
    assert Adapted(affine, {"shift": 1}) != Adapted(affine, {"shift": True})


def test_what_cannot_be_hashed_is_equal_to_itself_alone():
    fixed = {"shift": 1.0, "sizes": {1, 2}}
    f = Adapted(affine, fixed)
    assert f == f
    assert f != Adapted(affine, fixed)
    assert nb.empirical_ntk(f, 2.0)(jnp.ones((3, 1))).shape == (3, 3)


def test_arrays_of_the_caller_may_change_afterwards():
    shift = np.ones(2, np.float32)
    f = Adapted(affine, {"shift": shift})
    shift += 1.0
    np.testing.assert_array_equal(f(1.0, jnp.ones((1, 2))), [[2.0, 2.0]])


@pytest.mark.slow
def test_libraries_are_imported_when_their_adapter_is_called():
    check = "import sys, ntkbias.adapters; print([name for name in ('flax', 'haiku') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize(
    ("package", "module", "adapt"),
    [
        ("flax", "flax.nnx", lambda: nb.adapters.flax_nnx(None)),
        ("flax", "flax.linen", lambda: nb.adapters.flax_linen(None, {})),
        ("dm-haiku", "haiku", lambda: nb.adapters.haiku(None, {})),
    ],
)
def test_a_missing_library_is_named(package, module, adapt, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        ImportError, match=rf"Expected {package} to be installed; got: .*{module}.*pip install 'ntkbias\[models\]'"
    ):
        adapt()
