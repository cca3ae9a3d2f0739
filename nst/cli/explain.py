"""Turns a parser's errors into one line for people."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import NoReturn

from nst.errors import InputError, nearest, one_line
from nst.scene.styles import Region, Style
from nst.types import WORDS


def explain(message: str, keys: Iterable[str]) -> str:
    """Turns a parser's error into one line, with the nearest known key for a misspelt key."""
    text = " ".join(message.split()).replace("- ", "")
    if match := re.search(r"[Uu]nrecognized arguments: (\S+)", text):
        option = match[1].partition("=")[0]
        return f"Expected a known option, but got {option}{nearest(option, [f'--{key}' for key in keys])}"
    if match := re.search(r"Group '(\S+)' does not accept option '(\S+)'", text):
        key = f"{match[1]}.{match[2]}"
        return f"Expected a known key in the config, but got {key}{nearest(key, keys)}"
    if match := re.search(r"Option '(\S+)' is not accepted", text):
        from nst.run.steering.changes import Change  # which loads torch

        known = [*keys, *(field.name for entry in (Style, Region, Change) for field in fields(entry))]
        return f"Expected a known key in the config, but got {match[1]}{nearest(match[1], known)}"
    if match := re.search(r"arguments are required: (.*)", text):
        return f"Expected --{match[1].replace(', ', ' and --')}, but it was not given"
    if match := re.search(r'Parser key "([\w.]+)".*surrogates not allowed', text):
        return f"Expected --{match[1]} to be a name in UTF-8, but got one with other bytes; rename the file"
    text = re.sub(r"<class '([\w.]+)'>", lambda found: found[1].rpartition(".")[2], text)
    text = re.sub(r"typing\.Literal\[(.*?)\]", lambda found: f"one of {found[1]}", text)
    if match := re.search(r'Parser key "([\w.]+)"[^:]*: (.*)', text):
        key, reason = match[1], match[2]
        wrong = re.fullmatch(r"Expected an? (.*?)\. Got value: (.*)", reason)
        wrong = wrong or re.fullmatch(r"Not of type \w+: expected (.*), but got (.*)", reason)
        wrong = wrong or re.fullmatch(r".*Subtypes: \[(.*)\] Errors: .* Given value: (.*)", reason)
        if wrong:
            kinds = re.sub("|".join(WORDS), lambda found: WORDS[found[0]], wrong[1].removesuffix(", NoneType"))
            return f"Expected --{key} to be {kinds}, but got {wrong[2]}"
        return f"--{key}: {reason}"
    return text


@contextmanager
def explained() -> Iterator[None]:
    """Turns jsonargparse's error for a user's class that cannot be made or serialised into an InputError."""
    try:
        yield
    except ValueError as error:
        if isinstance(error, InputError) or not str(error).startswith("Does not validate"):
            raise
        raise InputError(
            f"Expected classes that can be made from their settings, but got one that cannot: "
            f"{one_line(error, longest=2000)}"
        ) from None


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are InputErrors."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message[:1].upper()}{message[1:]}; see {self.prog} --help")
