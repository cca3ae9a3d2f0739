"""Gradio, loaded without type stubs.

Whenever it is loaded, Gradio parses the source of its components and writes a `.pyi` file for editors beside each. That
takes half of its loading time, and a folder that can be written. It leaves out components that have no source.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def without_stubs() -> Iterator[None]:
    """Lets Gradio's components have no source while they are loaded."""
    plain = inspect.getfile

    def getfile(thing: Any) -> str:
        if type(thing).__name__ == "ComponentMeta":
            raise OSError("stubs are for editors")
        return plain(thing)

    inspect.getfile = getfile  # type: ignore[assignment]  # callers give one argument, by whatever name
    try:
        yield
    finally:
        inspect.getfile = plain
