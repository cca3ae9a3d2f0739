"""One fixed judge of results, in plain code that shares nothing with the package's losses.

All figures are taken at the result's size with a whole VGG16, the painting scaled to the same longer side:

- gram: |G - A|² / |A|² over Gram matrices, mean over relu1_1 ... relu5_1
- w2: (|m - m_t|² + tr S + tr T - 2 tr (T^½ S T^½)^½) / tr T, mean over the same layers
- look: the same, weighted 256:64:16:4:1 from relu1_1 to relu5_1
- content: |F - P|² / |P|² at relu4_2
- tv: mean absolute difference of neighbouring values over the painting's
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import safetensors.torch
import torch
import torchvision
from PIL import Image
from torch import Tensor

TAPS = {1: "relu1_1", 6: "relu2_1", 11: "relu3_1", 20: "relu4_2", 18: "relu4_1", 25: "relu5_1"}
STYLE = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
LOOK = (256, 64, 16, 4, 1)


class Judge:
    """Measures results with the VGG16 of a torchvision state dict."""

    def __init__(self, weights: Path) -> None:
        state = safetensors.torch.load_file(weights) if weights.suffix == ".safetensors" else torch.load(weights)
        self.network = torchvision.models.vgg16(weights=None).features[:26]
        self.network.load_state_dict(
            {k.removeprefix("features."): v.float() for k, v in state.items() if _within(k)}, strict=True
        )
        for layer in self.network:
            if isinstance(layer, torch.nn.ReLU):
                layer.inplace = False

    @torch.no_grad()
    def __call__(self, result: Path, content: Path, style: Path) -> dict[str, float]:
        """Returns the figures of one result."""
        picture = _read(result)
        size = (picture.shape[3], picture.shape[2])
        photograph = _read(content, size)
        with Image.open(style) as image:
            scale = max(size) / max(image.size)
            painting = _read(style, (round(image.width * scale), round(image.height * scale)))
        x, p, a = (self._features(y) for y in (picture, photograph, painting))
        grams = [_gram(x[layer], a[layer]) for layer in STYLE]
        w2 = [_wasserstein(x[layer], a[layer]) for layer in STYLE]
        error = (x["relu4_2"] - p["relu4_2"]).square().sum() / p["relu4_2"].square().sum()
        return {
            "look": sum(w * d for w, d in zip(LOOK, w2, strict=True)) / sum(LOOK),
            "w2": sum(w2) / len(w2),
            "gram": sum(grams) / len(grams),
            "content": float(error),
            "tv": _variation(picture) / _variation(painting),
        }

    def _features(self, picture: Tensor) -> dict[str, Tensor]:
        mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        x, found = (picture - mean.view(1, 3, 1, 1)) / deviation.view(1, 3, 1, 1), {}
        for index, layer in enumerate(self.network):
            x = layer(x)
            if index in TAPS:
                found[TAPS[index]] = x[0].flatten(1).double()
        return found


def _within(key: str) -> bool:
    parts = key.removeprefix("features.").split(".")
    return parts[0].isdigit() and int(parts[0]) < 26


def _read(path: Path, size: tuple[int, int] | None = None) -> Tensor:
    with Image.open(path) as image:
        rgb = image.convert("RGB")
        rgb = rgb if size is None or rgb.size == size else rgb.resize(size, Image.Resampling.LANCZOS)
        return torch.from_numpy(np.asarray(rgb, np.float32) / 255).permute(2, 0, 1)[None]


def _gram(x: Tensor, a: Tensor) -> float:
    g, t = x @ x.T / x.shape[1], a @ a.T / a.shape[1]
    return float((g - t).square().sum() / t.square().sum())


def _wasserstein(x: Tensor, a: Tensor) -> float:
    s, t = torch.cov(x, correction=0), torch.cov(a, correction=0)
    values, vectors = torch.linalg.eigh(t)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    cross = torch.linalg.eigvalsh(root @ s @ root).clamp(min=0).sqrt().sum()
    shift = (x.mean(1) - a.mean(1)).square().sum()
    return float((shift + s.trace() + t.trace() - 2 * cross) / t.trace())


def _variation(picture: Tensor) -> float:
    return float(picture.diff(dim=2).abs().mean() + picture.diff(dim=3).abs().mean())
