"""The tool that makes the bundled compact network, on networks of a few channels."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors
import torch

from nst.network.architecture import BLOCKS
from nst.network.weights import from_state_dict, indices, read_state_dict
from nst.pictures import images
from tests.helpers import draw, random_weights

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

import compact
from compacting.fit import DEEPEST, Convolutions, Pruner, choose_channels, importance, least_squares
from compacting.measure import layer_errors
from compacting.pictures import Crops
from compacting.tune import FineTuner, Recipe

tunes = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch has no Muon before 2.9")
RECIPE = Recipe(steps=6, crops=8, sizes=(32,), pixels=2 * 32**2)
OPTIONS = "--steps 6 --crops 8 --sizes 32 --pixels 2048 --judge-size 32 --judge-steps 2 --judge-pairs 1 --date today"


def save_teacher(path: Path, family: str = "vgg16", prefix: str = "features.") -> Path:
    state = {"classifier.0.weight": torch.zeros(2, 2)}
    weights = random_weights(family)
    for index, (weight, bias) in zip(indices(weights.blocks), weights.convolutions, strict=True):
        state |= {f"{prefix}{index}.weight": weight, f"{prefix}{index}.bias": bias}
    torch.save(state, path)
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of four pictures."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed in range(4):
        draw(folder / f"{seed}.png", seed=seed)
    return folder


def crops(pictures: Path) -> Crops:
    return Crops([images.load(path).rgb for path in sorted(pictures.iterdir())], 0)


def batch(source: Crops, count: int) -> torch.Tensor:
    return torch.cat([source.style(32) if i % 2 else source.content(32) for i in range(count)])


def make(output: Path, teacher: Path, pictures: Path, *options: str) -> int:
    paths = ["--teacher", str(teacher), "--pictures", str(pictures), "--output", str(output)]
    return compact.main([*paths, *OPTIONS.split(), *options])


def test_a_copy_of_a_channel_is_not_chosen() -> None:
    features = torch.randn(100, 3, generator=torch.Generator().manual_seed(0))
    features = torch.cat([features, 2 * features[:, :2]], 1)  # channels 3 and 4 are twice channels 0 and 1
    gram = features.T @ features / 100
    chosen = choose_channels(gram, importance(gram, None, tapped=True), 3)
    assert {channel % 3 for channel in chosen} == {0, 1, 2}


def test_channels_that_the_next_layer_uses_are_chosen() -> None:
    following = torch.zeros(2, 3, 3, 3)
    following[:, 1] = 1.0
    gram = torch.diag(torch.tensor([3.0, 1.0, 2.0]))
    assert choose_channels(gram, importance(gram, following, tapped=False), 1) == [1]
    assert choose_channels(gram, importance(gram, None, tapped=False), 1) == [0]


def test_least_squares_finds_the_weights_of_a_convolution() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(2, 3, 16, 16, generator=generator) for _ in range(2)]
    weight, bias = torch.randn(5, 3, 3, 3, generator=generator), torch.randn(5, generator=generator)
    targets = [torch.nn.functional.conv2d(x, weight, bias, padding=1) for x in inputs]
    found, shift = least_squares(inputs, targets, 0.0, 0)
    torch.testing.assert_close(found, weight, atol=1e-3, rtol=0)
    torch.testing.assert_close(shift, bias, atol=1e-3, rtol=0)


def test_with_all_channels_the_teachers_activations_are_reproduced(pictures: Path) -> None:
    teacher, source = random_weights("vgg16"), crops(pictures)
    pruner, keep = Pruner(teacher, batch(source, 32), 0), list[list[int]]()
    convolutions: Convolutions = []
    pruner.extend(convolutions, keep, compact.check_widths(teacher, None))
    assert [len(kept) for kept in keep] == [4, 4, 4, 4, 6, 6, 6, 8, 8, 8, 8, 8, 8]
    errors = layer_errors(teacher, convolutions, keep, batch(source, 8))
    assert max(errors.values()) < 0.02, errors


@tunes
def test_fine_tuning_lowers_the_error(pictures: Path) -> None:
    teacher, source = random_weights("vgg16"), crops(pictures)
    pruner, keep = Pruner(teacher, batch(source, 16), 0), list[list[int]]()
    convolutions: Convolutions = []
    pruner.extend(convolutions, keep, [4, 3, 3, 3, 4, 4, 4, 5, 6, 6, 8])
    # fitted layers of so small a network are hard to better, so begin beside them
    generator = torch.Generator().manual_seed(0)
    convolutions = [
        (weight * (1 + 0.2 * torch.randn(weight.shape, generator=generator)), bias) for weight, bias in convolutions
    ]
    recipe = replace(RECIPE, steps=100, rate=2e-3)
    tuner = FineTuner(teacher, convolutions, keep, source, recipe)
    lines: list[str] = []
    tuner.train(lines.append)
    assert lines[0].startswith("step 100 of 100: loss ")
    unseen = batch(source, 16)
    before = layer_errors(teacher, convolutions, keep, unseen)
    after = layer_errors(teacher, tuner.convolutions, keep, unseen)
    assert sum(after.values()) < 0.7 * sum(before.values())
    assert after[DEEPEST] < before[DEEPEST]


@tunes
def test_the_same_seed_gives_the_same_file(tmp_path: Path, pictures: Path) -> None:
    teacher = save_teacher(tmp_path / "teacher.pth")
    for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        assert make(tmp_path / f"{name}.safetensors", teacher, pictures, "--seed", seed) == 0
    first, second, third = ((tmp_path / f"{name}.safetensors").read_bytes() for name in "abc")
    assert first == second != third


@tunes
@pytest.mark.parametrize(("family", "prefix"), [("vgg16", ""), ("vgg19", "features.")])
def test_any_network_of_the_family_is_a_teacher(tmp_path: Path, pictures: Path, family: str, prefix: str) -> None:
    teacher = save_teacher(tmp_path / "teacher.pth", family, prefix)
    output = tmp_path / "small.safetensors"
    widths = [3] * (13 if family == "vgg16" else 16)
    assert make(output, teacher, pictures, "--widths", *map(str, widths)) == 0
    small = from_state_dict(read_state_dict(output), "small")
    assert small.blocks == BLOCKS[family]
    assert [weight.shape[0] for weight, _ in small.convolutions] == widths
    with safetensors.safe_open(output, "pt") as file:
        assert file.get_tensor("features.0.weight").dtype == torch.float16
        metadata = file.metadata()
    assert json.loads(metadata["recipe"])["steps"] == 6
    figures = json.loads(output.with_suffix(".json").read_text(encoding="utf-8"))
    assert [row["width"] for row in figures["layers"]] == widths
    assert figures["parameters"] == sum(weight.numel() + bias.numel() for weight, bias in small.convolutions)
    assert figures["judged"] == json.loads(metadata["figures"])["judged"]


def test_a_teacher_of_another_kind_is_refused(
    tmp_path: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"layer1.weight": torch.zeros(3)}, tmp_path / "resnet.pth")
    for teacher, widths in (
        (tmp_path / "resnet.pth", "1"),
        (tmp_path / "none.pth", "1"),
        (save_teacher(tmp_path / "vgg.pth"), "5"),
    ):
        assert make(tmp_path / "x.safetensors", teacher, pictures, "--widths", widths) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: Expected ")
        assert error.count("\n") == 1
    assert not (tmp_path / "x.safetensors").exists()
