"""Makes changes of settings at the border of two steps: a replay that makes them there gives the same picture."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from nst.errors import InputError
from nst.losses.objective import STRENGTH_POWER
from nst.optimise.loop import level_over, replan
from nst.run.steering.changes import Change, check

KINDS = ("content", "style")
"""The terms whose weights may change."""

log = logging.getLogger(__name__)


class Steering(Callback):
    """Makes the changes of a plan, each after its step.

    Args:
        plan: The changes.

    Attributes:
        made: The changes that have been made, in their order.

    Raises:
        InputError: If a value of a change is out of its range.
    """

    def __init__(self, plan: Sequence[Change] = ()) -> None:
        for change in plan:
            check(change)
        self.plan = sorted(plan, key=lambda change: change.step)
        self.made: list[Change] = []
        self._weights: dict[str, float] = {}
        self._start: dict[str, float] = {}
        self._now: dict[str, float] = {}

    def on_fit_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        weights, strength = dict(pl_module.objective.weights), pl_module.strength
        # a term's weights sum to its setting, and strength is a factor of all but the content's
        content, style = (sum(x for name, x in weights.items() if name.startswith(f"{kind}/")) for kind in KINDS)
        style = style / strength**STRENGTH_POWER if strength else 0.0
        self._weights = weights
        self._start = {"content_weight": content, "style_weight": style, "strength": strength}
        self._now = dict(self._start)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        for change in self.due(trainer.global_step):
            self.make(trainer, pl_module, change)

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        for change in self.plan:
            log.info("The change after step %d was not made: the run has %d steps", change.step, trainer.global_step)

    def due(self, step: int) -> Iterable[Change]:
        """Returns the changes to make now, and takes them off the plan.

        Args:
            step: Steps that the run has made.
        """
        now = [change for change in self.plan if change.step == step]
        self.plan = [change for change in self.plan if change.step > step]
        return now

    def make(self, trainer: pl.Trainer, module: Any, change: Change) -> None:
        """Makes a change.

        Raises:
            InputError: If the run cannot have it; nothing is changed then.
        """
        self._check(change)
        data: Any = trainer.datamodule  # type: ignore[attr-defined]  # set by fit, and not declared
        if change.color is not None or change.size is not None:
            self._remake(trainer, module, data, change)
        if change.end == "level":
            at = module.level.index + 1
            data.plan, data.levels = data.plan[:at], data.levels[:at]
            replan(trainer, data.levels)
        named = {name: getattr(change, name) for name in self._now if getattr(change, name) is not None}
        if named:
            self._now |= named
            self._reweigh(module)
        if change.end == "now":
            trainer.should_stop = True
        if not level_over(trainer):
            module.begin_steps()  # what another objective was is no measure of this one
        self.made.append(change)

    def _check(self, change: Change) -> None:
        """Raises an InputError if a weight is to be changed of which the run has no term."""
        check(change)
        for kind in KINDS:
            name = f"{kind}_weight"
            if getattr(change, name) is not None and not self._start[name]:
                raise InputError(
                    f"Expected a run with a {kind} term to change --model.{name}, but this one began with a weight of "
                    "0; begin with a small one"
                )
        if change.strength is not None and not self._start["strength"]:
            raise InputError(
                "Expected a run of --model.strength above 0 to change it, but this one began with 0; begin with more"
            )

    def _remake(self, trainer: pl.Trainer, module: Any, data: Any, change: Change) -> None:
        """Makes the levels anew; what was before is put back where the run cannot have them."""
        before = dict(vars(data))
        try:
            data.change(module.level.index, change.size, change.color)
            if change.size is not None:
                self._plan_anew(trainer, module, data.levels)
        except Exception:
            vars(data).update(before)
            if change.size is not None:
                self._plan_anew(trainer, module, data.levels)
            raise
        replan(trainer, data.levels)

    @staticmethod
    def _plan_anew(trainer: pl.Trainer, module: Any, levels: Sequence[Any]) -> None:
        """Plans the memory for other levels, with the picture and its average as they are."""
        kept = {name: getattr(module, name).data for name in module.state_dict()}
        with trainer.precision_plugin.forward_context():
            module.prepare(levels)
        for name, value in kept.items():
            getattr(module, name).data = value

    def _reweigh(self, module: Any) -> None:
        """Sets the weights of all terms: those that the run began with, times how much the settings have changed."""
        start, now = self._start, self._now
        others = (
            1.0 if now["strength"] == start["strength"] else (now["strength"] / start["strength"]) ** STRENGTH_POWER
        )
        factors = {
            "content": now["content_weight"] / start["content_weight"] if start["content_weight"] else 1.0,
            "style": others * (now["style_weight"] / start["style_weight"]) if start["style_weight"] else others,
        }
        for objective in (module.objective, module.coarse_objective):
            objective.scale(self._weights, factors, others)
        module.strength = now["strength"]
