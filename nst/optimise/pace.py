"""Ends a level before all its steps are made: its share of the time is spent, or the objective no longer improves."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from nst.machine.numerics import widest
from nst.scene.levels import Level

WINDOW = 20
"""Number of steps over which the objective is averaged; the averages tell whether the objective still falls."""
RESERVE = 1.0
"""Seconds of a budget that are kept for writing the picture."""


class Pace:
    """Tracks the time of a run and the improvement of its objective.

    Args:
        levels: The levels of the run, each with its share of the budget and the least improvement that continues it.
        spent: Seconds that the run has taken already.
    """

    def __init__(self, levels: Sequence[Level], spent: float = 0.0) -> None:
        self.levels, self.spent = levels, spent
        self.ended = False
        self._prepared: float | None = None
        self._sum: Tensor | None = None
        self._mean: float | None = None
        self._count = 0

    @property
    def spent(self) -> float:
        """Seconds since the run was started, without the time between a stop and the resumption."""
        return time.monotonic() - self._started

    @spent.setter
    def spent(self, seconds: float) -> None:
        self._started = time.monotonic() - seconds

    def begin(self) -> None:
        """Begins a level."""
        if self._prepared is None:
            self._prepared = self.spent
        self.ended, self._sum, self._mean, self._count = False, None, None, 0

    def step(self, level: Level, objective: Tensor) -> bool:
        """Records a step.

        Args:
            level: The level of the step.
            objective: The objective of the step, a scalar; read from the device once in WINDOW steps, and only where
                the level has a `min_improvement`.

        Returns:
            Whether the level is done.
        """
        self.ended = self._slow(level, objective) or (level.seconds is not None and self.spent >= self._due(level))
        return self.ended

    def left(self, level: Level, done: int, step: float) -> float:
        """Estimates how long the rest of the run takes, in seconds.

        Args:
            level: The level of the last step.
            done: Steps made at this level.
            step: Seconds that a step takes at this level.
        """
        if level.seconds is not None:
            return max(0.0, sum(x.seconds or 0.0 for x in self.levels) - self.spent)
        later = sum(x.steps * x.cost for x in self.levels if x.index > level.index)
        return step * (level.steps - done + later / level.cost)

    def _due(self, level: Level) -> float:
        """Returns the time at which a level must end: levels share the part of the budget that preparations leave."""
        seconds = [x.seconds or 0.0 for x in self.levels]
        prepared, budget = self._prepared or 0.0, sum(seconds) - RESERVE
        return prepared + (budget - prepared) * sum(seconds[: level.index + 1]) / sum(seconds)

    def _slow(self, level: Level, objective: Tensor) -> bool:
        if not level.min_improvement:
            return False
        objective = widest(objective.detach())
        self._sum = objective if self._sum is None else self._sum + objective
        self._count += 1
        if self._count < WINDOW:
            return False
        before, self._mean = self._mean, float(self._sum) / WINDOW
        self._sum, self._count = None, 0
        return before is not None and before - self._mean < level.min_improvement * before

    def state_dict(self) -> dict[str, Any]:
        """Returns the state that a resumed run needs, as plain values."""
        state = {"spent": self.spent, "prepared": self._prepared, "ended": self.ended, "rules": self._rules}
        return state | {"sum": self._sum, "mean": self._mean, "count": self._count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores a state; a level that had ended continues if the budget or the least improvement has changed."""
        self.spent = state["spent"]
        self._prepared, self.ended = state["prepared"], state["ended"] and state["rules"] == self._rules
        self._sum, self._mean, self._count = state["sum"], state["mean"], state["count"]

    @property
    def _rules(self) -> list[list[float | None]]:
        return [[level.seconds, level.min_improvement] for level in self.levels]
