"""`compare_grid`: one family of networks over all combinations of its options.

>>> import ntkbias as nb
>>> options = {"width": [16, 64, 256], "depth": 2, "b_std": 0.1}
>>> found = nb.compare_grid(nb.nets.mlp, nb.domains.Circle(), seeds=3, limits=("finite", "infinite"), **options)
>>> found.names
('width 16', 'width 64', 'width 256', 'infinite width')
>>> found.grid
(('width', (16, 64, 256, inf)),)
>>> slope = found.slopes("distance to the limit")                # the distance falls as 1 / sqrt(width)
>>> bool(slope.low[0] < -0.5 < slope.high[0])
True
"""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

from jaxtyping import PRNGKeyArray

from ntkbias.checks import key_or_default, require_choice, require_positive
from ntkbias.comparison.running import KEEP, compared, inputs_of
from ntkbias.comparison.things import Limit, Thing, finite, infinite
from ntkbias.comparison.value import Comparison
from ntkbias.domains import Domain
from ntkbias.errors import InputError, InputTypeError
from ntkbias.frequency import FrequencyMeasure
from ntkbias.layers import Layer
from ntkbias.tables import name_of

__all__ = ["compare_grid"]

WIDTH = "width"  # the option that the infinite limit does not depend on


def compare_grid(
    make: Callable[..., Layer],
    x: Any,
    domain: Domain | None = None,
    *,
    seeds: int = 8,
    limits: Sequence[Limit] = ("finite",),
    weights: Any = None,
    targets: Any = None,
    measure: str | FrequencyMeasure | None = None,
    keep: int | None = KEEP,
    key: PRNGKeyArray | None = None,
    **options: Any,
) -> Comparison:
    """Compare the networks make(**options) for all combinations of those options that are lists.

    For example, `compare_grid(nb.nets.mlp, x, domain, width=[64, 256], depth=[1, 2], activation=["relu", "erf"])` has
    eight networks, "width 64, depth 1, activation relu" and so on. Options that are not lists are the same for all.
    With "infinite" among the `limits`, the infinite width is one more value of the axis "width", once for each setting
    of the others, and every finite network gets its "distance to the limit". `grid` in the result holds the axes, and
    `slopes` fits power laws in them.

    The other arguments, the cost and the errors are those of `compare`. Also raises `InputError` if no option is a
    list, or a list is empty or repeats a value.

    >>> import ntkbias as nb
    >>> found = nb.compare_grid(nb.nets.mlp, nb.domains.Circle(), seeds=2, width=[16, 64], depth=2)
    >>> found.names, found.grid
    (('width 16', 'width 64'), (('width', (16, 64)),))
    """
    if not callable(make):
        raise InputTypeError(
            f"Expected a function that returns a network, e.g. nb.nets.mlp; got {type(make).__name__}."
        )
    axes = {name: values for name, values in options.items() if isinstance(values, list)}
    shared = {name: value for name, value in options.items() if name not in axes}
    if not axes:
        raise InputError("Expected one option or more as a list, e.g. width=[64, 256]; got none. Use compare for one.")
    for name, values in axes.items():
        if not values or len({_text(value) for value in values}) < len(values):
            raise InputError(f"Expected different values in the list {name}; got {values}.")
    require_positive("seeds", seeds)
    listed: Any = [limits] if isinstance(limits, str) else limits
    limits = tuple(dict.fromkeys(listed))
    for each in limits:
        require_choice("limits", each, Limit)
    inputs = inputs_of(x, domain, weights, (targets,))
    key, shape = key_or_default(key), inputs[0].shape[1:]
    found: dict[str, tuple[Thing, dict[str, Any]]] = {}
    wider: dict[str, tuple[Thing, dict[str, Any]]] = {}
    for setting in itertools.product(*axes.values()):
        chosen: dict[str, Any] = dict(zip(axes, setting, strict=True))
        try:
            net = make(**chosen, **shared)
        except TypeError as error:  # such as a misspelt option
            raise InputTypeError(f"Expected options of {name_of(make)}; got an error: {error}.") from error
        if not isinstance(net, Layer):
            raise InputTypeError(f"Expected make(**options) to return a network of layers; got {type(net).__name__}.")
        wide = chosen | {WIDTH: float("inf")} if WIDTH in chosen else chosen
        limit = _name(wide) if WIDTH in chosen or "finite" not in limits else f"{_name(chosen)}, infinite"
        if "finite" in limits:
            own = limit if "infinite" in limits else None
            found[_name(chosen)] = finite(_name(chosen), net, shape, seeds, key, own), chosen
        if "infinite" in limits:
            wider.setdefault(limit, (infinite(limit, net), wide))
    found |= wider
    things = [thing for thing, _ in found.values()]
    comparison = compared(things, *inputs, targets, measure, keep, key)
    grid = tuple((name, tuple(_plain(at[name]) for _, at in found.values())) for name in axes)
    return dataclasses.replace(comparison, grid=grid)


def _name(chosen: dict[str, Any]) -> str:
    """The name of a setting, as "width 64, depth 2"."""
    return ", ".join(
        "infinite width" if option == WIDTH and value == float("inf") else f"{option} {_text(value)}"
        for option, value in chosen.items()
    )


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _plain(value: Any) -> Any:
    """The value if files can hold it, otherwise its text."""
    return value if isinstance(value, int | float | str) or value is None else str(value)
