"""Contexts of a language model by templates, and labelings of them, for the study of its behaviors.

Each family fills two places of a template with words of two kinds. A family has one contrast of two next words that its
feature decides, another way to say the same, and labelings of its contexts:

    feature        the kind of the first word, which decides the next word
    distractor     the kind of the second word, which does not
    xor            whether both kinds are equal
    spelling       whether the first word begins with a letter up to m
    word list      a random half of the first words
    random         random labels

>>> import numpy as np
>>> family = FAMILIES["number"]
>>> texts, labelings = contexts(family, 8, np.random.default_rng(0))
>>> texts[0].startswith("The "), len(texts), list(labelings)
(True, 8, ['feature', 'distractor', 'xor', 'spelling', 'word list', 'random'])
"""

from typing import NamedTuple

import numpy as np

__all__ = ["FAMILIES", "Family", "contexts"]


class Family(NamedTuple):
    """A template, words of two kinds for its two places, and contrasts (first, second) of next words."""

    template: str
    words: tuple[tuple[str, ...], tuple[str, ...]]  # for the first place: of the feature, and without it
    others: tuple[tuple[str, ...], tuple[str, ...]]  # for the second place
    contrast: tuple[str, str]
    paraphrase: tuple[str, str]


NOUNS = (
    *("dog", "cat", "bird", "horse", "cow", "lion", "tiger", "rabbit"),
    *("teacher", "doctor", "lawyer", "student", "car", "boat", "tree", "house"),
)
PLACES = ("river", "road", "school", "garden", "bridge", "forest", "tower", "park")
WOMEN = ("woman", "girl", "mother", "sister", "daughter", "queen", "wife", "actress", "aunt", "lady", "waitress")
MEN = ("man", "boy", "father", "brother", "son", "king", "husband", "actor", "uncle", "gentleman", "waiter")
HIGH = ("hot", "big", "tall", "fast", "rich", "strong", "loud", "bright", "heavy", "deep", "long", "wide", "thick")
LOW = ("cold", "small", "short", "slow", "poor", "weak", "quiet", "dark", "light", "shallow", "brief", "narrow", "thin")
PRAISE = ("wonderful", "excellent", "great", "beautiful", "lovely", "amazing", "delicious", "perfect", "fantastic")
BLAME = ("terrible", "awful", "horrible", "ugly", "boring", "disgusting", "poor", "dreadful", "disappointing")


def _plural(words: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{word}s" for word in words)


FAMILIES = {
    "number": Family(
        "The {0} near the {1}",
        (_plural(NOUNS), NOUNS),
        (_plural(PLACES), PLACES),
        (" are", " is"),
        (" were", " was"),
    ),
    "gender": Family(
        "The {0} told the {1} that",
        (WOMEN, MEN),
        (WOMEN, MEN),
        (" she", " he"),
        (" her", " his"),
    ),
    "antonym": Family(
        "Unlike a {1} thing, the opposite of {0} is",
        (HIGH, LOW),
        (HIGH, LOW),
        (" low", " high"),
        (" small", " large"),
    ),
    "sentiment": Family(
        "The food was {0} and the weather was {1}. The food was",
        (PRAISE, BLAME),
        (PRAISE, BLAME),
        (" good", " bad"),
        (" great", " terrible"),
    ),
}


def contexts(family: Family, number: int, rng: np.random.Generator) -> tuple[list[str], dict[str, np.ndarray]]:
    """Texts by the family's template, as many of each of four kinds as possible, and their labelings, True or False."""
    kinds = rng.permutation(np.arange(number) % 4)
    feature, distractor = kinds % 2 == 1, kinds // 2 == 1
    texts, firsts = [], []
    for own, other in zip(feature, distractor, strict=True):
        first, second = (
            str(rng.choice(words[0 if flag else 1])) for words, flag in ((family.words, own), (family.others, other))
        )
        firsts.append(first)
        texts.append(family.template.format(first, second))
    names = sorted({*family.words[0], *family.words[1]})
    listed = set(rng.permutation(names)[: len(names) // 2].tolist())
    labelings = {
        "feature": feature,
        "distractor": distractor,
        "xor": feature == distractor,
        "spelling": np.array([first[0] <= "m" for first in firsts]),
        "word list": np.array([first in listed for first in firsts]),
        "random": rng.permutation(np.arange(number) % 2 == 1),
    }
    return texts, labelings
