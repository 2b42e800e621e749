"""Raises where f(params, x) lets the examples of a batch depend on each other.

The kernel of two examples is that of their gradients, each taken alone: it means nothing for a function that mixes
them, as BatchNorm in training does. That is a matter of how f is written, and is found out once for each way in which
it is traced: from its program, which proves most functions independent without computing anything; where it does not,
from trials at random parameters, outside of whatever traces the call.

>>> import jax.numpy as jnp
>>> from ntkbias.errors import InputError
>>> f = lambda params, x: (x - x.mean(0)) @ params
>>> try:
...     require_independent_examples(f, jnp.zeros((3, 1)), jnp.eye(3))
... except InputError as error:
...     print(str(error)[:57])
Expected f(params, x) to treat each example alone; got ou
"""

import warnings
from typing import Any

import jax
import jax.numpy as jnp

from ntkbias.compilation import Function, remembered
from ntkbias.mixing.outlines import are_alike, lengths, outline
from ntkbias.mixing.rows import of_rows
from ntkbias.mixing.trials import Trial, tried
from ntkbias.types import ApplyFunction, Params

__all__ = ["require_independent_examples"]

BATCHES = (31, 37, 41, 43, 47, 53, 59)  # lengths of a batch that the rest of a program seldom has


def require_independent_examples(f: ApplyFunction, params: Params, x: Any) -> None:
    """Raise an `InputError` if the outputs of some examples depend on others in the batch, or on how many there are.

    `x` is a pytree of arrays with the examples on their first axes. `f` has to accept one example, and several. Warns,
    once for each f, where nothing tells.
    """
    function = Function.of(f)
    shapes = tuple(
        jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree) for tree in (params, x)
    )
    leaves, treedef = jax.tree.flatten(shapes)
    known, key = function.programs.memory, (require_independent_examples, treedef, tuple(leaves), _default_type())
    if key in known:
        return
    if not _is_proven(function, *shapes) and tried(function, params, x) is Trial.UNDECIDED:
        warnings.warn(
            f"It is not known whether {function!r} treats each example alone: its program does not tell, and it "
            "cannot be tried, or is zero or not finite at random parameters. Kernels are right only if it does.",
            stacklevel=2,
        )
    known[key] = True


def _is_proven(f: Function, params: Params, x: Any) -> bool:
    """Whether the program of f, for inputs of these shapes, shows that it treats each example alone."""
    number = max(2, len(jax.tree.leaves(x)[0]))
    proven = _proven(f, *_hashable(params), *_hashable(_batch(x, 1)), _default_type())
    if proven is None:
        return False
    outlined, batch = proven
    return are_alike(outline(jax.make_jaxpr(f)(params, _batch(x, number)), number), number, outlined, batch)


@remembered
def _proven(f: Function, params: Any, leaves: Any, x: Any, inputs: Any, _: str) -> tuple[tuple, int] | None:
    """The outline of a program of f that shows that it treats each example alone, and for how many; None without.

    Programs for two numbers of examples have to be alike: nothing else in them may come of that number. Any number
    whose program is like them is treated alike.
    """
    try:
        params, x = jax.tree.unflatten(params, leaves), jax.tree.unflatten(x, inputs)
        used = {length for length in lengths(jax.make_jaxpr(f)(params, x)) if length}
        batch, other = [batch for batch in BATCHES if all(length % batch for length in used)][:2]
        many = jax.make_jaxpr(f)(params, _batch(x, batch))
        found = outline(many, batch)
        same = are_alike(outline(jax.make_jaxpr(f)(params, _batch(x, other)), other), other, found, batch)
        return (found, batch) if same and of_rows(many, len(inputs)) else None
    except Exception:  # of whatever kind: f takes some numbers of examples alone, and trials say so
        return None


def _batch(x: Any, number: int) -> Any:
    """The shapes of a number of examples like those of `x`."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((number, *leaf.shape[1:]), leaf.dtype), x)


def _hashable(shapes: Any) -> tuple[Any, tuple]:
    leaves, treedef = jax.tree.flatten(shapes)
    return treedef, tuple(leaves)


def _default_type() -> str:
    return str(jnp.result_type(float))
