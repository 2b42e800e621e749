"""How a page was made: when, by which command, versions and commit, and the papers whose methods were used.

>>> from ntkbias.report.making import command_line
>>> command_line({"command": "spectrum", "options": {"data": "circle", "width": 64, "cache": True, "folder": None}})
'ntkbias spectrum --data circle --width 64 --cache'
"""

import datetime
import html
import platform
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import ntkbias
from ntkbias.report.page import html_table, settings_rows
from ntkbias.report.papers import PAPERS, bibtex

__all__ = ["command_line", "how_made"]

PACKAGES = ("jax", "numpy", "scipy", "equinox", "optax", "matplotlib")


def how_made(keys: Sequence[str], settings: dict[str, Any]) -> str:
    """The section of the page that says how it was made, as HTML, with the papers of these keys."""
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    rows = [["date", now]]
    if command := command_line(settings):
        rows.append(["command", f"<code>{html.escape(command)}</code>"])
    versions = {"python": platform.python_version(), "ntkbias": ntkbias.__version__, **_versions()}
    if "versions" not in settings:
        rows.append(["versions", ", ".join(f"{name} {number}" for name, number in versions.items())])
    if commit := _commit():
        rows.append(["commit", html.escape(commit)])
    papers = "".join(f"<li>{html.escape(_cited(key))}</li>" for key in keys)
    return (
        f"<h2>How this page was made</h2>{html_table(['', ''], rows, css='text')}"
        f"<h3>Papers whose methods were used</h3><ul>{papers}</ul>"
        f"<details><summary>BibTeX</summary><pre>{html.escape(bibtex(keys))}</pre></details>"
        f"<h3>Settings</h3>{html_table(['setting', 'value'], settings_rows(settings), css='text')}"
    )


def command_line(settings: Mapping[str, Any]) -> str:
    """The command that these settings stand for: that of "command_line", or "command" with its "options"; else ""."""
    if text := settings.get("command_line"):
        return shlex.join(map(str, text)) if isinstance(text, list | tuple) else str(text)
    options = settings.get("options")
    if not isinstance(options, Mapping) or "command" not in settings:
        return ""
    words = ["ntkbias", str(settings["command"])]
    for name, value in options.items():
        option = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            words.append(option if value else option.replace("--", "--no-", 1))
        elif isinstance(value, list | tuple):
            words += [option, *map(str, value)] if value else []
        elif value is not None:
            words += [option, str(value)]
    return shlex.join(words)


def _cited(key: str) -> str:
    paper = PAPERS[key]
    where = f" arXiv {paper.eprint}." if paper.eprint else ""
    title = paper.title.replace("{", "").replace("}", "")
    return f"{paper.cited}, {title}. {paper.venue}.{where} Used for {paper.use}."


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # it is no package of its own here
            continue
    return found


def _commit() -> str | None:
    """The commit of the checkout that the package runs from, and whether its files were changed; None without one."""
    root = Path(ntkbias.__file__).parent.parent
    if not (root / ".git").exists():
        return None
    try:
        commit = _git(root, "rev-parse", "HEAD")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no", "--", "ntkbias")
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{commit}, with changes" if changed else commit


def _git(root: Path, *words: str) -> str:
    run = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=True, timeout=10)
    return run.stdout.strip()
