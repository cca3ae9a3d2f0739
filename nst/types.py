"""Types of settings as they are written in a config or on the command line."""

from __future__ import annotations

import os

from jsonargparse.typing import register_type


class InputPath(str):
    """A file to read. In a config it is relative to that config, on the command line to the current folder."""


class Pixels(int):
    """A whole number of pixels; `1e3` is one."""


class WeightsSource(str):
    """`imagenet`, `random:SEED`, or a file to read, found like an InputPath."""


def _resolve(path: str) -> InputPath:
    # jsonargparse works in the folder of the config while it parses that config
    return InputPath(os.path.abspath(os.path.expanduser(path)))


def _resolve_weights(source: str) -> WeightsSource:
    return WeightsSource(source if source == "imagenet" or source.startswith("random:") else _resolve(source))


def _whole(value: object) -> Pixels:
    number = float(value)  # type: ignore[arg-type]  # anything else raises, which is the check
    if not number.is_integer():
        raise ValueError(f"expected a whole number of pixels, but got {value}")
    return Pixels(number)


register_type(InputPath, serializer=str, deserializer=_resolve)
register_type(WeightsSource, serializer=str, deserializer=_resolve_weights)
register_type(
    Pixels, serializer=int, deserializer=_whole, deserializer_exceptions=(ValueError, TypeError, OverflowError)
)
