"""Keeps a bad step from spoiling the picture."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from nst.errors import RunError

RISE, DESCENT_RISE = 10.0, 1.1
"""The highest objective that is accepted, as a multiple of the level's lowest objective; above it, the last step has
done harm. Adam may climb for a while and come down elsewhere; L-BFGS has to descend (DESCENT_RISE), and a rise is the
beginning of a black and grey picture."""
NOISE = 1e-6
"""The objective that rounding alone may cause where the lowest objective is 0."""
TRIES = 12
"""Number of attempts at a step in all, each with half the step size of the attempt before."""


class DivergenceError(RunError):
    """An objective that is not finite or has risen far, or a picture that is not finite.

    Args:
        culprit: The name of what went wrong: a value of the objective, `total` or `picture`.
        value: The culprit's number.
        flag: The setting that lowers the culprit.
    """

    def __init__(self, culprit: str, value: float, flag: str = "the weights") -> None:
        self.reason = f"{culprit} is {value:g}"
        super().__init__(
            f"Expected a finite and falling loss, but {self.reason}: stopped, and the last good picture is kept; "
            f"lower {flag} or the learning rate (--model.optimizer.lr)"
        )


class Guard:
    """Checks each step's objective and keeps the last picture with a good objective.

    Args:
        flags: The settings that lower the objective's values, by the values' names.

    Attributes:
        objective: The objective of the picture before the latest step, a scalar.
        lowest: The lowest objective of the level so far.
    """

    objective: Tensor

    def __init__(self, flags: Mapping[str, str] | None = None) -> None:
        self.flags = dict(flags or {})
        self.begin()

    def begin(self) -> None:
        """Begins a level: forgets the good picture and the lowest objective of the level before."""
        self.lowest = math.inf
        self._good: Tensor | None = None
        self._picture: Tensor | None = None
        self._evaluations, self._rise = 0, RISE

    def open(self, picture: Tensor, optimizer: Optimizer) -> None:
        """Begins an optimiser step, or another attempt at the step, from the current picture, (1, 3, H, W)."""
        self._picture, self._evaluations = picture.detach(), 0
        self._rise = DESCENT_RISE if isinstance(optimizer, torch.optim.LBFGS) else RISE

    def check(self, total: Tensor, values: Mapping[str, Tensor]) -> None:
        """Checks an objective.

        Only the first objective of a step is compared with the lowest objective: a line search may well evaluate points
        with a high objective.

        Args:
            total: The objective, a scalar.
            values: The values that the objective is the weighted sum of, by name.

        Raises:
            DivergenceError: If the objective is not finite or too high.
        """
        objective = float(total.detach())
        if not math.isfinite(objective):
            culprit = next((name for name, value in values.items() if not torch.isfinite(value)), "total")
            flag = self.flags.get(culprit, "the weights")
            raise DivergenceError(culprit, float(values.get(culprit, total).detach()), flag)
        if self._evaluations == 0:
            if objective > self._rise * self.lowest + NOISE:
                raise DivergenceError("total", objective)
            self.objective, self.lowest = total.detach(), min(self.lowest, objective)
            if self._picture is not None:
                self._good = self._picture.clone() if self._good is None else self._good.copy_(self._picture)
        self._evaluations += 1

    def close(self, picture: Tensor) -> None:
        """Ends a step.

        Raises:
            DivergenceError: If the picture is not finite.
        """
        if not torch.isfinite(picture.detach().sum()):
            raise DivergenceError("picture", math.nan)

    @torch.no_grad()
    def go_back(self, picture: Tensor, error: DivergenceError, again: bool) -> None:
        """Puts the last good picture back.

        Args:
            picture: The picture, (1, 3, H, W), changed in place.
            error: The error of the step.
            again: Whether the step may be tried again.

        Raises:
            DivergenceError: The given error, if the step may not be tried again or no picture of the level was good.
        """
        if self._good is not None:
            picture.copy_(self._good)
        if self._good is None or not again:
            raise error

    def state_dict(self) -> dict[str, Any]:
        """Returns the state that a resumed run needs, as plain values and a tensor."""
        return {"lowest": self.lowest, "good": self._good}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores a state whose picture has been checked; an empty state is that of the beginning of a level."""
        self.lowest, self._good = float(state.get("lowest", math.inf)), state.get("good")
