"""The command line: `ntkbias spectrum` for one network, `ntkbias compare` for several, `ntkbias track` for training.

Each fills a run folder, then prints a table: settings and versions (`settings.json`), the values (`comparison` or
`history`, `.npz` and `.json`, read by `ntkbias.load`), the table, what it says of the whole as `facts.json`, figures
as SVG and PNG, and `report.html`. `files.json` lists them: a later command in that folder replaces these, and refuses
to replace any other file. Options may also stand in a TOML file (`--config`); those on the command line
prevail.

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
    """Run a command; return 0, or after one sentence 2 for wrong input, 3 where training diverged, 130 at Ctrl-C.

    1: the results are saved, and could not be printed.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments == ["--version"]:
        print(f"ntkbias {ntkbias.__version__}")
        return 0
    try:
        options = parsed(with_config(arguments))
        if not 0 <= options.seed < 2**32:  # JAX would take one beyond for another
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
        print("ntkbias: interrupted; files already written are whole.", file=sys.stderr)
        return 130


def _run(options: SpectrumOptions | CompareOptions | TrackOptions) -> int:
    """Run a command whose options are right. JAX is loaded here: that takes longer than to refuse an option."""
    import jax

    from ntkbias.cli import spectra, tracking
    from ntkbias.cli.outcome import say

    try:
        if isinstance(options, TrackOptions):
            outcome = tracking.run(options)
        elif isinstance(options, SpectrumOptions):
            outcome = spectra.run(options, "spectrum", (options.net,), (options.limit,))
        else:
            outcome = spectra.run(options, "compare", options.nets, options.limits)
    except jax.errors.JaxRuntimeError as error:
        raise MemoryError(str(error)) from error
    return say(outcome)
