"""Ease by layer and by kind of parameter, for the study of a language model's behaviors.

>>> import numpy as np
>>> grams = {"['model']['layers'][0]['query']": np.eye(2), "['model']['table']": np.ones((2, 2))}
>>> sorted(grouped(grams, layer_of)), sorted(grouped(grams, kind_of))
(['layer 1', 'no layer'], ['query', 'table'])
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Array
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

import ntkbias as nb
from ntkbias.studies.study import Findings

__all__ = [
    "DARK",
    "draw_kinds_of_parameters",
    "draw_layers",
    "ease_of_parts",
    "grouped",
    "kind_of",
    "layer_of",
    "parts_of",
]

NO_LAYER = "no layer"
DARK = 0.8  # log10 of ease beyond which a cell's color needs white numbers


def layer_of(path: str) -> str:
    """The layer of a parameter, counted from 1; the table and the last norm belong to none."""
    found = re.search(r"\['layers'\]\[(\d+)\]", path)
    return f"layer {int(found[1]) + 1}" if found else NO_LAYER


def kind_of(path: str) -> str:
    """The kind of a parameter: "query", "down", "table" and so on. All norms are one kind."""
    name = path.rsplit("['", 1)[1].removesuffix("']")
    return "norms" if name.endswith("norm") else name


def grouped(grams: Mapping[str, Any], group_of: Callable[[str], str]) -> dict[str, Any]:
    """The sums of the Gram matrices of parameters of one group, by the group's name, in the order of the paths."""
    found: dict[str, Any] = {}
    for path, gram in grams.items():
        name = group_of(path)
        found[name] = found[name] + gram if name in found else gram
    return found


def parts_of(transformer: Any, params: Any, tokens: np.ndarray, pair: list[int]) -> dict[str, Array]:
    """The kernel `(n, n)` of one contrast of next tokens by each array of each layer, by path, in one pass."""
    variables = {"model": transformer.by_layer(params), "pairs": np.array([pair])}
    parts = nb.empirical_ntk_by_layer(transformer.preferences, variables, outputs="each", wrt="['model']")
    return {path: grams[0] for path, grams in parts(tokens).items()}


def ease_of_parts(grams: Mapping[str, Array], labeling: np.ndarray, **options: Any) -> dict[str, dict[str, Any]]:
    """The ease of a labeling by layer and by kind, and the share of each in the centered kernel's trace.

    Each of "layers" and "kinds" has "names", "ease" `(g, 3)`, a value with the ends of its 95 % interval, and "share"
    `(g,)`. Ease weighted with these shares has the ease of the whole kernel as its sum.
    """
    found = {}
    for title, group_of in (("layers", layer_of), ("kinds", kind_of)):
        groups = grouped(grams, group_of)
        result = nb.behaviors.ease(groups, labeling, **options)
        each = [result[name, "labeling"].ease for name in groups]
        traces = np.array([np.trace(gram) - np.mean(gram) * len(gram) for gram in groups.values()], float)
        found[title] = {
            "names": list(groups),
            "ease": np.array([(one.value, one.low, one.high) for one in each]),
            "share": traces / traces.sum(),
        }
    return found


def draw_layers(found: Findings, ax: Axes) -> None:
    """The ease of each family's feature by layer, with 95 % intervals, and dotted the whole kernel's."""
    for place, (family, parts) in enumerate(found["parts"].items()):
        names, values, color = parts["layers"]["names"], parts["layers"]["ease"], nb.plots.color(place)
        rows = [row for row, name in enumerate(names) if name != NO_LAYER]
        depths = np.arange(1, len(rows) + 1)
        ax.plot(depths, values[rows, 0], "o-", ms=3, color=color, label=family)
        ax.fill_between(depths, values[rows, 1], values[rows, 2], color=color, alpha=0.15, lw=0)
        ax.axhline(found["eases"][place, 0, 0], color=color, ls=":", lw=1)
    ax.axhline(1, color="0.6", lw=0.8)
    ax.set_yscale("log")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("layer")
    ax.set_ylabel("ease of the feature")
    ax.legend(fontsize=6)


def draw_kinds_of_parameters(found: Findings, ax: Axes) -> None:
    """The ease of each family's feature by kind of parameter, and below it the kind's share of the trace."""
    parts = list(found["parts"].values())
    names = parts[0]["kinds"]["names"]
    values = np.array([[one["kinds"]["ease"][one["kinds"]["names"].index(name), 0] for name in names] for one in parts])
    shares = np.array([[one["kinds"]["share"][one["kinds"]["names"].index(name)] for name in names] for one in parts])
    picture = ax.imshow(np.log10(np.maximum(values, 0.01)), aspect="auto", cmap="RdBu_r", vmin=-1.5, vmax=1.5)
    for (row, column), value in np.ndenumerate(values):
        text = f"{value:.1f}\n{shares[row, column]:.0%}"
        dark = abs(np.log10(max(value, 0.01))) > DARK
        ax.text(column, row, text, ha="center", va="center", fontsize=6, color="w" if dark else "k")
    ax.set_xticks(range(len(names)), names, rotation=30, ha="right")
    ax.set_yticks(range(len(parts)), list(found["parts"]))
    ax.figure.colorbar(picture, ax=ax, label="log10 of ease")
