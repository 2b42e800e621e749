"""The command line.

    spectrum    the spectrum of one network's kernel
    compare     the spectra of several networks, and what each learns first
    track       training, and the kernel along the way
    learn       which functions networks learn first, and from how many examples
    exact       the spectrum of an infinitely wide network on a domain, without sampling
    info        versions and memory, and what the data and the network are
    report      the page of saved results again
    study       a paper's experiment: each claim beside what was measured; or all of them

All but `info` and `report` fill a run folder and print a table. The folder holds

    settings.json          the options, the inputs and the versions of the packages
    result.json            what `--json` prints
    table.txt, facts.json  the table, and the summary facts
    comparison, history, learnability, curves, exact
                           the values of the command, as .npz and .json; `ntkbias.load` reads them
    *.svg, *.png           the figures
    report.html            the report of spectrum, compare and track
    files.json             the list of these files

A later command in the same folder replaces the files on that list, and refuses to replace any other file. If the
settings are the same, it finds the results there and computes nothing. Options can also come from a TOML file or from
`settings.json` (`--config`); options on the command line take precedence.

>>> from ntkbias.cli import main
>>> main(["spectrum", "--data", "nowhere.npz"])
2
"""

import sys
from typing import Any

import ntkbias
from ntkbias.cli.config import with_config
from ntkbias.cli.options import (
    CompareOptions,
    ExactOptions,
    InfoOptions,
    LearnOptions,
    Options,
    ReportOptions,
    SpectrumOptions,
    StudyOptions,
    TrackOptions,
)
from ntkbias.cli.parsing import parsed
from ntkbias.errors import InputError

__all__ = [
    "CompareOptions",
    "ExactOptions",
    "InfoOptions",
    "LearnOptions",
    "ReportOptions",
    "SpectrumOptions",
    "StudyOptions",
    "TrackOptions",
    "main",
]


def main(argv: list[str] | None = None) -> int:
    """Run a command and return its exit code.

    0: success. 1: the results are saved but could not be printed. 2: wrong input. 3: training diverged. 4: some of all
    studies failed. 130: Ctrl-C. Every code but 0 comes with one sentence on standard error.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments == ["--version"]:
        print(f"ntkbias {ntkbias.__version__}")
        return 0
    try:
        options = parsed(with_config(arguments))
        seed = getattr(options, "seed", 0)
        if not 0 <= seed < 2**32:  # JAX would wrap a larger seed around to another one
            raise InputError(f"Expected --seed to be zero or more, and below 2^32; got {seed}.")
        return _run(options)
    except InputError as error:
        print(f"ntkbias: {error}", file=sys.stderr)
        return 2
    except (MemoryError, OverflowError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        print(
            f"ntkbias: Expected a network and data that fit this machine; got: {reason}. "
            "Choose a smaller --width or --num-examples.",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print("ntkbias: interrupted; files already written are complete.", file=sys.stderr)
        return 130


def _run(options: Options) -> int:
    """Run a command with checked options. JAX is imported only here, since its import is slow."""
    import jax

    from ntkbias.cli import all_studies, exact, info, learning, pages, programs, spectra, tracking
    from ntkbias.cli.outcome import print_outcome

    runs: dict[type, Any] = {
        SpectrumOptions: spectra.run,
        CompareOptions: spectra.run,
        TrackOptions: tracking.run,
        LearnOptions: learning.run,
        ExactOptions: exact.run,
        InfoOptions: info.run,
        ReportOptions: pages.run,
        StudyOptions: all_studies.run,
    }
    if getattr(options, "cache", False):
        programs.enable_cache()
    try:
        outcome = runs[type(options)](options)
    except jax.errors.JaxRuntimeError as error:
        raise MemoryError(str(error)) from error
    return print_outcome(outcome, options.json)
