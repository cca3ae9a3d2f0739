"""Makes the documentation's gallery: each sample photograph in the manner of each sample painting, and the page.

    python -m tools.gallery docs                          # what is missing of all pairs
    python -m tools.gallery docs --pairs chelsea:mosaic   # these pairs alone
    python -m tools.gallery docs --pairs                  # the page alone, of the pictures that are there

A picture is one `nst fit`; one that is there is not made again: remove those that were made with other settings.
"""

from __future__ import annotations

import argparse
import shlex
import tempfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from nst.cli.main import main as nst
from nst.pictures.files import write_text
from nst.scene import samples

FOLDER = "gallery"
THUMBNAIL, GAP = 200, 6
"""Height of a sample on its strip, and what lies between two, in pixels."""

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


def pairs() -> list[tuple[str, str]]:
    """Returns all pairs of a photograph and a painting, painting by painting."""
    return [(photograph, painting) for painting in samples.PAINTINGS for photograph in samples.PHOTOGRAPHS]


def pair(text: str) -> tuple[str, str]:
    """Reads a pair such as `chelsea:mosaic`."""
    photograph, _, painting = text.partition(":")
    if (photograph, painting) not in pairs():
        raise argparse.ArgumentTypeError(f"expected a pair such as chelsea:mosaic, but got {text}")
    return photograph, painting


def command(photograph: str, painting: str, config: str, size: int) -> list[str]:
    """Returns the words of the command that makes a picture, without its output."""
    return [
        *("nst", "fit", "--config", config, "--data.content", f"sample:{photograph}"),
        *("--data.style", f"sample:{painting}", "--data.size", str(size)),
    ]


def strip(names: Sequence[str]) -> Image.Image:
    """Returns samples side by side, at one height, on white."""
    found = [Image.open(samples.path(f"{samples.PREFIX}{name}")).convert("RGB") for name in names]
    small = [x.resize((round(x.width * THUMBNAIL / x.height), THUMBNAIL), Image.Resampling.LANCZOS) for x in found]
    sheet = Image.new("RGB", (sum(x.width + GAP for x in small) - GAP, THUMBNAIL), "white")
    left = 0
    for picture in small:
        sheet.paste(picture, (left, 0))
        left += picture.width + GAP
    return sheet


def make(photograph: str, painting: str, path: Path, config: str, size: int) -> None:
    """Makes one picture, without the record, whose paths are this machine's."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "picture.png"
        words = command(photograph, painting, config, size)[1:]
        quiet = ["--trainer.enable_progress_bar", "false", "--trainer.default_root_dir", folder]
        if nst([*words, *quiet, "--output", str(output)]):
            raise SystemExit(f"nst fit failed for {path}")
        Image.open(output).convert("RGB").save(path, quality=86)


def page(folder: Path, config: str, size: int) -> str:
    """Returns the page of the pictures that are in a folder."""
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
        lines += ["", "These are made by `python -m tools.gallery docs`, each by the command under it."]
    for painting in samples.PAINTINGS:
        made = [x for x in samples.PHOTOGRAPHS if (folder / f"{x}-{painting}.jpg").exists()]
        lines += ["", f"## {WORDS[painting].capitalize()}"] if made else []
        for photograph in made:
            words = shlex.join([*command(photograph, painting, config, size), "--output", "picture.png"])
            shown = f"{WORDS[photograph].capitalize()} in the manner of {WORDS[painting]}"
            lines += ["", f"![{shown}]({FOLDER}/{photograph}-{painting}.jpg)", "", "```sh", words, "```"]
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
    parser.add_argument("--config", default="starry")
    parser.add_argument("--size", type=int, default=512, help="longer side, in pixels")
    options = parser.parse_args()
    folder = options.docs / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for name, names in (("photographs", samples.PHOTOGRAPHS), ("paintings", samples.PAINTINGS)):
        strip([*names]).save(folder / f"{name}.jpg", quality=86)
    for photograph, painting in options.pairs:
        path = folder / f"{photograph}-{painting}.jpg"
        if not path.exists():
            make(photograph, painting, path, options.config, options.size)
            print(path, flush=True)
    write_text(options.docs / "gallery.md", page(folder, options.config, options.size))


if __name__ == "__main__":
    main()
