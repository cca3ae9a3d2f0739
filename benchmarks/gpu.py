"""Figures of a GPU, as Markdown: steps from 512 to 4096 pixels, in memory and in bands, and where their time goes.

    python -m benchmarks.gpu --output gpu.md

Each row is a run through the Trainer with its callbacks, in a process of its own. The time of a step is that of many
steps, one after another, between two waits for the device: a step itself waits for nothing. Memory is the peak of all
tensors on the device. The kernels are counted, and the profile is made, in three further steps. `benchmarks/gpu.sh`
runs the tests that need a GPU as well.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks import machine
from benchmarks.scale import PAINTING
from benchmarks.step import peak_memory, pictures, plain

BURN_IN, PROFILED, SHOWN = 5, 3, 8
"""Steps before those that count, steps that are profiled, and kernels of the profile that are shown."""

SETTINGS: dict[str, dict[str, Any]] = {
    "in memory": {"streaming": "off"},
    "in bands": {"streaming": "on"},
    "Gaussians, correspondence": {
        **{"streaming": "off", "style_distance": "wasserstein", "correspondence_weight": 0.3, "tv_weight": 0.05},
    },
}
"""Settings of the module by the name of their rows: Gram matrices, but for the last, which is much like `starry`."""

PLAIN = "plain loop, float32"


def measured(row: str, size: int, options: argparse.Namespace) -> dict[str, Any]:
    """Takes steps in this process."""
    cuda = options.device == "cuda"
    if row == PLAIN:
        times = plain(size, options.backbone, BURN_IN + options.steps, options.device)[BURN_IN:]
        return {"seconds": sum(times) / len(times), "memory": _memory(cuda), "kernels": None, "profile": []}
    import lightning.pytorch as pl

    from nst.machine.precision import fastest
    from nst.machine.quiet import quiet_libraries
    from nst.optimise.module import StyleTransfer
    from nst.run.callbacks import Checkpoints, Progress
    from nst.scene.data import PictureData
    from nst.scene.levels import Level, Painting, Place
    from nst.types import WeightsSource

    marks: list[float] = []
    activities = [torch.profiler.ProfilerActivity.CPU, *([torch.profiler.ProfilerActivity.CUDA] if cuda else [])]
    profile = torch.profiler.profile(activities=activities)

    class Clock(pl.Callback):
        def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            done = batch_idx + 1
            if done in (BURN_IN, BURN_IN + options.steps):
                if cuda:
                    torch.cuda.synchronize()
                marks.append(time.perf_counter())
            if done == BURN_IN + options.steps:
                profile.start()
            if done == BURN_IN + options.steps + PROFILED:
                profile.stop()

    steps = BURN_IN + options.steps + PROFILED + 1  # a checkpoint is made after the last one
    data = PictureData(steps=steps)
    data.setup()
    content, style = pictures(size, "cpu")[0].clone(), pictures(min(size, PAINTING), "cpu")[1]
    data.levels = [Level(0, steps, content, (Place((Painting(style),)),))]
    source = WeightsSource("imagenet" if options.backbone == "compact" else "random:0")
    module = StyleTransfer(options.backbone, source, **SETTINGS[row])
    accelerator = "gpu" if cuda else "cpu"
    with quiet_libraries(), tempfile.TemporaryDirectory() as folder:
        pl.Trainer(
            max_epochs=1, enable_model_summary=False, log_every_n_steps=10, default_root_dir=folder, devices=1,
            accelerator=accelerator, precision=fastest(accelerator), callbacks=[Clock(), Checkpoints(), Progress()],
        ).fit(module, datamodule=data)  # fmt: skip
    kind = "CUDA" if cuda else "CPU"
    found = [x for x in profile.key_averages() if str(x.device_type).endswith(kind) and _spent(x, cuda) > 0]
    whole = sum(_spent(x, cuda) for x in found)
    longest = sorted(found, key=lambda x: _spent(x, cuda), reverse=True)[:SHOWN]
    return {
        **{"seconds": (marks[1] - marks[0]) / options.steps, "memory": _memory(cuda)},
        **{"kernels": sum(x.count for x in found) / PROFILED},
        **{"profile": [(x.key, _spent(x, cuda) / whole, x.count / PROFILED) for x in longest]},
    }


def _memory(cuda: bool) -> int:
    """Returns the peak of the tensors on the GPU, or without one that of the process, in bytes."""
    return torch.cuda.max_memory_allocated() if cuda else peak_memory() << 10


def _spent(event: Any, cuda: bool) -> float:
    return float(event.self_device_time_total if cuda else event.self_cpu_time_total)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 1024, 2048, 4096])
    parser.add_argument("--backbone", default="vgg19", choices=["vgg19", "vgg16", "compact"])
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"], help="cpu: to try the script alone")
    parser.add_argument("--steps", type=int, default=30, help="steps that count")
    parser.add_argument("--only", nargs="+", help="words, one of which a row's name has to have")
    parser.add_argument("--output", type=Path, default=Path("gpu.md"))
    parser.add_argument("--one", nargs=2, metavar=("ROW", "SIZE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measured(options.one[0], int(options.one[1]), options)))
        return
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda needs a CUDA GPU that torch can use, and there is none here")
    about = machine.described(options.device)
    lines = [f"# {about.get('device', about['processor'])}", "", ", ".join(f"{k} {x}" for k, x in about.items()), ""]
    lines += ["| picture | how | ms/step | peak MiB | kernels/step |", "|---|---|---|---|---|"]
    profiles: list[str] = []
    for size in options.sizes:
        for row in (PLAIN, *SETTINGS):
            if options.only and not any(word in row for word in options.only):
                continue
            command = [sys.executable, "-m", "benchmarks.gpu", *sys.argv[1:], "--one", row, str(size)]
            done = subprocess.run(command, check=False, capture_output=True, text=True)
            if done.returncode:  # such as a picture that is too large for the memory
                figures = f"{(done.stderr.splitlines() or ['failed'])[-1]} | | "
                found: dict[str, Any] = {"profile": []}
            else:
                found = json.loads(done.stdout.splitlines()[-1])
                kernels = "" if found["kernels"] is None else f"{found['kernels']:.0f}"
                figures = f"{1e3 * found['seconds']:.2f} | {found['memory'] / 2**20:.0f} | {kernels}"
            lines.append(f"| {size} | {row} | {figures} |")
            print(lines[-1], flush=True)
            if found["profile"]:
                profiles += ["", f"{size} px, {row}:", "", "| kernel | share | per step |", "|---|---|---|"]
                profiles += [
                    f"| {x[:80].replace('|', ' ')} | {share:.1%} | {n:.0f} |" for x, share, n in found["profile"]
                ]
    options.output.write_text("\n".join([*lines, *profiles, ""]), encoding="utf-8")
    print(options.output)


if __name__ == "__main__":
    main()
