"""What fine-tuning is predicted to do to a network's outputs, on training and held-out inputs, and what it does.

Near parameters theta, f is its linearization, and gradient descent of rate h on 1/2 mean (f - y)^2 moves its outputs by

    f_{s+1} = f_s - h K (f_s - y) / n

with the kernel K at theta, on held-out inputs by their rows of it (Lee et al. 2019, arXiv 1902.06720; for language
models Malladi et al. 2023, arXiv 2210.05643). The prediction costs one kernel and no training. `measured=True` trains
the network as well, and says how far its kernel moved.

>>> import jax, ntkbias as nb
>>> net = nb.nets.mlp(width=64, depth=1, b_std=0.1)
>>> x, _ = nb.domains.Circle().quadrature(24)
>>> params = net.init(jax.random.key(0), (2,))
>>> options = {"x_held_out": x[1::2], "y_held_out": x[1::2, :1], "num_steps": 40, "measured": True}
>>> found = nb.behaviors.fine_tuning_prediction(net.apply, params, x[::2], x[::2, :1], **options)
>>> found.outputs.shape, found.held_out_outputs.shape, found.held_out_correlation > 0.95
((11, 12, 1), (11, 12, 1), True)
"""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from ntkbias.checks import require_finite, require_host, require_known, require_positive, widened
from ntkbias.compilation import compiled
from ntkbias.errors import InputError, InputTypeError
from ntkbias.function import checked_function
from ntkbias.kernels import Kernel, empirical_ntk, preconditioned_ntk
from ntkbias.kernels.inputs import checked, of_one_array
from ntkbias.learning import critical_learning_rate, gradient_descent
from ntkbias.mistaken import require_flag, require_no_labels
from ntkbias.parameters import Which, partitioned, paths_of
from ntkbias.tables import Axes, Printed, Table, counted, number, spaced
from ntkbias.training import log_steps, train
from ntkbias.types import ApplyFunction, Inputs, Params

__all__ = ["FineTuning", "fine_tuning_prediction"]

NUM_STEPS_SHOWN = 12  # at which outputs are predicted
DESCENT = optax.sgd(1.0)
CAUTION = 4  # the default learning rate is the critical one divided by this


class FineTuning(Printed):
    """Predicted outputs at the steps of fine-tuning, and measured ones if training was done; else those are None.

    Losses are 1/2 mean over inputs of the sum over outputs of squared errors. `kernel_change` is ||K' - K|| / ||K|| on
    the training inputs, from before to after training, `kernel_alignment` the cosine <K, K'> / (||K|| ||K'||); NaN
    without training. It prints as a table of losses by step.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> f, x = lambda params, x: x @ params, jnp.eye(2)
    >>> found = nb.behaviors.fine_tuning_prediction(f, jnp.zeros((2, 1)), x, x[:, :1], num_steps=8)
    >>> bool(found.loss[-1] < found.loss[0]), found.measured_loss is None
    (True, True)
    """

    named_axes = Axes("step", index={"step": "steps"}, s="step", n="example", m="held_out_example", o="output")

    steps: Int[Array, " s"]
    learning_rate: float
    outputs: Float[Array, "s n o"]
    loss: Float[Array, " s"]
    held_out_outputs: Float[Array, "s m o"] | None
    held_out_loss: Float[Array, " s"] | None
    measured_outputs: Float[Array, "s n o"] | None
    measured_loss: Float[Array, " s"] | None
    measured_held_out_outputs: Float[Array, "s m o"] | None
    measured_held_out_loss: Float[Array, " s"] | None
    kernel_change: float
    kernel_alignment: float

    @property
    def correlation(self) -> float:
        """The correlation of predicted and measured outputs on the training inputs, at the last step."""
        return _correlation(self.outputs, self.measured_outputs)

    @property
    def held_out_correlation(self) -> float:
        """The correlation of predicted and measured outputs on the held-out inputs, at the last step."""
        return _correlation(self.held_out_outputs, self.measured_held_out_outputs)

    def _table(self, num_rows: int) -> Table:
        shown = spaced(len(self.steps), num_rows)
        losses = {
            "loss": self.loss,
            "measured": self.measured_loss,
            "held out": self.held_out_loss,
            "held out, measured": self.measured_held_out_loss,
        }
        columns = {"step": [f"{int(self.steps[row]):,}" for row in shown]}
        columns |= {name: [number(of[row]) for row in shown] for name, of in losses.items() if of is not None}
        notes = [f"Learning rate {number(self.learning_rate)}."]
        if self.measured_loss is not None:
            notes.append(
                f"The kernel changed by {number(self.kernel_change)} of its norm; alignment with the initial one "
                f"{number(self.kernel_alignment)}."
            )
        return Table(f"Fine-tuning: {counted(int(self.steps[-1]), 'step')}", columns, notes)


def fine_tuning_prediction(
    f: ApplyFunction,
    params: Params,
    x: Inputs,
    y: ArrayLike,
    *,
    x_held_out: Inputs | None = None,
    y_held_out: ArrayLike | None = None,
    num_steps: int = 100,
    learning_rate: float | None = None,
    wrt: Which | None = None,
    preconditioner: Params | None = None,
    measured: bool = False,
    memory_budget: int | None = None,
) -> FineTuning:
    """Predict what full-batch gradient descent from `params` does to the outputs of `f`, before any training.

    `y` `(n,)` or `(n, o)` are targets for `f(params, x)`, in its units, such as differences of logits; more axes of
    outputs are flattened to o. The result has outputs `(s, n, o)` and losses `(s,)` at about a dozen steps up to
    `num_steps`, and those of the held-out inputs `(s, m, o)` if these are given; their loss needs `y_held_out`.

    `learning_rate` is by default a quarter of the critical one of the kernel. `wrt` selects the parameters that are
    trained, as in `empirical_ntk`. A `preconditioner`, a pytree like `params` of numbers from zero, multiplies each
    step: with `nb.kernels.adam_preconditioner(state)` the steps are those of Adam without momentum whose running mean
    of squared gradients stays as in `state`.

    The prediction is exact for a network that is linear in its parameters, and to first order in the steps otherwise.
    `measured` trains the network by the same steps, in float32 at least, and computes its kernel again at the end: that
    says how far to trust the prediction. Costs the kernel of x and of x with the held-out inputs, a decomposition of
    n o rows, and with `measured` also `num_steps` passes over x and another kernel. `memory_budget` bounds the kernel's
    memory, in bytes.

    Raises `InputError` on targets of another shape, whole numbers of more than two values, which may be labels, NaN, a
    learning rate that is not above zero or at which training diverges, and whatever `empirical_ntk` and `train` refuse.

    >>> import jax.numpy as jnp
    >>> f, x = lambda params, x: x @ params, jnp.eye(2)
    >>> found = fine_tuning_prediction(f, jnp.zeros((2, 1)), x, x[:, :1], num_steps=1, learning_rate=1.0)
    >>> found.outputs[-1].tolist()
    [[0.5], [0.0]]
    """
    require_known((params, x, y, x_held_out, y_held_out), "fine_tuning_prediction")
    require_positive("num_steps", num_steps)
    require_flag("measured", measured)
    if learning_rate is not None and (isinstance(learning_rate, bool | str) or np.ndim(learning_rate)):
        raise InputTypeError(f"Expected learning_rate to be a number above zero; got {learning_rate!r}.")
    if x_held_out is None and y_held_out is not None:
        raise InputError("Expected x_held_out= with y_held_out=; got no inputs.")
    f, params, only = checked_function(f, params, wrt)
    params = jax.tree.map(widened, params)
    x = _inputs(f, params, x, "x", wrt)
    sides: dict[str, tuple[Any, Any]] = {"y": (x, y)}
    if x_held_out is not None:
        x_held_out = _inputs(f, params, x_held_out, "x_held_out", wrt)
        sides["y_held_out"] = x_held_out, y_held_out
    starts = {name: _outputs(f, params, inputs) for name, (inputs, _) in sides.items()}
    targets: dict[str, Any] = {name: _targets(given, name, starts[name].shape) for name, (_, given) in sides.items()}

    def kernel_at(params: Params) -> Kernel:
        outputs: Any = "all" if starts["y"].shape[1] > 1 else "sum"
        options: dict[str, Any] = {"outputs": outputs, "memory_budget": memory_budget, "wrt": wrt}
        if preconditioner is None:
            return empirical_ntk(f, params, **options)
        return preconditioned_ntk(f, params, preconditioner, **options)

    kernel = kernel_at(params)
    gram = np.asarray(kernel(x))
    if learning_rate is None:
        learning_rate = float(critical_learning_rate(gram)) / CAUTION
    rate = float(learning_rate)
    steps = np.asarray(log_steps(num_steps, NUM_STEPS_SHOWN))
    rest: dict[str, Any] = {}
    if x_held_out is not None:
        rest = {"K_test": kernel(x_held_out, x), "f0_test": _as_kernel(starts["y_held_out"])}
    flow = gradient_descent(gram, _as_kernel(targets["y"]), steps, rate, f0=_as_kernel(starts["y"]), **rest)
    predicted = {"y": np.asarray(flow.outputs).reshape(len(steps), *starts["y"].shape)}
    if x_held_out is not None:
        predicted["y_held_out"] = np.asarray(flow.test_outputs).reshape(len(steps), *starts["y_held_out"].shape)
    found: dict[str, np.ndarray] = {}
    change = aligned = float("nan")
    if measured:
        found, end = _trained(f, params, sides, targets["y"], steps, rate, only, preconditioner)
        after = np.asarray(kernel_at(end)(x))
        change = float(np.linalg.norm(after - gram) / np.linalg.norm(gram))
        aligned = float(np.vdot(after, gram) / (np.linalg.norm(after) * np.linalg.norm(gram)))

    def at(values: dict[str, np.ndarray], name: str) -> Array | None:
        return jnp.asarray(values[name]) if name in values else None

    def loss(values: dict[str, np.ndarray], name: str) -> Array | None:
        if name not in values or targets[name] is None:
            return None
        return jnp.asarray(np.mean(np.sum((values[name] - targets[name]) ** 2, 2), 1) / 2)

    of: dict[str, Any] = {
        f"{prefix}{side}{what}": part(values, name)
        for prefix, values in (("", predicted), ("measured_", found))
        for side, name in (("", "y"), ("held_out_", "y_held_out"))
        for what, part in (("outputs", at), ("loss", loss))
    }
    of |= {"kernel_change": change, "kernel_alignment": aligned}
    return FineTuning(steps=jnp.asarray(steps), learning_rate=rate, **of)


def _inputs(f: ApplyFunction, params: Params, x: Inputs, name: str, wrt: Which | None) -> Inputs:
    """Inputs that the kernel takes: one array as such, several as they are."""
    kernel = empirical_ntk(f, params, wrt=wrt)
    one, rows = of_one_array(kernel, x, name)
    rows = checked(one, rows, name)
    return rows if one is kernel else x


def _outputs(f: ApplyFunction, params: Params, x: Inputs) -> np.ndarray:
    found = np.asarray(_values(f, params, x))
    return found.reshape(len(found), -1)


@compiled
def _values(f: ApplyFunction, params: Params, x: Inputs) -> Array:
    return f(params, x)


def _targets(given: Any, name: str, shape: tuple[int, ...]) -> np.ndarray | None:
    if given is None:
        return None
    values = require_host(given, name)
    require_no_labels(given, name)
    if values.shape != shape and not (values.ndim == 1 and shape == (len(values), 1)):
        raise InputError(f"Expected {name} of the shape of the outputs, {shape}; got {values.shape}.")
    require_finite(values, name)
    return np.asarray(values, float).reshape(shape)


def _as_kernel(values: Any) -> np.ndarray:
    """Outputs `(n, o)` as the kernel takes them: `(n,)` if there is one."""
    return values[:, 0] if values.shape[1] == 1 else values


def _trained(
    f: ApplyFunction,
    params: Params,
    sides: dict[str, tuple[Any, Any]],
    targets: np.ndarray,
    steps: np.ndarray,
    rate: float,
    only: tuple[str, ...] | None,
    preconditioner: Params | None,
) -> tuple[dict[str, np.ndarray], Params]:
    """The outputs on all inputs at each step of training, and the parameters at its end."""
    paths = paths_of(params) if only is None else only
    chosen, others = partitioned(params, paths)
    (x, _) = sides["y"]
    outputs = jax.eval_shape(f, params, x)
    # A step of rate h for f and y is a step of rate one for sqrt(h) f and sqrt(h) y. As the root is an argument, one
    # program trains at all rates.
    root = jnp.asarray(rate**0.5, jnp.promote_types(outputs.dtype, jnp.float32))
    data = x, root * jnp.asarray(targets.reshape(outputs.shape), root.dtype)
    optimizer = DESCENT
    if preconditioner is not None:
        scales, _ = partitioned(preconditioner, paths)
        scaled = optax.stateless(lambda updates, _: jax.tree.map(jnp.multiply, updates, scales))
        optimizer = optax.chain(scaled, optimizer)
    options: dict[str, Any] = {"optimizer": optimizer, "num_steps": int(steps[-1]), "at": steps.tolist()}
    options |= {"state": (root, others), "forward": ScaledForward(f)}
    found: dict[str, list[np.ndarray]] = {name: [] for name in sides}
    end = params
    for _, (reached, _) in train(Scaled(f), chosen, data, **options):
        end = eqx.combine(reached, others)
        for name, (inputs, _) in sides.items():
            found[name].append(_outputs(f, end, inputs))
    if len(found["y"]) < len(steps):
        raise InputError(
            f"Expected training to reach step {steps[-1]:,}; it diverged. Choose a learning rate below {rate:.3g}."
        )
    return {name: np.stack(values) for name, values in found.items()}, end


@dataclasses.dataclass(frozen=True)
class Scaled:
    """A number times f, as a function of (parameters, (number, other parameters)). Two are equal if their f are."""

    f: ApplyFunction

    def __call__(self, variables: tuple[Params, tuple[Array, Params]], x: Any) -> Array:
        chosen, (number, others) = variables
        return number * self.f(eqx.combine(chosen, others), x)


@dataclasses.dataclass(frozen=True)
class ScaledForward:
    """The same in the form of a training mode, whose state is the number and the other parameters."""

    f: ApplyFunction

    def __call__(self, chosen: Params, state: tuple[Array, Params], x: Any, _: Any) -> tuple[Array, Any]:
        return Scaled(self.f)((chosen, state), x), state


def _correlation(predicted: Any, found: Any) -> float:
    if predicted is None or found is None or np.size(found[-1]) < 2:
        return float("nan")
    return float(np.corrcoef(np.ravel(predicted[-1]), np.ravel(found[-1]))[0, 1])
