"""Seconds and memory of a step against the size of the picture, each size in a process of its own.

    python -m benchmarks.scale --sizes 1024 2048 4096 --backbone vgg19 --memory 4GiB

Each is a run through the Trainer with its callbacks, of a square picture with five Gram layers and relu4_2. Reported
are the median time of the steps after a burn-in, or that of the only one where a step takes long; the time of a pixel;
the peak memory of the whole process and beyond that after `import torch`; and how the network looked at the picture:
rows of a band in each of its stages, and the operations over those of a picture in memory.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

from benchmarks import machine
from benchmarks.step import LOADED, peak_memory, pictures

LONG = 60.0
"""Seconds of a step above which a run takes one step only."""

PAINTING = 1024
"""Longest side of the painting, which is looked at once."""


def measured(size: int, options: argparse.Namespace) -> dict[str, Any]:
    """Takes steps at a size in this process."""
    import lightning.pytorch as pl

    from nst.machine.precision import fastest
    from nst.machine.quiet import quiet_libraries
    from nst.optimise.module import StyleTransfer
    from nst.run.callbacks import Checkpoints, Progress, Snapshots
    from nst.scene.data import PictureData
    from nst.scene.levels import Level, Painting, Place
    from nst.types import Bytes, WeightsSource

    times: list[float] = []

    class Timed(StyleTransfer):
        def optimizer_step(self, *args: Any, **settings: Any) -> None:
            begin = time.perf_counter()
            super().optimizer_step(*args, **settings)
            times.append(time.perf_counter() - begin)
            self.trainer.should_stop = times[-1] > LONG

    data = PictureData(steps=options.steps)
    data.setup()
    content, style = pictures(size, "cpu")[0].clone(), pictures(min(size, PAINTING), "cpu")[1]
    data.levels = [Level(0, options.steps, content, (Place((Painting(style),)),))]
    memory = None if options.memory is None else Bytes.parse(options.memory)
    source = WeightsSource("imagenet" if options.backbone == "compact" else "random:0")
    module = Timed(options.backbone, source, streaming=options.streaming, memory=memory)
    with quiet_libraries(), tempfile.TemporaryDirectory() as folder:
        pl.Trainer(
            max_epochs=1, enable_model_summary=False, log_every_n_steps=10, default_root_dir=folder,
            accelerator="cpu", precision=options.precision or fastest("cpu"),
            callbacks=[Checkpoints(), Snapshots(), Progress()],
        ).fit(module, datamodule=data)  # fmt: skip
    peak = peak_memory()
    assert module.scanner is not None
    with module.precision():
        plan = module.scanner.plan(module.picture)
    seconds = statistics.median(times[options.burn_in :] or times[-1:])
    return {
        **{"size": size, "seconds": seconds, "us/pixel": 1e6 * seconds / size**2, "steps": len(times)},
        **{"peak": peak * 1024, "beyond": (peak - LOADED) * 1024, "rows": list(plan.rows), "work": plan.work},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512, 1024, 2048, 4096, 8192])
    parser.add_argument("--backbone", default="vgg19", choices=["vgg19", "vgg16", "compact"])
    parser.add_argument("--memory", help="as for --model.memory")
    parser.add_argument("--streaming", default="auto", choices=["auto", "on", "off"])
    parser.add_argument("--precision", help="as for --trainer.precision")
    parser.add_argument("--steps", type=int, default=4, help="steps of a process")
    parser.add_argument("--burn-in", type=int, default=1, help="steps of a process that do not count")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measured(options.one, options)))
        return
    report: dict[str, Any] = {"backbone": options.backbone, "memory": options.memory, "sizes": []}
    report |= {"machine": machine.described()}
    if not options.json:
        print(", ".join(f"{key} {value}" for key, value in report["machine"].items()))
        print("| size | s/step | µs/pixel | memory in all | beyond torch | rows of a band | operations |")
        print("|---|---|---|---|---|---|---|")
    for size in options.sizes:
        command = [sys.executable, "-m", "benchmarks.scale", *sys.argv[1:], "--one", str(size)]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr)
        row = json.loads(done.stdout.splitlines()[-1])
        report["sizes"].append(row)
        if not options.json:
            memory = " | ".join(f"{row[key] / 2**20:.0f} MiB" for key in ("peak", "beyond"))
            rows = "all" if row["work"] == 1 else ", ".join(map(str, row["rows"]))
            cells = f"{size} | {row['seconds']:.3f} | {row['us/pixel']:.2f} | {memory} | {rows} | {row['work']:.2f}"
            print(f"| {cells} |", flush=True)
    if options.json:
        print(json.dumps(report))


if __name__ == "__main__":
    main()
