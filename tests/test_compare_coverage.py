"""Intervals of comparisons cover the truth as often as they say, over fresh inputs and fresh initializations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkbias as nb
from ntkbias.comparison.evidence import LEVEL, Evidence, Sample, Term
from ntkbias.comparison.measuring import Survey
from ntkbias.comparison.quantities import QUANTITIES, label_of
from ntkbias.comparison.subsets import grouped
from ntkbias.frequency import MEASURES

NUM_DRAWS = 200
POINTS = nb.domains.PointCloud()


def least(level, draws):
    """The least coverage that a right interval may show: two binomial standard errors below its level."""
    return level - 2 * np.sqrt(level * (1 - level) / draws)


@pytest.mark.parametrize(("runs", "sampled"), [(1, True), (4, False), (4, True), (8, True)])
def test_intervals_of_both_sources_cover_the_truth(runs, sampled):
    """Means of two functions of inputs, plus noise of its own in every run. All expected values are zero."""
    rng, draws = np.random.default_rng(0), 1_000
    hits = np.zeros(3)
    for _ in range(draws):
        x = rng.normal(size=60) if sampled else np.array([-1.0, 1.0])
        groups = grouped(60, 20, rng) if sampled else []
        noise = rng.normal(size=(2, runs, 1)) * 0.2 * (runs > 1)
        samples = []
        for own, values in zip(noise, (x, x + np.sin(3 * x)), strict=True):
            without = np.array([[values[kept].mean()] for kept in groups])
            samples.append(Sample(values.mean() + own, without + own[:, None] if groups else None))
        evidence = Evidence(samples)
        contrasts = evidence.sum([Term(0, 0)]), evidence.sum([Term(1, 0)]), evidence.difference((1, 0), (0, 0))
        ends = [contrast.ends(LEVEL) for contrast in contrasts]
        hits += [low <= 0 <= high for low, high in ends]
    assert np.all(hits / draws >= least(1 - LEVEL, draws)), hits / draws


@pytest.mark.slow
def test_intervals_of_kernels_cover_their_expected_values():
    """Random kernels of two kinds on random inputs. The truth is the mean over all draws."""
    num_inputs, runs = 48, 4
    values: dict[str, list] = {"first": [], "difference": []}
    halves: dict[str, list] = {"first": [], "difference": []}
    for draw in range(NUM_DRAWS):
        rng = np.random.default_rng(draw)
        x = rng.normal(size=(num_inputs, 3))
        targets = {"linear": x[:, 0], "product": x[:, 0] * x[:, 1], "random": rng.choice([-1.0, 1.0], num_inputs)}
        columns = {name: (y - y.mean())[:, None] for name, y in targets.items()}
        survey = Survey(jnp.asarray(x, jnp.float32), POINTS, MEASURES["graph"], None, columns, jax.random.key(0))
        for name, power in (("a", 1), ("b", 2)):
            for run in range(runs):
                w, a = rng.normal(size=(3, 20)), rng.normal(size=20)
                features, gates = np.maximum(x @ w, 0) ** power, (x @ w > 0) * a
                gram = features @ features.T / 20 + gates @ gates.T / 20 * (x @ x.T) + 0.02 * np.eye(num_inputs)
                spectrum = nb.eigen.eigh(jnp.asarray(gram, jnp.float32))
                spectrum = nb.Spectrum(**{**vars(spectrum), "x": jnp.asarray(x, jnp.float32)})
                ranking = None if run else nb.rank_by_frequency(spectrum, POINTS, num_resamples=0)
                survey.add(name, spectrum, ranking)
        found, samples = survey.results()
        logs = np.array([QUANTITIES[quantity].is_log for quantity, _ in found])
        with np.errstate(divide="ignore"):
            evidence = Evidence(
                [
                    Sample(*(np.where(logs, np.log(np.abs(part)), part) for part in samples[name][:2]))  # type: ignore
                    for name in ("a", "b")
                ]
            )
        kept = [place for place, (quantity, _) in enumerate(found) if quantity not in ("energy", "test error")]
        labels = [label_of(*found[place]) for place in kept]
        for kind, contrasts in (
            ("first", [evidence.sum([Term(0, place)]) for place in kept]),
            ("difference", [evidence.difference((0, place), (1, place)) for place in kept]),
        ):
            values[kind].append([contrast.value for contrast in contrasts])
            halves[kind].append([contrast.half_width(LEVEL) for contrast in contrasts])
    for kind in values:
        estimates, widths = np.array(values[kind]), np.array(halves[kind])
        covered = np.mean(np.abs(estimates - estimates.mean(0)) <= widths + 1e-9, 0)
        too_low = {label: share for label, share in zip(labels, covered, strict=True) if share < least(0.95, NUM_DRAWS)}
        assert not too_low, (kind, too_low)
