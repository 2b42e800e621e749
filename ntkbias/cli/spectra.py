"""`ntkbias spectrum` and `ntkbias compare`: compute kernels on the data, rank their modes, and fill a run folder."""

import time
from typing import Any

import jax

from ntkbias import report
from ntkbias.checks import require_positive
from ntkbias.cli.folder import RunFolder
from ntkbias.cli.inputs import initialized, inputs, network, settings
from ntkbias.cli.options import Architecture, Limit, SpectraOptions
from ntkbias.cli.outcome import Outcome, file_names, fill
from ntkbias.comparison import compare
from ntkbias.domains import Images
from ntkbias.errors import InputError
from ntkbias.kernels import Kernel, empirical_ntk, infinite_ntk
from ntkbias.progress import phase
from ntkbias.tables import counted

__all__ = ["run"]


def run(
    options: SpectraOptions, command: str, architectures: tuple[Architecture, ...], limits: tuple[Limit, ...]
) -> Outcome:
    """Compare the kernels of these architectures and limits on the data, and fill the run folder."""
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
    key = jax.random.key(options.seed)
    arguments: dict[str, Any] = {
        "weights": data.weights,
        "targets": data.targets,
        "measure": options.measure,
        "key": key,
    }
    with RunFolder.claimed(options.out, file_names("comparison", report.figure_names(list(kernels)))) as folder:
        about = counted(len(data.x), "input"), counted(len(kernels), "kernel")
        phase(" of ".join(about[::-1]))
        comparison = compare(kernels, data.x, data.domain, **arguments)
        table = report.table(comparison, options.num_modes)
        folder.fill(lambda path: fill(path, "comparison", comparison, described, table))
    seconds = time.perf_counter() - started
    return Outcome(f"{table}\n\n{', '.join(about)}, {seconds:.0f} s.", options.out)


def _kernel(options: SpectraOptions, architecture: Architecture, limit: Limit, input_shape: tuple[int, ...]) -> Kernel:
    net = network(options, architecture, input_shape)
    if limit == "infinite":
        return infinite_ntk(net)
    return empirical_ntk(net.apply, initialized(options, net, input_shape))
