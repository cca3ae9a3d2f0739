"""Types of settings as they are written in a config or on the command line."""

from __future__ import annotations

import os
import re

from jsonargparse.typing import register_type


class InputPath(str, os.PathLike[str]):
    """A file to read: a path in a config is relative to the config, on the command line to the current folder.

    `sample:NAME` is kept as it is; where a file has such a name, it is `./sample:NAME`.
    """

    def __fspath__(self) -> str:
        return str(self)


class Pixels(int):
    """A whole number of pixels, such as `512` or `1e3`."""


class Seconds(float):
    """A length of time: `90`, `90s`, `1.5min` or `1h`."""

    @classmethod
    def parse(cls, value: object) -> Seconds:
        """Reads a number or a text."""
        match = re.fullmatch(r"\s*(\d*\.?\d+)\s*(s|sec|m|min|h)?\s*", str(value))
        if match is None:
            raise ValueError(f"expected a time such as 60s or 2min, but got {value}")
        return cls(float(match[1]) * {"m": 60, "h": 3600}.get((match[2] or "s")[0], 1))


class Bytes(int):
    """An amount of memory: `6GiB`, `800MB` or a number of bytes."""

    @classmethod
    def parse(cls, value: object) -> Bytes:
        """Reads a number or a text."""
        match = re.fullmatch(r"\s*(\d*\.?\d+)\s*(?:([KMGT])(i?)B?|B)?\s*", str(value), re.IGNORECASE)
        if match is None:
            raise ValueError(f"expected an amount of memory such as 6GiB, but got {value}")
        power = "KMGT".index(match[2].upper()) + 1 if match[2] else 0
        return cls(float(match[1]) * (1024 if match[3] else 1000) ** power)


class WeightsSource(str):
    """`imagenet`, `random:SEED`, or a file whose path is resolved like an InputPath."""


def _resolve(path: str) -> InputPath:
    if path.startswith("sample:"):  # a picture that comes with the package, and no path
        return InputPath(path)
    if path.startswith(("[", "{")) and not os.path.exists(path):  # a list, or a list's entry, that failed to parse
        raise ValueError(f"expected a file, but got {path}")
    # jsonargparse works in the folder of the config while it parses that config
    return InputPath(os.path.abspath(os.path.expanduser(path)))


def _resolve_weights(source: str) -> WeightsSource:
    return WeightsSource(source if source == "imagenet" or source.startswith("random:") else _resolve(source))


def _whole(value: object) -> Pixels:
    try:
        number = float(value)  # type: ignore[arg-type]  # float() rejects all that is no number
        if number.is_integer():
            return Pixels(number)
    except (ValueError, TypeError, OverflowError):
        pass
    raise ValueError(f"expected a whole number of pixels, but got {value}")


def _written(path: object) -> str:
    if not isinstance(path, str):  # so that a list of styles is not written as one path
        raise ValueError(f"expected a path, but got {path}")
    return str(path)


register_type(InputPath, serializer=_written, deserializer=_resolve)
register_type(WeightsSource, serializer=str, deserializer=_resolve_weights)
register_type(
    Pixels, serializer=int, deserializer=_whole, deserializer_exceptions=(ValueError, TypeError, OverflowError)
)
register_type(Bytes, serializer=int, deserializer=Bytes.parse)
register_type(Seconds, serializer=float, deserializer=Seconds.parse)

WORDS = {
    "Seconds": "a time such as 60s or 2min",
    "Bytes": "an amount of memory such as 6GiB",
    "Pixels": "a whole number of pixels",
}
"""Descriptions of the types, for messages about values of another type."""
