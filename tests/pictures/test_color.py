"""Colours against scikit-image, closed forms and the statistics that they promise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from skimage.color import deltaE_ciede2000, lab2rgb, rgb2lab
from skimage.filters import gaussian
from torch import Tensor

import nst
from nst.cli.main import main
from nst.errors import InputError
from nst.pictures import color, images
from nst.scene.data import PictureData
from nst.types import InputPath, Pixels
from tests.helpers import fit


def picture(seed: int, height: int = 40, width: int = 48, power: float = 1.0) -> Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed)) ** power


def array(image: Tensor) -> np.ndarray[Any, Any]:
    return image[0].permute(1, 2, 0).double().numpy()


def chroma(rgb: Tensor) -> Tensor:
    return color.to_lab(rgb)[:, 1:]


def delta_e(a: Tensor, b: Tensor) -> float:
    """The mean CIE ΔE2000."""
    return float(deltaE_ciede2000(rgb2lab(array(a)), rgb2lab(array(b))).mean())


def quantiles(image: Tensor, seen: Tensor | None = None) -> Tensor:
    flat = image[0].flatten(1) if seen is None else image[0][:, seen[0, 0]]
    return torch.quantile(flat, torch.linspace(0, 1, 65), dim=1)


def test_lab_is_scikit_images() -> None:
    rgb = picture(0).double()
    # scikit-image's white is rounded to five digits, ours is the matrix's own
    np.testing.assert_allclose(array(color.to_lab(rgb)), rgb2lab(array(rgb)), atol=0.01)
    lab = color.to_lab(rgb)
    np.testing.assert_allclose(array(color.from_lab(lab)), lab2rgb(array(lab)), atol=5e-4)


def test_lab_and_back_is_the_picture() -> None:
    rgb = picture(1)
    assert (color.from_lab(color.to_lab(rgb)) - rgb).abs().max() < 1e-5
    corners = torch.tensor([[0.0, 0, 0], [1, 1, 1], [1, 0, 0], [0, 0, 1]]).T.reshape(1, 3, 2, 2)
    assert (color.from_lab(color.to_lab(corners)) - corners).abs().max() < 1e-5


def test_grey_has_no_chroma_and_the_same_lightness() -> None:
    rgb = picture(2)
    grey = color.gray(rgb)
    assert (grey - grey.mean(1, keepdim=True)).abs().max() < 1e-6
    assert chroma(grey).abs().max() < 1e-3
    torch.testing.assert_close(color.to_lab(grey)[:, 0], color.to_lab(rgb)[:, 0], atol=1e-3, rtol=0)


def test_colours_put_back_give_the_photograph_back() -> None:
    photograph = picture(3)
    assert (color.with_colors(color.gray(photograph), color.to_lab(photograph)) - photograph).abs().max() < 1e-3


def test_strokes_keep_their_lightness_and_broad_shade_is_the_photographs() -> None:
    dark, light = 0.2 * torch.ones(1, 3, 64, 96), 0.7 * torch.ones(1, 3, 64, 96)
    strokes = dark.clone()
    strokes[..., ::2] += 0.1
    made, before = color.to_lab(color.with_colors(strokes, color.to_lab(light))), color.to_lab(strokes)
    assert float(made[:, 0].mean()) == pytest.approx(float(color.to_lab(light)[:, 0].mean()), abs=0.1)
    torch.testing.assert_close(made[:, 0].diff(dim=2), before[:, 0].diff(dim=2), atol=0.5, rtol=0)


def test_chroma_is_lessened_where_srgb_has_no_such_colour_and_lightness_is_kept() -> None:
    light, ab = color.gray(picture(4)), chroma(picture(5))
    made = color.to_lab(color.into_srgb(torch.cat([color.to_lab(light)[:, :1], ab], dim=1)))
    torch.testing.assert_close(made[:, 0], color.to_lab(light)[:, 0], atol=2e-3, rtol=0)
    before, after = (x.double().norm(dim=1) for x in (ab, made[:, 1:]))
    assert (after <= before + 0.02).all()
    assert 0.1 < (after < before - 1).double().mean() < 0.9  # random pixels: many do not exist
    cosine = (ab * made[:, 1:]).sum(1) / (before * after).clamp(min=1e-6)
    assert cosine[after > 2].min() > 0.999  # its own hue


@pytest.mark.parametrize("method", ["symmetric", "pca", "cholesky"])
def test_match_gives_mean_and_covariance(method: color.Matching) -> None:
    style, content = picture(6, power=3.0), picture(7, 30, 20) * torch.tensor([0.9, 0.5, 0.2]).view(1, 3, 1, 1)
    made = color.match(style, content, method)
    assert made.shape == style.shape
    for ours, theirs in zip(color.mean_and_covariance(made), color.mean_and_covariance(content), strict=True):
        assert (ours - theirs).abs().max() < 1e-6  # it is asked to be below 1e-4
    np.testing.assert_allclose(color.mean_and_covariance(made)[1], np.cov(array(content).reshape(-1, 3).T), atol=1e-3)


def test_the_symmetric_map_moves_least_and_changes_nothing_that_agrees() -> None:
    style, content = picture(6, power=3.0), picture(7) * torch.tensor([0.9, 0.5, 0.2]).view(1, 3, 1, 1)
    moved = {m: (color.match(style, content, m) - style).square().mean() for m in ("symmetric", "pca", "cholesky")}
    assert moved["symmetric"] == min(moved.values())
    torch.testing.assert_close(color.match(style, style), style, atol=1e-5, rtol=0)


def test_a_flat_painting_is_matched_without_harm() -> None:
    for matched in (color.match, color.match_luminance, color.match_histogram):
        assert torch.isfinite(matched(torch.full((1, 3, 9, 9), 0.3), picture(1))).all()


def test_histograms_are_the_photographs() -> None:
    style, content = picture(8, power=3.0), picture(9, 32, 64) * torch.tensor([0.9, 0.5, 0.2]).view(1, 3, 1, 1)
    made = color.match_histogram(style, content)
    assert (quantiles(made) - quantiles(content)).abs().max() < 5e-3
    assert (quantiles(style) - quantiles(content)).abs().max() > 0.3
    # the joint distribution too: 65 colours along a slanted axis
    axis = torch.tensor([0.6, -0.64, 0.48]).view(1, 3, 1, 1)
    slanted = [quantiles((axis * x).sum(1, keepdim=True)) for x in (made, content)]
    assert (slanted[0] - slanted[1]).abs().mean() < 0.01
    assert torch.equal(made, color.match_histogram(style, content))


def test_lightness_is_matched_and_grey() -> None:
    style, content = picture(10, power=2.0), 0.25 + 0.5 * picture(11)
    made = color.match_luminance(style, content)
    assert chroma(made).abs().max() < 1e-3
    ours, theirs = color.to_lab(made)[:, 0], color.to_lab(content)[:, 0]
    assert float(ours.mean()) == pytest.approx(float(theirs.mean()), abs=0.05)
    assert float(ours.std()) == pytest.approx(float(theirs.std()), rel=0.01)


def test_weights_choose_the_pixels() -> None:
    style, content = picture(12, power=2.0), picture(13)
    half = torch.zeros(1, 1, 40, 48)
    half[..., :24] = 1
    odd = content.clone()
    odd[..., 24:] = torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1)
    for matched in (color.match, color.match_luminance, color.match_histogram):
        # what has no weight makes no difference
        torch.testing.assert_close(
            matched(style, odd, content_weights=half), matched(style, content[..., :24]), atol=1e-4, rtol=0
        )
        whole = torch.ones_like(half)
        torch.testing.assert_close(
            matched(style, content, style_weights=whole, content_weights=whole),
            matched(style, content),
            atol=1e-4,
            rtol=0,
        )
    made = color.match(style, content, style_weights=half)
    assert (color.mean_and_covariance(made, half)[0] - color.mean_and_covariance(content)[0]).abs().max() < 1e-6
    # a weight of 2 counts as two pixels
    double = torch.cat([content, content[..., :24]], dim=3)
    for a, b in zip(color.mean_and_covariance(content, 1 + half), color.mean_and_covariance(double), strict=True):
        torch.testing.assert_close(a, b)


def test_nothing_to_see_is_refused() -> None:
    with pytest.raises(InputError, match="something to see, but all of it is transparent"):
        color.match(picture(0), picture(1), content_weights=torch.zeros(1, 1, 40, 48))


# In a run


def levels(pair: tuple[Path, Path], size: int = 48, **settings: Any) -> PictureData:
    data = PictureData(InputPath(pair[0]), InputPath(pair[1]), Pixels(size), **settings)
    data.setup()
    return data


def test_the_network_sees_recoloured_pictures(pair: tuple[Path, Path]) -> None:
    plain = levels(pair).levels[0]
    matched = levels(pair, color="match").levels[0]
    assert torch.equal(matched.content, plain.content)
    assert torch.equal(matched.style, color.match(plain.style, plain.content).clamp(0, 1))
    histogram = levels(pair, color="histogram").levels[0]
    assert torch.equal(histogram.style, color.match_histogram(plain.style, plain.content))
    cholesky = levels(pair, color="match", color_match="cholesky").levels[0]
    assert not torch.equal(cholesky.style, matched.style)
    lightness = levels(pair, 96, color="content", min_size=Pixels(60)).levels
    assert len(lightness) == 2
    assert all(chroma(x).abs().max() < 0.01 for level in lightness for x in (level.content, level.style))


def test_transparent_pixels_of_the_photograph_do_not_colour(pair: tuple[Path, Path], tmp_path: Path) -> None:
    image = Image.open(pair[0]).convert("RGBA")
    alpha = np.full((40, 48), 255, np.uint8)
    alpha[:, 24:] = 0
    image.putalpha(Image.fromarray(alpha))
    image.save(tmp_path / "clear.png")
    made = levels((tmp_path / "clear.png", pair[1]), color="match").levels[0]
    plain = levels(pair).levels[0]
    torch.testing.assert_close(made.style, color.match(plain.style, plain.content[..., :24]).clamp(0, 1))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_the_photographs_colours_are_kept_in_every_file(pair: tuple[Path, Path], suffix: str) -> None:
    image = Image.open("photo.png").convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    image.save("clear.png")
    options = ["--data.color", "content"]
    assert fit(*options, "--output", f"a{suffix}", content=Path("clear.png"), steps=4) == 0
    made, photograph = images.load(f"a{suffix}"), images.load("clear.png")
    assert made.alpha is not None
    exists = (chroma(made.rgb) - chroma(photograph.rgb)).norm(dim=1) < 4  # else lessened
    assert exists.double().mean() > 0.5
    low = [
        torch.from_numpy(gaussian(array(x), 4, channel_axis=2).transpose(2, 0, 1))[None]
        for x in (made.rgb, photograph.rgb)
    ]
    plain = images.load("clear.png")
    assert delta_e(*low) < 5
    assert (made.rgb - plain.rgb).abs().mean() > 0.01  # it did move
    (run,) = Path("lightning_logs").iterdir()
    assert main(["export", "--ckpt_path", str(run / "checkpoints" / "last.ckpt"), "--output", f"b{suffix}"]) == 0
    if suffix == ".tif":
        assert tifffile.imread("b.tif").dtype == np.uint16
    assert Path(f"a{suffix}").read_bytes() == Path(f"b{suffix}").read_bytes()


def test_a_stopped_run_has_its_colours_at_a_smaller_level(pair: tuple[Path, Path]) -> None:
    options = ["--data.color", "content", "--data.size", "96", "--data.min_size", "60", "--trainer.max_steps", "2"]
    assert fit(*options, "--output", "a.png") == 0
    made = images.load("a.png")
    assert max(made.width, made.height) == 68
    assert chroma(made.rgb).abs().mean() > 3


def test_python_keeps_colours_too(pair: tuple[Path, Path]) -> None:
    made = nst.stylize(*pair, preset=None, size=48, steps=3, backbone="compact", color="content")
    assert fit("--data.color", "content", "--output", "a.png") == 0
    np.testing.assert_array_equal(np.asarray(made), np.asarray(Image.open("a.png")))
