"""The network against torchvision's own, and the taps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import nn

from nst.errors import InputError
from nst.network import weights
from nst.network.architecture import Weights, layer_names
from nst.network.features import DEVIATION, MEAN, Features, check_layers
from nst.pictures import images


def picture(height: int = 40, width: int = 36, seed: int = 0) -> torch.Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed))


def reference(family: str, loaded: Weights) -> nn.Sequential:
    """torchvision's features with the same weights, its ReLUs not in place so that every layer can be compared."""
    sequence: nn.Sequential = getattr(torchvision.models, family)(weights=None).features
    for layer in sequence:
        if isinstance(layer, nn.ReLU):
            layer.inplace = False
    found = iter(loaded.convolutions)
    for layer in sequence:
        if isinstance(layer, nn.Conv2d):
            weight, bias = next(found)
            layer.weight.data, layer.bias.data = weight, bias  # type: ignore[union-attr]  # it has one
    return sequence


@pytest.mark.parametrize("family", ["vgg16", "vgg19"])
def test_every_layer_is_torchvisions(family: weights.Backbone) -> None:
    loaded = weights.load(family, "random:1")
    names = layer_names(loaded.blocks)
    ours = Features(loaded, names)(picture())
    x = (picture() - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(DEVIATION).view(1, 3, 1, 1)
    sequence = reference(family, loaded)
    assert len(sequence) == len(names)
    for name, layer in zip(names, sequence, strict=True):
        x = layer(x)
        # another memory layout sums in another order, which adds up over the layers
        torch.testing.assert_close(ours[name], x, atol=1e-4, rtol=1e-4)


def test_normalisation_is_that_of_torchvisions_weights() -> None:
    transforms = torchvision.models.VGG19_Weights.IMAGENET1K_V1.transforms()
    assert tuple(transforms.mean) == MEAN
    assert tuple(transforms.std) == DEVIATION


def test_a_tapped_convolution_is_not_its_relu() -> None:
    taps = Features(weights.load("vgg16", "random:0"), ["conv2_2", "relu2_2"])(picture())
    assert taps["conv2_2"].min() < 0
    assert torch.equal(taps["relu2_2"], taps["conv2_2"].clamp(min=0))


def test_nothing_past_the_deepest_tap_is_kept_or_run() -> None:
    network = Features(weights.load("vgg16", "random:0"), ["relu2_1"])
    assert network.sequence[-1] == "relu2_1"
    assert not hasattr(network, "conv2_2_weight")
    assert list(network(picture())) == ["relu2_1"]


def test_the_network_is_frozen_and_outside_the_state_dict() -> None:
    network = Features(weights.load("vgg16", "random:0"), ["relu2_1"])
    assert not list(network.parameters())
    assert not network.state_dict()
    assert not network.training
    x = picture().requires_grad_()
    network(x)["relu2_1"].sum().backward()
    assert x.grad is not None
    assert x.grad.abs().max() > 0
    assert all(buffer.grad is None and not buffer.requires_grad for buffer in network.buffers())


def test_poolings_in_closed_form() -> None:
    x = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    loaded = weights.load("vgg16", "random:0")
    pooled = {kind: Features(loaded, [], pooling=kind).pool(x).item() for kind in ("max", "avg", "l2")}
    assert pooled == pytest.approx({"max": 4.0, "avg": 1.22 * 2.5, "l2": 0.59 * 30**0.5})


@pytest.mark.parametrize("pooling", ["avg", "l2"])
def test_other_poolings_keep_the_size_of_activations(pooling: Any, data: Path) -> None:
    loaded = weights.load("vgg16", str(data / "weights" / "vgg16.safetensors"))
    photograph = images.load(data / "images" / "photos" / "tubingen.jpg").resized(192, 256).rgb
    by_max = Features(loaded, ["relu5_1"])(photograph)["relu5_1"].square().mean().sqrt()
    other = Features(loaded, ["relu5_1"], pooling=pooling)(photograph)["relu5_1"].square().mean().sqrt()
    assert 0.67 < other / by_max < 1.5  # over four pools


def test_l2_pooling_has_a_gradient_where_everything_is_zero() -> None:
    loaded = weights.load("vgg16", "random:0")
    x = torch.tensor(MEAN).view(1, 3, 1, 1).expand(1, 3, 32, 32).clone().requires_grad_()
    Features(loaded, ["relu3_1"], pooling="l2")(x)["relu3_1"].sum().backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("padding", ["replicate", "reflect"])
def test_padding_changes_the_border_alone(padding: Any) -> None:
    loaded = weights.load("vgg16", "random:0")
    zeros = Features(loaded, ["conv1_1"])(picture())["conv1_1"]
    other = Features(loaded, ["conv1_1"], padding=padding)(picture())["conv1_1"]
    assert zeros.shape == other.shape
    torch.testing.assert_close(zeros[..., 1:-1, 1:-1], other[..., 1:-1, 1:-1])
    assert not torch.allclose(zeros[..., 0, :], other[..., 0, :])


@pytest.mark.parametrize("shift", [(0, 16), (8, 0), (24, 8)])
def test_circular_padding_knows_no_border(shift: tuple[int, int]) -> None:
    network = Features(weights.load("vgg16", "random:0"), ["relu3_1"], padding="circular")
    x = picture(32, 40)
    moved = network(x.roll(shift, (2, 3)))["relu3_1"]
    torch.testing.assert_close(
        moved, network(x)["relu3_1"].roll((shift[0] // 4, shift[1] // 4), (2, 3)), atol=1e-4, rtol=1e-4
    )


def test_a_flat_picture_has_no_border_with_replicate() -> None:
    flat = Features(weights.load("vgg16", "random:0"), ["relu2_1"], padding="replicate")(
        torch.full((1, 3, 32, 32), 0.3)
    )
    torch.testing.assert_close(flat["relu2_1"], flat["relu2_1"][..., :1, :1].expand_as(flat["relu2_1"]))


def test_unknown_layers_are_refused_with_the_nearest_name() -> None:
    with pytest.raises(InputError, match=r"but got relu4_9 \(did you mean relu4_\d\?\)"):
        check_layers(["relu4_9"])
    with pytest.raises(InputError, match=r"Expected a layer of vgg16.*but got conv3_4 \(did you mean conv3_\d\?\)"):
        Features(weights.load("vgg16", "random:0"), ["conv3_4"])


@pytest.mark.parametrize(("padding", "smallest"), [("zeros", 16), ("reflect", 32)])
def test_too_small_pictures_are_refused_with_both_sizes(padding: Any, smallest: int) -> None:
    network = Features(weights.load("vgg16", "random:0"), ["relu5_1"], padding=padding)
    network(picture(smallest, smallest))
    network.check_size(smallest, smallest, "photograph")
    with pytest.raises(InputError, match=rf"at least {smallest}×{smallest} pixels for layer relu5_1, but it is 99×15"):
        network.check_size(15, 99, "photograph")
