"""Colors, axes, legends and files, which all figures share.

>>> from ntkbias.plots import drawing
>>> drawing.color(0), drawing.label_of("mlp", "exponent -2")
('#0072B2', 'mlp: exponent -2')
"""

import contextlib
import io
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.layout_engine import PlaceHolderLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import LogFormatter
from matplotlib.transforms import ScaledTranslation

from ntkbias import files
from ntkbias.checks import require_positive
from ntkbias.comparison import Comparison
from ntkbias.errors import InputTypeError

__all__ = [
    "MARKERS",
    "NUM_COLUMNS",
    "PALETTE",
    "PANEL",
    "SIZE",
    "PlainLog",
    "axes_of",
    "by_name",
    "color",
    "compact",
    "draw_modes",
    "label_of",
    "legend",
    "new_figure",
    "panels",
    "part_of",
    "plain_numbers",
    "save",
    "svg",
]

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DPI = 150  # of a PNG file
DPI_WITHIN_SVG = 120  # of scatter plots and heat maps: thousands of vector marks would make a large file
SIZE = (7.0, 5.0)  # inches, of a figure with one panel
PANEL = (2.4, 2.1)  # inches, of each panel if there are several
NUM_COLUMNS = 4
MARKS = re.compile(r'<g(?P<clip>(?: clip-path="[^"]*")?)>(?P<marks>\s*(?:<use [^>]*/>\s*)+)</g>')
LONG_NUMBER = re.compile(r"scale\([^)]*\)|(?P<position>-?\b\d+\.\d{3,}\b(?!e))")  # scales stay: letters have theirs
MAX_NAME = 40  # characters of a kernel's name in a legend


def color(index: int) -> str:
    """The color of the kernel at this index, from 0, in a comparison. After eight kernels the colors repeat.

    >>> import ntkbias as nb
    >>> nb.plots.color(0), nb.plots.color(8) == nb.plots.color(0)
    ('#0072B2', True)
    """
    return PALETTE[index % len(PALETTE)]


def panels(num_panels: int, figure: Figure | None = None) -> np.ndarray:
    """A grid of axes with four columns and room for `num_panels` panels, on a new figure or on `figure`, resized.

    >>> import ntkbias as nb
    >>> nb.plots.panels(6).shape
    (2, 4)
    """
    require_positive("num_panels", num_panels)
    figure = new_figure() if figure is None else figure
    columns = min(NUM_COLUMNS, num_panels)
    rows = math.ceil(num_panels / columns)
    figure.set_layout_engine("constrained")
    figure.set_size_inches(PANEL[0] * columns + 0.6, PANEL[1] * rows + 0.2)
    return figure.subplots(rows, columns, squeeze=False, sharey=True)


def svg(figure: Figure) -> str:
    """The figure as SVG text. It has no date, so equal figures give equal text.

    >>> import ntkbias as nb
    >>> from matplotlib.figure import Figure
    >>> nb.plots.svg(Figure(figsize=(2, 2))).count("<svg")
    1
    """
    buffer = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "ntkbias"}), _laid_out(figure):
        figure.savefig(buffer, format="svg", dpi=DPI_WITHIN_SVG, metadata={"Date": None})
    return compact(buffer.getvalue().decode())


def compact(svg: str) -> str:
    """The SVG text with positions to a hundredth of a point, and with the style of marks on their group, not on each.

    >>> compact('<g clip-path="url(#p)"><use xlink:href="#m" x="1.23456" y="2" style="fill: #0072b2"/></g>')
    '<g clip-path="url(#p)" style="fill: #0072b2"><use xlink:href="#m" x="1.23" y="2"/></g>'
    """
    svg = MARKS.sub(_with_one_style, re.sub(r"\n +", "\n", svg))
    return LONG_NUMBER.sub(_rounded, svg)


def _rounded(found: re.Match[str]) -> str:
    return f"{float(found[0]):.2f}".rstrip("0").rstrip(".") if found["position"] else found[0]


def _with_one_style(group: re.Match[str]) -> str:
    styles = set(re.findall(r' style="([^"]*)"', group["marks"]))
    if len(styles) != 1:
        return group[0]
    return f'<g{group["clip"]} style="{styles.pop()}">' + re.sub(r' style="[^"]*"', "", group["marks"]) + "</g>"


def save(path: str | Path, figure: Figure) -> str:
    """Write `path`.svg and `path`.png (150 dots per inch), each whole or not at all; the text of the first.

    A path that ends in .svg or .png stands for both files. The figure stays open. Raises `InputError` if a file cannot
    be written, and `InputTypeError` for a path that is none, or what is no figure.

    >>> import tempfile, ntkbias as nb
    >>> from matplotlib.figure import Figure
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     text = nb.plots.save(f"{folder}/empty", Figure(figsize=(2, 2)))
    ...     print(sorted(path.name for path in Path(folder).iterdir()))
    ['empty.png', 'empty.svg']
    """
    path = files.checked_path(path)
    path = path.with_suffix("") if path.suffix in (".svg", ".png") else path
    if not isinstance(figure, Figure):
        advice = " Save its .figure." if isinstance(getattr(figure, "figure", None), Figure) else ""
        raise InputTypeError(f"Expected a figure of matplotlib to save; got {type(figure).__name__}.{advice}")
    with _laid_out(figure):
        text = svg(figure)
        files.write(path.with_name(path.name + ".svg"), lambda file: file.write(text.encode()))
        files.write(path.with_name(path.name + ".png"), lambda file: figure.savefig(file, format="png", dpi=DPI))
    return text


@contextlib.contextmanager
def _laid_out(figure: Figure) -> Iterator[None]:
    """Compute the layout once for all formats saved in the block: a layout takes as long as drawing the figure."""
    engine = figure.get_layout_engine()
    if engine is None or isinstance(engine, PlaceHolderLayoutEngine):
        yield
        return
    engine.execute(figure)
    figure.set_layout_engine("none")
    try:
        yield
    finally:
        figure.set_layout_engine(engine)


def new_figure(**options: Any) -> Figure:
    """A new pyplot figure. pyplot is imported only here: reports and figure files do not need it."""
    import matplotlib.pyplot as plt

    return plt.figure(**options)


def part_of(index: int, part: str) -> str:
    """The identifier, in an SVG file, of a part of a picture that belongs to the kernel at this index."""
    return f"kernel-{index}-{part}"


def axes_of(ax: Axes | None) -> Axes:
    """The axes to draw on, from a new figure if `ax` is None, with a grid in the background."""
    if ax is None:
        ax = new_figure(figsize=SIZE, layout="constrained").subplots()
    ax.grid(True, color="0.9", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def by_name(value: Any, single: type, field: str) -> dict[str, Any]:
    """The values of a field of a comparison, by the names of its kernels; or a single value under the name "kernel"."""
    if isinstance(value, single):
        return {"kernel": value}
    if not isinstance(value, Comparison):
        raise InputTypeError(f"Expected a Comparison or a {single.__name__}; got {type(value).__name__}.")
    return dict(zip(value.names, getattr(value, field), strict=True))


def draw_modes(ax: Axes, values: np.ndarray, index: int, name: str) -> None:
    """A line through one value per mode, with dots on the first ten: further dots would merge.

    With several runs `(r, k)`, the line is their median, and a band reaches from the lowest to the highest run.
    """
    if values.ndim == 2:
        low, high, values = values.min(0), values.max(0), np.median(values, 0)
        band = ax.fill_between(np.arange(1, len(values) + 1), low, high, color=color(index), alpha=0.25, linewidth=0)
        band.set_gid(part_of(index, "band"))
    numbers = np.arange(1, len(values) + 1)
    style: dict[str, Any] = {"linewidth": 1.4, "markersize": 2.4, "markevery": slice(10)}
    ax.plot(numbers, values, "-o", color=color(index), label=label_of(name), gid=part_of(index, "curve"), **style)


def label_of(name: str, *facts: str) -> str:
    """The text of a legend entry. It escapes $, and a space makes names with a leading underscore visible."""
    name = name if len(name) <= MAX_NAME else name[: MAX_NAME - 1] + "…"
    name = name.replace("$", r"\$")
    return ": ".join([f" {name}" if name.startswith("_") else name, *facts])


def legend(ax: Axes, *more: Line2D, title: str | None = None) -> None:
    """Add a legend below the axes, where it covers no data."""
    handles = [*ax.get_legend_handles_labels()[0], *more]
    wide = max(len(str(handle.get_label())) for handle in handles) > 45
    legend = ax.legend(
        handles=handles,
        loc="upper center",
        bbox_to_anchor=(0.5, 0),
        bbox_transform=ax.transAxes + ScaledTranslation(0, -0.5, ax.figure.dpi_scale_trans),
        ncols=1 if wide else min(2, len(handles)),
        frameon=False,
        fontsize=9,
        title=title,
        title_fontsize=9,
    )
    for handle in legend.legend_handles:
        if isinstance(handle, PathCollection):
            handle.set(alpha=1, sizes=[30])


def plain_numbers(*axes: Axis) -> None:
    """Label logarithmic axes with numbers such as 64, 2000 and 0.3, not with powers of ten."""
    for axis in axes:
        axis.set_major_formatter(PlainLog())
        axis.set_minor_formatter(PlainLog(labelOnlyBase=False, minor_thresholds=(1.5, 0.7)))


class PlainLog(LogFormatter):
    """A formatter for logarithmic axes that writes 0.1 and 20, not powers of ten."""

    def __call__(self, x, pos=None):
        """The text at a tick; empty if the axis is crowded there."""
        return super().__call__(x, pos) and f"{x:.6g}"
