"""Training: a small loop over an optax optimiser that stops at given steps, compiled once.

One update is theta_{t+1} = theta_t + u_t, with u_t what the optimiser makes of the gradient of the loss over the batch.
`train` yields (step, params). Its steps run inside one compiled loop, whatever their number; convolutions on a CPU,
whose gradients are some 20 times slower within a compiled loop, run one compiled step at a time.

`time` is how far gradients that stay at one would have moved a parameter: step * learning rate for gradient descent,
the sum of the rates along a schedule, and step * rate / (1 - b), less a short beginning, with momentum b. Optimisers
whose step does not grow with the gradient, as Adam's, have no such time.

>>> import jax, jax.numpy as jnp, optax
>>> from ntkbias.training import log_steps, train
>>> f = lambda params, x: x @ params
>>> x = jnp.eye(2)
>>> data = (x, jnp.array([1.0, 2.0]))
>>> steps = dict(train(f, jnp.zeros(2), data, optimizer=optax.sgd(1.0), num_steps=20, at=log_steps(20, 4)))
>>> {step: [round(float(p), 3) for p in params] for step, params in steps.items()}
{0: [0.0, 0.0], 1: [0.5, 1.0], 4: [0.938, 1.875], 20: [1.0, 2.0]}
"""

import dataclasses
import time as clock
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ntkbias import losses
from ntkbias.checks import require_array, require_finite, require_key, require_positive
from ntkbias.compilation import compiled
from ntkbias.errors import InputError, InputTypeError
from ntkbias.kernels.empirical import Function
from ntkbias.progress import progress
from ntkbias.types import ApplyFunction, Params

__all__ = [
    "Trainer",
    "TrainingState",
    "checked_data",
    "checked_steps",
    "effective_learning_rates",
    "log_steps",
    "output_shape",
    "shapes",
    "train",
    "trial_moves",
]

Steps = Iterable[int] | np.ndarray
Forward = Callable[[Params, Any, Array, PRNGKeyArray], tuple[Array, Any]]  # (params, state, x, key) -> outputs, state

FIRST_CALL = 16  # steps
CALL_SECONDS = 0.5  # of steps within one call, so that Ctrl-C and NaN are noticed
PROBED = 1e-5  # the relative difference above which an optimiser's step does not grow with the gradient


def log_steps(num_steps: int, num_snapshots: int = 30) -> tuple[int, ...]:
    """At most `num_snapshots` steps from 0 to `num_steps`, 0 and then equally spaced on a logarithmic axis.

    Fewer where rounding to whole numbers makes some of them equal.
    """
    require_positive("num_steps", num_steps)
    require_positive("num_snapshots", num_snapshots)
    if num_snapshots == 1:
        return (num_steps,)
    spaced = np.geomspace(num_steps, 1, num_snapshots - 1)  # from the last, which is kept where there is but one
    return (0, *np.unique(np.rint(spaced).astype(int)).tolist())


def train(
    f: ApplyFunction,
    params: Params,
    data: tuple[ArrayLike, ArrayLike],
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

    Raises `InputError`, before it trains, on targets, params or a forward that do not fit, an optimiser that is not
    one, and steps that are not in ascending order. Where training diverges, it ends at that step.
    """
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


class TrainingState(NamedTuple):
    """All that the next step depends on, beside data and keys; of several runs each leaf has them as its first axis."""

    step: Int[Array, ""]
    params: Params
    state: Any  # what the network carries beside its parameters
    optimizer_state: Any
    run: Array | None  # the number of this run of several
    learning_rate: Array | None  # where each run has its own
    path_length: Float[Array, ""]  # sum of ||step|| since `advance` was called
    loss: Float[Array, ""]  # of the last batch, before its step
    diverged_at: Int[Array, ""]  # the first step whose loss or update was not finite, or -1

    @property
    def variables(self) -> Params:
        """What `f` takes: the parameters, paired with the state where there is one."""
        return self.params if self.state is None else (self.params, self.state)

    @property
    def has_diverged(self) -> bool:
        """Whether the loss or an update was not finite, in all runs."""
        return bool(np.all(np.asarray(self.diverged_at) >= 0))


class Trainer(eqx.Module):
    """How a step is made; equal trainers share one compiled program. `Trainer.checked` makes one from what users give.

    With `many` the states carry several runs, which advance together. `scanned` says that steps run in one compiled
    loop; `suited` finds out whether that is the faster way.
    """

    f: ApplyFunction = eqx.field(static=True)
    forward: Forward | None = eqx.field(static=True)
    loss: losses.LossFunction = eqx.field(static=True)
    optimizer: Any = eqx.field(static=True)  # or a function of the learning rate, where each run has its own
    batch_size: int | None = eqx.field(static=True)
    many: bool = eqx.field(static=True, default=False)
    scanned: bool = eqx.field(static=True, default=True)

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
        """The trainer of one run, and its data as arrays; an `InputError` where they do not go together."""
        if not callable(f):
            raise InputTypeError(f"Expected f to be a function f(params, x), e.g. net.apply; got {type(f).__name__}.")
        if not isinstance(optimizer, optax.GradientTransformation):
            raise InputTypeError(
                f"Expected an optimiser of optax, as optax.sgd(0.1); got {type(optimizer).__name__}. "
                "A loop of your own goes to track as an iterator of (step, params)."
            )
        if state is not None and forward is None:
            raise InputError(
                "Expected forward= beside state=, the network in training mode: forward(params, state, x, key) -> "
                "(outputs, state); got none."
            )
        function = losses.named(loss)
        x, y = checked_data(data)
        try:
            hash(f)
        except TypeError:  # a method of a value that holds arrays: identity tells it apart
            f = Function(f)
        outputs = output_shape(f, params if state is None else (params, state), x)
        if forward is not None:
            _require_forward(forward, params, state, x, outputs)
        y = losses.checked_targets(function, outputs, y)
        if batch_size is not None:
            require_positive("batch_size", batch_size)
            if batch_size > len(x):
                raise InputError(f"Expected batch_size to be at most the number of inputs, {len(x)}; got {batch_size}.")
        return cls(f, forward, function, optimizer, batch_size), (x, y)

    def start(
        self, params: Params, state: Any = None, runs: Array | None = None, learning_rates: Array | None = None
    ) -> TrainingState:
        """The state before the first step; with `many`, of parameters `(runs, ...)`, these runs and their rates."""
        params, state = jax.tree.map(jnp.asarray, (params, state))

        def one(params: Params, state: Any, run: Array | None, learning_rate: Array | None) -> TrainingState:
            step, zero = jnp.zeros((), jnp.int32), jnp.zeros(())
            optimizer_state = self._optimizer(learning_rate).init(params)
            return TrainingState(step, params, state, optimizer_state, run, learning_rate, zero, zero, step - 1)

        start = jax.vmap(one) if self.many else one
        return start(params, state, runs, learning_rates)

    def suited(self, state: TrainingState, x: Array, y: Array, *, key: PRNGKeyArray) -> "Trainer":
        """This trainer, with its steps in a compiled loop unless they hold convolutions and run on a CPU."""
        if jax.default_backend() != "cpu":
            return self
        order = None if self.batch_size is None else _orders(state.run, key, jnp.asarray(0), len(x))
        program = str(jax.make_jaxpr(self.step)(state, x, y, order, key))
        return dataclasses.replace(self, scanned="conv_general_dilated" not in program)

    def advance(
        self, state: TrainingState, to: int, x: Array, y: Array, *, key: PRNGKeyArray, bar: Any = None
    ) -> TrainingState:
        """The state at step `to`, or where all runs have diverged before; `bar` shows the steps."""
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
        """`count` steps on, within one epoch."""
        order = None
        if self.batch_size is not None:
            epoch = step // (len(x) // self.batch_size)
            order = _orders(state.run, key, jnp.asarray(epoch), len(x))
        if self.scanned:
            return _loop(self, state, x, y, order, key, jnp.asarray(count))
        for _ in range(count):
            state = _one_step(self, state, x, y, order, key)
        return state

    def _until_epoch(self, step: int, n: int) -> int:
        if self.batch_size is None:
            return 2**30
        steps_an_epoch = n // self.batch_size
        return steps_an_epoch - step % steps_an_epoch

    def step(self, state: TrainingState, x: Array, y: Array, order: Array | None, key: PRNGKeyArray) -> TrainingState:
        """One update of all runs."""
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
        optimizer = self._optimizer(state.learning_rate)
        updates, optimizer_state = optimizer.update(gradient, state.optimizer_state, state.params)
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

    def _optimizer(self, learning_rate: Array | None) -> optax.GradientTransformation:
        return self.optimizer if learning_rate is None else self.optimizer(learning_rate)


@partial(jax.jit, static_argnums=0)
def _loop(
    trainer: Trainer, state: TrainingState, x: Array, y: Array, order: Array | None, key: PRNGKeyArray, count: Array
) -> TrainingState:
    return jax.lax.fori_loop(0, count, lambda _, state: trainer.step(state, x, y, order, key), state)


@compiled
def _one_step(
    trainer: Trainer, state: TrainingState, x: Array, y: Array, order: Array | None, key: PRNGKeyArray
) -> TrainingState:
    return trainer.step(state, x, y, order, key)


@partial(jax.jit, static_argnums=3)
def _orders(runs: Array | None, key: PRNGKeyArray, epoch: Array, n: int) -> Array:
    """The order of the examples in an epoch, of each run."""

    def order(run: Array | None) -> Array:
        own = jax.random.fold_in(jax.random.fold_in(_run_key(key, run), 1), epoch)
        return jax.random.permutation(own, n)

    return order(runs) if runs is None else jax.vmap(order)(runs)


def _run_key(key: PRNGKeyArray, run: Array | None) -> PRNGKeyArray:
    """The key of a run: alone, it is given this one."""
    return key if run is None else jax.random.fold_in(key, run)


def checked_data(data: Any, name: str = "the data") -> tuple[Array, Array]:
    """The inputs and targets of a pair (x, y), or an `InputError`."""
    if not isinstance(data, tuple | list) or len(data) != 2:
        got = f"{len(data)} values" if isinstance(data, tuple | list) else type(data).__name__
        raise InputTypeError(f"Expected {name} to be a pair (x, y) of inputs and targets; got {got}.")
    x, y = require_array(data[0], f"x of {name}"), require_array(data[1], f"y of {name}")
    if x.ndim < 2 or not x.size:
        raise InputError(f"Expected inputs (n, ...) in {name}, with two axes or more; got shape {x.shape}.")
    require_finite(x, f"x of {name}")
    require_finite(y, f"y of {name}")
    if y.shape[:1] != x.shape[:1]:
        raise InputError(
            f"Expected as many targets as inputs in {name}; got {y.shape[0] if y.ndim else 0} targets for {len(x)} "
            "inputs."
        )
    return x, y


def output_shape(f: ApplyFunction, variables: Params, x: Array) -> jax.ShapeDtypeStruct:
    """Shape and type of f(variables, x), or an `InputError` where f does not take them, or gives no row an input."""
    if not jax.tree.leaves(variables):
        raise InputError("Expected params to hold at least one array; got an empty pytree.")
    wrong = [leaf for leaf in jax.tree.leaves(variables) if not isinstance(leaf, int | float) and not _is_array(leaf)]
    if wrong:
        raise InputTypeError(
            f"Expected params to be a pytree of arrays, as of net.init; got {type(wrong[0]).__name__}."
        )
    try:
        outputs = jax.eval_shape(f, variables, x)
    except (InputError, InputTypeError):
        raise
    except Exception as error:  # f is the user's function, and may raise anything
        raise InputError(
            f"Expected f to take these params and inputs of shape {x.shape}; it raised {_in_brief(error)}. "
            "Compare them with those of net.init."
        ) from error
    if getattr(outputs, "shape", ())[:1] != (len(x),):
        raise InputError(f"Expected f(params, x) to return one array with {len(x)} rows for {len(x)} inputs.")
    return outputs


def _require_forward(forward: Forward, params: Params, state: Any, x: Array, outputs: jax.ShapeDtypeStruct) -> None:
    """Raise an `InputError` unless forward gives outputs like those of f, and a state like the one it took."""
    state = jax.tree.map(jnp.asarray, state)
    found = jax.eval_shape(forward, params, state, x, jax.random.key(0))
    if not isinstance(found, tuple | list) or len(found) != 2:
        raise InputError(f"Expected forward to return the pair (outputs, state); got {shapes(found)}.")
    if getattr(found[0], "shape", None) != outputs.shape:
        raise InputError(
            f"Expected forward to return outputs of the shape of f's, {outputs.shape}; got {shapes(found[0])}."
        )
    if shapes(found[1]) != shapes(state):
        raise InputError(
            f"Expected forward to return a state like the one it took, {shapes(state)}; got {shapes(found[1])}."
        )


def shapes(tree: Any) -> str:
    """The structure of a pytree with types and shapes in place of arrays, as a text."""
    arrays = jax.tree.map(lambda leaf: jnp.asarray(leaf) if isinstance(leaf, int | float) else leaf, tree)
    return eqx.tree_pformat(eqx.filter_eval_shape(lambda: arrays), struct_as_array=True, width=10**6)


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray | np.generic)


def _in_brief(error: Exception) -> str:
    """The type of an error, and the first line of what it says."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0].rstrip('.')}"


def checked_steps(at: Steps | None, num_steps: int) -> tuple[int, ...]:
    """The steps to stop at, with 0 and `num_steps` among them; an `InputError` unless they ascend between those."""
    require_positive("num_steps", num_steps)
    if at is None:
        return log_steps(num_steps)
    try:
        given = list(at)
        steps = [int(step) for step in given]
        whole = all(step == one for step, one in zip(steps, given, strict=True))
    except (TypeError, ValueError):
        whole = False
    if not whole or not steps:
        raise InputTypeError(f"Expected at= to be whole numbers of steps, as (0, 10, 100); got {at!r}.")
    if any(later <= earlier for earlier, later in pairwise(steps)):
        raise InputError(f"Expected at= in ascending order, each step once; got {steps}. Use sorted(set(at)).")
    if steps[0] < 0 or steps[-1] > num_steps:
        raise InputError(f"Expected at= between 0 and num_steps, {num_steps}; got {steps[0]} to {steps[-1]}.")
    return tuple(sorted({0, *steps, num_steps}))


def effective_learning_rates(optimizer: Any, num_steps: int) -> Float[np.ndarray, " steps"] | None:
    """How far each step moves a parameter whose gradient is one; None where steps do not grow with the gradient.

    For gradient descent the learning rate, or its schedule; with momentum b it tends to rate / (1 - b). Found by
    running the optimiser on one parameter, twice: with gradients of one, and of two.
    """
    require_positive("num_steps", num_steps)
    once, twice = (trial_moves(optimizer, num_steps, gradient) for gradient in (1.0, 2.0))
    if once is None or twice is None or not np.isfinite(once).all():
        return None
    proportional = np.abs(twice - 2 * once) <= PROBED * np.max(np.abs(once))
    return once if proportional.all() and np.any(once != 0) else None


def trial_moves(optimizer: Any, num_steps: int, gradient: float = 0.5) -> Float[np.ndarray, " steps"] | None:
    """How far each step moves one parameter from zero, down a gradient that stays; None for optimisers of many."""
    try:
        found = np.asarray(_moves(optimizer, num_steps, jnp.asarray(gradient)), np.float64)
    except Exception:  # one of named parameters, or of matrices, cannot be tried on a number
        return None
    return found if found.shape == (num_steps,) else None


@partial(jax.jit, static_argnums=(0, 1))
def _moves(optimizer: Any, num_steps: int, gradient: Array) -> Array:
    zero = jnp.zeros(())

    def step(state: Any, _: None) -> tuple[Any, Array]:
        update, state = optimizer.update(gradient, state, zero)
        return state, -update

    return jax.lax.scan(step, optimizer.init(zero), None, length=num_steps)[1]
