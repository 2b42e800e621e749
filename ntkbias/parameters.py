"""Select the parameters to differentiate by, and represent complex parameters by their real and imaginary parts.

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
    "Merging",
    "MergingForward",
    "OfComplexParams",
    "RealAndImaginary",
    "Which",
    "chosen_paths",
    "is_complex",
    "partitioned",
    "paths_of",
    "with_complex_params",
    "with_real_params",
]

Which = str | Sequence[str] | Callable[[str], bool] | Any  # a path or prefix, a list of them, a predicate, or a mask
MOST_LISTED = 8  # paths that a message lists


def paths_of(params: Params) -> tuple[str, ...]:
    """The path of every parameter, as `jax.tree_util.keystr` writes it."""
    return tuple(jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(params))


def chosen_paths(params: Params, wrt: Which | None) -> tuple[str, ...] | None:
    """The paths of the parameters that `wrt` selects; None, which means all of them, if `wrt` is None.

    `wrt` is a path or the prefix of several, a list of these, a predicate of a path, or a pytree like `params` of True
    and False. Raises `InputError` if it selects no parameter, and if a path or prefix matches none.
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
            if not any(_lies_under(path, beginning) for path in paths):
                advice = _suggestion(paths, beginning)
                raise InputError(f"Expected wrt= to name parameters, of {_listed(paths)}; got {beginning!r}.{advice}")
        chosen = tuple(path for path in paths if any(_lies_under(path, beginning) for beginning in beginnings))
    else:
        chosen = _paths_of_mask(params, wrt)
    if not chosen:
        raise InputError(f"Expected wrt= to select one parameter or more, of {_listed(paths)}; got none.")
    return chosen


def _lies_under(path: str, beginning: str) -> bool:
    """Whether a path equals `beginning`, or names a leaf below it."""
    return path == beginning or (path.startswith(beginning) and path[len(beginning)] in "[.")


def _suggestion(paths: tuple[str, ...], word: str) -> str:
    """A sentence that suggests how to write the path that `word` probably means; empty if there is none."""
    meant = (f"[{word!r}]", f".{word}", f"[{word}]")
    found = [beginning for beginning in meant if any(_lies_under(path, beginning) for path in paths)]
    return f' Write "{found[0]}".' if found else ""


def _require_predicate(wrt: Callable[[str], bool]) -> None:
    """Raise an `InputTypeError` unless a function can be called with a path."""
    try:
        inspect.signature(wrt).bind("")
    except ValueError:  # it has no signature
        return
    except TypeError as error:
        raise InputTypeError(
            f"Expected wrt= to be a predicate of one path, e.g. lambda path: 'head' in path; got a function that does "
            f"not take one argument: {error}."
        ) from error


def _paths_of_mask(params: Params, mask: Any) -> tuple[str, ...]:
    found = jax.tree_util.tree_leaves_with_path(params, is_leaf=_is_real_and_imaginary)
    if isinstance(mask, list | tuple) and not mask:
        raise InputError(f"Expected wrt= to select one parameter or more, of {_listed(paths_of(params))}; got none.")
    wanted = str(jax.tree.structure(jax.tree.map(lambda _: 0, params, is_leaf=_is_real_and_imaginary)))
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
    return tuple(path for path in paths_of(params) if any(_lies_under(path, beginning) for beginning in chosen))


def _listed(paths: tuple[str, ...]) -> str:
    more = f" and {len(paths) - MOST_LISTED} more" if len(paths) > MOST_LISTED else ""
    return ", ".join(paths[:MOST_LISTED]) + more


@jax.tree_util.register_pytree_with_keys_class
@dataclasses.dataclass
class RealAndImaginary:
    """A complex parameter as two real ones."""

    real: Any  # arrays, or placeholders for them in a pytree
    imag: Any

    def tree_flatten_with_keys(self) -> tuple[tuple, None]:
        """The two parts, with their names as keys."""
        names = "real", "imag"
        return tuple((jax.tree_util.GetAttrKey(name), getattr(self, name)) for name in names), None

    @classmethod
    def tree_unflatten(cls, _: None, parts: Sequence[Any]) -> "RealAndImaginary":
        """The parameter with these parts."""
        return cls(*parts)


def with_real_params(f: ApplyFunction, params: Params) -> tuple[ApplyFunction, Params]:
    """Return f as a function of real parameters, and these parameters: a complex one becomes its two parts."""
    if not any(is_complex(leaf) for leaf in jax.tree.leaves(params)):
        return f, params
    return OfComplexParams(f), jax.tree.map(lambda leaf: _parts(leaf) if is_complex(leaf) else leaf, params)


def with_complex_params(tree: Params) -> Params:
    """Return parameters, or their gradient, with real and imaginary parts combined into complex arrays again."""
    return jax.tree.map(_as_complex, tree, is_leaf=_is_real_and_imaginary)


def is_complex(leaf: Any) -> bool:
    """Whether a parameter is complex."""
    return isinstance(leaf, complex) or np.issubdtype(getattr(leaf, "dtype", np.int8), np.complexfloating)


def _parts(leaf: Any) -> RealAndImaginary:
    return RealAndImaginary(jnp.real(leaf), jnp.imag(leaf))


def partitioned(params: Params, only: tuple[str, ...]) -> tuple[Params, Params]:
    """Split `params` into those at the paths `only` and the others: two pytrees, with None for leaves of the other."""
    mask = jax.tree_util.tree_map_with_path(lambda path, _: jax.tree_util.keystr(path) in only, params)
    return eqx.partition(params, mask)


@dataclasses.dataclass(frozen=True)
class Merging:
    """`f` as a function of the pair that `partitioned` returns. Two are equal if their f are."""

    f: ApplyFunction

    def __call__(self, pair: tuple[Params, Params], x: Any) -> Any:
        """Return f at the merged parameters."""
        return self.f(eqx.combine(*pair), x)


@dataclasses.dataclass(frozen=True)
class MergingForward:
    """The same in the form of a training mode, whose state is the other parameters, and never changes."""

    f: ApplyFunction

    def __call__(self, chosen: Params, others: Params, x: Any, _: Any) -> tuple[Any, Params]:
        """Return f at the merged parameters, and the unchanged others."""
        return self.f(eqx.combine(chosen, others), x), others


@dataclasses.dataclass(frozen=True)
class OfComplexParams(Wrapper):
    """`f`, a function of complex parameters, as a function of their parts. Two are equal if their f are."""

    saved_as: ClassVar[str] = "complex parameters"

    f: ApplyFunction

    def __call__(self, params: Params, x: Any) -> Any:
        """Return f at the complex parameters."""
        return self.f(with_complex_params(params), x)


def _is_real_and_imaginary(node: Any) -> bool:
    return isinstance(node, RealAndImaginary)


def _as_complex(node: Any) -> Any:
    return jax.lax.complex(node.real, node.imag) if _is_real_and_imaginary(node) else node
