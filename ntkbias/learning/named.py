"""Functions of the inputs by name, as targets: what would a network learn first, brightness or the labels?

Each is a line in the table `NAMED`, which says what it needs. A line may stand for a family: "classes" has one function
per label, and "degrees" one harmonic of each of several degrees of a domain.

>>> import ntkbias as nb
>>> circle = nb.domains.Circle()
>>> x, _ = circle.quadrature(32)
>>> list(nb.learning.named_targets(x, circle))
['random-labels', 'coordinate-1', 'coordinate-2', 'degree-1', 'degree-2', 'degree-4', 'degree-8']
>>> targets = nb.learning.named_targets(x, circle, names=["degrees"])
>>> nb.learnability(nb.infinite_ntk(nb.nets.mlp()), x, targets).ranking()
('degree-1', 'degree-2', 'degree-4', 'degree-8')
"""

import difflib
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import PRNGKeyArray

from ntkbias.checks import key_or_default, require_host
from ntkbias.domains import Domain, HarmonicDomain, Hypercube
from ntkbias.errors import InputError, InputTypeError

__all__ = ["NAMED", "NamedTarget", "named_targets"]

MOST_COORDINATES = 3
DEGREES = (1, 2, 4, 8)  # low and high, so that each is twice the one before
CONSTANT = 1e-6  # relative to the largest value: rounding of a function in float32


class Given(NamedTuple):
    """What a named function is made of. Inputs are in float64."""

    x: np.ndarray
    domain: Domain | None
    labels: np.ndarray | None
    values: np.ndarray | None
    key: PRNGKeyArray


class NamedTarget(NamedTuple):
    """A function of the inputs, or a family of them.

    `of` returns the values by name, `(n,)` or `(n, t)`; nothing if the inputs do not have what `needs` says.

    >>> import ntkbias as nb
    >>> from ntkbias.learning.named import NAMED
    >>> isinstance(NAMED["parity"], nb.learning.NamedTarget), NAMED["parity"].about
    (True, 'the product of all coordinates')
    """

    about: str
    needs: str
    of: Callable[[Given], dict[str, Any]]


def _image(name: str, function: Callable[[np.ndarray], np.ndarray], channels: int | None = None) -> Any:
    """A function of images alone; with `channels`, of images with so many."""

    def of(given: Given) -> dict[str, Any]:
        fits = given.x.ndim == 4 and channels in (None, given.x.shape[-1])
        return {name: function(given.x)} if fits else {}

    return of


def _ramp(x: np.ndarray, axis: int) -> np.ndarray:
    """The mean of the pixels times a weight that grows from -1 to 1 along an axis."""
    weights = np.linspace(-1, 1, x.shape[axis]).reshape([-1 if place == axis else 1 for place in range(4)])
    return (x * weights).mean((1, 2, 3))


def _labels(given: Given) -> dict[str, Any]:
    return {} if given.labels is None else {"labels": given.labels}


def _classes(given: Given) -> dict[str, Any]:
    if given.labels is None:
        return {}
    return {f"class-{label}": np.where(given.labels == label, 1.0, -1.0) for label in np.unique(given.labels).tolist()}


def _values(given: Given) -> dict[str, Any]:
    return {} if given.values is None else {"values": given.values}


def _random_labels(given: Given) -> dict[str, Any]:
    return {"random-labels": np.asarray(jax.random.rademacher(given.key, (len(given.x),)), float)}


def _coordinates(given: Given) -> dict[str, Any]:
    if given.x.ndim != 2:
        return {}
    return {f"coordinate-{place + 1}": given.x[:, place] for place in range(min(given.x.shape[1], MOST_COORDINATES))}


def _degrees(given: Given) -> dict[str, Any]:
    domain = given.domain
    if not isinstance(domain, HarmonicDomain):
        return {}
    resolved = domain.max_degree(len(given.x))
    known = [degree for degree in DEGREES if degree <= resolved and degree in domain.levels(max(DEGREES)).tolist()]
    x = jax.numpy.asarray(given.x, jax.numpy.result_type(float))
    with_harmonics = [degree for degree in known if domain.multiplicity(degree) > 0]
    return {f"degree-{degree}": np.asarray(domain.harmonic(degree, x, key=given.key)) for degree in with_harmonics}


def _parity(given: Given) -> dict[str, Any]:
    return {"parity": given.x.prod(1)} if isinstance(given.domain, Hypercube) else {}


IMAGES, COLORS = "images (n, height, width, channels)", "images (n, height, width, 3)"
NAMED: dict[str, NamedTarget] = {
    "labels": NamedTarget("all labels together", "labels", _labels),
    "classes": NamedTarget("each label against all others", "labels", _classes),
    "values": NamedTarget("the targets in the data", "targets", _values),
    "brightness": NamedTarget("mean of the pixels", IMAGES, _image("brightness", lambda x: x.mean((1, 2, 3)))),
    "contrast": NamedTarget("spread of the pixels", IMAGES, _image("contrast", lambda x: x.std((1, 2, 3)))),
    "left-right": NamedTarget("right minus left", IMAGES, _image("left-right", lambda x: _ramp(x, 2))),
    "top-bottom": NamedTarget("bottom minus top", IMAGES, _image("top-bottom", lambda x: _ramp(x, 1))),
    "red-minus-green": NamedTarget(
        "red minus green",
        COLORS,
        _image("red-minus-green", lambda x: (x[..., 0] - x[..., 1]).mean((1, 2)), channels=3),
    ),
    "random-labels": NamedTarget("-1 or 1 at random", "any inputs", _random_labels),
    "coordinates": NamedTarget("each of the first coordinates", "inputs (n, d)", _coordinates),
    "degrees": NamedTarget("one harmonic each of degrees 1, 2, 4, 8", "a domain with harmonics", _degrees),
    "parity": NamedTarget("the product of all coordinates", "the cube", _parity),
}


def named_targets(
    x: ArrayLike,
    domain: Domain | None = None,
    *,
    labels: ArrayLike | None = None,
    values: ArrayLike | None = None,
    names: Iterable[str] | None = None,
    key: PRNGKeyArray | None = None,
) -> dict[str, np.ndarray]:
    """Functions of the inputs `x` `(n, ...)` by name: values `(n,)` or `(n, t)`, as `learnability` and `compare` take.

    `names` are names in the table `NAMED`, or names of single functions of a family, as "class-3" or "degree-2". By
    default they are all that the inputs allow, without those that are constant on them. `labels` are whole numbers
    `(n,)`, and `values` are targets `(n,)` or `(n, t)` of the data. Random labels and harmonics are drawn by `key`
    (default: a fixed one). Harmonics are those degrees of `domain` that so many inputs resolve.

    Costs a pass over the inputs per function. Raises `InputError` on a name that is not known, or whose function the
    inputs do not have or is constant on them.

    >>> import ntkbias as nb
    >>> digits = nb.datasets.digits(40)
    >>> targets = nb.learning.named_targets(digits.x, labels=digits.y, names=["brightness", "class-3"])
    >>> {name: values.shape for name, values in targets.items()}
    {'brightness': (40,), 'class-3': (40,)}
    """
    key = key_or_default(key)
    given = Given(
        np.asarray(require_host(x, "x"), float),
        domain,
        None if labels is None else np.asarray(require_host(labels, "labels")),
        None if values is None else np.asarray(require_host(values, "values"), float),
        key,
    )
    if domain is not None and not isinstance(domain, Domain):
        raise InputTypeError(f"Expected domain to be one of nb.domains; got {type(domain).__name__}.")
    if names is None:
        found = {name: each for target in NAMED.values() for name, each in target.of(given).items()}
        return {name: each for name, each in found.items() if not _is_constant(each)}
    if isinstance(names, str):
        raise InputTypeError(f"Expected names to be a list of names, as [{names!r}]; got {names!r}.")
    chosen: dict[str, np.ndarray] = {}
    for name in names:
        chosen |= _chosen(name, given)
    return chosen


def _chosen(name: str, given: Given) -> dict[str, np.ndarray]:
    """The function of this name, or all of a family."""
    of_families = {each: values for target in NAMED.values() for each, values in target.of(given).items()}
    if name in NAMED:
        found = NAMED[name].of(given)
        if not found:
            raise InputError(f"Expected {NAMED[name].needs} for the target {name}; got none.")
    elif name in of_families:
        found = {name: of_families[name]}
    else:
        known = dict.fromkeys([*NAMED, *of_families])
        likely = difflib.get_close_matches(name, known, 1)
        hint = f" Perhaps you meant {likely[0]}." if likely else ""
        raise InputError(f"Expected targets among {', '.join(known)}; got {name!r}.{hint}")
    for each, values in found.items():
        if _is_constant(values):
            raise InputError(f"Expected a target that differs between inputs; got {each}, which is constant on them.")
    return found


def _is_constant(values: np.ndarray) -> bool:
    numbers = np.asarray(values, float).reshape(len(values), -1)
    return not np.max(np.abs(numbers - numbers.mean(0))) > CONSTANT * np.max(np.abs(numbers))
