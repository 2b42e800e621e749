"""Spectrum: the eigenvalues and eigenfunctions of a kernel on given inputs.

With weights w (1/n each unless given, summing to one) a kernel acts on functions as (K phi)(x) = sum_j w_j K(x, x_j)
phi(x_j): an estimate of the integral operator over the inputs' distribution, whose eigenvalues do not grow with n.
Its eigenfunctions are the functions that gradient descent learns one by one, mode i as exp(-eigenvalue_i * time).

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

from ntkbias.checks import key_or_default, require_choice, require_finite, require_positive, require_wide
from ntkbias.entropy import entropic_rank, entropy
from ntkbias.errors import InputError
from ntkbias.kernels import Kernel
from ntkbias.kernels.unloaded import UnloadedKernel
from ntkbias.results import OPTIONAL
from ntkbias.scaling import power_law
from ntkbias.tables import Fact, Printed, Table, brackets, interval, number, percent
from ntkbias.threads import blas
from ntkbias.types import Inputs

__all__ = ["DecayExponent", "Scalar", "Spectrum"]

Scalar = Float[Array, ""] | np.floating  # in the library of the eigenvalues, which is NumPy within a report
SMALL = 512  # modes: up to here NumPy's threads wait for each other longer than they save


class DecayExponent(Printed):
    """The exponent of a power law through eigenvalues, with a 95 % interval; see `Spectrum.decay_exponent`.

    It is the local slope over modes `first` .. `last - 1`, not the exponent that eigenvalues tend to: where they
    approach their power law slowly the interval, which is that of the slope, leaves that exponent out. Of a network of
    depth 2 on the circle, -2.26 (-2.34 to -2.18) from 48 nodes, where `predicted_decay` says -2.
    """

    exponent: float
    low: float
    high: float
    against: str = eqx.field(static=True)  # "index" or "frequency"
    first: int = eqx.field(static=True)  # modes first .. last - 1 were fitted
    last: int = eqx.field(static=True)

    def _table(self, num_rows: int) -> Table:
        return Table(f"{interval(self.exponent, self.low, self.high)} against {self.against}")


class Spectrum(Printed):
    """The eigenpairs of a kernel on inputs x with weights w, in descending order.

    Eigenfunctions have mean square one: sum_j w_j phi(x_j)^2 = 1. Those of a kernel with `outputs="all"` are
    vector-valued, `(n, o, k)`, with mean square over inputs of the sum over outputs one. Modes with the same number
    in `eigenspace` have eigenvalues too close to tell apart: each of their eigenfunctions alone means nothing, their
    span does. Eigenvalues below `noise_floor` are rounding.
    """

    eigenvalues: Float[Array, " k"]
    eigenfunctions: Float[Array, "n *o k"]
    eigenspace: Int[Array, " k"]
    trace: Float[Array, ""]  # of the whole operator, also when only the top k modes are known
    residuals: Float[Array, " k"]  # ||K phi - eigenvalue phi|| / ||phi||
    noise_floor: Float[Array, ""]
    weights: Float[Array, " n"]
    x: Array | None = None
    kernel: Kernel | None = eqx.field(default=None, metadata={OPTIONAL: UnloadedKernel})
    tolerance: float = 0.0  # the residual, relative to an eigenvalue, that was asked for
    method: str = eqx.field(static=True, default="dense")  # how it was found: "dense", "matrix-free", "nystrom"

    @property
    def inputs(self) -> Any:
        """The inputs as the kernel's function takes them. `x` has those of several arrays as packed rows of bytes.

        Without its kernel a spectrum of several arrays has the rows of bytes alone.
        """
        return self.x if self.kernel is None else self.kernel.unpacked(self.x)

    @property
    def converged(self) -> Bool[Array, " k"]:
        """Which modes have a residual within `tolerance` of their eigenvalue; of rounding, within the noise floor.

        Without a tolerance, as where a matrix was decomposed, the noise floor is meant for all.
        """
        asked = self.above_noise & (self.tolerance > 0)
        return self.residuals <= jnp.where(asked, self.tolerance * self.eigenvalues, self.noise_floor)

    @property
    def above_noise(self) -> Bool[Array, " k"]:
        """Which modes stand above the noise floor."""
        return self.eigenvalues > self.noise_floor

    @property
    def num_above_noise(self) -> int:
        """How many modes stand above the noise floor; they come first."""
        return int(np.sum(np.asarray(self.eigenvalues) > np.asarray(self.noise_floor)))

    @property
    def num_missing(self) -> int:
        """How many modes the operator has beyond those that are known."""
        return math.prod(self.eigenfunctions.shape[:-1]) - len(self.eigenvalues)

    def effective_rank(self) -> Scalar:
        """exp of the entropy of the normalized eigenvalues (Roy and Vetterli 2007): from 1 to the number of modes.

        Raises `InputError` on a spectrum of the top modes alone: its entropy depends on the others, too. For that there
        is `effective_rank_bounds`.
        """
        if self.num_missing:
            raise InputError(
                f"Expected all {self.num_missing + len(self.eigenvalues)} modes for the effective rank; got the first "
                f"{len(self.eigenvalues)}. Use effective_rank_bounds(), which takes the others' sum from the trace."
            )
        return entropic_rank(self.eigenvalues)

    def effective_rank_bounds(self) -> tuple[Scalar, Scalar]:
        """The least and the largest effective rank that the known eigenvalues and the trace leave open.

        The modes that are not known share what is left of the trace. The rank is least where as few of them as possible
        have it, each up to the last known eigenvalue, and largest where all of them share it equally. Where no mode is
        missing both are `effective_rank`. Known eigenvalues count as exact.
        """
        array = self.eigenvalues.__array_namespace__()
        known, missing = array.maximum(self.eigenvalues, 0.0), self.num_missing
        if not missing:
            rank = entropic_rank(known)
            return rank, rank
        rest = array.clip(self.trace - array.sum(known), 0.0, missing * known[-1])
        total = array.sum(known) + rest
        last = array.where(known[-1] > 0, known[-1], 1.0)
        full = array.floor(rest / last)  # modes that may be as large as the last known one
        least = full * entropy(last / total) + entropy(array.maximum(rest - full * last, 0.0) / total)
        largest = missing * entropy(rest / missing / total)
        entropy_of_known = array.sum(entropy(known / total))
        return array.exp(entropy_of_known + least), array.exp(entropy_of_known + largest)

    def stable_rank(self) -> Scalar:
        """The trace over the largest eigenvalue: ||J||_F^2 / ||J||_2^2 of features J with this kernel.

        From 1 to the number of modes; known also where only the first modes are.
        """
        return self.trace / self.eigenvalues[0]

    def project(self, targets: ArrayLike) -> Float[Array, "k *t"]:
        """The coefficients <phi_i, y> = sum_j w_j phi_i(x_j) y(x_j) of functions given by their values on x.

        `targets` is `(n,)` or `(n, t)`, and `(n, o)` or `(n, o, t)` for vector-valued modes. Costs n k t
        multiplications.
        """
        values = self._checked_targets(targets)
        rule = "n,nok,no...->k..." if self.eigenfunctions.ndim == 3 else "n,nk,n...->k..."
        return jnp.einsum(rule, self.weights, self.eigenfunctions, values, precision="highest")

    def cumulative_power(self, targets: ArrayLike) -> Float[Array, "k *t"]:
        """The share of the targets' power, sum_j w_j y_j^2, that lies in the first 1, 2, ... k modes.

        (Canatar et al. 2021, arXiv 2006.13198.) What rises early is learned early.
        """
        values = self._checked_targets(targets)
        axes = (0, 1) if self.eigenfunctions.ndim == 3 else 0
        weights = self.weights.reshape(-1, *(1,) * (values.ndim - 1))
        return jnp.cumsum(self.project(values) ** 2, axis=0) / jnp.sum(weights * values**2, axes)

    def extend(self, x_new: Inputs, num_modes: int | None = None) -> Float[Array, "m *o k"]:
        """The first eigenfunctions at new inputs: phi(x) = sum_j K(x, x_j) w_j phi(x_j) / eigenvalue (Nystrom).

        `num_modes` is at most, and by default, the number above the noise floor: below it the quotient is noise. Costs
        the kernel of m new inputs with n old ones, and m n k multiplications. Raises `InputError` on a spectrum of a
        bare matrix, and on one from a file whose kernel needs a function that `load` was not given.
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
    ) -> DecayExponent:
        """The exponent a of eigenvalue ~ index^a or ~ frequency^a, the local slope of modes `first` .. `last - 1`.

        The asymptotic exponent of an infinite network is `predicted_decay`; few modes may be steeper or flatter.

        The two differ: on the circle -2 against frequency is -2 against index, on S^{d-1} -d against frequency is -d
        / (d - 1) against index. `against="frequency"` takes the `frequencies` `(k,)` of a `FrequencyRanking`; modes
        of frequency zero are left out. `last` is by default the number of modes above the noise floor, at most a fifth
        of n (beyond, the eigenvalues of a sample fall short of the operator's) and 200.

        The interval covers 95 % of what another sample of n inputs would give: exponent +- 1.96 standard deviations
        over the Bayesian bootstrap (weights times exponential variables, Rubin 1981), in the span of the first 2
        `last` modes. For quadrature nodes, which are no random sample, it is too wide, and of a spectrum with fewer
        modes than 2 `last` up to half as wide again. Costs `num_resamples` eigendecompositions of that size.
        """
        require_choice("against", against, ("index", "frequency"))
        require_positive("num_resamples", num_resamples)
        if last is None:
            last = min(self.num_above_noise, len(self.weights) // 5, 200)
        if not 0 <= first < last - 1 or last > self.num_above_noise:
            raise InputError(
                f"Expected two modes or more to fit, among the {self.num_above_noise} above the noise floor; got modes "
                f"{first} to {last - 1}. Choose first and last, or take more inputs."
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

        def exponent(eigenvalues: np.ndarray) -> float:
            return power_law(positions[fitted], eigenvalues[:last][fitted]).exponent

        key = key_or_default(key)
        draws = [exponent(values) for values in self._resampled_eigenvalues(2 * last, num_resamples, key)]
        estimate, spread = exponent(np.asarray(self.eigenvalues, float)), float(1.96 * np.std(draws))
        return DecayExponent(estimate, estimate - spread, estimate + spread, against, first, last)

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
        inputs = f"{n:,} inputs" + "".join(f" with {o:,} outputs" for o in outputs)
        columns = {
            "": brackets(np.asarray(self.eigenspace))[:num_rows],
            "mode": [str(mode + 1) for mode in shown],
            "eigenvalue": [number(self.eigenvalues[mode]) for mode in shown],
            "of trace": [percent(self.eigenvalues[mode], self.trace) for mode in shown],
            "residual": [number(self.residuals[mode]) for mode in shown],
        }
        facts = ", ".join(map(str, [*self._facts(), Fact.of_number("noise floor", self.noise_floor)]))
        return Table(f"{type(self).__name__}: {count:,} modes on {inputs}", columns, [facts], count - len(shown))

    def _resampled_eigenvalues(self, num_modes: int, num_resamples: int, key: PRNGKeyArray) -> list[np.ndarray]:
        """Eigenvalues under random weights w' in the span of the first modes: those of L^1/2 Phi^T W' Phi L^1/2."""
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
        targets = require_wide(values, "targets")
        shape = self.eigenfunctions.shape[:-1]
        if targets.shape[: len(shape)] != shape or targets.ndim > len(shape) + 1:
            raise InputError(
                f"Expected targets of shape {shape}, one value an input, or with one more axis; got {targets.shape}."
            )
        require_finite(targets, "targets")
        return targets
