"""Numbers that a run's functions produce. A run resumes from its checkpoint only if they stay the same.

Functions cannot be compared, so they are tried out: f and its gradient on inputs spread over the data and the probe,
the loss at outputs of two sizes, the optimizer at gradients of five sizes, and finally two steps of training. One of
the five sizes is zero, where only weight decay moves the parameters. Each array is kept as its norm and some entries.

>>> import jax.numpy as jnp, numpy as np
>>> from ntkbias.tracking.trials import agree, sample
>>> one, other = sample(jnp.arange(1000.0)), sample(jnp.arange(1000.0).at[::-1].multiply(1.01))
>>> agree(one, one, same_versions=True), agree(one, other, same_versions=True)
(True, False)
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from ntkbias.compilation import compiled
from ntkbias.tracking.fingerprints import host_array
from ntkbias.tracking.setting import Setting
from ntkbias.training.time import trial_moves
from ntkbias.training.trainer import Trainer, TrainingState
from ntkbias.types import ApplyFunction, Params

__all__ = ["agree", "functions_that_differ", "sample", "try_f", "try_loss", "try_optimizer", "try_training"]

TRIED = ("f", "loss", "optimizer")  # entries of start.npz, each named after the function that was tried
TRIED_STEPS = "training"  # the entry of start.npz for the first steps, which use all of these functions
ROWS = 64  # of the data, and of the probe, on which f is tried
ENTRIES = 64  # of each array that are kept
STEPS = 200  # for which an optimizer is tried on arrays like the parameters, if it also runs on a single parameter
MOST_STEPS = 20_000  # for which it is tried on arrays otherwise
SIZES = (0.0, 1e-3, 1.0, 1e3, 1e6)  # of gradients: small ones reveal weight decay, large ones reveal clipping
OUTPUTS = (0.5, 5.0)  # sizes of outputs at which a loss is tried
SEGMENTS = 256  # of the steps; an optimizer's updates are summed over each. A multiple of ENTRIES
# Relative to the largest number of an array. The first is above the rounding of threads, the second that of devices.
SAME_VERSIONS, OTHER_VERSIONS = 2e-5, 1e-3


def sample(*trees: Any) -> np.ndarray:
    """The norm of each array in pytrees and some evenly spaced entries, `(arrays, 1 + ENTRIES)`."""
    rows = []
    for leaf in jax.tree.leaves(trees):
        array = host_array(leaf)
        if array.dtype.kind == "c":
            array = np.stack([array.real, array.imag], -1)
        flat = array.reshape(-1)
        flat = flat.view(np.uint8) if flat.dtype.kind not in "biuf" else flat
        row = np.zeros(1 + ENTRIES)
        chosen = flat[np.linspace(0, flat.size - 1, min(ENTRIES, flat.size)).astype(int)] if flat.size else flat
        with np.errstate(over="ignore", invalid="ignore"):
            row[0] = np.sqrt(np.sum(np.square(flat, dtype=np.float64)))
        row[1 : 1 + len(chosen)] = chosen
        rows.append(row)
    return np.stack(rows) if rows else np.zeros((0, 1 + ENTRIES))


def agree(there: np.ndarray, here: np.ndarray, same_versions: bool) -> bool:
    """Whether two samples are equal up to rounding. NaN and infinities have to be in the same places."""
    if there.shape != here.shape:
        return False
    finite = np.isfinite(there) & np.isfinite(here)
    if not np.array_equal(there[~finite], here[~finite], equal_nan=True):
        return False
    there, here = np.where(finite, there, 0.0), np.where(finite, here, 0.0)
    tolerance = SAME_VERSIONS if same_versions else OTHER_VERSIONS
    own = np.max(np.abs(there[:, 1:]), 1, initial=0.0)
    allowed = tolerance * (own + 1e-4 * np.max(own, initial=0.0))
    close = np.all(np.abs(there - here)[:, 1:] <= allowed[:, None])
    norms = np.abs(there - here)[:, 0] <= tolerance * (there[:, 0] + 1e-4 * np.max(there[:, 0], initial=0.0))
    return bool(close and np.all(norms))


def functions_that_differ(
    there: dict[str, Any],
    here: dict[str, Any],
    tried: dict[str, np.ndarray],
    start: dict[str, np.ndarray],
    same_versions: bool,
) -> tuple[list[str], list[str]]:
    """The functions that differ, and the reasons why others cannot be compared, as phrases for a message."""
    different, undecided = [], []
    for name in here:
        if (there.get(name) is None) != (here[name] is None):
            different.append(f"{name} ({'none' if there.get(name) is None else 'one'} there)")
    for name in TRIED:
        if (name in tried) != (name in start):
            different.append(name)
        elif name not in start:
            undecided += [] if here.get(name) is None else [f"{name} cannot be tried alone"]
        elif not agree(tried[name], start[name], same_versions):
            different.append(name)
    if different:
        return different, undecided
    before, now = tried.get(TRIED_STEPS), start.get(TRIED_STEPS)
    both = before is not None and now is not None and agree(before, now, same_versions)
    if not both and not (before is None and now is None):
        return ["forward" if here.get("forward") else "the result of the first training steps"], undecided
    for name in here:
        if here[name] is not None and there[name] != here[name]:
            if there[name]["values"] != here[name]["values"] and same_versions:
                different.append(f"{name} (the values that it closes over)")
            elif same_versions and there[name]["code"] != here[name]["code"]:
                undecided.append(f"the code of {name} differs")
            else:
                undecided.append(f"{name} reads different values from lists, dictionaries, objects or global names")
    return different, undecided


def try_f(setting: Setting, variables: Params) -> np.ndarray | None:
    """A sample of the outputs and of a gradient of f on rows of the data and the probe. None if f has no gradient."""
    try:
        found = []
        for x in (setting.x, setting.probe):
            rows = x[np.linspace(0, len(x) - 1, min(ROWS, len(x))).astype(int)]
            found += _outputs_and_gradient(setting.f, variables, rows)
        return sample(*found)
    except Exception:  # the user's f may not be differentiable
        return None


@compiled
def _outputs_and_gradient(f: ApplyFunction, variables: Params, x: Array) -> tuple[Array, Any]:
    leaves, structure = jax.tree.flatten(variables)
    inexact = [jnp.issubdtype(jnp.result_type(leaf), jnp.inexact) for leaf in leaves]

    def of_inexact(parts: list) -> Array:
        pieces = iter(parts)
        merged = [next(pieces) if taken else leaf for taken, leaf in zip(inexact, leaves, strict=True)]
        return f(jax.tree.unflatten(structure, merged), x)

    outputs, pull = jax.vjp(of_inexact, [jnp.asarray(leaf) for leaf, it in zip(leaves, inexact, strict=True) if it])
    return outputs, pull(_pattern(outputs))[0]


def try_loss(setting: Setting, variables: Params, batch_size: int | None) -> np.ndarray | None:
    """A sample of the loss and its gradient at outputs of two sizes, for the targets of a batch. None if it fails."""
    try:
        y = setting.y[: batch_size or len(setting.y)]
        shape = jax.eval_shape(setting.f, variables, setting.x[: len(y)])
        outputs = _pattern(jnp.zeros(shape.shape, shape.dtype))
        return sample(*(_loss_and_gradient(setting.loss, size * outputs, y) for size in OUTPUTS))
    except Exception:  # the user's loss may raise anything
        return None


@compiled
def _loss_and_gradient(loss: Callable, outputs: Array, y: Array) -> tuple[Array, Array]:
    return jax.value_and_grad(loss)(outputs, y)


def try_optimizer(trainer: Trainer, states: list[TrainingState], num_steps: int) -> np.ndarray | None:
    """A sample of the optimizer's updates of arrays like the parameters, for gradients of all sizes. None if it fails.

    The arrays keep two entries along each axis, so that the optimizer sees names, masks and numbers of axes. If the
    optimizer runs on a single parameter, that shows all steps, and the arrays only the first ones.
    """
    try:
        alone = None if trainer.many else trial_moves(trainer.optimizer, num_steps)
        found = [] if alone is None else [_by_segment(alone)]
        bounds = _bounds(min(num_steps, MOST_STEPS if alone is None else STEPS))
        for state in states:
            params = jax.tree.map(lambda leaf: leaf[0], state.params) if trainer.many else state.params
            small = jax.tree.map(lambda leaf: leaf[(slice(2),) * jnp.ndim(leaf)], params)
            found.append(_trial((trainer.optimizer,), small, state.learning_rate, jnp.asarray(bounds)))
        return np.concatenate([sample(list(np.asarray(each).reshape(-1, ENTRIES))) for each in found])
    except Exception:  # an optimizer may need full matrices, or have masks with the parameters' shapes
        return None


def try_training(trainer: Trainer, states: list[TrainingState], setting: Setting, num_steps: int) -> np.ndarray:
    """A sample of the states after two steps of training."""
    after = [trainer.advance(each, min(2, num_steps), setting.x, setting.y, key=setting.key) for each in states]
    return sample(after)


@compiled
def _trial(parts: tuple, params: Params, rates: Array | None, bounds: Array) -> Array:
    """Weighted sums of updates, by the size of the gradient, the array and the segment of steps."""

    def of_rate(rate: Array | None) -> Array:
        optimizer = optax.with_extra_args_support(parts[0] if rate is None else parts[0](rate))
        return jax.vmap(lambda size: _updates(optimizer, params, size, bounds))(jnp.asarray(SIZES, float))

    return of_rate(None) if rates is None else jax.vmap(of_rate)(rates)


def _updates(optimizer: Any, params: Params, size: Array, bounds: Array) -> Array:
    params = jax.tree.map(lambda leaf: leaf + _pattern(leaf) / 2, params)

    def step(number: Array, carry: tuple[Any, Array]) -> tuple[Any, Array]:
        state, total = carry
        strength = size * (1 + jnp.cos(2.4 * number) / 2)
        gradient = jax.tree.map(lambda leaf: (strength * _pattern(leaf)).astype(leaf.dtype), params)
        extra = {"value": strength, "grad": gradient, "value_fn": lambda params: optax.tree.norm(params, squared=True)}
        updates, state = optimizer.update(gradient, state, params, **extra)
        sums = [jnp.sum(leaf * _pattern(leaf)) for leaf in jax.tree.leaves(updates)]
        return state, total + _weight(number) * jnp.stack(sums).astype(total.dtype)

    def segment(state: Any, ends: Array) -> tuple[Any, Array]:
        none = jnp.zeros(len(jax.tree.leaves(params)), float)
        return jax.lax.fori_loop(ends[0], ends[1], step, (state, none))

    ends = jnp.stack([bounds[:-1], bounds[1:]], 1)
    return jax.lax.scan(segment, optimizer.init(params), ends)[1].T


def _by_segment(moves: np.ndarray) -> np.ndarray:
    """Weighted sums of the moves of single steps over each segment."""
    total = np.append(0.0, np.cumsum(moves * _weight(np.arange(len(moves)))))
    return np.diff(total[_bounds(len(moves))])


def _bounds(steps: int) -> np.ndarray:
    return np.linspace(0, steps, SEGMENTS + 1).astype(np.int32)


def _weight(number: Any) -> Any:
    """The weight of a step in the sum over its segment. It varies, so that the order of the steps counts."""
    return 1 + (jnp if isinstance(number, jax.Array) else np).cos(0.7 * number) / 2


def _pattern(like: Array) -> Array:
    """Nonzero numbers between -1 and 1, in the shape and type of an array."""
    return (jnp.cos(1.7 * jnp.arange(like.size) + 0.3).reshape(like.shape)).astype(like.dtype)
