"""`python -m ntkbias`, the same as the command `ntkbias`."""

import sys

from ntkbias.cli import main

if __name__ == "__main__":
    sys.exit(main())
