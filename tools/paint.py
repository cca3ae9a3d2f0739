"""Paints the sample paintings.

    python tools/paint.py nst/assets            # all of them
    python tools/paint.py nst/assets ink dots   # some

The pictures are our own (MIT, like the code), and the same seed makes the same picture.
"""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path

from paintings.canvas import Canvas, write

NAMES = ("woodcut", "glass", "ink", "dots", "mosaic")
"""The paintings; each is a module with `paint`."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(NAMES)}")
    options = parser.parse_args()
    for name in options.names or NAMES:
        path = options.folder / f"{name}.jpg"
        write(import_module(f"paintings.{name}").paint(Canvas()), path)
        print(f"{path}: {path.stat().st_size} bytes", flush=True)


if __name__ == "__main__":
    main()
