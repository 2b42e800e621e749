"""Progress of long work: a bar in a terminal or a notebook; where output goes to a file, a line a phase of a command.

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
    warnings.simplefilter("ignore")  # in a notebook without ipywidgets the bar is made of text
    from tqdm.auto import tqdm

__all__ = ["announce", "phase", "progress"]


def progress(items: Iterable | None, label: str, **options: Any) -> Any:
    """The items, with a bar in a terminal or notebook once it takes longer than two seconds.

    Without items it is the bar alone, to be updated by hand; `options` are tqdm's, as `total` and `initial`.

    TQDM_DISABLE=1 in the environment silences it; where output goes to a file it is silent anyway.
    """
    notebook = tqdm.__mro__[0].__module__.endswith("notebook")
    return tqdm(items, desc=label, delay=2.0, leave=False, disable=False if notebook else None, **options)


def announce(text: str) -> None:
    """Say a line on the standard error. TQDM_DISABLE=1 silences it."""
    if sys.stderr is None or os.environ.get("TQDM_DISABLE"):
        return
    with contextlib.suppress(OSError, ValueError):  # nobody reads it any more
        print(f"ntkbias: {text}", file=sys.stderr, flush=True)


def phase(text: str) -> None:
    """Announce what begins, unless that would be in a terminal, where bars say it."""
    if sys.stderr is not None and not sys.stderr.isatty():
        announce(text)
