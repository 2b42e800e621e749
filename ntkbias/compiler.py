"""What XLA's compiler for CPUs is asked for.

Since JAX 0.9 or so XLA gives float32 convolutions on a CPU to YNNPACK, and products of matrices. Those of Eigen, which
it had before and still has, are the faster convolutions: twice in JAX 0.10 (3 x 3, 32 to 32 channels on two cores with
AVX-512: 155 GFLOP/s for 66), and a training step takes a quarter less in 0.12. YNNPACK's products are faster, and stay.
An XLA_FLAGS in the environment that names the option is left alone.

>>> from ntkbias.compiler import options
>>> isinstance(options(), dict)
True
"""

import functools
import os

import jax

__all__ = ["options"]

FUSIONS = "xla_cpu_experimental_ynn_fusion_type"  # which operations YNNPACK takes


@functools.cache
def options() -> dict[str, str | bool]:
    """The options, where this JAX knows them."""
    if FUSIONS in os.environ.get("XLA_FLAGS", ""):
        return {}
    found: dict[str, str | bool] = {FUSIONS: "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"}
    try:
        jax.jit(lambda: 0).lower().compile(compiler_options=found)
    except jax.errors.JaxRuntimeError:
        return {}
    return found
