"""`ntkbias learn`: which functions of the inputs networks learn first, and from how many examples.

Without --targets, these are all named functions that the inputs allow (`ntkbias.learning.NAMED`).
"""

import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure

from ntkbias import datasets, plots
from ntkbias.checks import require_positive, require_scale
from ntkbias.cli.folder import RunFolder
from ntkbias.cli.inputs import Inputs, inputs, settings
from ntkbias.cli.networks import networks, things
from ntkbias.cli.options import LearnOptions
from ntkbias.cli.outcome import Outcome, file_names, fill, found_again, plain
from ntkbias.cli.targets import named
from ntkbias.eigen import spectrum
from ntkbias.eigen.dense import CHEAP
from ntkbias.errors import InputError
from ntkbias.learning import Learnability, LearningCurve, learnability, learning_curve
from ntkbias.progress import phase, progress
from ntkbias.report.page import slug_names
from ntkbias.report.sections import Sections
from ntkbias.tables import Table, counted, number

__all__ = ["run"]

NUM_MODES = 100  # of more inputs than can be decomposed


def run(options: LearnOptions) -> Outcome:
    """Predict how readily the networks learn each target, and fill the run folder."""
    started = time.perf_counter()
    data = inputs(options, equal_weights=True)
    sizes = _sizes(options, len(data.x))
    require_scale("--ridge", options.ridge)
    require_scale("--noise", options.noise)
    names = options.nets or (() if options.model else ("mlp",))
    kernels = things(options, networks(options, names, data.x.shape[1:]), (options.limit,))
    for kernel in kernels.values():
        kernel.check(data.x, "x")
    targets = named(options, data, options.targets)
    described = settings(options, "learn", data) | {"kernels": list(kernels), "targets": list(targets)}
    curves_of = dict(zip(kernels, (f"curves_{slug}" for slug in slug_names(kernels)), strict=True))
    files = file_names(["learnability", *curves_of.values()], curves_of.values())
    with RunFolder.claimed(options.out, files) as folder:
        if (again := found_again(folder, described, options.overwrite)) is not None:
            return again
        about = f"{counted(len(targets), 'target')} on {counted(len(data.x), 'input')}"
        phase(f"{counted(len(kernels), 'kernel')}, {about}")
        found, curves = _predicted(options, kernels, data, targets, sizes)
        table = "\n\n".join(map(str, _tables(found, curves, targets)))
        outcome = Outcome(table, options.out, data=_data(found, curves, targets))
        values = {"learnability": found, **{curves_of[name]: curve for name, curve in curves.items()}}
        figures = {curves_of[name]: _figure(curve, targets, name) for name, curve in curves.items()}
        sections = _sections(found, curves, targets, about)
        folder.fill(lambda path: fill(path, values, described, outcome, figures, sections))
    return outcome._replace(text=f"{table}\n\n{about}, {time.perf_counter() - started:.0f} s.")


def _sizes(options: LearnOptions, num_inputs: int) -> np.ndarray:
    for size in options.sizes:
        require_positive("--sizes", size)
    sizes = [size for size in sorted(set(options.sizes)) if 2 * size <= num_inputs]
    if not sizes:
        raise InputError(
            f"Expected --sizes with a number of at most half of the {num_inputs} inputs, which represent the whole "
            f"distribution; got {', '.join(map(str, options.sizes))}."
        )
    return np.array(sizes)


def _predicted(
    options: LearnOptions, kernels: Any, data: Inputs, targets: dict[str, np.ndarray], sizes: np.ndarray
) -> tuple[Learnability, dict[str, LearningCurve]]:
    """The learnability of the targets, and one learning curve per kernel with a column per column of the targets."""
    key = jax.random.key(options.seed)
    num_modes = None if len(data.x) <= CHEAP else NUM_MODES
    spectra = {
        name: spectrum(kernel, data.x, num_modes=num_modes, key=key)
        for name, kernel in progress(kernels.items(), "kernels")
    }
    found = learnability(kernels, data.x, targets, modes=spectra, ridge=options.ridge, key=key)
    block = np.concatenate([_columns(values) for values in targets.values()], 1)
    curves = {
        name: learning_curve(each, block, sizes, ridge=options.ridge, noise=options.noise)
        for name, each in spectra.items()
    }
    return found, curves


def _columns(values: np.ndarray) -> np.ndarray:
    """The target as columns of mean zero, with a mean square of one in total. Labels have one column per class."""
    columns = datasets.one_hot(values) if values.dtype.kind in "iub" else values.reshape(len(values), -1)
    columns = np.asarray(columns, float) - columns.mean(0, dtype=float)
    return columns / np.sqrt(np.mean(np.sum(columns**2, 1)))


def _by_target(rows: Any, targets: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The sums `(s,)` over each target's columns of an array `(s, columns)`."""
    ends = np.cumsum([_columns(values).shape[1] for values in targets.values()])
    parts = np.split(np.asarray(rows, float), ends[:-1], axis=1)
    return {name: part.sum(1) for name, part in zip(targets, parts, strict=True)}


def _errors(curve: LearningCurve, targets: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The predicted test error `(s,)` of each target, whose mean square is one."""
    return _by_target(curve.errors, targets)


def _tables(found: Learnability, curves: dict[str, LearningCurve], targets: dict[str, np.ndarray]) -> Sequence[Table]:
    """The table of learnability, and one of predicted test errors per kernel."""
    tables = [found.table(len(targets))]
    for kernel, curve in curves.items():
        errors = _errors(curve, targets)
        order = found.ranking(kernel)
        columns = {"target": list(order)}
        for place, size in enumerate(np.asarray(curve.sizes).tolist()):
            columns[f"n = {size:,}"] = [number(errors[name][place]) for name in order]
        of = f" of {kernel}" if len(curves) > 1 else ""
        title = f"Predicted test error{of} on n examples, as a share of the target's variance"
        tables.append(Table(title, columns))
    return tables


def _sections(
    found: Learnability, curves: dict[str, LearningCurve], targets: dict[str, np.ndarray], about: str
) -> Sections:
    """The page: what each network learns first, and whether the next target may be as quick."""
    slugs = dict(zip(slug_names(found.kernels), found.kernels, strict=True))
    captions = {
        f"curves_{slug}": f"{name}: the predicted test error of kernel regression, as a share of the target's "
        "variance. A curve that falls early belongs to a target that is learned from few."
        for slug, name in slugs.items()
    }
    kernels = found.kernels[0] if len(found.kernels) == 1 else "each network"
    return Sections(
        f"Which functions does {kernels} learn first, and from how many examples ({about})?",
        " ".join(_first(found, kernel) for kernel in found.kernels),
        "Each interval is for one target alone, at 95 %, over samples of as many examples as were given; two that do "
        "not overlap differ. They do not count how much initializations differ. Learning times are predictions for "
        "gradient flow on the squared error with a constant kernel; test errors are predictions for kernel regression.",
        captions,
        _tables(found, curves, targets),
        ("jacot2018", "canatar2021"),
    )


def _first(found: Learnability, kernel: str) -> str:
    """A sentence on the target with the shortest learning time, and the next one."""
    first, *others = found.ranking(kernel)
    time, samples = found[kernel, first].learning_time, found[kernel, first].samples_needed
    said = f"In {kernel}, {first} has the shortest learning time, {time}, and half of it needs {samples} examples"
    if not others:
        return f"{said}."
    following = found[kernel, others[0]].learning_time
    surely = following.low > time.high
    return f"{said}; {others[0]} follows with {following}{'' if surely else ', which may be as short'}."


def _data(found: Learnability, curves: dict[str, LearningCurve], targets: dict[str, np.ndarray]) -> dict[str, Any]:
    kernels: dict[str, Any] = {}
    for (kernel, target), numbers in found.items():
        errors = _errors(curves[kernel], targets)[target]
        own = numbers._asdict()
        for name in ("rayleigh_quotient", "learning_time", "samples_needed"):
            value = own[name]
            own[name] = {"value": float(value.value), "low": float(value.low), "high": float(value.high)}
        kernels.setdefault(kernel, {})[target] = {**own, "test_errors": errors}
    sizes = next(iter(curves.values())).sizes
    return plain({"command": "learn", "sizes": sizes, "kernels": kernels})


def _figure(curve: LearningCurve, targets: dict[str, np.ndarray], kernel: str) -> Figure:
    """The predicted test error of each target against the number of examples."""
    figure = Figure(figsize=plots.SIZE, layout="constrained")
    ax = figure.subplots()
    for index, (name, errors) in enumerate(_errors(curve, targets).items()):
        line = ("o-", "s--", "^:")[index // 8 % 3]  # after eight targets the colors repeat
        ax.plot(np.asarray(curve.sizes), errors, line, color=plots.color(index), markersize=4, label=name)
    ax.set(xscale="log", yscale="log", xlabel="number of examples", ylabel="predicted test error", title=kernel)
    ax.legend(fontsize="small", ncols=2)
    return figure
