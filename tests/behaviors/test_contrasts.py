"""Contrasts of logits and of continuations, and their kernels, against explicit sums and Jacobians."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import assert_near

import ntkbias as nb
from ntkbias.behaviors import continuation_contrast, contrast

MODEL = nb.language.Transformer(num_heads=2, num_key_heads=1, padding=-1)
PARAMS = MODEL.init(jax.random.key(0), vocabulary=40, width=8, hidden=12, depth=2)
TOKENS = np.array(jax.random.randint(jax.random.key(1), (5, 4), 0, 40))
TOKENS[1, 3:] = TOKENS[2, 2:] = -1  # shorter contexts


def test_a_contrast_is_a_difference_of_logits():
    logits = MODEL.logits(PARAMS, TOKENS)
    several = contrast(MODEL.logits, [3, 5], [7, 9], position=1)(PARAMS, TOKENS)
    assert_near(several, jnp.stack([logits[:, 1, 3] - logits[:, 1, 7], logits[:, 1, 5] - logits[:, 1, 9]], 1), 1e-5)
    last = contrast(MODEL.last_logits, 3, 7)(PARAMS, TOKENS)
    ends = np.sum(TOKENS != -1, 1) - 1
    assert_near(last[:, 0], (logits[..., 3] - logits[..., 7])[np.arange(5), ends], 1e-5)


def test_continuations_are_sums_of_log_likelihoods():
    full = TOKENS[[0, 3, 4]]
    found = continuation_contrast(MODEL.logits, [6, 7, 8], [9])(PARAMS, full)
    long = np.concatenate([full, np.full((3, 1), 6), np.full((3, 1), 7)], 1)
    logs = jax.nn.log_softmax(MODEL.logits(PARAMS, long))
    expected = logs[:, 3, 6] + logs[:, 4, 7] + logs[:, 5, 8] - logs[:, 3, 9]
    assert_near(found, expected, 1e-5)
    for row, length in ((1, 3), (2, 2)):  # shorter contexts: the continuation follows their last token
        padded, alone = (
            continuation_contrast(MODEL.logits, [6, 7], [9])(PARAMS, each)
            for each in (TOKENS[row : row + 1], TOKENS[row : row + 1, :length])
        )
        assert_near(padded, alone, 1e-5)


@pytest.mark.parametrize("outputs", ["each", "all"])
def test_the_kernel_of_contrasts_is_that_of_jacobians(outputs, x64):
    """Of a whole transformer with a tied table, layers in a scan, and contexts of several lengths."""
    params = jax.tree.map(lambda leaf: leaf.astype(float), PARAMS)
    f = contrast(MODEL.last_logits, [3, 5], [7, 9])
    jacobian = jax.jit(jax.jacrev(f))(params, TOKENS)
    rows = np.concatenate([np.reshape(leaf, (5, 2, -1)) for leaf in jax.tree.leaves(jacobian)], 2)
    rule = {"each": "nop,mop->onm", "all": "nap,mbp->namb"}[outputs]
    kernel = nb.empirical_ntk(f, params, outputs=outputs)
    assert_near(kernel(TOKENS), np.einsum(rule, rows, rows), 1e-12)
    separate = MODEL.by_layer(params)
    parts = nb.empirical_ntk(f, separate, outputs=outputs, wrt="['layers'][1]")(TOKENS)
    inner = jax.tree.map(lambda leaf: np.reshape(leaf[:, :, 1], (5, 2, -1)), jacobian["layers"])
    rows = np.concatenate(jax.tree.leaves(inner), 2)
    assert_near(parts, np.einsum(rule, rows, rows), 1e-12)


def test_preferences_are_contrasts_with_pairs_as_an_argument(x64):
    params = jax.tree.map(lambda leaf: leaf.astype(float), PARAMS)
    f, variables = contrast(MODEL.last_logits, [3, 5], [7, 9]), {"model": params, "pairs": np.array([[3, 7], [5, 9]])}
    assert_near(MODEL.preferences(variables, TOKENS), f(params, TOKENS), 1e-12)
    kernel = nb.empirical_ntk(MODEL.preferences, variables, outputs="each", wrt="['model']")
    assert_near(kernel(TOKENS), nb.empirical_ntk(f, params, outputs="each")(TOKENS), 1e-12)


def test_the_kernel_of_continuations_is_that_of_jacobians(x64):
    params, tokens = jax.tree.map(lambda leaf: leaf.astype(float), PARAMS), TOKENS[[0, 3, 4]]
    f = continuation_contrast(MODEL.logits, [6, 7], [9])
    rows = np.concatenate(
        [np.reshape(leaf, (3, -1)) for leaf in jax.tree.leaves(jax.jit(jax.jacrev(f))(params, tokens))], 1
    )
    assert_near(nb.empirical_ntk(f, params)(tokens), rows @ rows.T, 1e-12)


def test_equal_contrasts_are_equal_and_share_programs():
    assert contrast(MODEL.last_logits, 1, 2) == contrast(MODEL.last_logits, 1, 2)
    assert contrast(MODEL.last_logits, 1, 2) != contrast(MODEL.last_logits, 1, 3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: contrast(MODEL.logits, 3, 3), "Expected two different tokens for a contrast; got 3 twice"),
        (
            lambda: contrast(MODEL.logits, [1, 2], 3),
            "as many first as second tokens, one pair per contrast; got 2 and 1",
        ),
        (lambda: contrast(MODEL.logits, -1, 3), "Expected first to be one token id or more, from 0"),
        (lambda: contrast(MODEL.logits, 1.5, 3), "Expected first to be one token id or more, from 0"),
        (lambda: contrast(MODEL.logits, 1, 3, position=None), "Expected position to be a whole number"),
        (
            lambda: contrast(MODEL.logits, 1, 3, position=9)(PARAMS, TOKENS),
            "Expected a position among 4 of the contexts",
        ),
        (lambda: contrast(MODEL.logits, 1, 40)(PARAMS, TOKENS), "Expected tokens from 0 to 39 for a contrast; got 40."),
        (
            lambda: contrast(MODEL.last_logits, 1, 3)(PARAMS, TOKENS + 40 * (TOKENS == TOKENS[0, 0])),
            "Expected ids of contexts below 40, the number of logits; got",
        ),
        (
            lambda: nb.empirical_ntk(contrast(MODEL.logits, 1, 3), PARAMS)(TOKENS),
            "Expected a token at position -1 of all contexts; got padding in 2 of 5. Give logits of",
        ),
        (lambda: contrast(MODEL.last_logits, 1, 3, position=1)(PARAMS, TOKENS), "for position=1; got those of one"),
        (lambda: contrast(MODEL.logits, True, 3), "Expected first to be one token id or more, from 0; got True."),
        (
            lambda: continuation_contrast(MODEL.logits, [1, 40], [2])(PARAMS, TOKENS),
            "Expected tokens from 0 to 39 for a continuation; got 40.",
        ),
        (lambda: contrast("gpt", 1, 3), "Expected a function logits(params, tokens); got str."),
        (lambda: continuation_contrast(MODEL.logits, [1], [1]), "Expected two different continuations"),
        (
            lambda: continuation_contrast(MODEL.last_logits, [1], [2])(PARAMS, TOKENS),
            "logits at all positions, (n, t, v)",
        ),
        (lambda: continuation_contrast(MODEL.logits, [], [2]), "Expected first to be one token id or more, from 0"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_messages(make, message):
    with pytest.raises(nb.InputError, match=re.escape(message)):
        make()
