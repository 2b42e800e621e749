"""One training run as an iterator of (step, params)."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import optax
from jax.typing import ArrayLike
from jaxtyping import PRNGKeyArray

from ntkbias import losses
from ntkbias.checks import require_key, require_positive
from ntkbias.errors import InputError, InputTypeError
from ntkbias.progress import progress
from ntkbias.training.inputs import Forward, packed_data
from ntkbias.training.steps import Steps, checked_steps
from ntkbias.training.trainer import Trainer
from ntkbias.types import ApplyFunction, Inputs, Params

__all__ = ["steps_until", "train", "trained"]


def train(
    f: ApplyFunction,
    params: Params,
    data: tuple[Inputs, ArrayLike],
    *,
    optimizer: optax.GradientTransformation,
    num_steps: int,
    loss: str | losses.LossFunction = "mse",
    batch_size: int | None = None,
    at: Steps | None = None,
    state: Any = None,
    forward: Forward | None = None,
    key: PRNGKeyArray | None = None,
) -> Iterator[tuple[int, Params]]:
    """Train `f(params, x)` on `data`, and yield (step, params) at the steps `at` (default: `log_steps(num_steps)`).

    Step 0 and the last step, `num_steps`, are always included. If training diverges, the iterator ends at that step.
    Log what you like in the body of your loop over it; `track` measures kernels, and has `callbacks` for loggers.

    `data` is a pair (x, y): inputs `(n, ...)` and targets that `loss` accepts. Each step uses all of the data, or, with
    `batch_size`, that many examples. Each epoch has a new permutation of the examples, drawn with `key` (default: a
    fixed key); the examples left over at its end are not used in that epoch. The training loss is the mean over the
    batch.

    `state` is a pytree that the network carries beside its parameters, such as running statistics. With a state, pass
    the network twice. `forward(params, state, x, key) -> (outputs, state)` is the network in training mode, and gets a
    new key at each step for dropout. `f((params, state), x)` is the network in inference mode: it takes the pair that
    the iterator yields. For dropout without a state, pass `forward` alone.

    On one device, the same call gives the same numbers bit for bit. The data stay on the device. One call of the
    compiled loop takes about half a second, so Ctrl-C works soon.

    Raises `InputError` or `InputTypeError` before the first step if targets, params, `forward` or the optimizer do not
    fit, or if `at` does not ascend.

    >>> import jax, optax, ntkbias as nb
    >>> circle = nb.domains.Circle()
    >>> x, weights = circle.quadrature(16)
    >>> net = nb.nets.mlp(width=16, depth=1, b_std=0.1)
    >>> params, settings = net.init(jax.random.key(0), (2,)), {"optimizer": optax.sgd(0.1), "num_steps": 4}
    >>> run = nb.train(net.apply, params, (x, x[:, 0]), **settings)
    >>> [step for step, params in run]
    [0, 1, 2, 3, 4]
    """
    f, forward, data = packed_data(f, forward, data)
    trainer, (x, y) = Trainer.checked(f, params, data, optimizer, loss, batch_size, state, forward)
    steps = checked_steps(at, num_steps)
    key = jax.random.key(0) if key is None else require_key(key)
    start = trainer.start(params, state)
    trainer = trainer.suited(start, x, y, key=key)

    def iterates() -> Iterator[tuple[int, Params]]:
        reached = start
        with progress(None, "training steps", total=num_steps) as bar:
            for step in steps:
                reached = trainer.advance(reached, step, x, y, key=key, bar=bar)
                yield int(reached.step), reached.variables
                if reached.has_diverged:
                    return

    return iterates()


def trained(
    f: ApplyFunction,
    params: Params,
    data: tuple[Inputs, ArrayLike],
    *,
    optimizer: optax.GradientTransformation,
    num_steps: int,
    loss: str | losses.LossFunction = "mse",
    batch_size: int | None = None,
    until: Callable[[Params], bool] | None = None,
    every: int = 100,
    state: Any = None,
    forward: Forward | None = None,
    key: PRNGKeyArray | None = None,
) -> Params:
    """The parameters after `num_steps` steps of `train`; with a `state`, the pair (params, state).

    With `until`, training stops early: at the first multiple of `every` steps at which until(params) is true.

    >>> import jax.numpy as jnp, optax, ntkbias as nb
    >>> data = jnp.eye(2), jnp.array([1.0, 2.0])
    >>> f, settings = lambda w, x: x @ w, {"optimizer": optax.sgd(1.0), "num_steps": 20}
    >>> trained(f, jnp.zeros(2), data, **settings).round(3).tolist()
    [1.0, 2.0]
    >>> trained(f, jnp.zeros(2), data, until=lambda w: w[1] > 1.5, every=2, **settings).round(3).tolist()
    [0.938, 1.875]

    Raises what `train` raises, and `InputError` if training diverges.
    """
    options: dict[str, Any] = {"optimizer": optimizer, "loss": loss, "batch_size": batch_size, "key": key}
    return _last(f, params, data, num_steps, until, every, {**options, "state": state, "forward": forward})[1]


def steps_until(
    f: ApplyFunction,
    params: Params,
    data: tuple[Inputs, ArrayLike],
    until: Callable[[Params], bool],
    *,
    optimizer: optax.GradientTransformation,
    num_steps: int,
    loss: str | losses.LossFunction = "mse",
    batch_size: int | None = None,
    every: int = 1,
    state: Any = None,
    forward: Forward | None = None,
    key: PRNGKeyArray | None = None,
) -> int | None:
    """The first multiple of `every` steps of `train` at which until(params) is true; None if `num_steps` do not do.

    With a `state`, `until` gets the pair (params, state).

    >>> import jax.numpy as jnp, optax, ntkbias as nb
    >>> data = jnp.eye(2), jnp.array([1.0, 2.0])
    >>> def close(w):
    ...     return abs(w - data[1]).max() < 0.1
    >>> nb.training.steps_until(lambda w, x: x @ w, jnp.zeros(2), data, close, optimizer=optax.sgd(1.0), num_steps=20)
    5

    Raises what `train` raises, and `InputError` if training diverges.
    """
    options: dict[str, Any] = {"optimizer": optimizer, "loss": loss, "batch_size": batch_size, "key": key}
    step, end = _last(f, params, data, num_steps, until, every, {**options, "state": state, "forward": forward})
    return step if step < num_steps or bool(until(end)) else None


def _last(
    f: ApplyFunction,
    params: Params,
    data: tuple[Inputs, ArrayLike],
    num_steps: int,
    until: Callable[[Params], bool] | None,
    every: int,
    options: dict[str, Any],
) -> tuple[int, Params]:
    """The step at which training ends, and the parameters there."""
    if until is not None and not callable(until):
        raise InputTypeError(
            f"Expected until to be a function of the parameters that returns a bool; got {type(until).__name__}."
        )
    require_positive("every", every)
    require_positive("num_steps", num_steps)
    at = [0, num_steps] if until is None else sorted({*range(0, num_steps, every), num_steps})
    step, end = 0, params
    for step, end in train(f, params, data, num_steps=num_steps, at=at, **options):
        if step == num_steps or (step in at and until is not None and bool(until(end))):
            return step, end
    raise InputError(
        f"Expected training to reach step {num_steps:,}; it diverged at step {step:,}. Choose a smaller learning rate."
    )
