"""What the Trainer costs: steps through `nst` and through a plain loop over the same module, alternating in one run.

    python -m benchmarks.trainer_overhead --size 256 --backbone vgg16

Both take the same steps of the same objective with the same optimiser; the picture is the same to the last bit (see
tests/optimise/test_module.py). Reported are medians over rounds of the seconds per step, and their ratio.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from typing import Any

import lightning.pytorch as pl

from benchmarks import machine
from nst.machine.quiet import quiet_libraries
from nst.optimise.module import StyleTransfer
from nst.optimise.optimizers import project
from nst.run.callbacks import Checkpoints, Progress, Snapshots
from nst.scene.data import PictureData
from nst.types import Pixels, WeightsSource


class Clock(pl.Callback):
    """Takes the time between the end of the first step and the end of the last."""

    def __init__(self) -> None:
        self.marks: list[float] = []

    def on_train_batch_end(self, *_: Any) -> None:
        self.marks.append(time.perf_counter())

    @property
    def seconds_per_step(self) -> float:
        return (self.marks[-1] - self.marks[0]) / (len(self.marks) - 1)


def made(backbone: str, data: PictureData) -> StyleTransfer:
    """Returns a module that is ready at the data's level."""
    module = StyleTransfer(backbone, WeightsSource("random:0"))  # type: ignore[arg-type]  # one of the choices
    module.prepare(data.levels)
    module.set_targets(data.levels[0])
    return module


def through_trainer(module: StyleTransfer, data: PictureData) -> float:
    """Takes the steps as `nst fit` does, with its logger, bar, checkpoints and snapshots."""
    clock = Clock()
    callbacks = [Checkpoints(), Snapshots(), Progress(), clock]
    with quiet_libraries():
        pl.Trainer(max_epochs=1, enable_model_summary=False, log_every_n_steps=10, callbacks=callbacks).fit(
            module, datamodule=data
        )
    return clock.seconds_per_step


def through_plain_loop(module: StyleTransfer, steps: int) -> float:
    """Takes the steps in a loop without Lightning."""
    optimizer, clock = module.make_optimizer([module.picture]), Clock()
    for _ in range(steps):
        optimizer.zero_grad()
        (module.objective.total(module.values()) * module.picture.numel()).backward()
        optimizer.step()
        project(module.picture, optimizer)
        clock.on_train_batch_end()
    return clock.seconds_per_step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--backbone", default="vgg16", choices=["vgg16", "vgg19"])
    parser.add_argument("--steps", type=int, default=12, help="steps in a round")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count, after one that does not")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    data = PictureData(size=Pixels(options.size), steps=options.steps)
    data.setup()
    times: dict[str, list[float]] = {"plain": [], "trainer": []}
    for _ in range(options.rounds + 1):
        times["plain"].append(through_plain_loop(made(options.backbone, data), options.steps))
        times["trainer"].append(through_trainer(made(options.backbone, data), data))
    plain, trainer = (statistics.median(times[name][1:]) for name in ("plain", "trainer"))
    ratio = statistics.median(t / p for t, p in zip(times["trainer"][1:], times["plain"][1:], strict=True))
    report = {"size": options.size, "backbone": options.backbone, "plain": plain, "trainer": trainer, "ratio": ratio}
    report |= {"machine": machine.described()}
    print(json.dumps(report) if options.json else f"plain {plain:.4f} s/step, trainer {trainer:.4f}, ratio {ratio:.3f}")


if __name__ == "__main__":
    main()
