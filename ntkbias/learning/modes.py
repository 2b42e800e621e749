"""The modes into which a kernel and a loss split an error, shared by gradient flow, gradient descent and their tests.

Training moves the outputs by df = -K P (f - y) dt. Write P = L L^T, with the eigenpairs L^T K L = V diag(rate) V^T. An
error e then has the coefficients V^T L^T e. Each coefficient evolves independently and moves the outputs along one
column of K L V. This also holds if P is singular. At test points, their rows of K replace those of the training points.
For P = diag(w), the rates are the eigenvalues of a `Spectrum`, and the coefficients belong to its eigenfunctions.

>>> import numpy as np
>>> from ntkbias.learning.modes import modes_of
>>> modes_of(np.diag([4.0, 2.0]), None, None, None, P=np.array([1.0, 0.5])).rates.tolist()
[4.0, 1.0]
"""

import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ntkbias.checks import require_finite, require_host, require_wide
from ntkbias.eigen import eigh
from ntkbias.errors import InputError, InputTypeError
from ntkbias.kernels import Kernel, KernelOperator
from ntkbias.kernels.inputs import of_one_array
from ntkbias.kernels.kernel import refuse_forms
from ntkbias.kernels.on_inputs import operator_on
from ntkbias.spectra import Spectrum
from ntkbias.types import Inputs

__all__ = [
    "Modes",
    "finite_outputs",
    "gram_of",
    "gram_rows",
    "modes_of",
    "require_squares",
    "spectrum_of",
    "values_on",
]


class Modes(NamedTuple):
    """The modes of K P whose rate is above rounding, fastest first, in float64 on the host."""

    rates: np.ndarray  # (k,)
    analysis: np.ndarray  # (k, rows): maps an error to its coefficients
    synthesis: np.ndarray  # (rows, k): maps coefficients, integrated over time, to the decrease of the outputs
    test: np.ndarray | None  # (test rows, k): the same at test points
    metric: np.ndarray  # (rows,) or (rows, rows): P
    shape: tuple[int, ...]  # (n,) or (n, o)


def modes_of(kernel: Any, x: Inputs | None, x_test: Inputs | None, K_test: ArrayLike | None, P: Any) -> Modes:
    """The modes of a matrix, a kernel on inputs, or a spectrum, under the loss 1/2 e^T P e."""
    refuse_forms(kernel)
    if isinstance(kernel, Spectrum):
        kernel.require_one()
    if x_test is not None and K_test is not None:
        raise InputError("Expected test points as x_test= or as K_test=; got both. Leave one out.")
    _warn_of_partial_outputs(kernel, x)
    if isinstance(kernel, Spectrum):
        if P is not None:
            raise InputError(
                "Expected no P= with a spectrum, whose weights serve as P; got one. Give the kernel itself, or a "
                "spectrum with other weights."
            )
        return _of_spectrum(kernel, None if x_test is None else kernel.extend(x_test), K_test)
    if isinstance(kernel, Kernel):
        gram = gram_of(kernel, x)
        if x_test is not None:
            K_test = kernel(x_test, x)
    elif x_test is not None:
        raise InputError(
            "Expected x_test= with a kernel or its spectrum; got it with a matrix. Give the kernel, or K_test=."
        )
    else:
        gram = gram_of(kernel, None)
    if P is None:
        return _of_spectrum(eigh(gram), None, K_test)
    return _of_loss(gram, K_test, P)


def gram_of(kernel: Any, x: Inputs | None) -> Any:
    """The Gram matrix of a kernel on x, of an operator, or `kernel` itself if it is already a matrix."""
    if isinstance(kernel, KernelOperator):
        shape = (kernel.num_examples, kernel.num_outputs)[: 1 + (kernel.num_outputs > 1)]
        return kernel.matrix().reshape(*shape, *shape)
    if not isinstance(kernel, Kernel):
        return kernel
    if kernel.outputs == "each":
        raise InputError(
            "Expected a kernel with one value or one matrix per pair of inputs; got outputs='each'. "
            "Use outputs='all' or 'mean', or kernel(x)[i] for output i."
        )
    return kernel(x)


def spectrum_of(kernel: Any, x: Inputs | None) -> Spectrum:
    """The spectrum of a kernel on x, of an operator or of a matrix; a `Spectrum` is returned as it is."""
    refuse_forms(kernel)
    if isinstance(kernel, Spectrum):
        return kernel
    if isinstance(kernel, Kernel | KernelOperator):
        return eigh(gram_of(kernel, x))
    if callable(kernel) or not (hasattr(kernel, "shape") or isinstance(kernel, list | tuple)):
        raise InputTypeError(
            f"Expected a spectrum, a matrix, an operator, or a kernel with its inputs; got {type(kernel).__name__}."
        )
    return eigh(kernel)


def finite_outputs(kernel: Kernel, x: Any) -> int | None:
    """The number of outputs of the finite network behind this kernel or one of its parts; None at infinite width."""

    def counts(part: Any) -> bool:
        return isinstance(part, Kernel) and hasattr(part, "num_outputs")

    kernel, x = of_one_array(kernel, x, "x")
    parts = filter(counts, jax.tree.leaves(kernel, is_leaf=counts))
    return max((part.num_outputs(jnp.asarray(x)) for part in parts), default=None)


def _warn_of_partial_outputs(kernel: Any, x: Any) -> None:
    """Warn if a kernel is the mean or sum of a finite network's output blocks, whose rates differ from the network's.

    At infinite width the rates of "mean" are exact, and a network with a single output has only one block.
    """
    if isinstance(kernel, Spectrum):
        kernel, x = kernel.kernel, kernel.x
    elif isinstance(kernel, KernelOperator) and kernel.source is not None:
        kernel, x = kernel.source
    if not isinstance(kernel, Kernel) or x is None or kernel.outputs not in ("mean", "sum"):
        return
    count = finite_outputs(kernel, x) or 1
    if count > 1:
        means = "approximate" if kernel.outputs == "mean" else f"approximate, and {count} times too fast"
        warnings.warn(
            "Expected a kernel of all outputs, which a network of finite width follows; got outputs="
            f"{kernel.outputs!r} of {count} outputs, whose rates are {means}. Use outputs='all'.",
            stacklevel=5,
        )


def _of_spectrum(spectrum: Spectrum, test_functions: Any, K_test: Any) -> Modes:
    shape = spectrum.eigenfunctions.shape[:-1]
    count = spectrum.num_above_noise
    rates = np.asarray(spectrum.eigenvalues, float)[:count]
    functions = np.asarray(spectrum.eigenfunctions, float)[..., :count].reshape(int(np.prod(shape)), count)
    weights = np.repeat(np.asarray(spectrum.weights, float), len(functions) // shape[0])
    analysis = (weights[:, None] * functions).T
    if K_test is not None:
        test = gram_rows(K_test, shape) @ analysis.T
    elif test_functions is not None:
        test = np.asarray(test_functions, float)
        test = test.reshape(int(np.prod(test.shape[:-1])), count) * rates
    else:
        test = None
    return Modes(rates, analysis, functions * rates, test, weights, shape)


def _of_loss(gram: Any, K_test: Any, P: Any) -> Modes:
    operator = operator_on(gram, None)
    shape = (operator.num_examples, operator.num_outputs)[: np.ndim(gram) // 2]
    matrix = operator.matrix().astype(float)
    metric, root = _root(require_wide(P, "P"), len(matrix), shape)
    spectrum = eigh(jnp.asarray(root.T @ matrix @ root, operator.dtype))
    rank, count = root.shape[1], spectrum.num_above_noise
    vectors = np.asarray(spectrum.eigenfunctions, float)[:, :count] / np.sqrt(rank)
    analysis = (root @ vectors).T
    test = None if K_test is None else gram_rows(K_test, shape) @ analysis.T
    rates = rank * np.asarray(spectrum.eigenvalues, float)[:count]
    return Modes(rates, analysis, matrix @ analysis.T, test, metric, shape)


def _root(P: Any, rows: int, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """P as `(rows,)` or `(rows, rows)`, and a matrix L with P = L L^T and rank(P) columns."""
    require_finite(P, "P")
    values: np.ndarray = np.asarray(P, float)
    n, outputs = shape[0], rows // shape[0]
    if values.shape == (n,):
        metric: np.ndarray = np.repeat(values, outputs)
        if np.any(metric < 0) or not np.any(metric > 0):
            got = "zeros" if not np.any(metric) else f"{metric.min():.3g} on its diagonal"
            raise InputError(f"Expected a loss matrix P that is positive semi-definite and not zero; got {got}.")
        return metric, np.diag(np.sqrt(metric))[:, metric > 0]
    if values.shape == (n, n):
        values = np.kron(values, np.eye(outputs))
    if values.shape not in ((rows, rows), (*shape, *shape)):
        raise InputError(
            f"Expected a loss matrix P of shape ({n},) for its diagonal, ({n}, {n}), or {(*shape, *shape)} with "
            f"outputs; got {values.shape}."
        )
    metric = values.reshape(rows, rows)
    scale = np.max(np.abs(metric))
    if not scale:
        raise InputError("Expected a loss matrix P that is positive semi-definite and not zero; got zeros.")
    noise = rows * scale * np.finfo(np.asarray(P).dtype if np.asarray(P).dtype.kind == "f" else float).eps
    powers, vectors = np.linalg.eigh((metric + metric.T) / 2)
    if np.max(np.abs(metric - metric.T)) > noise or powers[0] < -noise:
        raise InputError(
            "Expected a loss matrix P that is symmetric, positive semi-definite and not zero; got one with smallest "
            f"eigenvalue {powers[0]:.3g} and asymmetry {np.max(np.abs(metric - metric.T)):.3g}."
        )
    keep = powers > noise
    return metric, vectors[:, keep] * np.sqrt(powers[keep])


def values_on(values: Any, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The values on the inputs in float64, checked to have `shape`, `(n,)` or `(n, o)`, or one more axis of columns."""
    array = require_host(values, name)
    if array.shape[: len(shape)] != shape or array.ndim > len(shape) + 1 or not array.size:
        raise InputError(
            f"Expected {name} of shape {shape}, one value per {'input' if len(shape) == 1 else 'input and output'}, "
            f"or with one more axis; got {array.shape}."
        )
    require_finite(array, name)
    return np.asarray(array, float)


def require_squares(values: np.ndarray, name: str) -> None:
    """Raise an `InputError` if the sum of the squared values overflows, because results contain such sums."""
    dtype = np.dtype(jnp.result_type(float))
    with np.errstate(over="ignore"):
        total = np.sum(values**2)
    if not total <= np.finfo(dtype).max:
        raise InputError(
            f"Expected {name} whose squares sum to a number within the range of {dtype}; got values up to "
            f"{np.max(np.abs(values)):.3g}. Divide them by their scale."
        )


def gram_rows(K_test: Any, shape: tuple[int, ...]) -> np.ndarray:
    """The kernel between test and training points as a matrix `(test rows, rows)`."""
    values = require_wide(K_test, "K_test")
    axes = len(shape)
    if values.ndim != 2 * axes or values.shape[axes:] != shape or values.shape[1:axes] != shape[1:] or not values.size:
        expected = ("m", *map(str, shape)) if axes == 1 else ("m", str(shape[1]), *map(str, shape))
        raise InputError(f"Expected K_test of shape ({', '.join(expected)}), kernel(x_test, x); got {values.shape}.")
    require_finite(values, "K_test")
    return np.asarray(values, float).reshape(-1, int(np.prod(shape)))
