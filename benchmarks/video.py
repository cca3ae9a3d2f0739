"""Painted clips against their true motion: ours, frames one by one, and frames that only start from the one before.

    python -m benchmarks.video --photo photo.jpg --subject face.jpg --style painting.jpg --judge vgg16.safetensors

The clips are made of photographs that a script moves, so that the true flow and what is seen twice are known: `turn`, a
photograph that is moved, turned and enlarged; `subject`, another one in an ellipse that moves before a photograph that
moves as well; `drive`, a photograph that is moved fast. `motorcycle` is scikit-image's stereo pair, two frames with
their true disparity.

Figures for each clip and each way to paint it: `error`, the mean squared difference of a frame and the one before,
warped by the true flow, over the pixels that both see, as a multiple of the same of the clip (mean and worst frame);
`first` and `later`, seconds of the first frame and the median of the others; `look` and `content` of the judge, means
over some frames; `drift`, the last frame's total variation over the first's, and how far the mean colour has gone.
Nothing else should run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import grid_sample

from benchmarks import machine
from benchmarks.judge import Judge
from nst.cli.settings import JobCLI
from nst.machine.quiet import quiet_libraries
from nst.pictures import images
from nst.pictures.geometry import fit
from nst.run.stopping import Stop
from nst.video.clips import Frame
from nst.video.flow import warp
from nst.video.painter import Motion, Painter

JUDGED = 5
"""How many frames of a clip the judge looks at."""


@dataclass(frozen=True)
class Moved:
    """A clip with its true motion.

    Attributes:
        frames: The frames, (1, 3, H, W) each.
        flows: For each frame but the first, where its pixels were in the frame before, (1, 2, H, W) in pixels.
        seen: For each of these, 1 where a pixel is seen in the frame before, (1, 1, H, W).
    """

    frames: list[Tensor]
    flows: list[Tensor]
    seen: list[Tensor]


def grid(height: int, width: int) -> Tensor:
    """Returns the places of pixels from the middle, (2, H, W): to the right and down."""
    y, x = torch.meshgrid(torch.arange(height) - height / 2, torch.arange(width) - width / 2, indexing="ij")
    return torch.stack([x, y]).double()


def affine(step: int, shift: tuple[float, float], turn: float, growth: float) -> tuple[Tensor, Tensor]:
    """Returns the matrix and the shift that bring a place of frame `step` to the photograph."""
    angle, scale = torch.tensor(turn * step), growth**-step
    matrix = scale * torch.tensor([[angle.cos(), -angle.sin()], [angle.sin(), angle.cos()]]).double()
    return matrix, step * torch.tensor(shift).double()


def applied(motion: tuple[Tensor, Tensor], places: Tensor) -> Tensor:
    return torch.einsum("ij,jhw->ihw", motion[0], places) + motion[1].view(2, 1, 1)


def undone(motion: tuple[Tensor, Tensor], places: Tensor) -> Tensor:
    return torch.einsum("ij,jhw->ihw", torch.linalg.inv(motion[0]), places - motion[1].view(2, 1, 1))


def fetched(photo: Tensor, places: Tensor) -> Tensor:
    """Returns a photograph's values at places from its middle."""
    height, width = photo.shape[2:]
    where = torch.stack([2 * (places[0] + 0.5) / width, 2 * (places[1] + 0.5) / height], dim=-1)[None].float()
    return grid_sample(photo, where, mode="bicubic", padding_mode="reflection", align_corners=False).clamp(0, 1)


def inside(places: Tensor) -> Tensor:
    """Returns 1 for places within a frame of the places' own size, (1, 1, H, W)."""
    height, width = places.shape[1:]
    x, y = places[0] + width / 2, places[1] + height / 2
    return ((x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)).float()[None, None]


Motions = Sequence[tuple[Tensor, Tensor]]


def moved(photo: Tensor, motions: Motions, size: tuple[int, int]) -> Moved:
    """Returns a photograph's clip under a motion."""
    here = grid(*size)
    frames = [fetched(photo, applied(x, here)) for x in motions]
    before = [undone(motions[i - 1], applied(motions[i], here)) for i in range(1, len(motions))]
    return Moved(frames, [(x - here).float()[None] for x in before], [inside(x) for x in before])


def layered(back: Moved, front: Moved, masks: list[Tensor]) -> Moved:
    """Returns a clip before another one: `masks` are 1 where the front is seen, (1, 1, H, W) each."""
    mixed = [torch.where(m > 0, f, b) for b, f, m in zip(back.frames, front.frames, masks, strict=True)]
    flows, seen = [], []
    for i in range(1, len(masks)):
        m, before = masks[i] > 0, masks[i - 1]
        flows.append(torch.where(m, front.flows[i - 1], back.flows[i - 1]))
        is_front = warp(before, flows[-1], order=1)
        # of the same layer, and not at its rim, in the frame before
        same = torch.where(m, is_front > 0.99, is_front < 0.01)
        seen.append(torch.where(m, front.seen[i - 1], back.seen[i - 1]) * same)
    return Moved(mixed, flows, seen)


def clips(photo: Path, subject: Path, size: int, count: int) -> dict[str, Moved]:
    """Returns the clips by name."""
    ground = images.load(photo)
    height, width = fit(ground.height, ground.width, size)
    wide = ground.resized(round(1.5 * height), round(1.5 * width)).rgb  # there is more to the photograph than a frame
    face = images.load(subject)
    face = face.resized(*fit(face.height, face.width, round(0.8 * size)))

    def motions(*motion: Any) -> Motions:
        return [affine(i, *motion) for i in range(count)]

    back = moved(wide, motions((0.6, 0.3), 0.0, 1.0), (height, width))
    front = motions((-2.4, -0.7), 0.0, 1.0)
    here, masks = grid(height, width), []
    for motion in front:
        x, y = applied(motion, here) / min(height, width)
        masks.append(((x / 0.25) ** 2 + (y / 0.3) ** 2 < 1).float()[None, None])
    return {
        "turn": moved(wide, motions((1.3, 0.7), 0.004, 1.006), (height, width)),
        "subject": layered(back, moved(face.rgb, front, (height, width)), masks),
        "drive": moved(wide, motions((3.7, -1.1), 0.0, 1.0), (height, width)),
    }


def motorcycle(size: int) -> Moved:
    """Returns scikit-image's stereo pair (Middlebury 2014, `motorcycle`) as two frames."""
    from skimage.data import stereo_motorcycle

    left, right, disparity = stereo_motorcycle()
    pair = [torch.from_numpy(x.astype(np.float32) / 255).permute(2, 0, 1)[None] for x in (right, left)]
    height, width = fit(left.shape[0], left.shape[1], size)
    scale = width / left.shape[1]
    known = torch.from_numpy(np.isfinite(disparity) & (disparity > 0)).float()[None, None]
    way = torch.from_numpy(np.nan_to_num(disparity, posinf=0, neginf=0)).float()[None, None]
    shrunk = [torch.nn.functional.interpolate(x, (height, width), mode="area") for x in (known, way * known)]
    way = shrunk[1] / shrunk[0].clamp(min=1e-6) * scale
    flow = torch.cat([-way, torch.zeros_like(way)], dim=1)
    # what is nearer hides what is behind it: the largest disparity that lands on a column is seen
    landed = (torch.arange(width) - way[0, 0]).round().long().clamp(0, width - 1)
    nearest = torch.full((height, width), -1.0).scatter_reduce(1, landed, way[0, 0], "amax")
    visible = (nearest.gather(1, landed) - way[0, 0] < 1.0).float()[None, None]
    seen = (shrunk[0] > 0.99).float() * visible * inside(grid(height, width) + flow[0].double())
    frames = [images.Picture(x).resized(height, width).rgb for x in pair]
    return Moved(frames, [flow], [seen])


def errors(results: Sequence[Tensor], clip: Moved) -> list[float]:
    """Returns the temporal error of each frame but the first."""
    found = []
    for i in range(1, len(results)):
        change = (results[i] - warp(results[i - 1], clip.flows[i - 1])).square().mean(1, keepdim=True)
        found.append(float((change * clip.seen[i - 1]).sum() / clip.seen[i - 1].sum()))
    return found


def one_by_one(maker: Any, clip: Moved, folder: Path, *_: Any) -> tuple[list[Tensor], list[float]]:
    """Paints each frame as a still."""
    results, seconds = [], []
    folder.mkdir(parents=True, exist_ok=True)
    for i, frame in enumerate(clip.frames):
        begun = time.monotonic()
        job = maker([])
        job.pictures["content"] = images.Picture(frame)
        job.begin()
        job.trainer.fit(job.model, datamodule=job.datamodule)
        images.save(job.datamodule.finished(job.model.shown), folder / f"{i:06d}.png")
        seconds.append(time.monotonic() - begun)
        results.append(images.load(folder / f"{i:06d}.png").rgb)
    return results, seconds


def painted(maker: Any, clip: Moved, folder: Path, motion: Motion) -> tuple[list[Tensor], list[float]]:
    """Paints a clip as `nst video` does."""
    painter = Painter(maker, folder, motion, [])
    results, seconds, begun = [], [], time.monotonic()
    for frame in painter.paint(Frame(i, Fraction(i, 25), images.Picture(x)) for i, x in enumerate(clip.frames)):
        seconds.append(time.monotonic() - begun)
        results.append(images.load(frame.path).rgb)
        begun = time.monotonic()
    return results, seconds


def figures(results: list[Tensor], seconds: list[float], clip: Moved, still: Sequence[float]) -> dict[str, Any]:
    """Returns what a painted clip measures; `still` are the clip's own errors."""
    found, last, first = errors(results, clip), results[-1], results[0]

    def variation(x: Tensor) -> float:
        return float(x.diff(dim=2).abs().mean() + x.diff(dim=3).abs().mean())

    own = statistics.mean(still)
    return {
        "error": round(statistics.mean(found) / own, 2),
        "worst": round(max(found) / own, 2),
        "first": round(seconds[0], 1),
        "later": round(statistics.median(seconds[1:]), 1),
        "variation": round(variation(last) / variation(first), 3),
        "colour": round(float((last.mean((2, 3)) - first.mean((2, 3))).abs().max()), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photo", type=Path, required=True)
    parser.add_argument("--subject", type=Path, required=True)
    parser.add_argument("--style", type=Path, required=True)
    parser.add_argument("--judge", type=Path, help="The judge's VGG16 weights; without them there is no judge.")
    parser.add_argument("--output", type=Path, default=Path("video"), help="The folder of all frames.")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--clips", nargs="*", default=["turn", "subject", "drive", "motorcycle"])
    parser.add_argument("--ways", nargs="*", default=["alone", "start", "ours"])
    parser.add_argument("--motion", type=json.loads, default={}, help="Changes of ours, such as '{\"share\": 0.5}'.")
    known, rest = parser.parse_known_args()
    options = ["--config=starry", *rest, f"--data.size={known.size}", f"--data.style={known.style}"]
    maker = JobCLI.maker([*options, "--model.backbone=compact"], Stop())
    ways: dict[str, tuple[Callable[..., Any], Motion | None]] = {
        "alone": (one_by_one, None),
        "start": (painted, Motion(temporal_weight=0)),
        "ours": (painted, Motion(**known.motion)),
    }
    judge = Judge(known.judge) if known.judge else None
    made = {**clips(known.photo, known.subject, known.size, known.frames), "motorcycle": motorcycle(known.size)}
    print(json.dumps({"machine": machine.described(), "size": known.size, "frames": known.frames}))
    for name in known.clips:
        clip = made[name]
        source = known.output / name / "clip"
        source.mkdir(parents=True, exist_ok=True)
        for i, frame in enumerate(clip.frames):
            images.save(frame, source / f"{i:06d}.png")
        still = errors(clip.frames, clip)
        for way in known.ways:
            paint, motion = ways[way]
            folder = known.output / name / way
            with quiet_libraries():
                results, seconds = paint(maker, clip, folder, motion)
            row = {"clip": name, "way": way, **figures(results, seconds, clip, still)}
            if judge is not None:
                chosen = np.linspace(0, len(results) - 1, min(JUDGED, len(results))).round().astype(int)
                judged = [judge(folder / f"{i:06d}.png", source / f"{i:06d}.png", known.style) for i in chosen]
                row |= {x: round(statistics.mean(y[x] for y in judged), 4) for x in ("look", "content", "edges")}
            print(json.dumps(row), flush=True)
            gif = [Image.open(folder / f"{i:06d}.png") for i in range(len(results))]
            gif[0].save(known.output / f"{name}-{way}.webp", save_all=True, append_images=gif[1:], duration=40, loop=0)


if __name__ == "__main__":
    main()
