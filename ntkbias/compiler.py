"""Compiler options for convolutions on a CPU.

Since about JAX 0.9, XLA on a CPU uses YNNPACK for float32 convolutions and matrix products. Its former library, Eigen,
is still there and has the faster convolutions: twice as fast in JAX 0.10 (3 x 3, 32 to 32 channels, on two cores with
AVX-512: 155 GFLOP/s against 66), and a training step takes a quarter less time in 0.12. So convolutions go to Eigen,
and products stay with YNNPACK, which is faster there. If XLA_FLAGS in the environment names the option, it is left
alone.

>>> from ntkbias.compiler import options
>>> isinstance(options(), dict)
True
"""

import functools
import os

import jax

__all__ = ["options"]

FUSIONS = "xla_cpu_experimental_ynn_fusion_type"  # the option that says which operations YNNPACK takes


@functools.cache
def options() -> dict[str, str | bool]:
    """Options that keep YNNPACK from convolutions; none if this JAX does not know the option."""
    if FUSIONS in os.environ.get("XLA_FLAGS", ""):
        return {}
    found: dict[str, str | bool] = {FUSIONS: "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"}
    try:
        jax.jit(lambda: 0).lower().compile(compiler_options=found)
    except jax.errors.JaxRuntimeError:
        return {}
    return found
