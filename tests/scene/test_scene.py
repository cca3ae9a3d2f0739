"""Styles and regions: settings, masks, and what they do to a picture."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as nnf
from PIL import Image, ImageDraw
from torch import Tensor

import nst
from nst.cli.main import main
from nst.losses import functional as F
from nst.losses.distance import DISTANCES
from nst.losses.distances.frobenius import gram_distance
from nst.losses.layers import ContentLoss, ContentTarget, StyleLoss, StyleTarget
from nst.losses.statistics import Moments, blend
from nst.network import weights
from nst.network.features import Features
from nst.optimise.targets import LevelScan
from nst.pictures import images
from nst.pictures.images import Picture
from nst.run import record
from nst.scene import styles as guides
from nst.scene.data import PictureData
from nst.scene.levels import Level
from nst.scene.masks import HIDDEN, read_mask
from nst.scene.styles import Region, Style
from nst.streaming.scanner import Scanner
from nst.types import InputPath, Pixels
from tests.helpers import (
    CONTENT,
    RANDOM,
    STYLE,
    TINY,
    content_losses,
    distances,
    draw,
    fit,
    gathered,
    made,
    noise,
    objective_of,
    reference,
    seen,
    style_losses,
)


def halves(path: str = "left.png", size: tuple[int, int] = (48, 40)) -> str:
    """A mask whose left half is white."""
    mask = Image.new("L", size, 0)
    ImageDraw.Draw(mask).rectangle((0, 0, size[0] // 2 - 1, size[1]), fill=255)
    mask.save(path)
    return path


def colored(path: str = "map.png", *colors: str, size: tuple[int, int] = (48, 40)) -> str:
    """A mask of vertical stripes."""
    mask = Image.new("RGB", size)
    for i, color in enumerate(colors):
        ImageDraw.Draw(mask).rectangle((size[0] * i // len(colors), 0, size[0], size[1]), fill=color)
    mask.save(path)
    return path


def pixels(path: str) -> Any:
    return np.asarray(Image.open(path).convert("RGB"))


def level(style: Any = "painting.png", content: str = "photo.png", size: int = 48, **settings: Any) -> Level:
    """What the settings give at the result's size."""
    data = PictureData(InputPath(content), style, Pixels(size), **settings)
    data.setup()
    return data.levels[-1]


@pytest.fixture(autouse=True)
def _pictures(pair: tuple[Path, Path]) -> None:
    draw(Path("other.png"), (50, 46), seed=3)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# The statistics


def test_guided_moments_are_those_of_repeated_positions() -> None:
    x, guide = (
        random(1, 3, 4, 5),
        torch.randint(0, 4, (1, 1, 4, 5), generator=torch.Generator().manual_seed(1)).double(),
    )
    repeated = x.flatten(2).repeat_interleave(guide.flatten().long(), dim=2)[..., None]
    found, wanted = F.moments(x, guide=guide), F.moments(repeated)
    for one, other in zip(found.flatten(), wanted.flatten(), strict=True):
        torch.testing.assert_close(one, other)


def test_the_gradient_of_guided_moments_is_torchs_own() -> None:
    x, guide = random(1, 3, 4, 5).requires_grad_(), random(1, 1, 4, 5, seed=1)
    outer, total = random(3, 3, seed=2), random(3, seed=3)
    found = F.moments(x, guide=guide)
    (wanted,) = torch.autograd.grad((found.outer * outer).sum() + (found.total * total).sum(), x)
    gradient = torch.zeros_like(x).contiguous(memory_format=torch.channels_last)
    F.add_moments_gradient(gradient, x.detach(), outer, total, guide)
    torch.testing.assert_close(gradient, wanted.contiguous(memory_format=torch.channels_last))


def test_a_blend_is_of_both_and_alone_is_itself() -> None:
    one, other = F.moments(random(1, 3, 4, 5)), F.moments(random(1, 3, 6, 2, seed=1))
    assert blend([one], [1.0]) is one
    half = blend([one, other], [0.5, 0.5])
    torch.testing.assert_close(half.gram, (one.gram + other.gram) / 2)
    torch.testing.assert_close(half.mean, (one.mean + other.mean) / 2)
    # raw moments may be added; covariances may not
    assert not torch.allclose(half.covariance, (one.covariance + other.covariance) / 2)


def test_places_are_compared_each_with_its_own() -> None:
    x, left = random(1, 3, 4, 6), torch.zeros(1, 1, 4, 6).double()
    left[..., :3] = 1
    targets = [F.moments(random(1, 3, 4, 4, seed=i)) for i in (1, 2)]
    loss = StyleLoss()
    loss.set_targets([StyleTarget(targets[0], left, 0.5), StyleTarget(targets[1], 1 - left, 0.5)])
    parts = [gram_distance(F.moments(part), t) for part, t in zip((x[..., :3], x[..., 3:]), targets, strict=True)]
    torch.testing.assert_close(loss.value(loss.statistics(x)), (parts[0] + parts[1]) / 2)


def test_content_counts_by_weight() -> None:
    x, photograph, left = random(1, 3, 4, 6), random(1, 3, 4, 6, seed=1), torch.zeros(1, 1, 4, 6).double()
    left[..., :3] = 1
    loss = ContentLoss()
    loss.set_target(ContentTarget(photograph, left, left))
    error = (x - photograph)[..., :3].square().sum() / photograph[..., :3].square().sum()
    torch.testing.assert_close(loss.value(loss.statistics(x)), error)


@pytest.mark.parametrize("distance", DISTANCES)
def test_regions_in_bands_are_those_of_the_whole(distance: Any) -> None:
    network, _, picture = made()
    objective = objective_of(
        dict.fromkeys(CONTENT, 1.0), dict.fromkeys(STYLE, 1.0), tv_weight=0.1, style_distance=distance
    )
    left = torch.zeros(1, 1, *picture.shape[2:]).double()
    left[..., :30] = 1
    spread = network.spread(left, network.layers)
    scanner = Scanner(network, "off")
    activations = scanner.activations(noise(70, 61, 1), CONTENT)
    styles = [scanner.sums(noise(56, 48, seed), distances(objective)) for seed in (2, 4)]
    for x, content in content_losses(objective).items():
        content.set_target(ContentTarget(activations[x], spread[x] + 0.5, spread[x]))
    for x, style in style_losses(objective).items():
        inside, outside = (
            StyleTarget(found[x], y, 0.5) for found, y in zip(styles, (spread[x], 1 - spread[x]), strict=True)
        )
        style.set_targets([inside, outside])
    value, gradient = reference(network, objective, picture)
    again, found = seen(Scanner(network, "on", 0.0), objective, picture)
    assert float(again) == pytest.approx(float(value), rel=1e-9)
    assert float((found - gradient).norm() / gradient.norm()) < 1e-6


# Masks at layers


def test_a_mask_at_a_layer_is_the_mean_of_its_pixels() -> None:
    network = Features(weights.load("vgg16", "random:0"), ["relu1_1", "relu2_1", "relu3_1"])
    mask = random(1, 1, 18, 22).float()
    spread = network.spread(mask, ["relu1_1", "relu3_1"])
    assert torch.equal(spread["relu1_1"], mask)
    wanted = mask[..., :16, :20].unflatten(3, (5, 4)).unflatten(2, (4, 4)).mean((3, 5))
    torch.testing.assert_close(spread["relu3_1"], wanted)
    assert spread["relu3_1"].shape[2:] == network.shape("relu3_1", 18, 22)[1:]


def test_an_eroded_region_sees_no_neighbour() -> None:
    network = Features(weights.load("vgg16", "random:0"), ["relu3_1"]).double()
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., :40] = 1
    inner = network.spread(mask, ["relu3_1"], erode=True)["relu3_1"] > 0
    assert inner.any()
    x = random(1, 3, 64, 64)
    other = torch.where(mask > 0, x, random(1, 3, 64, 64, seed=1))
    one, two = (network(y)["relu3_1"] for y in (x, other))
    torch.testing.assert_close(one * inner, two * inner)
    assert not torch.allclose(one, two)
    small = torch.zeros(1, 1, 64, 64)
    small[..., 30:33, 30:33] = 1  # of which nothing would remain
    spread = (network.spread(small, ["relu3_1"], erode)["relu3_1"] for erode in (True, False))
    assert torch.equal(*spread)


# Masks from files


def mask_of(path: str, color: str | None = None, *palette: str) -> Tensor | None:
    photograph = Picture(torch.zeros(1, 3, 40, 48), None, "photo.png")
    return read_mask(images.load(path), "data.regions.sky.mask", photograph, color, palette)


def test_gray_masks_are_weights() -> None:
    Image.linear_gradient("L").resize((48, 40)).save("soft.png")
    soft = mask_of("soft.png")
    assert soft is not None
    torch.testing.assert_close(soft, images.load("soft.png").rgb[:, :1])
    Image.new("L", (12, 10), 255).save("ones.png")
    assert mask_of("ones.png") is None


def test_colours_are_regions_and_their_mixtures_soft_edges() -> None:
    Image.open(colored("map.png", "red", "blue")).resize((480, 400), Image.Resampling.BICUBIC).save("soft.png")
    red, blue = mask_of("soft.png", "red", "red", "blue"), mask_of("soft.png", "blue", "red", "blue")
    assert red is not None
    assert blue is not None
    torch.testing.assert_close(red + blue, torch.ones(1, 1, 400, 480), atol=1e-5, rtol=0)
    row = red[0, 0, 200]
    assert torch.equal(row, row.sort(descending=True).values)
    assert ((row > 0.1) & (row < 0.9)).sum() > 3
    by_number = mask_of("soft.png", "#ff0000", "#ff0000", "#0000ff")
    assert by_number is not None
    assert by_number.equal(red)


def test_jpeg_noise_is_no_colour() -> None:
    Image.open(colored("map.png", "red", "#00ff00", "blue")).resize((240, 200)).save("map.jpg", quality=80)
    masks = [mask_of("map.jpg", x, "red", "#00ff00", "blue") for x in ("red", "#00ff00", "blue")]
    for i, mask in enumerate(masks):
        assert mask is not None
        assert float(mask[..., 80 * i + 8 : 80 * i + 72].mean()) > 0.99


WRONG_MASKS = {
    "of another aspect": (lambda: halves("m.png", (40, 40)), {}, r"aspect of photo.png, 48×40, but m.png is 40×40"),
    "with a colour that has no name": (
        lambda: colored("m.png", "red", "lime", "blue"),
        {"color": "red"},
        r"the regions' colours red, black, but m.png has #00ff00 too",
    ),
    "that is empty": (lambda: colored("m.png", "black"), {}, r"to show a region, but m.png is nowhere white"),
    "without its colour": (
        lambda: colored("m.png", "red", "black"),
        {"color": "black"},
        r"has #ff0000 too; name it as the color of a region",
    ),
    "of colours without a name": (
        lambda: colored("m.png", "red", "blue"),
        {},
        r"gray mask.*give each region its color",
    ),
    "with a strange colour": (lambda: colored("m.png", "red"), {"color": "rad"}, r"regions.sky.color to be a colour"),
    "that is no file": (lambda: "m.png", {}, r"data.regions.sky.mask to be a picture file, but .*m.png does not exist"),
}


@pytest.mark.parametrize("case", WRONG_MASKS)
def test_wrong_masks(case: str, capfd: pytest.CaptureFixture[str]) -> None:
    make, entry, words = WRONG_MASKS[case]
    make()
    region = ", ".join(f"{key}: {value}" for key, value in {"mask": "m.png", **entry}.items())
    assert fit("--data.regions", f"{{sky: {{{region}}}}}") == 2
    error = capfd.readouterr().err
    assert error.count("\n") == 1
    assert re.search(words, error), error


WRONG_SETTINGS = {
    r"every region to have a style, but sky has none; .*region: sky": [
        "--data.style=[{image: other.png, region: land}]",
        "--data.regions={sky: left.png, land: left.png}",
    ],
    r"data.style\[0\].region to be one of --data.regions, but got skye \(did you mean sky\?\)": [
        "--data.style=[{image: other.png, region: skye}]",
        "--data.regions={sky: left.png}",
    ],
    r"style_weights to have a weight for each of 2 styles, but got 3": [
        "--data.style=[painting.png, other.png]",
        "--data.style_weights=[1, 2, 3]",
    ],
    r"weight above 0, but all weights are 0": ["--data.style=[painting.png]", "--data.style_weights=[0]"],
    r"finite weight of 0 or more, but got -1.0; change --data.style\[1\].weight": [
        "--data.style=[painting.png, {image: other.png, weight: -1}]"
    ],
    r"a scale above 0, but got -0.5; change --data.style\[0\].scale": ["--data.style=[{image: a.png, scale: -0.5}]"],
    r"--data.style_scale to be above 0, but got -1": ["--data.style_scale=-1"],
    r"--data.style\[1\] to be a picture file, but .*none.png does not exist": ["--data.style=[painting.png, none.png]"],
    r"layers of a style to be among relu1_1.*, but got relu9_1": [
        "--data.style=[{image: other.png, layers: [relu9_1]}]"
    ],
    r"each style layer to have a style, but relu3_1 has none": [
        "--data.style=[{image: other.png, layers: [relu1_1, relu2_1, relu4_1, relu5_1]}]"
    ],
    r"a known key in the config, but got weigth \(did you mean weight\?\)": [
        "--data.style=[{image: other.png, weigth: 2}]"
    ],
    r"something to paint, but all of photo.png is transparent or kept": [
        "--data.regions={all: {mask: ones.png, keep: true}}"
    ],
}


@pytest.mark.parametrize("words", WRONG_SETTINGS)
def test_wrong_settings(words: str, capfd: pytest.CaptureFixture[str]) -> None:
    halves()
    Image.new("L", (48, 40), 255).save("ones.png")
    assert fit(*WRONG_SETTINGS[words]) == 2
    error = capfd.readouterr().err
    assert error.count("\n") == 1
    assert re.search(words, error), error


# What comes out


def test_a_mask_of_ones_is_no_mask() -> None:
    Image.new("L", (96, 80), 255).save("ones.png")
    assert fit("--output", "plain.png") == 0
    assert fit("--output", "masked.png", "--data.regions", "{all: ones.png}") == 0
    assert (pixels("plain.png") == pixels("masked.png")).all()


def test_a_weight_of_0_is_no_style() -> None:
    assert fit("--output", "one.png") == 0
    two = ["--data.style", "painting.png", "--data.style+", "other.png"]
    assert fit(*two, "--data.style_weights", "[2, 0]", "--output", "two.png") == 0
    assert (pixels("one.png") == pixels("two.png")).all()
    assert fit(*two, "--output", "both.png") == 0
    assert (pixels("one.png") != pixels("both.png")).any()


def test_a_blend_lies_between_its_styles() -> None:
    network = Features(weights.load("vgg16", "random:0"), ["relu2_1"])

    def gram(path: str) -> Tensor:
        return F.moments(network(images.load(path).rgb)["relu2_1"]).gram

    distances = {}
    for name, share in (("one", "[1, 0]"), ("both", "[1, 1]"), ("other", "[0, 1]")):
        options = [*RANDOM, "--data.style=[painting.png, other.png]", "--data.style_weights", share]
        options += ["--model.content_weight", "0"]
        assert fit(*options, "--output", f"made_{name}.png", steps=60) == 0
        found = gram(f"made_{name}.png")
        distances[name] = [float((found - gram(x)).square().sum()) for x in ("painting.png", "other.png")]
    assert distances["one"][0] < distances["both"][0] < distances["other"][0]
    assert distances["one"][1] > distances["both"][1] > distances["other"][1]


def test_each_region_takes_its_own_style() -> None:
    colored("map.png", "red", "blue")
    styles = "[{image: painting.png, region: left}, {image: other.png, region: right}]"
    regions = "{left: {mask: map.png, color: red}, right: {mask: map.png, color: blue}}"
    options = ["--model.content_weight", "0", "--model.style_layers", "{relu1_1: 1, relu2_1: 1}"]
    assert fit(*options, "--data.style", styles, "--data.regions", regions, "--output", "a.png", steps=80) == 0
    network, picture = Features(weights.load("vgg16", "random:0"), ["relu1_1"]), images.load("a.png").rgb
    style = [F.moments(network(images.load(x).rgb)["relu1_1"]) for x in ("painting.png", "other.png")]
    for i, half in enumerate((picture[..., :22], picture[..., 26:])):
        found = F.moments(network(half)["relu1_1"])
        assert gram_distance(found, style[i]) < 0.5 * gram_distance(found, style[1 - i])


def test_what_is_kept_is_the_photograph() -> None:
    halves()
    options = ["--data.regions", "{left: {mask: left.png, keep: true}}", "--model.init", "noise"]
    assert fit(*options, "--output", "a.png", steps=5) == 0
    made, photograph = pixels("a.png"), pixels("photo.png")
    assert (made[:, :24] == photograph[:, :24]).all()
    assert (made[:, 24:] != photograph[:, 24:]).any(axis=(0, 2)).all()
    (run,) = Path("lightning_logs").iterdir()
    checkpoint = str(run / "checkpoints" / "last.ckpt")
    assert main(["export", "--ckpt_path", checkpoint, "--output", "b.png"]) == 0
    assert (pixels("a.png") == pixels("b.png")).all()
    assert fit(*options, steps=1) == 0
    other = str(Path("lightning_logs/version_1/checkpoints/last.ckpt"))
    before, after = (torch.load(x, weights_only=True)["state_dict"]["picture"] for x in (other, checkpoint))
    # but for the rim, the photograph is seen there, and nothing has a gradient
    assert torch.equal(before[..., : 24 - HIDDEN], after[..., : 24 - HIDDEN])
    assert (before[..., 24:] != after[..., 24:]).any()


def test_what_is_transparent_neither_costs_nor_moves() -> None:
    image = Image.open("photo.png").convert("RGBA")
    image.putalpha(Image.open(halves()))
    image.save("clear.png")
    assert fit("--output", "a.png", content=Path("clear.png"), steps=5) == 0
    made = Image.open("a.png")
    assert made.getchannel("A").tobytes() == image.getchannel("A").tobytes()
    found, before = pixels("a.png"), np.asarray(images.encode(images.load("clear.png").rgb))
    assert (found[:, 24:] == before[:, 24:]).all()
    assert (found[:, :24] != before[:, :24]).any(axis=(0, 2)).all()
    # a transparent half is as good as none: the visible one is drawn as strongly to style and content
    (place,) = level(content="clear.png").places
    assert place.share == 1.0
    assert place.guide is not None
    assert float(place.guide.sum()) == 24 * 40


def test_content_weight_of_a_region_holds_the_photograph() -> None:
    halves()
    moved = {}
    for weight in (1, 50):
        region = f"{{left: {{mask: left.png, content_weight: {weight}}}}}"
        assert fit("--data.regions", region, "--output", f"{weight}.png", steps=20) == 0
        moved[weight] = np.abs(pixels(f"{weight}.png").astype(int) - pixels("photo.png"))[:, :20].mean()
    assert moved[50] < 0.8 * moved[1]


def test_layers_of_styles() -> None:
    network = Features(weights.load("vgg16", "random:0"), ["relu1_1", "relu2_1"])
    objective = objective_of({}, {"relu1_1": 1.0, "relu2_1": 1.0})
    seen_ = level(
        [Style(InputPath("painting.png"), layers=["relu1_1"]), Style(InputPath("other.png"), layers=["relu2_1"])]
    )
    objective.set_targets(seen_, LevelScan(network, Scanner(network), 0, deque()))
    for (layer, loss), painting in zip(style_losses(objective).items(), seen_.paintings, strict=True):
        (target,) = loss.targets
        assert isinstance(target.statistics, Moments)
        torch.testing.assert_close(target.statistics.gram, F.moments(network(painting.picture)[layer]).gram)


def test_weights_of_pixels_reach_the_losses() -> None:
    halves()
    image = Image.open("photo.png").convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    image.save("clear.png")
    half = Style(InputPath("painting.png"), mask=InputPath(halves("part.png", (44, 52))))
    region = Region(InputPath("left.png"), content_weight=3, erode=True)
    seen_ = level([half], "clear.png", regions={"left": region})
    network = Features(weights.load("vgg16", "random:0"), ["relu2_2"])
    objective = objective_of({"relu2_2": 1.0}, {"relu2_2": 1.0})
    objective.set_targets(seen_, LevelScan(network, Scanner(network), 0, deque()))

    alpha, left = images.load("clear.png").alpha, images.load("left.png").rgb[:, :1]
    assert alpha is not None
    target = content_losses(objective)["relu2_2"].target
    emphasized, visible = target.weights, target.visible
    torch.testing.assert_close(visible, nnf.avg_pool2d(alpha, 2))
    torch.testing.assert_close(emphasized, nnf.avg_pool2d(alpha * (1 + 2 * left), 2))
    inside, outside = style_losses(objective)["relu2_2"].targets
    # at relu2_2 three positions beyond one's own are seen
    weights_ = nnf.avg_pool2d(alpha * left, 2)
    torch.testing.assert_close(inside.guide, -nnf.max_pool2d(-weights_, 7, stride=1, padding=3))
    assert outside.guide is not None and not outside.guide[..., :15].any() and outside.guide[..., 15:].any()
    assert inside.share + outside.share == pytest.approx(1)
    (painting,) = seen_.places[0].paintings
    assert painting.guide is not None
    whole = network(painting.picture)["relu2_2"]
    expected = F.moments(whole, guide=nnf.avg_pool2d(painting.guide, 2))
    assert isinstance(inside.statistics, Moments)
    torch.testing.assert_close(inside.statistics.gram, expected.gram)


def test_a_painting_is_known_with_its_mask() -> None:
    halves("part.png", (44, 52))
    entries = [Style(InputPath("painting.png"), mask=mask) for mask in (None, InputPath("part.png"))]
    network = Features(weights.load("vgg16", "random:0"), ["relu1_1"])
    objective = objective_of({}, {"relu1_1": 1.0})
    scan, compared = LevelScan(network, Scanner(network), 0, deque()), distances(objective)
    whole, part = level(entries).paintings
    first = scan.statistics(whole, compared)
    assert scan.statistics(replace(whole, picture=whole.picture.clone()), compared) is first
    assert scan.statistics(part, compared)["relu1_1"].positions < first["relu1_1"].positions


def test_a_style_has_its_own_scale() -> None:
    found = level([Style(InputPath("painting.png"), scale=0.5), Style(InputPath("other.png"))], size=40)
    assert [max(x.picture.shape[2:]) for x in found.paintings] == [20, 40]


def test_a_style_mask_chooses_a_part_of_the_painting() -> None:
    mask = InputPath(halves("part.png", (44, 52)))
    (painting,) = level([Style(InputPath("painting.png"), mask=mask)], size=52).paintings
    assert painting.guide is not None
    found = F.moments(painting.picture, guide=painting.guide)
    torch.testing.assert_close(found.mean, painting.picture[..., :22].mean((0, 2, 3)))


def test_colours_are_matched_in_each_region() -> None:
    mask = InputPath(colored("map.png", "red", "blue"))
    found = level(color="match", regions={"left": Region(mask, "red"), "right": Region(mask, "blue")})
    for place, half in zip(found.places, (found.content[..., :24], found.content[..., 24:]), strict=True):
        picture = place.paintings[0].picture
        # clipping moves a mean a little
        torch.testing.assert_close(picture.mean((0, 2, 3)), half.mean((0, 2, 3)), atol=0.02, rtol=0)


def test_the_rest_takes_the_style_for_all() -> None:
    styles = [Style(InputPath("painting.png")), Style(InputPath("other.png"), region="left")]
    left, rest = level(styles, regions={"left": InputPath(halves())}).places
    assert (left.name, rest.name) == ("left", guides.REST)
    assert left.share == rest.share == 0.5
    assert left.guide is not None
    assert rest.guide is not None
    assert torch.equal(left.guide + rest.guide, torch.ones(1, 1, 40, 48))


def test_python_takes_styles_and_regions() -> None:
    halves()
    styles = [nst.Style(InputPath("painting.png")), nst.Style(InputPath("other.png"), region="left")]
    options: dict[str, Any] = {"preset": None, "size": 48, "steps": 3, "backbone": "compact"}
    made_ = nst.stylize("photo.png", styles, regions={"left": "left.png"}, **options)
    entries = "[painting.png, {image: other.png, region: left}]"
    assert fit("--data.style", entries, "--data.regions", "{left: left.png}", "--output", "a.png") == 0
    assert (np.asarray(made_) == pixels("a.png")).all()
    several = nst.stylize("photo.png", ["painting.png", Image.open("other.png")], **options)
    assert fit("--data.style", "[painting.png, other.png]", "--output", "b.png") == 0
    assert (np.asarray(several) == pixels("b.png")).all()


def test_a_picture_with_regions_is_made_again_from_itself() -> None:
    halves()
    Path("look").mkdir()
    Path("look/c.yaml").write_text(
        "data:\n  style:\n  - ../painting.png\n  - {image: ../other.png, region: left, weight: 2}\n"
        "  regions:\n    left: {mask: ../left.png, content_weight: 2}\n"
    )
    command = ["fit", *TINY, "--data.content", "photo.png", "--data.steps", "3", "--output", "a.png"]
    assert main([*command, "--config", "look/c.yaml"]) == 0
    assert main(["fit", "--config", "a.png", "--output", "b.png"]) == 0
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()
    files = record.read("a.png")["files"]
    assert {"data.style[0]", "data.style[1]", "data.regions.left.mask"} <= set(files)


def test_a_run_with_regions_resumes_to_the_bit() -> None:
    halves()
    options = ["--data.regions", "{left: {mask: left.png, keep: true}}", "--data.style=[painting.png, other.png]"]
    assert fit(*options, "--output", "a.png", steps=6) == 0
    assert fit(*options, "--trainer.max_steps", "3", steps=6) == 0
    assert fit(*options, "--ckpt_path", "last", "--output", "b.png", steps=6) == 0
    assert (pixels("a.png") == pixels("b.png")).all()


def test_every_term_of_every_place_has_a_gradient() -> None:
    x, left = random(1, 3, 4, 6).requires_grad_(), torch.zeros(1, 1, 4, 6).double()
    left[..., :1] = 1
    objective = objective_of({}, {"relu1_1": 1.0})
    share = float(left.mean())
    targets = [StyleTarget(F.moments(random(1, 3, 4, 4, seed=i))) for i in (1, 2)]
    inside = replace(targets[0], guide=left, share=share)
    outside = replace(targets[1], guide=1 - left, share=1 - share)
    style_losses(objective)["relu1_1"].set_targets([inside, outside])
    values = objective.values(gathered(objective, {"relu1_1": x}, x), x)
    (gradient,) = torch.autograd.grad(objective.total(values), x)
    small, large = gradient[..., :1].abs().mean(), gradient[..., 1:].abs().mean()
    assert 0.1 < float(small / large) < 10  # a small region is drawn as strongly as a large one


def test_a_region_that_no_position_of_a_layer_sees_costs_nothing_there() -> None:
    mask = Image.new("L", (48, 41), 0)
    mask.paste(255, (0, 40, 48, 41))  # an odd row, which the first pool leaves out
    mask.save("row.png")
    draw(Path("odd.png"), (48, 41), seed=5)
    style = "--data.style=[{image: painting.png, region: row}]"
    assert fit(style, "--data.regions={row: row.png}", "--output", "a.png", content=Path("odd.png")) == 0
    assert (pixels("a.png") != pixels("odd.png")).any()
