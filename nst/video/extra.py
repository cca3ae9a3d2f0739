"""The packages of the extra `video`, which not everybody has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from nst.errors import InputError


@contextmanager
def packages() -> Iterator[None]:
    """Turns the error for a package of the extra `video` that is not installed into an InputError."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise InputError(
            f"Expected the packages that read and write clips, but {error.name} is not installed; give "
            "python3 -m pip install 'nst[video]'"
        ) from None
