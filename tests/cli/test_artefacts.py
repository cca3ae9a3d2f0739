"""What a picture must not show: hatch in a flat sky, a frame, blobs that no picture has, dots around what is kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from benchmarks.judge import nyquist
from nst.cli.main import main
from nst.scene import samples

pytestmark = pytest.mark.slow

SIZE = (192, 144)
SKY = slice(8, 64)


def read(path: Path | str) -> Tensor:
    return torch.from_numpy(np.asarray(Image.open(path).convert("RGB"), np.float32) / 255).permute(2, 0, 1)[None]


@pytest.fixture
def street() -> Path:
    """A flat sky over houses with windows."""
    picture = Image.new("RGB", SIZE, (120, 160, 210))
    pen = ImageDraw.Draw(picture)
    for house in range(6):
        left, top = 32 * house, 76 + 9 * (house % 3)
        pen.polygon([(left, top), (left + 16, top - 12), (left + 32, top)], (150, 70, 50))
        pen.rectangle((left, top, left + 31, 143), (230, 215 - 12 * house, 150 + 10 * house))
        for window in range(6):
            x, y = left + 5 + 13 * (window % 2), top + 8 + 18 * (window // 2)
            pen.rectangle((x, y, x + 7, y + 9), (50, 50, 70))
    picture.save("street.png")
    return Path("street.png")


def paint(street: Path, *options: str) -> Tensor:
    size = ["--data.size", str(SIZE[0]), "--data.min_size", "128", "--data.steps", "[60, 40]"]
    config = ["--config", "starry", "--model.backbone", "compact", "--data.content", str(street), *size]
    assert main(["fit", *config, "--trainer.enable_progress_bar", "false", "--output", "picture.png", *options]) == 0
    return read("picture.png")


def painting() -> Tensor:
    image = Image.open(samples.path("sample:night")).convert("RGB")
    image.thumbnail((SIZE[0], SIZE[0]), Image.Resampling.LANCZOS)
    image.save("shown.png")
    return read("shown.png")


def test_a_flat_sky_gets_strokes_and_no_hatch_no_frame_and_no_blobs(street: Path) -> None:
    made, style, photograph = paint(street), painting(), read(street)
    sky = made[:, :, SKY]
    assert float(sky.std(dim=(2, 3)).mean()) > 0.04  # it is painted
    assert nyquist(sky) < 1.2 * nyquist(style)
    # a frame: the outermost pixels differ from those further in by no more than these do from the next
    ring = [made[:, :, d : SIZE[1] - d, d : SIZE[0] - d] for d in (0, 4, 8)]
    outer, inner = (_edge(ring[i]) - _edge(ring[i + 1]) for i in (0, 1))
    assert float(outer.abs().max()) < float(inner.abs().max()) + 0.03
    # blobs: hardly a place, as seen from afar, is darker or lighter than all places of both pictures
    seen = [torch.nn.functional.avg_pool2d(x.mean(1, keepdim=True), 6) for x in (made, style, photograph)]
    low, high = min(float(x.min()) for x in seen[1:]), max(float(x.max()) for x in seen[1:])
    assert float(((seen[0] < low - 0.03) | (seen[0] > high + 0.03)).float().mean()) < 0.002


def _edge(picture: Tensor) -> Tensor:
    """The mean colour of a picture's outermost pixels."""
    sides = (picture[:, :, 0], picture[:, :, -1], picture[..., 0], picture[..., -1])
    return torch.cat([side.flatten(2) if side.dim() > 3 else side for side in sides], dim=2).mean(2)


def test_no_dots_stand_around_what_is_kept(street: Path) -> None:
    mask = Image.new("L", SIZE, 0)
    ImageDraw.Draw(mask).rectangle((60, 66, 130, 143), 255)
    mask.save("mask.png")
    made, photograph = paint(street, "--data.regions", "{house: {mask: mask.png, keep: true}}"), read(street)
    kept = torch.from_numpy(np.asarray(mask) > 0)[None, None]
    assert torch.equal(made[kept.expand_as(made)], photograph[kept.expand_as(made)])
    rough = torch.nn.functional.conv2d(made.transpose(0, 1), LAPLACIAN).abs().mean(0, keepdim=True)
    around, border, far = (_grown(kept[:, :, 1:-1, 1:-1], n) for n in (9, 3, 25))
    near, elsewhere = rough[around & ~border], rough[~far]
    assert float(near.mean()) < 1.25 * float(elsewhere.mean())  # it was 1.6 times


LAPLACIAN = torch.tensor([[0.0, -1, 0], [-1, 4, -1], [0, -1, 0]]).view(1, 1, 3, 3)


def _grown(mask: Tensor, size: int) -> Tensor:
    return torch.nn.functional.max_pool2d(mask.float(), size, 1, size // 2) > 0
