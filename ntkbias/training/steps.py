"""The steps at which a training run stops."""

from collections.abc import Iterable
from itertools import pairwise

import numpy as np

from ntkbias.checks import require_positive
from ntkbias.errors import InputError, InputTypeError

__all__ = ["Steps", "checked_steps", "log_steps"]

Steps = Iterable[int] | np.ndarray


def log_steps(num_steps: int, num_snapshots: int = 30) -> tuple[int, ...]:
    """At most `num_snapshots` steps from 0 to `num_steps`: step 0, and then steps equally spaced on a logarithmic axis.

    There are fewer if rounding to whole numbers makes some of them equal.

    >>> import ntkbias as nb
    >>> nb.training.log_steps(100, 4)
    (0, 1, 10, 100)
    """
    require_positive("num_steps", num_steps)
    require_positive("num_snapshots", num_snapshots)
    if num_snapshots == 1:
        return (num_steps,)
    spaced = np.geomspace(num_steps, 1, num_snapshots - 1)  # from the last step, so that a single one is the last
    return (0, *np.unique(np.rint(spaced).astype(int)).tolist())


def checked_steps(at: Steps | None, num_steps: int) -> tuple[int, ...]:
    """The steps `at` (default: `log_steps`), with 0 and `num_steps` added.

    Raises `InputTypeError` unless they are whole numbers, and `InputError` unless they ascend from 0 to `num_steps`.
    """
    require_positive("num_steps", num_steps)
    if at is None:
        return log_steps(num_steps)
    try:
        given = list(at)
        steps = [int(step) for step in given]
        whole = all(step == one for step, one in zip(steps, given, strict=True))
    except (TypeError, ValueError):
        whole = False
    if not whole or not steps:
        raise InputTypeError(f"Expected at= to be whole numbers of steps, such as (0, 10, 100); got {at!r}.")
    if any(later <= earlier for earlier, later in pairwise(steps)):
        raise InputError(f"Expected at= in ascending order, each step once; got {steps}. Use sorted(set(at)).")
    if steps[0] < 0 or steps[-1] > num_steps:
        raise InputError(f"Expected at= between 0 and num_steps, {num_steps}; got {steps[0]} to {steps[-1]}.")
    return tuple(sorted({0, *steps, num_steps}))
