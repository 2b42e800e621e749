"""Which behaviors a pretrained language model learns readily, by its tangent kernel.

>>> from ntkbias.studies import study_of
>>> [claim.quantity for claim in study_of("language_model").claims][:2]
['matched ease', 'beyond random labelings']
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Array
from matplotlib.axes import Axes

import ntkbias as nb
from ntkbias.studies.contexts import FAMILIES, contexts
from ntkbias.studies.study import Bound, Claim, Figure, Findings, Paper, Study

__all__ = ["STUDY", "Settings"]


@dataclasses.dataclass(frozen=True)
class Settings:
    """The folder of the weights, contexts per family, networks per null, random labelings, and layers that are kept.

    At smoke scale without `weights`, a small transformer with random weights stands in.
    """

    weights: str = ""
    num_contexts: int = 64
    num_null_networks: int = 1
    num_labelings: int = 1_000
    depth: int | None = None


class Words:
    """A tokenizer for the stand-in: each word of the contexts is a token."""

    def __init__(self, texts: Sequence[str]) -> None:
        words = dict.fromkeys(word for text in texts for word in text.split())
        self._ids = {word: place for place, word in enumerate(words)}
        self._length = max(len(text.split()) for text in texts)

    def __len__(self) -> int:
        return len(self._ids)

    def encode_one(self, text: str) -> int:
        """The id of a word."""
        return self._ids[text.strip()]

    def encode_batch(self, texts: Sequence[str]) -> np.ndarray:
        """The ids of texts, filled up with -1 to one length for all families, so that they share programs."""
        rows = [[self._ids[word] for word in text.split()] for text in texts]
        return np.array([row + [-1] * (self._length - len(row)) for row in rows], np.int32)


def network() -> nb.language.Transformer:
    """The architecture of the stand-in. Weights from a file have their own."""
    return nb.language.Transformer(num_heads=4, num_key_heads=2)


def model_of(settings: Settings, texts: list[str], key: Any) -> Any:
    """The structure, parameters and tokenizer of the weights, or of the stand-in."""
    if settings.weights:
        return nb.language.read_gguf(settings.weights, depth=settings.depth)
    words = Words([*texts, *(word for family in FAMILIES.values() for word in (*family.contrast, *family.paraphrase))])
    transformer = network()
    params = transformer.init(key, vocabulary=len(words), width=32, hidden=64, depth=settings.depth or 2)
    return transformer, params, words


def run(settings: Settings, key: Any) -> Findings:
    """Ease of every labeling under every contrast, of features under null networks, and alignments of contrasts."""
    model_key, data_key, null_key, random_key = jax.random.split(key, 4)
    rng = np.random.default_rng(np.asarray(jax.random.key_data(data_key)).tolist())
    drawn = {name: contexts(family, settings.num_contexts, rng) for name, family in FAMILIES.items()}
    transformer, params, tokenizer = model_of(
        settings, [text for texts, _ in drawn.values() for text in texts], model_key
    )
    ids = {name: [tokenizer.encode_one(word) for word in family.contrast] for name, family in FAMILIES.items()}
    also = {name: [tokenizer.encode_one(word) for word in family.paraphrase] for name, family in FAMILIES.items()}
    options: dict[str, Any] = {"num_labelings": settings.num_labelings, "key": random_key}
    nulls = {
        f"{kind} {place}": change(params, key=one)
        for kind, change in (("random", random_transformer), ("permuted", nb.behaviors.permuted_weights))
        for place, one in enumerate(jax.random.split(null_key, settings.num_null_networks))
    }

    main = "pretrained" if settings.weights else "stand-in"
    grid, names, found, shuffled = [], [], {}, []
    aligned: dict[str, list[float]] = {"same": [], "unrelated": []}
    for name, (texts, labelings) in drawn.items():
        tokens = tokenizer.encode_batch(texts)
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
        own = {"feature": labelings["feature"]}
        others = linear | {
            kind: kernels_of(transformer, weights, tokens, pairs[:1])[0] for kind, weights in nulls.items()
        }
        null = nb.behaviors.ease(others, own, **options)
        found[name] = {main: result[name, "feature"]} | {kind: null[kind, "feature"] for kind in others}
        errors = np.abs(np.asarray(result.null_mean) - 1) / np.asarray(result.null_error)
        shuffled.append(float(errors[0, 0]))
    eases = np.array(grid).reshape(
        len(FAMILIES), len(FAMILIES), -1
    )  # family, contrast (the matched one first), labeling
    matched = eases[:, 0, 0]
    values = {kind: np.array([each[kind].ease.value for each in found.values()]) for kind in found["number"]}
    best_linear = np.maximum(values["last hidden state"], values["embeddings"])
    within = [
        each[kind].quantiles[0] <= each[kind].ease.value <= each[kind].quantiles[2]
        for each in found.values()
        for kind in nulls
    ]
    return {
        "eases": eases,
        "rows": names,
        "columns": list(next(iter(drawn.values()))[1]),
        "families": list(FAMILIES),
        "by kind": values,
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
        "xor over parts": float((eases[:, 0, 2] / eases[:, 0, :2].min(1)).max()),
    }


def random_transformer(params: Any, *, key: Any) -> Any:
    """Random weights at the scale of each array; norms keep their values."""
    return nb.behaviors.random_weights(params, key=key, only=lambda path: "norm" not in path)


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
            ax.text(column, row, f"{value:.1f}", ha="center", va="center", fontsize=5)
    ax.set_ylabel("contexts: contrast")
    ax.figure.colorbar(picture, ax=ax, label="log10 of ease")


def draw_kinds(found: Findings, ax: Axes) -> None:
    """The ease of each family's feature under its contrast: pretrained, null networks and linear kernels."""
    for place, (low, high) in enumerate(found["null range"]):
        ax.fill_between(
            [place - 0.4, place + 0.4], low, high, color="0.85", label=None if place else "random labels, 99 %"
        )
    for kind, values in found["by kind"].items():
        ax.plot(range(len(values)), values, "o" if kind in ("pretrained", "stand-in") else "x", label=kind)
    ax.set_xticks(range(len(found["families"])), found["families"])
    ax.set_yscale("log")
    ax.set_ylabel("ease of the feature")
    ax.legend(fontsize=6)


STUDY = Study(
    name="language_model",
    papers=(
        Paper("Baratin et al.", 2020, "Implicit Regularization via Neural Feature Alignment", "2008.00938"),
        Paper("Malladi et al.", 2023, "A Kernel-Based View of Language Model Fine-Tuning", "2210.05643"),
    ),
    idea="A behavior of a language model is a labeling of contexts that decides between two next words. The kernel of "
    "the difference of two logits says how readily fine-tuning would teach it. The kernel of a pretrained model "
    "should favor what the model already represents, and that of random weights should not. These claims are this "
    "package's own: the papers have the kernel's alignment with what is learned, and kernels of language models. "
    "At smoke scale, a transformer with random weights stands in, for which claims about features must fail.",
    scales={
        "smoke": Settings(num_contexts=16, num_labelings=200),
        "small": Settings(num_contexts=64),
        "paper": Settings(num_contexts=128, num_null_networks=3),
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
    ),
    figures={
        "ease": Figure("Ease of labelings (columns) under contrasts of next words (rows). 1 is chance.", draw_map),
        "kinds": Figure(
            "Ease of each family's feature: pretrained, with null weights, and by linear kernels.", draw_kinds
        ),
    },
    cost="with weights of 135 million parameters, hours on two cores and 8 GB",
    needs="weights",
)
