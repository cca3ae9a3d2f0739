"""How fast the objective falls: Adam's settings at one size, and coarse to fine against one level.

    python -m benchmarks.convergence optimizers --size 256
    python -m benchmarks.convergence pyramid --config configs/starry.yaml --size 512 --steps 400

The first prints the objective after so many steps for each setting, from the same start. The second runs a config at
one level, then as it is, and says when the second reaches what the first ended with; times are those of TensorBoard's
curves, from the first step on.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from benchmarks.backbones import step, stepper
from benchmarks.quality import run

MARKS = (25, 50, 100, 200)
RATES = (0.01, 0.02, 0.05)
BETAS = ((0.9, 0.999), (0.9, 0.99), (0.8, 0.99), (0.95, 0.99), (0.9, 0.9), (0.95, 0.95))

Make = Callable[[list[torch.Tensor]], torch.optim.Optimizer]


def optimizers() -> Iterator[tuple[str, Make]]:
    """Yields Adam with each setting, with a name."""
    for betas in BETAS:
        for rate in RATES:
            yield f"Adam {rate} {betas}", partial(torch.optim.Adam, lr=rate, betas=betas)


def fall(make: Make, size: int, cosine: bool) -> list[float]:
    """Returns the objective at the MARKS."""
    module, values = stepper("compact", "imagenet", size), []
    optimizer = make([module.picture])
    last = MARKS[-1]
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, last) if cosine else None
    for i in range(1, last + 1):
        step(module, optimizer, bf16=False)
        if schedule:
            schedule.step()
        if i in MARKS:
            with torch.no_grad():
                values.append(float(module.objective.total(module.values())))
    return values


def curve(words: list[str]) -> list[tuple[float, float]]:
    """Runs `nst fit` and returns the seconds since the first step and the objective of each step."""
    with tempfile.TemporaryDirectory() as folder:
        run([*words, "--trainer.log_every_n_steps", "1"], Path(folder))
        (log,) = Path(folder).glob("lightning_logs/*/events*")
        events = EventAccumulator(str(log), {"scalars": 0}).Reload().Scalars("total")
    return [(event.wall_time - events[0].wall_time, event.value) for event in events]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["optimizers", "pyramid"])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--config", type=Path, default=Path("configs/starry.yaml"))
    parser.add_argument("--steps", type=int, default=400, help="of the run at one level")
    parser.add_argument("--options", default="", help="options for both runs")
    options = parser.parse_args()
    if options.what == "optimizers":
        print(f"| objective after steps | {' | '.join(map(str, MARKS))} |\n|---|{'---|' * len(MARKS)}")
        settings = [(name, make, False) for name, make in optimizers()]
        settings += [(f"{name}, cosine", make, True) for name, make in optimizers() if "0.99)" in name]
        for name, make, cosine in settings:
            cells = [f"{value:.4f}" for value in fall(make, options.size, cosine)]
            print(f"| {name} | {' | '.join(cells)} |", flush=True)
        return
    words = ["--config", str(options.config.resolve()), "--data.size", str(options.size), *options.options.split()]
    single = curve([*words, "--data.min_size", str(options.size), "--data.steps", str(options.steps)])
    seconds, goal = single[-1][0], sum(value for _, value in single[-10:]) / 10
    print(f"one level: {goal:.4f} after {len(single)} steps, {seconds:.1f} s")
    grown = curve(words)
    last = max(i for i in range(1, len(grown)) if grown[i][1] > 1.02 * grown[i - 1][1] or i == 1)  # a new level
    reached = next((at for at, value in grown[last:] if value <= goal), None)
    print(f"coarse to fine: {grown[-1][1]:.4f} after {len(grown)} steps, {grown[-1][0]:.1f} s")
    print(
        "it has not got there" if reached is None else f"there after {reached:.1f} s, {reached / seconds:.2f} of that"
    )


if __name__ == "__main__":
    main()
