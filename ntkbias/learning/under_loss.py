"""Training in function space under any loss: gradient flow, and gradient descent with an optax optimizer.

With a constant kernel K, the outputs are f = f0 + K a, and the coefficients a `(n, o)` follow

    da/dt = -grad L(f)          flow; L is the loss, the mean over examples
    a <- a + update(grad L(f))  descent: an optimizer that is linear in the gradient commutes with K

This is what a linearized network does (Lee et al. 2019, arXiv 1902.06720, section 2.2). An optimizer that rescales each
parameter, as Adam does, has no such form.

>>> import jax.numpy as jnp, ntkbias as nb
>>> x, y = jnp.array([[-1.0], [0.5], [1.0]]), jnp.array([-1.0, 1.0, 1.0])
>>> kernel = nb.infinite_ntk(nb.nets.mlp(depth=1, b_std=0.5))
>>> path = nb.gradient_flow(kernel, x, y, times=[0.0, 20.0], loss="logistic")
>>> path.outputs.shape, bool((path.outputs[1] * y > 0).all())
((2, 3), True)
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.integrate
from jaxtyping import Array, Float

from ntkbias import losses
from ntkbias.checks import require_array, require_finite
from ntkbias.errors import InputError, InputTypeError
from ntkbias.kernels import Kernel
from ntkbias.kernels.on_inputs import operator_on
from ntkbias.learning.modes import gram_of, gram_rows
from ntkbias.spectra import Spectrum
from ntkbias.tables import Axes, Printed, Table, counted, number, spaced

__all__ = ["LossTrajectory", "descent_under", "flow_under"]

ACCURACY = 1e-9  # of the integration, relative to the coefficients
LARGE = 1e6  # times a gradient, at which an optimizer must still be linear


class LossTrajectory(Printed):
    """A network's outputs and its loss at given times of training, under any loss. `times` are steps * learning rate.

    After an optimizer of your own, `times` are its steps. It prints as a table of the loss.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> nb.gradient_flow(jnp.eye(2), jnp.array([0, 1]), times=[0.0, 1.0], loss="cross_entropy").outputs.shape
    (2, 2, 2)
    """

    named_axes = Axes("time", index={"time": "times"}, t="time", n="example", m="test_example", o="output")

    times: Float[Array, " t"]
    outputs: Float[Array, "t n *o"]
    test_outputs: Float[Array, "t m *o"] | None
    loss: Float[Array, " t"]

    def _table(self, num_rows: int) -> Table:
        shown = spaced(len(self.times), num_rows)
        columns = {
            "time": [number(self.times[row]) for row in shown],
            "loss": [number(self.loss[row]) for row in shown],
        }
        return Table(f"LossTrajectory: {counted(len(self.times), 'time')}", columns)


class _System(NamedTuple):
    """The kernel as a matrix on training and test points, the outputs at the start, and the loss of outputs."""

    matrix: np.ndarray  # (rows, rows): rows are examples, or examples times outputs
    test: np.ndarray | None
    start: np.ndarray  # (n, *o)
    start_test: np.ndarray | None
    loss: Callable[[Array], Array]
    shape: tuple[int, ...]  # of the coefficients, (rows, columns)

    def outputs(self, coefficients: np.ndarray) -> np.ndarray:
        return self.start + (self.matrix @ coefficients.reshape(self.shape)).reshape(self.start.shape)

    def test_outputs(self, coefficients: np.ndarray) -> np.ndarray | None:
        if self.test is None or self.start_test is None:
            return None
        return self.start_test + (self.test @ coefficients.reshape(self.shape)).reshape(self.start_test.shape)

    def trajectory(self, times: np.ndarray, found: list[np.ndarray]) -> LossTrajectory:
        """The trajectory with these coefficients at these times."""
        outputs = np.stack([self.outputs(each) for each in found])
        with jax.enable_x64(True):
            values = np.array([float(self.loss(jnp.asarray(each))) for each in outputs])
        dtype = np.dtype(jnp.result_type(float))
        if not (np.abs(outputs) <= np.finfo(dtype).max).all():
            raise InputError(
                "Expected outputs within the range of numbers; got infinity. Choose a smaller learning rate."
            )
        tests = None if self.test is None else np.stack([self.test_outputs(each) for each in found])  # type: ignore
        return LossTrajectory(
            times=jnp.asarray(times, dtype),
            outputs=jnp.asarray(outputs, dtype),
            test_outputs=None if tests is None else jnp.asarray(tests, dtype),
            loss=jnp.asarray(values, dtype),
        )


def flow_under(
    kernel: Any, x: Any, targets: Any, times: np.ndarray, loss: Any, x_test: Any, K_test: Any, f0: Any, f0_test: Any
) -> LossTrajectory:
    """`gradient_flow` under a loss, by a solver for stiff equations (LSODA), to a relative accuracy of 1e-9."""
    if not np.isfinite(times).all():
        raise InputError("Expected finite times under a loss; got infinity. Without loss=, the limit is known.")
    system = _system(kernel, x, targets, loss, x_test, K_test, f0, f0_test)
    with jax.enable_x64(True):
        gradient = jax.jit(jax.grad(system.loss))

        def velocity(_: float, coefficients: np.ndarray) -> np.ndarray:
            return -np.asarray(gradient(jnp.asarray(system.outputs(coefficients)))).ravel()

        start, moments = np.zeros(int(np.prod(system.shape))), np.unique(times)
        found = {0.0: start}
        if moments[-1] > 0:
            scale = np.abs(velocity(0.0, start)).max()
            solved = scipy.integrate.solve_ivp(
                velocity,
                (0.0, moments[-1]),
                start,
                "LSODA",
                t_eval=moments,
                rtol=ACCURACY,
                atol=ACCURACY * max(scale, np.finfo(float).tiny),
            )
            if not solved.success:
                raise InputError(f"Expected a flow that can be integrated; the solver stopped: {solved.message}")
            found |= dict(zip(moments.tolist(), solved.y.T, strict=True))
    return system.trajectory(times, [found[float(time)] for time in times])


def descent_under(
    kernel: Any,
    x: Any,
    targets: Any,
    steps: np.ndarray,
    optimizer: optax.GradientTransformation,
    times: np.ndarray,
    loss: Any,
    x_test: Any,
    K_test: Any,
    f0: Any,
    f0_test: Any,
) -> LossTrajectory:
    """`gradient_descent` under a loss, with an optimizer that is linear in the gradient."""
    system = _system(kernel, x, targets, loss, x_test, K_test, f0, f0_test)
    with jax.enable_x64(True):
        _require_linear(optimizer, system.shape)
        matrix, start = jnp.asarray(system.matrix), jnp.asarray(system.start)

        def one(_: Any, carried: tuple[Array, Any]) -> tuple[Array, Any]:
            coefficients, state = carried
            outputs = start + (matrix @ coefficients).reshape(start.shape)
            gradient = jax.grad(system.loss)(outputs).reshape(coefficients.shape)
            update, state = optimizer.update(gradient, state)
            return coefficients + update, state

        advance = jax.jit(lambda carried, count: jax.lax.fori_loop(0, count, one, carried))
        carried, done, found = (jnp.zeros(system.shape), optimizer.init(jnp.zeros(system.shape))), 0, {}
        for step in np.unique(steps).tolist():
            carried, done = advance(carried, step - done), step
            found[step] = np.asarray(carried[0])
    return system.trajectory(times, [found[int(step)] for step in steps])


def _system(kernel: Any, x: Any, targets: Any, loss: Any, x_test: Any, K_test: Any, f0: Any, f0_test: Any) -> _System:
    if isinstance(kernel, Spectrum):
        raise InputTypeError("Expected a kernel, an operator or a matrix with loss=; got a Spectrum.")
    if x_test is not None and K_test is not None:
        raise InputError("Expected test points as x_test= or as K_test=; got both. Leave one out.")
    if x_test is not None:
        if not isinstance(kernel, Kernel):
            raise InputError("Expected x_test= with a kernel; got it with a matrix. Give the kernel, or K_test=.")
        K_test = kernel(x_test, x)
    gram = gram_of(kernel, x)
    operator = operator_on(gram, None)
    n, full = operator.num_examples, np.ndim(gram) == 4
    function = losses.named(loss)
    y = require_array(targets, "targets")
    shape = _output_shape(y, function, f0, (n, operator.num_outputs) if full else None, n)
    y = losses.checked_targets(function, jax.ShapeDtypeStruct(shape, jnp.float32), y)
    matrix = operator.matrix().astype(float)
    test = None if K_test is None else gram_rows(K_test, (n, operator.num_outputs) if full else (n,))
    start = np.zeros(shape) if f0 is None else np.asarray(require_array(f0, "f0"), float)
    if start.shape != shape:
        raise InputError(f"Expected f0 of shape {shape}, the outputs; got {start.shape}.")
    require_finite(start, "f0")
    start_test = None
    if test is not None:
        inner = (len(test) // (shape[1] if full else 1), *shape[1:])
        if f0 is not None and f0_test is None:
            raise InputError(
                "Expected f0_test, the outputs at the test points, with f0; got none. Give f(params, x_test)."
            )
        start_test = np.zeros(inner) if f0_test is None else np.asarray(require_array(f0_test, "f0_test"), float)
        if start_test.shape != inner:
            raise InputError(f"Expected f0_test of shape {inner}; got {start_test.shape}.")
    held = np.asarray(y)
    return _System(
        matrix,
        test,
        start,
        start_test,
        lambda outputs: function(outputs, jnp.asarray(held)),
        (len(matrix), 1 if full else int(np.prod(shape[1:], dtype=int))),
    )


def _output_shape(y: Array, loss: Any, f0: Any, known: tuple[int, int] | None, n: int) -> tuple[int, ...]:
    """The shape of the outputs: the kernel's own, that of f0, or that of the targets."""
    if known is not None:
        return known
    if f0 is not None:
        return np.shape(f0)
    if len(y) != n:
        raise InputError(f"Expected targets for {n} examples; got {len(y)}.")
    if getattr(loss, "targets", "values") == "classes" and y.dtype.kind in "iu":
        return (n, max(int(np.max(np.asarray(y))) + 1, 2))
    return y.shape


def _require_linear(optimizer: optax.GradientTransformation, shape: tuple[int, ...]) -> None:
    """Raise an `InputError` unless the first two updates are linear in the gradients."""

    def updates(scale: float, seed: int, other: int | None = None) -> np.ndarray:
        state, found = optimizer.init(jnp.zeros(shape)), []
        for step in range(2):
            gradient = np.random.default_rng([seed, step]).normal(size=shape)
            if other is not None:
                gradient = gradient + np.random.default_rng([other, step]).normal(size=shape)
            update, state = optimizer.update(jnp.asarray(scale * gradient), state)
            found.append(np.asarray(update))
        return np.stack(found)

    try:
        one, two = updates(1.0, 0), updates(1.0, 1)
        linear = np.allclose(updates(1.0, 0, 1), one + two) and np.allclose(updates(LARGE, 0), LARGE * one)
    except (TypeError, ValueError, AttributeError):  # it needs the parameters, which function space does not know
        linear = False
    if not linear:
        raise InputError(
            "Expected an optimizer that is linear in the gradient, e.g. optax.sgd with momentum, for training in "
            "function space; got another one, such as Adam, clipping or weight decay. Train nb.linearize(f, params) "
            "with it instead."
        )
