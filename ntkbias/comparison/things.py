"""What a comparison compares: networks with random initializations, given networks, and kernels, each by its name.

>>> import ntkbias as nb
>>> from ntkbias.comparison.things import things_of
>>> net = nb.nets.mlp(width=8, depth=1)
>>> found = things_of({"net": net, "limit": nb.infinite_ntk(net)}, (2,), 4, ("finite", "infinite"), None)
>>> [(thing.name, len(thing.seeds), thing.is_random, thing.limit) for thing in found]
[('net, finite', 4, True, 'net, infinite'), ('net, infinite', 1, False, None), ('limit', 1, False, None)]
"""

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
from jaxtyping import PRNGKeyArray

from ntkbias.checks import key_or_default, require_choice, require_positive
from ntkbias.errors import InputError, InputTypeError
from ntkbias.kernels import Kernel, empirical_ntk, infinite_ntk
from ntkbias.kernels.kernel import refuse_forms
from ntkbias.layers import Layer
from ntkbias.types import Params

__all__ = ["Limit", "Thing", "finite", "infinite", "things_of"]

Limit = Literal["finite", "infinite"]
KINDS = (
    "a kernel, e.g. empirical_ntk(f, params), a network of layers, a pair (f, params), or a pair (f, init) with a "
    "function init(key)"
)


class Thing(NamedTuple):
    """A thing that is compared: the kernel of each of its runs, made from that run's seed when it is needed."""

    name: str
    kernel: Callable[[Any], Kernel]
    seeds: Sequence[Any] = (None,)  # keys of initializations; None for a kernel without any
    is_network: bool = False  # whether the runs are random initializations
    limit: str | None = None  # the name of the thing that is its infinite-width limit

    @property
    def is_random(self) -> bool:
        """Whether several runs show how initializations differ."""
        return len(self.seeds) > 1

    def kernels(self) -> Iterator[Kernel]:
        """The kernel of each run. The runs share f, and therefore one compiled program."""
        return map(self.kernel, self.seeds)


def things_of(
    given: Any, input_shape: tuple[int, ...], num_seeds: int, limits: Sequence[Limit], key: PRNGKeyArray | None
) -> list[Thing]:
    """The things by name, each network once per limit. Raises `InputTypeError` on anything else."""
    if not isinstance(given, Mapping) or not given:
        got = "an empty dict" if isinstance(given, Mapping) else type(given).__name__
        raise InputTypeError(f"Expected a dict of one or more kernels by name; got {got}.")
    require_positive("seeds", num_seeds)
    listed: Any = [limits] if isinstance(limits, str) else limits
    limits = tuple(dict.fromkeys(listed))
    if not limits:
        raise InputError('Expected limits to be ("finite",), ("infinite",) or both; got none.')
    for limit in limits:
        require_choice("limits", limit, Limit)
    key, found = key_or_default(key), []
    for name, thing in given.items():
        if not isinstance(name, str):
            raise InputTypeError(f"Expected the names of kernels to be strings; got {name!r}.")
        if not name.strip():
            raise InputError(f"Expected a name for each kernel; got {name!r}.")
        if isinstance(thing, Layer):
            for limit in limits:
                own = name if len(limits) == 1 else f"{name}, {limit}"
                if limit == "infinite":
                    found.append(infinite(own, thing))
                else:
                    other = f"{name}, infinite" if "infinite" in limits else None
                    found.append(finite(own, thing, input_shape, num_seeds, key, other))
        else:
            found.append(_thing(name, thing, num_seeds, key))
    if len({thing.name for thing in found}) < len(found):
        names = [thing.name for thing in found]
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"Expected different names; got {twice!r} twice, once for a limit of a network. Rename it.")
    return found


def finite(
    name: str, net: Layer, input_shape: tuple[int, ...], num_seeds: int, key: PRNGKeyArray, limit: str | None = None
) -> Thing:
    """A network of layers at its finite width, with `num_seeds` initializations."""
    net.output_shape(input_shape)  # which raises if the network cannot take the inputs
    return _initialized(name, net.apply, lambda seed: net.init(seed, input_shape), num_seeds, key, limit)


def infinite(name: str, net: Layer) -> Thing:
    """The infinite-width limit of a network of layers."""
    return Thing(name, lambda _: infinite_ntk(net))


def _thing(name: str, thing: Any, num_seeds: int, key: PRNGKeyArray) -> Thing:
    refuse_forms(thing)
    if isinstance(thing, Kernel):
        return Thing(name, lambda _: thing)
    if isinstance(thing, tuple) and len(thing) == 2 and callable(thing[0]):
        f, params = thing
        if callable(params):
            return _initialized(name, f, params, num_seeds, key, None)
        return Thing(name, lambda _: empirical_ntk(f, params))
    advice = "For a matrix use nb.eigen.eigh(K)."
    if type(thing).__name__ == "History":
        advice = 'A history keeps only its last parameters: give {"before": (f, params), "after": (f, history.params)}.'
    raise InputTypeError(f"Expected {KINDS}; got {type(thing).__name__} for {name!r}. {advice}")


def _initialized(
    name: str,
    f: Any,
    init: Callable[[PRNGKeyArray], Params],
    num_seeds: int,
    key: PRNGKeyArray,
    limit: str | None,
) -> Thing:
    # A name has its own seeds, so that two things are independent, and others do not change with what is beside them.
    own = jax.random.fold_in(key, zlib.crc32(name.encode()))
    seeds = list(jax.random.split(own, num_seeds))
    return Thing(name, lambda seed: empirical_ntk(f, init(seed)), seeds, True, limit)
