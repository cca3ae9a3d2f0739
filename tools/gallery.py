"""Makes the documentation's gallery: each sample photograph in the manner of each sample painting, and the page.

    python tools/gallery.py docs                          # what is missing of all pairs, and the README's row
    python tools/gallery.py docs --pairs chelsea:mosaic   # these pairs alone
    python tools/gallery.py docs --pairs                  # the page alone, of the pictures that are there
    python tools/gallery.py docs --pairs --row coffee:ink # and another pair in the README's row

A picture is one `nst fit`; one that is there is not made again: remove those that were made with other settings. The
seconds, the machine and the version of each are kept in `gallery/times.json`, as soon as it is made.
"""

from __future__ import annotations

import argparse
import json
import shlex
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from PIL import Image
from sheets import GAP, beside, made

from nst.machine import system, threads
from nst.pictures.files import write_text
from nst.pictures.geometry import fit
from nst.scene import samples

FOLDER = "gallery"
THUMBNAIL = 200
"""Height of a sample on its strip, in pixels."""

TIMES = "times.json"
ROW = 1200
"""Width of the README's row, in pixels."""

WORDS = {
    "rocket": "a rocket at dusk",
    "chelsea": "a cat",
    "astronaut": "an astronaut",
    "coffee": "a cup of coffee",
    "night": "a night sky in strokes",
    "woodcut": "a woodcut",
    "glass": "leaded glass",
    "ink": "an ink painting",
    "dots": "a picture of dots",
    "mosaic": "a mosaic",
}
"""What each sample shows."""

PRESETS = {"ink": "portrait"}
"""The preset of a painting's pictures where it is not `starry`: large washes of ink would cover the subject."""


def pairs() -> list[tuple[str, str]]:
    """Returns all pairs of a photograph and a painting, painting by painting."""
    return [(photograph, painting) for painting in samples.PAINTINGS for photograph in samples.PHOTOGRAPHS]


def pair(text: str) -> tuple[str, str]:
    """Reads a pair such as `chelsea:mosaic`."""
    photograph, _, painting = text.partition(":")
    if (photograph, painting) not in pairs():
        raise argparse.ArgumentTypeError(f"expected a pair such as chelsea:mosaic, but got {text}")
    return photograph, painting


def command(photograph: str, painting: str, size: int) -> list[str]:
    """Returns the words of the command that makes a picture, without its output."""
    return [
        *("nst", "fit", "--config", PRESETS.get(painting, "starry"), "--data.content", f"sample:{photograph}"),
        *("--data.style", f"sample:{painting}", "--data.size", str(size)),
    ]


def sample(name: str) -> Image.Image:
    """Returns a sample."""
    return Image.open(samples.path(f"{samples.PREFIX}{name}")).convert("RGB")


def row(photograph: str, painting: str, made: Path) -> Image.Image:
    """Returns the README's row: the photograph, the painting and the picture that was made of them, at one height."""
    with Image.open(made) as picture:
        pictures = [sample(photograph), sample(painting), picture.convert("RGB")]
    aspects = sum(x.width / x.height for x in pictures)
    return beside(pictures, int((ROW - (len(pictures) - 1) * GAP) / aspects))


def strip(names: Sequence[str]) -> Image.Image:
    """Returns samples side by side, small."""
    return beside([sample(name) for name in names], THUMBNAIL)


def photograph_at(name: str, size: int) -> Image.Image:
    """Returns a photograph at the size of the pictures that are made of it, for the page's sliders."""
    picture = sample(name)
    height, width = fit(picture.height, picture.width, size)
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def times(folder: Path) -> dict[str, dict[str, str | float]]:
    """Returns the seconds, the machine and the version of each picture that is in a folder, by its name."""
    path = folder / TIMES
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def note(folder: Path, name: str, seconds: float) -> None:
    """Keeps how long a picture took, on which machine and with which version."""
    cores = threads.cores()
    machine = f"{system.processor()}, {cores} {'core' if cores == 1 else 'cores'}"
    found = times(folder) | {name: {"seconds": round(seconds, 1), "machine": machine, "version": version("nst")}}
    write_text(folder / TIMES, json.dumps(dict(sorted(found.items())), indent=1) + "\n")


def page(folder: Path, size: int) -> str:
    """Returns the page of the pictures that are in a folder."""
    took = times(folder)
    lines = [
        "# Gallery",
        "",
        "What is in the box: the photographs " + _listed(samples.PHOTOGRAPHS) + ",",
        "",
        f"![{_shown(samples.PHOTOGRAPHS)}]({FOLDER}/photographs.jpg)",
        "",
        "and the paintings " + _listed(samples.PAINTINGS) + ". Each is a sample, such as `--data.style sample:glass`.",
        "",
        f"![{_shown(samples.PAINTINGS)}]({FOLDER}/paintings.jpg)",
    ]
    if any((folder / f"{photograph}-{painting}.jpg").exists() for photograph, painting in pairs()):
        lines += [
            "",
            "These are made by one script from a clean checkout, `python tools/gallery.py docs`, each by the command",
            "under it, in the time, on the machine and with the version that stand there. A slider lays the photograph",
            "over a picture.",
        ]
    for painting in samples.PAINTINGS:
        made = [x for x in samples.PHOTOGRAPHS if (folder / f"{x}-{painting}.jpg").exists()]
        lines += ["", f"## {WORDS[painting].capitalize()}"] if made else []
        for photograph in made:
            words = shlex.join([*command(photograph, painting, size), "--output", "picture.png"])
            shown = f"{WORDS[photograph].capitalize()} in the manner of {WORDS[painting]}"
            lines += ["", f"![{shown}]({FOLDER}/{photograph}-{painting}.jpg)", "", "```sh", words, "```"]
            if told := took.get(f"{photograph}-{painting}"):
                lines += ["", f"{told['seconds']:.0f} s on {told['machine']}, nst {told['version']}."]
    return "\n".join(lines) + "\n"


def _listed(names: Sequence[str] | dict[str, str]) -> str:
    shown = [f"`{name}`" for name in names]
    return f"{', '.join(shown[:-1])} and {shown[-1]}"


def _shown(names: Sequence[str] | dict[str, str]) -> str:
    return ", ".join(WORDS[name] for name in names).capitalize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("docs", type=Path, help="the folder of the documentation")
    parser.add_argument("--pairs", type=pair, nargs="*", default=pairs(), help="such as chelsea:mosaic; by default all")
    parser.add_argument("--size", type=int, default=768, help="longer side, in pixels")
    parser.add_argument("--row", type=pair, default=("astronaut", "night"), help="the pair of the README's row")
    options = parser.parse_args()
    folder = options.docs / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for name, names in (("photographs", samples.PHOTOGRAPHS), ("paintings", samples.PAINTINGS)):
        strip([*names]).save(folder / f"{name}.jpg", quality=86)
    for name in samples.PHOTOGRAPHS:
        photograph_at(name, options.size).save(folder / f"{name}.jpg", quality=86)
    for photograph, painting in options.pairs:
        path = folder / f"{photograph}-{painting}.jpg"
        if not path.exists():
            start = time.monotonic()
            words = command(photograph, painting, options.size)
            made(words[2:]).save(path, quality=86)
            note(folder, path.stem, time.monotonic() - start)
            print(path, flush=True)
    photograph, painting = options.row
    chosen = folder / f"{photograph}-{painting}.jpg"
    if chosen.exists():
        row(photograph, painting, chosen).save(options.docs / "row.jpg", quality=88)
    write_text(options.docs / "gallery.md", page(folder, options.size))


if __name__ == "__main__":
    main()
