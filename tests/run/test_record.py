"""Every written picture knows how it was made, and can be made again from that."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from nst import __version__
from nst.cli.main import main
from nst.errors import InputError
from nst.network import weights
from nst.pictures import images
from nst.pictures.decoding import read_metadata
from nst.pictures.files import SUFFIXES
from nst.run import record
from tests.helpers import draw, fit, narrow

pytestmark = pytest.mark.usefixtures("pair")
QUIET = ["--trainer.enable_progress_bar", "false"]


def digest(path: str | Path) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def run(*options: str) -> int:
    return main(["fit", *options, *QUIET])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_holds_settings_versions_and_digests(tmp_path: Path, suffix: str) -> None:
    assert fit("--seed_everything", "7", "--output", f"a{suffix}") == 0
    made = record.read(f"a{suffix}")
    assert made["steps"] == 3
    assert made["complete"] is True
    assert made["versions"]["nst"] == __version__
    assert made["versions"]["torch"] == torch.__version__
    assert set(made["versions"]) == {"python", "nst", "torch", "torchvision", "lightning"}
    assert made["network"] == "compact (bundled)"
    files = {"data.content": tmp_path / "photo.png", "data.style": tmp_path / "painting.png"}
    files["model.weights"] = weights.COMPACT
    assert made["files"] == {key: {"path": str(path), "sha256": digest(path)} for key, path in files.items()}
    config = made["config"]
    assert config["seed_everything"] == 7
    assert config["data"]["content"] == str(tmp_path / "photo.png")
    assert config["model"]["optimizer"]["init_args"]["lr"] == 0.02
    assert not {"output", "ckpt_path", "config"} & set(config)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_picture_makes_itself_again_bit_for_bit(suffix: str) -> None:
    clear = Image.open("photo.png").convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(clear.size))
    clear.save("clear.png")
    options = ["--model.init", "noise", "--seed_everything", "3", "--data.color", "match", "--model.average", "0.5"]
    assert fit(*options, "--output", f"a{suffix}", content=Path("clear.png")) == 0
    assert main(["fit", "--config", f"a{suffix}", "--output", f"b{suffix}"]) == 0
    assert Path(f"a{suffix}").read_bytes() == Path(f"b{suffix}").read_bytes()
    assert main(["fit", f"--config=a{suffix}", "--output", f"c{suffix}"]) == 0
    assert Path(f"a{suffix}").read_bytes() == Path(f"c{suffix}").read_bytes()


def test_flags_and_other_configs_come_on_top() -> None:
    assert fit("--output", "a.png") == 0
    Path("more.yaml").write_text("data: {steps: 2}\n")
    assert run("--config", "a.png", "--config", "more.yaml", "--data.size", "40", "--output", "b.png") == 0
    made = record.read("b.png")
    assert made["steps"] == 2
    assert max(Image.open("b.png").size) == 40
    assert made["config"]["model"] == record.read("a.png")["config"]["model"]


def test_it_works_from_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fit("--output", "a.png") == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert run("--config", "../a.png", "--output", "b.png") == 0
    assert Path("../a.png").read_bytes() == Path("b.png").read_bytes()


def test_init_files_and_weights_are_recorded(tmp_path: Path) -> None:
    torch.save(narrow(), "narrow.pth")
    assert fit("--model.weights", "narrow.pth", "--model.init", "painting.png", "--output", "a.png") == 0
    files = record.read("a.png")["files"]
    assert files["model.weights"] == {"path": str(tmp_path / "narrow.pth"), "sha256": digest("narrow.pth")}
    assert files["model.init"]["sha256"] == digest("painting.png")
    assert weights.file("compact") == weights.file("auto") == weights.COMPACT  # nothing is in the cache
    cached = weights.file("vgg19")
    assert cached is not None
    cached.parent.mkdir(parents=True)
    cached.touch()
    assert weights.file("auto") == cached


def test_a_changed_file_is_named_in_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    assert fit("--output", "a.png") == 0
    draw(Path("photo.png"), seed=9)
    capfd.readouterr()
    assert run("--config", "a.png") == 0
    out = capfd.readouterr().out
    assert out.count("\n") == 1
    assert "photo.png (--data.content) has changed since that picture was made: the result will differ" in out
    # another file in its place is the user's own wish
    draw(Path("other.png"), seed=9)
    assert run("--config", "a.png", "--data.content", "other.png") == 0
    assert capfd.readouterr().out == ""
    Path("photo.png").unlink()
    assert run("--config", "a.png") == 2
    assert "Expected --data.content to be a picture file, but" in capfd.readouterr().err


def test_other_versions_are_named() -> None:
    now = record.make({}, {}, "vgg16")
    assert record.differences(now, now) == []
    before = {**now, "versions": {**now["versions"], "torch": "1.0"}}
    (line,) = record.differences(before, now)
    assert line == f"That picture was made with torch 1.0 (now {torch.__version__}): the result may differ"


def test_what_holds_no_settings_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    assert run("--config", "photo.png") == 2
    assert "--config to be a picture that nst fit made, which holds its settings, but photo.png holds none" in (
        capfd.readouterr().err
    )
    assert run("--config", "none.png") == 2
    assert "Expected --config to be a file, but none.png does not exist" in capfd.readouterr().err
    images.save(torch.zeros(1, 3, 8, 8), "odd.png", metadata="{")
    Path("text.png").write_text("no picture")
    for name in ("odd.png", "text.png"):
        with pytest.raises(InputError, match=f"{name} holds none"):
            record.read(name)


def test_export_and_stopped_runs_know_too() -> None:
    assert fit("--trainer.max_steps", "2", "--checkpoints.every_n_steps", "1", "--output", "a.png") == 0
    made = record.read("a.png")
    assert (made["steps"], made["complete"]) == (2, False)
    (folder,) = Path("lightning_logs").iterdir()
    assert main(["export", "--ckpt_path", str(folder / "checkpoints" / "last.ckpt"), "--output", "b.tif"]) == 0
    assert record.read("b.tif") == made == record.read(folder / "result.png")


def test_records_are_plain_text_whatever_the_names(tmp_path: Path) -> None:
    name = "Müller’s 画.png"
    text = record.dump(record.make({"data": {"content": name}}, {"data.content": draw(tmp_path / name)}, "x"), 1, True)
    assert text.isascii()
    assert yaml.safe_load(text)["files"]["data.content"]["path"].endswith(name)
    for suffix in SUFFIXES:
        images.save(torch.zeros(1, 3, 8, 8), f"a{suffix}", metadata=text)
        assert read_metadata(f"a{suffix}") == text


def test_a_record_too_long_for_jpeg_is_left_out_and_the_picture_is_kept() -> None:
    for suffix in (".jpg", ".png", ".webp", ".tif"):
        images.save(torch.zeros(1, 3, 8, 8), f"a{suffix}", metadata="x" * 100_000)
        assert images.load(f"a{suffix}").width == 8
        assert read_metadata(f"a{suffix}") == (None if suffix == ".jpg" else "x" * 100_000)


def test_metadata_changes_no_pixel(tmp_path: Path) -> None:
    ramp = torch.linspace(0, 1, 64).expand(1, 3, 4, 64)
    for suffix in SUFFIXES:
        images.save(ramp, f"a{suffix}")
        images.save(ramp, f"b{suffix}", metadata="text")
        assert read_metadata(f"a{suffix}") is None
        np.testing.assert_array_equal(images.load(f"a{suffix}").rgb, images.load(f"b{suffix}").rgb)
