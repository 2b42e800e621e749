"""Compiler options for convolutions on a CPU.

Since about JAX 0.9, XLA on a CPU uses YNNPACK for float32 convolutions and matrix products. The library that it used
before, Eigen, is still available and has faster convolutions. In JAX 0.10 they are about twice as fast: 155 GFLOP/s
against 66 for 3 x 3 kernels from 32 to 32 channels, on two cores with AVX-512. In JAX 0.12 a training step takes a
quarter less time. These options therefore leave convolutions to Eigen and keep YNNPACK for matrix products, where it is
faster. If XLA_FLAGS in the environment names the option, this module does not set it.

>>> from ntkbias.compiler import options
>>> isinstance(options(), dict)
True
"""

import functools
import os

import jax

__all__ = ["options"]

FUSIONS = "xla_cpu_experimental_ynn_fusion_type"  # the option that selects the operations for YNNPACK


@functools.cache
def options() -> dict[str, str | bool]:
    """Compiler options that keep convolutions away from YNNPACK; empty if this JAX does not know the option."""
    if FUSIONS in os.environ.get("XLA_FLAGS", ""):
        return {}
    found: dict[str, str | bool] = {FUSIONS: "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"}
    try:
        jax.jit(lambda: 0).lower().compile(compiler_options=found)
    except jax.errors.JaxRuntimeError:
        return {}
    return found
