"""From the words of a command line to its options, with one sentence and a likely correction for what is wrong.

>>> from ntkbias.cli.parsing import parsed
>>> parsed(["compare", "--width", "64,256"]).width
(64, 256)
"""

import contextlib
import dataclasses
import difflib
import functools
import io
import itertools
import operator
from typing import Annotated, Any

import tyro

from ntkbias.cli.architectures import architecture
from ntkbias.cli.groups import DATA, DOMAINS, PATHS
from ntkbias.cli.options import COMMANDS, GROUPS, CompareOptions, LearnOptions, Options
from ntkbias.errors import InputError

__all__ = ["option_of", "parsed"]

DESCRIPTION = "Show what a neural network is inclined to learn: kernel spectra, comparisons, and kernels in training."
FILES = (".npz", ".npy")


def option_of(name: str) -> str:
    """The option of a field: --num-examples of num_examples."""
    return f"--{name.replace('_', '-')}"


def parsed(argv: list[str]) -> Options:
    """The options of a command line. Raises `InputError`, with one sentence, if it is not valid."""
    if not argv:
        raise InputError(f"Expected one of {', '.join(COMMANDS)}; got no command. See ntkbias --help.")
    _require_no_empty_paths(argv)
    box = io.StringIO()
    try:
        with contextlib.redirect_stderr(box):
            groups = tyro.cli(_grouped(), prog="ntkbias", description=DESCRIPTION, args=argv)
    except SystemExit as stop:
        if not stop.code:  # --help
            raise
        command = [word for word in argv[:1] if word in COMMANDS]
        lines = [line.strip("│╭╮╰╯|+ ") for line in box.getvalue().splitlines()][1:]  # below the title
        words = [line if line.strip("─-") else "" for line in lines]  # a rule ends the sentence
        sentence = " ".join(itertools.takewhile(bool, itertools.dropwhile(lambda line: not line, words))).rstrip(".")
        unknown = _unknown(argv)
        raise InputError(f"{unknown or sentence}. See {' '.join(['ntkbias', *command])} --help.") from None
    options = COMMANDS[argv[0]](**{name: value for part in vars(groups).values() for name, value in vars(part).items()})
    _require_valid(options, argv[0])
    return options


@functools.cache
def _grouped() -> Any:
    """One type per command whose fields are its groups: the help shows each group under its own heading."""
    commands = []
    for name, options in COMMANDS.items():
        fields = [
            (group, tyro.conf.OmitArgPrefixes[kind], dataclasses.field(default_factory=kind))
            for group, kind in GROUPS[options].items()
        ]
        grouped = dataclasses.make_dataclass(name, fields, frozen=True)
        grouped.__doc__ = options.__doc__
        commands.append(Annotated[grouped, tyro.conf.subcommand(name)])
    return functools.reduce(operator.or_, commands)


def _require_valid(options: Any, command: str) -> None:
    """Raise an `InputError` unless the networks have known names, and sweeps are where several networks can be."""
    several = isinstance(options, CompareOptions | LearnOptions)
    for text in getattr(options, "nets", ()):
        architecture(text, "--nets")
    if hasattr(options, "net"):
        architecture(options.net)
    for text in options.model if several else filter(None, [getattr(options, "model", None)]):
        module, _, function = text.partition(":")
        if not (all(part.isidentifier() for part in module.split(".")) and function.isidentifier()):
            raise InputError(f"Expected --model to be module:function, as models:make; got {text!r}.")
    for name in ("width", "depth", "activation"):
        values = getattr(options, name, ())
        if len(values) > 1 and not several:
            raise InputError(
                f"Expected one value after {option_of(name)} of ntkbias {command}; got {', '.join(map(str, values))}. "
                "Use ntkbias compare for several."
            )
    for limit in getattr(options, "limits", ()):
        if limit not in ("finite", "infinite"):
            raise InputError(f"Expected finite, infinite or both after --limits; got {limit!r}.")


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
            owners.setdefault(option_of(field.name), []).append(name)
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
        if not before.startswith("--") and (word.endswith(FILES) or word.partition(":")[0] in (*DATA, *DOMAINS)):
            return f"Expected options of ntkbias {command}; got {word!r}{_suggestion([f'--data {word}'])}"
    return None


def _suggestion(likely: list[str]) -> str:
    return f". Perhaps you meant {likely[0]}" if likely else ""
