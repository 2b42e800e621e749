"""The command line: `ntkbias spectrum` for one network, `ntkbias compare` for several, `ntkbias track` for training.

Each command fills a run folder and prints a table. The folder holds

    settings.json          the options and the versions of the packages
    comparison or history  the values, as .npz and .json; `ntkbias.load` reads them
    table.txt, facts.json  the table, and the summary facts
    *.svg, *.png           the figures
    report.html            the report
    files.json             the list of these files

A later command in the same folder replaces the files on that list, and refuses to replace any other file. Options can
also come from a TOML file (`--config`); options on the command line take precedence.

>>> from ntkbias.cli import main
>>> main(["spectrum", "--data", "nowhere.npz"])
2
"""

import sys

import ntkbias
from ntkbias.cli.options import CompareOptions, SpectrumOptions, TrackOptions, parsed, with_config
from ntkbias.errors import InputError

__all__ = ["CompareOptions", "SpectrumOptions", "TrackOptions", "main"]


def main(argv: list[str] | None = None) -> int:
    """Run a command and return its exit code.

    0: success. 1: the results are saved but could not be printed. 2: wrong input. 3: training diverged. 130: Ctrl-C.
    Every code but 0 comes with one sentence on standard error.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments == ["--version"]:
        print(f"ntkbias {ntkbias.__version__}")
        return 0
    try:
        options = parsed(with_config(arguments))
        if not 0 <= options.seed < 2**32:  # JAX would wrap a larger seed around to another one
            raise InputError(f"Expected --seed to be zero or more, and below 2^32; got {options.seed}.")
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


def _run(options: SpectrumOptions | CompareOptions | TrackOptions) -> int:
    """Run a command with checked options. JAX is imported only here, since its import is slow."""
    import jax

    from ntkbias.cli import programs, spectra, tracking
    from ntkbias.cli.outcome import print_outcome

    if options.cache:
        programs.enable_cache()
    try:
        if isinstance(options, TrackOptions):
            outcome = tracking.run(options)
        elif isinstance(options, SpectrumOptions):
            outcome = spectra.run(options, "spectrum", (options.net,), (options.limit,))
        else:
            outcome = spectra.run(options, "compare", options.nets, options.limits)
    except jax.errors.JaxRuntimeError as error:
        raise MemoryError(str(error)) from error
    return print_outcome(outcome)
