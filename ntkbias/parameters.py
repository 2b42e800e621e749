"""Parameters as people have them: which of them count, and complex ones as their real and imaginary parts.

>>> import jax.numpy as jnp
>>> from ntkbias.parameters import chosen_paths
>>> params = {"body": {"w": jnp.ones((3, 2))}, "head": jnp.ones(2)}
>>> chosen_paths(params, "['body']"), chosen_paths(params, lambda path: "head" in path)
(("['body']['w']",), ("['head']",))
"""

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ntkbias.errors import InputError, InputTypeError
from ntkbias.types import ApplyFunction, Params
from ntkbias.wrappers import Wrapper

__all__ = [
    "Joining",
    "Merging",
    "MergingForward",
    "RealAndImaginary",
    "Which",
    "chosen_paths",
    "is_complex",
    "joined",
    "parted",
    "partitioned",
    "paths_of",
]

Which = str | Sequence[str] | Callable[[str], bool] | Any  # a path or its beginning, several, a predicate, a mask
MOST_LISTED = 8  # paths in a message


def paths_of(params: Params) -> tuple[str, ...]:
    """The path of every parameter, as `jax.tree_util.keystr` writes it."""
    return tuple(jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(params))


def chosen_paths(params: Params, wrt: Which | None) -> tuple[str, ...] | None:
    """The paths of the parameters that `wrt` chooses; None for all of them, without `wrt`.

    `wrt` is a path, or the beginning of some; several of those; a predicate of the path; or a pytree like `params` of
    True and False. Raises `InputError` where it chooses none, and where a path is that of no parameter.
    """
    if wrt is None:
        return None
    paths = paths_of(params)
    if callable(wrt):
        _require_predicate(wrt)
        chosen = tuple(path for path in paths if wrt(path))
    elif isinstance(wrt, str) or (isinstance(wrt, list | tuple) and wrt and all(isinstance(p, str) for p in wrt)):
        beginnings = (wrt,) if isinstance(wrt, str) else tuple(wrt)
        for beginning in beginnings:
            if not any(_begins(path, beginning) for path in paths):
                advice = _perhaps(paths, beginning)
                raise InputError(f"Expected wrt= to name parameters, of {_listed(paths)}; got {beginning!r}.{advice}")
        chosen = tuple(path for path in paths if any(_begins(path, beginning) for beginning in beginnings))
    else:
        chosen = _of_mask(params, wrt)
    if not chosen:
        raise InputError(f"Expected wrt= to choose one parameter or more, of {_listed(paths)}; got none.")
    return chosen


def _begins(path: str, beginning: str) -> bool:
    """Whether a path is this one, or lies below it."""
    return path == beginning or (path.startswith(beginning) and path[len(beginning)] in "[.")


def _perhaps(paths: tuple[str, ...], word: str) -> str:
    """The way to write a path of which a word is given, as a sentence."""
    meant = (f"[{word!r}]", f".{word}", f"[{word}]")
    found = [beginning for beginning in meant if any(_begins(path, beginning) for path in paths)]
    return f' Write "{found[0]}".' if found else ""


def _require_predicate(wrt: Callable[[str], bool]) -> None:
    """Raise an `InputTypeError` unless a function can be called with a path."""
    try:
        inspect.signature(wrt).bind("")
    except ValueError:  # it says nothing about itself
        return
    except TypeError as error:
        raise InputTypeError(
            f"Expected a predicate wrt= of one path, as lambda path: 'head' in path; got a function that does not take "
            f"one argument: {error}."
        ) from error


def _of_mask(params: Params, mask: Any) -> tuple[str, ...]:
    found = jax.tree_util.tree_leaves_with_path(params, is_leaf=_is_parted)
    if isinstance(mask, list | tuple) and not mask:
        raise InputError(f"Expected wrt= to choose one parameter or more, of {_listed(paths_of(params))}; got none.")
    wanted = str(jax.tree.structure(jax.tree.map(lambda _: 0, params, is_leaf=_is_parted)))
    given = str(jax.tree.structure(mask))
    if wanted != given:
        raise InputError(
            "Expected wrt= to be a path, a list of paths, a predicate of paths, or a pytree of True and False like "
            f"params, {wanted}; got {given}."
        )
    values = jax.tree.leaves(mask)
    for value in values:
        if np.shape(value) or jnp.result_type(value) != jnp.bool_:
            raise InputTypeError(f"Expected True and False in the mask wrt=; got {value!r}.")
    chosen = [jax.tree_util.keystr(path) for (path, _), value in zip(found, values, strict=True) if value]
    return tuple(path for path in paths_of(params) if any(_begins(path, beginning) for beginning in chosen))


def _listed(paths: tuple[str, ...]) -> str:
    more = f" and {len(paths) - MOST_LISTED} more" if len(paths) > MOST_LISTED else ""
    return ", ".join(paths[:MOST_LISTED]) + more


@jax.tree_util.register_pytree_with_keys_class
@dataclasses.dataclass
class RealAndImaginary:
    """A complex parameter as two real ones."""

    real: Any  # arrays, or what stands for them in a tree
    imag: Any

    def tree_flatten_with_keys(self) -> tuple[tuple, None]:
        """The two parts, by their names."""
        names = "real", "imag"
        return tuple((jax.tree_util.GetAttrKey(name), getattr(self, name)) for name in names), None

    @classmethod
    def tree_unflatten(cls, _: None, parts: Sequence[Any]) -> "RealAndImaginary":
        """The parameter of these parts."""
        return cls(*parts)


def parted(f: ApplyFunction, params: Params) -> tuple[ApplyFunction, Params]:
    """The function of real parameters, and these: a complex one counts as its real and imaginary parts."""
    if not any(is_complex(leaf) for leaf in jax.tree.leaves(params)):
        return f, params
    return Joining(f), jax.tree.map(lambda leaf: _parts(leaf) if is_complex(leaf) else leaf, params)


def joined(tree: Params) -> Params:
    """Parameters, or their gradient, with complex numbers again in place of their parts."""
    return jax.tree.map(_joined, tree, is_leaf=_is_parted)


def is_complex(leaf: Any) -> bool:
    """Whether a parameter is of complex numbers."""
    return isinstance(leaf, complex) or np.issubdtype(getattr(leaf, "dtype", np.int8), np.complexfloating)


def _parts(leaf: Any) -> RealAndImaginary:
    return RealAndImaginary(jnp.real(leaf), jnp.imag(leaf))


def partitioned(params: Params, only: tuple[str, ...]) -> tuple[Params, Params]:
    """The parameters at some paths, and the others: two pytrees like `params` with None for what is in the other."""
    mask = jax.tree_util.tree_map_with_path(lambda path, _: jax.tree_util.keystr(path) in only, params)
    return eqx.partition(params, mask)


@dataclasses.dataclass(frozen=True)
class Merging:
    """`f` of the pair that `partitioned` makes: a function of its own, equal to another of the same f."""

    f: ApplyFunction

    def __call__(self, pair: tuple[Params, Params], x: Any) -> Any:
        """What f returns at both together."""
        return self.f(eqx.combine(*pair), x)


@dataclasses.dataclass(frozen=True)
class MergingForward:
    """The same as a training mode, in which the others are a state that stays."""

    f: ApplyFunction

    def __call__(self, chosen: Params, others: Params, x: Any, _: Any) -> tuple[Any, Params]:
        """What f returns at both together, and the others."""
        return self.f(eqx.combine(chosen, others), x), others


@dataclasses.dataclass(frozen=True)
class Joining(Wrapper):
    """`f` of real parameters: a function of its own, equal to another of the same f."""

    saved_as: ClassVar[str] = "complex parameters"

    f: ApplyFunction

    def __call__(self, params: Params, x: Any) -> Any:
        """What f returns at the complex parameters."""
        return self.f(joined(params), x)


def _is_parted(node: Any) -> bool:
    return isinstance(node, RealAndImaginary)


def _joined(node: Any) -> Any:
    return jax.lax.complex(node.real, node.imag) if _is_parted(node) else node
