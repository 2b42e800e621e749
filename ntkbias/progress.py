"""Progress of long work: a bar in a terminal or a notebook; in a log file, one line per phase of a command.

>>> from ntkbias.progress import progress
>>> sum(progress(range(4), "numbers"))
6
"""

import contextlib
import os
import sys
import warnings
from collections.abc import Iterable
from typing import Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # in a notebook without ipywidgets, tqdm warns that its bar is plain text
    from tqdm.auto import tqdm

__all__ = ["announce", "phase", "progress"]


def progress(items: Iterable | None, label: str, **options: Any) -> Any:
    """Iterate over the items, and show a bar in a terminal or notebook once that takes longer than two seconds.

    With items=None this is the bar alone, which the caller updates. `options` are those of tqdm, e.g. `total` and
    `initial`. There is no bar if output goes to a file, or if the environment sets TQDM_DISABLE.
    """
    notebook = tqdm.__mro__[0].__module__.endswith("notebook")
    disable = True if os.environ.get("TQDM_DISABLE") else (False if notebook else None)  # None: unless in a terminal
    return tqdm(items, desc=label, delay=2.0, leave=False, disable=disable, **options)


def announce(text: str) -> None:
    """Print a line to standard error. TQDM_DISABLE=1 silences it."""
    if sys.stderr is None or os.environ.get("TQDM_DISABLE"):
        return
    with contextlib.suppress(OSError, ValueError):  # the reader has closed the pipe
        print(f"ntkbias: {text}", file=sys.stderr, flush=True)


def phase(text: str) -> None:
    """Print a line to standard error when a phase begins. A terminal shows bars instead; TQDM_DISABLE=1 silences it."""
    if sys.stderr is not None and not sys.stderr.isatty():
        announce(text)
