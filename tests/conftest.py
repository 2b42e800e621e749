"""Shapes are checked in every test: jaxtyping and beartype read the package's annotations at each call."""

import os

os.environ.setdefault("TQDM_DISABLE", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("JAX_PLATFORMS", "cpu")  # tolerances are those of IEEE arithmetic
# Hundreds of small programs run once each: compiling them is most of the tests' time.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true")

import jaxtyping

jaxtyping.install_import_hook("ntkbias", "typechecker.check")

import jax
import pytest


def _precision(name):
    before = jax.config.read("jax_enable_x64")
    jax.config.update("jax_enable_x64", name == "float64")
    yield name
    jax.config.update("jax_enable_x64", before)


@pytest.fixture
def x64():
    """float64 for the length of one test."""
    yield from _precision("float64")


@pytest.fixture(params=["float32", "float64"])
def precision(request):
    """The test twice, in float32 and in float64."""
    yield from _precision(request.param)


@pytest.fixture
def unchecked():
    """Without the checks of annotations, as users have it: what the package itself says to bad input."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
