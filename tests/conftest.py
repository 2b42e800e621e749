"""Shapes are checked in every test: jaxtyping and beartype read the package's annotations at each call."""

import os
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

os.environ.setdefault("TQDM_DISABLE", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("JAX_PLATFORMS", "cpu")  # tolerances are those of IEEE arithmetic
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as many processes as cores: threads would wait for each other
# Thousands of small programs run once each, and compiling them is most of the tests' time. These flags halve it: no
# optimization, one piece of machine code a program, one thread, and XLA's older emitters, which JAX 0.12 no longer has.
CHEAP = (
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_cpu_multi_thread_eigen=false",
    "--xla_cpu_parallel_codegen_split_count=1",
    "--xla_cpu_enable_concurrency_optimized_scheduler=false",
    *(() if version("jaxlib") >= "0.12" else ("--xla_cpu_use_fusion_emitters=false",)),
)
os.environ.setdefault("XLA_FLAGS", " ".join(CHEAP))
os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")  # programs without lines of source: a tenth of the time

import jaxtyping
import typechecker

jaxtyping.jaxtyped = typechecker.jaxtyped
jaxtyping.install_import_hook("ntkbias", "typechecker.check")

import jax
import pytest
import tiers

# What one run compiled the next one need not, and one process of what another did. Nothing depends on the folder.
jax.config.update("jax_compilation_cache_dir", os.environ.get("JAX_COMPILATION_CACHE_DIR", f"{ROOT}/.jax_cache"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Mark the variants of `tiers.py`; of a whole collection, every line has to match some."""
    unused, quick = {pattern for patterns in tiers.WIDE.values() for pattern in patterns}, []
    for item in items:
        patterns = tiers.matched(item.nodeid)
        unused -= set(patterns)
        if patterns:
            item.add_marker(pytest.mark.wide)
        elif not item.get_closest_marker("slow"):
            quick.append(item.nodeid)
    out = tiers.sampled_out(quick)
    for item in items:
        if item.nodeid in out:
            item.add_marker(pytest.mark.wide)
    if unused and config.args == config.getini("testpaths"):
        raise pytest.UsageError(
            f"Expected each line of tests/tiers.py to match a test; these match none: {sorted(unused)}"
        )


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
