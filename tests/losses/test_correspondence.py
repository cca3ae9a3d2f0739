"""The correspondence: matches, targets, the loss and its gradient, and what may be matched with what."""

from __future__ import annotations

import itertools
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as nnf
from PIL import Image
from torch import Tensor

from nst.errors import InputError
from nst.losses.layers import CosineLoss, unit
from nst.losses.objective import Objective
from nst.losses.statistics import Value
from nst.losses.terms import correspondence
from nst.losses.terms.correspondence import HYPERCOLUMN, CorrespondenceTerm, Turns
from nst.network import weights
from nst.network.features import Features
from nst.optimise.targets import LevelScan
from nst.scene.levels import Level, Painting, Place
from nst.streaming.scanner import Scanner
from tests.helpers import difference, draw, fit, module, noise, pictures, run, seen

LAYERS = {"relu1_1": 1.0, "relu2_1": 1.0, "relu3_1": 1.0, "relu4_1": 1.0}


@pytest.fixture(scope="module")
def network() -> Features:
    return Features(weights.load("compact", "imagenet"), [*LAYERS, *HYPERCOLUMN])


def scene(height: int = 64, width: int = 80) -> Tensor:
    """A picture whose places are all different."""
    rows, columns = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    stripes = 0.5 + 0.5 * torch.sin(40 * rows * (1 + columns))
    return torch.stack([stripes * rows, columns, 0.5 + 0.3 * torch.sin(25 * columns)])[None].clamp(0, 1)


def term(
    network: Features,
    places: tuple[Place, ...],
    content: Tensor,
    mode: Any = "off",
    empty: float = 1.0,
    cell: int = 4,
    turns: Turns = "quarter",
    **level: Any,
) -> Any:
    """A term with the targets of a level, and its value for the photograph."""
    made = CorrespondenceTerm(LAYERS, 1.0, empty, cell, turns)
    scanner = Scanner(network, mode, 0.0 if mode == "on" else float("inf"))
    with torch.no_grad():
        made.set_targets(Level(0, 1, content, places, **level), LevelScan(network, scanner, 0, deque()))
        objective = Objective([made])
        found = objective.values(scanner.statistics(content, objective), content)
    return made, found


@pytest.mark.parametrize("turn", range(4))
def test_a_painting_that_is_the_photograph_turned_is_matched_with_itself(network: Features, turn: int) -> None:
    content = scene()
    painting = Painting(content.rot90(turn, (2, 3)).contiguous())
    _, found = term(network, (Place((painting,)),), content)
    _, other = term(network, (Place((Painting(noise(64, 80, 3).float()),)),), content)
    if turn == 0:
        assert all(float(value) < 1e-3 for value in found.values())
    # a network is not the same for a picture that is turned, but much nearer to itself than to something else
    assert sum(map(float, found.values())) < 0.6 * sum(map(float, other.values()))


def test_whole_cells_are_taken_with_their_inner_arrangement(network: Features) -> None:
    """What is matched with a shifted copy is the copy, shifted back."""
    content = scene()
    shifted = Painting(content.roll((8, 12), (2, 3)))
    made, _ = term(network, (Place((shifted,)),), content)
    activations = Scanner(network).activations(content, LAYERS)
    inner = (slice(None), slice(None), slice(16, -16), slice(16, -16))
    for layer in ("relu1_1", "relu2_1"):
        every, taken = made.compared[layer].every, made.compared[layer].target
        own = unit(activations[layer])[0][:, :, ::every, ::every]
        stride = content.shape[2] // own.shape[2]
        part = tuple(x if x == slice(None) else slice(16 // stride, -16 // stride) for x in inner)
        assert float((own * taken).sum(1, keepdim=True)[part].median()) > 0.999


def test_cells_are_components_of_mean_activations(network: Features) -> None:
    picture = noise(63, 61, 1).float()
    taps = network(picture)
    generator = torch.Generator().manual_seed(2)
    axes = {layer: torch.randn(5, taps[layer].shape[1], generator=generator) for layer in HYPERCOLUMN}
    for size in (4, 8, 16):  # in bands, the last one lies below the last row of the largest cells
        wanted = torch.zeros(5, 63 // size, 61 // size)
        for layer, axis in axes.items():
            side = size // network.stride(layer)
            means = nnf.avg_pool2d(taps[layer], side) if side else taps[layer]
            if side == 0:
                means = nnf.interpolate(means, (63 // size, 61 // size), mode="bilinear")
            wanted += torch.einsum("dc,chw->dhw", axis, means[0, :, : 63 // size, : 61 // size])
        for scanner in (Scanner(network, "off"), Scanner(network, "on", 0.0)):
            found = scanner.cells(picture, axes, size)
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max()))


@pytest.mark.parametrize(("turns", "copies"), [("none", 1), ("quarter", 4), ("mirror", 8)])
def test_turns_offer_other_cells(network: Features, turns: Turns, copies: int) -> None:
    content = scene()
    mirrored = (Place((Painting(content.flip(3).contiguous()),)),)
    made, found = term(network, mirrored, content, turns=turns)
    assert len(list(made._sources(Level(0, 1, content, mirrored)))) == copies
    assert (sum(map(float, found.values())) < 2e-2) == (turns == "mirror")  # only there is the photograph itself


@pytest.mark.parametrize("cell", [1, 2, 8])
def test_cells_of_other_sizes(network: Features, cell: int) -> None:
    content = scene()
    _, found = term(network, (Place((Painting(content),)),), content, cell=cell)
    assert all(float(value) < 1e-2 for value in found.values())


def test_empty_parts_of_the_photograph_weigh_little(network: Features) -> None:
    content = scene(128, 160)
    content[..., :80] = 0.5  # a sky
    painting = (Place((Painting(noise(128, 160, 3).float()),)),)
    weights = {}
    for empty in (0.0, 0.25, 1.0):
        made, _ = term(network, painting, content, empty=empty)
        weights[empty] = made.compared["relu1_1"].weights[0, 0]
    assert weights[0.0].shape == (128, 160)
    assert float(weights[0.0][:, :20].max()) < 1e-3 and float(weights[0.0][:, 90:].min()) > 0.3
    torch.testing.assert_close(weights[0.25], 0.25 + 0.75 * weights[0.0])
    assert bool((weights[1.0] == 1).all())


def test_a_region_says_how_much_of_a_subject_it_is(network: Features) -> None:
    content = scene(128, 160)
    said = torch.zeros(1, 2, 128, 160)
    said[:, 0, :, :80], said[:, 1, :, :80] = 0.3, 1
    made, _ = term(network, (Place((Painting(content.flip(2)),)),), content, empty=0.0, subject=said)
    weights = made.compared["relu1_1"].weights[0, 0]
    torch.testing.assert_close(weights[:, :80], torch.full((128, 80), 0.3))
    assert float(weights[:, 90:].min()) > 0.3


def test_every_other_position_in_bands_is_every_other_position() -> None:
    """Whatever row a band begins with; a band may have no compared row."""
    x, target = noise(9, 8, 1), noise(9, 8, 2)
    loss, whole = CosineLoss(), CosineLoss()
    loss.set_target(target, every=2)
    whole.set_target(target[:, :, ::2, ::2])
    value = whole.value(whole.statistics(x[:, :, ::2, ::2]))
    for ends in ([0, 9], [0, 4, 9], [0, 3, 4, 5, 7, 9]):
        bands = [slice(a, b) for a, b in itertools.pairwise(ends)]
        parts = [loss.statistics(x[:, :, band], band).value for band in bands]
        assert float(sum(parts) / loss.total) == pytest.approx(float(value))
        gradient = torch.zeros_like(x)
        for band in bands:
            loss.add_gradient(gradient[:, :, band], x[:, :, band], Value(torch.ones(())), band)
        assert not gradient[:, :, 1::2].any() and not gradient[..., 1::2].any() and gradient[:, :, ::2, ::2].any()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_gradient_of_the_cosine(weighted: bool, layout: torch.memory_format) -> None:
    """In both layouts that activations have in memory, which are summed in different ways."""
    x, target = (noise(6, 7, seed).contiguous(memory_format=layout) for seed in (1, 2))
    x.requires_grad_()
    guide = (
        torch.rand(1, 1, 6, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64) if weighted else None
    )
    loss = CosineLoss()
    loss.set_target(target, guide, guide)
    assert torch.autograd.gradcheck(lambda y: loss.value(loss.statistics(y)), x)
    statistics = loss.statistics(x)
    (wanted,) = torch.autograd.grad(statistics.value, x)
    gradient = torch.zeros_like(x)
    loss.add_gradient(gradient, x.detach(), statistics.unflatten([torch.ones(())]))
    torch.testing.assert_close(gradient, wanted)
    cosine = nnf.cosine_similarity(x, target, dim=1)
    share = torch.ones_like(cosine) if guide is None else guide[:, 0]
    expected = ((1 - cosine) * share).sum() / share.sum()
    assert float(loss.value(statistics)) == pytest.approx(float(expected), abs=1e-3)  # no direction near 0


def test_bands_have_the_numbers_of_the_whole(network: Features) -> None:
    content, place = scene(), (Place((Painting(scene(56, 48).flip(3)),)),)
    whole, _ = term(network, place, content)
    bands, _ = term(network, place, content, "on")
    for layer, loss in whole.compared.items():
        change = (bands.compared[layer].target - loss.target).abs().amax(1)
        assert float((change > 1e-3).float().mean()) < 0.02  # two cells that are equally alike may change places
    objective, picture = Objective([whole]), noise(64, 80, 5).float()
    value, gradient = seen(Scanner(network, "off"), objective, picture)
    again, found = seen(Scanner(network, "on", 0.0), objective, picture)
    assert float(again) == pytest.approx(float(value), rel=1e-5)
    assert difference(found, gradient) < 1e-4


def test_large_layers_are_compared_at_every_other_row_and_column(
    network: Features, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, place = scene(), (Place((Painting(scene(56, 48).flip(3)),)),)
    dense, _ = term(network, place, content)
    monkeypatch.setattr(correspondence, "DENSE", 64 * 80 - 1)
    sparse, _ = term(network, place, content)
    every = {layer: loss.every for layer, loss in sparse.compared.items()}
    assert every == {layer: 2 if layer == "relu1_1" else 1 for layer in LAYERS}
    for layer, loss in dense.compared.items():
        assert loss.every == 1
        torch.testing.assert_close(sparse.compared[layer].target, loss.target[:, :, :: every[layer], :: every[layer]])


def test_a_region_takes_from_its_own_paintings(network: Features) -> None:
    content = scene()
    left = torch.zeros(1, 1, 64, 80)
    left[..., :40] = 1
    half, other = Painting(content[..., :40].contiguous()), Painting(noise(64, 80, 3).float())
    activations = Scanner(network).activations(content, ["relu1_1"])["relu1_1"]
    shares = []
    for inside, outside in ((half, other), (other, half)):
        places = (Place((inside,), "left", left), Place((outside,), "", 1 - left))
        made, _ = term(network, places, content)
        same = (unit(activations)[0] * made.compared["relu1_1"].target).sum(1) > 0.999
        shares.append(float(same[..., 2:38].float().mean()))
    assert shares[0] > 0.9 and shares[1] < 0.3


def test_what_a_mask_hides_is_not_taken(network: Features) -> None:
    content = scene()
    content[..., 40:] = 0  # half of the photograph is black, and so is what is hidden of the painting
    painting = noise(64, 80, 3).float()
    painting[:, :, 32:] = 0
    guide = torch.zeros(1, 1, 64, 80)
    guide[:, :, :32] = 1
    black = unit(Scanner(network).activations(torch.zeros(1, 3, 32, 32), ["relu1_1"])["relu1_1"])[0][:, :, 16:17, 16:17]
    shares = []
    for mask in (guide, None):
        made, _ = term(network, (Place((Painting(painting, guide=mask),)),), content)
        shares.append(float(((made.compared["relu1_1"].target * black).sum(1) > 0.999).float().mean()))
    assert shares[0] < 0.02 and shares[1] > 0.3


def test_layers_of_a_painting(network: Features) -> None:
    content = scene()
    fine = Painting(content, layers=frozenset(["relu1_1", "relu2_1"]))
    coarse = Painting(noise(64, 80, 3).float(), layers=frozenset(["relu3_1", "relu4_1"]))
    _, found = term(network, (Place((fine, coarse)),), content)
    assert float(found["correspondence/relu1_1"]) < 1e-3 < float(found["correspondence/relu3_1"])


def test_transparent_parts_count_for_nothing(network: Features) -> None:
    content, visible = scene(), torch.ones(1, 1, 64, 80)
    visible[..., 40:] = 0
    place = (Place((Painting(scene(64, 80).flip(2)),)),)
    made, found = term(network, place, content, visible=visible)
    changed = torch.where(visible > 0, content, torch.rand_like(content))
    objective = Objective([made])
    again = objective.values(Scanner(network, "off").statistics(changed, objective), changed)["correspondence/relu1_1"]
    assert float(again) == pytest.approx(float(found["correspondence/relu1_1"]), rel=0.1)  # but at the border


@pytest.mark.usefixtures("pair")
@pytest.mark.parametrize(
    "options",
    [
        ["--data.style", "[painting.png, other.png]", "--model.bleed", "3", "--data.afar", "40"],
        ["--model.padding", "circular", "--data.color", "match"],
        ["--data.regions", "{left: {mask: left.png, keep: true}}", "--model.content_weight", "0"],
    ],
)
def test_a_run_resumes_to_the_bit(options: list[str]) -> None:
    draw(Path("other.png"), (40, 30), seed=5)
    mask = Image.new("L", (48, 40), 0)
    mask.paste(255, (0, 0, 20, 40))
    mask.save("left.png")
    network = ["--model.backbone", "compact", "--model.weights", "imagenet", "--model.correspondence_weight", "0.3"]
    steps = [*network, *options, "--data.min_size", "40", "--data.ratio", "1.2"]
    assert fit(*steps, "--output", "a.png", steps=4) == 0
    assert fit(*steps, "--trainer.max_steps", "6", steps=4) == 0
    assert fit(*steps, "--ckpt_path", "last", "--output", "b.png", steps=4) == 0
    np.testing.assert_array_equal(np.asarray(Image.open("a.png")), np.asarray(Image.open("b.png")))


def test_it_is_lowered(pair: tuple[Path, Path]) -> None:
    made = run(module(correspondence_weight=10.0, style_weight=0.1), pictures(pair, 12))
    with torch.no_grad():
        after = made.objective.sums(made.values())["correspondence"]
        made.prepare(made.levels)  # back to the start
        assert after < 0.8 * made.objective.sums(made.values())["correspondence"]


def test_wrong_weights_are_refused() -> None:
    with pytest.raises(InputError, match=r"finite weight of 0 or more, but got -1.0; change --model.correspondence_w"):
        module(correspondence_weight=-1)
    with pytest.raises(InputError, match=r"change --model.correspondence_layers.relu1_1"):
        module(correspondence_weight=1.0, correspondence_layers={"relu1_1": -2.0})
    with pytest.raises(InputError, match=r"correspondence_empty to be in \[0, 1\], but got 2"):
        module(correspondence_empty=2)
    with pytest.raises(InputError, match=r"correspondence_cell to be 1, 2, 4, 8 or 16 pixels, but got 3"):
        module(correspondence_cell=3)
    with pytest.raises(InputError, match=r"correspondence_turns to be one of none, quarter or mirror, but got half"):
        module(correspondence_turns="half")
    with pytest.raises(InputError, match=r"Expected a layer of vgg19 .* but got relu9_1"):
        module(correspondence_layers={"relu9_1": 1.0})
