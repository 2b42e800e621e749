"""Sampling of landmarks: uniformly, by randomly pivoted Cholesky, or by ridge leverage scores."""

import math
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from ntkbias.eigen.columns import Problem, epsilon_of, inverse_root, products, root_of

__all__ = ["accepted_pivots", "leverage", "pivoted_cholesky", "uniform"]

ROUNDS = 10  # rounds of pivots; each round computes the kernel's features of all inputs once
PROPOSALS = 3  # proposals per pivot of a round; most are accepted until little of the kernel is missing


def uniform(problem: Problem, num_landmarks: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw landmarks uniformly without replacement. Returns their indices and the kernel's columns."""
    chosen = rng.choice(len(problem.x), num_landmarks, replace=False)
    return chosen, problem.columns(chosen)


def pivoted_cholesky(problem: Problem, num_landmarks: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Randomly pivoted Cholesky: draw each landmark in proportion to the current diagonal of K - K_S.

    Each round draws proposals in proportion to the diagonal at its beginning. It accepts a proposal with probability
    (current entry) / (entry at the beginning), which yields the same distribution.
    """
    (n, o), block = problem.diagonal.shape, -(-num_landmarks // ROUNDS)
    chosen = np.empty(0, int)
    columns: Any = np.empty((n * o, 0))
    while len(chosen) < num_landmarks:
        known = columns[:, : len(chosen) * o]
        root = root_of(problem, chosen, known)
        missing = np.sum(problem.missing(known, root), 1) * problem.measure
        missing[chosen] = 0
        if not missing.any():
            break
        proposals = rng.choice(n, PROPOSALS * block, p=missing / missing.sum())
        gram = problem.columns(proposals, proposals)
        features = known[problem.rows(proposals)] @ root
        wanted = min(block, num_landmarks - len(chosen))
        accepted = proposals[accepted_pivots(gram, features, proposals, wanted, rng)]
        if not len(accepted):
            break
        found = problem.columns(np.resize(accepted, block))  # the same width in all rounds, so it is compiled once
        if not len(chosen):
            columns = np.empty((n * o, num_landmarks * o), found.dtype)
        columns[:, len(chosen) * o : (len(chosen) + len(accepted)) * o] = found[:, : len(accepted) * o]
        chosen = np.concatenate([chosen, accepted])
    return chosen, columns[:, : len(chosen) * o]


def accepted_pivots(
    gram: Float[np.ndarray, "rows rows"],
    features: Float[np.ndarray, "rows r"],
    proposals: Int[np.ndarray, " p"],
    most: int,
    rng: np.random.Generator,
) -> list[int]:
    """The positions of the accepted proposals, given their kernel and the earlier landmarks' features at them.

    Accepting a proposal eliminates it, which updates K - K_S for the proposals after it.
    """
    size = len(gram) // len(proposals)  # rows per input
    floor = epsilon_of(gram) * float(np.linalg.norm(gram.astype(np.float64)))  # a float32 square may overflow
    left = gram.astype(np.float64) - features @ features.T
    bounds = np.diagonal(left).reshape(-1, size).sum(1)
    taken: list[int] = []
    for index, bound in enumerate(bounds):
        own = slice(index * size, (index + 1) * size)
        threshold = max(floor, rng.random() * bound)
        if len(taken) < most and np.trace(left[own, own]) > threshold and proposals[index] not in proposals[taken]:
            taken.append(index)
            eliminated = left[:, own] @ inverse_root(left[own, own], floor)
            left -= eliminated @ eliminated.T
    return taken


def leverage(problem: Problem, num_landmarks: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw landmarks by ridge leverage scores of 2 m, 4 m, ... n inputs, each estimated from the previous sample."""
    n, size = len(problem.x), num_landmarks
    order = rng.permutation(n)
    sample, shares = np.arange(num_landmarks), np.ones(num_landmarks)  # places in the order; expected numbers of draws
    while size < n:
        size = min(2 * size, n)
        scores = _leverage_scores(problem, order[:size], sample, shares)
        probabilities = scores / scores.sum() if scores.any() else np.full(size, 1 / size)
        if size == n:
            count = min(num_landmarks, int(np.count_nonzero(probabilities)))
            sample = rng.choice(n, count, replace=False, p=probabilities)
        else:
            sample = rng.choice(size, num_landmarks, p=probabilities)
            shares = num_landmarks * probabilities[sample]
    return order[sample], problem.columns(order[sample])


def _leverage_scores(
    problem: Problem, among: np.ndarray, sample: np.ndarray, shares: np.ndarray
) -> Float[np.ndarray, " among"]:
    """The ridge leverage scores (K (K + ridge)^-1)_ii of inputs, summed over outputs, estimated from a sample of them.

    The ridge is the sum of all but the k largest eigenvalues, divided by k = m / (4 log m). m draws suffice for this k.
    """
    o = problem.num_outputs
    scales = np.sqrt(problem.measure[among] * len(problem.x))  # weights scale the length of an input's features
    columns = problem.columns(among[sample], among)
    epsilon = epsilon_of(columns)
    columns = columns * np.repeat(scales, o)[:, None] * np.repeat(scales[sample], o)
    own = columns[problem.rows(sample)]
    rarity = 1 / np.sqrt(np.repeat(shares, o))
    values, vectors = np.linalg.eigh(rarity[:, None] * (own + own.T) / 2 * rarity)
    k = math.ceil(len(values) / (4 * max(1.0, math.log(len(values)))))
    ridge = max(float(np.sum(values[:-k])) / k, epsilon * float(np.linalg.norm(values)))
    if ridge == 0:
        return np.zeros(len(among))
    root = rarity[:, None] * vectors / np.sqrt(np.maximum(values, 0) + ridge)
    explained = np.concatenate([np.sum(strip**2, 1) for _, strip in products(columns, root)]).reshape(-1, o)
    return np.sum(np.clip((problem.diagonal[among] * scales[:, None] ** 2 - explained) / ridge, 0, 1), 1)
