"""How a picture is looked at in the memory that there is: its stages keep activations or work in bands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from nst.streaming.stages import Stage, sides

Streaming = Literal["auto", "on", "off"]

BAND_HALOS = (64, 32, 16, 8, 4)
"""Rows of a band, in halos: taller bands compute less twice and take more memory."""

PEAK_FACTOR = 2.25
"""What a band, or a picture that is no stream, takes over what it holds at its peak: freed memory in pieces that fit
nothing else. Up to 2.1 was measured, for VGG19 at 512 to 4096 pixels. Where memory is scarce, bands return theirs
after each stage."""

REUSE_FACTOR, RETURN_SLOWDOWN = 2.5, 1.4
"""Times its need that bands must have available to keep the memory that stages freed for each other, and the times that
they take where each stage returns it instead."""


@dataclass(frozen=True)
class Plan:
    """A way through the network for pictures of one size.

    Attributes:
        rows: Rows of a band in each stage; a stage whose input has no more keeps its activations.
        needed: Bytes that it takes at its peak, without the picture, the weights and the targets.
        work: Its operations over those of a picture in memory.
    """

    rows: tuple[int, ...]
    needed: int
    work: float

    @property
    def streams(self) -> bool:
        """Whether anything is computed twice."""
        return self.work > 1

    def returns_memory(self, available: float) -> bool:
        """Whether each stage has to return the memory that it freed, as others need other sizes."""
        return self.streams and REUSE_FACTOR * self.needed > available

    def time(self, available: float) -> float:
        """Returns how long it takes over a picture in memory."""
        return self.work * (RETURN_SLOWDOWN if self.returns_memory(available) else 1)


def whole(stages: Sequence[Stage], height: int, width: int) -> Plan:
    """Returns the plan for a picture in memory."""
    return _plan(stages, height, width, sides(stages, height))


def streamed(stages: Sequence[Stage], height: int, width: int) -> list[Plan]:
    """Returns the plans that look at the picture in bands, fewest operations first."""
    plans = {_plan(stages, height, width, rows) for rows in _choices(stages, height)}
    return sorted((plan for plan in plans if plan.streams), key=lambda plan: (plan.work, plan.needed))


def choose(mode: Streaming, stages: Sequence[Stage], height: int, width: int, available: float) -> Plan:
    """Returns the fastest plan that fits into the bytes that are available, or else the smallest one."""
    if mode != "on" and (mode == "off" or whole(stages, height, width).needed <= available):
        return whole(stages, height, width)
    plans = streamed(stages, height, width) or [whole(stages, height, width)]
    fitting = [plan for plan in plans if plan.needed <= available]
    return min(fitting, key=lambda plan: plan.time(available)) if fitting else min(plans, key=lambda plan: plan.needed)


def _choices(stages: Sequence[Stage], height: int) -> Iterator[list[int]]:
    """Yields rows for each stage: the last ones may keep everything, as they are small and cost the most."""
    heights = sides(stages, height)
    for halos in BAND_HALOS:
        for last in range(len(stages)):
            rows = [max(2, min(halos * stage.halo, side)) for stage, side in zip(stages, heights, strict=True)]
            # the first stage has two bands at least: else it would be no stream
            rows[0] = min(rows[0], max(2, (height + 1) // 2 + (height + 1) // 2 % 2))
            yield [heights[i] if i >= len(stages) - last else count for i, count in enumerate(rows)]


def _plan(stages: Sequence[Stage], height: int, width: int, rows: Sequence[int]) -> Plan:
    heights, widths = sides(stages, height), sides(stages, width)
    forward = [stage.operations * h * w for stage, h, w in zip(stages, heights, widths, strict=True)]
    work, held, peak = 0.0, 0.0, 0.0
    inputs: list[float] = []
    for i, (stage, count) in enumerate(zip(stages, rows, strict=True)):
        h, w, size = heights[i], widths[i], stage.dtype.itemsize
        banded = count < h
        seen = min(h, count + 2 * stage.halo)
        work += forward[i] * (3 * (1 + 2 * stage.halo / count) if banded else 2)
        inputs.append(stage.channels[0] * h * w * size if i else 0)
        stage_kept = 0.0 if banded else stage.kept_values * h * w * size
        # on the way back: the gradient of the output besides what is held, and what a band works with
        values = PEAK_FACTOR * (stage.kept_values + 4 * max(stage.channels)) if banded else 4 * max(stage.channels)
        workspace = seen * w * size * values
        output = stage.channels[-1] * (h // 2) * (w // 2) * size
        held += inputs[-1] + stage_kept
        peak = max(peak, held + output + workspace)
    work /= 2 * sum(forward)
    return Plan(tuple(rows), round(peak if work > 1 else PEAK_FACTOR * peak), work)
