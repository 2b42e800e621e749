"""Try whether f(params, x) treats each example alone: replace the other examples, and compare outputs.

Parameters are drawn at random near the given ones, because at a zero initialization no output depends on any input. A
batch of the same shape runs the same program, so the output of an example stays the same to almost every digit when
the others are replaced, even in bfloat16. The output of an example alone may differ by rounding.
"""

import enum
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from operator import itemgetter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ntkbias.checks import are_known
from ntkbias.compilation import Function, compiled
from ntkbias.errors import InputError
from ntkbias.types import Params

__all__ = ["Trial", "run_trials"]

MOST_TRIED = 5  # examples of the batch in which each is replaced in turn
MOST_TOGETHER, MOST_ALONE = 512, 8  # examples of the large batch, and how many of them are also tried alone
SPREAD = 0.3  # of the random parameters, relative to the given ones
SMALL = 1e-4  # of the largest output: solvers that stop together, or sums in another order, may change this much


class Trial(enum.Enum):
    """The outcome of trials that found no mixing."""

    INDEPENDENT = enum.auto()
    UNDECIDED = enum.auto()  # no trial ran with outputs that are finite and not all zero


def run_trials(f: Function, params: Params, x: Any) -> Trial:
    """Try `f` outside of any trace.

    Raises `InputError` if outputs depend on other examples or on their number, or are not finite.
    """
    with _outside_of_traces():
        total = len(jax.tree.leaves(x)[0])
        number = min(total, MOST_TRIED)
        if number < 2:
            return Trial.INDEPENDENT
        rng = np.random.default_rng(0)
        batch, others = _batches(rng, x, number)
        large, _ = _batches(rng, x, min(total, MOST_TOGETHER))
        raised: Exception | None = None
        together = np.zeros(0)
        for chosen in _drawn(rng, params):
            try:
                together, beside = _outputs(f, chosen, batch), _outputs(f, chosen, others)
            except Exception as error:  # f closes over traced values, or checks parameters itself: try the next ones
                raised = error
                continue
            if np.isfinite([together, beside]).all() and (together.any() or beside.any()):
                _compare(f, chosen, batch, others, together)
                _compare(f, chosen, others, batch, beside)
                _compare_large_batch(f, chosen, large, rng)
                return Trial.INDEPENDENT
        if are_known((params, x)) and raised is None and not np.isfinite(together).all():
            raise InputError(
                "Expected f(params, x) to return finite numbers; got NaN or infinity for the first inputs. "
                "Check the scale of inputs and parameters."
            )
        return Trial.UNDECIDED


def _outside_of_traces() -> AbstractContextManager:
    """A context in which JAX computes values even while jit, vmap or grad trace the caller."""
    return nullcontext() if are_known(jnp.zeros(())) else jax.ensure_compile_time_eval()


def _compare(f: Function, params: Params, batch: Any, others: Any, together: np.ndarray) -> None:
    """Raise an `InputError` if outputs change when another example is replaced, or when all others are removed."""
    largest = float(np.max(np.abs(together))) or 1.0
    # On an accelerator, two runs of one program on one batch may differ by the order of sums.
    noise = float(np.max(np.abs(_outputs(f, params, batch) - together)))
    number = len(together)
    for index in range(number):
        replaced = jax.tree.map(partial(_replaced, index), batch, others)
        found = np.delete(_outputs(f, params, replaced) - together, index, 0)
        _require_small(
            float(np.max(np.abs(found))),
            max(SMALL * largest, 8 * noise),
            largest,
            "when others in the batch are replaced",
        )
    eps = float(jnp.finfo(jax.eval_shape(f, params, batch).dtype).eps)
    for index in range(number):
        alone = _outputs(f, params, jax.tree.map(itemgetter(slice(index, index + 1)), batch))
        # A batch of another length runs another program, which may sum in another order.
        change = float(np.max(np.abs(alone[0] - together[index])))
        _require_small(change, min(10 * eps**0.5, 0.3) * largest, largest, "when it comes without others")


def _compare_large_batch(f: Function, params: Params, x: Any, rng: np.random.Generator) -> None:
    """The same check on a large batch: its examples in another order, and some of them alone."""
    together = _outputs(f, params, x)
    if not np.isfinite(together).all():
        return
    largest = float(np.max(np.abs(together))) or 1.0
    order = rng.permutation(len(together))
    found = _outputs(f, params, jax.tree.map(itemgetter(order), x))
    _require_small(float(np.max(np.abs(found - together[order]))), SMALL * largest, largest, "in another order")
    eps = float(jnp.finfo(jax.eval_shape(f, params, x).dtype).eps)
    for index in rng.choice(len(together), min(len(together), MOST_ALONE), replace=False):
        alone = _outputs(f, params, jax.tree.map(itemgetter(slice(index, index + 1)), x))
        change = float(np.max(np.abs(alone[0] - together[index])))
        _require_small(change, min(10 * eps**0.5, 0.3) * largest, largest, "when it comes without others")


def _require_small(change: float, limit: float, largest: float, when: str) -> None:
    if not change <= limit:
        raise InputError(
            f"Expected f(params, x) to treat each example alone; got outputs of an example that change by "
            f"{change / largest:.2g} of the largest {when}. Use a model's inference mode (BatchNorm with fixed "
            "statistics). If the rows of x are the nodes of one graph, make each graph one example."
        )


@compiled
def _run(f: Function, params: Params, x: Any) -> Any:
    return f(params, x)


def _outputs(f: Function, params: Params, x: Any) -> np.ndarray:
    return np.asarray(_run(f, params, x)).astype(np.float64)


def _drawn(rng: np.random.Generator, params: Params) -> Iterator[Params]:
    """Parameters near the given ones, with random ones for zeros; then positive ones; then the given ones."""
    leaves, treedef = jax.tree.flatten(params)
    for positive in (False, True):
        drawn = []
        for leaf in leaves:
            if not jnp.issubdtype(leaf.dtype, jnp.floating):
                drawn.append(leaf if are_known(leaf) else np.zeros(leaf.shape, np.int32))
                continue
            fan_in = max(1, int(np.prod(leaf.shape[:-1])))
            noise = rng.standard_normal(leaf.shape, np.float32)
            fresh = noise / np.sqrt(np.float32(fan_in))
            own = np.asarray(leaf).astype(np.float32) if are_known(leaf) else np.zeros(leaf.shape, np.float32)
            drawn.append(np.where(own == 0, fresh, own * (1 + np.float32(SPREAD) * np.tanh(noise))))
        if positive:
            drawn = [np.abs(value) for value in drawn]
        typed = [np.asarray(value).astype(leaf.dtype) for value, leaf in zip(drawn, leaves, strict=True)]
        yield jax.tree.unflatten(treedef, typed)
    if are_known(params):
        yield params


def _batches(rng: np.random.Generator, x: Any, number: int) -> tuple[Any, Any]:
    """Two batches: some of the given examples, and as many others to replace them by."""
    total = len(jax.tree.leaves(x)[0])
    places = np.linspace(0, total - 1, number).astype(int)
    after = (places + max(1, total // (2 * number))) % total
    leaves, treedef = jax.tree.flatten(x)
    first, second = [], []
    for leaf in leaves:
        if are_known(leaf):
            host = np.asarray(leaf)
            first.append(host[places])
            second.append(_different(rng, host[places], host[after]))
        else:
            made = _made_up(rng, leaf, 2 * number)
            first.append(made[:number])
            second.append(made[number:])
    return jax.tree.unflatten(treedef, first), jax.tree.unflatten(treedef, second)


def _different(rng: np.random.Generator, own: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Replacements for `own`: `other`, but where the two are equal numbers near `own`, or ids up to its largest."""
    same = (own == other).reshape(len(own), -1).all(1)
    if not same.any():
        return other
    if own.dtype.kind == "b":
        drawn = ~own
    elif own.dtype.kind in "iu":
        drawn = rng.integers(0, max(1, int(own.max(initial=0))) + 1, own.shape).astype(own.dtype)
    else:
        spread = float(np.std(own.astype(np.float64))) or 1.0
        drawn = (own.astype(np.float64) + spread * rng.standard_normal(own.shape)).astype(own.dtype)
    return np.where(same.reshape(-1, *(1,) * (own.ndim - 1)), drawn, other)


def _made_up(rng: np.random.Generator, leaf: Any, number: int) -> np.ndarray:
    """Random examples of a shape and type: normal numbers, or, as ids that most tables have, zeros and ones."""
    shape = (number, *leaf.shape[1:])
    if jnp.issubdtype(leaf.dtype, jnp.floating):
        return rng.standard_normal(shape).astype(leaf.dtype)
    return rng.integers(0, 2, shape).astype(leaf.dtype)


def _replaced(index: int, own: np.ndarray, other: np.ndarray) -> np.ndarray:
    changed = own.copy()
    changed[index] = other[index]
    return changed
