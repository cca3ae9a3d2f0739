"""Keeps a bad step from spoiling the picture."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.optim import Optimizer

from nst.errors import RunError

RISE, DESCENT_RISE = 10.0, 1.1
"""Times the lowest objective of a level that an objective may be; above, the last step has done harm. Adam may climb
for a while and come down elsewhere; L-BFGS is to descend, and a rise is the beginning of a black and grey picture."""
NOISE = 1e-6
"""An objective that rounding alone may have, where the lowest is 0."""
TRIES = 12
"""Times that a step is made in all, each with half the step size of the one before."""


class DivergenceError(RunError):
    """An objective that is not finite or has risen far, or a picture that is not finite.

    Args:
        culprit: The term of the objective, `total` or `picture`.
        value: What it has become.
    """

    def __init__(self, culprit: str, value: float) -> None:
        self.reason = f"{culprit} is {value:g}"
        kind = culprit.partition("/")[0]
        weight = f"--model.{kind}_weight" if kind in ("content", "style", "tv") else "the weights"
        super().__init__(
            f"Expected a finite and falling loss, but {self.reason}: stopped, and the last good picture is kept; "
            f"lower {weight} or the learning rate (--model.optimizer.lr)"
        )


class Guard:
    """Looks at each step's objective and keeps the last picture that had a good one.

    Attributes:
        objective: The objective of the picture before the latest step, a scalar.
        lowest: The lowest objective of the level so far.
    """

    objective: Tensor

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Begins a level: what was good and low before it says nothing of it."""
        self.lowest = math.inf
        self._good: Tensor | None = None
        self._picture: Tensor | None = None
        self._evaluations, self._rise = 0, RISE

    def open(self, picture: Tensor, optimizer: Optimizer) -> None:
        """Begins a step of an optimiser, or another try of it, with the picture as it is, (1, 3, H, W)."""
        self._picture, self._evaluations = picture.detach(), 0
        self._rise = DESCENT_RISE if isinstance(optimizer, torch.optim.LBFGS) else RISE

    def check(self, total: Tensor, terms: Mapping[str, Tensor]) -> None:
        """Looks at an objective.

        Only the first of a step is held against the lowest: a line search may well look at points with a high one.

        Args:
            total: The objective, a scalar.
            terms: What it is made of, by name.

        Raises:
            DivergenceError: If the objective is not finite or too high.
        """
        value = float(total.detach())
        if not math.isfinite(value):
            culprit = next((name for name, term in terms.items() if not torch.isfinite(term)), "total")
            raise DivergenceError(culprit, float(terms.get(culprit, total).detach()))
        if self._evaluations == 0:
            if value > self._rise * self.lowest + NOISE:
                raise DivergenceError("total", value)
            self.objective, self.lowest = total.detach(), min(self.lowest, value)
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
            error: What went wrong.
            again: Whether the step may be tried again.

        Raises:
            DivergenceError: The error, if it may not, or if no picture of the level was good.
        """
        if self._good is not None:
            picture.copy_(self._good)
        if self._good is None or not again:
            raise error
