"""`ntkbias track`: train a network, follow its kernel, and fill a run folder.

A domain has no labels. On the circle, the target is the sum of the waves cos(k angle) for k = 1 to 8, all with
amplitude one: the network itself decides which wave it learns first. On other domains it is the sum of one random
harmonic of each degree from 1 to 8 that the inputs resolve, all with mean square one.

The default learning rate is an eighth of the critical rate of the initial kernel. During full-batch training the
largest eigenvalue rises until it reaches 2 / learning rate (Cohen et al. 2021, arXiv 2103.00065), and the loss spikes
there. At half of the critical rate it does so within 100 steps on the circle, where the loss then jumps to 17 times its
least value; at an eighth, the loss of the default networks falls at each of the first 1,000 steps.
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
from ntkbias.cli.inputs import Inputs, inputs, settings
from ntkbias.cli.networks import Network, initialized, one_network
from ntkbias.cli.options import TrackOptions
from ntkbias.cli.outcome import Outcome, file_names, fill, found_again, plain
from ntkbias.domains import Circle, HarmonicDomain
from ntkbias.errors import InputError
from ntkbias.kernels import empirical_ntk
from ntkbias.learning import critical_learning_rate
from ntkbias.progress import phase
from ntkbias.tables import counted
from ntkbias.tracking import History, Probe, measures, track, track_many
from ntkbias.training import log_steps

__all__ = ["about_labels", "history_data", "run", "stopped_early"]

WAVES = 8
MOMENTUM = 0.9
ADAM_RATE = 1e-3
OF_CRITICAL = 1 / 8  # the default learning rate, as a share of the critical one


class Task(NamedTuple):
    """The task: training examples, test examples, and the number of outputs that the network needs."""

    x: Array
    y: Array
    test: tuple[Array, Array] | None
    num_outputs: int


def run(options: TrackOptions) -> Outcome:
    """Train the network that the options describe, and fill the run folder."""
    started = time.perf_counter()
    for name in ("num_steps", "probe", "num_snapshots", "num_runs"):
        require_positive(f"--{name.replace('_', '-')}", getattr(options, name))
    if options.learning_rate is not None and not options.learning_rate > 0:
        raise InputError(f"Expected --learning-rate above zero; got {options.learning_rate}.")
    data = inputs(options, equal_weights=True)
    task = _task(options, data)
    network = one_network(options, task.x.shape[1:], task.num_outputs)
    described = settings(options, "track", data)
    with RunFolder.claimed(options.out, file_names(["history"], report.figure_names(None))) as folder:
        if (again := found_again(folder, described, options.overwrite)) is not None:
            return again
        params = initialized(options, network, options.num_runs if options.num_runs > 1 else None)
        rate = _learning_rate(options, network, params, task.x[: options.probe])
        phase(f"{counted(options.num_steps, 'step')} on {counted(len(task.x), 'example')}")
        with folder.checkpoint(options.resume) as checkpoint:
            history = _tracked(options, network, params, task, data, rate, checkpoint)
        table, stopped = report.table(history), stopped_early(history)
        outcome = Outcome(table, options.out, stopped, history_data(history, rate, stopped))
        described["learning rate"] = rate
        folder.fill(lambda path: fill(path, {"history": history}, described, outcome))
    steps = f"{counted(options.num_steps, 'step')} of rate {rate:.3g}"
    about = f"{counted(len(task.x), 'example')}, {steps}, {counted(len(history), 'snapshot')}"
    return outcome._replace(
        text=f"{table}\n\n{about}, {time.perf_counter() - started:.0f} s.{about_labels(options, data)}"
    )


def about_labels(options: TrackOptions, data: Inputs) -> str:
    """A line that says that the whole numbers in the y of a file are taken as labels; empty if there is no choice."""
    if not options.data.endswith(".npz") or not data.labeled or data.y is None:
        return ""
    classes = counted(len(np.unique(data.y)), "class", "classes")
    return f"\ny of {options.data} holds whole numbers: they are taken as labels of {classes}, not as values."


def stopped_early(history: History) -> str | None:
    """Why training ended early, or None. For several runs, it says how many diverged."""
    if history.stopped is not None or history.num_runs is None:
        return history.stopped
    lost = int(np.sum(~np.isfinite(history["loss"][:, -1])))
    return f"{lost} of {history.num_runs} runs diverged" if lost else None


def history_data(history: History, rate: float | None, stopped: str | None) -> dict[str, Any]:
    """The facts of the history, and the columns of its table by snapshot (medians of several runs)."""
    columns = {head: history.medians(name) for name, head in history.columns}
    facts = {fact.label: fact.value for fact in history.facts()}
    return plain(
        {
            "command": "track",
            "learning rate": rate,
            "stopped": stopped,
            "facts": facts,
            "snapshots": {"step": history.steps, **columns},
        }
    )


def _tracked(
    options: TrackOptions, network: Network, params: Any, task: Task, data: Inputs, rate: float, checkpoint: Path
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
        return follow(network.f, params, (task.x, task.y), **arguments)


def _task(options: TrackOptions, data: Inputs) -> Task:
    """The training and test examples, with targets in the form that the loss accepts."""
    loss = losses.NAMED[options.loss]
    if isinstance(data.domain, HarmonicDomain):
        if loss.targets != "values":
            place = "the circle" if isinstance(data.domain, Circle) else options.data
            raise InputError(f"Expected --loss mse on {place}, whose targets are waves; got {loss.name}.")
        return Task(data.x, _waves(options, data.domain, data.x), None, 1)
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


def _waves(options: TrackOptions, domain: HarmonicDomain, x: Array) -> Array:
    """The target on a domain: the sum of one harmonic per degree."""
    if isinstance(domain, Circle):
        return jnp.cos(domain.angle(x)[:, None] * jnp.arange(1, WAVES + 1)).sum(1)
    highest = min(WAVES, domain.max_degree(len(x)))
    degrees = [degree for degree in domain.levels(highest).tolist() if degree and domain.multiplicity(degree)]
    if not degrees:
        raise InputError(
            f"Expected enough inputs on {options.data} for harmonics of degree 1; got {len(x)}. Choose a larger "
            "--num-examples."
        )
    keys = jax.random.split(jax.random.key(options.seed), len(degrees))
    return sum(
        (domain.harmonic(degree, x, key=key) for degree, key in zip(degrees, keys, strict=True)), jnp.zeros(len(x))
    )


def _learning_rate(options: TrackOptions, network: Network, params: Any, probe: Array) -> float:
    """The learning rate: `--learning-rate` if given, 0.001 for Adam, and otherwise an eighth of the critical rate.

    The critical rate is that of the first run's initial kernel on the probe.
    """
    if options.learning_rate is not None:
        return options.learning_rate
    if options.optimizer == "adam":
        return ADAM_RATE
    first = params if options.num_runs == 1 else jax.tree.map(lambda leaf: leaf[0], params)
    kernel = empirical_ntk(network.f, first, outputs="all")
    momentum = MOMENTUM if options.optimizer == "momentum" else 0.0
    return float(f"{critical_learning_rate(kernel, probe, momentum=momentum) * OF_CRITICAL:.3g}")
