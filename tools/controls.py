"""Makes the pictures of what each control does, from the sample pictures and a second painting drawn here.

    python -m tools.controls docs

The second painting, leaded glass, is our own (MIT, like the code). A cell is one `nst fit`; the same machine makes the
same pictures.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from nst.cli.main import main as nst
from nst.scene import samples

BASE = ["--config", str(Path("configs/quick.yaml").resolve()), "--data.size", "256"]
BASE += ["--trainer.enable_progress_bar", "false"]
GLASS = ((196, 62, 38), (232, 142, 44), (246, 206, 96), (122, 30, 44), (250, 232, 190), (64, 104, 88))

BOTH = "--data.style=[sample, glass.png]"
MAP = "mask: map.png, color"
ROWS: dict[str, list[list[str]]] = {
    "styles": [
        [BOTH],
        [BOTH, "--data.style_weights=[3, 1]"],
        [
            "--data.style=[{image: sample, layers: [relu1_1, relu2_1]}, "
            "{image: glass.png, layers: [relu3_1, relu4_1, relu5_1]}]"
        ],
        ["--data.style=glass.png", "--data.style_scale=0.5"],
        ["--data.style=glass.png", "--data.style_scale=1.5"],
    ],
    "regions": [  # after the map
        [
            "--data.style=[{image: sample, region: sky}, {image: glass.png, region: land}]",
            f"--data.regions={{sky: {{{MAP}: blue}}, land: {{{MAP}: yellow}}}}",
        ],
        [f"--data.regions={{sky: {{{MAP}: blue}}, land: {{{MAP}: yellow, keep: true}}}}"],
        [f"--data.regions={{sky: {{{MAP}: blue}}, land: {{{MAP}: yellow, content_weight: 10}}}}"],
        ["--data.content=clear.png"],
    ],
    "colors": [[f"--data.color={x}"] for x in ("style", "content", "match", "histogram")],
    "strength": [[f"--model.strength={x}"] for x in (0.25, 0.5, 0.75, 1)],
    "tiles": [["--model.padding=circular", "--model.bleed=0"]],  # laid out four times
}


def glass(size: int = 640, cells: int = 150, seed: int = 0) -> Image.Image:
    """Draws leaded glass: the cells of scattered points, each of one colour, with dark seams."""
    rng = np.random.default_rng(seed)
    points = rng.random((cells, 2)) * size
    colors = np.array(GLASS)[rng.integers(len(GLASS), size=cells)] * (0.85 + 0.3 * rng.random((cells, 1)))
    y, x = np.mgrid[:size, :size]
    distance = np.hypot(x[..., None] - points[:, 0], y[..., None] - points[:, 1])
    first, second = np.partition(distance, 1, axis=2)[..., :2].transpose(2, 0, 1)
    light = 0.8 + 0.2 * np.cos(first / 9) + 0.05 * rng.standard_normal((size, size))
    painted = colors[distance.argmin(2)] * light[..., None]
    lead = np.clip((second - first) / 7, 0, 1)[..., None]
    painted = painted * lead + np.array([28, 24, 30]) * (1 - lead)
    return Image.fromarray(np.clip(painted, 0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.7))


def prepare() -> None:
    """Draws what goes in beside the samples: the glass, a map of the photograph, and the photograph in an oval."""
    glass().save("glass.png")
    photograph = Image.open(samples.path("sample")).convert("RGB")
    w, h = photograph.size
    regions = Image.new("RGB", photograph.size, "blue")
    ImageDraw.Draw(regions).rectangle((0, 0.62 * h, w, h), fill="yellow")
    regions.save("map.png")
    oval = Image.new("L", photograph.size, 0)
    ImageDraw.Draw(oval).ellipse((0.16 * w, 0.06 * h, 0.84 * w, 0.94 * h), fill=255)
    photograph.putalpha(oval.filter(ImageFilter.GaussianBlur(4)))
    photograph.save("clear.png")


def make(options: Sequence[str]) -> Image.Image:
    """Returns the picture that options give, on white."""
    if nst(["fit", *BASE, *options, "--output", "out.png"]):
        raise SystemExit(f"nst fit failed with {options}")
    picture = Image.open("out.png").convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")


def grid(pictures: Sequence[Image.Image], columns: int, gap: int) -> Image.Image:
    """Lays pictures of one size out on white."""
    width, height = pictures[0].size
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * (width + gap) - gap, rows * (height + gap) - gap), "white")
    for i, picture in enumerate(pictures):
        sheet.paste(picture, (i % columns * (width + gap), i // columns * (height + gap)))
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="folder for the pictures")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    options = parser.parse_args()
    output = options.output.resolve()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        prepare()
        for title in options.rows:
            cells = [make(words) for words in ROWS[title]]
            if title == "regions":
                cells.insert(0, Image.open("map.png").resize(cells[0].size))
            sheet = grid(4 * cells, 2, 0) if title == "tiles" else grid(cells, len(cells), 4)
            sheet.save(output / f"{title}.jpg", quality=85)
            print(output / f"{title}.jpg", flush=True)


if __name__ == "__main__":
    main()
