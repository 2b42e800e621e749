"""The test error of kernel regression by number of examples, predicted from the kernel's spectrum.

Take a kernel with eigenvalues r_i, n examples and a ridge d that is added to K. Regression learns a fraction L_i of
mode i, the mode's learnability. For a target with coefficients v_i and noise of variance s^2, the test error E is

    E = E0 (sum_i (1 - L_i)^2 v_i^2 + s^2),    E0 = n / (n - sum_i L_i^2)
    L_i = r_i / (r_i + kappa),                 sum_i L_i + d / kappa = n

(Bordelon, Canatar and Pehlevan 2020, arXiv 2002.02561; Simon et al. 2021, arXiv 2110.03922). At ridge zero the
learnabilities sum to n: regression learns one mode at the expense of others. Unknown modes have eigenvalues far below
kappa, so L_i is about r_i / kappa. Their trace is therefore added to the ridge; the curves would be wrong without it.

The theory treats eigenfunctions as independent Gaussian variables. This is a good approximation in many dimensions. On
a circle, the modes of one frequency depend on each other, and the theory is only qualitative. On a finite domain, the
theory describes draws without replacement if there is neither ridge nor noise. With a ridge, with noise, or with
repeated draws, it holds only if n is far below the number of inputs.

>>> import ntkbias as nb
>>> from ntkbias.learning import learning_curve
>>> exact = nb.exact_spectrum(nb.infinite_ntk(nb.nets.mlp(depth=4)), nb.domains.Hypercube(8), max_degree=8)
>>> power = (exact.degrees == 1) * 1.0                  # a linear function
>>> print(learning_curve(exact, power, [8, 32, 128]))
LearningCurve: 3 sizes, ridge 0, noise 0
  n  test error  learned    kappa
  8       0.691    23.7%    0.216
 32       0.178    63.6%   0.0383
128     0.00712    94.4%  0.00400
Regression learns a mode of rate r to the share r / (r + kappa).
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import scipy
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from ntkbias.checks import require_known, require_scale, require_whole_numbers
from ntkbias.errors import InputError
from ntkbias.exact import ExactSpectrum
from ntkbias.kernels.on_inputs import on_inputs
from ntkbias.learning.modes import require_squares, spectrum_of, values_on
from ntkbias.mistaken import require_no_labels
from ntkbias.scaling import crossing
from ntkbias.spectra import Spectrum
from ntkbias.tables import Axes, Printed, Table, counted, explained, number, spaced
from ntkbias.types import Inputs

__all__ = ["LearningCurve", "Levels", "learning_curve", "levels_of"]

ROUNDING = 1e-10  # share of a target's power that float32 modes leave of a function in their span
LARGEST_RATIO = 600.0  # log of the trace over kappa; float64 underflows beyond it


class Levels(NamedTuple):
    """Eigenvalues with their multiplicities, and the trace of the unknown modes. Eigenvalues below noise are zero."""

    eigenvalues: np.ndarray
    multiplicities: np.ndarray
    tail: float
    num_outputs: int = 1  # with vector-valued modes, each example counts this many times

    def learnabilities(self, kappa: float) -> np.ndarray:
        """The learnability r / (r + kappa) of each level."""
        known = self.eigenvalues > 0
        return np.where(known, self.eigenvalues / np.where(known, self.eigenvalues + kappa, 1.0), 0.0)

    def examples(self, kappa: float, ridge: float) -> float:
        """The number of examples at which kappa has this value."""
        known = float(self.multiplicities @ self.learnabilities(kappa))
        return known / self.num_outputs + (ridge + self.tail / self.num_outputs) / kappa

    def fewest_examples(self, kappa: float, ridge: float) -> float:
        """A lower bound of `examples`: an unknown eigenvalue r adds r / (r + kappa), and is at most the least known."""
        known = float(self.multiplicities @ self.learnabilities(kappa))
        top = min(np.min(self.eigenvalues[self.eigenvalues > 0], initial=np.inf), self.tail)
        return (known + self.tail / (kappa + top)) / self.num_outputs + ridge / kappa

    def kappa(self, n: float, ridge: float) -> float:
        """The kappa of n examples; zero if they determine all modes."""
        total = float(self.multiplicities @ self.eigenvalues + self.tail) / self.num_outputs + ridge
        modes = float(self.multiplicities @ (self.eigenvalues > 0)) / self.num_outputs
        tail_and_ridge = self.tail / self.num_outputs + ridge
        if not total or (not tail_and_ridge and n >= modes):
            return 0.0
        high = np.log(total / n)  # learnabilities are at most r / kappa
        low = high - 1.0
        while self.examples(np.exp(low), ridge) <= n and low > high - LARGEST_RATIO:
            low -= 2 * (high - low)
        if low <= high - LARGEST_RATIO:
            return 0.0
        root = scipy.optimize.brentq(lambda log: self.examples(np.exp(log), ridge) - n, low, high + 1e-9, xtol=1e-15)
        return float(np.exp(root))


class LearningCurve(Printed):
    """The predicted test error of kernel regression at each number of examples. The last axis `t` counts targets.

    >>> import ntkbias as nb
    >>> circle = nb.domains.Circle()
    >>> x, weights = circle.quadrature(16)
    >>> curve = nb.learning_curve(nb.infinite_ntk(nb.nets.mlp(depth=1, b_std=0.1)), x, x[:, 0], [2, 4, 8])
    >>> curve.learned.shape, bool((curve.learned[1:] > curve.learned[:-1]).all())
    ((3,), True)
    """

    named_axes = Axes("size", index={"size": "sizes"}, also=["learned"], s="size", k="mode", t="target")

    sizes: Int[Array, " s"]
    errors: Float[Array, "s *t"]  # mean squared error on noisy test targets; subtract `noise` for the function's error
    kappa: Float[Array, " s"]
    overfitting: Float[Array, " s"]  # E0: the factor that multiplies the noise and the unlearned power
    learnabilities: Float[Array, "s k"]  # of the modes, or of the levels of an exact spectrum
    power: Float[Array, "k *t"]  # of the target in each mode or level
    beyond: Float[Array, "*t"]  # the target's power outside the known modes, which is not learned
    multiplicities: Float[Array, " k"]
    ridge: float
    noise: float

    @property
    def mode_errors(self) -> Float[Array, "s k *t"]:
        """The part of the error in each mode. The rest of the error is noise and power outside the known modes."""
        extra = (1,) * (self.power.ndim - 1)
        unlearned = (1 - self.learnabilities) ** 2
        left = jnp.where(unlearned == 0, 0.0, self.overfitting[:, None] * unlearned)  # E0 is infinite if n = modes
        parts = left.reshape(*left.shape, *extra) * self.power
        return jnp.where(self.power == 0, 0.0, parts)

    @property
    def errors_without_noise(self) -> Float[Array, "s *t"]:
        """The mean squared error of the function itself, without the noise of test targets."""
        return self.errors - self.noise

    def examples_until(self, level: float, *, noise: bool = True) -> Float[np.ndarray, "*t"]:
        """The number of examples at which each target's error falls through `level`; NaN if it does not.

        See `scaling.crossing`. Without `noise`, it is the function's own error that falls.
        """
        return crossing(self.sizes, self.errors if noise else self.errors_without_noise, level)

    @property
    def learned(self) -> Float[Array | np.ndarray, "s *t"]:
        """The learnability of each target, sum_i L_i v_i^2 / sum_i v_i^2, from 0 to 1."""
        array = self.power.__array_namespace__()
        return array.tensordot(self.learnabilities, self.power, 1) / (self.power.sum(0) + self.beyond)

    def _table(self, num_rows: int) -> Table:
        shown = spaced(len(self.sizes), num_rows)
        errors, learned = (
            np.asarray(part).reshape(len(self.sizes), -1).mean(1) for part in (self.errors, self.learned)
        )
        columns = {
            "n": [f"{int(self.sizes[row]):,}" for row in shown],
            "test error": [number(errors[row]) for row in shown],
            "learned": [f"{learned[row]:.1%}" for row in shown],
            "kappa": [number(self.kappa[row]) for row in shown],
        }
        targets = math.prod(self.errors.shape[1:])
        means = f", means over {targets:,} targets" if targets > 1 else ""
        return Table(
            f"LearningCurve: {counted(len(self.sizes), 'size')}, ridge {self.ridge:g}, noise {self.noise:g}{means}",
            columns,
            explained(columns),
        )


@on_inputs
def learning_curve(
    kernel: Any,
    x: Inputs,
    targets: ArrayLike,
    sizes: ArrayLike | Sequence[int],
    *,
    ridge: float = 0.0,
    noise: float = 0.0,
) -> LearningCurve:
    """Predict the test error of kernel regression on `sizes` `(s,)` examples, mode by mode.

    `kernel` comes with inputs `x`, which represent the whole distribution. A `Spectrum`, an operator, or a matrix
    `(n, n)` replaces both. `targets` are values on the inputs, `(n,)` or `(n, t)`. For an `ExactSpectrum`, `targets`
    are instead the target's power in each row, `(k,)` or `(k, t)`; `domain.energy` computes it. Choose `sizes` far
    below n. `ridge` is added to K. `noise` is the variance of the label noise, included in the test error.

    Regression on n examples learns the fraction L_i = r_i / (r_i + kappa) of mode i with eigenvalue r_i, its
    learnability. The test error is the unlearned power and the noise, times E0 = n / (n - sum_i L_i^2). The trace of
    modes that are unknown or below the noise floor is added to the ridge, and the target's power there is not learned.
    E0 then lacks sum_i L_i^2 over these modes, which is at most their trace * their largest eigenvalue / kappa^2.

    Costs one scalar root per size, with k numbers per evaluation. A kernel or matrix also costs its spectrum.

    Raises `InputError` on sizes below one or beyond the number of inputs, a negative ridge or noise, targets of another
    shape or with squares that overflow, labels as targets, and a spectrum of vector-valued modes (outputs="all").

    >>> import ntkbias as nb
    >>> circle = nb.domains.Circle()
    >>> x, weights = circle.quadrature(16)
    >>> kernel = nb.infinite_ntk(nb.nets.mlp(depth=1, b_std=0.1))
    >>> curve = nb.learning_curve(kernel, x, circle.harmonics(x, 1)[:, 1], sizes=[2, 4, 8])
    >>> curve.errors.shape, bool(curve.errors[2] < curve.errors[0])
    ((3,), True)
    """
    require_known((kernel, x, targets, sizes, ridge, noise), "learning_curve")
    require_scale("ridge", ridge)
    require_scale("noise", noise)
    counts = checked_sizes(sizes)
    spectrum = kernel if isinstance(kernel, ExactSpectrum) else spectrum_of(kernel, x)
    levels = levels_of(spectrum)
    if isinstance(spectrum, Spectrum) and counts.max() > len(spectrum.weights):
        raise InputError(
            f"Expected sizes of at most {len(spectrum.weights)}, the number of inputs, which represent the whole "
            f"distribution; got {counts.max()}. Give more inputs, or an ExactSpectrum."
        )
    power, beyond = _power(spectrum, targets)
    kappa = np.array([levels.kappa(float(n), float(ridge)) for n in counts])
    learnabilities = np.stack([levels.learnabilities(float(value)) for value in kappa])
    free = counts - learnabilities**2 @ levels.multiplicities
    with np.errstate(divide="ignore"):
        overfitting = counts / np.maximum(free, 0.0)
    extra = (1,) * (power.ndim - 1)
    unlearned = np.tensordot((1 - learnabilities) ** 2, power, 1) + beyond
    # With all modes known and as many examples as modes, E0 grows as 1 / kappa, and the unlearned power falls as
    # kappa^2.
    everything = (kappa.reshape(-1, *extra) == 0) & (unlearned <= ROUNDING * (power.sum(0) + beyond))
    left = np.where(everything, 0.0, unlearned) + noise
    with np.errstate(invalid="ignore"):
        errors = np.where(left == 0, 0.0, overfitting.reshape(-1, *extra) * left)  # E0 is infinite if n = modes
    dtype = jnp.result_type(float)
    return LearningCurve(
        sizes=jnp.asarray(counts),
        errors=jnp.asarray(errors, dtype),
        kappa=jnp.asarray(kappa, dtype),
        overfitting=jnp.asarray(overfitting, dtype),
        learnabilities=jnp.asarray(learnabilities, dtype),
        power=jnp.asarray(power, dtype),
        beyond=jnp.asarray(beyond, dtype),
        multiplicities=jnp.asarray(levels.multiplicities, dtype),
        ridge=float(ridge),
        noise=float(noise),
    )


def levels_of(spectrum: Spectrum | ExactSpectrum) -> Levels:
    """The eigenvalues, multiplicities and unknown trace of a spectrum."""
    if isinstance(spectrum, Spectrum):
        spectrum.require_one()
    kept = np.asarray(spectrum.above_error if isinstance(spectrum, ExactSpectrum) else spectrum.above_noise)
    values = np.where(kept, np.asarray(spectrum.eigenvalues, float), 0.0)
    if isinstance(spectrum, ExactSpectrum):
        multiplicities, outputs = np.asarray(spectrum.multiplicities, float), 1
    else:
        multiplicities = np.ones(len(values))
        outputs = spectrum.eigenfunctions.shape[1] if spectrum.eigenfunctions.ndim == 3 else 1
    rows = math.prod(spectrum.eigenfunctions.shape[:-1]) if isinstance(spectrum, Spectrum) else np.inf
    all_known = len(values) == rows and bool(np.all(values > 0))  # the rest of the trace is then rounding
    tail = 0.0 if all_known else max(float(spectrum.trace) - float(multiplicities @ values), 0.0)
    return Levels(values, multiplicities, tail, outputs)


def checked_sizes(sizes: Any) -> np.ndarray:
    """The numbers of examples as integers `(s,)`. Raises `InputError` on any other value."""
    counts = require_whole_numbers(sizes, "Expected sizes (s,) of whole numbers of examples, at least 1", 1)
    largest = np.iinfo(jnp.result_type(int)).max
    if counts.max() > largest:
        raise InputError(f"Expected sizes of at most {largest}, the largest whole number here; got {counts.max()}.")
    return counts


def _power(spectrum: Spectrum | ExactSpectrum, targets: Any) -> tuple[np.ndarray, np.ndarray]:
    """The targets' power in each mode, and their power outside all known modes."""
    if isinstance(spectrum, ExactSpectrum):
        power = values_on(targets, "targets", np.shape(spectrum.eigenvalues))
        if np.any(power < 0):
            raise InputError(
                "Expected the targets' power in each row, zero or more; got negative power. Square their coefficients."
            )
        return power, np.zeros(power.shape[1:])
    if spectrum.eigenfunctions.ndim == 3:
        raise InputError(
            "Expected a spectrum of functions with one value per input; got outputs='all'. Use outputs='mean', and one "
            "column of targets per output."
        )
    values = values_on(targets, "targets", spectrum.eigenfunctions.shape[:1])
    require_no_labels(targets)
    require_squares(values, "targets")
    functions, weights = np.asarray(spectrum.eigenfunctions, float), np.asarray(spectrum.weights, float)
    coefficients = np.tensordot(functions * weights[:, None], values, ([0], [0]))
    left = values - np.tensordot(functions, coefficients, 1)  # a difference of powers would be rounding
    return coefficients**2, np.asarray(np.tensordot(weights, left**2, 1))
