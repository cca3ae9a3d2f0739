"""Draws the figures of how it works, from runs of their own and from the benchmarks' tables.

    python tools/figures.py docs                  # all of them; two minutes on two cores
    python tools/figures.py docs --only memory    # this one, which runs nothing

The runs take the preset `quick` at 256 pixels. A chart is an SVG on a card of its own colour, for light and dark pages.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import lightning.pytorch as pl
import torch
from PIL import Image
from sheets import beside
from torch import Tensor

import nst
from nst.cli.main import main as command
from nst.losses.terms.correspondence import CorrespondenceTerm
from nst.pictures import images
from nst.pictures.files import write_text
from nst.scene.subject import edges

SIZE = 256
"""Longer side of a run's picture, in pixels."""

COLOURS = ("#3f51b5", "#e0662b", "#2e8b57")
WIDTH, HEIGHT, LEFT, BELOW, ABOVE, RIGHT = 760, 340, 76, 46, 22, 24
"""Size and margins of a chart, in pixels."""

QUICK: dict[str, Any] = {"preset": "quick", "size": SIZE}
Points = Sequence[tuple[float, float]]


def chart(
    lines: Mapping[str, Points],
    words: tuple[str, str],
    ticks: tuple[Mapping[float, str], Mapping[float, str]],
    place: Callable[[float], float] = float,
    dots: bool = False,
) -> str:
    """Returns a chart as SVG, with a logarithmic axis upward.

    Args:
        lines: Points by the name of their line.
        words: What is to the right and what is upward.
        ticks: The marks of both axes, by value.
        place: Where a value lies to the right.
        dots: Whether points are marked.
    """
    points = [point for line in lines.values() for point in line]
    xs, ys = [place(x) for x, _ in points] + [place(x) for x in ticks[0]], [y for _, y in points] + [*ticks[1]]
    low, high = math.log(min(ys)), math.log(max(ys))

    def right(x: float) -> float:
        return LEFT + (place(x) - min(xs)) / (max(xs) - min(xs)) * (WIDTH - LEFT - RIGHT)

    def up(y: float) -> float:
        return HEIGHT - BELOW - (math.log(y) - low) / (high - low) * (HEIGHT - BELOW - ABOVE)

    text = 'font-family="sans-serif" font-size="13" fill="#444"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="8" fill="#fbfaf7"/>',
    ]
    for value, label in ticks[1].items():
        parts.append(f'<path d="M{LEFT} {up(value):.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{up(value) + 4:.1f}" text-anchor="end" {text}>{label}</text>')
    for value, label in ticks[0].items():
        parts.append(f'<path d="M{right(value):.1f} {ABOVE}V{HEIGHT - BELOW}" stroke="#ddd"/>')
        parts.append(
            f'<text x="{right(value):.1f}" y="{HEIGHT - BELOW + 18}" text-anchor="middle" {text}>{label}</text>'
        )
    for (name, line), colour in zip(lines.items(), COLOURS, strict=False):
        where = [(right(x), up(y)) for x, y in line]
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in where)
        parts.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>' for x, y in where if dots]
        top = HEIGHT - BELOW - 12 - 18 * (len(lines) - 1 - [*lines].index(name))
        parts.append(f'<path d="M{WIDTH - 200} {top - 4}h22" stroke="{colour}" stroke-width="3"/>')
        parts.append(f'<text x="{WIDTH - 172}" y="{top}" {text}>{name}</text>')
    parts.append(f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 8}" text-anchor="middle" {text}>{words[0]}</text>')
    middle = (HEIGHT - BELOW + ABOVE) / 2
    turned = f'transform="rotate(-90 16 {middle})"'
    parts.append(f'<text x="16" y="{middle}" text-anchor="middle" {turned} {text}>{words[1]}</text>')
    return "\n".join([*parts, "</svg>", ""])


class Curve(pl.Callback):
    """Keeps the losses of each step, and the first step of each level."""

    def __init__(self) -> None:
        self.lines: dict[str, list[tuple[float, float]]] = {"total": [], "style": [], "content": []}
        self.levels: dict[float, str] = {}

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == 0:
            self.levels[trainer.global_step] = f"{max(batch.width, batch.height)} px"
        for name, line in self.lines.items():
            value = float(trainer.callback_metrics[name])
            line += [(trainer.global_step, value)] if value > 0 else []  # a run begins with the photograph's content


def curve(folder: Path) -> None:
    """Draws the losses of a run over its levels."""
    watch = Curve()
    trainer = {"callbacks": [watch], "log_every_n_steps": 1}
    nst.stylize("sample:chelsea", "sample:mosaic", **QUICK, trainer=trainer)
    values = [y for line in watch.lines.values() for _, y in line]
    decades = range(math.floor(math.log10(min(values))), math.ceil(math.log10(max(values))) + 1)
    upward = {10.0**x: f"{10.0**x:g}" for x in decades}
    words = ("steps; a mark is the first one of a level", "loss")
    write_text(folder / "curve.svg", chart(watch.lines, words, (watch.levels, upward)))


def memory(folder: Path) -> None:
    """Draws the memory of a step against the size, by the table of the benchmarks."""
    text = (Path(__file__).parents[1] / "benchmarks" / "README.md").read_text(encoding="utf-8")
    found = re.findall(r"^\| (\d+) \| ([^|]+) \| [^|]+ \| [^|]+ \| (\d+)(?:-\d+)? MiB \|", text, re.MULTILINE)
    lines: dict[str, dict[float, float]] = {"in memory": {}, "in bands": {}, "in bands, with a bound": {}}
    for size, how, amount in found:
        name = "in memory" if how == "in memory" else [*lines][1 if "streaming" in how else 2]
        least = lines[name].get(float(size), math.inf)
        lines[name][float(size)] = min(least, float(amount))
    rightward = {float(x): str(x) for x in (256, 512, 1024, 2048, 4096, 8192)}
    upward = {float(x << 10): f"{x} GiB" for x in (1, 2, 4, 8, 16)}
    words = ("pixels of a side, VGG19 in bfloat16", "memory of the process")
    drawn = {name: sorted(line.items()) for name, line in lines.items()}
    write_text(folder / "memory.svg", chart(drawn, words, (rightward, upward), math.log, dots=True))


def cells(sources: Sequence[Any], field: Tensor, side: int) -> Tensor:
    """Returns the matched cells of paintings as a field lays them out, (1, 3, rows * side, columns * side)."""
    bank = []
    for source in sources:
        rows, columns = source.inside.shape
        whole = source.picture[0, :, : rows * side, : columns * side].reshape(3, rows, side, columns, side)
        bank.append(whole.permute(1, 3, 0, 2, 4).flatten(0, 1))
    laid = torch.cat(bank)[field]  # (rows, columns, 3, side, side)
    return laid.permute(2, 0, 3, 1, 4).reshape(1, 3, field.shape[0] * side, field.shape[1] * side)


def correspondence(folder: Path) -> None:
    """Draws what the correspondence sees: the photograph, its subject, the cells that are taken, and the picture."""
    seen: dict[str, Any] = {}
    gathered = CorrespondenceTerm._gathered

    def spy(self: Any, sources: Any, fields: Any, scan: Any, photograph: Any) -> Any:
        seen.update(cells=cells(sources, next(iter(fields.values())), self.cell), photograph=photograph)
        return gathered(self, sources, fields, scan, photograph)

    with mock.patch.object(CorrespondenceTerm, "_gathered", spy):
        made = nst.stylize("sample:rocket", "sample:night", **QUICK).convert("RGB")
    whole = seen["photograph"]
    top, left = ((whole.shape[2] - made.height) // 2, (whole.shape[3] - made.width) // 2)  # the margin that is cut off
    inside = slice(top, top + made.height), slice(left, left + made.width)
    photograph, taken = (x[:, :, inside[0], inside[1]] for x in (whole, seen["cells"]))
    shown = [photograph, edges(photograph).expand(-1, 3, -1, -1), taken]
    drawn = [images.encode(x).convert("RGB").resize(made.size) for x in shown]
    captions = ["photograph", "subject", "cells of the painting", "picture"]
    beside([*drawn, made], made.height, captions).save(folder / "correspondence.jpg", quality=88)


def replay(folder: Path) -> None:
    """Draws a picture that was stopped, gone on with, and made again from its record; they are compared bit by bit."""
    words = ["--config", "quick", "--data.content", "sample:chelsea", "--data.style", "sample:night"]
    words += ["--data.size", str(SIZE)]
    with tempfile.TemporaryDirectory() as place:
        quiet = ["--trainer.enable_progress_bar", "false", "--trainer.default_root_dir", place]
        runs = {
            "straight": words,
            "stopped": [*words, "--trainer.max_steps", "30"],
            "gone on": [*words, "--ckpt_path", "last"],
            "again": ["--config", f"{place}/gone on.png"],
        }
        made: dict[str, Image.Image] = {}
        for name, given in runs.items():
            if command(["fit", *given, *quiet, "--output", f"{place}/{name}.png"]):
                raise SystemExit(f"nst fit failed with {given}")
            made[name] = Image.open(f"{place}/{name}.png").convert("RGB")
    sums = {name: hashlib.sha256(picture.tobytes()).hexdigest()[:12] for name, picture in made.items()}
    if len({sums["straight"], sums["gone on"], sums["again"]}) != 1:
        raise SystemExit(f"Expected the same picture three times, but got {sums}")
    told = {"stopped": "stopped", "gone on": "gone on", "again": "made again"}
    shown = [made[name].resize(made["again"].size, Image.Resampling.BICUBIC) for name in told]
    captions = [f"{words}: {sums[name]}" for name, words in told.items()]
    beside(shown, shown[0].height, captions).save(folder / "replay.jpg", quality=88)


FIGURES: dict[str, Callable[[Path], None]] = {
    "memory": memory,
    "curve": curve,
    "correspondence": correspondence,
    "replay": replay,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("docs", type=Path, help="the folder of the documentation")
    parser.add_argument("--only", nargs="+", choices=FIGURES, default=[*FIGURES])
    options = parser.parse_args()
    folder = options.docs / "how"
    folder.mkdir(parents=True, exist_ok=True)
    for name in options.only:
        FIGURES[name](folder)
        print(folder / name, flush=True)


if __name__ == "__main__":
    main()
