"""Measures of the function at one step: its loss, what of it is learned in which mode, at which frequency.

A residual r is n times the loss's derivative in the outputs, f - y for the squared error. Energies are mean squares:
that of the residual in mode i is <phi_i, r>^2, summed over outputs, which gradient flow reduces as exp(-2 eigenvalue_i
time) while the kernel stays. On a domain with harmonics the power of a function in each level is its spectrum; stacked
over snapshots it is a spectrogram of training. Elsewhere a function has one frequency, from the neighbourhood graph.
"""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ntkbias import losses
from ntkbias.domains import HarmonicDomain
from ntkbias.errors import InputError
from ntkbias.frequency import graph_frequency, harmonic_energy
from ntkbias.frequency.measures import measured_by_harmonics, measured_on_graph
from ntkbias.learning import gradient_descent, gradient_flow, learnability
from ntkbias.spectra import Spectrum
from ntkbias.tracking.snapshot import DENSE_ROWS, Snapshot, columns

__all__ = [
    "accuracy",
    "energy_of_labels",
    "energy_of_residual",
    "energy_of_residual_at_start",
    "frequencies",
    "frozen_error",
    "frozen_loss",
    "frozen_outputs",
    "learned",
    "learning_time",
    "loss",
    "output_spectrum",
    "outputs",
    "residual_frequency",
    "residual_spectrum",
    "target_alignment",
    "test_accuracy",
    "test_loss",
    "train_accuracy",
    "train_loss",
]


def loss(at: Snapshot) -> float | None:
    """The loss on the probe, by default the first training inputs; `train_loss` is that of all of them."""
    return None if at.setting.probe_y is None else at.loss(at.outputs, at.setting.probe_y)


def train_loss(at: Snapshot) -> float:
    """The loss over all training inputs."""
    return at.loss(at.train_outputs, at.setting.y)


def test_loss(at: Snapshot) -> float | None:
    """The loss on the test inputs."""
    if at.setting.test is None or at.test_outputs is None:
        return None
    return at.loss(at.test_outputs, at.setting.test[1])


def accuracy(at: Snapshot) -> float | None:
    """The share of the probe whose class is right: by sign for labels of -1 and 1, else by the largest output."""
    return None if at.setting.probe_y is None else _accuracy(at.outputs, at.setting.probe_y)


def train_accuracy(at: Snapshot) -> float | None:
    """The share of all training inputs whose class is right."""
    return _accuracy(at.train_outputs, at.setting.y)


def test_accuracy(at: Snapshot) -> float | None:
    """The share of test inputs whose class is right."""
    if at.setting.test is None or at.test_outputs is None:
        return None
    return _accuracy(at.test_outputs, at.setting.test[1])


test_loss.__test__ = test_accuracy.__test__ = False  # type: ignore[attr-defined]  # they are no tests


def outputs(at: Snapshot) -> Float[np.ndarray, "n o"]:
    """The network's outputs on the probe."""
    return at.outputs


outputs.axes = ("example", "output")  # type: ignore[attr-defined]


def energy_of_labels(at: Snapshot) -> Float[np.ndarray, " k"] | None:
    """The share of the labels' power that lies in each current mode."""
    if at.labels is None or not _fits(at, at.labels):
        return None
    return _energy(at, at, at.labels) / max(float(np.sum(at.labels**2)) / at.num_examples, np.finfo(float).tiny)


def energy_of_residual(at: Snapshot) -> Float[np.ndarray, " k"] | None:
    """The mean square of the residual in each current mode."""
    return None if at.residual is None else _energy(at, at, at.residual)


def energy_of_residual_at_start(at: Snapshot) -> Float[np.ndarray, " k"] | None:
    """The mean square of the residual in each mode of the kernel at the start: each decays alone while that stays."""
    return None if at.residual is None else _energy(at, at.initial, at.residual)


for _of_modes in (energy_of_labels, energy_of_residual, energy_of_residual_at_start):
    _of_modes.axes = ("mode",)  # type: ignore[attr-defined]


def frequencies(at: Snapshot) -> Float[np.ndarray, " k"] | None:
    """The frequency of each mode on the domain; those below the noise floor are NaN."""
    if at.setting.domain is None:
        return None
    domain, weights = at.setting.domain, np.asarray(at.spectrum.weights, np.float64)[None]
    if isinstance(domain, HarmonicDomain):
        measured = measured_by_harmonics(at.spectrum, domain, harmonic_energy(at.spectrum, domain), weights)
    else:
        measured = measured_on_graph(at.spectrum, domain, weights)
    found = np.where(np.asarray(at.spectrum.resolved), measured.frequencies, math.nan)
    return found[: at.num_modes]


frequencies.axes = ("mode",)  # type: ignore[attr-defined]


def residual_spectrum(at: Snapshot) -> Float[np.ndarray, " level"] | None:
    """The power of the residual in each level of the domain's harmonics, summed over outputs."""
    return None if at.residual is None else _levels(at, at.residual)


def output_spectrum(at: Snapshot) -> Float[np.ndarray, " level"] | None:
    """The power of the network's outputs in each level of the domain's harmonics."""
    return _levels(at, at.outputs)


for _of_levels in (residual_spectrum, output_spectrum):
    _of_levels.axes = ("level",)  # type: ignore[attr-defined]


def residual_frequency(at: Snapshot) -> float | None:
    """The frequency of the residual: the root mean square over harmonics, else by the neighbourhood graph."""
    if at.setting.domain is None or at.residual is None:
        return None
    domain = at.setting.domain
    if isinstance(domain, HarmonicDomain):
        power = _levels(at, at.residual)
        assert power is not None
        levels = domain.levels(domain.max_degree(at.num_examples))
        squares = np.asarray(domain.frequency(jnp.asarray(levels, float)), np.float64) ** 2
        return float(np.sqrt(np.sum(power * squares) / max(np.sum(power), np.finfo(float).tiny)))
    if not np.any(at.residual):
        return math.nan
    function = jnp.asarray(at.residual)[..., None]  # one mode with a value an output
    mode = Spectrum(
        eigenvalues=jnp.ones(1),
        eigenfunctions=function,
        eigenspace=jnp.zeros(1, int),
        trace=jnp.ones(()),
        residuals=jnp.zeros(1),
        noise_floor=jnp.zeros(()),
        weights=jnp.full(at.num_examples, 1 / at.num_examples),
        x=at.setting.probe,
    )
    return float(graph_frequency(mode, domain)[0])


def target_alignment(at: Snapshot) -> Float[np.ndarray, " behaviour"] | None:
    """The rate at which gradient flow would begin to learn each named target: phi^T K phi / (n phi^T phi).

    Over `trace` it is the kernel's share along the target. The one with the largest is learned first while the kernel
    stays.
    """
    if not at.setting.behaviours:
        return None
    targets = [_target(at, values) for values in at.setting.behaviours.values()]
    if any(not _fits(at, target) for target in targets):
        return None
    rates = []
    for target in targets:
        rows = target.reshape(-1, 1) if at.setting.outputs == "all" else target
        forms = at.operator.quadratic_forms(rows) if at.matrix is None else np.sum(rows * (at.matrix @ rows), 0)
        rates.append(np.sum(forms) / (at.num_examples * np.sum(rows**2)))
    return np.array(rates)


def learning_time(at: Snapshot) -> Float[np.ndarray, " behaviour"] | None:
    """The time in which the current kernel, kept, would learn each named target: that of `learning.learnability`.

    Of targets as they stand, with their mean; see there for what the time is, and for more.
    """
    if not at.setting.behaviours:
        return None
    targets = {name: _target(at, values) for name, values in at.setting.behaviours.items()}
    if any(not _fits(at, target) for target in targets.values()):
        return None
    found = learnability(at.operator, targets, modes=at.spectrum, centered=False, key=at.setting.key)
    return np.asarray(found.learning_time[0], np.float64)


def learned(at: Snapshot) -> Float[np.ndarray, " behaviour"] | None:
    """How much of each named target the outputs hold: <f, phi> / <phi, phi>, one when it is learned."""
    if not at.setting.behaviours:
        return None
    targets = [_target(at, values) for values in at.setting.behaviours.values()]
    if any(target.shape != at.outputs.shape for target in targets):
        return None
    return np.array([np.sum(at.outputs * target) / np.sum(target**2) for target in targets])


for _of_behaviours in (target_alignment, learning_time, learned):
    _of_behaviours.axes = ("behaviour",)  # type: ignore[attr-defined]


def frozen_outputs(at: Snapshot) -> Float[np.ndarray, "n o"] | None:
    """What the kernel at the first snapshot, kept, predicts on the probe for the squared error, at this step.

    Time is counted from that snapshot, at whatever step a loop of your own begins. Gradient descent step by step where
    the learning rate has been one number, which is exact for a linear model (NaN beyond the largest float, above the
    critical rate); else gradient flow up to this time. Costs at the start the kernel of all training inputs and
    outputs, and its eigendecomposition; None for other losses, without a time, and for more than 1,500 rows.
    """
    y = columns(at.setting.y, at.num_outputs)
    mean_squares = at.setting.loss is losses.mse and math.isfinite(at.time)
    if not mean_squares or y.size > DENSE_ROWS or y.shape != at.train_outputs.shape:
        return None
    start = at.initial
    num_steps, span = at.step - start.step, at.time - start.time
    spectrum, cross = start.train_kernel
    inner = at.train_outputs.shape if at.num_outputs > 1 else (len(y),)
    options: dict[str, Any] = {
        "K_test": cross,
        "f0": start.train_outputs.reshape(inner),
        "f0_test": start.outputs.reshape(at.num_examples, *inner[1:]),
    }
    if math.isclose(span, num_steps * at.learning_rate, rel_tol=1e-6):
        try:
            found = gradient_descent(spectrum, y.reshape(inner), np.array([num_steps]), at.learning_rate, **options)
        except InputError:  # it says that the outputs are beyond the largest float
            return np.full(at.outputs.shape, math.nan)
    else:
        found = gradient_flow(spectrum, y.reshape(inner), np.array([span]), **options)
    assert found.test_outputs is not None
    return np.asarray(found.test_outputs, np.float64).reshape(at.outputs.shape)


frozen_outputs.axes = ("example", "output")  # type: ignore[attr-defined]


def frozen_error(at: Snapshot) -> float | None:
    """||f_t - prediction|| / ||f_t - f_0|| on the probe, of what the frozen kernel predicts; zero at the start."""
    predicted = frozen_outputs(at)
    if predicted is None:
        return None
    moved = float(np.linalg.norm(at.outputs - at.initial.outputs))
    return float(np.linalg.norm(at.outputs - predicted)) / moved if moved else 0.0


def frozen_loss(at: Snapshot) -> float | None:
    """The loss on the probe that the frozen kernel predicts."""
    y = at.setting.probe_y
    predicted = None if y is None else frozen_outputs(at)
    return None if y is None or predicted is None else at.loss(predicted, y)


def _energy(at: Snapshot, basis: Snapshot, function: np.ndarray) -> np.ndarray:
    """The squared coefficients of a function (n, t) in the modes of a snapshot, summed over what modes do not have."""
    rows = function.reshape(-1, 1) if at.setting.outputs == "all" else function
    return np.sum((basis.modes.T @ rows / at.num_examples) ** 2, 1)


def _fits(at: Snapshot, function: np.ndarray) -> bool:
    """Whether a function has a value for each row of the kernel."""
    return at.setting.outputs != "all" or function.shape[1] == at.num_outputs


def _target(at: Snapshot, values: object) -> np.ndarray:
    return columns(values, at.num_outputs)  # type: ignore[arg-type]


def _levels(at: Snapshot, function: np.ndarray) -> np.ndarray | None:
    domain = at.setting.domain
    if not isinstance(domain, HarmonicDomain):
        return None
    weights = jnp.full(at.num_examples, 1 / at.num_examples)
    degree = domain.max_degree(at.num_examples)
    return np.asarray(domain.energy(jnp.asarray(function), at.setting.probe, weights, degree), np.float64).sum(0)


def _accuracy(found: np.ndarray, y: object) -> float | None:
    """None where targets are no classes."""
    values = np.asarray(y)
    if found.shape[1] == 1:
        values = values.reshape(-1)
        return float(np.mean(np.sign(found[:, 0]) == values)) if np.all(np.abs(values) == 1) else None
    if values.ndim == 1:
        return float(np.mean(found.argmax(1) == values)) if values.dtype.kind in "iub" else None
    classes = values.shape == found.shape and np.all(values >= 0) and np.allclose(values.sum(1), 1, atol=1e-3)
    return float(np.mean(found.argmax(1) == values.argmax(1))) if classes else None
