"""Photographs and pictures on other file systems."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from nst.cli.main import main
from nst.cli.settings import job_settings
from nst.errors import InputError
from nst.many import remote
from nst.many.jobs import Job, JobRunner
from nst.pictures import images
from nst.run import record
from tests.helpers import TINY, Cut, cut_short, draw

fsspec = pytest.importorskip("fsspec", reason="fsspec, of the extra `cluster`, is not installed")

SETTINGS = [*TINY, "--data.size", "40", "--trainer.accelerator", "cpu", "--data.steps", "2"]


@pytest.fixture(autouse=True)
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A file system in memory with two photographs and a painting."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    system = fsspec.filesystem("memory")
    for seed, name in enumerate(("photos/a.png", "photos/b.png", "painting.png")):
        system.pipe_file(f"/bucket/{name}", draw(tmp_path / "x.png", (48, 40), seed).read_bytes())
    (tmp_path / "x.png").unlink()
    yield system
    system.rm("/bucket", recursive=True)


def batch(*options: str, content: str = "memory://bucket/photos/*.png", output: str = "memory://bucket/out") -> int:
    words = [*SETTINGS, "--data.content", content, "--data.style", "memory://bucket/painting.png"]
    return main(["batch", *words, "--output", output, *options])


def test_pictures_are_made_sent_and_skipped(bucket: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert batch() == 0
    out = capsys.readouterr().out
    assert "1/2  made     memory:///bucket/photos/a.png: memory://bucket/out/a.png, " in out
    assert sorted(bucket.ls("/bucket/out", detail=False)) == ["/bucket/out/a.png", "/bucket/out/b.png"]
    Path("got.png").write_bytes(bucket.cat_file("/bucket/out/a.png"))
    painting = draw(tmp_path / "painting.png", (48, 40), 2)
    photo = draw(tmp_path / "photo.png", (48, 40), 0)
    words = ["--data.content", str(photo), "--data.style", str(painting), "--output", "one.png"]
    assert main(["fit", *SETTINGS, "--trainer.enable_progress_bar", "false", *words]) == 0
    hashes = [sorted(x["sha256"] for x in record.read(path)["files"].values()) for path in ("got.png", "one.png")]
    assert hashes[0] == hashes[1]
    assert torch.equal(images.load("got.png").rgb, images.load("one.png").rgb)
    capsys.readouterr()

    assert batch() == 0
    assert "2 pictures: 0 made, 2 skipped, 0 failed" in capsys.readouterr().out
    bucket.rm_file("/bucket/out/b.png")  # whoever removes a picture wants it again, though there is a copy here
    assert batch() == 0
    assert "2 pictures: 1 made, 1 skipped, 0 failed" in capsys.readouterr().out
    bucket.pipe_file("/bucket/photos/a.png", photo.read_bytes() + b" ")  # another file under the same address
    assert batch() == 0
    assert "2 pictures: 1 made, 1 skipped, 0 failed" in capsys.readouterr().out


def test_a_picture_goes_on_elsewhere_from_the_checkpoint_beside_it(bucket: Any, tmp_path: Path) -> None:
    address = "memory://bucket/out/a.png"
    job = Job("a", ["--data.content=memory://bucket/photos/a.png"], remote.place(address), address)
    style = ["--data.style", "memory://bucket/painting.png", "--checkpoints.every_n_steps", "2"]
    args = [*SETTINGS, *style, "--data.steps", "6"]
    runner = JobRunner(job_settings(args), keeps=True)
    settings = cut_short(runner.settings(job.options), 5)
    remote.follow(address, "output")
    with pytest.raises(Cut):
        runner.make(settings, job.output, address)
    assert bucket.ls("/bucket/out", detail=False) == ["/bucket/out/.a.png.ckpt"]
    for path in (tmp_path / "cache").rglob("*"):  # another machine has no copies
        path.unlink() if path.is_file() else None
    other = JobRunner(job_settings(args), keeps=True)
    assert other.outcome(job).line.endswith("gone on from step 4")
    assert bucket.ls("/bucket/out", detail=False) == [f"/bucket/out/{Path(address).name}"]
    assert other.outcome(job).kind == "skipped"


def test_copies_follow_their_files_and_lie_where_a_name_cannot_lead_out(bucket: Any, tmp_path: Path) -> None:
    first = remote.copy("memory://bucket/painting.png", "data.style")
    written = first.stat().st_mtime_ns
    assert remote.copy("memory://bucket/painting.png", "data.style").stat().st_mtime_ns == written
    bucket.pipe_file("/bucket/painting.png", b"another")
    assert remote.copy("memory://bucket/painting.png", "data.style").read_bytes() == b"another"
    cache = tmp_path / "cache" / "nst" / "remote"
    for address in ("s3://b/..", "s3://b/.", "s3://b/", "s3://../../x/../y", "s3://b/a/../../../.bashrc"):
        assert remote._copied(address).resolve().parent.parent == cache
    a, b, c = (remote.place(f"memory://{x}") for x in ("x/a.png", "/x/.a.png.ckpt", "y/a.png"))
    assert a.parent == b.parent != c.parent and a.name == "a.png"


def test_options_of_the_data_alone_are_fetched(tmp_path: Path) -> None:
    address = "memory://bucket/painting.png"
    copy = str(remote.place(address))
    words = ["--data.style", address, f"--data.style+={address}", "--trainer.logger", "s3://b", "--model.init=s3://b"]
    assert remote.fetched(words) == ["--data.style", copy, f"--data.style+={copy}", *words[3:]]
    assert [remote.is_address(x) for x in ("a/b.png", "sample:coffee", "C:/x", "s3://b/x", "://x")] == [
        *[False] * 3,
        *[True, False],
    ]


def test_another_local_path_is_an_address_too(tmp_path: Path) -> None:
    draw(tmp_path / "photo.png", (48, 40), 7)
    assert batch(content=f"file://{tmp_path}/photo.png", output=f"file://{tmp_path}/there") == 0
    assert record.read(tmp_path / "there" / "photo.png")["complete"]
    assert [x.name for x in (tmp_path / "there").iterdir()] == ["photo.png"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("memory://bucket/none/*.png", "Expected --data.content to match photographs, but memory://bucket/none/*.png"),
        ("memory://bucket/a::file:///etc/*", "Expected --data.content to be an address without ::, but got memory://"),
        ("nowhere://bucket/*.png", "Expected --data.content to be an address that can be reached, but got nowhere://"),
    ],
)
def test_addresses_without_files_are_told(content: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert batch(content=content) == 2
    err = capsys.readouterr().err
    assert told in err and err.count("\n") == 1


def test_a_picture_is_not_sent_over_its_photograph(capsys: pytest.CaptureFixture[str]) -> None:
    assert batch(output="memory://bucket/photos") == 2
    assert "Expected --output not to overwrite what the picture is made of" in capsys.readouterr().err


def test_without_fsspec_it_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "fsspec.core", None)
    with pytest.raises(InputError, match=r"fsspec to be installed.*'nst\[cluster\]'"):
        remote.expanded("s3://b/*.png", "data.content")
