"""Terms of the objective: those of a user's own, and what each of them says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from nst.errors import InputError
from nst.losses.distance import DISTANCES
from nst.losses.objective import ALL, FeatureTerm, LayerLoss, Objective, PixelTerm, Term
from nst.losses.statistics import Moments, Places, Statistics, Value
from nst.losses.terms.standard import standard_terms
from nst.streaming.scanner import Scanner
from nst.types import Pixels
from tests.helpers import CONTENT, RANDOM, STYLE, difference, fit, made, module, pictures, reference, run, seen

pytestmark = pytest.mark.usefixtures("pair")

OWN = """
from nst.losses.objective import Term


class Brightness(Term):
    name, flag = "brightness", "--model.terms.weight"

    def __init__(self, weight: float, wanted: float = 1.0) -> None:
        self.weights, self.wanted = {self.name: weight}, wanted

    def values(self, statistics, picture):
        return {self.name: (picture.mean() - self.wanted).square()}
"""


def pixels(path: str) -> Any:
    return np.asarray(Image.open(path)).astype(int)


def test_a_term_of_a_users_own_plugs_in_by_its_class_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Path("own_terms.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    bright = "[{class_path: own_terms.Brightness, init_args: {weight: 300.0}}]"
    assert fit("--output", "plain.png", steps=8) == 0
    assert fit("--model.terms", bright, "--output", "bright.png", steps=8) == 0
    assert pixels("bright.png").mean() > pixels("plain.png").mean() + 10
    Path("config.yaml").write_text(f"model:\n  terms: {bright}\n")
    assert fit("--config", "config.yaml", "--output", "again.png", steps=8) == 0
    assert (pixels("again.png") == pixels("bright.png")).all()


def test_a_picture_does_not_choose_terms(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("own_terms.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    terms = ["--model.terms", "[{class_path: own_terms.Brightness, init_args: {weight: 300.0}}]"]
    assert fit(*terms, "--output", "bright.png") == 0
    assert fit("--output", "plain.png") == 0
    assert fit("--config", "bright.png", "--output", "again.png") == 0
    assert "Left out of the record of bright.png: model.terms" in capsys.readouterr().out
    assert (pixels("again.png") == pixels("plain.png")).all()


class Loudness(FeatureTerm):
    """Draws a layer's mean square to that of nothing; its gradient is autograd's."""

    name = "loudness"

    def __init__(self, layer: str, weight: float) -> None:
        super().__init__({layer: Squares()}, {layer: weight})


class Squares(LayerLoss):
    def statistics(self, features: Tensor, rows: slice = ALL) -> Value:
        return Value(features.square().sum())

    def value(self, statistics: Any) -> Tensor:
        value: Tensor = statistics.value
        return value


class Peak(Statistics):
    """The largest of all values, which is no sum."""

    def __init__(self, value: Tensor) -> None:
        object.__setattr__(self, "value", value)

    def __add__(self, other: Any) -> Peak:
        return Peak(torch.maximum(self.value, other.value))

    def flatten(self) -> tuple[Tensor, ...]:
        return (self.value,)

    def unflatten(self, tensors: Any) -> Peak:
        return Peak(tensors[0])

    value: Tensor


class Range(PixelTerm):
    """The sum of squares of rows, by what they add up to."""

    name = "range"

    def pixel_statistics(self, rows: Tensor, below: Tensor, last: bool) -> Value:
        return Value(rows.pow(4).sum())

    def values(self, statistics: Mapping[str, Any], picture: Tensor) -> dict[str, Tensor]:
        return {self.name: statistics[self.name].value}


def test_own_terms_are_gathered_in_bands() -> None:
    network, objective, picture = made()
    objective = Objective([*objective.terms, Loudness("conv2_1", 0.01), Range(0.3)])
    value, gradient = reference(network, objective, picture)
    for mode in ("off", "on"):
        again, found = seen(Scanner(network, mode, 0.0), objective, picture)
        assert float(again) == pytest.approx(float(value), rel=1e-12)
        assert difference(found, gradient) < 1e-11


def test_a_statistic_need_not_be_a_sum() -> None:
    network, objective, picture = made()

    class Loudest(LayerLoss):
        def statistics(self, features: Tensor, rows: slice = ALL) -> Peak:
            return Peak(features.amax())

        def value(self, statistics: Any) -> Tensor:
            value: Tensor = statistics.value
            return value

    class Loud(FeatureTerm):
        name = "loud"

    objective = Objective([*objective.terms, Loud({"conv2_1": Loudest()}, {"conv2_1": 1.0})])
    whole = Scanner(network, "off").statistics(picture, objective)["loud/conv2_1"]
    bands = Scanner(network, "on", 0.0).statistics(picture, objective)["loud/conv2_1"]
    assert float(whole.flatten()[0]) == pytest.approx(float(bands.flatten()[0]), rel=1e-12)
    assert float(whole.flatten()[0]) == pytest.approx(float(network(picture)["conv2_1"].amax()), rel=1e-12)


def test_statistics_go_flat_and_back() -> None:
    one, other = (Moments(*(torch.full((), float(i + j)) for i in range(3))) for j in (0, 10))
    places = Places((one, Places((other,))))
    flat = places.flatten()
    assert [float(x) for x in flat] == [0, 1, 2, 10, 11, 12]
    assert places.unflatten(flat) == places
    assert [float(x) for x in (places + places).flatten()] == [0, 2, 4, 20, 22, 24]


def test_terms_say_what_lowers_them() -> None:
    objective = Objective(standard_terms(CONTENT, STYLE, tv_weight=1.0, wrap=True))
    assert {name.partition("/")[0]: flag for name, flag in objective.flags.items()} == {
        "content": "--model.content_weight",
        "style": "--model.style_weight",
        "tv": "--model.tv_weight",
        "seam": "the weights",
    }
    assert list(objective.weights) == [*(f"content/{x}" for x in CONTENT), *(f"style/{x}" for x in STYLE), "tv", "seam"]


def test_two_terms_of_one_name_are_refused() -> None:
    with pytest.raises(InputError, match=r"terms with names of their own, but two have loudness/conv2_1"):
        Objective([Loudness("conv2_1", 1.0), Loudness("conv2_1", 2.0)])


def test_a_run_without_any_callback_makes_the_same_picture(pair: tuple[Path, Path]) -> None:
    """Levels, early ends and a resumption in the middle are the module's own affair."""
    options = ["--data.min_size", "40", "--data.ratio", "1.2", "--data.min_improvement", "0.9"]
    options += ["--trainer.precision", "32-true"]  # as Lightning's own Trainer, on every processor
    assert fit(*options, *RANDOM, "--model.average", "0.5", "--output", "a.png", steps=45) == 0
    settings: dict[str, Any] = {"min_size": Pixels(40), "ratio": 1.2, "min_improvement": 0.9}
    bare = run(module(average=0.5), pictures(pair, 45, **settings), callbacks=[])
    finished = (bare.shown[0].permute(1, 2, 0).numpy() * 255).round().astype(int)
    np.testing.assert_array_equal(finished, pixels("a.png"))
    assert bare.trainer.global_step < 90  # a level did end early

    class Save(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
            if trainer.global_step in (25, 40):  # in the middle of a level, and at its early end
                trainer.save_checkpoint(f"{trainer.global_step}.ckpt")

    run(module(average=0.5), pictures(pair, 45, **settings), callbacks=[Save()])
    for step in (25, 40):
        resumed = module(average=0.5)
        trainer = pl.Trainer(max_epochs=2, callbacks=[], **BARE)
        trainer.fit(resumed, datamodule=pictures(pair, 45, **settings), ckpt_path=f"{step}.ckpt")
        assert torch.equal(resumed.shown, bare.shown), step


BARE: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
BARE |= {"accelerator": "cpu", "enable_model_summary": False, "reload_dataloaders_every_n_epochs": 1}


def test_each_distance_says_what_it_compares() -> None:
    from nst.optimise.module import StyleTransfer

    for name, kind in DISTANCES.items():
        first = (kind.__doc__ or "").partition("\n")[0]
        assert len(first) > 10 and f"`{name}`" in (StyleTransfer.__doc__ or "")


class Nothing(Term):
    """A term without a weight, which is left out."""

    def __init__(self) -> None:
        self.weights = {}

    def values(self, statistics: Mapping[str, Any], picture: Tensor) -> dict[str, Tensor]:
        raise AssertionError("a term that is left out is not evaluated")


def test_a_term_without_weight_is_left_out() -> None:
    assert [type(x) for x in Objective([Nothing(), Loudness("conv2_1", 1.0)]).terms] == [Loudness]
