"""The command line: `ntkbias spectrum` for one network, `ntkbias compare` for several, `ntkbias track` for training.

Each prints a table, and fills a run folder: settings and versions (`settings.json`), the values (`comparison` or
`history`, `.npz` and `.json`, read by `ntkbias.load`), the table, what it says of the whole as `facts.json`, figures
as SVG and PNG, and `report.html`. Options may also stand in a TOML file (`--config`); those on the command line
prevail.

>>> from ntkbias.cli import main
>>> main(["spectrum", "--data", "nowhere.npz"])
2
"""

import sys

import jax

from ntkbias.cli import spectra, tracking
from ntkbias.cli.options import CompareOptions, SpectrumOptions, TrackOptions, parsed, with_config
from ntkbias.errors import InputError

__all__ = ["CompareOptions", "SpectrumOptions", "TrackOptions", "main"]


def main(argv: list[str] | None = None) -> int:
    """Run a command; return 0, or 2 after one sentence about what was wrong with the input."""
    try:
        options = parsed(with_config(list(sys.argv[1:] if argv is None else argv)))
        if options.seed < 0:
            raise InputError(f"Expected --seed to be zero or more; got {options.seed}.")
        if isinstance(options, TrackOptions):
            tracking.run(options)
        elif isinstance(options, SpectrumOptions):
            spectra.run(options, "spectrum", (options.net,), (options.limit,))
        else:
            spectra.run(options, "compare", options.nets, options.limits)
    except InputError as error:
        print(f"ntkbias: {error}", file=sys.stderr)
        return 2
    except (MemoryError, OverflowError, jax.errors.JaxRuntimeError) as error:
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
    return 0
