"""`ntkbias track`: train a network, follow its kernel, and fill a run folder.

The circle has no labels. There, the target is the sum of the waves cos(k angle) for k = 1 to 8, all with amplitude one:
the network itself decides which wave it learns first.
"""

import time
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from ntkbias import losses, report
from ntkbias.checks import require_positive
from ntkbias.cli.folder import RunFolder
from ntkbias.cli.inputs import Inputs, initialized, inputs, network, settings
from ntkbias.cli.options import TrackOptions
from ntkbias.cli.outcome import Outcome, file_names, fill
from ntkbias.domains import Circle
from ntkbias.errors import InputError
from ntkbias.kernels import empirical_ntk
from ntkbias.layers import Layer
from ntkbias.learning import critical_learning_rate
from ntkbias.progress import phase
from ntkbias.tables import counted
from ntkbias.tracking import History, Probe, measures, track, track_many
from ntkbias.training import log_steps

__all__ = ["about_labels", "run"]

WAVES = 8
MOMENTUM = 0.9
ADAM_RATE = 1e-3


class Task(NamedTuple):
    """The task: training examples, test examples, and the number of outputs that the network needs."""

    x: Array
    y: Array
    test: tuple[Array, Array] | None
    num_outputs: int


def run(options: TrackOptions) -> Outcome:
    """Train the network that the options describe, and fill the run folder."""
    started = time.perf_counter()
    for name in ("num_steps", "probe", "num_snapshots", "num_runs", "width"):
        require_positive(f"--{name.replace('_', '-')}", getattr(options, name))
    if options.learning_rate is not None and not options.learning_rate > 0:
        raise InputError(f"Expected --learning-rate above zero; got {options.learning_rate}.")
    data = inputs(options)
    task = _task(options, data)
    net = network(options, options.net, task.x.shape[1:], task.num_outputs)
    params = initialized(options, net, task.x.shape[1:], options.num_runs if options.num_runs > 1 else None)
    rate = _learning_rate(options, net, params, task.x[: options.probe])
    described = settings(options, "track") | {"learning rate": rate}
    with RunFolder.claimed(options.out, file_names("history", report.figure_names(None))) as folder:
        phase(f"{counted(options.num_steps, 'step')} on {counted(len(task.x), 'example')}")
        with folder.checkpoint(options.resume) as checkpoint:
            history = _tracked(options, net, params, task, data, rate, checkpoint)
        table = report.table(history)
        folder.fill(lambda path: fill(path, "history", history, described, table))
    steps = f"{counted(options.num_steps, 'step')} of rate {rate:.3g}"
    about = f"{counted(len(task.x), 'example')}, {steps}, {counted(len(history), 'snapshot')}"
    text = f"{table}\n\n{about}, {time.perf_counter() - started:.0f} s.{about_labels(options, data)}"
    return Outcome(text, options.out, _stopped(history))


def about_labels(options: TrackOptions, data: Inputs) -> str:
    """A line that says that the whole numbers in the y of a file are taken as labels; empty if there is no choice."""
    if not options.data.endswith(".npz") or not data.labeled or data.y is None:
        return ""
    classes = counted(len(np.unique(data.y)), "class", "classes")
    return f"\ny of {options.data} holds whole numbers: they are taken as labels of {classes}, not as values."


def _stopped(history: History) -> str | None:
    """Why training ended early, or None. For several runs, it says how many diverged."""
    if history.stopped is not None or history.num_runs is None:
        return history.stopped
    lost = int(np.sum(~np.isfinite(history["loss"][:, -1])))
    return f"{lost} of {history.num_runs} runs diverged" if lost else None


def _tracked(
    options: TrackOptions, net: Layer, params: Any, task: Task, data: Inputs, rate: float, checkpoint: Path
) -> History:
    optimizers = {"sgd": optax.sgd(rate), "momentum": optax.sgd(rate, MOMENTUM), "adam": optax.adam(rate)}
    arguments: dict[str, Any] = {
        "optimizer": optimizers[options.optimizer],
        "num_steps": options.num_steps,
        "loss": options.loss,
        "batch_size": options.batch_size,
        "at": log_steps(options.num_steps, options.num_snapshots),
        "probe": Probe(task.x[: options.probe], task.y[: options.probe], test=task.test, domain=data.domain),
        "measures": measures.DEFAULT if options.measures == "default" else measures.ALL,
        "key": jax.random.key(options.seed),
        "checkpoint": checkpoint,
    }
    follow = track if options.num_runs == 1 else track_many
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Expected training to reach its last step")  # printed after the results
        return follow(net.apply, params, (task.x, task.y), **arguments)


def _task(options: TrackOptions, data: Inputs) -> Task:
    """The training and test examples, with targets in the form that the loss accepts."""
    loss = losses.NAMED[options.loss]
    if isinstance(data.domain, Circle):
        if loss.targets != "values":
            raise InputError(f"Expected --loss mse on the circle, whose targets are waves; got {loss.name}.")
        angles = data.domain.angle(data.x)[:, None] * jnp.arange(1, WAVES + 1)
        return Task(data.x, jnp.cos(angles).sum(1), None, 1)
    if data.y is None:
        raise InputError(f"Expected labels or targets y in {options.data} to train on; got none.")
    classes = np.unique(data.y) if data.labeled else None
    if loss.targets != "values" and classes is None:
        raise InputError(f"Expected whole numbers in y for --loss {loss.name}; got {data.y.dtype}. Use --loss mse.")
    if loss.targets == "signs" and classes is not None and len(classes) != 2:
        raise InputError(f"Expected two classes for --loss {loss.name}; got {len(classes)}. Use --loss cross_entropy.")
    x, y, test = data.x, data.y, None
    if options.data in ("mnist", "cifar10"):
        held_out = inputs(options, "test", options.test_examples) if options.test_examples else None
        test = None if held_out is None or held_out.y is None else (held_out.x, held_out.y)
    elif count := min(options.test_examples, len(x) // 5):
        x, y, test = x[:-count], y[:-count], (x[-count:], y[-count:])
    if classes is None:
        num_outputs = 1 if data.y.ndim == 1 else data.y.shape[1]
    else:
        num_outputs = loss.num_outputs(len(classes))

    def form(labels: np.ndarray) -> Array:
        if classes is None:
            return jnp.asarray(labels, float)
        return loss.of_classes(np.searchsorted(classes, labels), len(classes))

    return Task(x, form(y), None if test is None else (test[0], form(test[1])), num_outputs)


def _learning_rate(options: TrackOptions, net: Layer, params: Any, probe: Array) -> float:
    """The learning rate: `--learning-rate` if given, 0.001 for Adam, and otherwise half of the critical rate.

    The critical rate is that of the first run's initial kernel on the probe.
    """
    if options.learning_rate is not None:
        return options.learning_rate
    if options.optimizer == "adam":
        return ADAM_RATE
    first = params if options.num_runs == 1 else jax.tree.map(lambda leaf: leaf[0], params)
    kernel = empirical_ntk(net.apply, first, outputs="all")
    momentum = MOMENTUM if options.optimizer == "momentum" else 0.0
    return float(f"{critical_learning_rate(kernel, probe, momentum=momentum) / 2:.3g}")
