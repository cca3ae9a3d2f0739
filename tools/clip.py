"""Makes the sheet of a clip in docs/video.md: a sample photograph that is moved and enlarged, and the painted clip.

    python -m tools.clip docs

Every sixth frame, the clip above and the painted clip below. The same machine makes the same sheet.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from nst.cli.main import main as nst
from nst.scene import samples

SIZE, FRAMES, EVERY, GAP = (384, 256), 24, 6, 4


def write_frames(folder: Path) -> None:
    """Writes the frames of the clip: the window moves to the right and down, and becomes smaller."""
    with Image.open(samples.path("sample:chelsea")) as image:
        photograph = image.convert("RGB")
    for i in range(FRAMES):
        scale = 1.05 - 0.006 * i
        window = (scale, 0.0, 10 + 1.6 * i, 0.0, scale, 12 + 0.7 * i)
        frame = photograph.transform(SIZE, Image.Transform.AFFINE, window, Image.Resampling.BICUBIC)
        frame.save(folder / f"{i:02d}.png")


def lay_out(rows: Sequence[Sequence[Path]]) -> Image.Image:
    """Returns pictures of one size in rows."""
    width, height = SIZE
    sheet = Image.new("RGB", (len(rows[0]) * (width + GAP) - GAP, len(rows) * (height + GAP) - GAP), "white")
    for y, row in enumerate(rows):
        for x, path in enumerate(row):
            with Image.open(path) as picture:
                sheet.paste(picture, (x * (width + GAP), y * (height + GAP)))
    return sheet


def main(args: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="The folder of video.jpg.")
    known = parser.parse_args(args)
    with tempfile.TemporaryDirectory() as name:
        clip, painted = Path(name) / "clip", Path(name) / "painted"
        clip.mkdir()
        write_frames(clip)
        words = ["--config", "starry", "--model.backbone", "compact", "--data.size", str(max(SIZE))]
        code = nst(["video", *words, "--data.content", str(clip), "--output", str(painted)])
        if code == 0:
            numbers = range(0, FRAMES, EVERY)
            rows = [[clip / f"{i:02d}.png" for i in numbers], [painted / f"{i:06d}.png" for i in numbers]]
            lay_out(rows).save(known.folder / "video.jpg", quality=90)
    return code


if __name__ == "__main__":
    raise SystemExit(main())
