"""Keeps a bad step from spoiling the picture.

On the CPU a step is judged at once. To ask another device for a number is to wait until it has done all that it was
told; so there the device judges for itself and goes back, and the host learns a few steps later that it has to make
steps half as long.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

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
AT_ONCE = ("cpu",)
"""Types of devices that are asked at once."""
OBJECTIVE, PICTURE = 1, 2
"""What did harm, as a number that a device can keep."""
LAG = 4
"""Steps after which the host learns what another device has decided: a few, which are lost where a step did harm."""


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
        objective: The objective of the picture before the latest step, a scalar; the lowest where a device found harm.
        lowest: The lowest objective of the level, as far as the host knows.
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
        self._away: _Away | None = None
        self._failures = 0  # in a row, of steps that the device judged
        self._known: Mapping[str, Any] = {}

    def open(self, picture: Tensor, optimizer: Optimizer) -> None:
        """Begins an optimiser step, or another attempt at the step, from the current picture, (1, 3, H, W)."""
        self._picture, self._evaluations = picture.detach(), 0
        descends = isinstance(optimizer, torch.optim.LBFGS)  # which asks the device for numbers itself
        self._rise = DESCENT_RISE if descends else RISE
        if picture.device.type in AT_ONCE or descends:
            self._away = None
        elif self._away is None:
            self._good = self._picture.clone() if self._good is None else self._good.to(picture)
            self._away = _Away(self._good, self.lowest, self._known)

    def check(self, total: Tensor, values: Mapping[str, Tensor]) -> None:
        """Checks an objective.

        Only the first objective of a step is compared with the lowest objective: a line search may well evaluate points
        with a high objective.

        Args:
            total: The objective, a scalar.
            values: The values that the objective is the weighted sum of, by name.

        Raises:
            DivergenceError: If the objective is not finite or too high, unless the device judges it.
        """
        first, total = self._evaluations == 0, total.detach()
        self._evaluations += 1
        if self._away is not None:
            self._away.judge(self._picture if first else None, total, values, self._rise)
            self.objective = self._away.objective
            return
        objective = float(total)
        if not math.isfinite(objective):
            raise self._error(objective, {name: float(value.detach()) for name, value in values.items()})
        if first:
            if objective > self._rise * self.lowest + NOISE:
                raise self._error(objective, {})
            self.objective, self.lowest = total, min(self.lowest, objective)
            if self._picture is not None:
                self._good = self._picture.clone() if self._good is None else self._good.copy_(self._picture)

    def close(self, picture: Tensor, last: bool = False) -> None:
        """Ends a step.

        Args:
            picture: The picture, (1, 3, H, W); changed in place where its device judges that the step did harm.
            last: Whether the level has no more steps, so that nothing may be left to be learned later.

        Raises:
            DivergenceError: If the picture is not finite or, where the device judges, an earlier step did harm.
        """
        if self._away is None:
            if not torch.isfinite(picture.detach().sum()):
                raise DivergenceError("picture", math.nan)
            return
        for verdict in self._away.close(picture, 0 if last else LAG):
            self.lowest = verdict.lowest
            if verdict.harm == PICTURE:
                raise DivergenceError("picture", math.nan)
            if verdict.harm:
                raise self._error(verdict.total, verdict.values)
            self._failures = 0

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
        if self._away is not None:
            self._away.forgive()
            self._failures += 1
            again = again and self._failures < TRIES and math.isfinite(self.lowest)
        if self._good is None or not again:
            raise error

    def _error(self, total: float, values: Mapping[str, float]) -> DivergenceError:
        """Returns the error of an objective, with the first of its values that is not finite as the culprit."""
        wrong = {name: value for name, value in values.items() if not math.isfinite(value)}
        culprit, value = next(iter(wrong.items()), ("total", total))
        return DivergenceError(culprit, value, self.flags.get(culprit, "the weights"))

    def state_dict(self) -> dict[str, Any]:
        """Returns the state that a resumed run needs, as plain values and a tensor."""
        if self._away is None:
            return {"lowest": self.lowest, "good": self._good}
        away = self._away.state_dict() | {"failures": self._failures}
        return {"lowest": float(self._away.lowest), "good": self._good, "away": away}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores a state whose picture has been checked; an empty state is that of the beginning of a level."""
        self.lowest, self._good = float(state.get("lowest", math.inf)), state.get("good")
        self._away, self._known = None, state.get("away", {})
        self._failures = int(self._known.get("failures", 0))


class _Verdict(NamedTuple):
    """What the host learns of a step that a device has judged.

    Attributes:
        harm: 0 for none; OBJECTIVE or PICTURE for what did harm, in this step or one before that was not forgiven.
        lowest: The lowest objective of the level by then; infinite if none was good.
        total: The objective.
        values: The values that the objective is the weighted sum of, by name.
    """

    harm: float
    lowest: float
    total: float
    values: dict[str, float]


class _Away:
    """The guard on a device that the host does not wait for.

    After a step that did harm, the picture stays the last good one, whatever the next steps do, until it is forgiven.

    Args:
        good: The last picture with a good objective, (1, 3, H, W), changed in place; at first the one to begin with.
        lowest: The lowest objective of the level so far.
        known: What `state_dict` returned; empty for a new level.

    Attributes:
        lowest: The lowest objective of the level so far, a scalar.
        objective: The objective of the latest step, or the lowest one if the step did harm, a scalar.
    """

    objective: Tensor

    def __init__(self, good: Tensor, lowest: float, known: Mapping[str, Any]) -> None:
        self.good, self.lowest = good, good.new_full((), lowest)
        self._harm = good.new_full((), float(known.get("harm", 0)))
        self._names: list[str] = []
        self._seen = self.lowest[None]
        self._told: deque[tuple[Sequence[float] | Tensor, Callable[[], Any]]] = deque(
            ([float(x) for x in told], _nothing) for told in known.get("told", ())
        )

    @torch.no_grad()
    def judge(self, picture: Tensor | None, total: Tensor, values: Mapping[str, Tensor], rise: float) -> None:
        """Judges an objective; the picture is that of a step's first objective, and None for later ones."""
        fine = total.isfinite() & (self._harm == 0)
        seen = torch.stack([total, *(value.detach() for value in values.values())])
        if picture is None:
            seen = torch.where(self._harm == 0, seen, self._seen)
        else:
            fine &= total <= rise * self.lowest + NOISE
            self.objective = torch.where(fine, total, self.lowest)
            self.lowest = torch.where(fine, torch.minimum(total, self.lowest), self.lowest)
            torch.where(fine, picture, self.good, out=self.good)
        self._harm = torch.maximum(self._harm, OBJECTIVE * (~fine).to(self._harm))
        self._names, self._seen = [*values], seen

    @torch.no_grad()
    def close(self, picture: Tensor, lag: int) -> list[_Verdict]:
        """Ends a step, and returns the verdicts on the steps that are at least `lag` steps old."""
        broken = ~picture.sum().isfinite() & (self._harm == 0)
        self._harm = self._harm + PICTURE * broken.to(self._harm)
        torch.where(self._harm == 0, picture, self.good, out=picture)
        told = torch.cat([torch.stack([self._harm, self.lowest]), self._seen])
        self._told.append((told.to("cpu", non_blocking=True), _waiter(told.device)))
        return [self._verdict(*self._told.popleft()) for _ in range(len(self._told) - lag)]

    def _verdict(self, told: Sequence[float] | Tensor, wait: Callable[[], Any]) -> _Verdict:
        wait()
        harm, lowest, total, *values = told.tolist() if isinstance(told, Tensor) else told
        return _Verdict(harm, lowest, total, dict(zip(self._names, values, strict=True)))

    def forgive(self) -> None:
        """Lets the picture change again."""
        self._harm = torch.zeros_like(self._harm)
        self._told.clear()

    def state_dict(self) -> dict[str, Any]:
        """Returns what the device has decided and the host has not learned yet, as plain values."""
        for _, wait in self._told:
            wait()
        told = [x.tolist() if isinstance(x, Tensor) else list(x) for x, _ in self._told]
        return {"harm": float(self._harm), "told": told}


def _nothing() -> None:
    """Waits for nothing."""


def _waiter(device: torch.device) -> Callable[[], Any]:
    """Returns a function that waits until a device has done what it was told so far."""
    if device.type == "cuda":
        event = torch.cuda.Event()
        event.record()
        return event.synchronize
    return torch.mps.synchronize if device.type == "mps" else _nothing
