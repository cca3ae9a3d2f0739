"""The two ways a run can end badly, and the words for them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """What the user gave cannot be used: the message says what was expected, what came and which key to change."""


class RunError(RuntimeError):
    """The input was fine but the run could not go on: a full disk, a loss that is not finite."""


def nearest(name: str, names: Iterable[str]) -> str:
    """Returns `" (did you mean X?)"` for the entry of `names` most like `name`, or an empty string."""
    matches = difflib.get_close_matches(name, list(names), n=1, cutoff=0.5)
    return f" (did you mean {matches[0]}?)" if matches else ""
