"""Whether a small picture predicts the large one: a large result, scaled down, judged as the small one is.

python -m benchmarks.sizes configs/starry.yaml --judge vgg16.safetensors --pair photo.jpg painting.jpg
"""

from __future__ import annotations

import argparse
import shlex
import tempfile
from pathlib import Path

from PIL import Image

from benchmarks.judge import Judge
from benchmarks.quality import run, words


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--judge", type=Path, required=True, help="state dict of a whole VGG16")
    parser.add_argument("--pair", type=Path, nargs=2, required=True, metavar=("CONTENT", "STYLE"))
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512, 1024], help="judged at the first")
    parser.add_argument("--options", default="", help="options for all runs")
    parser.add_argument("--keep", type=Path, help="folder to keep the pictures in")
    options = parser.parse_args()

    judge, (content, style) = Judge(options.judge), options.pair
    print("| made at | look | w2 | gram | content | tv | time |\n|---|---|---|---|---|---|---|")
    shape: tuple[int, int] | None = None
    for size in options.sizes:
        with tempfile.TemporaryDirectory() as folder:
            result = Path(folder) / "result.png"
            pair = words(options.config, content, style, size, result)
            seconds, _ = run([*pair, *shlex.split(options.options)], Path(folder))
            picture = Image.open(result).convert("RGB")
            shape = shape or picture.size
            if options.keep:
                options.keep.mkdir(parents=True, exist_ok=True)
                picture.save(options.keep / f"{size}.png")
            picture.resize(shape, Image.Resampling.LANCZOS, reducing_gap=None).save(result)
            figures = judge(result, content, style)
        cells = [f"{value:.4f}" for value in figures.values()]
        print(f"| {size} | {' | '.join(cells)} | {seconds:.0f} s |", flush=True)


if __name__ == "__main__":
    main()
