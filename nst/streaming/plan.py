"""How the network runs on a picture: by which convolutions, and how in the available memory, where each stage keeps its
activations or works in bands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from nst.machine.precision import two_wide_units
from nst.streaming.convolutions import Method, has_winograd
from nst.streaming.stages import Stage, sides

Streaming = Literal["auto", "on", "off"]

BAND_HALOS = (64, 32, 16, 8, 4)
"""Rows of a band as multiples of the halo: taller bands compute fewer rows twice and take more memory."""

PEAK_FACTOR = 2.25
"""Memory that a band, or a picture without bands, takes over the memory of its tensors at the peak: the difference is
freed memory in pieces that fit no other tensor. Up to 2.1 was measured, for VGG19 at 512 to 4096 pixels. Where memory
is scarce, bands return their freed memory after each stage."""

REUSE_FACTOR, RETURN_SLOWDOWN = 2.5, 1.4
"""The available memory, over a plan's need, from which stages keep freed memory for each other; and the factor on the
plan's time where each stage returns its freed memory instead."""


def usable(method: Method) -> Method:
    """Returns `winograd` where Winograd's method is wanted and to be had on this machine, else `direct`.

    `auto` wants it unless the processor has two units of 512 bits, which are faster directly: NNPACK uses 256 bits.
    """
    wanted = method == "winograd" or (method == "auto" and not two_wide_units())
    return "winograd" if wanted and has_winograd() else "direct"


@dataclass(frozen=True)
class Plan:
    """How the network runs on pictures of one size.

    Attributes:
        rows: Rows of a band in each stage; a stage whose input has no more rows keeps its activations.
        needed: Bytes that the plan takes at its peak, without the picture, the weights and the targets.
        work: Operations of the plan over the operations for a picture whose activations are all kept in memory.
    """

    rows: tuple[int, ...]
    needed: int
    work: float

    @property
    def streams(self) -> bool:
        """Whether any activations are computed twice."""
        return self.work > 1

    def returns_memory(self, available: float) -> bool:
        """Whether each stage has to return its freed memory, as other stages need tensors of other sizes."""
        return self.streams and REUSE_FACTOR * self.needed > available

    def time(self, available: float) -> float:
        """Returns the plan's time over the time for a picture whose activations are all kept in memory."""
        return self.work * (RETURN_SLOWDOWN if self.returns_memory(available) else 1)


def whole(stages: Sequence[Stage], height: int, width: int) -> Plan:
    """Returns the plan that keeps all activations in memory."""
    return _plan(stages, height, width, sides(stages, height))


def streamed(stages: Sequence[Stage], height: int, width: int) -> list[Plan]:
    """Returns the plans that work in bands, fewest operations first."""
    plans = {_plan(stages, height, width, rows) for rows in _choices(stages, height)}
    return sorted((plan for plan in plans if plan.streams), key=lambda plan: (plan.work, plan.needed))


def choose(mode: Streaming, stages: Sequence[Stage], height: int, width: int, available: float) -> Plan:
    """Returns the fastest plan that fits into the available bytes, or else the plan that needs the fewest."""
    if mode != "on" and (mode == "off" or whole(stages, height, width).needed <= available):
        return whole(stages, height, width)
    plans = streamed(stages, height, width) or [whole(stages, height, width)]
    fitting = [plan for plan in plans if plan.needed <= available]
    return min(fitting, key=lambda plan: plan.time(available)) if fitting else min(plans, key=lambda plan: plan.needed)


def _choices(stages: Sequence[Stage], height: int) -> Iterator[list[int]]:
    """Yields rows of a band for each stage: the last stages, small and the costliest, may keep their activations."""
    heights = sides(stages, height)
    for halos in BAND_HALOS:
        for last in range(len(stages)):
            rows = [max(2, min(halos * stage.halo, side)) for stage, side in zip(stages, heights, strict=True)]
            # the first stage has at least two bands: else the plan would not stream
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
        # in the backward pass: the gradient of the output besides the held activations, and a band's workspace
        values = PEAK_FACTOR * (stage.kept_values + 4 * max(stage.channels)) if banded else 4 * max(stage.channels)
        workspace = seen * w * size * values
        output = stage.channels[-1] * (h // 2) * (w // 2) * size
        held += inputs[-1] + stage_kept
        peak = max(peak, held + output + workspace)
    work /= 2 * sum(forward)
    return Plan(tuple(rows), round(peak if work > 1 else PEAK_FACTOR * peak), work)
