"""How readily a network would learn given targets, predicted from its kernel before any training.

Let a target y have coefficients v_i in the kernel's modes, with eigenvalues r_i of K / n, and power p = sum_i v_i^2.
This module computes

    Rayleigh quotient   sum_i r_i v_i^2 / p: the initial rate of learning
    learning time       the t at which sum_i (1 - exp(-r_i t)) v_i^2 / p reaches one half, divided by ln 2
    samples needed      the n at which the learnability sum_i L_i v_i^2 / p reaches one half
    label time          for a labeling, the time at which nine tenths of the examples are nearest to their label

with L_i = r_i / (r_i + kappa) (Simon et al. 2021, arXiv 2110.03922; see `curves`). Time is that of gradient flow from
zero. The learning time of an eigenfunction is 1 / r_i, and it needs the samples at which kappa falls to r_i. If some
modes are unknown, the product K y gives the mean and the mean square of their eigenvalues. Learning times are then the
shortest that these moments allow, and intervals become bounds over all such spectra. The kernel counts as constant.
"""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from ntkbias.checks import key_or_default, require_choice, require_known, require_name, require_positive, require_scale
from ntkbias.eigen import eigh, top_modes
from ntkbias.eigen import spectrum as spectrum_on
from ntkbias.eigen.dense import CHEAP
from ntkbias.errors import InputError, InputTypeError
from ntkbias.kernels import Kernel, KernelOperator
from ntkbias.kernels.on_inputs import on_inputs_keeping_x, operator_on
from ntkbias.kernels.operators import Matrix
from ntkbias.learning.curves import Levels, levels_of
from ntkbias.learning.in_modes import InModes
from ntkbias.learning.readiness import Readiness, table_of
from ntkbias.learning.targets import Target, targets_on
from ntkbias.mistaken import require_flag
from ntkbias.packing import num_examples
from ntkbias.progress import progress
from ntkbias.scaling import Interval
from ntkbias.spectra import Spectrum
from ntkbias.tables import Axes, Printed, Table
from ntkbias.types import Inputs

__all__ = ["Learnability", "learnability"]

Measure = Literal["learning_time", "label_time", "samples_needed", "rayleigh_quotient"]

NUM_MODES = 100  # modes of a kernel that is too large to decompose
DEVIATIONS = 1.96  # standard deviations on each side of a 95 % interval


class Learnability(Printed):
    """Learnability numbers `(q, b)` of q kernels and b targets, with 95 % intervals `(q, b, 2)` over samples.

    Time is steps * learning rate, of gradient flow from zero. With the eigenvalues r_i of K / n:

        Rayleigh quotient   the mean of r_i, weighted by the target's power in mode i: the initial rate of learning,
                            y^T K y / (n |y|^2)
        learning time       the time at which half of the target's power is learned, divided by ln 2. For an
                            eigenfunction it is 1 / r_i, the time in which the error falls by a factor of e.
        samples needed      the number of examples from which kernel regression learns half of the target
        label time          for a labeling, the first time at which nine tenths of the examples are nearest to their own
                            label. It is 0 if this holds as soon as the outputs move, as for labels that form a
                            balanced eigenfunction, and NaN for a target that is not a labeling. It has no interval.

    `are_bounds` marks kernels with unknown modes. Their learning times are the shortest that the unknown modes allow.
    Their intervals run from the least to the largest value over all unknown modes with the measured mean and mean
    square, widened by the 95 % interval over samples of n examples. An interval has no upper end if unknown modes might
    hold half of the target at rates of zero.

    Learning times and samples needed are infinite for a target that cannot be learned. The learning time of an
    eigenfunction with values +-1 has an interval of zero width: to first order, no reweighting of examples changes it.

    `found[kernel, target]`, or `found[target]` of one kernel, has the numbers of one pair of names. As in a dictionary
    keyed by such pairs, there are `in`, `len`, iteration, `keys` and `items`.
    """

    named_axes = Axes("kernel", "target", index={"kernel": "kernels", "target": "targets"}, q="kernel", b="target")

    kernels: tuple[str, ...] = eqx.field(static=True)
    targets: tuple[str, ...] = eqx.field(static=True)
    rayleigh_quotient: Float[Array, "q b"]
    learning_time: Float[Array, "q b"]
    samples_needed: Float[Array, "q b"]
    rayleigh_quotient_interval: Float[Array, "q b 2"]
    learning_time_interval: Float[Array, "q b 2"]
    samples_needed_interval: Float[Array, "q b 2"]
    label_time: Float[Array, "q b"]  # NaN for a target that is not a labeling
    known_power: Float[Array, "q b"]  # the share of the target's power in the known modes
    are_bounds: Bool[Array, " q"]  # whether some modes were unknown

    def ranking(self, kernel: str | None = None, by: Measure = "learning_time") -> tuple[str, ...]:
        """The names of the targets under one kernel (by default the first), most readily learned first.

        `by` is "learning_time", "label_time", "samples_needed" or "rayleigh_quotient". NaN comes last. Ties, such as
        label times of zero, are ordered by learning time.
        """
        require_choice("by", by, Measure)
        if kernel is not None:
            require_name(kernel, self.kernels, "a kernel")
        row = 0 if kernel is None else self.kernels.index(kernel)
        values = np.asarray(getattr(self, by))[row] * (-1 if by == "rayleigh_quotient" else 1)
        order = np.lexsort((np.asarray(self.learning_time)[row], values))
        return tuple(self.targets[place] for place in order)

    def __getitem__(self, names: str | tuple[str, str]) -> Readiness:
        kernel, name = self._pair(names)
        place = self.kernels.index(kernel), self.targets.index(name)

        def number_of(field: str) -> Interval:
            low, high = np.asarray(getattr(self, f"{field}_interval"), float)[place]
            return Interval(float(np.asarray(getattr(self, field))[place]), float(low), float(high))

        return Readiness(
            number_of("rayleigh_quotient"),
            number_of("learning_time"),
            number_of("samples_needed"),
            float(np.asarray(self.label_time)[place]),
            float(np.asarray(self.known_power)[place]),
            bool(np.asarray(self.are_bounds)[place[0]]),
        )

    def __contains__(self, names: object) -> bool:
        return names in self.keys() or (len(self.kernels) == 1 and names in self.targets)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self.kernels) * len(self.targets)

    def keys(self) -> list[tuple[str, str]]:
        """The pairs (kernel, target) of names."""
        return list(itertools.product(self.kernels, self.targets))

    def items(self) -> list[tuple[tuple[str, str], Readiness]]:
        """Each pair of names with its numbers."""
        return [(names, self[names]) for names in self.keys()]

    def _pair(self, names: Any) -> tuple[str, str]:
        if isinstance(names, tuple) and len(names) == 2:
            require_name(names[0], self.kernels, "a kernel")
            require_name(names[1], self.targets, "a target")
            return names
        if len(self.kernels) > 1:
            raise InputError(
                f"Expected the names of a kernel and a target, as [{self.kernels[0]!r}, {self.targets[0]!r}], since "
                f"there are {len(self.kernels)} kernels; got {names!r}."
            )
        require_name(names, self.targets, "a target")
        return self.kernels[0], names

    def _table(self, num_rows: int) -> Table:
        pairs = [(kernel, name) for kernel in self.kernels for name in self.ranking(kernel)[:num_rows]]
        return table_of(pairs, [self[pair] for pair in pairs], len(self) - len(pairs))


@on_inputs_keeping_x
def learnability(
    kernels: Any,
    x: Inputs,
    targets: Any,
    *,
    modes: int | Spectrum | Mapping[str, Spectrum] | None = None,
    centered: bool = True,
    ridge: float = 0.0,
    key: PRNGKeyArray | None = None,
) -> Learnability:
    """Predict how readily networks, or one network at several moments of training, would learn each target.

    Let a target y have coefficients v_i in the modes of K / n, with eigenvalues r_i, and power p = sum_i v_i^2. The
    result holds

        Rayleigh quotient   sum_i r_i v_i^2 / p: the initial rate of learning
        learning time       the t at which sum_i (1 - exp(-r_i t)) v_i^2 / p reaches one half, divided by ln 2
        samples needed      the n at which the learnability sum_i L_i v_i^2 / p reaches one half (see `learning_curve`)
        label time          for a labeling, the first time at which nine tenths of the examples are nearest to their
                            label. It is 0 if they are so as soon as the outputs move, also for slow targets.

    Time is steps * learning rate, of gradient flow from zero outputs under a constant kernel.

    `kernels` is a kernel, or a dict of kernels by name, with inputs `x`. An operator, a matrix `(n, n)` or
    `(n, o, n, o)`, or a dict of these replaces both. `targets` is a target or a dict of targets by name. Each is one of

        labels          whole numbers `(n,)`. Two labels become -1 and 1; more labels become one column each. For a
                        vector-valued kernel, label i stands for output i.
        values          floats `(n,)` or `(n, t)`; for vector-valued kernels, `(n, o)` or `(n, o, t)`; used as they are
        a function      of x, a JAX array, that returns labels or values. JAX clips indices: x[:, 7] of 3 columns is
                        the last one.
        a `Contrast`    of two outputs, for vector-valued kernels

    `centered` subtracts from each target its mean over inputs, separately for each output. Most networks learn
    constants first, which would hide how fast they learn unbalanced labels. Label times then count the mean as known.
    The kernel itself is not centered. `ridge` is added to K.

    `modes` is the number of modes to find, or a `Spectrum` on the same inputs (for several kernels, a dict of one per
    kernel). By default, all modes are found for a kernel or matrix of up to 5,000 rows, 100 for a larger kernel, and
    none for an operator. Unknown modes are described by two moments alone. Learning times are then the shortest
    possible. Samples needed and label times are estimates ("~" marks label times). The intervals of learning times and
    samples needed are bounds that hold for any unknown modes. Ask for more modes if they are too wide.

    With all modes known, an interval covers the mean over samples of n examples (of the logarithm, so a geometric
    mean), 95 % of the time. It is exp(log value +- 1.96 standard deviations), from the linearized bootstrap over
    examples (the infinitesimal jackknife; Efron 1982). It does not show how that mean changes with n: of a wave on 120
    angles, samples needed are 4 % below their limit, which the interval held in 82 of 100 cases. A second sample
    scatters as much again: its value lies within the interval in about 83 of 100 cases.

    Costs one product with the block of all targets, the diagonal, and the modes: an eigendecomposition, or `top_modes`
    with random vectors from `key` (default: a fixed one). Label times cost up to 128 n k multiplications per column. A
    progress bar counts kernels.

    Raises `InputError` on whatever `kernel.operator` refuses; on targets that have another shape, are not finite, or
    are constant while `centered`; on a function target without inputs; on kernels on different numbers of inputs; on
    traced arrays; and on a contrast with a kernel of one value per pair.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> x, _ = nb.domains.Circle().quadrature(64)
    >>> angle = jnp.arctan2(x[:, 1], x[:, 0])
    >>> half, wave = lambda x: jnp.sign(x[:, 0] + 0.01), jnp.sin(angle)
    >>> targets = {"fast wave": jnp.sin(9 * angle), "right half": half, "wave": wave}
    >>> found = nb.learnability(nb.infinite_ntk(nb.nets.mlp(depth=2, b_std=0.1)), x, targets)
    >>> found.ranking()
    ('wave', 'right half', 'fast wave')
    """
    require_known((kernels, x, targets, modes, ridge), "learnability")
    require_scale("ridge", ridge)
    require_flag("centered", centered)
    named = dict(kernels) if isinstance(kernels, Mapping) else {"kernel": kernels}
    if not named:
        raise InputError("Expected kernels to be a kernel, or a dict of one or more by name; got an empty dict.")
    if not all(isinstance(name, str) for name in named):
        raise InputTypeError(f"Expected names of kernels to be strings; got {', '.join(map(repr, named))}.")
    if isinstance(modes, Spectrum) and len(named) > 1:
        raise InputTypeError("Expected modes= to be a dict of one spectrum per kernel; got one Spectrum for several.")
    operators = {name: _operator(kernel, x) for name, kernel in named.items()}
    counts = {name: operator.num_examples for name, operator in operators.items()}
    if len(set(counts.values())) > 1:
        got = ", ".join(f"{count} of {name!r}" for name, count in counts.items())
        raise InputError(f"Expected kernels on the same inputs; got {got}. Compare them in one call each.")
    inputs = {name: _inputs(operator, x) for name, operator in operators.items()}
    given_targets = {  # refuse bad input before the expensive work
        name: targets_on(targets, inputs[name], _shape(named[name], operator), centered)
        for name, operator in operators.items()
    }
    key, rows = key_or_default(key), []
    for name in progress(named, "kernels"):
        given = modes.get(name) if isinstance(modes, Mapping) else modes
        spectrum = _modes(named[name], operators[name], x, given, key)
        rows.append(_measured(operators[name], spectrum, list(given_targets[name].values()), float(ridge)))
    dtype = jnp.result_type(float)
    values, intervals, labels, known, bounds = (np.stack(part) for part in zip(*rows, strict=True))

    def on_device(numbers: np.ndarray) -> Array:
        return jnp.asarray(numbers.astype(dtype))

    with jax.debug_nans(False), jax.debug_infs(False):  # NaN and infinity are valid results here
        return Learnability(
            kernels=tuple(named),
            targets=tuple(next(iter(given_targets.values()))),
            rayleigh_quotient=on_device(values[..., 0]),
            learning_time=on_device(values[..., 1]),
            samples_needed=on_device(values[..., 2]),
            rayleigh_quotient_interval=on_device(intervals[..., 0, :]),
            learning_time_interval=on_device(intervals[..., 1, :]),
            samples_needed_interval=on_device(intervals[..., 2, :]),
            label_time=on_device(labels),
            known_power=on_device(known),
            are_bounds=jnp.asarray(bounds),
        )


def _measured(
    operator: KernelOperator, spectrum: Spectrum | None, targets: list[Target], ridge: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, bool]:
    """Three numbers per target, their intervals, label times, known power, and whether some modes are unknown."""
    n = operator.num_examples
    complete = spectrum is not None and len(spectrum.eigenvalues) == operator.shape[0]
    block = np.concatenate([target.columns for target in targets], 1)
    products = np.zeros_like(block) if complete else np.asarray(operator @ block, float) / n
    ends = np.cumsum([target.columns.shape[1] for target in targets])
    if spectrum is None:
        levels, residual = Levels(np.zeros(0), np.zeros(0), operator.trace() / n, operator.num_outputs), 0.0
        functions = np.zeros((operator.shape[0], 0))
    else:
        levels, residual = levels_of(spectrum), float(np.max(np.asarray(spectrum.residuals, float), initial=0.0))
        functions = np.asarray(spectrum.eigenfunctions, float).reshape(operator.shape[0], -1)
    values, intervals, labels, known = [], [], [], []
    for target, product in zip(targets, np.split(products, ends[:-1], 1), strict=True):
        found = InModes.of(levels, functions, target.columns, None if complete else product, n, residual)
        values.append(found.numbers(ridge))
        intervals.append(_intervals(found, ridge, complete))
        labels.append(found.label_time(target))
        known.append(np.sum(found.power[:-1]) / np.sum(found.power))
    return np.array(values), np.array(intervals), np.array(labels), np.array(known), not complete


def _intervals(target: InModes, ridge: float, complete: bool) -> np.ndarray:
    """`(3, 2)`: intervals around the numbers, or around their bounds if some modes are unknown."""
    numbers = target.numbers(ridge)
    low, high = (numbers, numbers) if complete else target.bounds(ridge)
    ends = []
    for end, beyond, sign in zip((low, high), target.extremes, (-1, 1), strict=True):
        logs = (target if complete else target._replace(beyond=beyond)).deviations(ridge)
        with np.errstate(divide="ignore", over="ignore"):
            ends.append(np.exp(np.log(end) + np.where(np.isfinite(end), sign * DEVIATIONS * logs, 0.0)))
    return np.stack(ends, -1)


def _operator(kernel: Any, x: Any) -> KernelOperator:
    if isinstance(kernel, Spectrum):
        raise InputTypeError("Expected a kernel, an operator or a matrix; got a Spectrum. Give it as modes=.")
    return operator_on(kernel, x)


def _inputs(operator: KernelOperator, x: Any) -> Any:
    if x is None:
        return None if operator.source is None else operator.source.kernel.unpacked(operator.source.x)
    if num_examples(x) != operator.num_examples:
        raise InputError(f"Expected x to hold the {operator.num_examples} inputs of the kernel; got {num_examples(x)}.")
    return x


def _shape(kernel: Any, operator: KernelOperator) -> tuple[int, ...]:
    vector = kernel.outputs == "all" if isinstance(kernel, Kernel) else operator.num_outputs > 1
    return (operator.num_examples, operator.num_outputs) if vector else (operator.num_examples,)


def _modes(kernel: Any, operator: KernelOperator, x: Any, modes: Any, key: PRNGKeyArray) -> Spectrum | None:
    """The modes that the user gave or asked for; otherwise those that are cheap, or None."""
    if isinstance(modes, Spectrum):
        if modes.eigenfunctions[..., 0].size != operator.shape[0] or np.ptp(np.asarray(modes.weights)) > 1e-6:
            raise InputError(
                f"Expected modes= on the {operator.shape[0]} rows of the kernel, of equal weight; got eigenfunctions "
                f"of shape {modes.eigenfunctions.shape}, or other weights."
            )
        return modes
    if modes is not None:
        require_positive("modes", modes)
        return top_modes(operator, modes, key=key)
    if isinstance(kernel, Kernel):
        rows = operator.shape[0]
        return spectrum_on(kernel, x, num_modes=None if rows <= CHEAP else min(NUM_MODES, rows), key=key)
    if isinstance(operator, Matrix) and operator.shape[0] <= CHEAP:
        shape = (operator.num_examples, operator.num_outputs)[: 1 + (operator.num_outputs > 1)]
        return eigh(operator.matrix().reshape(*shape, *shape))
    return None
