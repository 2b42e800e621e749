"""`ntkbias exact`: the spectrum of an infinitely wide network on a domain, one row per degree, without sampling."""

import time
from typing import Any

from ntkbias.cli.folder import RunFolder
from ntkbias.cli.inputs import domain_names, domain_of, settings
from ntkbias.cli.networks import one_network
from ntkbias.cli.options import ExactOptions
from ntkbias.cli.outcome import Outcome, file_names, fill, found_again, plain
from ntkbias.domains import Circle, Sphere, Torus
from ntkbias.errors import InputError
from ntkbias.exact import ExactSpectrum, exact_spectrum, predicted_decay
from ntkbias.kernels import InfiniteKernel, infinite_ntk
from ntkbias.tables import counted

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
    with RunFolder.claimed(options.out, file_names(["exact"], [])) as folder:
        if (again := found_again(folder, described, options.overwrite)) is not None:
            return again
        found = exact_spectrum(kernel, domain, options.max_degree)
        decay = predicted_decay(kernel, domain) if isinstance(domain, Circle | Sphere | Torus) else None
        text = str(found.table(len(found.eigenvalues)))
        if decay is not None:
            text += f"\nPredicted exponents of eigenvalue against frequency: {decay}."
        outcome = Outcome(text, options.out, data=_data(found, decay, kernel))
        folder.fill(lambda path: fill(path, {"exact": found}, described, outcome))
    about = f"{network.limit_name} on {options.data}, {counted(len(found.eigenvalues), 'row')}"
    return outcome._replace(text=f"{text}\n\n{about}, {time.perf_counter() - started:.0f} s.")


def _data(found: ExactSpectrum, decay: Any, kernel: InfiniteKernel) -> dict[str, Any]:
    names = ("eigenvalues", "errors", "multiplicities", "degrees", "frequencies", "shares", "trace", "remainder")
    decays = {} if decay is None else {"predicted decay": {"even": decay.even, "odd": decay.odd}}
    labels = {"labels": list(found.labels)}
    return plain({"command": "exact", **labels, **{name: getattr(found, name) for name in names}, **decays})
