"""The spectrum of a kernel on inputs, in the way that suits their number.

>>> import jax, ntkbias as nb
>>> x = jax.random.normal(jax.random.key(0), (20, 3))
>>> spectrum = nb.spectrum(nb.infinite_ntk(nb.nets.mlp(depth=2)), x)
>>> spectrum.eigenvalues.shape, spectrum.method
((20,), 'dense')
"""

import warnings

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import PRNGKeyArray

from ntkbias.checks import key_or_default, require_array, require_weights
from ntkbias.eigen.dense import CHEAP, eigh
from ntkbias.eigen.krylov import top_modes
from ntkbias.errors import InputError
from ntkbias.kernels import Kernel
from ntkbias.kernels.inputs import of_one_array
from ntkbias.kernels.kernel import require_kernel
from ntkbias.memory import default_memory_budget
from ntkbias.spectra import Spectrum
from ntkbias.types import Inputs

__all__ = ["spectrum"]

FEW = 20  # the part of all modes, one in so many, up to which they come faster from products
NUM_MODES = 100  # where all of them do not fit in memory, and nothing was asked for
ARRAYS = 4  # of the matrix's size, in which dense decomposition works


def spectrum(
    kernel: Kernel,
    x: Inputs,
    *,
    weights: ArrayLike | None = None,
    num_modes: int | None = None,
    key: PRNGKeyArray | None = None,
) -> Spectrum:
    """The eigenvalues and eigenfunctions of `kernel` on the inputs `x` `(n, ...)`.

    `weights` `(n,)` are positive and sum to one: quadrature weights, or none for a sample of the distribution. The
    result keeps x and the kernel, so that its eigenfunctions extend to new inputs. `num_modes` keeps the first ones
    alone.

    With N = n rows (n o for outputs="all") the matrix is decomposed where it fits in memory: it costs the kernel, then
    about 10 N^3 operations and 4 N^2 numbers. Where it does not, or where `num_modes` is at most a twentieth of more
    than 5,000 rows, `top_modes` takes over, with random vectors from `key` (default: a fixed one), and without
    `num_modes` finds the first 100, with a warning. The result's `method` says which it was, "dense" or "matrix-free".

    Raises `InputError` on what the kernel or `eigh` refuses, and on a kernel with `outputs="each"`: take one output.
    """
    require_kernel(kernel)
    key = key_or_default(key)
    if kernel.outputs == "each":
        raise InputError(
            "Expected a kernel with one value or one matrix a pair of inputs; got outputs='each'. "
            "Use outputs='mean', 'sum' or 'all', or eigh(kernel(x)[i]) for output i."
        )
    key = key_or_default(key)
    kernel, x = of_one_array(kernel, x, "x")
    x = require_array(x, "x")
    if weights is not None:
        weights = require_weights(weights, len(x) if x.ndim else 0)
    if x.ndim >= 2 and x.size:
        rows = len(x) * kernel.rows_per_example(x) if len(x) > CHEAP or kernel.outputs == "all" else len(x)
        num_bytes = ARRAYS * rows**2 * jnp.result_type(x.dtype, jnp.float32).itemsize
        too_large = num_bytes > 2 * default_memory_budget()
        if too_large or (num_modes is not None and CHEAP < rows and FEW * num_modes <= rows):
            if num_modes is None:
                num_modes = NUM_MODES
                warnings.warn(
                    f"Expected a kernel whose matrix fits in memory; got {rows:,} rows, for which all modes take "
                    f"{num_bytes / 2**30:.3g} GiB. The first {num_modes} are found: num_modes= says how many.",
                    stacklevel=2,
                )
            return top_modes(kernel.operator(x), num_modes, key=key, weights=weights)
    modes = eigh(kernel(x), weights=weights, num_modes=num_modes)
    return Spectrum(**{**vars(modes), "x": x, "kernel": kernel})
