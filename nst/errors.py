"""The errors that end a run, and helpers that word their messages."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from typing import Any, get_args


class InputError(ValueError):
    """The user's input cannot be used: the message says what was expected, what was given and which key to change."""


class RunError(RuntimeError):
    """The input was fine but the run could not go on: a full disk, a loss that is not finite."""


class LostProcessError(RunError):
    """Another process of the run has ended before its time."""


def nearest(name: str, names: Iterable[str]) -> str:
    """Returns `" (did you mean X?)"` for the entry of `names` most like `name`, or an empty string."""
    matches = difflib.get_close_matches(name, list(names), n=1, cutoff=0.5)
    return f" (did you mean {matches[0]}?)" if matches else ""


def check_choice(key: str, value: object, choices: Any) -> None:
    """Raises an InputError unless a value is one of the allowed names.

    Args:
        key: The setting that the value belongs to, such as `model.pooling`.
        value: The value that was given.
        choices: A Literal, or the allowed names.
    """
    names: tuple[object, ...] = get_args(choices) or tuple(choices)
    if not any(type(value) is type(name) and value == name for name in names):
        shown = [str(name) for name in names]
        several = f"one of {', '.join(shown[:-1])} or {shown[-1]}" if len(shown) > 1 else shown[0]
        raise InputError(f"Expected --{key} to be {several}, but got {value}{nearest(str(value), shown)}")


def one_line(text: object, longest: int = 300) -> str:
    """Returns a text as one line: unprintable characters are escaped, and a text is cut after `longest` characters."""
    line = " ".join(str(text).split())
    plain = "".join(x if x.isprintable() else x.encode("unicode_escape").decode("ascii") for x in line)
    return plain if len(plain) <= longest else f"{plain[:longest]}..."


def shown(path: str | os.PathLike[str]) -> str:
    """Returns a path for a message: bytes that are not UTF-8, line ends and control characters are escaped."""
    text = os.fspath(path)
    return "".join(x if x.isprintable() else x.encode("unicode_escape").decode("ascii") for x in text)
