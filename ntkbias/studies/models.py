"""The language model that the study of behaviors is about: a user's weights, or a small stand-in at random.

>>> import jax, ntkbias as nb
>>> structure, texts = nb.language.Transformer(num_heads=2, num_key_heads=1), ["The dogs near the river"]
>>> transformer, params, words = model_of("", structure, texts, [" are", " is"], jax.random.key(0))
>>> words.encode_batch(["The river"]).tolist(), words.encode_one(" is")
([[0, 4, -1, -1, -1]], 6)
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import PRNGKeyArray

import ntkbias as nb

__all__ = ["Words", "model_of", "random_transformer"]


class Words:
    """A tokenizer for the stand-in: each word of the contexts is a token."""

    def __init__(self, texts: Sequence[str], others: Sequence[str]) -> None:
        words = dict.fromkeys(word for text in (*texts, *others) for word in text.split())
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


def model_of(
    weights: str,
    stand_in: nb.language.Transformer,
    texts: Sequence[str],
    others: Sequence[str],
    key: PRNGKeyArray,
    depth: int | None = None,
) -> Any:
    """The structure, parameters and tokenizer of the weights; without weights, of the stand-in for these texts."""
    if weights:
        return nb.language.read_gguf(weights, depth=depth)
    words = Words(texts, others)
    return stand_in, stand_in.init(key, vocabulary=len(words), width=32, hidden=64, depth=depth or 2), words


def random_transformer(params: Any, *, key: PRNGKeyArray) -> Any:
    """Random weights at the scale of each array; norms keep their values."""
    return nb.behaviors.random_weights(params, key=key, only=lambda path: "norm" not in path)
