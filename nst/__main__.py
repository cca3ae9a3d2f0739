"""`python -m nst`."""

import sys

from nst.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
