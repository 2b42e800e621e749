"""The spectrum of a kernel on inputs, by a method that suits their number.

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
from ntkbias.errors import InputError, InputTypeError
from ntkbias.kernels import Kernel
from ntkbias.kernels.inputs import of_one_array
from ntkbias.kernels.kernel import require_kernel
from ntkbias.memory import default_memory_budget
from ntkbias.spectra import Spectrum
from ntkbias.types import Inputs

__all__ = ["spectrum"]

FEW = 20  # products are faster than a decomposition for up to 1 / FEW of all modes
NUM_MODES = 100  # the default if a decomposition does not fit in memory
ARRAYS = 4  # arrays of the matrix's size that a dense decomposition needs


def spectrum(
    kernel: Kernel,
    x: Inputs | None = None,
    *,
    weights: ArrayLike | None = None,
    num_modes: int | None = None,
    key: PRNGKeyArray | None = None,
) -> Spectrum:
    """The eigenvalues and eigenfunctions of `kernel` on the inputs `x` `(n, ...)`.

    `weights` `(n,)` are positive and sum to one. Give quadrature weights, or none for a sample of the distribution. The
    result keeps x and the kernel, so that its eigenfunctions extend to new inputs. `num_modes` keeps only the first
    modes.

    Let N = n be the number of rows (n o for outputs="all"). If the matrix fits in memory, it is decomposed. This costs
    the kernel, about 10 N^3 operations, and memory for 4 N^2 numbers. `top_modes` computes the modes instead if the
    matrix does not fit, or if N is above 5,000 and `num_modes` is at most N / 20. Its random vectors come from `key`
    (default: a fixed one). If the matrix does not fit and `num_modes` is not given, it finds the first 100 modes and
    warns. `method` in the result is "dense" or "matrix-free".

    Raises `InputError` on whatever the kernel or `eigh` refuses, and on a kernel with `outputs="each"`; select one
    output of such a kernel.

    >>> import ntkbias as nb
    >>> circle = nb.domains.Circle()
    >>> x, weights = circle.quadrature(16)
    >>> spectrum = nb.spectrum(nb.infinite_ntk(nb.nets.mlp(depth=1, b_std=0.1)), x, weights=weights)
    >>> [round(value.item(), 3) for value in spectrum.eigenvalues[:5]]
    [0.166, 0.129, 0.129, 0.038, 0.038]
    """
    require_kernel(kernel)
    if x is None:
        raise InputTypeError("Expected spectrum(kernel, x); got no x. Give inputs (n, ...).")
    if kernel.outputs == "each":
        raise InputError(
            "Expected a kernel with one value or one matrix per pair of inputs; got outputs='each'. "
            "Use outputs='mean', 'sum' or 'all', or nb.eigen.eigh(kernel(x)[i]) for output i."
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
                    f"Expected a kernel whose matrix fits in memory; got {rows:,} rows, for which all modes need "
                    f"{num_bytes / 2**30:.3g} GiB. Computing the first {num_modes} modes; choose their number with "
                    "num_modes=.",
                    stacklevel=2,
                )
            return top_modes(kernel.operator(x), num_modes, key=key, weights=weights)
    modes = eigh(kernel(x), weights=weights, num_modes=num_modes)
    return Spectrum(**{**vars(modes), "x": x, "kernel": kernel})
