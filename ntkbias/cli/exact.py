"""`ntkbias exact`: the spectrum of an infinitely wide network on a domain, one row per degree, without sampling."""

import time
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ntkbias import plots
from ntkbias.cli.folder import RunFolder
from ntkbias.cli.inputs import domain_names, domain_of, settings
from ntkbias.cli.networks import one_network
from ntkbias.cli.options import ExactOptions
from ntkbias.cli.outcome import Outcome, file_names, fill, found_again, plain
from ntkbias.domains import Circle, Sphere, Torus
from ntkbias.errors import InputError
from ntkbias.exact import ExactSpectrum, exact_spectrum, predicted_decay
from ntkbias.kernels import InfiniteKernel, infinite_ntk
from ntkbias.report.sections import Sections
from ntkbias.tables import counted, percent

__all__ = ["run"]


def run(options: ExactOptions) -> Outcome:
    """Compute the exact spectrum that the options describe, and fill the run folder."""
    started = time.perf_counter()
    domain = domain_of(options.data)
    if domain is None:
        raise InputError(
            f"Expected --data to be a domain for exact spectra, one of {', '.join(domain_names())}; got "
            f"{options.data!r}."
        )
    if options.max_degree < 0:
        raise InputError(f"Expected --max-degree to be zero or more; got {options.max_degree}.")
    network = one_network(options, domain.grid(64).shape[1:])
    if network.layer is None:
        raise InputError(
            f"Expected a Layer of ntkbias, which has an infinite limit; got a function from {network.name}."
        )
    kernel = infinite_ntk(network.layer)
    described = settings(options, "exact")
    with RunFolder.claimed(options.out, file_names(["exact"], ["eigenvalues"])) as folder:
        if (again := found_again(folder, described, options.overwrite)) is not None:
            return again
        found = exact_spectrum(kernel, domain, options.max_degree)
        decay = predicted_decay(kernel, domain) if isinstance(domain, Circle | Sphere | Torus) else None
        text = str(found.table(len(found.eigenvalues)))
        if decay is not None:
            text += f"\nPredicted exponents of eigenvalue against frequency: {decay}."
        outcome = Outcome(text, options.out, data=_data(found, decay, kernel))
        figures = {"eigenvalues": _figure(found, network.limit_name)}
        sections = _sections(found, decay, network.limit_name, options.data)
        folder.fill(lambda path: fill(path, {"exact": found}, described, outcome, figures, sections))
    about = f"{network.limit_name} on {options.data}, {counted(len(found.eigenvalues), 'row')}"
    return outcome._replace(text=f"{text}\n\n{about}, {time.perf_counter() - started:.0f} s.")


def _figure(found: ExactSpectrum, name: str) -> Figure:
    """The eigenvalues against frequency, without those that do not exceed their errors."""
    figure = Figure(figsize=plots.SIZE, layout="constrained")
    ax, kept = figure.subplots(), np.asarray(found.above_error) & (np.asarray(found.frequencies) > 0)
    ax.plot(np.asarray(found.frequencies)[kept], np.asarray(found.eigenvalues)[kept], "o", color=plots.color(0))
    ax.set(xscale="log", yscale="log", xlabel="frequency", ylabel="eigenvalue", title=name)
    return figure


def _sections(found: ExactSpectrum, decay: Any, name: str, domain: str) -> Sections:
    """The page: which degrees are learned first, and how fast eigenvalues fall."""
    order = np.argsort(-np.asarray(found.eigenvalues), kind="stable")
    first = [f"{', '.join(found.labels)} {np.asarray(found.degrees)[row]}" for row in order[:2]]
    shares = [percent(found.shares[row], 1.0, 0) for row in order[:2]]
    parts = [f"{of}, with {share} of the trace" for of, share in zip(first, shares, strict=True)]
    answer = f"It learns first the functions of {'; then those of '.join(parts)}."
    if decay is not None:
        answer += f" Against frequency, the eigenvalues fall in the end with these exponents: {decay}."
    return Sections(
        f"Which functions on {domain} does the infinitely wide {name} learn first?",
        answer,
        'Nothing is sampled. Each eigenvalue has the error in the column "+-", at most. A network of finite width has '
        "other eigenvalues, closer to these the wider it is.",
        {
            "eigenvalues": "Each point is one row of the table: higher points are learned sooner. The constant is left "
            "out, and so are rows that do not exceed their error."
        },
        [found.table(len(found.eigenvalues))],
        ("jacot2018", "basri2019") if decay is None else ("jacot2018", "basri2019", "bietti2021"),
    )


def _data(found: ExactSpectrum, decay: Any, kernel: InfiniteKernel) -> dict[str, Any]:
    names = ("eigenvalues", "errors", "multiplicities", "degrees", "frequencies", "shares", "trace", "remainder")
    decays = {} if decay is None else {"predicted decay": {"even": decay.even, "odd": decay.odd}}
    labels = {"labels": list(found.labels)}
    return plain({"command": "exact", **labels, **{name: getattr(found, name) for name in names}, **decays})
