"""The command line, in process and as a real one: pictures, resume, signals, TensorBoard and every wrong input."""

from __future__ import annotations

import errno
import gc
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
import tifffile
import torch
import yaml
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from nst import __version__, stylize
from nst.cli.explain import explain
from nst.cli.main import main
from nst.optimise.module import StyleTransfer
from nst.pictures import images
from tests.helpers import TINY, Bomb, broken_files, fit, narrow

pytestmark = pytest.mark.usefixtures("pair")

ADAM = ["--model.optimizer", "torch.optim.Adam", "--model.optimizer.lr", "0.02", "--model.average", "0.9"]
LBFGS = ["--model.optimizer", "torch.optim.LBFGS", "--model.optimizer.max_iter", "2", "--model.init", "noise"]
WOLFE = [*LBFGS, "--model.optimizer.line_search_fn", "strong_wolfe", "--model.optimizer.max_eval", "6"]


def runs() -> list[Path]:
    return sorted(Path("lightning_logs").glob("version_*"))


def values(path: str | Path) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(path))


def test_a_run_leaves_a_picture_a_checkpoint_and_its_settings(capsys: pytest.CaptureFixture[str]) -> None:
    assert fit("--output", "out.png") == 0
    (run,) = runs()
    assert {path.name for path in run.iterdir()} >= {"checkpoints", "config.yaml", "result.png"}
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["last.ckpt"]
    assert Image.open("out.png").size == (48, 40)
    np.testing.assert_array_equal(values("out.png"), values(run / "result.png"))
    captured = capsys.readouterr()
    assert captured.out == ""  # the progress bar was turned off
    assert captured.err == ""


def test_the_screen_says_what_is_made_and_how_to_go_on(capfd: pytest.CaptureFixture[str]) -> None:
    assert fit("--trainer.enable_progress_bar", "true", "--output", "out.png") == 0
    captured = capfd.readouterr()
    assert "photo.png in the style of painting.png, 48×40 pixels" in captured.out
    assert "compact (bundled) on cpu" in captured.out
    assert re.search(r"3/3 .*total=.*content=.*style=", captured.out)
    assert "picture   out.png" in captured.out
    assert "curves    tensorboard --logdir lightning_logs" in captured.out
    assert re.search(r"resume    nst fit --config \S+/config.yaml --ckpt_path \S+/last.ckpt", captured.out)
    for advert in ("Tip", "litlogger", "GPU available", "Warning", "`Trainer.fit` stopped", "Seed set"):
        assert advert not in captured.out + captured.err


def test_the_printed_resume_command_works(capfd: pytest.CaptureFixture[str]) -> None:
    assert fit("--trainer.enable_progress_bar", "true") == 0
    (line,) = [line for line in capfd.readouterr().out.splitlines() if line.startswith("resume")]
    assert main([*shlex.split(line)[2:], "--data.steps", "5", "--output", "more.png"]) == 0
    assert fit("--output", "straight.png", steps=5) == 0
    np.testing.assert_array_equal(values("more.png"), values("straight.png"))


@pytest.mark.parametrize("options", [ADAM, LBFGS, WOLFE], ids=["adam", "lbfgs", "strong_wolfe"])
def test_resuming_is_exact_to_the_bit(options: list[str]) -> None:
    assert fit(*options, steps=8) == 0
    assert fit(*options, steps=3) == 0
    assert fit(*options, "--ckpt_path", "last", steps=8) == 0
    straight, _, resumed = (torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in runs())
    for key, value in straight["state_dict"].items():
        assert torch.equal(value, resumed["state_dict"][key]), key
    assert resumed["global_step"] == 8


def test_resuming_in_the_middle_of_a_level_is_exact_to_the_bit(capfd: pytest.CaptureFixture[str]) -> None:
    assert fit(*ADAM, "--output", "straight.png", steps=8) == 0
    capfd.readouterr()
    # the second checkpoint, of step 4 out of 8, is kept aside
    assert fit(*ADAM, "--checkpoints.every_n_steps", "4", "--trainer.max_steps", "4", steps=8) == 0
    checkpoint = runs()[1] / "checkpoints" / "last.ckpt"
    assert torch.load(checkpoint, weights_only=True)["global_step"] == 4
    bar = ["--trainer.enable_progress_bar", "true"]
    assert fit(*ADAM, *bar, "--ckpt_path", str(checkpoint), "--output", "resumed.png", steps=8) == 0
    assert "8/8" in capfd.readouterr().out
    np.testing.assert_array_equal(values("resumed.png"), values("straight.png"))


@pytest.mark.parametrize("options", [ADAM, LBFGS], ids=["adam", "lbfgs"])
@pytest.mark.parametrize("at", [3, 4, 6, 7])
def test_resuming_at_any_point_of_a_pyramid_is_exact_to_the_bit(options: list[str], at: int) -> None:
    """There are levels of 4, 3 and 5 steps: 3 and 6 are in the middle of one, 4 and 7 at the end."""
    levels = [*options, "--data.size", "96", "--data.min_size", "48", "--data.steps", "[4, 3, 5]"]
    assert fit(*levels, "--output", "straight.png") == 0
    every = ["--checkpoints.every_n_steps", "1", "--trainer.max_steps", str(at)]
    assert fit(*levels, *every) == 0
    checkpoint = runs()[1] / "checkpoints" / "last.ckpt"
    assert torch.load(checkpoint, weights_only=True)["global_step"] == at
    assert fit(*levels, "--ckpt_path", str(checkpoint), "--output", "resumed.png") == 0
    np.testing.assert_array_equal(values("resumed.png"), values("straight.png"))
    first, last = (torch.load(runs()[i] / "checkpoints" / "last.ckpt", weights_only=True) for i in (0, 2))
    assert first["global_step"] == last["global_step"] == 12
    assert all(torch.equal(value, last["state_dict"][key]) for key, value in first["state_dict"].items())


def test_resuming_a_finished_run_changes_nothing() -> None:
    assert fit("--output", "a.png", steps=3) == 0
    assert fit("--ckpt_path", "last", "--output", "b.png", "--trainer.enable_progress_bar", "true", steps=3) == 0
    np.testing.assert_array_equal(values("a.png"), values("b.png"))
    assert fit("--ckpt_path", str(runs()[0] / "checkpoints" / "last.ckpt"), "--output", "c.png", steps=2) == 0
    np.testing.assert_array_equal(values("a.png"), values("c.png"))


def start(*options: str, steps: int = 1000) -> subprocess.Popen[str]:
    """Starts a real run and waits until it is taking steps."""
    command = [sys.executable, "-m", "nst", "fit", *TINY, "--data.content", "photo.png", "--data.style", "painting.png"]
    command += ["--data.steps", str(steps), "--checkpoints.every_n_steps", "2", *options]
    before = len(runs())
    # where the tests were started in the background, Ctrl-C is ignored, and a child would ignore it as well
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    for _ in range(1200):
        if len(runs()) > before and (runs()[-1] / "checkpoints" / "last.ckpt").exists():
            return process
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise TimeoutError("no checkpoint came")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_leaves_everything_and_resumes_exactly(number: signal.Signals) -> None:
    process = start("--output", "stopped.png", *ADAM)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "Traceback" not in err
    assert "stopping after this step" in err
    assert "resume    nst fit" in out
    checkpoint = runs()[-1] / "checkpoints" / "last.ckpt"
    taken = torch.load(checkpoint, weights_only=True)["global_step"]
    assert 0 < taken < 1000
    np.testing.assert_array_equal(values("stopped.png"), values(runs()[-1] / "result.png"))
    steps = taken + 3
    assert fit(*ADAM, "--ckpt_path", str(checkpoint), "--output", "resumed.png", steps=steps) == 0
    assert fit(*ADAM, "--output", "straight.png", steps=steps) == 0
    np.testing.assert_array_equal(values("resumed.png"), values("straight.png"))


@pytest.mark.slow
def test_a_killed_run_loses_little_and_leaves_nothing_torn() -> None:
    process = start()
    time.sleep(1.0)
    process.kill()
    process.communicate()
    checkpoint = torch.load(runs()[-1] / "checkpoints" / "last.ckpt", weights_only=True)
    taken = checkpoint["global_step"]
    assert taken > 0
    assert taken % 2 == 0
    assert fit("--ckpt_path", "last", "--output", "resumed.png", steps=taken + 2) == 0
    assert fit("--output", "straight.png", steps=taken + 2) == 0
    np.testing.assert_array_equal(values("resumed.png"), values("straight.png"))


def test_checkpoints_are_small() -> None:
    assert fit(*ADAM) == 0
    size = (runs()[0] / "checkpoints" / "last.ckpt").stat().st_size
    picture = 48 * 40 * 3 * 4
    # the picture, Adam's two moments and the average; the rest does not grow with the picture
    assert size < 4 * picture + 40_000
    assert 4 * 512 * 512 * 3 * 4 + 40_000 < 16e6


def test_export_writes_the_picture_of_a_checkpoint() -> None:
    image = Image.open("photo.png").convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    image.save("clear.png")
    assert fit(*ADAM, "--output", "a.png", content=Path("clear.png")) == 0
    checkpoint = str(runs()[0] / "checkpoints" / "last.ckpt")
    assert main(["export", "--ckpt_path", checkpoint, "--output", "b.png"]) == 0
    np.testing.assert_array_equal(values("a.png"), values("b.png"))
    assert main(["export", "--ckpt_path", checkpoint, "--output", "b.tif"]) == 0
    assert tifffile.imread("b.tif").dtype == np.uint16


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tif"])
def test_the_suffix_sets_the_format(name: str) -> None:
    assert fit("--output", name, steps=1) == 0
    expected = {".png": "PNG", ".jpg": "JPEG", ".webp": "WEBP", ".tif": "TIFF"}[Path(name).suffix]
    assert Image.open(name).format == expected


def test_tensorboard_has_every_curve_picture_and_setting() -> None:
    schedule = ["--model.lr_scheduler", "torch.optim.lr_scheduler.ExponentialLR", "--model.lr_scheduler.gamma", "0.9"]
    often = ["--trainer.log_every_n_steps", "1", "--snapshots.every_n_steps", "2", "--model.tv_weight", "0.1"]
    assert fit(*often, *schedule, steps=4) == 0
    events = EventAccumulator(str(runs()[0]), size_guidance={"images": 0, "scalars": 0}).Reload()
    styles = {f"style/relu{i}_1" for i in range(1, 6)}
    curves = {"total", "content", "style", "content/relu4_2", "tv", "steps_per_second", "lr-Adam", *styles}
    assert curves <= set(events.Tags()["scalars"])
    for curve in curves - {"steps_per_second"}:
        assert len(events.Scalars(curve)) == 4, curve
    total, by_hand = (
        [event.value for event in events.Scalars("total")],
        [
            c.value + s.value + 0.1 * t.value
            for c, s, t in zip(*(events.Scalars(name) for name in ("content", "style", "tv")), strict=True)
        ],
    )
    assert total == pytest.approx(by_hand, rel=1e-5)
    assert [event.value for event in events.Scalars("lr-Adam")] == pytest.approx([0.02, 0.018, 0.0162, 0.01458])
    assert all(event.value > 0 for event in events.Scalars("steps_per_second"))
    assert [event.step for event in events.Images("picture")] == [2, 4]
    assert len(events.Images("content")) == len(events.Images("style")) == 1
    assert (events.Images("content")[0].width, events.Images("content")[0].height) == (48, 40)
    assert "settings/text_summary" in events.Tags()["tensors"]
    (level,) = events.Tensors("level/text_summary")
    assert level.tensor_proto.string_val == ["level 1/1, 48×40".encode()]
    assert events.SummaryMetadata("_hparams_/session_start_info").plugin_data.plugin_name == "hparams"


def test_without_a_logger_a_run_still_has_its_folder(tmp_path: Path) -> None:
    before = {path.name for path in tmp_path.iterdir()}
    for _ in range(2):
        assert fit("--trainer.logger", "false", "--output", "a.png") == 0
    assert {path.name for path in tmp_path.iterdir()} - before == {"a.png", "lightning_logs"}
    assert [sorted(path.name for path in run.iterdir()) for run in runs()] == [
        ["checkpoints", "config.yaml", "result.png"]
    ] * 2
    assert fit("--trainer.logger", "false", "--ckpt_path", "last", "--output", "b.png", steps=5) == 0


def test_other_callbacks_may_be_added() -> None:
    early = ["--trainer.callbacks", "lightning.pytorch.callbacks.EarlyStopping", "--trainer.callbacks.monitor", "total"]
    assert fit(*early) == 0
    assert (runs()[0] / "result.png").exists()


def test_paths_in_a_config_are_relative_to_it(tmp_path: Path) -> None:
    folder = tmp_path / "settings"
    folder.mkdir()
    config = {"data": {"content": "../photo.png", "style": "../painting.png", "steps": 2}}
    (folder / "mine.yaml").write_text(yaml.safe_dump(config))
    assert main(["fit", *TINY, "--config", "settings/mine.yaml", "--output", "a.png"]) == 0
    assert fit("--output", "b.png", steps=2) == 0
    np.testing.assert_array_equal(values("a.png"), values("b.png"))
    saved = yaml.safe_load((runs()[0] / "config.yaml").read_text())
    assert saved["data"]["content"] == str(tmp_path / "photo.png")


def test_circular_padding_reaches_the_data() -> None:
    assert fit("--model.padding", "circular", "--output", "a.png") == 0
    made = stylize("photo.png", "painting.png", preset=None, size=48, steps=3, backbone="compact", padding="circular")
    np.testing.assert_array_equal(values("a.png"), np.asarray(made))
    assert main(["fit", "--config", "a.png", "--output", "b.png"]) == 0
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()


def test_a_picture_that_tiles_has_no_margin(capfd: pytest.CaptureFixture[str]) -> None:
    for options in (["--model.padding", "circular", "--model.bleed", "4"], ["--model.bleed", "-1"]):
        fails(capfd, r"Expected --model.bleed to be 0 .*but got (4|-1)", *options)


@pytest.mark.parametrize(("method", "largest", "mean"), [("direct", 2, 0.02), ("winograd", 16, 0.3)])
def test_circular_padding_in_bands_tiles_too(method: str, largest: int, mean: float) -> None:
    for mode in ("on", "off"):
        tiled = ["--model.padding", "circular", "--data.size", "150", "--trainer.precision", "32-true"]
        tiled += ["--model.convolution", method]
        assert fit(*tiled, "--model.streaming", mode, "--output", f"{mode}.png") == 0
    difference = np.abs(values("on.png").astype(int) - values("off.png"))
    assert difference.max() <= largest  # Adam enlarges what rounding makes of a gradient near 0
    assert difference.mean() < mean


def test_init_from_a_file() -> None:
    assert fit("--model.init", "painting.png", "--output", "a.png", steps=1) == 0
    started = images.load("painting.png").resized(40, 48).rgb
    assert (images.load("a.png").rgb - started).abs().mean() < 0.03


def test_help_version_and_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == __version__
    assert main([]) == 0
    assert "nst fit" in capsys.readouterr().out
    assert main(["fitt"]) == 2
    known = "fit, export, batch, sweep, video, studio, presets or env"
    words = f"Expected a command, {known}, but got fitt (did you mean fit?)"
    assert words in capsys.readouterr().err
    for command, words in (
        ("fit", "--data.content"),
        ("export", "--ckpt_path"),
        ("batch", "{name}"),
        ("sweep", "--output"),
    ):
        with pytest.raises(SystemExit) as end:
            main([command, "--help"])
        assert end.value.code == 0
        assert words in capsys.readouterr().out


# Wrong input


def fails(capfd: pytest.CaptureFixture[str], words: str, *options: str, code: int = 2, **pictures: Any) -> None:
    """Runs `nst fit` and checks its one line, and that nothing was written."""
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    capfd.readouterr()
    assert fit(*options, **pictures) == code
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert re.search(words, captured.err), captured.err
    assert captured.err.startswith("nst: error: ")
    after = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    assert before == after


def test_files_that_are_no_pictures(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for name, words in broken_files(tmp_path).items():
        fails(capfd, rf"Expected --data.content to be .*{words}", content=Path(name))
    fails(capfd, r"Expected --data.style to be .*text.jpg is none", style=Path("text.jpg"))
    fails(capfd, r"Expected --model.init to be .*nothing.png does not exist", "--model.init", "nothing.png")


def test_pictures_of_odd_shapes(capfd: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (1, 1)).save("dot.png")
    Image.new("RGB", (40000, 10)).save("line.png")
    Image.new("1", (20000, 20000)).save("bomb.png")
    fails(capfd, r"--data.content to be at least 8×8 pixels, but dot.png is 1×1", content=Path("dot.png"))
    fails(capfd, r"line.png \(40000×10\) becomes 48×1 .*; raise --data.size or crop", content=Path("line.png"))
    fails(capfd, r"bomb.png has 20000×20000.*--data.max_pixels 400000000", content=Path("bomb.png"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--model.style_layers", "{relu4_9: 1}"], r"but got relu4_9 \(did you mean relu4_\d\?\)"),
        (["--data.sizes", "3"], r"known option, but got --data.sizes \(did you mean --data.size\?\)"),
        (["--data.size", "0"], "--data.size to be 1 pixel or more, but got 0"),
        (["--data.size=-1"], "--data.size to be 1 pixel or more, but got -1"),
        (["--data.size", "1e9"], "--data.size to fit into memory, but .* pixels need more than .*; lower --data.size"),
        (["--data.size", "big"], "--data.size.*big"),
        (["--model.strength", "1.5"], r"--model.strength to be in \[0, 1\], but got 1.5"),
        (["--data.color", "contents"], "--data.color to be one of 'style', 'content', .*, but got contents"),
        (["--data.steps", "0"], "--data.steps to be 1 or more, but got 0"),
        (["--model.style_weight=-1"], "finite weight of 0 or more, but got -1.0; change --model.style_weight"),
        (["--model.content_weight", "nan"], "Expected --model.content_weight to be float, but got nan"),
        (["--model.content_weight", ".nan"], "but got nan; change --model.content_weight"),
        (["--model.backbone", "vgg17"], r"--model.backbone to be one of 'auto', 'vgg19', .*, but got vgg17"),
        (
            ["--model.backbone", "vgg16", "--model.weights", "other.pth"],
            r"weights of vgg16, but vgg16 from other.pth has no features.17.weight",
        ),
        (["--model.weights", "bomb.pth"], r"bomb.pth to hold tensors alone.*never run"),
        (["--model.weights", "none.pth"], r"none.pth does not exist"),
        (["--output", "nowhere/a.png"], r"--output to be in a folder that exists, but nowhere does not"),
        (["--output", "a.gif"], r"--output to end in one of .png.*but got a.gif"),
        (["--trainer.default_root_dir", "/proc/x"], r"--trainer.default_root_dir to be a folder.*/proc/x cannot"),
        (["--ckpt_path", "none.ckpt"], r"--ckpt_path to be a checkpoint, but none.ckpt is not a file"),
        (["--ckpt_path", "photo.png"], r"--ckpt_path to be a checkpoint of nst, but photo.png is not"),
        (["--ckpt_path", "last"], r"--ckpt_path last to find a checkpoint, but there is none below lightning_logs"),
        (["--config", "none.yaml"], r"--config: File does not exist: .*none.yaml"),
        (["--config", "typo.yaml"], r"known key in the config, but got data.sise \(did you mean data.size\?\)"),
        (["--config", "typo2.yaml"], r"known key in the config, but got dada.size \(did you mean data.size\?\)"),
        (["--checkpoints.every_n_steps", "0"], r"--checkpoints.every_n_steps to be 1 or more, but got 0"),
    ],
)
def test_wrong_settings(capfd: pytest.CaptureFixture[str], options: list[str], words: str) -> None:
    other = narrow()
    del other["features.17.weight"], other["features.17.bias"]
    torch.save(other, "other.pth")
    torch.save({"features.0.weight": Bomb()}, "bomb.pth")
    Path("typo.yaml").write_text("data:\n  sise: 3\n")
    Path("typo2.yaml").write_text("dada:\n  size: 3\n")
    fails(capfd, words, *options)
    assert not Path("exploded").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize("name", ["gpu", "cuda"])
def test_a_device_that_is_not_there(capfd: pytest.CaptureFixture[str], name: str) -> None:
    fails(
        capfd,
        rf"--trainer.accelerator to be .*, but got {name} and there is no CUDA device; use .*cpu",
        *("--trainer.accelerator", name),
    )


def test_checkpoints_of_other_runs(capfd: pytest.CaptureFixture[str]) -> None:
    assert fit(steps=1) == 0
    last = ["--ckpt_path", "last"]
    fails(capfd, r"a picture of 32×27 pixels like this run's, but it holds 48×40; change", *last, "--data.size", "32")
    larger = ["--data.size", "96", "--data.min_size", "60", "--data.style_scale", "0.5"]
    fails(capfd, r"a picture of 68×57 pixels .* holds 48×40", *last, *larger)
    fails(capfd, r"with optimizer LBFGS .*made with Adam; change --model.optimizer", *last, *LBFGS[:2])
    fails(capfd, r"with average 0.5 .*made with 0.0; change --model.average", *last, "--model.average", "0.5")
    torch.save({"state_dict": {}}, "alien.ckpt")
    fails(capfd, r"a checkpoint of nst, but alien.ckpt is not", "--ckpt_path", "alien.ckpt")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_output_folder_that_cannot_be_written(capfd: pytest.CaptureFixture[str]) -> None:
    Path("locked").mkdir(mode=0o500)
    fails(capfd, r"in a folder that can be written, but locked cannot", "--output", "locked/a.png")


def test_a_full_disk_at_the_end_leaves_the_file_that_was_there(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fit("--output", "a.png") == 0
    before = Path("a.png").read_bytes()

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    capfd.readouterr()
    assert fit("--output", "a.png", steps=2) == 1
    assert "No space left on device; what was there before is unchanged" in capfd.readouterr().err
    assert Path("a.png").read_bytes() == before
    assert not list(Path().glob(".a.png*"))


def test_a_full_disk_at_a_checkpoint_leaves_the_one_before(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    save, count = torch.save, 0

    def full(checkpoint: dict[str, Any], file: IO[bytes]) -> None:
        nonlocal count
        count += 1
        if count == 2:
            file.write(b"half")
            raise RuntimeError("unexpected pos 64 vs 0")  # as torch says it
        save(checkpoint, file)

    monkeypatch.setattr(torch, "save", full)
    assert fit("--checkpoints.every_n_steps", "1") == 1
    assert re.search(r"last.ckpt, but the system says: unexpected pos .* unchanged", capfd.readouterr().err)
    (checkpoint,) = (runs()[0] / "checkpoints").iterdir()
    assert torch.load(checkpoint, weights_only=True)["global_step"] == 1
    assert (runs()[0] / "result.png").exists()


def test_a_run_leaves_nothing_behind_in_the_process() -> None:
    def networks() -> int:
        gc.collect()
        return sum(type(x) is StyleTransfer and x.features is not None for x in gc.get_objects())

    handlers, before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)], networks()
    for _ in range(3):
        assert fit(steps=1) == 0
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert networks() <= before + 1  # jsonargparse remembers its last parser, which knows the run


def test_a_loss_that_is_not_finite(capfd: pytest.CaptureFixture[str]) -> None:
    assert fit("--model.style_weight", "1e60") == 1
    assert capfd.readouterr().err == (
        "nst: error: Expected a finite and falling loss, but total is inf: stopped, and the last good picture is kept; "
        "lower the weights or the learning rate (--model.optimizer.lr)\n"
    )


def test_export_without_its_flags(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "--output", "a.png"]) == 2
    assert capfd.readouterr().err == "nst: error: Expected --ckpt_path, but it was not given\n"
    assert main(["export", "--ckpt_path", "photo.png", "--output", "nowhere/a.png"]) == 2
    assert "in a folder that exists, but nowhere does not" in capfd.readouterr().err


def test_explanations_of_other_parser_errors() -> None:
    assert explain("Parser key \"data.size\":\n  Expected a <class 'int'>. Got value: x", []) == (
        "Expected --data.size to be int, but got x"
    )
    assert explain("something else", []) == "something else"


def test_no_command_writes_over_what_it_reads(capfd: pytest.CaptureFixture[str]) -> None:
    """Whatever the name that leads there: the photograph was replaced, and the exit code was 0."""
    words = (
        "Expected --output not to overwrite what the picture is made of, but .* is one of the inputs; choose another"
    )
    before = Path("photo.png").read_bytes()
    Path("link.png").symlink_to("photo.png")
    os.link("photo.png", "hard.png")
    Path("folder").mkdir()
    for output in ("photo.png", "./folder/../photo.png", "link.png", "hard.png", str(Path("photo.png").absolute())):
        fails(capfd, words, "--output", output)
    fails(capfd, words, "--output", "painting.png")
    Image.linear_gradient("L").resize((48, 40)).save("mask.png")
    fails(capfd, words, "--data.regions", "{a: mask.png}", "--output", "mask.png")
    fails(capfd, words, "--model.init", "hard.png", "--output", "hard.png")
    assert fit("--output", "made.png", steps=1) == 0
    fails(capfd, words, "--config", "made.png", "--output", "made.png")
    sweep = ["sweep", *TINY, "--data.style", "painting.png", "--data.steps", "1", "--model.tv_weight", "0,1"]
    assert main([*sweep, "--data.content", "photo.png", "--output", "photo.png"]) == 2
    assert re.search(words, capfd.readouterr().err)
    (checkpoint,) = Path("lightning_logs").glob("*/checkpoints/last.ckpt")
    shutil.copy(checkpoint, "checkpoint.png")
    assert main(["export", "--ckpt_path", "checkpoint.png", "--output", "checkpoint.png"]) == 2
    assert re.search(words, capfd.readouterr().err)
    assert Path("photo.png").read_bytes() == before


def test_a_format_without_room_for_the_result_is_found_out_before_the_first_step(
    capfd: pytest.CaptureFixture[str],
) -> None:
    Image.new("RGB", (1700, 10)).save("wide.png")
    sizes = ["--data.size", "17000", "--data.style_scale", "0.01"]
    assert fit(*sizes, "--output", "wide.webp", content=Path("wide.png")) == 2
    assert "can hold 17000×100 pixels, but wide.webp is WebP, which holds at most 16383" in capfd.readouterr().err
    assert not Path("lightning_logs").exists()
