"""Which frequencies of their labels networks fit on images, and when.

>>> from ntkbias.studies import study_of
>>> [claim.quantity for claim in study_of("function_frequency").claims]
['fall', 'order', 'path frequencies']
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.stats
from matplotlib.axes import Axes

import ntkbias as nb
from ntkbias.studies.study import Bound, Claim, Figure, Findings, Paper, Study

__all__ = ["STUDY", "Settings"]

FITTED = 0.6  # correlation with the wave on the training inputs


@dataclasses.dataclass(frozen=True)
class Settings:
    """The images, the waves in the labels, the network and its training.

    Frequencies are in cycles per standard deviation of an image's norm. `folder` holds the files of CIFAR-10; without
    it the images are the digits.
    """

    num_train: int = 1_500
    num_test: int = 297
    frequencies: tuple[float, ...] = (0.125, 0.25, 0.5, 1.0)
    amount: float = 0.5
    width: int = 256
    depth: int = 2
    learning_rate: float = 1e-2
    batch_size: int | None = None
    num_steps: int = 200
    every: int = 10
    num_pairs: int = 100
    spacing: float = 0.25  # of samples on a path between two images
    folder: str | None = None


def network(settings: Settings) -> nb.layers.Layer:
    """The architecture: an MLP on the digits, a CNN on photographs. Change it here."""
    if settings.folder:
        return nb.nets.cnn(settings.width, settings.depth, 10, readout="pool", strides=(2, 2))
    return nb.nets.mlp(settings.width, settings.depth, 10)


def run(settings: Settings, key: Any) -> Findings:
    """Train on labels that are smoothed by waves, follow the confidence, and measure paths between images."""
    count, n = settings.num_train + settings.num_test, settings.num_train
    data: Any = nb.datasets.cifar10(settings.folder, "train", count) if settings.folder else nb.datasets.digits(count)
    x, y = jnp.asarray(data.x), np.asarray(data.y)
    net: Any = network(settings)
    start = net.init(key, x.shape[1:])
    unit = float(np.sqrt(np.sum(data.x.reshape(count, -1) ** 2, 1)).std())
    steps = np.arange(settings.every, settings.num_steps + 1, settings.every)
    options: dict[str, Any] = {
        "optimizer": optax.adam(settings.learning_rate),
        "num_steps": settings.num_steps,
        "loss": "cross_entropy",
        "batch_size": settings.batch_size,
        "key": key,
    }
    predict = jax.jit(lambda params: net.apply(params, x))
    followed = np.empty((len(settings.frequencies), len(steps), 2))  # on training and on test inputs
    for place, frequency in enumerate(settings.frequencies):
        wave = np.asarray(nb.frequency.radial_wave(x, frequency / unit))
        labels = nb.frequency.smoothed_labels(y, wave, settings.amount, 10)
        training = nb.train(net.apply, start, (x[:n], labels[:n]), at=steps.tolist(), **options)
        for row, (_, params) in zip(followed[place], (each for each in training if each[0]), strict=True):
            outputs = predict(params)
            for part, rows in enumerate((slice(n), slice(n, None))):
                row[part] = nb.frequency.wave_correlation(outputs[rows], y[rows], wave[rows])
    first = nb.scaling.first_passage(steps, followed[:, :, 0].T, FITTED)
    first = np.nan_to_num(first, nan=settings.num_steps + settings.every)  # a wave that is never fitted comes last
    end = nb.training.trained(net.apply, start, (x[:n], y[:n]), **options)
    paths = nb.frequency.interpolation_spectrum(
        lambda images: net.apply(end, images), x, y, num_pairs=settings.num_pairs, spacing=settings.spacing, key=key
    )
    within, between = paths.mean_frequency
    return {
        "frequencies": np.array(settings.frequencies),
        "steps": steps,
        "followed": followed,
        "paths": paths,
        "fall": float(np.diff(followed[:, -1, 1]).max()),
        "order": float(scipy.stats.spearmanr(settings.frequencies, first).statistic),
        "path frequencies": within / between,
    }


def draw(found: Findings, ax: Axes) -> None:
    """The correlation of the confidence with each wave, on training and on test inputs."""
    for place, frequency in enumerate(found["frequencies"]):
        for part, style in ((0, "--"), (1, "-")):
            label = f"frequency {frequency:g}" if part else None
            ax.plot(found["steps"], found["followed"][place, :, part], style, color=nb.plots.color(place), label=label)
    ax.set_xlabel("step")
    ax.set_ylabel("correlation of confidence and wave")
    ax.legend()


def draw_paths(found: Findings, ax: Axes) -> None:
    """The power of the network along paths between images."""
    paths = found["paths"]
    for name in ("within", "between"):
        ax.semilogy(np.asarray(paths.frequencies)[1:], np.asarray(getattr(paths, name))[1:], label=f"{name} classes")
    ax.set_xlabel("frequency (cycles per unit of distance)")
    ax.set_ylabel("power along paths")
    ax.legend()


STUDY = Study(
    name="function_frequency",
    papers=(
        Paper(
            "Fridovich-Keil, Gontijo-Lopes and Roelofs",
            2021,
            "Spectral Bias in Practice: The Role of Function Frequency in Generalization",
            "2110.02424",
        ),
    ),
    idea="Labels are smoothed more or less, following a wave over the images. A network that has fitted the wave is "
    "less confident where the wave is large. Networks fit slow waves first, and only slow waves carry over to new "
    "images. On paths between images, a trained network varies slowly within a class and fast between classes.",
    scales={
        "smoke": Settings(num_train=400, num_test=200, frequencies=(0.25, 1.0), width=64, num_steps=100, num_pairs=20),
        "small": Settings(),
        "paper": Settings(frequencies=(0.0625, 0.125, 0.25, 0.5, 1.0, 2.0), width=1_024, num_steps=2_000),
    },
    run=run,
    claims=(
        Claim(
            "On new images, the confidence follows a wave the less, the higher its frequency.",
            "fall",
            Bound(high=0.0),
            "largest change of the correlation from one frequency to the next",
        ),
        Claim(
            "Waves of low frequency are fitted first.",
            "order",
            Bound(low=0.9),
            "rank correlation of the frequency with the step at which the correlation on training inputs passes 0.6",
        ),
        Claim(
            "Paths within a class have lower frequencies than paths between classes.",
            "path frequencies",
            Bound(high=1.0),
            "ratio of the mean frequencies",
        ),
    ),
    figures={
        "waves": Figure("Confidence on new images (solid) and on training images (dashed) follows slow waves.", draw),
        "paths": Figure("Power of the softmax along paths between images.", draw_paths),
    },
    num_seeds=3,
)
