"""Sheets that show frames of a clip side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from nst.pictures import images

COLUMNS, LONGEST = 4, 512
"""The most frames beside each other, and the longer side of a frame on a sheet, in pixels."""


def poster(frames: Sequence[Path], output: Path) -> None:
    """Writes frames side by side, in rows of up to COLUMNS.

    Args:
        frames: Files of frames of one size, at least one.
        output: The file of the sheet; the suffix sets the format.

    Raises:
        RunError: If the file cannot be written.
    """
    pictures = []
    for path in frames:
        with Image.open(path) as image:
            image.thumbnail((LONGEST, LONGEST))
            pictures.append(image.convert("RGBA"))
    width, height = pictures[0].size
    columns = min(COLUMNS, len(pictures))
    gap = max(2, width // 100)
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * (width + gap) - gap, rows * (height + gap) - gap), "white")
    for i, picture in enumerate(pictures):
        sheet.paste(picture, (i % columns * (width + gap), i // columns * (height + gap)), picture)
    images.save(images.decode(sheet).rgb, output)
