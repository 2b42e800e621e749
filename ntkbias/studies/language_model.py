"""Which behaviors a pretrained language model learns readily, by its tangent kernel.

>>> from ntkbias.studies import study_of
>>> [claim.quantity for claim in study_of("language_model").claims][:2]
['matched ease', 'beyond random labelings']
"""

import dataclasses
from typing import Any

import jax
import numpy as np
from jaxtyping import Array
from matplotlib.axes import Axes

import ntkbias as nb
from ntkbias.progress import phase, progress
from ntkbias.studies.contexts import FAMILIES, contexts
from ntkbias.studies.models import model_of, random_transformer
from ntkbias.studies.parts import DARK, draw_kinds_of_parameters, draw_layers, ease_of_parts, parts_of
from ntkbias.studies.study import Bound, Claim, Figure, Findings, Paper, Study
from ntkbias.studies.tuning import draw_tuning, tuned

__all__ = ["STUDY", "Settings"]


@dataclasses.dataclass(frozen=True)
class Settings:
    """The folder of the weights, contexts per family, nulls, layers that are kept, and the fine-tuning.

    At smoke scale without `weights`, a small transformer with random weights stands in. Nulls have the first
    `num_null_contexts` contexts, fine-tuning the first `num_tuned_contexts`, of which half are held out.
    """

    weights: str = ""
    num_contexts: int = 64
    num_null_networks: int = 3
    num_null_contexts: int = 16
    num_labelings: int = 1_000
    depth: int | None = None
    tuned_labelings: tuple[str, ...] = ("feature", "random")
    num_tuned_contexts: int = 24
    num_steps: int = 8


def network() -> nb.language.Transformer:
    """The architecture of the stand-in. Weights from a file have their own."""
    return nb.language.Transformer(num_heads=4, num_key_heads=2)


def run(settings: Settings, key: Any) -> Findings:
    """Ease of all labelings under all contrasts and of features under nulls, alignments, accuracies, fine-tuning."""
    model_key, data_key, null_key, random_key = jax.random.split(key, 4)
    rng = np.random.default_rng(np.asarray(jax.random.key_data(data_key)).tolist())
    drawn = {name: contexts(family, settings.num_contexts, rng) for name, family in FAMILIES.items()}
    transformer, params, tokenizer = model_of(
        settings.weights,
        network(),
        [text for texts, _ in drawn.values() for text in texts],
        [word for family in FAMILIES.values() for word in (*family.contrast, *family.paraphrase)],
        model_key,
        settings.depth,
    )
    ids = {name: [tokenizer.encode_one(word) for word in family.contrast] for name, family in FAMILIES.items()}
    also = {name: [tokenizer.encode_one(word) for word in family.paraphrase] for name, family in FAMILIES.items()}
    options: dict[str, Any] = {"num_labelings": settings.num_labelings, "key": random_key}
    main = "pretrained" if settings.weights else "stand-in"
    grid, names, found, parts, shuffled, accuracies = [], [], {}, {}, [], []
    aligned: dict[str, list[float]] = {"same": [], "unrelated": []}
    batches = {name: tokenizer.encode_batch(texts) for name, (texts, _) in drawn.items()}
    phase("kernels of the model")
    for name in progress(list(drawn), "families"):
        tokens, labelings = batches[name], drawn[name][1]
        contrasts = [name, *(other for other in FAMILIES if other != name)]
        pairs = [ids[each] for each in contrasts] + [also[name]]
        grams = np.asarray(kernels_of(transformer, params, tokens, pairs))
        result = nb.behaviors.ease(dict(zip(contrasts, grams, strict=False)), labelings, **options)
        grid += [*np.asarray(result.ease)]
        names += [f"{name}: {' /'.join(FAMILIES[each].contrast).strip()}" for each in contrasts]
        aligned["same"].append(float(nb.alignment(grams[0], grams[-1])))
        aligned["unrelated"] += [float(nb.alignment(grams[0], gram)) for gram in grams[1:-1]]
        linear = {
            "last hidden state": nb.empirical_nngp(transformer.last_hidden, params)(tokens),
            "embeddings": nb.empirical_nngp(transformer.mean_embedding, params)(tokens),
        }
        others = nb.behaviors.ease(linear, {"feature": labelings["feature"]}, **options)
        found[name] = {main: result[name, "feature"]} | {kind: others[kind, "feature"] for kind in linear}
        grams_of_parts = parts_of(transformer, params, tokens, ids[name])
        parts[name] = ease_of_parts(grams_of_parts, labelings["feature"], **options)
        right = nb.behaviors.held_out_accuracy(grams[0], labelings, key=random_key)
        accuracies.append([(one.value, one.low, one.high) for one in (right[labeling] for labeling in labelings)])
        errors = np.abs(np.asarray(result.null_mean) - 1) / np.asarray(result.null_error)
        shuffled.append(float(errors[0, 0]))
    # One null network at a time: its weights take as much memory as the model's.
    nulls = [
        (f"{kind} {place}", change, one)
        for kind, change in (("random", random_transformer), ("permuted", nb.behaviors.permuted_weights))
        for place, one in enumerate(jax.random.split(null_key, settings.num_null_networks))
    ]
    phase("kernels of null networks")
    first = slice(settings.num_null_contexts)
    for kind, change, one in progress(nulls, "null networks"):
        weights = change(params, key=one)
        for name, tokens in batches.items():
            gram = kernels_of(transformer, weights, tokens[first], [ids[name]])[0]
            found[name][kind] = nb.behaviors.ease(gram, drawn[name][1]["feature"][first], **options)["labeling"]
        del weights
    phase("fine-tuning")
    part = slice(settings.num_tuned_contexts)
    behaviors = {
        f"{name}, {labeling}": (tokens[part], drawn[name][1][labeling][part], ids[name])
        for name, tokens in batches.items()
        for labeling in settings.tuned_labelings
    }
    eases = np.array(grid).reshape(len(FAMILIES), len(FAMILIES), -1)  # family, contrast (matched one first), labeling
    matched = eases[:, 0, 0]
    values = {kind: np.array([each[kind].ease.value for each in found.values()]) for kind in found["number"]}
    best_linear = np.maximum(values["last hidden state"], values["embeddings"])
    within = [
        each[kind].quantiles[0] <= each[kind].ease.value <= each[kind].quantiles[2]
        for each in found.values()
        for kind, _, _ in nulls
    ]
    return {
        "eases": eases,
        "rows": names,
        "columns": list(next(iter(drawn.values()))[1]),
        "families": list(FAMILIES),
        "by kind": values,
        "parts": parts,
        "null range": np.array([[each[main].quantiles[0], each[main].quantiles[2]] for each in found.values()]),
        "matched ease": float(matched.min()),
        "beyond random labelings": float(
            np.mean([each[main].ease.value > each[main].quantiles[-1] for each in found.values()])
        ),
        "error of random labelings": max(shuffled),
        "unmatched share": float((eases[:, 1:, 0].max(1) / matched).max()),
        "null networks within": float(np.mean(within)),
        "over linear kernels": float((matched / best_linear).min()),
        "alignment of paraphrases": min(aligned["same"]),
        "alignment of others": max(aligned["unrelated"]),
        "accuracies": np.array(accuracies),  # families, labelings, (value, low, high)
        "held-out accuracy": float(np.array(accuracies)[:, 0, 1].min()),
        "xor over parts": float((eases[:, 0, 2] / eases[:, 0, :2].min(1)).max()),
        **tuned(transformer, params, behaviors, settings.num_steps),
    }


def kernels_of(transformer: Any, params: Any, tokens: np.ndarray, pairs: list[list[int]]) -> Array:
    """The kernels `(k, n, n)` of k contrasts of next tokens, in one pass over the contexts."""
    variables = {"model": params, "pairs": np.array(pairs)}
    return nb.empirical_ntk(transformer.preferences, variables, outputs="each", wrt="['model']")(tokens)


def draw_map(found: Findings, ax: Axes) -> None:
    """Ease as a heat map: contrasts by labelings, the matched contrast of each family first."""
    grid = found["eases"].reshape(len(found["rows"]), -1)
    picture = ax.imshow(np.log10(np.maximum(grid, 0.01)), aspect="auto", cmap="RdBu_r", vmin=-1.5, vmax=1.5)
    ax.set_xticks(range(len(found["columns"])), found["columns"], rotation=30, ha="right")
    ax.set_yticks(range(len(found["rows"])), found["rows"], fontsize=6)
    for row, values in enumerate(grid):
        for column, value in enumerate(values):
            dark = abs(np.log10(max(value, 0.01))) > DARK
            ax.text(column, row, f"{value:.1f}", ha="center", va="center", fontsize=5, color="w" if dark else "k")
    ax.set_ylabel("contexts: contrast")
    ax.figure.colorbar(picture, ax=ax, label="log10 of ease")


def draw_kinds(found: Findings, ax: Axes) -> None:
    """The ease of each family's feature under its contrast: pretrained, null networks and linear kernels."""
    for place, (low, high) in enumerate(found["null range"]):
        ax.fill_between(
            [place - 0.4, place + 0.4], low, high, color="0.85", label=None if place else "random labels, 99 %"
        )
    colors = {kind: nb.plots.color(place) for place, kind in enumerate(dict.fromkeys(map(_kind, found["by kind"])))}
    for kind, values in found["by kind"].items():
        label = _kind(kind) if kind == _kind(kind) or kind.endswith(" 0") else None
        marker = "o" if kind in ("pretrained", "stand-in") else "x"
        ax.plot(range(len(values)), values, marker, color=colors[_kind(kind)], label=label)
    ax.set_xticks(range(len(found["families"])), found["families"])
    ax.set_yscale("log")
    ax.set_ylabel("ease of the feature")
    ax.legend(fontsize=6)


def _kind(name: str) -> str:
    """A network's kind: its name without the number of its draw."""
    return name.rstrip(" 0123456789")


def draw_accuracies(found: Findings, ax: Axes) -> None:
    """The held-out accuracy of the kernel machine by family and labeling, each with its 95 % interval."""
    picture = ax.imshow(found["accuracies"][..., 0], aspect="auto", cmap="RdBu_r", vmin=0, vmax=1)
    for row, cells in enumerate(found["accuracies"]):
        for column, (value, low, high) in enumerate(cells):
            text = f"{value:.2f}\n{low:.2f} to {high:.2f}"
            ax.text(
                column, row, text, ha="center", va="center", fontsize=6, color="w" if abs(value - 0.5) > 0.3 else "k"
            )
    ax.set_xticks(range(len(found["columns"])), found["columns"], rotation=30, ha="right")
    ax.set_yticks(range(len(found["families"])), found["families"])
    ax.set_ylabel("contexts, under their own contrast")
    ax.figure.colorbar(picture, ax=ax, label="accuracy")


STUDY = Study(
    name="language_model",
    papers=(
        Paper("Baratin et al.", 2020, "Implicit Regularization via Neural Feature Alignment", "2008.00938"),
        Paper("Malladi et al.", 2023, "A Kernel-Based View of Language Model Fine-Tuning", "2210.05643"),
    ),
    origin="claims of this package",
    idea="A behavior of a language model is a labeling of contexts that decides between two next words. The kernel of "
    "the difference of two logits says how readily fine-tuning would teach it. The kernel of a pretrained model "
    "should favor what the model already represents, and that of random weights should not. These claims are this "
    "package's own: the papers have the kernel's alignment with what is learned, and kernels of language models. "
    "At smoke scale, a transformer with random weights stands in, for which claims about features must fail.",
    scales={
        "smoke": Settings(
            num_contexts=16,
            num_null_networks=1,
            num_null_contexts=16,
            num_labelings=200,
            tuned_labelings=("feature",),
            num_tuned_contexts=16,
            num_steps=4,
        ),
        "small": Settings(),
        "paper": Settings(num_contexts=128, num_null_contexts=128, num_tuned_contexts=64, num_steps=20),
    },
    run=run,
    claims=(
        Claim(
            "A contrast that fits a feature makes it easy to learn.",
            "matched ease",
            Bound(low=10.0),
            "the least over families; 1 is chance",
        ),
        Claim(
            "No more than one random labeling in 1,000 is as easy.",
            "beyond random labelings",
            Bound(low=1.0),
            "share of families",
        ),
        Claim(
            "Random labelings have a mean ease of 1.",
            "error of random labelings",
            Bound(high=3.0),
            "in standard errors, the largest over families",
        ),
        Claim(
            "A contrast of another family makes the same feature at most a third as easy.",
            "unmatched share",
            Bound(high=1 / 3),
            "the largest over families and contrasts",
        ),
        Claim(
            "Under random and permuted weights the feature is as easy as random labels.",
            "null networks within",
            Bound(low=1.0),
            "share within their central 99 %",
        ),
        Claim(
            "The kernel makes features three times as easy as linear kernels of states and embeddings.",
            "over linear kernels",
            Bound(low=3.0),
            "the least over families",
        ),
        Claim(
            "Two contrasts of one meaning have one kernel.",
            "alignment of paraphrases",
            Bound(low=0.9),
            "the least over families",
        ),
        Claim("Unrelated contrasts do not.", "alignment of others", Bound(high=0.7), "the largest over pairs"),
        Claim(
            "The exclusive or of two features is harder than each of them.",
            "xor over parts",
            Bound(high=1.0),
            "its ease over that of the harder part, the largest over families",
        ),
        Claim(
            "A machine with the matched kernel tells the feature of held-out contexts.",
            "held-out accuracy",
            Bound(low=0.5),
            "lower end of the accuracy's 95 % interval, the least over families",
        ),
        Claim(
            "The kernel predicts which behaviors fine-tuning teaches best.",
            "order of losses",
            Bound(low=0.9),
            "rank correlation of predicted and measured loss over behaviors",
        ),
        Claim(
            "It predicts the outputs on held-out contexts.",
            "held-out outputs",
            Bound(low=0.9),
            "correlation with measured ones, the least over behaviors",
        ),
        Claim(
            "It predicts how they change.",
            "held-out changes",
            Bound(low=0.9),
            "correlation of predicted and measured changes, the least over behaviors",
        ),
    ),
    figures={
        "ease": Figure("Ease of labelings (columns) under contrasts of next words (rows). 1 is chance.", draw_map),
        "kinds": Figure(
            "Ease of each family's feature: pretrained, with null weights, and by linear kernels.", draw_kinds
        ),
        "layers": Figure(
            "Ease of each family's feature by layer, with 95 % intervals. Dotted: by all parameters.", draw_layers
        ),
        "parameters": Figure(
            "Ease of each family's feature by kind of parameter, and the kind's share of the kernel's centered trace.",
            draw_kinds_of_parameters,
        ),
        "accuracies": Figure(
            "Accuracy of the kernel machine on the half of the contexts that it has not learned, with 95 % intervals.",
            draw_accuracies,
        ),
        "tuning": Figure("Losses after fine-tuning, measured against predicted, of each behavior.", draw_tuning),
    },
    cost="with weights of 135 million parameters, half an hour on two cores and 6 GB at small scale",
    needs="weights",
)
