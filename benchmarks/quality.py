"""Runs configs on pairs of pictures and judges the results with one fixed judge.

    python -m benchmarks.quality configs/starry.yaml 'configs/best.yaml --model.content_weight 0.1' \\
        --judge vgg16.safetensors --pairs pairs --size 256 --sheet sheet.png

Another tool is judged beside them by its command, such as Neural Neighbor Style Transfer's from its repository:

    --peer 'python styleTransfer.py --content_path {content} --style_path {style} --output_path {result} ...'

Each run is a command of its own, as a user would start it: its seconds and its peak memory are those of the whole
command. The figures are explained in judge.py and second.py. A folder of pairs has a folder for each, with `content.*`
and `style.*`.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from benchmarks import judge, machine, second

FIGURES = ("seconds", "GiB", *judge.FIGURES)


def pairs_in(folder: Path) -> list[tuple[Path, Path]]:
    """Returns the photographs and paintings of a folder of pairs, in the order of the pairs' names."""
    found = [
        (next(pair.glob("content.*")), next(pair.glob("style.*"))) for pair in sorted(folder.iterdir()) if pair.is_dir()
    ]
    if not found:
        raise SystemExit(f"Expected --pairs to be a folder of folders with content.* and style.*, but got {folder}")
    return found


def run(options: list[str], folder: Path) -> tuple[float, float]:
    """Runs `nst fit` and returns its seconds and its peak memory in GiB."""
    return measured([sys.executable, "-m", "nst", "fit", *options, "--trainer.enable_progress_bar", "false"], folder)


def peer(template: str, content: Path, style: Path, size: int, output: Path) -> tuple[float, float]:
    """Runs another tool's command, and returns its seconds and its peak memory in GiB."""
    places = {"{content}": content.resolve(), "{style}": style.resolve(), "{result}": output, "{size}": size}
    return measured([str(places.get(word, word)) for word in shlex.split(template)], Path.cwd())


def measured(command: list[str], folder: Path) -> tuple[float, float]:
    """Runs a command in a folder and returns its seconds and its peak memory in GiB."""
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    if status:
        raise SystemExit(f"failed: {shlex.join(command)}")
    return seconds, usage.ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)


def words(config: Path, content: Path, style: Path, size: int, output: Path) -> list[str]:
    """Returns the options that run a config on a pair."""
    options: dict[str, object] = {
        "config": config.resolve(),
        "data.content": content.resolve(),
        "data.style": style.resolve(),
    }
    options |= {"data.size": size, "output": output.resolve()}
    return [word for key, value in options.items() for word in (f"--{key}", str(value))]


def contact_sheet(rows: list[list[Image.Image]], labels: list[str]) -> Image.Image:
    """Lays pictures out in rows under labels."""
    width, height = (max(side) for side in zip(*(picture.size for row in rows for picture in row), strict=True))
    sheet = Image.new("RGB", (len(labels) * (width + 8), 24 + len(rows) * (height + 8)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for column, label in enumerate(labels):
        pen.text((column * (width + 8) + 2, 4), label[: width // 7], "black", font)
    for i, row in enumerate(rows):
        for column, picture in enumerate(row):
            sheet.paste(picture, (column * (width + 8), 24 + i * (height + 8)))
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="+", help="a config each, with options behind it if need be")
    parser.add_argument("--peer", action="append", default=[], help="another tool: {content} {style} {size} {result}")
    parser.add_argument("--judge", type=Path, required=True, help="state dict of a whole VGG16")
    parser.add_argument("--second", action="store_true", help="figures of a second judge, of another family, as well")
    parser.add_argument("--pairs", type=Path, help="folder of pairs")
    parser.add_argument("--pair", type=Path, nargs=2, action="append", default=[], metavar=("CONTENT", "STYLE"))
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--options", default="", help="options for all runs, such as '--model.backbone compact'")
    parser.add_argument("--sheet", type=Path, help="where to put a contact sheet")
    parser.add_argument("--keep", type=Path, help="folder to keep the pictures in")
    options = parser.parse_args()

    judges: list[Callable[[Path, Path, Path], dict[str, float]]] = [judge.Judge(options.judge)]
    names, rows = [*FIGURES], list[list[Image.Image]]()
    if options.second:
        judges.append(second.SecondJudge())
        names += second.FIGURES
    pairs = [(a, b) for a, b in options.pair] + (pairs_in(options.pairs) if options.pairs else [])
    labels = ["content", "style"]
    print(", ".join(f"{key} {value}" for key, value in machine.described().items()))
    print(f"| pair | config | {' | '.join(names)} |\n|---|---|{'---|' * len(names)}")
    for content, style in pairs:
        name = content.stem if content.stem != "content" else content.parent.name
        shown = [Image.open(content).convert("RGB"), Image.open(style).convert("RGB")]
        for picture in shown:
            picture.thumbnail((options.size, options.size))
        rows.append(shown)
        for i, entry in enumerate([*options.configs, *options.peer]):
            config, *more = shlex.split(entry)
            label = " ".join([Path(config).stem, *more] if entry in options.configs else [config, *more[:1]])
            if len(rows) == 1:
                labels.append(label)
            with tempfile.TemporaryDirectory() as folder:
                result = Path(folder) / "result.png"
                if entry in options.peer:
                    seconds, memory = peer(entry, content, style, options.size, result)
                else:
                    pair = words(Path(config), content, style, options.size, result)
                    seconds, memory = run([*pair, *shlex.split(options.options), *more], Path(folder))
                figures = {"seconds": seconds, "GiB": memory}
                for measure in judges:
                    figures |= measure(result, content, style)
                rows[-1].append(Image.open(result).convert("RGB"))
                if options.keep:
                    options.keep.mkdir(parents=True, exist_ok=True)
                    rows[-1][-1].save(options.keep / f"{name}-{i}-{Path(config).stem}.png")
            cells = [f"{figures[key]:.{0 if key == 'seconds' else 4 if key == 'look' else 3}f}" for key in names]
            print(f"| {name} | {label} | {' | '.join(cells)} |", flush=True)
    if options.sheet:
        contact_sheet(rows, labels).save(options.sheet)


if __name__ == "__main__":
    main()
