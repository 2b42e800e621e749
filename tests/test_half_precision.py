"""Parameters and data of bfloat16 and float16 through every public function: computed in float32, or wider.

The same numbers are given in float32 as well, which holds them exactly: results are near each other, as far as the
network's own arithmetic in half precision goes.
"""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from half_precision import HALF_PRECISION, NOT_NUMERICAL, half_problem

import ntkbias as nb

DTYPES = {"bfloat16": jnp.bfloat16, "float16": jnp.float16}


def functions():
    """The public functions by name: those of `ntkbias`, and of its namespaces."""
    found = {}
    for name in nb.__all__:
        thing = getattr(nb, name)
        if inspect.ismodule(thing):
            members = {f"{name}.{each}": getattr(thing, each) for each in getattr(thing, "__all__", ())}
        else:
            members = {name: thing}
        found |= {key: value for key, value in members.items() if inspect.isfunction(value)}
    return found


def test_every_public_function_has_a_line():
    public, by_value = functions(), {}
    for name, function in public.items():
        by_value.setdefault(function, []).append(name)
    for names in by_value.values():  # a function of two names needs one
        assert any(name in HALF_PRECISION or name in NOT_NUMERICAL for name in names), names
    for name in (*HALF_PRECISION, *NOT_NUMERICAL):
        assert name.partition(" ")[0] in public or name.startswith(("plots.", "adapters.")), name


def numbers(result):
    """All arrays and floats of a result, each in float64."""
    leaves = jax.tree.leaves(result)
    return [np.asarray(jnp.asarray(leaf, jnp.float32), float) for leaf in leaves if is_number(leaf)]


def is_number(leaf):
    if isinstance(leaf, float | np.floating):
        return True
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", HALF_PRECISION)
def test_half_precision_is_computed_in_float32(name, dtype, tmp_path):
    case = HALF_PRECISION[name]
    folders = [tmp_path / name for name in ("half", "float32")]
    found = case.call(half_problem(DTYPES[dtype], folders[0]))
    wanted = case.call(half_problem(jnp.float32, folders[1], DTYPES[dtype]))
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    if not case.keeps_type:
        assert all(
            leaf.dtype.itemsize >= 4 for leaf in jax.tree.leaves(found) if hasattr(leaf, "dtype") and is_number(leaf)
        )
    for got, expected in zip(numbers(found), numbers(wanted), strict=True):
        assert got.shape == expected.shape
        np.testing.assert_array_equal(np.isfinite(got), np.isfinite(expected))
        known = np.isfinite(expected)
        np.testing.assert_allclose(
            got[known], expected[known], atol=case.error * np.max(np.abs(expected[known]), initial=1e-30)
        )
