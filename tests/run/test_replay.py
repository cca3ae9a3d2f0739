"""A record is data: whatever a picture from a stranger says, nothing is imported, called or written elsewhere."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from nst.cli.main import main
from nst.cli.settings import KNOWN
from nst.errors import InputError
from nst.pictures import images
from nst.run import record
from nst.run.replay import OPTIMIZERS, SCHEDULERS, Replay
from tests.helpers import fit

pytestmark = pytest.mark.usefixtures("pair", "trap")
QUIET = ["--trainer.enable_progress_bar", "false"]
TOUCH = {"class_path": "subprocess.Popen", "init_args": {"args": "touch exploded", "shell": True}}
TRAP = {"class_path": "trap.Trap"}


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that must not be imported, and files that hold what must not be read as settings."""
    (tmp_path / "trap.py").write_text("open('exploded', 'w').close()\nclass Trap: pass\nwatch = Trap\n")
    (tmp_path / "trap.yaml").write_text("class_path: trap.Trap\n")
    (tmp_path / "traps.yaml").write_text("- class_path: trap.Trap\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "trap", raising=False)


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The record of an ordinary run."""
    from tests.helpers import draw

    folder = tmp_path_factory.mktemp("honest")
    photo, painting = draw(folder / "photo.png", seed=1), draw(folder / "painting.png", (44, 52), seed=2)
    options = ["--trainer.default_root_dir", str(folder), "--output", str(folder / "a.png")]
    assert fit(*options, content=photo, style=painting, steps=1) == 0
    return record.read(folder / "a.png")


def put(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """Returns what sets a value of a record's settings, by dotted key."""
    *groups, name = path.split(".")

    def change(config: dict[str, Any]) -> None:
        for group in groups:
            config = config.setdefault(group, {})
        config[name] = value

    return change


def board(**arguments: Any) -> dict[str, Any]:
    return {"class_path": "lightning.pytorch.loggers.TensorBoardLogger", "init_args": {"save_dir": "x"}, **arguments}


ADAM = "torch.optim.Adam"
HOSTILE: dict[str, Callable[[dict[str, Any]], None]] = {
    "logger": put("trainer.logger", board(init_args={"save_dir": "x", "purge_step": TOUCH})),
    "logger's other arguments": put("trainer.logger", board(dict_kwargs={"purge_step": TOUCH})),
    "callback": put(
        "trainer.callbacks",
        [{"class_path": "lightning.pytorch.callbacks.LambdaCallback", "init_args": {"setup": TOUCH}}],
    ),
    "callback by module": put("trainer.callbacks", [TRAP]),
    "strategy": put("trainer.strategy", TRAP),
    "profiler": put("trainer.profiler", TRAP),
    "plugin": put("trainer.plugins", [TRAP]),
    "accelerator": put("trainer.accelerator", TRAP),
    "precision": put("trainer.precision", TRAP),
    "optimizer": put("model.optimizer", TOUCH),
    "optimizer of a module": put("model.optimizer", TRAP),
    "optimizer by name": put("model.optimizer", "trap.Trap"),
    "optimizer in a file": put("model.optimizer", "trap.yaml"),
    "optimizer's base": put("model.optimizer", {"class_path": "torch.optim.Optimizer"}),
    "optimizer's module": put("model.optimizer", {"class_path": "torch.optim.os.system"}),
    "optimizer's argument": put("model.optimizer", {"class_path": ADAM, "init_args": {"lr": TOUCH}}),
    "optimizer's argument by name": put("model.optimizer", {"class_path": ADAM, "init_args": {"lr": "trap.Trap"}}),
    "optimizer's other arguments": put("model.optimizer", {"class_path": ADAM, "dict_kwargs": {"lr": TOUCH}}),
    "schedule": put("model.lr_scheduler", TRAP),
    "schedule that calls": put(
        "model.lr_scheduler",
        {"class_path": "torch.optim.lr_scheduler.LambdaLR", "init_args": {"lr_lambda": "trap.watch"}},
    ),
    "style": put("data.style", [TRAP]),
    "style in a text": put("data.style", "[{class_path: trap.Trap}]"),
    "style in a file": put("data.style", "traps.yaml"),
    "style's picture": put("data.style", [{"image": TRAP}]),
    "style's picture in a text": put("data.style", [{"image": "{class_path: trap.Trap}"}]),
    "style's other": put("data.style", [{"image": "painting.png", "code": TRAP}]),
    "region": put("data.regions", {"a": TRAP}),
    "region in a text": put("data.regions", {"a": "{class_path: trap.Trap}"}),
    "region in lines": put("data.regions", {"a": "\nclass_path: trap.Trap\n"}),
    "regions in a text": put("data.regions", "{a: {class_path: trap.Trap}}"),
    "regions in a file": put("data.regions", "trap.yaml"),
    "region's mask": put("data.regions", {"a": {"mask": TRAP}}),
    "content": put("data.content", TRAP),
    "steps": put("data.steps", [TRAP]),
    "layers": put("model.content_layers", {"relu4_2": TRAP}),
    "layers in a file": put("model.content_layers", "trap.yaml"),
    "start": put("model.init", TRAP),
    "weights": put("model.weights", TRAP),
    "memory": put("model.memory", TRAP),
    "seed": put("seed_everything", TRAP),
    "budget": put("budget", TRAP),
    "model": put("model", TRAP),
    "data": put("data", [TRAP]),
    "trainer": put("trainer", TRAP),
    "dotted": put("model", {"optimizer.class_path": "trap.Trap"}),
    "unknown": put("codes", TRAP),
    "no name": lambda config: config.update({7: TRAP}),  # type: ignore[dict-item]
    "checkpoints": put("checkpoints", TRAP),
    "output": put("output", "victim.png"),
    "root": put("trainer.default_root_dir", "elsewhere"),
    "config": put("config", ["trap.yaml"]),
    "checkpoint": put("ckpt_path", "victim.ckpt"),
    "bomb": put("data.max_pixels", 10**12),
}


def evil(config: dict[str, Any] | None = None, text: str | None = None, name: str = "evil.png") -> str:
    """Writes a picture with a record."""
    text = yaml.safe_dump({"config": config}) if text is None else text
    images.save(torch.zeros(1, 3, 16, 16), name, metadata=text)
    return name


def untouched(folder: Path) -> dict[str, bytes]:
    """Returns all files of a folder but those that a run leaves in a place of its own."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.relative_to(folder).parts[0] not in ("lightning_logs", "__pycache__")
    }


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_record_runs_nothing_and_writes_nowhere(
    case: str, honest: dict[str, Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("victim.png").write_bytes(b"precious")
    Path("victim.ckpt").write_bytes(b"precious")
    config = copy.deepcopy(honest["config"])
    HOSTILE[case](config)
    evil(config)
    before = untouched(tmp_path)
    capfd.readouterr()
    code = main(["fit", "--config", "evil.png", *QUIET])
    out, err = capfd.readouterr()
    assert untouched(tmp_path) == before
    assert "trap" not in sys.modules
    assert "Traceback" not in out + err
    assert code in (0, 2)
    assert err.count("\n") == (1 if code else 0)
    if code == 0:  # what is left out is named, and the rest makes a picture
        assert "Left out of the record of evil.png: " in out


NOT_RECORDS = {
    "tag": "config: !!python/object/apply:os.system ['touch exploded']",
    "new": "config: {model: !!python/name:trap.Trap }",
    "alias": "config: &a {model: *a}",
    "laughs": "config:\n  a: &a [x, x]\n  b: &b [*a, *a]\n  c: [*b, *b]\n",
    "deep": "config: " + "[" * 3000 + "]" * 3000,
    "deeper": "config: " + "{a: " * 40 + "}" * 40,
    "long": "config: {model: {}}\nnote: " + "x" * 300_000,
    "digits": "config: {budget: " + "9" * 6000 + "}",
    "boolean": "config: {budget: !!bool maybe}",
    "date": "config: {budget: 2026-99-99}",
    "list": "[1, 2]",
    "nothing": "",
    "text": "hello",
    "files": "config: {}\nfiles: [a, b]",
    "file": "config: {}\nfiles: {data.content: /dev/zero}",
    "path": "config: {}\nfiles: {data.content: {path: [1], sha256: 2}}",
    "versions": "config: {}\nversions: [1]",
    "control": "config: {}\x00",
}


@pytest.mark.parametrize("case", NOT_RECORDS)
def test_what_is_no_record_is_refused_in_one_line(case: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    evil(text=NOT_RECORDS[case])
    before = untouched(tmp_path)
    assert main(["fit", "--config", "evil.png", *QUIET]) == 2
    err = capfd.readouterr().err
    assert err.startswith("nst: error: Expected --config to be a picture that nst fit made")
    assert err.count("\n") == 1
    assert untouched(tmp_path) == before


@pytest.mark.parametrize("spelling", [["--config={}"], ["-c", "{}"], ["-c{}"], ["--config", "{}"]])
def test_all_spellings_of_a_config_and_all_suffixes_of_pictures_are_known(
    honest: dict[str, Any], spelling: list[str]
) -> None:
    config = copy.deepcopy(honest["config"])
    HOSTILE["optimizer of a module"](config)
    evil(config)
    Path("evil.gif").write_bytes(b"GIF89a: 1\n" + yaml.safe_dump(config).encode())  # a picture by its name alone
    for name in (evil(config), evil(config, name="EVIL.PNG"), "evil.gif"):
        assert main(["fit", *(word.format(name) for word in spelling), *QUIET]) == 2
    assert "trap" not in sys.modules


@pytest.mark.parametrize("command", ["batch", "sweep"])
def test_other_commands_read_records_in_the_same_way(
    command: str, honest: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    options = {"batch": ["--data.content", "photo.png"], "sweep": ["--model.style_weight", "1,2"]}[command]
    output = ["--output", "made" if command == "batch" else "sheet.png"]
    for case in ("logger", "optimizer of a module", "style in a text"):
        config = copy.deepcopy(honest["config"])
        HOSTILE[case](config)
        code = main([command, "--config", evil(config), *options, *output])
        assert code == (0 if case == "logger" else 2)
        captured = capfd.readouterr()
        assert captured.out.count("Left out of the record") == (case == "logger")
        assert "Traceback" not in captured.out + captured.err
    assert not Path("exploded").exists()
    assert "trap" not in sys.modules


def test_a_batch_does_not_read_files_that_a_picture_in_its_way_names(honest: dict[str, Any]) -> None:
    made = copy.deepcopy(honest)
    made["files"]["data.content"]["path"] = "/dev/zero"  # which has no end
    Path("out").mkdir()
    options = ["--config", evil(honest["config"]), "--data.content", "photo.png", "--output", "out"]
    evil(text=record.dump(made, 1, True), name="out/photo.png")
    assert main(["batch", *options]) == 0
    assert record.read("out/photo.png")["files"]["data.content"]["path"] == str(Path("photo.png").resolve())


def test_an_honest_record_is_taken_whole(honest: dict[str, Any], capfd: pytest.CaptureFixture[str]) -> None:
    taken = Replay(honest["config"], {}, KNOWN, "a.png")
    assert taken.config == honest["config"]
    assert taken.left_out == []
    assert main(["fit", "--config", evil(honest["config"]), "--output", "b.png", *QUIET]) == 0
    assert capfd.readouterr().out == ""
    assert record.read("b.png")["config"] == honest["config"]


def test_what_is_left_out_is_named(honest: dict[str, Any], capfd: pytest.CaptureFixture[str]) -> None:
    config = copy.deepcopy(honest["config"])
    config["trainer"] |= {"gradient_clip_val": 0.5, "default_root_dir": "elsewhere", "logger": None}
    config |= {"output": "victim.png", "checkpoints": {"every_n_steps": 7}, "snapshots": {"every_n_steps": 50}}
    assert main(["fit", "--config", evil(config), *QUIET]) == 0
    assert capfd.readouterr().out == (
        "Left out of the record of evil.png: checkpoints.every_n_steps, output, trainer.default_root_dir, "
        "trainer.gradient_clip_val; give them as flags if you want them\n"
    )


def test_optimizers_and_schedules_of_torch_are_taken_with_their_numbers(honest: dict[str, Any]) -> None:
    assert {"torch.optim.Adam", "torch.optim.LBFGS", "torch.optim.SGD"} <= OPTIMIZERS
    assert {"torch.optim.lr_scheduler.CosineAnnealingLR", "torch.optim.lr_scheduler.StepLR"} <= SCHEDULERS
    config = copy.deepcopy(honest["config"])
    config["model"]["optimizer"] = {"class_path": "torch.optim.LBFGS", "init_args": {"line_search_fn": "strong_wolfe"}}
    schedule = {"class_path": "torch.optim.lr_scheduler.StepLR", "init_args": {"step_size": 2, "gamma": 0.5}}
    config["model"]["lr_scheduler"] = schedule
    assert Replay(config, {}, KNOWN, "a.png").config["model"]["optimizer"] == config["model"]["optimizer"]
    assert main(["fit", "--config", evil(config), "--output", "b.png", *QUIET]) == 0
    again = record.read("b.png")["config"]["model"]
    assert again["optimizer"]["init_args"]["line_search_fn"] == "strong_wolfe"
    assert again["lr_scheduler"]["init_args"]["gamma"] == 0.5


def test_a_misspelt_setting_is_refused_with_the_nearest(honest: dict[str, Any]) -> None:
    config = copy.deepcopy(honest["config"])
    config["data"]["sise"] = 3
    with pytest.raises(InputError, match=r"record of a.png, but it has data.sise \(did you mean data.size\?\)"):
        Replay(config, {}, KNOWN, "a.png")
