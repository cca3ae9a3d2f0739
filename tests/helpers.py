"""What tests share: pictures, settings of small runs, and other ways to compute what nst computes."""

from __future__ import annotations

import io
import math
import struct
import sys
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from nst.cli.main import main
from nst.losses.functional import moments
from nst.losses.layers import ContentLoss, ContentTarget, StyleLoss, StyleTarget
from nst.losses.objective import Objective
from nst.losses.terms.content import ContentTerm
from nst.losses.terms.standard import standard_terms
from nst.losses.terms.style import StyleTerm
from nst.network import weights
from nst.network.architecture import BLOCKS, Weights
from nst.network.features import Features
from nst.optimise.module import StyleTransfer
from nst.pictures import images
from nst.scene.data import PictureData
from nst.streaming.scanner import Scanner
from nst.types import InputPath, Pixels, WeightsSource


def draw(path: Path, size: tuple[int, int] = (48, 40), seed: int = 0) -> Path:
    """Draws a picture of coloured blobs, different for each seed."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (6, 7, 3), dtype=np.uint8)
    Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).save(path)
    return path


TINY = ["--config", "{}", "--model.backbone", "compact", "--trainer.enable_progress_bar", "false"]
TINY += ["--data.size", "48", "--trainer.accelerator", "cpu"]
"""Options of small runs, by the network in the box."""

RANDOM = ["--model.backbone", "vgg16", "--model.weights", "random:0"]
"""Options of the network that `module` has."""


def fit(*options: str, content: Path = Path("photo.png"), style: Path = Path("painting.png"), steps: int = 3) -> int:
    """Runs `nst fit` on small pictures."""
    pictures = ["--data.content", str(content), "--data.style", str(style), "--data.steps", str(steps)]
    return main(["fit", *TINY, *pictures, *options])  # what a test gives comes last, and wins


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def random_weights(family: str) -> Weights:
    """A network of the family with 4, 4, 6, 8 and 8 channels in its blocks."""
    generator = torch.Generator().manual_seed(0)
    convolutions, channels = [], 3
    for width, count in zip((4, 4, 6, 8, 8), BLOCKS[family], strict=True):
        for _ in range(count):
            weight = torch.randn(width, channels, 3, 3, generator=generator) * (2 / (9 * channels)) ** 0.5
            convolutions.append((weight, torch.full((width,), 0.1)))
            channels = width
    return Weights(family, BLOCKS[family], convolutions)


def forget() -> int:
    """Starts a new peak, where the system can, and returns what is in use."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return peak()


def icns(kind: str = "PNG", **options: Any) -> bytes:
    inner = pillow(kind, "RGBA", (32, 32), **options)()
    packed = bytes([127] + 128 * [7] + [127] + 128 * [9]) * 3  # 16x16, a run of literals for each half of a channel
    parts = b"".join(
        name + struct.pack(">I", 8 + len(data)) + data for name, data in ((b"is32", packed), (b"ic11", inner))
    )
    return b"icns" + struct.pack(">I", 8 + len(parts)) + parts


def peak() -> int:
    """Returns the most memory that this process has had since `forget`, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(next(x.split()[1] for x in status.read_text().splitlines() if x.startswith("VmHWM"))) << 10
    resource = pytest.importorskip("resource")
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) << (0 if sys.platform == "darwin" else 10)


def picture(mode: str = "RGB", size: tuple[int, int] = (24, 20)) -> Image.Image:
    values = np.random.default_rng(3).integers(0, 256, (size[1], size[0], 4), dtype=np.uint8)
    image = Image.fromarray(values)
    if mode in ("I;16", "F"):
        return Image.fromarray(values[..., 0].astype(np.uint16 if mode == "I;16" else np.float32))
    return image.convert("RGB").convert(mode) if mode != "RGBA" else image


def pillow(kind: str, mode: str = "RGB", size: tuple[int, int] = (24, 20), **options: Any) -> Callable[[], bytes]:
    def make() -> bytes:
        file = io.BytesIO()
        picture(mode, size).save(file, kind, **options)
        return file.getvalue()

    return make


class Poison(pl.Callback):
    """Makes a target NaN before the third step, for good or for one step."""

    def __init__(self, heals: bool) -> None:
        self.heals = heals
        self.seen: list[Tensor] = []

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.seen.append(pl_module.picture.detach().clone())
        if batch_idx == 2:
            self.loss = style_losses(pl_module.objective)["relu3_1"]
            self.targets = self.loss.targets
            moments: Any = self.targets[0].statistics
            self.loss.set_targets([StyleTarget(replace(moments, outer=moments.outer * math.nan))])
            if self.heals:
                pl_module.guard.go_back = self._heal(pl_module.guard.go_back)

    def _heal(self, go_back: Any) -> Any:
        def healed(*args: Any, **settings: Any) -> None:
            go_back(*args, **settings)
            self.loss.set_targets(self.targets)

        return healed


RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def corner(picture: images.Picture) -> list[int]:
    return [round(value * 255) for value in picture.rgb[0, :, 0, 0].tolist()]


def broken_files(folder: Path) -> dict[str, str]:
    """Makes files that are no pictures; returns what the message says of each."""
    (folder / "folder.png").mkdir()
    (folder / "text.jpg").write_text("this is not a picture\n" * 50)
    (folder / "empty.jpg").touch()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "whole.jpg")
    (folder / "cut.jpg").write_bytes((folder / "whole.jpg").read_bytes()[:2000])
    Image.fromarray(noise).save(folder / "whole.png")
    (folder / "cut.png").write_bytes((folder / "whole.png").read_bytes()[:2000])
    return {
        "missing.jpg": "missing.jpg does not exist",
        "folder.png": "folder.png is a folder",
        "text.jpg": "text.jpg is none that can be read",
        "empty.jpg": "empty.jpg is none that can be read",
        "cut.jpg": "cut.jpg is damaged",
        "cut.png": "cut.png is damaged",
    }


def seam(picture: torch.Tensor, dim: int) -> float:
    """Gradient energy between the last and the first row or column over the picture's average."""
    energy = (picture - picture.roll(1, dim)).square().mean([x for x in range(4) if x != dim])
    return float(energy[0] / energy[1:].mean())


def lbfgs(**settings: Any) -> Any:
    return lambda params: torch.optim.LBFGS(params, **{"max_iter": 1, **settings})


def module(**settings: Any) -> StyleTransfer:
    return StyleTransfer("vgg16", WeightsSource("random:0"), **settings)


def pictures(pair: tuple[Path, Path], steps: int, **settings: Any) -> PictureData:
    return PictureData(InputPath(pair[0]), InputPath(pair[1]), Pixels(48), steps=steps, **settings)


def run(model: StyleTransfer, data: PictureData, ckpt_path: Path | None = None, **settings: Any) -> StyleTransfer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    torch.manual_seed(0)
    data.setup()
    levels = {"max_epochs": len(data.levels), "reload_dataloaders_every_n_epochs": 1}
    trainer = pl.Trainer(enable_model_summary=False, **{**quiet, **levels, **settings})
    trainer.fit(model, datamodule=data, ckpt_path=ckpt_path)
    return model


CONTENT, STYLE = {"relu3_2": 1.0, "conv2_1": 1.0}, {"relu1_1": 1.0, "conv2_1": 1.0, "pool2": 2.0, "relu4_1": 1.0}


class Cut(Exception):  # noqa: N818  # no error of anything
    """Ends a run in its middle."""


def cut_short(settings: Any, steps: int) -> Any:
    """Returns a picture's settings (a JobCLI) whose run ends with a Cut after some steps."""
    begin = settings.begin

    def beginning() -> None:
        begin()
        step = settings.model.optimizer_step

        def last(*given: Any, **more: Any) -> None:
            if settings.trainer.global_step == steps:
                raise Cut
            step(*given, **more)

        settings.model.optimizer_step = last

    settings.begin = beginning
    return settings


def made(dtype: torch.dtype = torch.float64, size: tuple[int, int] = (70, 61), **settings: Any) -> tuple[Any, ...]:
    """A small network, an objective with targets, and a picture."""
    network = Features(random_weights("vgg19"), {**CONTENT, **STYLE}, **settings).to(dtype)
    objective = objective_of(CONTENT, STYLE, tv_weight=0.1, wrap=settings.get("padding") == "circular")
    with torch.no_grad():
        content, style = network(noise(*size, 1).to(dtype)), network(noise(56, 48, 2).to(dtype))
        set_targets(objective, {x: content[x] for x in CONTENT}, {x: moments(style[x]) for x in STYLE})
    return network, objective, noise(*size, 3).to(dtype)


def noise(height: int, width: int, seed: int) -> Tensor:
    """Blobs: neighbours are alike, but no two maxima are."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, height // 8 + 2, width // 8 + 2, generator=generator, dtype=torch.float64)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    return (smooth + 0.1 * torch.rand(1, 3, height, width, generator=generator, dtype=torch.float64)) / 1.1


def reference(network: Features, objective: Objective, picture: Tensor) -> tuple[Tensor, Tensor]:
    x = picture.clone().requires_grad_()
    total = objective.total(objective.values(gathered(objective, network(x), x), x))
    (gradient,) = torch.autograd.grad(total, x)
    return total.detach(), gradient


def seen(scanner: Scanner, objective: Objective, picture: Tensor) -> tuple[Tensor, Tensor]:
    x = picture.clone().requires_grad_()
    total = objective.total(objective.values(scanner.statistics(x, objective), x))
    (gradient,) = torch.autograd.grad(total, x)
    return total.detach(), gradient


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("exploded"),))


def narrow(blocks: tuple[int, ...] = BLOCKS["vgg16"], width: int = 4) -> dict[str, Tensor]:
    """A whole network's state dict, but with few channels."""
    generator, channels, state = torch.Generator().manual_seed(0), 3, {}
    for i in weights.indices(blocks):
        state[f"features.{i}.weight"] = torch.randn(width, channels, 3, 3, generator=generator)
        state[f"features.{i}.bias"] = torch.randn(width, generator=generator)
        channels = width
    return {**state, "classifier.0.weight": torch.zeros(2, 2)}


def objective_of(content: Mapping[str, float], style: Mapping[str, float], **settings: Any) -> Objective:
    """The objective of the command line's settings."""
    return Objective(standard_terms(content, style, **settings))


def style_losses(objective: Objective) -> dict[str, StyleLoss]:
    """The style losses of an objective by layer."""
    return {layer: x for term in objective.terms if isinstance(term, StyleTerm) for layer, x in term.style.items()}


def content_losses(objective: Objective) -> dict[str, ContentLoss]:
    """The content losses of an objective by layer."""
    return {layer: x for term in objective.terms if isinstance(term, ContentTerm) for layer, x in term.content.items()}


def distances(objective: Objective) -> dict[str, Any]:
    """The style distances of an objective by layer."""
    return {layer: loss.distance for layer, loss in style_losses(objective).items()}


def gathered(objective: Objective, features: Mapping[str, Tensor], picture: Tensor) -> dict[str, Any]:
    """What an objective needs to know of activations by layer and of a picture, through torch's own gradients."""
    found: dict[str, Any] = {}
    for layer, activations in features.items():
        for name, observer in objective.observers(layer).items():
            found[name] = observer.statistics(activations, slice(None))
    first = picture[:, :, :1]
    return found | {name: x.pixel_statistics(picture, first, True) for name, x in objective.pixel_observers.items()}


def set_targets(objective: Objective, content: Mapping[str, Tensor], style: Mapping[str, Any]) -> None:
    """Sets targets that are for the whole picture."""
    for layer, loss in content_losses(objective).items():
        loss.set_target(ContentTarget(content[layer]))
    for layer, compared in style_losses(objective).items():
        compared.set_targets([StyleTarget(style[layer])])


def difference(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())
