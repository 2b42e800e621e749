"""Figures of eigenfunctions of images, as images: which inputs raise and lower a mode, and which pixels and classes.

>>> import jax, ntkbias as nb
>>> images = nb.datasets.digits(60)
>>> spectrum = nb.spectrum(nb.infinite_ntk(nb.nets.mlp(depth=1)), images.x)
>>> ranking = nb.rank_by_frequency(spectrum, nb.domains.Images())
>>> nb.plots.image_modes(spectrum, ranking, targets=nb.datasets.one_hot(images.y), num_modes=2).shape
(2, 4)
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ntkbias.checks import require_positive
from ntkbias.errors import InputError, InputTypeError
from ntkbias.frequency import FrequencyRanking
from ntkbias.plots.drawing import PALETTE, new_figure
from ntkbias.plots.functions import mode_title
from ntkbias.spectra import Spectrum

__all__ = ["are_images", "classes_of", "image_modes", "panels_of_images"]

ROW = 1.15  # inches of a row
MOST_CLASSES = 20  # beyond, bars are too narrow to read
WIDTHS = (3.0, 3.0, 1.0, 2.4)


def image_modes(
    spectrum: Spectrum,
    ranking: FrequencyRanking,
    *,
    targets: ArrayLike | None = None,
    num_modes: int = 5,
    num_images: int = 4,
    axes: np.ndarray | Sequence[Sequence[Axes]] | None = None,
    color: str = PALETTE[0],
) -> np.ndarray:
    """Draw the first eigenfunctions on images as images, one row per mode; return the axes.

    The columns are the `num_images` inputs with the lowest values of the mode, those with the highest, and the
    correlation of each pixel with the mode. Its square is the share of the mode's variance that this pixel explains
    alone. If `targets` `(n, t)` are one-hot columns (shifted or not), a fourth column has the mode's mean in each class
    as a bar, and its standard deviation within the class as a line. Pixels of several channels are averaged over the
    channels, and the inputs' weights count in all means. For vector-valued modes, the first output is drawn. The sign
    of an eigenfunction is arbitrary, so "lowest" and "highest" may change places.

    Raises `InputTypeError` on other values, and `InputError` if the inputs are no images `(n, height, width,
    channels)` or if there are too few axes.

    See also `eigenfunctions`, for other inputs.

    >>> import ntkbias as nb
    >>> images = nb.datasets.digits(60)
    >>> spectrum = nb.spectrum(nb.infinite_ntk(nb.nets.mlp(depth=1)), images.x)
    >>> ranking = nb.rank_by_frequency(spectrum, nb.domains.Images())
    >>> nb.plots.image_modes(spectrum, ranking, targets=nb.datasets.one_hot(images.y), num_modes=2).shape
    (2, 4)
    """
    if not (isinstance(spectrum, Spectrum) and isinstance(ranking, FrequencyRanking)):
        got = ", ".join(type(value).__name__ for value in (spectrum, ranking))
        raise InputTypeError(f"Expected a Spectrum and its FrequencyRanking; got {got}.")
    require_positive("num_modes", num_modes)
    require_positive("num_images", num_images)
    if not are_images(spectrum):
        got = "none" if spectrum.x is None else f"shape {np.shape(spectrum.x)}"
        raise InputError(
            f"Expected a spectrum on images (n, height, width, channels); got {got}. Use eigenfunctions for others."
        )
    classes = None if targets is None else classes_of(targets)
    functions = np.asarray(spectrum.eigenfunctions, float)
    num_modes = min(num_modes, len(ranking.frequencies), functions.shape[-1])
    grid = panels_of_images(num_modes, classes is not None) if axes is None else np.atleast_2d(np.asarray(axes))
    if grid.shape[0] < num_modes or grid.shape[1] < (3 if classes is None else 4):
        needed = f"{num_modes} rows of {3 if classes is None else 4} axes"
        raise InputError(f"Expected {needed}; got shape {grid.shape}. Use panels_of_images(num_modes).")
    images = np.asarray(spectrum.x, float)
    weights = np.asarray(spectrum.weights, float)
    functions = functions[..., :num_modes] if functions.ndim == 2 else functions[:, 0, :num_modes]
    shown = _as_seen(images)
    maps = _correlations(functions, images.mean(-1), weights)
    scale = max(float(np.abs(maps).max()), 1e-3)
    for mode in range(num_modes):
        row, values = grid[mode], functions[:, mode]
        order = np.argsort(values, kind="stable")
        _draw_strip(row[0], shown, values, order[:num_images])
        _draw_strip(row[1], shown, values, order[::-1][:num_images])
        row[0].set_title(mode_title(ranking, mode).replace("\n", " "), fontsize=8, loc="left")
        mesh = row[2].imshow(maps[mode], cmap="RdBu_r", vmin=-scale, vmax=scale, interpolation="nearest")
        row[2].set_axis_off()
        if classes is not None:
            _draw_classes(row[3], values, weights, classes, color, last=mode == num_modes - 1)
    for ax, head in zip(
        grid[0, :2], ("lowers it: the inputs with the lowest values", "raises it: the highest"), strict=True
    ):
        ax.annotate(head, (0.0, 1.0), (0, 20), "axes fraction", "offset points", fontsize=8, fontweight="bold")
    for ax, head in zip(grid[0, 2:], ("by pixel", "mean by class"), strict=False):
        ax.set_title(head, fontsize=8, fontweight="bold", loc="left")
    bar = row[0].figure.colorbar(mesh, ax=list(grid[:, 2]), shrink=min(1.0, 2 / num_modes), aspect=12, pad=0.05)
    bar.set_label("correlation of the\npixel with the mode", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    for ax in grid[num_modes:].flat:
        ax.set_axis_off()
    return grid


def panels_of_images(num_modes: int, classes: bool = True, figure: Figure | None = None) -> np.ndarray:
    """The axes that `image_modes` needs, on a new figure or on `figure`, resized: rows of three, or four with classes.

    Raises `InputError` unless `num_modes` is at least 1.

    >>> import ntkbias as nb
    >>> nb.plots.panels_of_images(2, classes=False).shape
    (2, 3)
    """
    require_positive("num_modes", num_modes)
    figure = new_figure() if figure is None else figure
    widths = WIDTHS[: 4 if classes else 3]
    figure.set_layout_engine("constrained")
    figure.set_size_inches(sum(widths) + 0.9, ROW * num_modes + 0.6)
    return figure.subplots(num_modes, len(widths), squeeze=False, width_ratios=widths)


def are_images(spectrum: Spectrum) -> bool:
    """Whether the inputs of a spectrum can be drawn as images: arrays of at least 2 by 2 pixels.

    >>> import ntkbias as nb
    >>> images = nb.datasets.digits(60)
    >>> spectrum = nb.spectrum(nb.infinite_ntk(nb.nets.mlp(depth=1)), images.x)
    >>> nb.plots.are_images(spectrum)
    True
    """
    shape = np.shape(spectrum.x) if spectrum.x is not None else ()
    packed = spectrum.kernel is not None and spectrum.inputs is not spectrum.x
    return len(shape) == 4 and min(shape[1:3]) > 1 and not packed


def classes_of(targets: ArrayLike) -> Int[np.ndarray, " n"] | None:
    """The class of each row of one-hot columns `(n, t)`, each of them shifted or scaled or not; None for others.

    >>> import ntkbias as nb
    >>> nb.plots.classes_of(nb.datasets.one_hot([2, 0, 1])).tolist()
    [2, 0, 1]
    """
    columns = np.asarray(targets, float)
    if columns.ndim != 2 or not 2 <= columns.shape[1] <= MOST_CLASSES:
        return None
    low, high = columns.min(0), columns.max(0)
    if not np.all(high > low):
        return None
    raised = (columns - low) / (high - low)
    hot = raised > 0.5
    exact = np.allclose(raised, hot, atol=1e-4) and np.all(hot.sum(1) == 1)
    return hot.argmax(1) if exact else None


def _as_seen(images: Float[np.ndarray, "n h w c"]) -> Float[np.ndarray, "n h w *c"]:
    """The images between 0 and 1: in color with three channels, and else as the mean over channels."""
    images = images if images.shape[-1] == 3 else images.mean(-1)
    low, high = np.quantile(images, [0.001, 0.999])
    return np.clip((images - low) / (high - low if high > low else 1.0), 0, 1)


def _correlations(
    functions: Float[np.ndarray, "n k"], pixels: Float[np.ndarray, "n h w"], weights: Float[np.ndarray, " n"]
) -> Float[np.ndarray, "k h w"]:
    """The weighted correlation of each mode with each pixel over the inputs; 0 for constant pixels."""
    functions = functions - weights @ functions
    pixels = pixels - np.tensordot(weights, pixels, 1)
    products = np.tensordot((weights[:, None] * functions).T, pixels, 1)
    spreads = np.sqrt(np.tensordot(weights, pixels**2, 1)) * np.sqrt(weights @ functions**2)[:, None, None]
    return np.where(spreads > 1e-12, products / np.where(spreads > 1e-12, spreads, 1), 0.0)


def _draw_strip(ax: Axes, images: np.ndarray, values: np.ndarray, chosen: np.ndarray) -> None:
    """These images side by side, each with its value of the mode below."""
    height, width = images.shape[1:3]
    gap = max(1, width // 12)
    strip = np.ones((height, len(chosen) * (width + gap) - gap, 4))
    strip[..., 3] = 0  # transparent between the images
    for place, index in enumerate(chosen):
        left = place * (width + gap)
        image = images[index]
        strip[:, left : left + width, :3] = image if image.ndim == 3 else image[..., None]
        strip[:, left : left + width, 3] = 1
        style: dict[str, Any] = {"ha": "center", "va": "top", "fontsize": 7}
        ax.text(left + width / 2 - 0.5, height * 1.04 - 0.5, f"{values[index]:.2g}".replace("-", "−"), **style)
    ax.imshow(strip, interpolation="nearest")
    ax.set_axis_off()


def _draw_classes(
    ax: Axes, values: np.ndarray, weights: np.ndarray, classes: np.ndarray, color: str, last: bool
) -> None:
    """The mean of a mode in each class as bars, with the standard deviation within the class as lines."""
    names = np.unique(classes)
    shares = [weights * (classes == name) for name in names]
    means = np.array([share @ values / share.sum() for share in shares])
    squares = [share @ (values - mean) ** 2 / share.sum() for share, mean in zip(shares, means, strict=True)]
    ax.axhline(0, color="0.6", linewidth=0.8)
    ax.bar(names, means, 0.7, color=color, alpha=0.75)
    ax.vlines(names, means - np.sqrt(squares), means + np.sqrt(squares), color="0.4", linewidth=0.9)
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=7)
    ax.set_xticks(names, [str(name) for name in names] if last else [""] * len(names))
    if last:
        ax.set_xlabel("class", fontsize=8)
