"""Contrasts: what a language model prefers to say, as functions f(params, tokens) that every kernel accepts.

    contrast                logit_a - logit_b of two tokens at one position
    continuation_contrast   log p(continuation a | context) - log p(continuation b | context)

The kernel of a contrast says which labelings of contexts the model learns readily when it is trained to say a or b.
`logits(params, tokens)` maps token ids `(n, t)` to logits `(n, t, v)` at all positions, or `(n, v)` at the last one.

>>> import jax.numpy as jnp, ntkbias as nb
>>> logits = lambda params, tokens: params["table"][tokens].cumsum(1) @ params["table"].T
>>> f = nb.behaviors.contrast(logits, 3, 1)
>>> kernel = nb.empirical_ntk(f, {"table": jnp.ones((5, 2))})
>>> kernel(jnp.array([[0, 3], [2, 4]])).tolist()
[[16.0, 16.0], [16.0, 16.0]]
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ntkbias.checks import are_known, require_whole_numbers
from ntkbias.compilation import Function
from ntkbias.errors import InputError, InputTypeError
from ntkbias.function import output_shape
from ntkbias.packing import are_several
from ntkbias.types import Params
from ntkbias.wrappers import Wrapper

__all__ = ["ContinuationContrast", "Contrast", "continuation_contrast", "contrast"]

PADDING = -1  # the id that fills contexts up, after the last token; any id below zero counts as padding


@dataclasses.dataclass(frozen=True)
class Contrast(Wrapper):
    """Differences of two logits as a function of (params, tokens); made by `contrast`.

    >>> import jax.numpy as jnp
    >>> Contrast(lambda params, x: params[x], (1,), (0,), None)(jnp.eye(3), jnp.array([[1, 2]])).tolist()
    [[0.0]]
    """

    saved_as: ClassVar[str] = "behaviors.contrast"

    f: Callable[[Params, Array], Array]
    first: tuple[int, ...]
    second: tuple[int, ...]
    position: int | None  # None: logits are those of one position

    def __call__(self, params: Params, x: Any) -> Float[Array, "n k"]:
        """The differences `(n, k)` of k pairs of tokens on contexts `(n, t)`."""
        found = self.f(params, x)
        logits = _of_position(found, self.position)
        for place in (*self.first, *self.second):
            if not 0 <= place < logits.shape[-1]:
                raise InputError(f"Expected tokens from 0 to {logits.shape[-1] - 1} for a contrast; got {place}.")
        self._check(found.shape, x)
        # By a product: its derivative is one, and the kernel sees that all contexts share it.
        pairs = np.zeros((logits.shape[-1], len(self.first)))
        pairs[list(self.first), np.arange(len(self.first))] = 1
        pairs[list(self.second), np.arange(len(self.first))] = -1
        return logits @ jnp.asarray(pairs, logits.dtype)

    def check_inputs(self, params: Params, x: Any) -> None:
        """Raise an `InputError` on ids beyond the vocabulary, and if the position that is read is padding."""
        self._check(output_shape(Function.of(self.f), params, jnp.asarray(x)), x)

    def _check(self, shape: tuple[int, ...], x: Any) -> None:
        ids = _known_ids(x, shape[-1])
        if ids is None or len(shape) != 3 or shape[1] != ids.shape[1]:
            return
        place = -1 if self.position is None else self.position
        if -ids.shape[1] <= place < ids.shape[1] and np.any(ids[:, place] < 0):
            raise InputError(
                f"Expected a token at position {place} of all contexts; got padding in {np.sum(ids[:, place] < 0)} of "
                f"{len(ids)}. Give logits of each context's last token, as Transformer.last_logits does."
            )


@dataclasses.dataclass(frozen=True)
class ContinuationContrast(Wrapper):
    """The difference of the log-likelihoods of two continuations; made by `continuation_contrast`.

    >>> import jax.numpy as jnp
    >>> uniform = lambda params, x: params[x] @ params.T
    >>> ContinuationContrast(uniform, (1,), (0, 2))(jnp.zeros((4, 2)), jnp.array([[1, 2]])).round(3).tolist()
    [1.386]
    """

    saved_as: ClassVar[str] = "behaviors.continuation_contrast"

    f: Callable[[Params, Array], Array]
    first: tuple[int, ...]
    second: tuple[int, ...]

    def __call__(self, params: Params, x: Any) -> Float[Array, " n"]:
        """The differences `(n,)` on contexts `(n, t)`. Costs two passes, over t and as many tokens as continue."""
        return self._likelihood(params, x, self.first) - self._likelihood(params, x, self.second)

    def check_inputs(self, params: Params, x: Any) -> None:
        """Raise an `InputError` on ids, or tokens of the continuations, beyond the vocabulary."""
        self._check(output_shape(Function.of(self.f), params, jnp.asarray(x))[-1], x)

    def _check(self, vocabulary: int, x: Any) -> None:
        _known_ids(x, vocabulary)
        for token in (*self.first, *self.second):
            if token >= vocabulary:
                raise InputError(f"Expected tokens from 0 to {vocabulary - 1} for a continuation; got {token}.")

    def _likelihood(self, params: Params, x: Array, tokens: tuple[int, ...]) -> Array:
        x = jnp.asarray(x)
        # The continuation follows each context's last token; padding, which is negative, comes after it.
        ends, more = jnp.sum(x >= 0, 1)[:, None], len(tokens) - 1
        place = jnp.arange(x.shape[1] + more) - ends
        said = jnp.asarray(tokens, x.dtype)[jnp.clip(place, 0, more)]
        longer = jnp.concatenate([x, jnp.full((len(x), more), PADDING, x.dtype)], 1)
        logits = self.f(params, jnp.where((place >= 0) & (place < more), said, longer))
        if logits.ndim != 3:
            raise InputError(
                "Expected logits at all positions, (n, t, v), for continuations; got shape "
                f"{logits.shape}. For one token use contrast."
            )
        self._check(logits.shape[-1], x)
        logs = jax.nn.log_softmax(logits)
        each = [jnp.take_along_axis(logs[..., token], ends - 1 + k, 1)[:, 0] for k, token in enumerate(tokens)]
        return sum(each[1:], each[0])


def contrast(
    logits: Callable[[Params, Any], Array], first: int | Sequence[int], second: int | Sequence[int], position: int = -1
) -> Contrast:
    """The function f(params, tokens) of the difference of two tokens' logits, `(n, 1)`.

    `logits(params, tokens)` returns `(n, t, v)`, of which the contrast reads `position` (default: the last), or
    `(n, v)`. `first` and `second` are token ids, or k ids each for k contrasts `(n, k)` that share one pass: their
    kernels come from `empirical_ntk(f, params, outputs="each")`. Units are those of logits, nats. Costs what `logits`
    costs; one that returns only the last position spares the other ones' products with the vocabulary.

    Raises `InputError` if the two tokens of a contrast are equal, and if there are not as many of both; when it or its
    kernel is evaluated, on ids beyond the vocabulary, in the contexts too, and if the position holds padding (an id
    below zero). Under `jit` ids are not known, and not checked.

    >>> import jax.numpy as jnp
    >>> logits = lambda params, tokens: params[tokens]  # a bigram model: (n, t, v)
    >>> contrast(logits, [1, 2], [0, 0])(jnp.diag(jnp.array([1.0, 2.0, 3.0])), jnp.array([[0, 2]])).tolist()
    [[0.0, 3.0]]
    """
    if not callable(logits):
        raise InputTypeError(f"Expected a function logits(params, tokens); got {type(logits).__name__}.")
    pairs = [_ids(given, name) for given, name in ((first, "first"), (second, "second"))]
    if len(pairs[0]) != len(pairs[1]):
        raise InputError(
            f"Expected as many first as second tokens, one pair per contrast; got {len(pairs[0])} and {len(pairs[1])}."
        )
    equal = [a for a, b in zip(*pairs, strict=True) if a == b]
    if equal:
        raise InputError(f"Expected two different tokens for a contrast; got {equal[0]} twice, whose difference is 0.")
    if isinstance(position, bool) or not isinstance(position, int):
        raise InputTypeError(f"Expected position to be a whole number, as -1 for the last; got {position!r}.")
    return Contrast(logits, pairs[0], pairs[1], position)


def continuation_contrast(
    logits: Callable[[Params, Array], Array], first: Sequence[int], second: Sequence[int]
) -> ContinuationContrast:
    """The function f(params, tokens) of the difference of two continuations' log-likelihoods, `(n,)`, in nats.

    `logits(params, tokens)` returns `(n, t, v)`, and reads tokens from left to right: logits at a position do not
    depend on later tokens. `first` and `second` are sequences of one token id or more. Costs two passes of `logits`.

    Contexts may end in padding, ids below zero: the continuation follows the last token of each.

    Raises `InputError` on an empty continuation, and if both are equal; when it or its kernel is evaluated, on ids
    beyond the vocabulary, which are not known, and not checked, under `jit`.

    >>> import jax.numpy as jnp
    >>> logits = lambda params, tokens: params[tokens]
    >>> f = continuation_contrast(logits, [1, 2], [2])
    >>> f(jnp.zeros((4, 4)), jnp.array([[0, 3]])).round(3).tolist()  # - log 4
    [-1.386]
    """
    if not callable(logits):
        raise InputTypeError(f"Expected a function logits(params, tokens); got {type(logits).__name__}.")
    found = [_ids(given, name) for given, name in ((first, "first"), (second, "second"))]
    if found[0] == found[1]:
        raise InputError("Expected two different continuations; got the same one twice, whose difference is 0.")
    return ContinuationContrast(logits, *found)


def _known_ids(x: Any, vocabulary: int) -> np.ndarray | None:
    """The ids `(n, t)` on the host; None for other inputs, or under a trace. Raises `InputError` on ids beyond."""
    if are_several(x) or not are_known(x):
        return None
    ids = np.asarray(x)
    if ids.ndim != 2 or ids.dtype.kind not in "iu":
        return None
    if np.any(ids >= vocabulary):
        raise InputError(
            f"Expected ids of contexts below {vocabulary}, the number of logits; got {ids.max()}. JAX would take "
            "another row of the table for it."
        )
    return ids


def _ids(given: Any, name: str) -> tuple[int, ...]:
    if isinstance(given, bool | str):
        raise InputTypeError(f"Expected {name} to be one token id or more, from 0; got {given!r}.")
    ids = require_whole_numbers(np.atleast_1d(given), f"Expected {name} to be one token id or more, from 0", 0)
    return tuple(int(token) for token in ids)


def _of_position(logits: Array, position: int | None) -> Float[Array, "n v"]:
    if logits.ndim == 2:
        if position not in (None, -1):
            raise InputError(
                f"Expected logits at all positions, (n, t, v), for position={position}; got those of one position, "
                f"{logits.shape}."
            )
        return logits
    if logits.ndim != 3:
        raise InputError(f"Expected logits (n, t, v) or (n, v); got shape {logits.shape}.")
    place = -1 if position is None else position
    if not -logits.shape[1] <= place < logits.shape[1]:
        raise InputError(f"Expected a position among {logits.shape[1]} of the contexts; got {place}.")
    return logits[:, place]
