"""The options of each command, and how they are read from the command line and from TOML files.

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
# These repeat the names in frequency.MEASURES, losses.NAMED and types.Parameterization. Importing those would load JAX,
# and a wrong option should fail at once. A test compares the names.
MeasureName = Literal["harmonic", "graph", "dirichlet"]
LossName = Literal["mse", "logistic", "hinge", "cross_entropy"]
Parameterization = Literal["ntk", "standard"]
NO_DEFAULT = tyro.conf.arg(help_behavior_hint="")  # the help text itself says what happens without the option


@dataclasses.dataclass(frozen=True)
class Options:
    """The options that all commands share: the data and the network."""

    data: str = "digits"
    """digits, circle, mnist, cifar10, or the path of an .npz file with arrays x and, if there are labels, y"""
    folder: Annotated[Path | None, NO_DEFAULT] = None
    """the folder with the files of mnist or cifar10"""
    num_examples: Annotated[int | None, NO_DEFAULT] = None
    """number of inputs: by default 256 on the circle, 2,000 from mnist and cifar10, and otherwise all"""
    width: int = 256
    """units or channels of each hidden layer of a finite network"""
    depth: int = 2
    """number of hidden layers"""
    activation: str = "relu"
    """nonlinearity of the hidden layers: relu, erf, tanh, ..."""
    b_std: float = 0.1
    """standard deviation of the biases; 0 for no biases"""
    parameterization: Parameterization = "ntk"
    """how the weights are scaled"""
    seed: int = 0
    """seed of the parameters of finite networks and of the choice of examples"""
    out: Path = Path("runs/latest")
    """the run folder; files from an earlier command there are replaced, other files are not"""
    cache: bool = True
    """keep compiled programs in the user's cache folder for later commands"""
    config: Annotated[Path | None, NO_DEFAULT] = None
    """a TOML file with these options, e.g. width = 128; the command line takes precedence"""


@dataclasses.dataclass(frozen=True)
class SpectraOptions(Options):
    """The options that `spectrum` and `compare` share."""

    measure: Annotated[MeasureName | None, NO_DEFAULT] = None
    """how to measure frequency: by default harmonic on the circle, graph elsewhere"""
    num_modes: int = 10
    """number of modes in the printed table"""


@dataclasses.dataclass(frozen=True)
class SpectrumOptions(SpectraOptions):
    """Compute the spectrum of one network's kernel and rank its modes by frequency."""

    net: Architecture = "mlp"
    """the architecture: mlp; cnn flattens before its last layer, cnn-pool averages over positions"""
    limit: Limit = "finite"
    """a network of this width with random parameters, or its infinite-width limit"""


@dataclasses.dataclass(frozen=True)
class CompareOptions(SpectraOptions):
    """Compare the spectra of several networks, at finite and infinite width."""

    nets: Annotated[tuple[Architecture, ...], NO_DEFAULT] = ()
    """the architectures: by default mlp, and for images also cnn"""
    limits: tuple[Limit, ...] = ("finite", "infinite")
    """which kernels of each architecture"""


@dataclasses.dataclass(frozen=True)
class TrackOptions(Options):
    """Train a network and follow its kernel: measures at snapshots, figures and a report."""

    net: Architecture = "mlp"
    """the architecture: mlp; cnn flattens before its last layer, cnn-pool averages over positions"""
    num_steps: int = 1000
    """number of optimizer steps"""
    optimizer: Literal["sgd", "momentum", "adam"] = "sgd"
    """gradient descent, gradient descent with momentum 0.9, or Adam"""
    learning_rate: Annotated[float | None, NO_DEFAULT] = None
    """by default half of the critical rate of the initial kernel; for adam 0.001"""
    loss: LossName = "mse"
    """the loss; mse uses one output per label, and logistic and hinge need two classes"""
    batch_size: Annotated[int | None, NO_DEFAULT] = None
    """examples per step: by default all"""
    probe: int = 300
    """number of training examples on which to follow the kernel"""
    test_examples: int = 500
    """number of test examples: from the test split of mnist and cifar10, else the last ones, at most a fifth"""
    num_snapshots: int = 30
    """number of snapshots: one at step 0, the others spaced logarithmically"""
    num_runs: int = 1
    """number of networks from different seeds, trained together"""
    measures: Literal["default", "all"] = "default"
    """all adds the costly measures: more kernels, gradients over all data, the path kernel"""
    resume: bool = False
    """continue the run that was stopped in the same folder, if there is one"""


COMMANDS: dict[str, type[Options]] = {"spectrum": SpectrumOptions, "compare": CompareOptions, "track": TrackOptions}
DATA = ("digits", "circle", "mnist", "cifar10")
PATHS = ("--out", "--folder", "--config")
DESCRIPTION = "Show what a neural network is inclined to learn: kernel spectra, comparisons, and kernels in training."


def parsed(argv: list[str]) -> SpectrumOptions | CompareOptions | TrackOptions:
    """The options of a command line. Raises `InputError`, with one sentence, if the parser refuses it."""
    if not argv:
        raise InputError(f"Expected one of {', '.join(COMMANDS)}; got no command. See ntkbias --help.")
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
    """A sentence about the first unknown command or option, with the likely correction; None if all are known."""
    command = next((word for word in argv if not word.startswith("-")), None)
    if command is None:
        return None
    if command not in COMMANDS:
        likely = difflib.get_close_matches(command, COMMANDS, 1)
        return f"Expected one of {', '.join(COMMANDS)}; got {command!r}{_suggestion(likely)}"
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
        named = [f"{name} of ntkbias {owners[name][0]}" if name not in own else name for name in likely]
        return f"Expected options of ntkbias {command}; got {word.partition('=')[0]!r}{_suggestion(named)}"
    for before, word in itertools.pairwise(argv):
        if not before.startswith("--") and (word.endswith(".npz") or word in DATA):
            return f"Expected options of ntkbias {command}; got {word!r}{_suggestion([f'--data {word}'])}"
    return None


def _suggestion(likely: list[str]) -> str:
    return f". Perhaps you meant {likely[0]}" if likely else ""


def with_config(argv: list[str]) -> list[str]:
    """The arguments, with those of the --config file placed first, so that the command line takes precedence."""
    path = None
    for index, argument in enumerate(argv):
        if argument == "--config":
            path = argv[index + 1] if index + 1 < len(argv) else None
        elif argument.startswith("--config="):
            path = argument.partition("=")[2]
    if path is None or not path.strip():  # which is refused with the other options
        return argv
    from ntkbias.files import Unreadable, read_bytes, reason_of  # imported late: it loads NumPy

    try:
        table = tomllib.loads(read_bytes(Path(path), "a TOML file").decode())
    except Unreadable as error:
        raise InputError(f"Expected --config to be a TOML file; {path} cannot be read: {error.reason}.") from None
    except (ValueError, RecursionError) as error:  # ValueError: not text, not TOML, or a number with too many digits
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
            raise InputError(f"Expected a valid value of {name} in {path}; got {value!r}: {error}") from None
        arguments += words
    return [argv[0], *arguments, *argv[1:]]
