"""The command line: `ntkbias spectrum` for one network, `ntkbias compare` for several.

Each computes kernels on the data, prints the ranked table, and fills a run folder: settings and versions
(`settings.json`), the values (`comparison.npz` and `.json`, read by `ntkbias.load`), the table, figures as SVG and PNG,
and `report.html`. Options may also stand in a TOML file (`--config`); those on the command line prevail.

>>> from ntkbias.cli import main
>>> main(["spectrum", "--data", "nowhere.npz"])
2
"""

import contextlib
import dataclasses
import io
import itertools
import json
import math
import platform
import sys
import time
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jaxtyping import Array

from ntkbias import datasets, nets, plots, report, results
from ntkbias.compare import Comparison, compare
from ntkbias.domains import Circle, Domain, Images, PointCloud
from ntkbias.frequency import Measure
from ntkbias.kernels import Kernel, empirical_ntk, infinite_ntk
from ntkbias.kernels.tiles import default_memory_budget
from ntkbias.layers import Layer
from ntkbias.types import InputError, Parameterization, require_positive

__all__ = ["CompareOptions", "SpectrumOptions", "main"]

Architecture = Literal["mlp", "cnn", "cnn-pool"]
Limit = Literal["finite", "infinite"]


@dataclasses.dataclass(frozen=True)
class Options:
    """What both commands share."""

    data: str = "digits"
    """digits, circle, or the path of an .npz file with arrays x and, if there are labels, y"""
    num_examples: int | None = None
    """how many inputs to take: by default all, and 256 on the circle"""
    width: int = 256
    """units or channels of each hidden layer of a finite network"""
    depth: int = 2
    """number of hidden layers"""
    activation: str = "relu"
    """nonlinearity of the hidden layers: relu or erf"""
    b_std: float = 0.1
    """standard deviation of the biases; 0 for none"""
    parameterization: Parameterization = "ntk"
    """how weights are scaled"""
    measure: Measure | None = None
    """how frequency is measured: by default harmonic on the circle, graph elsewhere"""
    seed: int = 0
    """of the parameters of finite networks, and of the choice of examples"""
    num_modes: int = 10
    """how many modes the printed table shows"""
    out: Path = Path("runs/latest")
    """the run folder; files of an earlier run in it are replaced"""
    config: Path | None = None
    """a TOML file of these options, e.g. width = 128; the command line prevails over it"""


@dataclasses.dataclass(frozen=True)
class SpectrumOptions(Options):
    """Compute the spectrum of one network's kernel and rank its modes by frequency."""

    net: Architecture = "mlp"
    """the architecture: mlp; cnn flattens before its last layer, cnn-pool averages over positions"""
    limit: Limit = "finite"
    """a network of this width at random parameters, or its limit of infinite width"""


@dataclasses.dataclass(frozen=True)
class CompareOptions(Options):
    """Compare the spectra of several networks, at finite and infinite width."""

    nets: tuple[Architecture, ...] = ()
    """the architectures: by default mlp, and cnn where the inputs are images"""
    limits: tuple[Limit, ...] = ("finite", "infinite")
    """which kernels of each"""


class Inputs(NamedTuple):
    """The data of a run: inputs, their quadrature weights, target functions, and the domain they live in."""

    x: Array
    weights: Array | None
    targets: Array | None
    domain: Domain


def main(argv: list[str] | None = None) -> int:
    """Run a command; return 0, or 2 after one sentence about what was wrong with the input."""
    try:
        options = _parsed(_with_config(list(sys.argv[1:] if argv is None else argv)))
        if isinstance(options, SpectrumOptions):
            _run(options, (options.net,), (options.limit,))
        else:
            _run(options, options.nets, options.limits)
    except InputError as error:
        print(f"ntkbias: {error}", file=sys.stderr)
        return 2
    except (MemoryError, OverflowError, jax.errors.JaxRuntimeError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        print(
            f"ntkbias: Expected a network and data that fit this machine; got: {reason}. "
            "Choose a smaller --width or --num-examples.",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print("ntkbias: interrupted; files already written are whole.", file=sys.stderr)
        return 130
    return 0


def _parsed(argv: list[str]) -> SpectrumOptions | CompareOptions:
    """The options of a command line; what the parser refuses becomes an `InputError`, one sentence instead of a box."""
    commands = (
        Annotated[SpectrumOptions, tyro.conf.subcommand("spectrum")]
        | Annotated[CompareOptions, tyro.conf.subcommand("compare")]
    )
    box = io.StringIO()
    try:
        with contextlib.redirect_stderr(box):
            return tyro.cli(commands, prog="ntkbias", description=__doc__.split("\n")[0], args=argv)
    except SystemExit as stop:
        if not stop.code:  # --help
            raise
        command = [word for word in argv[:1] if word in ("spectrum", "compare")]
        lines = [line.strip("│╭╮╰╯|+ ") for line in box.getvalue().splitlines()][1:]  # below the title
        words = [line if line.strip("─-") else "" for line in lines]  # a rule ends the sentence
        sentence = " ".join(itertools.takewhile(bool, itertools.dropwhile(lambda line: not line, words))).rstrip(".")
        raise InputError(f"{sentence}. See {' '.join(['ntkbias', *command])} --help.") from None


def _run(options: Options, architectures: tuple[Architecture, ...], limits: tuple[Limit, ...]) -> None:
    started = time.perf_counter()
    require_positive("--num-modes", options.num_modes)
    if options.seed < 0:
        raise InputError(f"Expected --seed to be zero or more; got {options.seed}.")
    inputs = _inputs(options)
    if not architectures:
        architectures = ("mlp", "cnn") if isinstance(inputs.domain, Images) else ("mlp",)
    kernels = {
        f"{name}, {limit}": _kernel(options, name, limit, inputs.x.shape[1:])
        for name in dict.fromkeys(architectures)
        for limit in dict.fromkeys(limits)
    }
    if not kernels:
        raise InputError("Expected finite, infinite or both after --limits; got none.")
    for kernel in kernels.values():
        kernel.check(inputs.x, "x")
    settings = _settings(options) | {"kernels": list(kernels)}
    _write_json(options.out / "settings.json", settings)  # also finds out, before any work, whether we may write

    x, weights, targets, domain = inputs
    key = jax.random.key(options.seed)
    comparison = compare(kernels, x, domain, weights=weights, targets=targets, measure=options.measure, key=key)
    table = report.table(comparison, options.num_modes)
    print(table)
    _fill(options.out, comparison, settings, table)
    print(f"\n{len(x)} inputs, {len(kernels)} kernels, {time.perf_counter() - started:.0f} s.")
    print(f"Report: {options.out / 'report.html'}")


def _fill(folder: Path, comparison: Comparison, settings: dict[str, Any], table: str) -> None:
    """Write the values, the table, the figures and the page to the run folder."""
    results.save(folder / "comparison", comparison)
    results.write(folder / "table.txt", lambda file: file.write((table + "\n").encode()))
    for name, figure in report.figures(comparison).items():
        plots.save(figure, folder / name)
    report.write_report(folder / "report.html", comparison, title=_title(settings), settings=settings)


def _inputs(options: Options) -> Inputs:
    if options.data == "circle":
        circle = Circle()
        x, weights = circle.quadrature(256 if options.num_examples is None else options.num_examples)
        return Inputs(x, weights, None, circle)
    if options.data == "digits":
        data = datasets.digits(options.num_examples, seed=options.seed)
    elif options.data.endswith(".npz"):
        data = datasets.from_file(options.data, options.num_examples)
    else:
        raise InputError(f"Expected --data to be digits, circle or the path of an .npz file; got {options.data!r}.")
    x, y = jnp.asarray(data.x), data.y
    domain: Domain = Images() if x.ndim == 4 else PointCloud()
    domain.check(x)
    if y is None:
        return Inputs(x, None, None, domain)
    targets = datasets.one_hot(y) if y.ndim == 1 and y.dtype.kind in "iub" else y.astype(np.float32)
    return Inputs(x, None, jnp.asarray(targets - targets.mean(0)), domain)


def _kernel(options: Options, architecture: Architecture, limit: Limit, input_shape: tuple[int, ...]) -> Kernel:
    net = _net(options, architecture)
    net.output_shape(input_shape)
    if limit == "infinite":
        return infinite_ntk(net)
    key = jax.random.key(options.seed)
    if options.width >= 2**31:
        raise InputError(f"Expected --width below 2^31; got {options.width}.")
    shapes = jax.tree.leaves(jax.eval_shape(lambda: net.init(key, input_shape)))
    num_bytes = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in shapes)
    if num_bytes > 2 * default_memory_budget():  # half of the memory: running out of it would end the process
        raise InputError(
            f"Expected a network that fits the memory; got parameters of {num_bytes / 1e9:,.0f} GB for {architecture}. "
            "Choose a smaller --width, or --limits infinite."
        )
    return empirical_ntk(net.apply, net.init(key, input_shape))


def _net(options: Options, architecture: Architecture) -> Layer:
    if not 0 <= options.b_std < float("inf"):
        raise InputError(f"Expected --b-std to be zero or more; got {options.b_std}.")
    shared: dict[str, Any] = {
        "width": options.width,
        "depth": options.depth,
        "activation": options.activation,
        "b_std": options.b_std or None,
        "parameterization": options.parameterization,
    }
    if architecture == "mlp":
        return nets.mlp(**shared)
    return nets.cnn(**shared, readout="pool" if architecture == "cnn-pool" else "flatten")


def _settings(options: Options) -> dict[str, Any]:
    """Everything that the run depends on, ready for JSON."""
    packages = ("ntkbias", "jax", "jaxlib", "equinox", "numpy", "scipy", "scikit-learn")
    chosen = {name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items()}
    return {
        "command": "spectrum" if isinstance(options, SpectrumOptions) else "compare",
        "options": chosen,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
        "device": f"{jax.devices()[0].device_kind} ({jax.default_backend()})",
        "precision": str(jnp.zeros(()).dtype),
    }


def _title(settings: dict[str, Any]) -> str:
    return f"ntkbias {settings['command']}: {settings['options']['data']}"


def _write_json(path: Path, value: dict[str, Any]) -> None:
    results.write(path, lambda file: file.write((json.dumps(value, indent=1) + "\n").encode()))


def _with_config(argv: list[str]) -> list[str]:
    """The arguments, with those of the --config file before the others, so that later ones prevail."""
    path = None
    for index, argument in enumerate(argv):
        if argument == "--config":
            path = argv[index + 1] if index + 1 < len(argv) else None
        elif argument.startswith("--config="):
            path = argument.partition("=")[2]
    if path is None:
        return argv
    try:
        table = tomllib.loads(Path(path).read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"Expected --config to be a TOML file; {path} cannot be read: {error}.") from None
    command = {"spectrum": SpectrumOptions, "compare": CompareOptions}.get(argv[0])
    if command is None:
        return argv
    known = {field.name for field in dataclasses.fields(command)} - {"config"}
    arguments = []
    for name, value in table.items():
        if name.replace("-", "_") not in known:
            raise InputError(
                f"Expected options of {argv[0]} in {path}; got {name!r}, not one of {', '.join(sorted(known))}."
            )
        if isinstance(value, dict):
            raise InputError(f"Expected plain values in {path}; got a table at {name!r}.")
        default = getattr(command(), name.replace("-", "_"))
        if isinstance(default, tuple) and not isinstance(value, list):
            raise InputError(f"Expected {name} in {path} to be a list; got {value!r}.")
        if isinstance(default, str | Path) and not isinstance(value, str):
            raise InputError(f"Expected {name} in {path} to be a string; got {value!r}.")
        values = value if isinstance(value, list) else [value]
        words = [f"--{name.replace('_', '-')}", *map(str, values)]
        try:
            _parsed([argv[0], *words])
        except InputError as error:
            raise InputError(f"Expected a value of {name} in {path} that it can have; got {value!r}: {error}") from None
        arguments += words
    return [argv[0], *arguments, *argv[1:]]


if __name__ == "__main__":
    sys.exit(main())
