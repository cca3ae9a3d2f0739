"""A step of `nst` against one of a plain PyTorch loop, each in a process of its own, alternating.

    python -m benchmarks.step --size 512 --backbone vgg19

The plain loop is what anybody would write: an nn.Sequential in float32, Gram matrices by matmul, autograd, Adam. Ours
is a run through the Trainer with its callbacks, in its default precision and in float32. All take steps of one
objective, five Gram layers and relu4_2. Reported are medians over the processes' median steps after a burn-in, the peak
memory beyond that after `import torch`, and the share of the speed of a large matrix product, measured in the same
processes and in the types that the hardware multiplies in. A share over 100 % is Winograd's method, which takes fewer
operations than are counted; `--convolution direct` does without it.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from benchmarks import machine


def peak_memory() -> int:
    """Returns the most memory, in KiB, that this program has held.

    On Linux by the file of the process: the figure of getrusage begins with what the parent held.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.findall(r"VmHWM:\s*(\d+) kB", status.read_text())[0])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


LOADED = peak_memory()

STYLE = [f"relu{i}_1" for i in range(1, 6)]
CONTENT = "relu4_2"
KINDS = {"plain": "32-true", "default": None, "float32": "32-true"}
GEMM = 2048


def plain(size: int, backbone: str, steps: int, device: str) -> list[float]:
    """Takes steps in a plain loop and returns the seconds of each."""
    from nst.network import weights
    from nst.network.architecture import layer_names

    loaded = weights.load(backbone, "imagenet" if backbone == "compact" else "random:0")  # type: ignore[arg-type]  # argparse
    names, layers = layer_names(loaded.blocks), torch.nn.Sequential()
    convolutions = iter(loaded.convolutions)
    for name in names[: names.index("relu5_1") + 1]:
        if name.startswith("conv"):
            weight, bias = next(convolutions)
            layer = torch.nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1)
            layer.weight.data, layer.bias.data = weight, bias  # type: ignore[union-attr]  # it has one
            layers.append(layer)
        else:
            layers.append(torch.nn.ReLU() if name.startswith("relu") else torch.nn.MaxPool2d(2))
    layers.requires_grad_(False).to(device)
    mean = torch.tensor([0.485, 0.456, 0.406], device=device).view(1, 3, 1, 1)
    deviation = torch.tensor([0.229, 0.224, 0.225], device=device).view(1, 3, 1, 1)

    def features(x: torch.Tensor) -> dict[str, torch.Tensor]:
        x, taps = (x - mean) / deviation, {}
        for name, layer in zip(names, layers, strict=False):
            x = layer(x)
            if name in (*STYLE, CONTENT):
                taps[name] = x
        return taps

    def gram(x: torch.Tensor) -> torch.Tensor:
        flat = x.flatten(2)[0]
        return flat @ flat.T / flat.shape[1]

    content, style = pictures(size, device)
    with torch.no_grad():
        target, styles = features(content)[CONTENT], {x: gram(y) for x, y in features(style).items() if x in STYLE}
    picture = content.clone().requires_grad_()
    optimizer = torch.optim.Adam([picture], lr=0.02)
    times = []
    for _ in range(steps):
        start = time.perf_counter()
        optimizer.zero_grad()
        taps = features(picture)
        loss = (taps[CONTENT] - target).square().sum() / target.square().sum()
        for tap, wanted in styles.items():
            loss = loss + 2 * (gram(taps[tap]) - wanted).square().sum() / wanted.square().sum()
        loss.backward()
        optimizer.step()
        loss.item()
        times.append(time.perf_counter() - start)
    return times


def ours(
    size: int, backbone: str, steps: int, device: str, precision: str | None, convolution: str = "auto"
) -> list[float]:
    """Takes steps through the Trainer and returns the seconds of each but the first."""
    import lightning.pytorch as pl

    from nst.machine.precision import fastest
    from nst.machine.quiet import quiet_libraries
    from nst.optimise.module import StyleTransfer
    from nst.run.callbacks import Checkpoints, Progress, Snapshots
    from nst.scene.data import PictureData
    from nst.scene.levels import Level, Painting, Place
    from nst.types import WeightsSource

    marks = []

    class Clock(pl.Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            marks.append(time.perf_counter())

    data = PictureData(steps=steps)
    content, style = pictures(size, "cpu")
    data.setup()
    data.levels = [Level(0, steps, content, (Place((Painting(style),)),))]
    source = WeightsSource("imagenet" if backbone == "compact" else "random:0")
    module = StyleTransfer(backbone, source, convolution=convolution)  # type: ignore[arg-type]  # names from argparse
    accelerator = "cpu" if device == "cpu" else "gpu"
    settings: dict[str, Any] = {"accelerator": accelerator, "precision": precision or fastest(accelerator)}
    callbacks = [Checkpoints(), Snapshots(), Progress(), Clock()]
    with quiet_libraries(), tempfile.TemporaryDirectory() as folder:
        pl.Trainer(
            max_epochs=1, enable_model_summary=False, log_every_n_steps=10, callbacks=callbacks,
            default_root_dir=folder, **settings,
        ).fit(module, datamodule=data)  # fmt: skip
    return [b - a for a, b in pairwise(marks)]


def pictures(size: int, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Draws a photograph and a painting of blobs, (1, 3, size, size)."""
    generator = torch.Generator().manual_seed(0)
    small = torch.rand(2, 3, size // 16, size // 16, generator=generator)
    both = torch.nn.functional.interpolate(small, (size, size), mode="bicubic").clamp(0, 1).to(device)
    return both[:1], both[1:]


def gemm_speed(dtype: torch.dtype, device: str) -> float:
    """Returns the operations per second of a large matrix product."""
    a, times = torch.randn(GEMM, GEMM, device=device).to(dtype), []
    for _ in range(12):
        start = time.perf_counter()
        (a @ a)[0, 0].item()
        times.append(time.perf_counter() - start)
    return 2 * GEMM**3 / statistics.median(times[2:])


def operations(size: int, backbone: str) -> float:
    """Returns the operations of the convolutions of a step, there and back."""
    from nst.network import weights
    from nst.network.features import Features
    from nst.streaming.stages import stages

    source = "imagenet" if backbone == "compact" else "random:0"
    network = Features(weights.load(backbone, source), [*STYLE, CONTENT])  # type: ignore[arg-type]  # argparse
    return 4.0 * sum(x.operations * (size >> i) ** 2 for i, x in enumerate(stages(network, torch.float32)))


def measured(options: argparse.Namespace) -> dict[str, float]:
    """Measures one kind in this process."""
    kind = options.kind
    if kind == "plain":
        times = plain(options.size, options.backbone, options.steps, options.device)
    else:
        precision, way = KINDS[kind], options.convolution
        times = ours(options.size, options.backbone, options.steps, options.device, precision, way)
    peak = peak_memory() - LOADED
    speeds = {str(x).partition(".")[2]: gemm_speed(x, options.device) for x in machine.types(options.device)}
    return {"seconds": statistics.median(times[options.burn_in :]), "peak": peak * 1024, **speeds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--backbone", default="vgg19", choices=["vgg19", "vgg16", "compact"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--steps", type=int, default=10, help="steps of a process")
    parser.add_argument("--burn-in", type=int, default=3, help="steps of a process that do not count")
    parser.add_argument("--rounds", type=int, default=3, help="processes of each kind")
    parser.add_argument("--convolution", default="auto", choices=["auto", "direct", "winograd"])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--kind", choices=KINDS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.steps < options.burn_in + 2:  # the time of ours is from step to step, so one less
        parser.error(f"--steps has to be at least --burn-in + 2 = {options.burn_in + 2}, not {options.steps}")
    if options.kind:
        print(json.dumps(measured(options)))
        return
    rows: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
    for _ in range(options.rounds):
        for kind, found in rows.items():
            command = [sys.executable, "-m", "benchmarks.step", *sys.argv[1:], "--kind", kind]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            found.append(json.loads(output.splitlines()[-1]))
    middle = {
        kind: {key: statistics.median(row[key] for row in found) for key in found[0]} for kind, found in rows.items()
    }
    work = operations(options.size, options.backbone)
    report: dict[str, Any] = {"size": options.size, "backbone": options.backbone, "device": options.device}
    report |= {"machine": machine.described(options.device), "GFLOP": work / 1e9}
    for kind, row in middle.items():
        speed = work / row["seconds"]
        report[kind] = row | {
            "ratio": middle["plain"]["seconds"] / row["seconds"],
            "GFLOP/s": speed / 1e9,
        }
        names = {"bfloat16": "bf16", "float32": "fp32"}
        report[kind] |= {f"of {short} GEMM": speed / row[name] for name, short in names.items() if name in row}
    if options.json:
        print(json.dumps(report))
        return
    print(", ".join(f"{key} {value}" for key, value in report["machine"].items()))
    for kind in KINDS:
        row = report[kind]
        shares = "".join(
            f"{share:.0%} {key.replace('of ', 'of the ')}, " for key, share in row.items() if "GEMM" in key
        )
        print(
            f"{kind:8} {row['seconds']:.4f} s/step, {row['ratio']:.2f}× plain, {row['GFLOP/s']:.0f} GFLOP/s, "
            f"{shares}{row['peak'] / 2**20:.0f} MiB"
        )


if __name__ == "__main__":
    main()
