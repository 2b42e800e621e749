"""Options from a file: TOML, or the `settings.json` of a run folder.

>>> import pathlib, tempfile
>>> from ntkbias.cli.config import with_config
>>> path = pathlib.Path(tempfile.mkdtemp()) / "mine.toml"
>>> _ = path.write_text("width = [64, 256]")
>>> with_config(["compare", "--config", str(path)])[:3]
['compare', '--width', '64,256']
"""

import dataclasses
import itertools
import json
import tomllib
from pathlib import Path
from typing import Any

from ntkbias.cli.options import COMMANDS
from ntkbias.cli.parsing import option_of, parsed
from ntkbias.errors import InputError

__all__ = ["with_config"]

POSITIONAL = {"study": "name", "report": "run"}  # what stands without an option


def with_config(argv: list[str]) -> list[str]:
    """The arguments, with those of the --config file placed first, so that the command line takes precedence.

    If no command is given, it is that of the settings of a run.
    """
    path = None
    for index, argument in enumerate(argv):
        if argument == "--config":
            path = argv[index + 1] if index + 1 < len(argv) else None
        elif argument.startswith("--config="):
            path = argument.partition("=")[2]
    if path is None or not path.strip():  # which is refused with the other options
        return argv
    values, named = _read(path)
    if named is not None and argv[0].startswith("-"):
        argv = [named, *argv]
    if argv[0] not in COMMANDS:
        return argv
    if named not in (None, argv[0]):
        raise InputError(f"Expected the settings of ntkbias {argv[0]} in {path}; got those of ntkbias {named}.")
    return [argv[0], *_arguments(argv[0], values, path, skip_defaults=named is not None), *argv[1:]]


def _read(path: str) -> tuple[dict[str, Any], str | None]:
    """The options in a file by name, and the command of a run's settings."""
    from ntkbias.files import Unreadable, read_bytes, reason_of  # imported late: it loads NumPy

    kind = "settings.json of a run" if path.endswith(".json") else "a TOML file"
    try:
        text = read_bytes(Path(path), kind).decode()
        table = json.loads(text) if path.endswith(".json") else tomllib.loads(text)
    except Unreadable as error:
        raise InputError(f"Expected --config to be {kind}; {path} cannot be read: {error.reason}.") from None
    except (ValueError, RecursionError) as error:  # ValueError: not text, not TOML, or a number with too many digits
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else reason_of(error)
        raise InputError(f"Expected --config to be {kind}; {path} cannot be read: {reason}.") from None
    if not path.endswith(".json"):
        return table, None
    found = table.get("options") if isinstance(table, dict) else None
    if not isinstance(found, dict) or table.get("command") not in COMMANDS:
        raise InputError(f"Expected --config to be settings.json of a run; {path} has no command with its options.")
    return found, table["command"]


def _arguments(command: str, values: dict[str, Any], path: str, skip_defaults: bool) -> list[str]:
    """The options as words of a command line. `skip_defaults` leaves out null and empty lists, as a run stores them."""
    defaults, found = COMMANDS[command](), {}
    known = {field.name for field in dataclasses.fields(defaults)} - {"config"}
    for name, value in values.items():
        field, option = name.replace("-", "_"), option_of(name)
        if skip_defaults and (value in (None, []) or name == "config"):
            continue
        if field not in known:
            raise InputError(
                f"Expected options of {command} in {path}; got {name!r}, not one of {', '.join(sorted(known))}."
            )
        if isinstance(value, dict):
            raise InputError(f"Expected plain values in {path}; got a table at {name!r}.")
        default = getattr(defaults, field)
        if isinstance(default, str | Path) and not isinstance(value, str):
            raise InputError(f"Expected {name} in {path} to be a string; got {value!r}.")
        if isinstance(default, bool) and not isinstance(value, bool):
            raise InputError(f"Expected {name} in {path} to be true or false; got {value!r}.")
        if isinstance(default, bool):
            words = [option if value else option.replace("--", "--no-", 1)]
        elif POSITIONAL.get(command) == field:
            words = [str(value)]
        elif name == "set":  # each word of its own, since values have commas
            words = [word for one in (value if isinstance(value, list) else [value]) for word in (option, str(one))]
        else:
            words = [option, ",".join(map(str, value)) if isinstance(value, list) else str(value)]
        found[name] = words
    try:
        parsed([command, *itertools.chain(*found.values())])
    except InputError:  # find the option that is wrong
        for name, words in found.items():
            try:
                parsed([command, *words])
            except InputError as error:
                raise InputError(f"Expected a valid value of {name} in {path}; got {values[name]!r}: {error}") from None
        raise
    return [*itertools.chain(*found.values())]
