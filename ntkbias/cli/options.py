"""The options of each command, from the command line and from TOML files.

>>> from ntkbias.cli.options import parsed
>>> parsed(["spectrum", "--width", "64"]).width
64
"""

import contextlib
import dataclasses
import difflib
import io
import itertools
import tomllib
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ntkbias.errors import InputError

__all__ = [
    "Architecture",
    "CompareOptions",
    "Limit",
    "LossName",
    "MeasureName",
    "Options",
    "Parameterization",
    "SpectraOptions",
    "SpectrumOptions",
    "TrackOptions",
    "parsed",
    "with_config",
]

Architecture = Literal["mlp", "cnn", "cnn-pool"]
Limit = Literal["finite", "infinite"]
# These are the names in frequency.MEASURES, losses.NAMED and types.Parameterization. They stand here again because
# loading JAX takes longer than to refuse an option; a test compares them.
MeasureName = Literal["harmonic", "graph", "dirichlet"]
LossName = Literal["mse", "logistic", "hinge", "cross_entropy"]
Parameterization = Literal["ntk", "standard"]


@dataclasses.dataclass(frozen=True)
class Options:
    """What all commands share: data and network."""

    data: str = "digits"
    """digits, circle, mnist, cifar10, or the path of an .npz file with arrays x and, if there are labels, y"""
    folder: Path | None = None
    """where the files of mnist or cifar10 are"""
    num_examples: int | None = None
    """how many inputs to take: by default all, 256 on the circle, and 2,000 of mnist and cifar10"""
    width: int = 256
    """units or channels of each hidden layer of a finite network"""
    depth: int = 2
    """number of hidden layers"""
    activation: str = "relu"
    """nonlinearity of the hidden layers: relu, erf, tanh, ..."""
    b_std: float = 0.1
    """standard deviation of the biases; 0 for none"""
    parameterization: Parameterization = "ntk"
    """how weights are scaled"""
    seed: int = 0
    """of the parameters of finite networks, and of the choice of examples"""
    out: Path = Path("runs/latest")
    """the run folder; what an earlier command wrote there is replaced, and no other file"""
    cache: bool = True
    """keep compiled programs in the user's cache folder, for the next command"""
    config: Path | None = None
    """a TOML file of these options, e.g. width = 128; the command line prevails over it"""


@dataclasses.dataclass(frozen=True)
class SpectraOptions(Options):
    """What commands about spectra share."""

    measure: MeasureName | None = None
    """how frequency is measured: by default harmonic on the circle, graph elsewhere"""
    num_modes: int = 10
    """how many modes the printed table shows"""


@dataclasses.dataclass(frozen=True)
class SpectrumOptions(SpectraOptions):
    """Compute the spectrum of one network's kernel and rank its modes by frequency."""

    net: Architecture = "mlp"
    """the architecture: mlp; cnn flattens before its last layer, cnn-pool averages over positions"""
    limit: Limit = "finite"
    """a network of this width at random parameters, or its limit of infinite width"""


@dataclasses.dataclass(frozen=True)
class CompareOptions(SpectraOptions):
    """Compare the spectra of several networks, at finite and infinite width."""

    nets: tuple[Architecture, ...] = ()
    """the architectures: by default mlp, and cnn where the inputs are images"""
    limits: tuple[Limit, ...] = ("finite", "infinite")
    """which kernels of each"""


@dataclasses.dataclass(frozen=True)
class TrackOptions(Options):
    """Train a network and follow its kernel: measures at snapshots, figures, a page."""

    net: Architecture = "mlp"
    """the architecture: mlp; cnn flattens before its last layer, cnn-pool averages over positions"""
    num_steps: int = 1000
    """updates of the optimizer"""
    optimizer: Literal["sgd", "momentum", "adam"] = "sgd"
    """gradient descent, the same with momentum 0.9, or Adam"""
    learning_rate: float | None = None
    """by default half of the critical rate of the kernel at the start, and 0.001 for adam"""
    loss: LossName = "mse"
    """what is minimized; of labels, mse takes one column each, and losses of one output two classes"""
    batch_size: int | None = None
    """examples of a step: by default all"""
    probe: int = 300
    """how many of the examples the kernel is followed on"""
    test_examples: int = 500
    """to test on: the last of digits and an .npz, at most a fifth; of mnist and cifar10 those of the test split"""
    num_snapshots: int = 30
    """at step 0, and spaced logarithmically"""
    num_runs: int = 1
    """networks from different seeds, trained together"""
    measures: Literal["default", "all"] = "default"
    """all adds those that cost more: more kernels, gradients over all data, the path kernel"""
    resume: bool = False
    """go on from the run that was stopped in the same folder, if there is one"""


COMMANDS: dict[str, type[Options]] = {"spectrum": SpectrumOptions, "compare": CompareOptions, "track": TrackOptions}
PATHS = ("--out", "--folder", "--config")
DESCRIPTION = "What a neural network is inclined to learn: spectra of its kernel, compared, and followed in training."


def parsed(argv: list[str]) -> SpectrumOptions | CompareOptions | TrackOptions:
    """The options of a command line; what the parser refuses becomes an `InputError`, one sentence instead of a box."""
    _require_no_empty_paths(argv)
    commands = (
        Annotated[SpectrumOptions, tyro.conf.subcommand("spectrum")]
        | Annotated[CompareOptions, tyro.conf.subcommand("compare")]
        | Annotated[TrackOptions, tyro.conf.subcommand("track")]
    )
    box = io.StringIO()
    try:
        with contextlib.redirect_stderr(box):
            return tyro.cli(commands, prog="ntkbias", description=DESCRIPTION, args=argv)
    except SystemExit as stop:
        if not stop.code:  # --help
            raise
        command = [word for word in argv[:1] if word in COMMANDS]
        lines = [line.strip("│╭╮╰╯|+ ") for line in box.getvalue().splitlines()][1:]  # below the title
        words = [line if line.strip("─-") else "" for line in lines]  # a rule ends the sentence
        sentence = " ".join(itertools.takewhile(bool, itertools.dropwhile(lambda line: not line, words))).rstrip(".")
        unknown = _unknown(argv)
        raise InputError(f"{unknown or sentence}. See {' '.join(['ntkbias', *command])} --help.") from None


def _require_no_empty_paths(argv: list[str]) -> None:
    """Raise an `InputError` on a path that is empty, which would be the working folder."""
    for word, following in zip(argv, [*argv[1:], ""], strict=True):
        name, equals, value = word.partition("=")
        if name in PATHS and not (value if equals else following).strip():
            raise InputError(f"Expected a path after {name}; got an empty one.")


def _unknown(argv: list[str]) -> str | None:
    """What is wrong with the first word that no command has, or not this one, and what it may have meant; or None."""
    command = next((word for word in argv if not word.startswith("-")), None)
    if command is None:
        return None
    if command not in COMMANDS:
        likely = difflib.get_close_matches(command, COMMANDS, 1)
        return f"Expected one of {', '.join(COMMANDS)}; got {command!r}{_perhaps(likely)}"
    owners: dict[str, list[str]] = {}
    for name, options in COMMANDS.items():
        for field in dataclasses.fields(options):
            owners.setdefault(f"--{field.name.replace('_', '-')}", []).append(name)
    for word in argv:
        option = word.partition("=")[0].replace("_", "-")
        known = option.replace("--no-", "--", 1) if option.startswith("--no-") else option
        if not word.startswith("--") or command in owners.get(known, ()) or option == "--help":
            continue
        own = [name for name, commands in owners.items() if command in commands]
        likely = difflib.get_close_matches(option, owners, 3, 0.7)
        likely = [name for name in likely if name in own][:1] or likely[:1]
        of = [f"{name} of ntkbias {owners[name][0]}" if name not in own else name for name in likely]
        return f"Expected options of ntkbias {command}; got {word.partition('=')[0]!r}{_perhaps(of)}"
    return None


def _perhaps(likely: list[str]) -> str:
    return f". Perhaps you meant {likely[0]}" if likely else ""


def with_config(argv: list[str]) -> list[str]:
    """The arguments, with those of the --config file before the others, so that later ones prevail."""
    path = None
    for index, argument in enumerate(argv):
        if argument == "--config":
            path = argv[index + 1] if index + 1 < len(argv) else None
        elif argument.startswith("--config="):
            path = argument.partition("=")[2]
    if path is None or not path.strip():  # which is refused with the other options
        return argv
    from ntkbias.files import Unreadable, read_bytes, reason_of  # which load NumPy

    try:
        table = tomllib.loads(read_bytes(Path(path), "a TOML file").decode())
    except Unreadable as error:
        raise InputError(f"Expected --config to be a TOML file; {path} cannot be read: {error.reason}.") from None
    except (ValueError, RecursionError) as error:  # ValueError: no text, no TOML, whole numbers without an end
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else reason_of(error)
        raise InputError(f"Expected --config to be a TOML file; {path} cannot be read: {reason}.") from None
    command = COMMANDS.get(argv[0])
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
            parsed([argv[0], *words])
        except InputError as error:
            raise InputError(f"Expected a value of {name} in {path} that it can have; got {value!r}: {error}") from None
        arguments += words
    return [argv[0], *arguments, *argv[1:]]
