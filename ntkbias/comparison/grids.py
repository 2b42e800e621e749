"""`compare_grid`: architectures of one family over all combinations of their options."""

import itertools
from collections.abc import Callable
from typing import Any

from ntkbias.comparison.running import compare
from ntkbias.comparison.value import Comparison
from ntkbias.domains import Domain
from ntkbias.layers import Layer

__all__ = ["compare_grid"]


def compare_grid(make: Callable[..., Layer], x: Any, domain: Domain | None = None, **options: Any) -> Comparison:
    """Compare make(**options) for all combinations of the options that are lists, by names like "width 64, depth 2"."""
    axes = {name: values for name, values in options.items() if isinstance(values, list | tuple)}
    others: dict[str, Any] = {name: value for name, value in options.items() if name not in axes}
    things = {}
    for values in itertools.product(*axes.values()):
        chosen: dict[str, Any] = dict(zip(axes, values, strict=True))
        things[", ".join(f"{axis} {value}" for axis, value in chosen.items())] = make(**chosen)
    return compare(things, x, domain, **others)
