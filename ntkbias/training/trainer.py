"""The trainer: it defines one step, and decides how many steps one compiled call takes."""

import dataclasses
import time as clock
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ntkbias import losses
from ntkbias.checks import require_known, require_positive
from ntkbias.compilation import compiled
from ntkbias.errors import InputError, InputTypeError
from ntkbias.training.inputs import Forward, checked_data, output_shape, require_forward
from ntkbias.types import ApplyFunction, Params

__all__ = ["Trainer", "TrainingState"]

FIRST_CALL = 16  # steps
CALL_SECONDS = 0.5  # the length of one call, so that Ctrl-C and NaN are noticed soon


class TrainingState(NamedTuple):
    """Everything that the next step depends on, except data and keys. Several runs add a first axis to each leaf."""

    step: Int[Array, ""]
    params: Params
    state: Any  # the network's state beside its parameters, or None
    optimizer_state: Any
    run: Array | None  # the number of this run, if there are several
    learning_rate: Array | None  # of this run, if each run has its own
    path_length: Float[Array, ""]  # sum of ||step|| since `advance` was called
    loss: Float[Array, ""]  # of the last batch, before its step
    diverged_at: Int[Array, ""]  # the first step whose loss or update was not finite, or -1

    @property
    def variables(self) -> Params:
        """The first argument of `f`: the parameters, or the pair (parameters, state) if there is a state."""
        return self.params if self.state is None else (self.params, self.state)

    @property
    def has_diverged(self) -> bool:
        """Whether every run has had a loss or an update that was not finite."""
        return bool(np.all(np.asarray(self.diverged_at) >= 0))


@dataclasses.dataclass(frozen=True, eq=False)
class Trainer:
    """The definition of one step. Trainers with equal parts share one compiled program.

    `Trainer.checked` makes a trainer from a user's arguments. With `many`, a state holds several runs that advance
    together. With `scanned`, the steps run in one compiled loop; `suited` decides whether that is faster.
    """

    f: ApplyFunction
    forward: Forward | None
    loss: losses.LossFunction
    optimizer: Any  # or a function learning rate -> optimizer, if each run has its own learning rate
    batch_size: int | None
    many: bool = False
    scanned: bool = True

    @classmethod
    def checked(
        cls,
        f: ApplyFunction,
        params: Params,
        data: Any,
        optimizer: Any,
        loss: str | losses.LossFunction,
        batch_size: int | None = None,
        state: Any = None,
        forward: Forward | None = None,
    ) -> tuple["Trainer", tuple[Array, Array]]:
        """The trainer of one run, and its data (x, y) as arrays. Raises `InputError` if the arguments do not fit."""
        require_known((params, state, data), "training", "it compiles its own steps")
        if not callable(f):
            raise InputTypeError(f"Expected f to be a function f(params, x), e.g. net.apply; got {type(f).__name__}.")
        if not isinstance(optimizer, optax.GradientTransformation):
            raise InputTypeError(
                f"Expected an optax optimizer, such as optax.sgd(0.1); got {type(optimizer).__name__}. "
                "From a class such as optax.MultiSteps, pass optax.MultiSteps(...).gradient_transformation(). To use a "
                "training loop of your own, give track_snapshots an iterator of (step, params)."
            )
        if state is not None and forward is None:
            raise InputError(
                "Expected forward= beside state=, the network in training mode: forward(params, state, x, key) -> "
                "(outputs, state); got none."
            )
        function = losses.named(loss)
        x, y = checked_data(data)
        outputs = output_shape(f, params if state is None else (params, state), x)
        if forward is not None:
            require_forward(forward, params, state, x, outputs)
        y = losses.checked_targets(function, outputs, y)
        if batch_size is not None:
            require_positive("batch_size", batch_size)
            if batch_size > len(x):
                raise InputError(f"Expected batch_size to be at most the number of inputs, {len(x)}; got {batch_size}.")
        return cls(f, forward, function, optimizer, batch_size), (x, y)

    def start(
        self, params: Params, state: Any = None, runs: Array | None = None, learning_rates: Array | None = None
    ) -> TrainingState:
        """The state before the first step. With `many`, params have a first axis (runs,), like `runs` and the rates."""
        params, state = jax.tree.map(jnp.asarray, (params, state))

        def one(params: Params, state: Any, run: Array | None, learning_rate: Array | None) -> TrainingState:
            step, zero = jnp.zeros((), jnp.int32), jnp.zeros(())
            optimizer_state = self.optimizer_of(learning_rate).init(params)
            return TrainingState(step, params, state, optimizer_state, run, learning_rate, zero, zero, step - 1)

        start = jax.vmap(one) if self.many else one
        return start(params, state, runs, learning_rates)

    def suited(self, state: TrainingState, x: Array, y: Array, *, key: PRNGKeyArray) -> "Trainer":
        """This trainer, with `scanned` off if its steps contain convolutions and run on a CPU."""
        if jax.default_backend() != "cpu":
            return self
        order = None if self.batch_size is None else _orders(state.run, key, jnp.asarray(0), len(x))
        program = str(jax.make_jaxpr(self.step)(state, x, y, order, key))
        return dataclasses.replace(self, scanned="conv_general_dilated" not in program)

    def advance(
        self, state: TrainingState, to: int, x: Array, y: Array, *, key: PRNGKeyArray, bar: Any = None
    ) -> TrainingState:
        """The state at step `to`, or earlier if all runs have diverged by then. `bar` counts the steps."""
        step, chunk = int(np.max(np.asarray(state.step))), FIRST_CALL
        if to > step:
            state = state._replace(path_length=jnp.zeros_like(state.path_length))
        while step < to and not state.has_diverged:
            count = min(chunk, to - step, self._until_epoch(step, len(x)))
            began = clock.monotonic()
            state = jax.block_until_ready(self._advanced(state, step, count, x, y, key))
            seconds = max(clock.monotonic() - began, 1e-6)
            chunk = max(1, min(4 * count, int(count * CALL_SECONDS / seconds)))
            step += count
            if bar is not None:
                bar.update(count)
                bar.set_postfix_str(f"loss {float(np.mean(np.asarray(state.loss))):.3g}", refresh=False)
        return state

    def _advanced(
        self, state: TrainingState, step: int, count: int, x: Array, y: Array, key: PRNGKeyArray
    ) -> TrainingState:
        """The state after `count` more steps, all within one epoch."""
        order = None
        if self.batch_size is not None:
            epoch = step // (len(x) // self.batch_size)
            order = _orders(state.run, key, jnp.asarray(epoch), len(x))
        if self.scanned:
            return _loop(self._parts(), state, x, y, order, key, jnp.asarray(count))
        for _ in range(count):
            state = _one_step(self._parts(), state, x, y, order, key)
        return state

    def _until_epoch(self, step: int, n: int) -> int:
        if self.batch_size is None:
            return 2**30
        steps_per_epoch = n // self.batch_size
        return steps_per_epoch - step % steps_per_epoch

    def step(self, state: TrainingState, x: Array, y: Array, order: Array | None, key: PRNGKeyArray) -> TrainingState:
        """The state after one step of all runs."""
        if not self.many:
            return self._step(state, x, y, order, key)
        return jax.vmap(self._step, in_axes=(0, None, None, None if order is None else 0, None))(
            state, x, y, order, key
        )

    def _step(self, state: TrainingState, x: Array, y: Array, order: Array | None, key: PRNGKeyArray) -> TrainingState:
        if order is not None:
            assert self.batch_size is not None
            place = state.step % (len(x) // self.batch_size) * self.batch_size
            chosen = jax.lax.dynamic_slice_in_dim(order, place, self.batch_size)
            x, y = x[chosen], y[chosen]

        def objective(params: Params) -> tuple[Array, Any]:
            if self.forward is None:
                return self.loss(self.f(params, x), y), None
            own = jax.random.fold_in(jax.random.fold_in(_run_key(key, state.run), 0), state.step)
            outputs, carried = self.forward(params, state.state, x, own)
            return self.loss(outputs, y), carried

        (value, carried), gradient = jax.value_and_grad(objective, has_aux=True)(state.params)
        # Some optimizers need the loss too: L-BFGS, or a schedule that waits for a plateau.
        optimizer = optax.with_extra_args_support(self.optimizer_of(state.learning_rate))
        extra = {"value": value, "grad": gradient, "value_fn": lambda params: objective(params)[0]}
        updates, optimizer_state = optimizer.update(gradient, state.optimizer_state, state.params, **extra)
        length = optax.tree.norm(updates)
        bad = ~(jnp.isfinite(value) & jnp.isfinite(length))
        return TrainingState(
            state.step + 1,
            optax.apply_updates(state.params, updates),
            state.state if self.forward is None else carried,
            optimizer_state,
            state.run,
            state.learning_rate,
            (state.path_length + length).astype(state.path_length.dtype),
            value.astype(state.loss.dtype),
            jnp.where(bad & (state.diverged_at < 0), state.step, state.diverged_at),
        )

    def _parts(self) -> tuple:
        """The trainer as arguments of a compiled function: a program must not keep a user's objects alive."""
        return self.f, self.forward, self.loss, self.optimizer, self.batch_size, self.many

    def optimizer_of(self, learning_rate: Array | None) -> optax.GradientTransformation:
        """The optimizer, built with `learning_rate` if each run has its own."""
        return self.optimizer if learning_rate is None else self.optimizer(learning_rate)


@compiled
def _loop(
    parts: tuple, state: TrainingState, x: Array, y: Array, order: Array | None, key: PRNGKeyArray, count: Array
) -> TrainingState:
    trainer = Trainer(*parts)
    return jax.lax.fori_loop(0, count, lambda _, state: trainer.step(state, x, y, order, key), state)


@compiled
def _one_step(
    parts: tuple, state: TrainingState, x: Array, y: Array, order: Array | None, key: PRNGKeyArray
) -> TrainingState:
    return Trainer(*parts).step(state, x, y, order, key)


@partial(jax.jit, static_argnums=3)
def _orders(runs: Array | None, key: PRNGKeyArray, epoch: Array, n: int) -> Array:
    """The order of the examples in an epoch, `(n,)`; for several runs, `(runs, n)`."""

    def order(run: Array | None) -> Array:
        own = jax.random.fold_in(jax.random.fold_in(_run_key(key, run), 1), epoch)
        return jax.random.permutation(own, n)

    return order(runs) if runs is None else jax.vmap(order)(runs)


def _run_key(key: PRNGKeyArray, run: Array | None) -> PRNGKeyArray:
    """The key of a run: a single run uses `key` itself."""
    return key if run is None else jax.random.fold_in(key, run)
