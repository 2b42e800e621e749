"""`ntkbias spectrum` and `ntkbias compare`: compute kernels on the data, rank their modes, and fill a run folder."""

import dataclasses
import textwrap
import time
from typing import Any

import jax

from ntkbias import report
from ntkbias.checks import require_positive
from ntkbias.cli.folder import RunFolder
from ntkbias.cli.inputs import Inputs, inputs, settings
from ntkbias.cli.networks import networks, things
from ntkbias.cli.options import CompareOptions, SpectrumOptions
from ntkbias.cli.outcome import Outcome, file_names, fill, found_again, plain
from ntkbias.cli.targets import named
from ntkbias.comparison import Comparison, compare
from ntkbias.domains import Images
from ntkbias.errors import InputError
from ntkbias.kernels import Kernel
from ntkbias.progress import phase
from ntkbias.report.facts import facts_as_data
from ntkbias.tables import counted
from ntkbias.tables.table import WIDTH

__all__ = ["comparison_data", "run"]


def run(options: SpectrumOptions | CompareOptions) -> Outcome:
    """Compare the kernels of the networks on the data, and fill the run folder."""
    started = time.perf_counter()
    command = "spectrum" if isinstance(options, SpectrumOptions) else "compare"
    require_positive("--num-modes", options.num_modes)
    data = inputs(options)
    kernels = _kernels(options, data)
    for kernel in kernels.values():
        if isinstance(kernel, Kernel):
            kernel.check(data.x, "x")
    targets = _targets(options, data)
    described = settings(options, command, data) | {"kernels": list(kernels)}
    with RunFolder.claimed(options.out, file_names(["comparison"], report.figure_names(list(kernels)))) as folder:
        if (again := found_again(folder, described, options.overwrite)) is not None:
            return again
        about = counted(len(data.x), "input"), counted(len(kernels), "kernel")
        phase(" of ".join(about[::-1]))
        comparison = compare(
            kernels,
            data.x,
            data.domain,
            weights=data.weights,
            targets=targets,
            measure=options.measure,
            key=jax.random.key(options.seed),
            **_seeds(options),
        )
        # One run of a network is given as its kernel; it is still one of many initializations.
        drawn = [name.endswith(", finite") and not getattr(options, "model", None) for name in comparison.names]
        comparison = dataclasses.replace(comparison, networks=tuple(drawn))
        table = report.table(comparison, options.num_modes)
        text = f"{table}\n\n{_answer(comparison)}" if len(comparison) > 1 else table
        outcome = Outcome(text, options.out, data=comparison_data(comparison, command, options.num_modes))
        folder.fill(lambda path: fill(path, {"comparison": comparison}, described, outcome))
    seconds = time.perf_counter() - started
    return outcome._replace(text=f"{outcome.text}\n\n{', '.join(about)}, {seconds:.0f} s.")


def _kernels(options: SpectrumOptions | CompareOptions, data: Inputs) -> dict[str, Any]:
    """What to compare, by name. Several runs of a network stand for it as the network itself."""
    shape = data.x.shape[1:]
    if isinstance(options, SpectrumOptions):
        return things(options, networks(options, () if options.model else (options.net,), shape), (options.limit,))
    require_positive("--num-runs", options.num_runs)
    names = options.nets
    if not names and not options.model:
        names = ("mlp", "cnn") if isinstance(data.domain, Images) else ("mlp",)
    found = things(options, networks(options, names, shape), options.limits, options.num_runs)
    if not found:
        raise InputError("Expected finite, infinite or both after --limits; got none.")
    return found


def _targets(options: SpectrumOptions | CompareOptions, data: Inputs) -> Any:
    """The functions that --targets names; by default the labels or the targets of the data."""
    if isinstance(options, SpectrumOptions):
        return data.targets
    if options.targets or data.y is not None:
        return named(options, data, options.targets or ("labels" if data.labeled else "values",))
    return None


def _seeds(options: SpectrumOptions | CompareOptions) -> dict[str, Any]:
    several = isinstance(options, CompareOptions) and options.num_runs > 1
    return {"seeds": options.num_runs} if several else {}  # type: ignore[union-attr]


def _answer(comparison: Comparison) -> str:
    """The table of differences, and the answer in two sentences below it, where a terminal shows it last."""
    verdicts = comparison.verdicts()
    return f"{verdicts.table(len(verdicts)).text()}\n\n" + "\n".join(textwrap.wrap(comparison.answer(), WIDTH))


def comparison_data(comparison: Comparison, command: str, num_modes: int) -> dict[str, Any]:
    """The facts and the first modes of each kernel."""
    facts = facts_as_data(comparison)
    kernels = {}
    for name, kernel in comparison.items():
        ranking = kernel.ranking
        modes = {"eigenvalues": ranking.eigenvalues[:num_modes], "frequencies": ranking.frequencies[:num_modes]}
        kernels[name] = {"facts": facts.get(name, {}), **modes}
    if len(kernels) == 1:
        return plain({"command": command, "kernels": kernels})
    verdicts = [
        {
            "quantity": row.quantity,
            "first": row.first,
            "second": row.second,
            "ratio" if row.is_ratio else "difference": [row.difference.value, row.difference.low, row.difference.high],
            "outcome": row.outcome,
        }
        for row in comparison.verdicts().rows
    ]
    answer = {"answer": comparison.answer(), "uncertainty": comparison.uncertainty(), "verdicts": verdicts}
    return plain({"command": command, **answer, "kernels": kernels})
