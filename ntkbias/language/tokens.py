"""Byte-pair encoding: text as token ids, by a vocabulary and ordered merges (Sennrich et al. 2015, arXiv 1508.07909).

Bytes are written as printable characters, as in GPT-2's vocabularies. Text is split into words, numbers, signs and
spaces; a word keeps the space before it; each digit is a token of its own if the model says so.

>>> tokens = Tokenizer(["a", "b", "Ġ", "ab", "Ġab"], [("a", "b"), ("Ġ", "ab")])
>>> tokens.encode("ab abb"), tokens.decode([3, 4, 1])
([3, 4, 1], 'ab abb')
"""

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Int

from ntkbias.errors import InputError

__all__ = ["Tokenizer"]

DIGIT, NUMBER = r"\d", r" ?\d+"
PIECES = r"|'s|'t|'re|'ve|'m|'ll|'d| ?[^\W\d_]+| ?(?:[^\s\w]|_)+|\s+(?!\S)|\s+"


class Tokenizer:
    """Text as token ids and back, by the tokens of a vocabulary and its merges, the first merge first.

    >>> Tokenizer(["a", "b"], []).encode("ab")
    [0, 1]
    """

    def __init__(self, tokens: Sequence[str], merges: Iterable[tuple[str, str]], single_digits: bool = True) -> None:
        self.tokens = list(tokens)
        self._ids = {token: place for place, token in enumerate(self.tokens)}
        self._ranks = {pair: rank for rank, pair in enumerate(merges)}
        self._pattern = re.compile((DIGIT if single_digits else NUMBER) + PIECES)
        self._to_text = _printable()
        self._to_byte = {text: byte for byte, text in self._to_text.items()}

    def __len__(self) -> int:
        return len(self.tokens)

    def encode(self, text: str) -> list[int]:
        """The token ids of a text, without a token at its start or end. Raises `InputError` on unknown characters."""
        return [self._id(part) for word in self._pattern.findall(text) for part in self._merged(word)]

    def encode_one(self, text: str) -> int:
        """The id of a text that is one token, as " are". Raises `InputError` if it is more."""
        ids = self.encode(text)
        if len(ids) != 1:
            raise InputError(f"Expected a text of one token; got {len(ids)} for {text!r}.")
        return ids[0]

    def encode_batch(self, texts: Sequence[str], padding: int = -1) -> Int[np.ndarray, "n t"]:
        """The ids of several texts, `(n, t)` with t of the longest; shorter ones end in `padding`."""
        rows = [self.encode(text) for text in texts]
        length = max(map(len, rows), default=0)
        if not length or not all(rows):
            raise InputError("Expected texts of one token or more; got an empty one, or none.")
        return np.array([row + [padding] * (length - len(row)) for row in rows], np.int32)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of token ids. Bytes that are not UTF-8 become replacement characters."""
        written = "".join(self.tokens[int(place)] for place in ids)
        return bytes(self._to_byte.get(character, ord("?")) for character in written).decode("utf-8", "replace")

    def _id(self, token: str) -> int:
        if token not in self._ids:
            raise InputError(f"Expected text that the vocabulary can write; it has no token {token!r}.")
        return self._ids[token]

    def _merged(self, word: str) -> list[str]:
        parts = [self._to_text[byte] for byte in word.encode()]
        while len(parts) > 1:
            pairs = list(pairwise(parts))
            best = min(pairs, key=lambda pair: self._ranks.get(pair, len(self._ranks)))
            if best not in self._ranks:
                break
            place = pairs.index(best)
            parts[place : place + 2] = ["".join(best)]
        return parts


def _printable() -> dict[int, str]:
    """GPT-2's characters for bytes: printable ones stand for themselves, others for characters from 256 on."""
    own = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in own]
    return {byte: chr(byte) for byte in own} | {byte: chr(256 + place) for place, byte in enumerate(others)}
