"""Spectrum: the eigenvalues and eigenfunctions of a kernel on given inputs.

With weights w that sum to one (by default 1/n each), a kernel acts on functions as (K phi)(x) = sum_j w_j K(x, x_j)
phi(x_j). This estimates the integral operator over the inputs' distribution, and its eigenvalues do not grow with n.
Gradient descent learns the eigenfunctions independently of each other: the error in mode i decays as exp(-eigenvalue_i
* time).

>>> import ntkbias as nb
>>> x, weights = nb.domains.Circle().quadrature(64)
>>> spectrum = nb.spectrum(nb.infinite_ntk(nb.nets.mlp(depth=2, b_std=0.1)), x, weights=weights)
>>> spectrum.eigenspace[:5].tolist()                # a constant, then pairs of one frequency
[0, 1, 1, 2, 2]
>>> spectrum.extend(x[:3] * 1.0).shape == (3, spectrum.num_above_noise)
True
"""

import math
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from ntkbias.checks import (
    key_or_default,
    require_choice,
    require_finite,
    require_positive,
    require_wide,
)
from ntkbias.entropy import entropic_rank, entropy
from ntkbias.errors import InputError
from ntkbias.kernels import Kernel
from ntkbias.kernels.unloaded import UnloadedKernel
from ntkbias.mistaken import require_no_labels
from ntkbias.results import OPTIONAL
from ntkbias.scaling.decay import DecayExponent, decay_of
from ntkbias.tables import Axes, Fact, Printed, Table, brackets, counted, explained, number, percent
from ntkbias.threads import blas
from ntkbias.types import Inputs

__all__ = ["Scalar", "Spectrum"]

Scalar = Float[Array, ""] | np.floating  # NumPy's within a report, where the eigenvalues are NumPy arrays
SMALL = 512  # up to this many modes, NumPy's threads cost more time than they save


class Spectrum(Printed):
    """The eigenpairs of a kernel on inputs x with weights w, in descending order.

    Eigenfunctions have mean square one: sum_j w_j phi(x_j)^2 = 1. A kernel with `outputs="all"` has vector-valued
    eigenfunctions `(n, o, k)`, whose squares are summed over outputs before the mean over inputs. Modes with the same
    number in `eigenspace` have eigenvalues too close to distinguish. Their span is meaningful, but the single
    eigenfunctions within it are arbitrary. Eigenvalues below `noise_floor` are rounding.

    >>> import ntkbias as nb
    >>> x, weights = nb.domains.Circle().quadrature(16)
    >>> spectrum = nb.spectrum(nb.infinite_ntk(nb.nets.mlp(depth=2)), x, weights=weights)
    >>> spectrum.eigenvalues.shape, spectrum.eigenfunctions.shape, spectrum.eigenspace[:3].tolist()
    ((16,), (16, 16), [0, 1, 1])
    """

    named_axes = Axes("mode", k="mode", n="input", o="output", m="landmark")

    eigenvalues: Float[Array, " k"]
    eigenfunctions: Float[Array, "n *o k"]
    eigenspace: Int[Array, " k"]
    trace: Float[Array, ""]  # of the whole operator, even if only the top k modes are known; NaN if some are negative
    residuals: Float[Array, " k"]  # ||K phi - eigenvalue phi|| / ||phi||
    noise_floor: Float[Array, ""]
    weights: Float[Array, " n"]
    x: Array | None = None
    kernel: Kernel | None = eqx.field(default=None, metadata={OPTIONAL: UnloadedKernel})
    tolerance: float = 0.0  # the requested residual, relative to the eigenvalue
    method: str = eqx.field(static=True, default="dense")  # how it was computed: "dense", "matrix-free", "nystrom"

    @property
    def inputs(self) -> Any:
        """The inputs in the form that the kernel's function takes.

        `x` stores inputs of several arrays as packed rows of bytes. Without its kernel, a spectrum cannot unpack them
        and returns the rows of bytes.
        """
        return self.x if self.kernel is None else self.kernel.unpacked(self.x)

    @property
    def converged(self) -> Bool[Array, " k"]:
        """Whether the residual of each mode is at most `tolerance` times its eigenvalue, or the size of a negative one.

        Modes below the noise floor, and all modes of a spectrum without a tolerance (as of a decomposed matrix), need a
        residual within the noise floor instead.
        """
        asked = self.above_noise & (self.tolerance > 0)
        relative = self.tolerance * self.eigenvalues
        return self.residuals <= jnp.where(asked, relative, jnp.maximum(self.noise_floor, -relative))

    @property
    def above_noise(self) -> Bool[Array, " k"]:
        """Whether each eigenvalue is above the noise floor."""
        return self.eigenvalues > self.noise_floor

    @property
    def num_above_noise(self) -> int:
        """The number of modes above the noise floor; they come first."""
        self.require_one()
        return int(np.sum(np.asarray(self.eigenvalues) > np.asarray(self.noise_floor)))

    @property
    def num_missing(self) -> int:
        """The number of the operator's modes that this spectrum does not hold."""
        self.require_one()
        return math.prod(self.eigenfunctions.shape[:-1]) - len(self.eigenvalues)

    def require_one(self) -> None:
        """Raise an `InputError` if these are several spectra, stacked by `vmap`."""
        *stacked, _ = np.shape(self.eigenvalues)
        if stacked:
            raise InputError(
                f"Expected one spectrum; got {' by '.join(map(str, stacked))} stacked ones, as by vmap. Take one by "
                "jax.tree.map(lambda leaf: leaf[0], spectra)."
            )

    def effective_rank(self) -> Scalar:
        """exp(entropy) of the normalized eigenvalues (Roy and Vetterli 2007), from 1 to the number of modes.

        Raises `InputError` on a spectrum that holds only the top modes, because the entropy also depends on the others.
        Use `effective_rank_bounds` for such a spectrum.
        """
        if self.num_missing:
            raise InputError(
                f"Expected all {self.num_missing + len(self.eigenvalues)} modes for the effective rank; got the first "
                f"{len(self.eigenvalues)}. Use effective_rank_bounds(), which takes the sum of the others from the "
                "trace."
            )
        return entropic_rank(self.eigenvalues)

    def effective_rank_bounds(self) -> tuple[Scalar, Scalar]:
        """The least and the largest effective rank that are consistent with the known eigenvalues and the trace.

        The unknown modes share the rest of the trace. The rank is least if as few of them as possible hold it, each at
        most as large as the last known eigenvalue. It is largest if all of them share the rest equally. If no mode is
        missing, both bounds equal `effective_rank`. Known eigenvalues count as exact.
        """
        array = self.eigenvalues.__array_namespace__()
        known, missing = array.maximum(self.eigenvalues, 0.0), self.num_missing
        if not missing:
            rank = entropic_rank(known)
            return rank, rank
        rest = array.clip(self.trace - array.sum(known), 0.0, missing * known[-1])
        total = array.sum(known) + rest
        last = array.where(known[-1] > 0, known[-1], 1.0)
        full = array.floor(rest / last)  # unknown modes that can be as large as the last known one
        least = full * entropy(last / total) + entropy(array.maximum(rest - full * last, 0.0) / total)
        largest = missing * entropy(rest / missing / total)
        entropy_of_known = array.sum(entropy(known / total))
        return array.exp(entropy_of_known + least), array.exp(entropy_of_known + largest)

    def stable_rank(self) -> Scalar:
        """The trace divided by the largest eigenvalue: ||J||_F^2 / ||J||_2^2 for features J with this kernel.

        It lies between 1 and the number of modes, and needs only the first mode.
        """
        self.require_one()
        return self.trace / self.eigenvalues[0]

    def project(self, targets: ArrayLike) -> Float[Array, "k *t"]:
        """The coefficients <phi_i, y> = sum_j w_j phi_i(x_j) y(x_j) of targets y in each mode, `(k,)` or `(k, t)`.

        `targets` are values on x, `(n,)` or `(n, t)`; for vector-valued modes, `(n, o)` or `(n, o, t)`. Costs n k t
        multiplications. Raises `InputError` on targets of another shape or not finite.
        """
        values = self._checked_targets(targets)
        rule = "n,nok,no...->k..." if self.eigenfunctions.ndim == 3 else "n,nk,n...->k..."
        return jnp.einsum(rule, self.weights, self.eigenfunctions, values, precision="highest")

    def cumulative_power(self, targets: ArrayLike) -> Float[Array, "k *t"]:
        """The share of each target's power, sum_j w_j y_j^2, in the first 1, 2, ... k modes.

        A target whose share rises early is learned early (Canatar et al. 2021, arXiv 2006.13198). The arguments, the
        shape of the result and the errors are those of `project`.
        """
        values = self._checked_targets(targets)
        axes = (0, 1) if self.eigenfunctions.ndim == 3 else 0
        weights = self.weights.reshape(-1, *(1,) * (values.ndim - 1))
        return jnp.cumsum(self.project(values) ** 2, axis=0) / jnp.sum(weights * values**2, axes)

    def extend(self, x_new: Inputs, num_modes: int | None = None) -> Float[Array, "m *o k"]:
        """The first eigenfunctions at new inputs: phi(x) = sum_j K(x, x_j) w_j phi(x_j) / eigenvalue (Nystrom).

        `num_modes` is at most the number above the noise floor, which is also the default; below the floor the quotient
        is noise. Costs the kernel between m new inputs and n old ones, and m n k multiplications. Raises `InputError`
        on a spectrum of a bare matrix, and on a loaded spectrum whose kernel needs a function that `load` did not get.
        """
        if self.kernel is None or self.x is None:
            raise InputError(
                "Expected a spectrum made from a kernel and inputs; got one of a bare matrix, which cannot be "
                "extended. Use spectrum(kernel, x)."
            )
        modes = self._first_modes(num_modes)
        scaled = self.eigenfunctions[..., modes] / self.eigenvalues[modes]
        gram = self.kernel(x_new, self.x)
        rule = "manb,n,nbk->mak" if self.eigenfunctions.ndim == 3 else "mn,n,nk->mk"
        return jnp.einsum(rule, gram, self.weights, scaled, precision="highest")

    def decay_exponent(
        self,
        against: Literal["index", "frequency"] = "index",
        *,
        frequencies: ArrayLike | None = None,
        first: int = 1,
        last: int | None = None,
        num_resamples: int = 100,
        key: PRNGKeyArray | None = None,
        predicted: float | None = None,
    ) -> DecayExponent:
        """Fit the exponent a of eigenvalue ~ index^a or ~ frequency^a: the slope of modes `first` .. `last - 1`.

        The exponents against index and against frequency differ. On the circle, -2 against frequency is -2 against
        index. On S^{d-1}, -d against frequency is -d / (d - 1) against index. `against="frequency"` needs the
        `frequencies` `(k,)` of a `FrequencyRanking` and leaves out modes of frequency zero. `last` is by default the
        number of modes above the noise floor, but at most 200 and at most a fifth of n. (Later eigenvalues of a sample
        fall short of the operator's.)

        Eigenvalues approach their power law slowly: one network on 64 to 512 nodes of the circle has slopes from -2.38
        to -2.15, and the limit -2. So the range `low` .. `high` spans the slopes of the thirds of the fitted modes
        and their continued trend; see `DecayExponent`. `predicted` is printed beside it: give the exponent of
        `predicted_decay` if you know the kernel in closed form.

        `sample_low` .. `sample_high` covers the slope that samples of n inputs give on average, 95 % of the time. It is
        the exponent +- 1.96 standard deviations over the Bayesian bootstrap (weights times exponential variables, Rubin
        1981), in the span of the first 2 `last` modes. It is too wide for quadrature nodes, which are not a random
        sample. It is up to half as wide again for a spectrum with fewer modes than 2 `last`. `key` draws the resamples
        (default: a fixed key). Costs `num_resamples` eigendecompositions of size 2 `last`.

        Raises `InputError` on fewer than two modes to fit, on modes below the noise floor, and on missing frequencies.
        """
        require_choice("against", against, ("index", "frequency"))
        require_positive("num_resamples", num_resamples)
        if last is None:
            last = min(self.num_above_noise, len(self.weights) // 5, 200)
        if not 0 <= first < last - 1 or last > self.num_above_noise:
            raise InputError(
                f"Expected two or more modes to fit, among the {self.num_above_noise} above the noise floor; got modes "
                f"{first} to {last - 1}. Choose first and last, or use more inputs."
            )
        if against == "index":
            positions = np.arange(1.0, last + 1)
        elif frequencies is None or np.size(frequencies) < last:
            got = "none" if frequencies is None else np.size(frequencies)
            raise InputError(
                f"Expected frequencies= of at least {last} modes to fit against frequency; got {got}. "
                "Use rank_by_frequency(spectrum, domain).frequencies."
            )
        else:
            positions = np.asarray(frequencies, float)[:last]
        fitted = (np.arange(last) >= first) & (positions > 0)

        resampled = self._resampled_eigenvalues(2 * last, num_resamples, key_or_default(key))
        values, draws = np.asarray(self.eigenvalues, float)[:last], np.stack([row[:last] for row in resampled])
        modes = slice(first, last)
        return decay_of(positions[fitted], values[fitted], draws[:, fitted], against, modes, predicted)

    def _facts(self) -> list[Fact]:
        if not len(self.eigenvalues):
            return [Fact.of_number("trace", self.trace)]
        low, high = map(float, self.effective_rank_bounds())
        count = int(np.sum(np.asarray(self.eigenvalues) > np.asarray(self.noise_floor)))
        modes = f"{count:,} of {len(self.eigenvalues):,}"
        return [
            Fact.of_number("trace", self.trace),
            Fact.of_ends("effective rank", low, high) if self.num_missing else Fact.of_number("effective rank", low),
            Fact.of_number("stable rank", self.stable_rank()),
            Fact("modes above the noise floor", count, modes if self.method == "dense" else f"{modes} ({self.method})"),
        ]

    def _table(self, num_rows: int) -> Table:
        count, (n, *outputs, _) = len(self.eigenvalues), self.eigenfunctions.shape
        shown = range(min(count, num_rows))
        inputs = counted(n, "input") + "".join(f" with {counted(o, 'output')}" for o in outputs)
        columns = {
            "": brackets(np.asarray(self.eigenspace))[:num_rows],
            "mode": [str(mode + 1) for mode in shown],
            "eigenvalue": [number(self.eigenvalues[mode]) for mode in shown],
            "of trace": [percent(self.eigenvalues[mode], self.trace) for mode in shown],
            "residual": [number(self.residuals[mode]) for mode in shown],
        }
        facts = ", ".join(map(str, [*self._facts(), Fact.of_number("noise floor", self.noise_floor)]))
        title = f"{type(self).__name__}: {counted(count, 'mode')} on {inputs}"
        return Table(title, columns, [facts, *explained(columns)], count - len(shown))

    def _resampled_eigenvalues(self, num_modes: int, num_resamples: int, key: PRNGKeyArray) -> list[np.ndarray]:
        """Eigenvalues under random weights w' in the span of the first modes: those of L^1/2 Phi^T W' Phi L^1/2.

        L is the diagonal matrix of eigenvalues.
        """
        modes = slice(min(num_modes, self.num_above_noise))
        functions = np.asarray(self.eigenfunctions, float)[..., modes]
        features = functions * np.sqrt(np.asarray(self.eigenvalues, float)[modes])
        draws = np.asarray(jax.random.exponential(key, (num_resamples, len(self.weights))), float)
        weights = draws * np.asarray(self.weights, float)
        weights /= weights.sum(1, keepdims=True)
        floor = np.finfo(float).tiny
        resampled = []
        with blas().limit(limits=1 if features.shape[-1] <= SMALL else None, user_api="blas"):
            for row in weights:
                scaled = np.sqrt(row).reshape(-1, *(1,) * (features.ndim - 1)) * features
                scaled = scaled.reshape(-1, scaled.shape[-1])
                resampled.append(np.maximum(np.linalg.eigvalsh(scaled.T @ scaled)[::-1], floor))
        return resampled

    def _first_modes(self, num_modes: int | None) -> slice:
        if num_modes is None:
            return slice(self.num_above_noise)
        require_positive("num_modes", num_modes)
        if num_modes > self.num_above_noise:
            raise InputError(
                f"Expected num_modes of at most {self.num_above_noise}, the modes above the noise floor; got "
                f"{num_modes}."
            )
        return slice(num_modes)

    def _checked_targets(self, values: ArrayLike) -> Array:
        self.require_one()
        targets = require_wide(values, "targets")
        shape = self.eigenfunctions.shape[:-1]
        if targets.shape[: len(shape)] != shape or targets.ndim > len(shape) + 1:
            raise InputError(
                f"Expected targets of shape {shape}, one value per input, or with one more axis; got {targets.shape}."
            )
        require_finite(targets, "targets")
        require_no_labels(targets)
        return targets
