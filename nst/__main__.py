"""`python -m nst`, and the script `nst`."""

import sys

from nst.machine import threads


def main() -> int:
    """Prepares OpenMP, which reads its settings when torch is loaded, and runs the command line."""
    threads.prepare()
    from nst.cli.main import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
