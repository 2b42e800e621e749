"""Compiled functions that hold a network: `equinox.filter_jit`, with the compiler's options that its convolutions want.

Since JAX 0.9 or so XLA gives float32 convolutions on a CPU to YNNPACK, and products of matrices. Those of Eigen, which
it had before and still has, are the faster convolutions: twice in JAX 0.10 (3 x 3, 32 to 32 channels on two cores with
AVX-512: 155 GFLOP/s for 66), and a training step takes a quarter less in 0.12. YNNPACK's products are faster, and stay.
An XLA_FLAGS in the environment that names the option is left alone.

>>> import jax.numpy as jnp
>>> from ntkbias.compilation import compiled
>>> float(compiled(lambda x: jnp.sum(x**2))(jnp.ones(3)))
3.0
"""

import functools
import os
from collections.abc import Callable
from typing import Any, Literal

import equinox as eqx
import jax

__all__ = ["compiled"]

FUSIONS = "xla_cpu_experimental_ynn_fusion_type"  # which operations YNNPACK takes


def compiled(f: Callable | None = None, *, donate: Literal["none", "all-except-first"] = "none") -> Callable:
    """`equinox.filter_jit(f, donate=...)` with convolutions as fast as the device has them; a decorator, too.

    Inside another compiled function, and under `grad`, f becomes part of that, with its options.
    """
    if f is None:
        return functools.partial(compiled, donate=donate)
    inlined = eqx.filter_jit(f, donate=donate)
    alone = functools.cache(
        lambda: eqx.filter_jit(f, donate=donate, compiler_options=_options())  # type: ignore[call-overload]
    )

    @functools.wraps(f)
    def call(*args: Any) -> Any:
        if jax.default_backend() != "cpu" or not _options():
            return inlined(*args)
        try:
            return alone()(*args)
        except ValueError as error:
            if "`compiler_options` can only be passed to top-level" not in str(error):
                raise
            return inlined(*args)

    return call


@functools.cache
def _options() -> dict[str, str | bool]:
    """What this JAX's compiler for CPUs is asked for, if it knows the option."""
    if FUSIONS in os.environ.get("XLA_FLAGS", ""):
        return {}
    options: dict[str, str | bool] = {FUSIONS: "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"}
    try:
        jax.jit(lambda: 0).lower().compile(compiler_options=options)
    except jax.errors.JaxRuntimeError:
        return {}
    return options
