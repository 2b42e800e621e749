"""Progress of long work: a bar in a terminal or a notebook, and nothing where output goes to a file.

>>> from ntkbias.progress import progress
>>> sum(progress(range(4), "numbers"))
6
"""

import warnings
from collections.abc import Iterable
from typing import Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # in a notebook without ipywidgets the bar is made of text
    from tqdm.auto import tqdm

__all__ = ["progress"]


def progress(items: Iterable | None, label: str, **options: Any) -> Any:
    """The items, with a bar in a terminal or notebook once it takes longer than two seconds.

    Without items it is the bar alone, to be updated by hand; `options` are tqdm's, as `total` and `initial`.

    TQDM_DISABLE=1 in the environment silences it; where output goes to a file it is silent anyway.
    """
    notebook = tqdm.__mro__[0].__module__.endswith("notebook")
    return tqdm(items, desc=label, delay=2.0, leave=False, disable=False if notebook else None, **options)
