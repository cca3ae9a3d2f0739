"""Pictures for the documentation: made by `nst fit`, and laid side by side."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from nst.cli.main import main as nst

GAP, CAPTION = 6, 22
"""What lies between two pictures, and the height of a caption, in pixels."""


def made(words: Sequence[str]) -> Image.Image:
    """Returns the picture that `nst fit` makes with some flags, RGB, without the record: its paths are this machine's.

    Raises:
        SystemExit: If the run fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        output = f"{folder}/picture.png"
        quiet = ["--trainer.enable_progress_bar", "false", "--trainer.default_root_dir", folder]
        if nst(["fit", *words, *quiet, "--output", output]):
            raise SystemExit(f"nst fit failed with {words}")
        with Image.open(output) as picture:
            return picture.convert("RGB")


def beside(pictures: Sequence[Image.Image], height: int, captions: Sequence[str] = ()) -> Image.Image:
    """Returns pictures side by side, at one height in pixels, on white, each over its caption where there are some."""
    shown = [
        x if x.height == height else x.resize((round(x.width * height / x.height), height), Image.Resampling.LANCZOS)
        for x in pictures
    ]
    size = sum(x.width + GAP for x in shown) - GAP, height + (CAPTION if captions else 0)
    sheet = Image.new("RGB", size, "white")
    draw, left = ImageDraw.Draw(sheet), 0
    for picture, caption in zip(shown, captions or [""] * len(shown), strict=True):
        sheet.paste(picture, (left, 0))
        draw.text((left + 2, height + 4), caption, fill="#333", font=ImageFont.load_default(13))
        left += picture.width + GAP
    return sheet
