"""`python -m vfswasi` is the command `vfswasi`."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
