"""`ntkbias spectrum` and `ntkbias compare`: kernels on the data, ranked, in a run folder."""

import time
from pathlib import Path
from typing import Any

import jax

from ntkbias import files, plots, report, results
from ntkbias.checks import require_positive
from ntkbias.cli.inputs import initialised, inputs, network, settings, title, write_json
from ntkbias.cli.options import Architecture, Limit, SpectraOptions
from ntkbias.comparison import Comparison, compare
from ntkbias.domains import Images
from ntkbias.errors import InputError
from ntkbias.kernels import Kernel, empirical_ntk, infinite_ntk

__all__ = ["run"]


def run(
    options: SpectraOptions, command: str, architectures: tuple[Architecture, ...], limits: tuple[Limit, ...]
) -> None:
    """Compare the kernels of these architectures and limits on the data, print the table, and fill the run folder."""
    started = time.perf_counter()
    require_positive("--num-modes", options.num_modes)
    data = inputs(options)
    if not architectures:
        architectures = ("mlp", "cnn") if isinstance(data.domain, Images) else ("mlp",)
    kernels = {
        f"{name}, {limit}": _kernel(options, name, limit, data.x.shape[1:])
        for name in dict.fromkeys(architectures)
        for limit in dict.fromkeys(limits)
    }
    if not kernels:
        raise InputError("Expected finite, infinite or both after --limits; got none.")
    for kernel in kernels.values():
        kernel.check(data.x, "x")
    described = settings(options, command) | {"kernels": list(kernels)}
    write_json(options.out / "settings.json", described)  # also finds out, before any work, whether we may write

    key = jax.random.key(options.seed)
    asked: dict[str, Any] = {"weights": data.weights, "targets": data.targets, "measure": options.measure, "key": key}
    comparison = compare(kernels, data.x, data.domain, **asked)
    table = report.table(comparison, options.num_modes)
    print(table)
    _fill(options.out, comparison, described, table)
    print(f"\n{len(data.x)} inputs, {len(kernels)} kernels, {time.perf_counter() - started:.0f} s.")
    print(f"Report: {options.out / 'report.html'}")


def _fill(folder: Path, comparison: Comparison, described: dict[str, Any], table: str) -> None:
    """Write the values, the table, the figures and the page to the run folder."""
    results.save(folder / "comparison", comparison)
    files.write(folder / "table.txt", lambda file: file.write((table + "\n").encode()))
    report.write_facts(folder / "facts.json", comparison)
    pictures = {name: plots.save(figure, folder / name) for name, figure in report.figures(comparison).items()}
    asked: dict[str, Any] = {"title": title(described), "settings": described, "pictures": pictures}
    report.write_report(folder / "report.html", comparison, **asked)


def _kernel(options: SpectraOptions, architecture: Architecture, limit: Limit, input_shape: tuple[int, ...]) -> Kernel:
    net = network(options, architecture)
    net.output_shape(input_shape)
    if limit == "infinite":
        return infinite_ntk(net)
    return empirical_ntk(net.apply, initialised(options, net, input_shape))
