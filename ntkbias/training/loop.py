"""The loop over a run of training, as an iterator."""

from collections.abc import Iterator
from typing import Any

import jax
import optax
from jax.typing import ArrayLike
from jaxtyping import PRNGKeyArray

from ntkbias import losses
from ntkbias.checks import require_key
from ntkbias.progress import progress
from ntkbias.training.inputs import Forward, packed_data
from ntkbias.training.steps import Steps, checked_steps
from ntkbias.training.trainer import Trainer
from ntkbias.types import ApplyFunction, Inputs, Params

__all__ = ["train"]


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

    Step 0 and the last step, `num_steps`, are always among them.

    `data` is (x, y), inputs `(n, ...)` and what `loss` takes as targets. Batches are all of the data, or with
    `batch_size` that many examples from a new permutation each epoch, drawn by `key`; what is left over at the end of
    an epoch waits for the next. The training loss is the mean over the batch.

    What a network carries beside its parameters travels as `state`, a pytree: running statistics, say. Then `forward`
    is the network in training mode, forward(params, state, x, key) -> (outputs, state), with a new key each step for
    dropout; `f` is the network in inference mode, and takes the pair, f((params, state), x), as the loop yields it.
    `forward` alone, without a state, serves dropout.

    The same call gives the same numbers bit for bit on one device. The data stay on the device, and one call of a
    compiled loop takes about half a second, so that Ctrl-C ends it soon.

    Raises `InputError`, before it trains, on targets, params or a forward that do not fit, an optimizer that is not
    one, and steps that are not in ascending order. Where training diverges, it ends at that step.
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
