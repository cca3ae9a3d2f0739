"""The pictures that come with the package, by name: photographs of scikit-image, and paintings of our own.

`sample:chelsea` is a name of a closed list and never a path, so that it may come from a stranger's record or a page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from nst.errors import InputError, nearest, one_line

WORD = "sample"
PREFIX = f"{WORD}:"

PHOTOGRAPHS = {"rocket": "rocket.jpg", "chelsea": "chelsea.png", "astronaut": "astronaut.png", "coffee": "coffee.png"}
"""Photographs in scikit-image's package, all in the public domain or CC0; the first is `sample`."""

PAINTINGS = {
    "night": "night.jpg",
    "woodcut": "woodcut.jpg",
    "glass": "glass.jpg",
    "ink": "ink.jpg",
    "dots": "dots.jpg",
    "mosaic": "mosaic.jpg",
}
"""Paintings in our own package, which tools/ has painted; the first is `sample`."""


def is_name(source: object) -> bool:
    """Whether a setting has the form of a sample's name; such a sample may not exist."""
    return isinstance(source, str) and (source == WORD or source.startswith(PREFIX))


def is_sample(source: object) -> bool:
    """Whether a setting names a sample that exists, and so no file of the user's."""
    return source == WORD or (is_name(source) and str(source).removeprefix(PREFIX) in {*PHOTOGRAPHS, *PAINTINGS})


def names(source: str | Sequence[str], key: str) -> list[str]:
    """Returns the samples that a setting has, each as `sample:NAME`."""
    usual = next(iter(_usual(key)))
    return [f"{PREFIX}{usual}" if x == WORD else x for x in ([source] if isinstance(source, str) else source)]


def path(source: str, key: str = "data.content") -> Path:
    """Returns the file of a sample.

    Args:
        source: `sample`, or `sample:NAME`; any sample may be a photograph or a painting.
        key: The setting that names it: `sample` alone is a painting for a style and the photograph otherwise.

    Raises:
        InputError: If there is no sample of this name.
    """
    usual = _usual(key)
    name = next(iter(usual)) if source == WORD else source.removeprefix(PREFIX)
    if name in PAINTINGS:
        return Path(__file__).parents[1] / "assets" / PAINTINGS[name]
    if name in PHOTOGRAPHS:
        return _photographs() / PHOTOGRAPHS[name]
    known = [f"{PREFIX}{x}" for x in (*usual, *_others(usual))]
    raise InputError(
        f"Expected --{key} to be a file or one of {', '.join(known[:-1])} or {known[-1]}, but got "
        f"{one_line(source, longest=80)}{nearest(source, known)}"
    )


def files() -> set[str]:
    """Returns the paths of all samples."""
    return {str(path(f"{PREFIX}{name}")) for name in (*PHOTOGRAPHS, *PAINTINGS)}


def _usual(key: str) -> Mapping[str, str]:
    return PAINTINGS if key.startswith("data.style") else PHOTOGRAPHS


def _others(usual: Mapping[str, str]) -> Mapping[str, str]:
    return PHOTOGRAPHS if usual is PAINTINGS else PAINTINGS


def _photographs() -> Path:
    package = find_spec("skimage")
    assert package is not None and package.origin is not None  # scikit-image is a dependency
    return Path(package.origin).parent / "data"
