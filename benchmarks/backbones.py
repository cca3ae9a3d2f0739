"""The networks side by side: seconds per step, and what each makes in equal steps and in equal time.

    python -m benchmarks.backbones --judge vgg16.safetensors --pair photo.jpg painting.jpg --pair ... --sheet sheet.png

VGG19 has random weights and is only timed; VGG16 has the judge's own. Each runs in its fastest mode: float32 and
bf16-mixed are both timed, in turn, and the faster median counts. Results are judged by the whole VGG16 as in
benchmarks/judge.py; `total` is content + 10 gram. The objective is Gram matrices of the five relux_1, relative, at
content 1 : style 10, from the photograph, Adam 0.02.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from PIL import Image

import nst
from benchmarks.judge import Judge
from benchmarks.quality import contact_sheet
from nst.optimise.module import StyleTransfer
from nst.optimise.optimizers import project
from nst.scene.data import PictureData
from nst.types import InputPath, Pixels, WeightsSource

LABELS = ["vgg16, equal steps", "vgg16, equal time", "compact, equal steps", "compact, equal time"]
MODES = {"32-true": False, "bf16-mixed": True}


def stepper(backbone: str, weights: str, size: int, content: str = "sample", style: str = "sample") -> StyleTransfer:
    """Returns a module that is ready to take steps on a photograph and a painting, by default the samples."""
    data = PictureData(InputPath(content), InputPath(style), Pixels(size), steps=1)
    data.setup()
    module = StyleTransfer(backbone, WeightsSource(weights))  # type: ignore[arg-type]  # a name that argparse took
    module.prepare(data.levels)
    module.set_targets(data.levels[0])
    return module


def step(module: StyleTransfer, optimizer: torch.optim.Optimizer, bf16: bool) -> float:
    """Takes one step and returns its seconds."""
    start = time.perf_counter()
    optimizer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        loss = module.objective.total(module.values()) * module.picture.numel()
    loss.backward()
    optimizer.step()
    project(module.picture, optimizer)
    return time.perf_counter() - start


def speeds(networks: dict[str, tuple[str, str]], size: int, rounds: int) -> dict[str, dict[str, float]]:
    """Returns the median seconds per step of each network in each mode, all taken in turn."""
    modules = {name: stepper(*source, size) for name, source in networks.items()}
    optimizers = {name: module.make_optimizer([module.picture]) for name, module in modules.items()}
    times: dict[str, dict[str, list[float]]] = {name: {mode: [] for mode in MODES} for name in networks}
    for _ in range(rounds + 1):
        for name, module in modules.items():
            for mode, bf16 in MODES.items():
                times[name][mode].append(step(module, optimizers[name], bf16))
    return {n: {mode: statistics.median(taken[1:]) for mode, taken in modes.items()} for n, modes in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--judge", type=Path, required=True, help="state dict of a whole VGG16")
    parser.add_argument("--pair", type=Path, nargs=2, action="append", required=True, metavar=("CONTENT", "STYLE"))
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--timing-size", type=int, default=512)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60, help="for the results in equal time")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sheet", type=Path, help="where to put a contact sheet")
    options = parser.parse_args()

    networks = {
        "vgg19": ("vgg19", "random:0"),
        "vgg16": ("vgg16", str(options.judge)),
        "compact": ("compact", "imagenet"),
    }
    times = speeds(networks, options.timing_size, options.rounds)
    print(f"seconds per step at {options.timing_size} px")
    for name, modes in times.items():
        ratio = min(modes.values()) / min(times["compact"].values())
        print(f"  {name:8}", *(f"{mode} {taken:.3f}" for mode, taken in modes.items()), f" {ratio:.2f} of compact")

    judge = Judge(options.judge)
    sheet: list[list[Image.Image]] = []
    sums: dict[tuple[str, str], list[dict[str, float]]] = {}
    for content, style in options.pair:
        sheet.append([])
        for name in ("vgg16", "compact"):
            per_step = min(stepped(networks[name], content, style, options.size, 4).values())
            for rule, steps in (("equal steps", options.steps), ("equal time", int(options.seconds / per_step))):
                figures, picture = made(judge, networks[name], content, style, options.size, steps)
                sums.setdefault((rule, name), []).append(figures)
                sheet[-1].append(picture)
                text = " ".join(f"{key} {value:.4f}" for key, value in figures.items())
                print(f"{content.stem} × {style.stem}, {rule}, {name}, {steps} steps: {text}", flush=True)
    print("means")
    for (rule, name), rows in sums.items():
        mean = {key: statistics.mean(row[key] for row in rows) for key in rows[0]}
        print(f"  {rule}, {name}:", " ".join(f"{key} {value:.4f}" for key, value in mean.items()))
    if options.sheet:
        contact_sheet(sheet, LABELS).save(options.sheet)


def stepped(source: tuple[str, str], content: Path, style: Path, size: int, count: int) -> dict[str, float]:
    """Returns the median seconds per step on a pair in each mode."""
    module = stepper(*source, size, str(content), str(style))
    optimizer = module.make_optimizer([module.picture])
    return {m: statistics.median(step(module, optimizer, on) for _ in range(count)) for m, on in MODES.items()}


def made(
    judge: Judge, source: tuple[str, str], content: Path, style: Path, size: int, steps: int
) -> tuple[dict[str, float], Image.Image]:
    """Makes a picture through the package and judges it."""
    settings: dict[str, Any] = {"accelerator": "cpu", "precision": "bf16-mixed"}
    network: dict[str, Any] = {"backbone": source[0], "weights": source[1]}
    picture = nst.stylize(content, style, preset=None, size=size, steps=steps, trainer=settings, **network)
    with tempfile.TemporaryDirectory() as folder:
        picture.save(Path(folder) / "a.png")
        figures = judge(Path(folder) / "a.png", content, style)
    return {"total": figures["content"] + 10 * figures["gram"], **figures}, picture


if __name__ == "__main__":
    main()
