"""Training as a kernel predicts it: gradient flow, gradient descent and momentum, mode by mode, in closed form.

A network with a constant kernel K (infinitely wide, or linearized) follows df/dt = -K P (f - y) under the loss
1/2 (f - y)^T P (f - y). The default is P = I / n. Training multiplies the error's coefficient in a mode of eigenvalue r
by

    gradient flow         exp(-r t)                                 at time t
    gradient descent      (1 - h r)^s                               after s steps of learning rate h; t = h s
    momentum b            p_s, from rest (p_0 = p_-1 = 1)           the heavy ball; t = h s / (1 - b)
                          p_{s+1} = p_s + b (p_s - p_{s-1}) - h r p_s

Outputs at other points follow from the same coefficients (Jacot, Gabriel and Hongler 2018, arXiv 1806.07572; Lee et al.
2019, arXiv 1902.06720). Momentum is Polyak's, as in `optax.sgd(h, momentum=b)`.

>>> import jax.numpy as jnp, ntkbias as nb
>>> from ntkbias.learning import gradient_descent, gradient_flow
>>> x, _ = nb.domains.Circle().quadrature(32)
>>> kernel, y = nb.infinite_ntk(nb.nets.mlp(depth=2, b_std=0.1)), jnp.sign(x[:, 0] + 0.1)
>>> flow = gradient_flow(kernel, x, y, [0.0, 10.0, 1_000.0], x_test=-x)
>>> flow.outputs.shape, flow.test_outputs.shape, bool(flow.loss[2] < flow.loss[1] < flow.loss[0])
((3, 32), (3, 32), True)
>>> descent = gradient_descent(kernel, x, y, [0, 100, 10_000], 0.1)
>>> bool(jnp.allclose(descent.outputs, flow.outputs, atol=0.02))
True
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from ntkbias import losses
from ntkbias.checks import require_known, require_whole_numbers, require_wide
from ntkbias.errors import InputError
from ntkbias.kernels.on_inputs import on_inputs
from ntkbias.learning.decays import decay_of_flow, decay_of_steps
from ntkbias.learning.modes import Modes, modes_of, values_on
from ntkbias.learning.under_loss import LossTrajectory, descent_under, flow_under
from ntkbias.mistaken import require_no_labels
from ntkbias.tables import Axes, Printed, Table, counted, number, spaced
from ntkbias.types import Inputs

__all__ = ["Trajectory", "checked_step", "gradient_descent", "gradient_flow"]

SCALE = "Divide targets and initial outputs by their scale."
HALF = 0.5  # a mode that keeps more than this share of its error counts as not yet learned


class Trajectory(Printed):
    """A network's outputs at given times of training, and the error in each mode.

    `times` are steps * learning rate; momentum b divides them by 1 - b. `decay` is the factor that multiplies each
    mode's initial error. Modes below the kernel's noise floor never move and are left out. It prints as a table of the
    loss, the share of the error's power that is left in the modes, and the number of modes that keep more than half of
    their error.

    >>> import ntkbias as nb
    >>> circle = nb.domains.Circle()
    >>> x, weights = circle.quadrature(16)
    >>> spectrum = nb.spectrum(nb.infinite_ntk(nb.nets.mlp(depth=1, b_std=0.1)), x)
    >>> flow = nb.gradient_flow(spectrum, x[:, 0], times=[0.0, 10.0])
    >>> flow.outputs.shape, flow.loss.shape
    ((2, 16), (2,))
    """

    named_axes = Axes(
        "time",
        index={"time": "times"},
        also=["error_left", "modes_left"],
        t="time",
        n="example",
        m="test_example",
        k="mode",
        c="target",
    )

    times: Float[Array, " t"]
    outputs: Float[Array, "t n *o"]
    test_outputs: Float[Array, "t m *o"] | None
    loss: Float[Array, " t"]  # 1/2 (f - y)^T P (f - y), summed over columns of targets
    rates: Float[Array, " k"]  # eigenvalues of K P; without P, of K / n
    decay: Float[Array, "t k"]
    initial_errors: Float[Array, "k *c"]  # the coefficient of f0 - y in each mode

    @property
    def mode_errors(self) -> Float[Array, "t k *c"]:
        """The coefficient of the error f - y in each mode at each time."""
        return self.decay.reshape(*self.decay.shape, *(1,) * (self.initial_errors.ndim - 1)) * self.initial_errors

    @property
    def error_left(self) -> Float[np.ndarray, " t"]:
        """The share of the error's power in the modes that is left at each time; NaN if there was no error."""
        errors, decay = np.asarray(self.initial_errors, float), np.asarray(self.decay, float)
        power = np.sum(errors**2, tuple(range(1, errors.ndim)))
        return decay**2 @ power / (power.sum() or np.nan)

    @property
    def modes_left(self) -> Int[np.ndarray, " t"]:
        """The number of modes that keep more than half of their error at each time."""
        return np.sum(np.abs(np.asarray(self.decay, float)) > HALF, 1)

    def _table(self, num_rows: int) -> Table:
        shown = spaced(len(self.times), num_rows)
        error_left, modes_left = self.error_left, self.modes_left
        columns = {
            "time": [number(self.times[row]) for row in shown],
            "loss": [number(self.loss[row]) for row in shown],
            "error left": ["-" if np.isnan(error_left[row]) else f"{error_left[row]:.1%}" for row in shown],
            "modes left": [f"{modes_left[row]:,} of {len(self.rates):,}" for row in shown],
        }
        return Table(f"Trajectory: {counted(len(self.times), 'time')}", columns)


@on_inputs
def gradient_flow(
    kernel: Any,
    x: Inputs,
    targets: ArrayLike,
    times: ArrayLike | Sequence[float],
    *,
    x_test: Inputs | None = None,
    K_test: ArrayLike | None = None,
    f0: ArrayLike | None = None,
    f0_test: ArrayLike | None = None,
    P: ArrayLike | None = None,
    loss: str | losses.LossFunction | None = None,
) -> Trajectory | LossTrajectory:
    """The outputs under gradient flow on 1/2 (f - y)^T P (f - y) at `times` `(t,)`; `inf` is the limit.

    `kernel` comes with its inputs `x`. An operator, a matrix `(n, n)` or `(n, o, n, o)`, or a `Spectrum` replaces both.
    The weights of a spectrum serve as P, and only the modes that it holds move.

    `targets` y are `(n,)`, or `(n, t)` for several targets that share the kernel. For a kernel of all pairs of outputs
    they are `(n, o)` or `(n, o, t)`. `P` is symmetric and positive semi-definite: `(n, n)`, its diagonal `(n,)`, or
    `(n, o, n, o)`; by default I / n. Give test points as `x_test` with a kernel or its spectrum, or as their rows of
    the kernel, `K_test` `(m, n)` or `(m, o, n, o)`. The outputs start at `f0` and `f0_test`, by default zero.

    The result is exact at infinite width and for a linearized network. The kernel of a finite network moves. The rates
    are the network's for outputs="all", and at infinite width also for "mean"; "sum" is o times too fast. For a finite
    network with several outputs, "mean" and "sum" give a warning. `critical_learning_rate` raises an error there,
    because it promises a bound.

    With `loss`, a name or a function as for `train`, the flow is that of this loss instead, integrated to a relative
    accuracy of 1e-9, and the result is a `LossTrajectory`. A kernel `(n, n)` then serves each output. `targets` are
    those of the loss, such as labels `(n,)` for "cross_entropy".

    Costs an eigendecomposition, 10 N^3 operations for N = n o rows, unless a spectrum is given; then N k
    multiplications per time. With `loss`, it costs N^2 multiplications per step of the solver.

    Raises `InputError` on shapes that do not fit, on NaN, on labels as targets, on outputs or losses beyond the largest
    float, and on a P or a kernel that is not symmetric and positive semi-definite.

    >>> import jax, ntkbias as nb
    >>> circle = nb.domains.Circle()
    >>> x, weights = circle.quadrature(16)
    >>> spectrum = nb.spectrum(nb.infinite_ntk(nb.nets.mlp(depth=1, b_std=0.1)), x)
    >>> y = spectrum.eigenfunctions[:, 0]
    >>> flow = nb.gradient_flow(spectrum, y, times=[0.0, 1 / spectrum.eigenvalues[0]])
    >>> bool(abs(flow.loss[1] / flow.loss[0] - jax.numpy.exp(-2)) < 1e-3)  # the loss is the square of the error
    True
    """
    require_known((kernel, x, targets, times, x_test, K_test, f0, f0_test, P), "gradient_flow")
    times = require_wide(times, "times")
    if times.ndim != 1 or not times.size or not bool(jnp.all(times >= 0)):
        raise InputError(f"Expected times (t,) of zero or more; got {_seen(times)}.")
    moments = np.asarray(times, float)
    if loss is not None:
        _require_no_metric(P)
        return flow_under(kernel, x, targets, moments, loss, x_test, K_test, f0, f0_test)
    problem = _Problem.of(modes_of(kernel, x, x_test, K_test, P), targets, f0, f0_test)

    def advice(place: int) -> str:
        return f"at time {moments[place]:.4g}. {SCALE}"

    return problem.trajectory(moments, *decay_of_flow(problem.modes.rates, moments), advice)


@on_inputs
def gradient_descent(
    kernel: Any,
    x: Inputs,
    targets: ArrayLike,
    steps: ArrayLike | Sequence[int],
    learning_rate: float | optax.GradientTransformation,
    *,
    momentum: float = 0.0,
    x_test: Inputs | None = None,
    K_test: ArrayLike | None = None,
    f0: ArrayLike | None = None,
    f0_test: ArrayLike | None = None,
    P: ArrayLike | None = None,
    loss: str | losses.LossFunction | None = None,
) -> Trajectory | LossTrajectory:
    """The outputs after `steps` `(t,)` steps of full-batch gradient descent, or of the heavy ball with `momentum`.

    The result is exact at each step for any learning rate. Above `critical_learning_rate` the outputs grow without
    bound. Steps of one mode are powers of a 3 x 3 matrix, so s steps cost log s products. The other arguments, the
    result and the costs are those of `gradient_flow`. `times` are steps * learning rate / (1 - momentum).

    With `loss`, each step is computed, and the result is a `LossTrajectory`. `learning_rate` may then be an optax
    optimizer that is linear in the gradient, such as `optax.sgd` with momentum or a schedule; `times` are its steps.

    Raises `InputError` as `gradient_flow` does, and also on an optimizer that is not linear in the gradient, on steps
    that are not whole numbers, a learning rate that is not above zero, and a momentum outside [0, 1).

    >>> import ntkbias as nb
    >>> circle = nb.domains.Circle()
    >>> x, weights = circle.quadrature(16)
    >>> spectrum = nb.spectrum(nb.infinite_ntk(nb.nets.mlp(depth=1, b_std=0.1)), x)
    >>> y = circle.harmonics(x, 1)[:, 1]
    >>> loss = nb.gradient_descent(spectrum, y, [0, 10, 1000], learning_rate=0.5).loss
    >>> loss.shape, bool(loss[2] < loss[1] < loss[0])
    ((3,), True)
    """
    arguments = (kernel, x, targets, steps, learning_rate, momentum, x_test, K_test, f0, f0_test, P)
    require_known(arguments, "gradient_descent")
    whole = require_whole_numbers(steps, "Expected steps (t,) of whole numbers of zero or more", 0)
    if loss is not None or isinstance(learning_rate, optax.GradientTransformation):
        _require_no_metric(P)
        if isinstance(learning_rate, optax.GradientTransformation):
            optimizer, times = learning_rate, whole.astype(float)
        else:
            checked_step(learning_rate, momentum)
            optimizer, times = optax.sgd(learning_rate, momentum), whole * learning_rate / (1 - momentum)
        named = "mse" if loss is None else loss
        return descent_under(kernel, x, targets, whole, optimizer, times, named, x_test, K_test, f0, f0_test)
    checked_step(learning_rate, momentum)
    problem = _Problem.of(modes_of(kernel, x, x_test, K_test, P), targets, f0, f0_test)
    decay, gain = decay_of_steps(problem.modes.rates, whole, float(learning_rate), float(momentum))

    def advice(place: int) -> str:
        bound = 2 * (1 + momentum) / np.max(problem.modes.rates, initial=0.0)
        slower = f"Choose a learning rate below the critical one, {bound:.4g}, or fewer steps."
        return f"by step {whole[place]}. {slower if learning_rate > bound else SCALE}"

    return problem.trajectory(whole * learning_rate / (1 - momentum), decay, gain, advice)


class _Problem(NamedTuple):
    """The initial outputs, the targets, and the modes along which the error decays."""

    modes: Modes
    start: np.ndarray  # (rows, c)
    start_test: np.ndarray
    targets: np.ndarray  # (rows, c)
    columns: tuple[int, ...]

    @classmethod
    def of(cls, modes: Modes, given: Any, f0: Any, f0_test: Any) -> "_Problem":
        shape = modes.shape
        targets = values_on(given, "targets", shape)
        require_no_labels(given)
        columns = targets.shape[len(shape) :]
        start = np.zeros_like(targets) if f0 is None else values_on(f0, "f0", shape)
        if start.shape != targets.shape:
            raise InputError(f"Expected f0 of the shape of the targets, {targets.shape}; got {start.shape}.")
        start_test = np.zeros(())
        if modes.test is None and f0_test is not None:
            raise InputError("Expected x_test= or K_test= with f0_test; got neither.")
        if modes.test is not None:
            inner = (len(modes.test) // int(np.prod(shape[1:], dtype=int)), *shape[1:])
            if f0 is not None and f0_test is None:
                raise InputError(
                    "Expected f0_test, the outputs at the test points, with f0; got none. Give f(params, x_test)."
                )
            start_test = np.zeros((*inner, *columns)) if f0_test is None else values_on(f0_test, "f0_test", inner)
            if start_test.shape != (*inner, *columns):
                raise InputError(f"Expected f0_test of shape {(*inner, *columns)}; got {start_test.shape}.")
        rows = len(modes.synthesis)
        return cls(modes, start.reshape(rows, -1), start_test, targets.reshape(rows, -1), columns)

    def trajectory(
        self, times: np.ndarray, decay: np.ndarray, gain: np.ndarray, advice: Callable[[int], str]
    ) -> Trajectory:
        """The outputs and losses. Raises `InputError`, with advice, at the first time at which they overflow."""
        modes, dtype = self.modes, np.dtype(jnp.result_type(float))
        errors = modes.analysis @ (self.start - self.targets)

        def outputs(rows: np.ndarray, start: np.ndarray) -> np.ndarray:
            return start.reshape(len(rows), -1) - np.moveaxis(np.tensordot(rows, moved, 1), -1, 0)

        with np.errstate(over="ignore", invalid="ignore"):
            moved = np.moveaxis(gain[:, :, None] * errors, 0, -1)  # (k, c, t)
            train = outputs(modes.synthesis, self.start)
            found = None if modes.test is None else outputs(modes.test, self.start_test)
            left = train - self.targets
            weighted = modes.metric[:, None] * left if modes.metric.ndim == 1 else modes.metric @ left
            loss = np.sum(left * weighted, (1, 2)) / 2
        known = [values.reshape(len(times), -1) for values in (train, loss, decay, found) if values is not None]
        overflow = ~(np.abs(np.concatenate(known, 1)) <= np.finfo(dtype).max).all(1)
        if overflow.any():
            first = int(np.flatnonzero(overflow)[np.argmin(times[overflow])])
            raise InputError(f"Expected outputs and a loss within the range of {dtype}; got infinity {advice(first)}")
        test = None if found is None else jnp.asarray(found.reshape(len(times), *self.start_test.shape), dtype)
        return Trajectory(
            times=jnp.asarray(times, dtype),
            outputs=jnp.asarray(train.reshape(len(times), *modes.shape, *self.columns), dtype),
            test_outputs=test,
            loss=jnp.asarray(loss, dtype),
            rates=jnp.asarray(modes.rates, dtype),
            decay=jnp.asarray(decay, dtype),
            initial_errors=jnp.asarray(errors.reshape(len(errors), *self.columns), dtype),
        )


def checked_step(learning_rate: Any, momentum: Any) -> None:
    """Raise an `InputError` unless the learning rate is above zero and the momentum in [0, 1)."""
    for name, value in (("learning rate", learning_rate), ("momentum", momentum)):
        if np.ndim(value) or np.asarray(value).dtype.kind not in "iuf":
            raise InputError(f"Expected a {name} that is one number; got {value!r}.")
    if not np.isfinite(learning_rate) or not learning_rate > 0:
        raise InputError(f"Expected a learning rate above zero; got {learning_rate!r}.")
    if not 0 <= momentum < 1:
        raise InputError(f"Expected a momentum of at least 0 and below 1; got {momentum!r}.")


def _require_no_metric(P: Any) -> None:
    if P is not None:
        raise InputError("Expected P= without loss=, or an optimizer; got both. P belongs to the squared error.")


def _seen(values: Array) -> str:
    return (
        f"shape {values.shape}" if values.ndim != 1 or not values.size else f"{float(values.min()):.4g} as the smallest"
    )
