"""Which targets a network would learn, and how readily: from its kernel, before any training.

Of a target y with coefficients v_i in the kernel's modes, of eigenvalues r_i of K / n, and power p = sum_i v_i^2,

    Rayleigh quotient sum_i r_i v_i^2 / p: the rate at which it begins to be learned
    learning time     the t at which sum_i (1 - exp(-r_i t)) v_i^2 / p reaches one half, over ln 2
    samples needed    the n at which its learnability, sum_i L_i v_i^2 / p, reaches one half
    label time        of a labeling, the time at which nine tenths of the examples are nearest to their label

with L_i = r_i / (r_i + kappa) (Simon et al. 2021, arXiv 2110.03922; see `curves`). Time is that of gradient flow from
zero; of an eigenfunction it is 1 / r_i, and the samples are those at which kappa falls to r_i. Where not all modes are
known times are the least, and intervals become bounds over all that the unknown modes may be, given the mean and mean
square of their eigenvalues, which K y tells. All of it holds for a kernel that stays as it is.

>>> import jax.numpy as jnp, ntkbias as nb
>>> from ntkbias.learning import learnability
>>> x, _ = nb.domains.Circle().quadrature(64)
>>> angle = jnp.arctan2(x[:, 1], x[:, 0])
>>> targets = {f"sin {k}": jnp.sin(k * angle) for k in (4, 1, 2)} | {"right half": lambda x: jnp.sign(x[:, 0] + 0.01)}
>>> result = learnability(nb.infinite_ntk(nb.nets.mlp(depth=2, b_std=0.1)), x, targets)
>>> result.ranking()
('sin 1', 'right half', 'sin 2', 'sin 4')
>>> result["sin 2"].learning_time.value > result["sin 1"].learning_time.value, "sin 3" in result
(True, False)
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
from ntkbias.kernels.on_inputs import on_inputs_kept, operator_on
from ntkbias.kernels.operators import Matrix
from ntkbias.learning.curves import Levels, levels_of
from ntkbias.learning.in_modes import InModes
from ntkbias.learning.readiness import Readiness, table_of
from ntkbias.learning.targets import Target, targets_on
from ntkbias.packing import num_examples
from ntkbias.progress import progress
from ntkbias.scaling import Interval
from ntkbias.spectra import Spectrum
from ntkbias.tables import Printed, Table
from ntkbias.types import Inputs

__all__ = ["Learnability", "learnability"]

Measure = Literal["learning_time", "label_time", "samples_needed", "rayleigh_quotient"]

NUM_MODES = 100  # of a kernel too large to decompose
DEVIATIONS = 1.96  # of a 95 % interval


class Learnability(Printed):
    """How readily each kernel would learn each target, `(q, b)`, with 95 % intervals `(q, b, 2)` over examples.

    Time is steps * learning rate, of gradient flow from zero. With the eigenvalues r_i of K / n:

        Rayleigh quotient the mean of r_i, weighted by the target's power in mode i: the rate at which it begins to be
                          learned, y^T K y / (n |y|^2)
        learning time     that after which half of the target's power is learned, over ln 2: for an eigenfunction
                          1 / r_i, when its error has come down by e
        samples needed    the number of examples from which kernel regression learns half of the target
        label time        of a labeling, the time at which nine tenths of the examples are nearest to their own label
                          for the first time; 0 where they are at once, as labels that are a balanced eigenfunction, and
                          NaN for a target that is no labeling. It has no interval.

    Where not all modes are known (`are_bounds`) learning times are the shortest, and intervals run from the least to
    the largest that unknown modes of this mean and mean square may give, widened by the 95 % over examples. They are
    infinite where those modes might hold half of the target at rates of zero.

    Infinite where a target cannot be learned at all. Learning times of eigenfunctions of values +-1 have intervals
    of no width: to first order no reweighting of examples changes them. Printed, it is a table.

    `found[kernel, target]` has the numbers of one pair of names, and `found[target]` does where there is one kernel;
    `in`, `len`, iteration, `keys` and `items` are those of a dictionary by such pairs.
    """

    kernels: tuple[str, ...] = eqx.field(static=True)
    targets: tuple[str, ...] = eqx.field(static=True)
    rayleigh_quotient: Float[Array, "q b"]
    learning_time: Float[Array, "q b"]
    samples_needed: Float[Array, "q b"]
    rayleigh_quotient_interval: Float[Array, "q b 2"]
    learning_time_interval: Float[Array, "q b 2"]
    samples_needed_interval: Float[Array, "q b 2"]
    label_time: Float[Array, "q b"]  # NaN for a target that is no labeling
    known_power: Float[Array, "q b"]  # the share of the target's power in the modes that were known
    are_bounds: Bool[Array, " q"]  # whether some modes were not known

    def ranking(self, kernel: str | None = None, by: Measure = "learning_time") -> tuple[str, ...]:
        """The targets, most readily learned first, under one kernel, by default the first.

        `by` is "learning_time", "label_time", "samples_needed" or "rayleigh_quotient"; NaN come last. Equal ones, as
        label times of zero, follow their learning times.
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
        """The pairs of a kernel's and a target's name."""
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
                f"Expected two names, of a kernel and a target, as [{self.kernels[0]!r}, {self.targets[0]!r}], since "
                f"there are {len(self.kernels)} kernels; got {names!r}."
            )
        require_name(names, self.targets, "a target")
        return self.kernels[0], names

    def _table(self, num_rows: int) -> Table:
        pairs = [(kernel, name) for kernel in self.kernels for name in self.ranking(kernel)[:num_rows]]
        return table_of(pairs, [self[pair] for pair in pairs], len(self) - len(pairs))


@on_inputs_kept
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
    """How readily a network would learn each of `targets`; of several networks, or moments of training, by name.

    Of a target y with coefficients v_i in the modes of K / n, of eigenvalues r_i, and power p = sum_i v_i^2, it gives

        Rayleigh quotient sum_i r_i v_i^2 / p: the rate at which it begins to be learned
        learning time     the t at which sum_i (1 - exp(-r_i t)) v_i^2 / p reaches one half, over ln 2: a half-life, as
                          the 1 / r_i of an eigenfunction
        samples needed    the n at which its learnability, sum_i L_i v_i^2 / p, reaches one half (see `learning_curve`)
        label time        of a labeling, the first time at which nine tenths of the examples are nearest to their
                          label; 0 if they are as soon as the outputs move, which a slow target's may be, too

    with time = steps * learning rate of gradient flow from zero outputs, for a kernel that stays as it is.

    `kernels` is a kernel, or a dict of several by name, with inputs `x`. In the place of both stands an operator, a
    matrix `(n, n)` or `(n, o, n, o)`, or a dict of such. `targets` is a target or a dict of them by name; each is

        labels          whole numbers `(n,)`: two values become -1 and 1, more a column each; o outputs are classes
        values          floats `(n,)` or `(n, t)`, of vector-valued kernels `(n, o)` or `(n, o, t)`, as they stand
        a function      of x, a JAX array, which returns either; a column beyond the last, as x[:, 7] of 3, is by
                        JAX's rule the last
        a `Contrast`    of two outputs, for vector-valued kernels

    `centered` takes the mean over inputs off each target, output by output: constants are learned first by most
    networks, and would hide how unbalanced labels are learned; in label times the mean then counts as known. The kernel
    stays as it is. `ridge` is added to K.

    `modes` is how many modes to find, or a `Spectrum` of the same inputs, one a kernel. By default all are for a kernel
    or matrix of up to 5,000 rows, 100 for a larger kernel, and none for an operator. With few modes what lies beyond
    them is known by two moments alone: learning times are the shortest possible, samples needed and label times
    estimates ("~"), and the intervals of the first two are bounds, whatever the unknown modes are. Ask for more modes
    where they are too wide.

    With all modes intervals are exp of the logarithm +- 1.96 standard deviations of the bootstrap over examples,
    linearized (the infinitesimal jackknife; Efron 1982): what another sample of n examples would give. They are wide
    rather than narrow: 0.8 to 1.6 times the scatter of fresh samples of 200, the most for quotients of what hardly
    generalizes.

    Costs one product with the block of all targets, the diagonal, and the modes: an eigendecomposition, or `top_modes`
    with random vectors from `key` (default: a fixed one). Label times cost up to 128 n k multiplications a column. A
    progress bar counts kernels.

    Raises `InputError` on what `kernel.operator` refuses, on targets of another shape, not finite, or constant if
    `centered`, a function of inputs without them, kernels on different numbers of inputs, traced arrays, and contrasts
    with a kernel of one value a pair.
    """
    require_known((kernels, x, targets, modes, ridge), "learnability")
    require_scale("ridge", ridge)
    named = dict(kernels) if isinstance(kernels, Mapping) else {"kernel": kernels}
    if not named:
        raise InputError("Expected kernels to be a kernel, or a dict of one or more by name; got an empty dict.")
    if not all(isinstance(name, str) for name in named):
        raise InputTypeError(f"Expected names of kernels to be strings; got {', '.join(map(repr, named))}.")
    if isinstance(modes, Spectrum) and len(named) > 1:
        raise InputTypeError("Expected modes= to be a dict of spectra, one a kernel; got one Spectrum for several.")
    operators = {name: _operator(kernel, x) for name, kernel in named.items()}
    counts = {name: operator.num_examples for name, operator in operators.items()}
    if len(set(counts.values())) > 1:
        got = ", ".join(f"{count} of {name!r}" for name, count in counts.items())
        raise InputError(f"Expected kernels on the same inputs; got {got}. Compare them in one call each.")
    inputs = {name: _inputs(operator, x) for name, operator in operators.items()}
    given_targets = {  # what can be refused is refused before the work
        name: targets_on(targets, inputs[name], _shape(named[name], operator), centered)
        for name, operator in operators.items()
    }
    key = key_or_default(key)
    rows = []
    for name in progress(named, "kernels"):
        given = modes.get(name) if isinstance(modes, Mapping) else modes
        spectrum = _modes(named[name], operators[name], x, given, key)
        rows.append(_measured(operators[name], spectrum, list(given_targets[name].values()), float(ridge)))
    dtype = jnp.result_type(float)
    values, intervals, labels, known, bounds = (np.stack(part) for part in zip(*rows, strict=True))

    def on_device(numbers: np.ndarray) -> Array:
        return jnp.asarray(numbers.astype(dtype))

    with jax.debug_nans(False), jax.debug_infs(False):  # infinity is meant
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
    """Three numbers of each target, their intervals, label time and known power; and if modes are not known."""
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
    """`(3, 2)`: the numbers, or their bounds where not all modes are known, give or take their deviations."""
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
    """The modes that are given, asked for, or cheap."""
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
