"""A change of settings in the middle of a run, as it stands in a config and in a picture's record."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

from nst.errors import InputError, check_choice
from nst.pictures.color import Color

End = Literal["level", "now"]


@dataclass
class Change:
    """A change of settings that takes hold after a step.

    Args:
        step: Number of steps that the run has made before, over all levels, 1 or more.
        content_weight: The content weight from here on.
        style_weight: The style weight from here on.
        strength: How far to go from the photograph from here on, above 0 and up to 1.
        color: The colours from here on.
        size: Longer side of the result, in pixels: the run goes on to this size after the current level.
        end: `now` ends the run after this step, `level` after the current level.
    """

    step: int
    content_weight: float | None = None
    style_weight: float | None = None
    strength: float | None = None
    color: Color | None = None
    size: int | None = None
    end: End | None = None

    def __post_init__(self) -> None:
        for name in ("content_weight", "style_weight", "strength"):
            value = getattr(self, name)
            if isinstance(value, int):  # so that a change from a page is written as one from a config
                setattr(self, name, float(value))


def check(change: Change) -> None:
    """Raises an InputError unless every value of a change is in its range."""
    if change.step < 1:
        raise InputError(f"Expected --changes to have steps of 1 or more, but got {change.step}")
    for name in ("content_weight", "style_weight"):
        weight = getattr(change, name)
        if weight is not None and not (math.isfinite(weight) and weight >= 0):
            raise InputError(f"Expected --changes.{name} to be finite and 0 or more, but got {weight}")
    if change.strength is not None and not 0 < change.strength <= 1:
        raise InputError(f"Expected --changes.strength to be above 0 and at most 1, but got {change.strength}")
    if change.size is not None and change.size < 1:
        raise InputError(f"Expected --changes.size to be 1 pixel or more, but got {change.size}")
    if change.color is not None:
        check_choice("changes.color", change.color, Color)
    if change.end is not None:
        check_choice("changes.end", change.end, get_args(End))


def written(change: Change) -> dict[str, Any]:
    """Returns a change as a config has it: what it does not change is left out."""
    return {name: value for name, value in vars(change).items() if value is not None}
