"""Compiled functions that hold a network: `jax.jit`, with the compiler's options that its convolutions want.

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
from typing import Any

import equinox as eqx
import jax

__all__ = ["compiled"]

FUSIONS = "xla_cpu_experimental_ynn_fusion_type"  # which operations YNNPACK takes


def compiled(f: Callable | None = None, *, donate_rest: bool = False) -> Callable:
    """`jax.jit(f)`, with convolutions as fast as the device has them; a decorator, too.

    Arguments are pytrees, by position. Their arrays are the program's; whatever else they hold is a constant that it is
    compiled for, and has to be hashable. With `donate_rest` the arrays of all arguments but the first are given away.
    Inside another compiled function, and under `grad`, f becomes part of that, with its options.
    """
    if f is None:
        return functools.partial(compiled, donate_rest=donate_rest)

    def run(static: tuple, first: list, rest: list) -> Any:
        return f(*_whole(first, static[0]), *_whole(rest, static[1]))

    run.__name__, run.__qualname__ = f.__name__, f.__qualname__
    jit = functools.partial(jax.jit, run, static_argnums=0, donate_argnums=2 if donate_rest else ())
    inlined = jit()
    alone = functools.cache(lambda: jit(compiler_options=_options()))

    @functools.wraps(f)
    def call(*args: Any) -> Any:
        (first, fixed), (rest, others) = _parted(args[:1]), _parted(args[1:])
        static = fixed, others
        if jax.default_backend() != "cpu" or not _options():
            return inlined(static, first, rest)
        try:
            return alone()(static, first, rest)
        except ValueError as error:
            if "`compiler_options` can only be passed to top-level" not in str(error):
                raise
            return inlined(static, first, rest)

    return call


def _parted(tree: Any) -> tuple[list, tuple]:
    """The arrays of a pytree, and the rest of it, which has a hash."""
    leaves, treedef = jax.tree.flatten(tree)
    arrays = [leaf if eqx.is_array(leaf) else None for leaf in leaves]
    return arrays, (tuple(None if eqx.is_array(leaf) else leaf for leaf in leaves), treedef)


def _whole(arrays: list, static: tuple) -> Any:
    """The pytree of these parts."""
    others, treedef = static
    return jax.tree.unflatten(treedef, [o if a is None else a for a, o in zip(arrays, others, strict=True)])


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
