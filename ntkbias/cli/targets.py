"""The functions of the inputs that `--targets` names.

>>> from ntkbias.cli.inputs import inputs
>>> from ntkbias.cli.options import LearnOptions
>>> options = LearnOptions(data="cube:4", targets=("parity", "degree-1"))
>>> list(named(options, inputs(options), options.targets))
['parity', 'degree-1']
"""

from typing import Any

import jax
import numpy as np

from ntkbias.cli.inputs import Inputs
from ntkbias.learning import named_targets

__all__ = ["named"]


def named(options: Any, data: Inputs, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """The functions by name; all that the inputs allow if there is no name."""
    return named_targets(
        data.x,
        data.domain,
        labels=data.y if data.labeled else None,
        values=None if data.labeled else data.y,
        names=names or None,
        key=jax.random.key(options.seed),
    )
