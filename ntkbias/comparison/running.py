"""`compare`: networks and kernels on the same inputs, one run at a time.

>>> import jax.numpy as jnp, ntkbias as nb
>>> circle = nb.domains.Circle()
>>> nets = {"relu": nb.nets.mlp(width=64, depth=2, b_std=0.1), "erf": nb.nets.mlp(width=64, depth=2, activation="erf")}
>>> waves = {f"wave {k}": lambda x, k=k: jnp.cos(k * circle.angle(x)) for k in (1, 3)}
>>> comparison = nb.compare(nets, circle, seeds=3, targets=waves)
>>> comparison["relu"].runs, comparison["relu"].values["samples needed: wave 1"].shape
(3, (3,))
>>> print(comparison.answer().partition(".")[0])
The function learned first is wave 1 in relu and erf
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from ntkbias.checks import key_or_default, require_finite, require_known, require_positive, require_wide
from ntkbias.comparison.evidence import Sample
from ntkbias.comparison.grams import cka, distances, fit_in_memory, gram_of
from ntkbias.comparison.measuring import Columns, Survey
from ntkbias.comparison.things import Limit, Thing, things_of
from ntkbias.comparison.value import Comparison
from ntkbias.domains import Domain, HarmonicDomain
from ntkbias.eigen import spectrum
from ntkbias.errors import InputError, InputTypeError
from ntkbias.frequency import FrequencyMeasure, measure_on, rank_by_frequency
from ntkbias.learning.targets import targets_on
from ntkbias.mistaken import require_no_labels
from ntkbias.progress import progress
from ntkbias.spectra import Spectrum

__all__ = ["Inputs", "compare", "compared", "inputs_of"]

NUM_NODES = 256  # of the quadrature, if a domain stands in the place of inputs
KEEP = 100  # modes of each run whose functions the comparison holds

Inputs = tuple[Array, Array | None, Domain]


def compare(
    things: Mapping[str, Any],
    x: Any,
    domain: Domain | None = None,
    *,
    seeds: int = 8,
    limits: Sequence[Limit] = ("finite",),
    weights: Any = None,
    targets: Any = None,
    measure: str | FrequencyMeasure | None = None,
    keep: int | None = KEEP,
    key: PRNGKeyArray | None = None,
) -> Comparison:
    """Compare networks and kernels on the inputs `x` `(n, ...)`: what each learns first, and how sure that is.

    `things` are networks and kernels by name. Each is one of

        a network       of layers: `seeds` random initializations of it, and its infinite width if `limits` has
                        "infinite". With both limits, the names become "name, finite" and "name, infinite".
        (f, init)       a function f(params, x), and a function init(key) that returns random parameters: `seeds` runs
        (f, params)     one given network. Before and after training are two of these: (f, params) and
                        (f, history.params).
        a kernel        one run

    `x` may also be a domain: then its quadrature of 256 nodes. The runs of a network share one compiled program, and
    its seeds depend on `key` (default: a fixed one) and on its name alone.

    `targets` are functions of interest: values `(n,)` or `(n, t)`, or a dict by name of whatever `learnability` takes
    (values, labels, functions of x, contrasts). Each target is shifted to mean zero. For each run and target the result
    has the learning time, the number of examples needed, the share of the kernel's trace, and the predicted learning
    curve; see `Comparison`.

    Intervals count two sources of error. Initializations: the scatter of the runs. Inputs: a jackknife over 20 random
    groups of inputs, if x is a sample; such intervals are up to twice as wide as needed. With `weights` (quadrature
    nodes, or a domain as x) the inputs count as fixed. `Comparison.uncertainty` says which apply.

    The result keeps the functions of the first `keep` modes of each run (None: all modes), and all eigenvalues. The
    parameters of the first run stay with its spectrum, those of other runs are not kept. `weights` and `measure` are
    those of `spectrum` and `rank_by_frequency`.

    Costs one spectrum per run, and 20 smaller decompositions for the groups: of all rows for up to 640 inputs, and of
    the first 400 modes for more. A progress bar counts runs. Beyond 640 inputs, Spearman's rho is over 400 modes.

    Raises `InputTypeError` on things that are not a dict by name of the kinds above, and `InputError` on targets that
    do not have one finite row per input, on inputs outside the domain, and on whatever `spectrum`, `learnability` and
    `rank_by_frequency` refuse.

    >>> import ntkbias as nb
    >>> net = nb.nets.mlp(width=64, depth=2, b_std=0.1)
    >>> found = nb.compare({"mlp": net}, nb.domains.Circle(), seeds=4, limits=("finite", "infinite"))
    >>> found.names, found["mlp, finite"].runs, found["mlp, infinite"].runs
    (('mlp, finite', 'mlp, infinite'), 4, 1)
    """
    inputs = inputs_of(x, domain, weights, (things, targets))
    key = key_or_default(key)
    found = things_of(things, inputs[0].shape[1:], seeds, limits, key)
    return compared(found, *inputs, targets, measure, keep, key)


def inputs_of(x: Any, domain: Domain | None, weights: Any, others: Any) -> Inputs:
    """The inputs, their weights and their domain; of a domain in the place of inputs, its quadrature."""
    if isinstance(x, Domain):
        if domain is not None or weights is not None:
            raise InputTypeError("Expected a domain as x, which has its own quadrature, without domain= and weights=.")
        if not isinstance(x, HarmonicDomain):
            raise InputTypeError(
                f"Expected inputs (n, ...), or a domain with a quadrature, e.g. Circle(); got {type(x).__name__}."
            )
        return *x.quadrature(NUM_NODES), x
    if domain is None:
        raise InputTypeError(
            "Expected compare(kernels, x, domain), with the domain of the inputs; got no domain. Give domain=, e.g. "
            "nb.domains.PointCloud() for data."
        )
    require_known((others, x, weights), "compare")
    x = require_wide(x, "x")
    if weights is None:
        _remark_on_repeats(np.asarray(x))
    return x, weights, domain


def _remark_on_repeats(x: np.ndarray) -> None:
    """Warn if more than one input in a hundred repeats another one."""
    repeated = len(x) - len(np.unique(x.reshape(len(x), -1), axis=0))
    if repeated > len(x) / 100:
        warnings.warn(
            f"{repeated} of the {len(x)} inputs repeat others. Intervals count all of them as independent draws, and "
            "are then too narrow. Leave out repeated inputs, or give weights=, if the inputs are fixed.",
            stacklevel=4,
        )


def compared(
    things: Sequence[Thing],
    x: Array,
    weights: Any,
    domain: Domain,
    targets: Any,
    measure: str | FrequencyMeasure | None,
    keep: int | None,
    key: PRNGKeyArray,
) -> Comparison:
    """The comparison of these things. It refuses bad input before the expensive work."""
    if keep is not None:
        require_positive("keep", keep)
    named, shown = _targets(targets, x, weights)
    chosen = measure_on(domain, measure)
    domain.check(x)
    survey = Survey(x, domain, chosen, weights, named, key)
    keeps_grams = fit_in_memory(len(x), sum(len(thing.seeds) for thing in things))
    spectra: dict[str, list[Spectrum]] = {}
    rankings, eigenvalues, grams, outputs = [], [], [], []
    bar = progress(None, "kernels", total=sum(len(thing.seeds) for thing in things))
    with bar:
        for thing in things:
            own: list[np.ndarray] = []
            for run, kernel in enumerate(thing.kernels()):
                if named and kernel.outputs != "mean" and kernel.outputs != "sum":
                    raise InputError(
                        f"Expected kernels with one value per pair of inputs, to compare targets; got "
                        f"outputs={kernel.outputs!r} of {thing.name!r}. Use outputs='mean', or learnability."
                    )
                found = spectrum(kernel, x, weights=weights)
                ranking = rank_by_frequency(found, domain, measure=chosen, key=key) if run == 0 else None
                if ranking is not None:
                    rankings.append(ranking)
                survey.add(thing.name, found, ranking)
                own.append(np.asarray(found.eigenvalues))
                grams.append(gram_of(found) if keeps_grams else None)
                outputs.append(found.eigenfunctions.shape[1] if found.eigenfunctions.ndim == 3 else 1)
                spectra.setdefault(thing.name, []).append(_kept(found, keep, run == 0))
                bar.update()
            eigenvalues.append(jnp.asarray(np.stack(own)))
    columns, samples = survey.results()
    columns, samples = _with_distances(columns, samples, things, grams, survey)
    dtype = jnp.result_type(float)
    with jax.debug_nans(False), jax.debug_infs(False):  # NaN and infinity are valid results here
        return Comparison(
            names=tuple(thing.name for thing in things),
            spectra=tuple(runs[0] for runs in spectra.values()),
            rankings=tuple(rankings),
            domain=domain,
            targets=shown,
            other_spectra=tuple(tuple(runs[1:]) for runs in spectra.values()),
            eigenvalues=tuple(eigenvalues),
            values=tuple(jnp.asarray(samples[thing.name].runs.astype(dtype)) for thing in things),
            replicates=tuple(jnp.asarray(sample.without.astype(dtype)) for sample in samples.values())  # type: ignore[union-attr]
            if survey.groups
            else None,
            cka=jnp.asarray(cka(grams, outputs, survey.weights).astype(dtype)) if keeps_grams else None,
            columns=columns,
            networks=tuple(thing.is_network for thing in things),
            sampled=weights is None,
        )


def _targets(targets: Any, x: Array, weights: Any) -> tuple[dict[str, np.ndarray], Array | None]:
    """The columns of each target, and the values that the comparison shows."""
    if targets is None:
        return {}, None
    if isinstance(targets, Mapping):
        named = {name: target.columns for name, target in targets_on(targets, x, (len(x),), True, weights).items()}
        return named, jnp.asarray(np.concatenate(list(named.values()), 1), jnp.result_type(float))
    values = require_wide(targets, "targets")
    if values.shape[:1] != x.shape[:1]:
        raise InputError(f"Expected one row of targets for each of {len(x)} inputs; got shape {values.shape}.")
    require_finite(values, "targets")
    require_no_labels(values)
    columns = np.asarray(values, float).reshape(len(x), -1)
    columns = columns - np.average(columns, 0, None if weights is None else np.asarray(weights, float))
    if not np.max(np.abs(columns), initial=0.0) > 0:
        raise InputError("Expected targets that vary over the inputs; got constant ones. Leave them out.")
    return {"target": columns}, values


def _kept(found: Spectrum, keep: int | None, with_kernel: bool) -> Spectrum:
    """The spectrum with the first modes alone, and without a kernel for all runs but the first."""
    fields = dict(vars(found))
    if not with_kernel:
        fields |= {"kernel": None, "x": None}
    if keep is not None and keep < len(found.eigenvalues):
        for name in ("eigenvalues", "eigenfunctions", "eigenspace", "residuals"):
            fields[name] = fields[name][..., :keep]
    return Spectrum(**fields)


def _with_distances(
    columns: Columns,
    samples: dict[str, Sample],
    things: Sequence[Thing],
    grams: Sequence[np.ndarray | None],
    survey: Survey,
) -> tuple[Columns, dict[str, Sample]]:
    """The samples with a column for the distance to the infinite limit, if a thing has one beside it."""
    if not any(thing.limit for thing in things):
        return columns, samples
    starts = np.cumsum([0, *(len(thing.seeds) for thing in things)])
    first = {thing.name: int(start) for thing, start in zip(things, starts, strict=False)}
    found = {}
    for thing in things:
        sample, start = samples[thing.name], first[thing.name]
        limit = None if thing.limit is None else grams[first[thing.limit]]
        rows = [
            np.full(1 + len(survey.groups), np.nan)
            if limit is None or gram is None or len(gram) != len(limit)
            else distances(gram, limit, survey.weights, survey.groups)
            for gram in grams[start : start + len(thing.seeds)]
        ]
        table = np.stack(rows)
        runs = np.concatenate([sample.runs, table[:, :1]], 1)
        without = None if sample.without is None else np.concatenate([sample.without, table[:, 1:, None]], 2)
        found[thing.name] = Sample(runs, without)
    return (*columns, ("distance to the limit", "")), found
