"""Refuse an f(params, x) whose outputs for one example depend on other examples of the batch.

The kernel of two examples is the inner product of their gradients, each taken alone. It is meaningless for a function
that mixes examples, as BatchNorm does in training. Mixing depends on how f is written, so the check runs once per
tracing signature. The jaxpr of f proves most functions independent without computing anything. If it does not, f is
tried at random parameters, outside of any surrounding trace.

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
from ntkbias.mixing.rows import treats_rows_alone
from ntkbias.mixing.trials import Trial, run_trials
from ntkbias.types import ApplyFunction, Params

__all__ = ["require_independent_examples"]

BATCHES = (31, 37, 41, 43, 47, 53, 59)  # batch lengths that other axes of a program seldom have


def require_independent_examples(f: ApplyFunction, params: Params, x: Any) -> None:
    """Raise an `InputError` if the outputs of an example depend on other examples, or on the number of examples.

    `x` is a pytree of arrays with the examples on their first axes. `f` has to accept any number of examples. If
    neither the jaxpr nor the trials decide, this warns once per f.
    """
    function = Function.of(f)
    shapes = tuple(
        jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree) for tree in (params, x)
    )
    leaves, treedef = jax.tree.flatten(shapes)
    known, key = function.programs.memory, (require_independent_examples, treedef, tuple(leaves), _default_type())
    if key in known:
        return
    if not _is_proven(function, *shapes) and run_trials(function, params, x) is Trial.UNDECIDED:
        warnings.warn(
            f"It is not known whether {function!r} treats each example alone: its program does not decide it, and it "
            "cannot be tried, or is zero or not finite at random parameters. Kernels are right only if it does.",
            stacklevel=2,
        )
    known[key] = True


def _is_proven(f: Function, params: Params, x: Any) -> bool:
    """Whether the jaxpr of f, for inputs of these shapes, proves that f treats each example alone."""
    number = max(2, len(jax.tree.leaves(x)[0]))
    proven = _proven(f, *_hashable(params), *_hashable(_batch(x, 1)), _default_type())
    if proven is None:
        return False
    outlined, batch = proven
    return are_alike(outline(jax.make_jaxpr(f)(params, _batch(x, number)), number), number, outlined, batch)


@remembered
def _proven(f: Function, params: Any, leaves: Any, x: Any, inputs: Any, _: str) -> tuple[tuple, int] | None:
    """The outline of a jaxpr of f that proves independence, and the batch length it was traced for; None without proof.

    The jaxprs for two batch lengths have to be alike: nothing but the lengths of axes may depend on the batch length.
    The proof then holds for every batch length whose jaxpr is alike.
    """
    try:
        params, x = jax.tree.unflatten(params, leaves), jax.tree.unflatten(x, inputs)
        used = {length for length in lengths(jax.make_jaxpr(f)(params, x)) if length}
        batch, other = [batch for batch in BATCHES if all(length % batch for length in used)][:2]
        many = jax.make_jaxpr(f)(params, _batch(x, batch))
        found = outline(many, batch)
        same = are_alike(outline(jax.make_jaxpr(f)(params, _batch(x, other)), other), other, found, batch)
        return (found, batch) if same and treats_rows_alone(many, len(inputs)) else None
    except Exception:  # of any kind: f may refuse some batch lengths, which the trials then report
        return None


def _batch(x: Any, number: int) -> Any:
    """The shapes of a batch of `number` examples like those of `x`."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((number, *leaf.shape[1:]), leaf.dtype), x)


def _hashable(shapes: Any) -> tuple[Any, tuple]:
    leaves, treedef = jax.tree.flatten(shapes)
    return treedef, tuple(leaves)


def _default_type() -> str:
    return str(jnp.result_type(float))
