"""Makes the pictures of what goes wrong: each symptom beside what the flag makes of it, by small runs of the samples.

    python tools/symptoms.py docs                 # all of them; some minutes on two cores
    python tools/symptoms.py docs --only speckle  # this one

docs/guides/wrong.md shows them, and names the flags that stand here.
"""

from __future__ import annotations

import argparse
import shlex
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from sheets import beside, made

SIZE = 256
"""Longer side of a picture, in pixels."""


@dataclass(frozen=True)
class Symptom:
    """What is seen, and what mends it.

    Attributes:
        photograph: A sample's name.
        painting: A sample's name.
        wrong: Flags that show the symptom.
        mended: Flags that show it no more.
        both: Flags of both pictures.
        part: The part that is shown enlarged, as shares of the picture: left, top, right, bottom.
        size: Longer side, in pixels.
    """

    photograph: str
    painting: str
    wrong: str
    mended: str
    both: str = "--config quick"
    part: tuple[float, float, float, float] = (0, 0, 1, 1)
    size: int = SIZE


SYMPTOMS = {
    "veil": Symptom(
        "chelsea",
        "mosaic",
        "--model.init gray --data.steps 20",
        "--model.init content --data.steps 150",
        "--config '{}' --model.backbone compact --model.average 0.9",
    ),
    "speckle": Symptom(
        "chelsea",
        "ink",
        "--model.tv_weight 0 --model.average 0",
        "--model.tv_weight 10 --model.average 0.9",
        "--config '{}' --model.backbone compact --model.tv_norm l2 --model.init noise --data.steps 120",
        (0.3, 0.3, 0.6, 0.6),
    ),
    "frame": Symptom(
        "coffee",
        "night",
        "--model.bleed 0",
        "--model.bleed 8",
        "--config '{}' --model.backbone compact --data.steps 120",
        (0, 0.84, 0.16, 1),
    ),
    "blobs": Symptom("chelsea", "mosaic", "--data.style_scale 3", "--data.style_scale 1"),
    "smooth": Symptom("chelsea", "night", "--model.tv_weight 50", "--model.tv_weight 0.05"),
    "colours": Symptom("coffee", "ink", "--data.color style", "--data.color content"),
    "face": Symptom(
        "astronaut",
        "mosaic",
        "--model.correspondence_weight 0 --model.style_weight 30",
        "--model.correspondence_weight 0.3 --model.style_weight 1 --model.structure_weight 0.3",
    ),
    "faint": Symptom("coffee", "glass", "--model.strength 0.3", "--model.strength 1"),
    "texture": Symptom("rocket", "night", "--data.min_size 256", "--data.min_size 64"),
}


def make(symptom: Symptom, flags: str) -> Image.Image:
    """Returns the picture that flags give, or the part of it that is shown."""
    words = [*shlex.split(symptom.both), *shlex.split(flags), "--data.size", str(symptom.size)]
    words += ["--data.content", f"sample:{symptom.photograph}", "--data.style", f"sample:{symptom.painting}"]
    picture = made(words)
    left, top, right, bottom = symptom.part
    box = (left * picture.width, top * picture.height, right * picture.width, bottom * picture.height)
    shown = picture.crop(tuple(round(x) for x in box))  # type: ignore[arg-type]  # four numbers
    return shown if symptom.part == (0, 0, 1, 1) else shown.resize(picture.size, Image.Resampling.NEAREST)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("docs", type=Path, help="the folder of the documentation")
    parser.add_argument("--only", nargs="+", choices=SYMPTOMS, default=[*SYMPTOMS])
    options = parser.parse_args()
    folder = options.docs / "guides" / "wrong"
    folder.mkdir(parents=True, exist_ok=True)
    for name in options.only:
        symptom = SYMPTOMS[name]
        pictures = [make(symptom, flags) for flags in (symptom.wrong, symptom.mended)]
        beside(pictures, pictures[0].height).save(folder / f"{name}.jpg", quality=86)
        print(folder / f"{name}.jpg", flush=True)


if __name__ == "__main__":
    main()
