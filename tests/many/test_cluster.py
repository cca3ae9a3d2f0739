"""Many pictures by Ray: the same as one after another, also where workers and machines are lost."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from nst.cli.batch import job_runner
from nst.cli.main import main
from nst.cli.settings import job_settings
from nst.errors import InputError
from nst.many.cluster import Cluster
from nst.many.jobs import Job, JobRunner, Unfinished
from nst.pictures import images
from nst.run import record
from tests.helpers import Cut, cut_short, draw

ray = pytest.importorskip("ray", reason="Ray, of the extra `cluster`, is not installed")

SETTINGS = ["--config", "{}", "--model.backbone", "compact", "--model.convolution", "direct", "--data.size", "64"]
SETTINGS += ["--data.style", "painting.png", "--trainer.precision", "32-true", "--checkpoints.every_n_steps", "5"]
SETTINGS += ["--trainer.accelerator", "cpu"]
LOST = "lost.png"


def photographs(count: int) -> list[Path]:
    draw(Path("painting.png"), (44, 52), seed=99)
    Path("photos").mkdir(exist_ok=True)
    return [draw(Path(f"photos/{i:02}.png"), seed=i) for i in range(count)]


def jobs_of(paths: Sequence[Path]) -> list[Job]:
    Path("out").mkdir(exist_ok=True)
    return [Job(str(path), [f"--data.content={path}"], Path("out") / path.name) for path in paths]


def deadly_runner(args: Sequence[str]) -> JobRunner:
    """A runner whose worker ends when it makes a certain photograph's picture."""
    make = job_settings(args)

    def settings(options: Sequence[str]) -> Any:
        if any(LOST in option for option in options):
            with open("deaths.txt", "a", encoding="utf-8") as file:
                file.write("x")
            os.kill(os.getpid(), signal.SIGKILL)
        return make(options)

    return JobRunner(settings, keeps=True)


def telling_runner(args: Sequence[str]) -> JobRunner:
    """A runner that fails with what there is to know of the worker, after a notice."""

    def settings(options: Sequence[str]) -> Any:
        logging.getLogger("nst").info("this is said once")
        raise RuntimeError(f"worker {os.getpid()} has {torch.get_num_threads()} threads")

    return JobRunner(settings, keeps=True)


@pytest.fixture
def machines() -> Iterator[Any]:
    """A cluster of three machines, as processes of this one."""
    from ray.cluster_utils import Cluster as Machines

    tests = {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", tests["PYTHONPATH"])  # of workers, which import this module
        found = Machines()
        for _ in range(3):
            found.add_node(num_cpus=1, object_store_memory=80 << 20, include_dashboard=False)
        ray.init(address=found.address, log_to_driver=False)
        yield found
        ray.shutdown()
        found.shutdown()


def lose(machines: Any, node: Any) -> None:
    """Ends a machine with all that runs on it: its workers alone would finish what they make."""
    raylet = node.all_processes["raylet"][0].process.pid
    tasks = Path(f"/proc/{raylet}/task").glob("*/children")
    workers = [int(pid) for task in tasks for pid in task.read_text().split()]
    machines.remove_node(node, allow_graceful=False)
    for pid in workers:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
def test_a_machine_is_lost_and_its_pictures_are_gone_on_with_elsewhere(machines: Any) -> None:
    jobs = jobs_of(photographs(12))
    args = [*SETTINGS, "--data.steps", "60"]
    unfinished: list[str] = []

    def remove() -> None:
        while len(list(Path("out").glob("*.png"))) < 2 or len(list(Path("out").glob(".*.ckpt"))) < 3:
            time.sleep(0.02)
        unfinished.extend(path.name for path in Path("out").glob(".*.ckpt"))
        lose(machines, sorted(machines.worker_nodes, key=str)[-1])

    threading.Thread(target=remove, daemon=True).start()
    found = list(Cluster("auto").outcomes(jobs, job_runner, args))
    assert sorted(job.name for job, _ in found) == sorted(job.name for job in jobs)
    assert [outcome.line for _, outcome in found if outcome.kind != "made"] == []
    records = {job.output.name: record.read(job.output) for job in jobs}
    resumed = {name: x["resumed"] for name, x in records.items() if "resumed" in x}
    assert 1 <= len(resumed) <= 3 and all(0 < step < 60 and step % 5 == 0 for step in resumed.values())
    assert {f".{name}.ckpt" for name in resumed} <= {*unfinished}
    assert all(x["steps"] == 60 and x["complete"] for x in records.values())
    assert not list(Path("out").glob(".*"))
    # a picture that was gone on with is the picture that one process makes
    name, threads = next(iter(resumed)), torch.get_num_threads()
    torch.set_num_threads(1)  # as Ray gives to a worker
    JobRunner(job_settings(args)).make(job_settings(args)([f"--data.content=photos/{name}"]), Path("alone.png"))
    torch.set_num_threads(threads)
    assert torch.equal(images.load("alone.png").rgb, images.load(f"out/{name}").rgb)


@pytest.mark.slow
@pytest.mark.parametrize("gpus", [0.0, 1.0])
def test_a_worker_keeps_its_network_and_has_the_threads_of_its_cores(
    gpus: float, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.setenv("OMP_NUM_THREADS", "2")  # as the command has it, for all cores
    handler = signal.getsignal(signal.SIGTERM)
    ray.init(num_cpus=1, num_gpus=1, include_dashboard=False, log_to_driver=False, object_store_memory=80 << 20)
    signal.signal(signal.SIGTERM, handler)
    try:
        with caplog.at_level(logging.INFO, "nst"):
            found = list(Cluster("auto", gpus=gpus).outcomes(jobs_of(photographs(3)), telling_runner, []))
    finally:
        ray.shutdown()
    lines = {outcome.line.partition(": ")[2] for _, outcome in found}
    assert len(lines) == 1 and lines.pop().endswith(" has 1 threads")
    assert caplog.messages.count("this is said once") == 1


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="this system has no SIGTERM to another process")
def test_sigterm_ends_it_as_it_ends_every_command(tmp_path: Path) -> None:
    photographs(1)
    words = [*SETTINGS, "--data.steps", "100000", "--data.content", "photos/*.png", "--output", "out"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "nst", "batch", *words, "--cluster", "local"]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    while not list(Path("out").glob(".*.ckpt")) and process.poll() is None:
        time.sleep(0.1)
    process.terminate()
    assert (process.communicate()[1], process.returncode) == ("nst: stopped by SIGTERM\n", 143)


def test_what_this_machine_has_not_is_told_and_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"Alive": True, "Resources": {"CPU": 1.0, "GPU": 1.0}}
    monkeypatch.setattr(ray, "nodes", lambda: [there, there, {"Alive": False, "Resources": {"CPU": 64.0}}])
    assert Cluster("local", 0.1, 0.0)._places() == 20
    assert Cluster("local", 0.5, 1.0)._places() == 2
    assert Cluster("local", 2.0)._places() == 0  # one picture is not made by two machines
    with pytest.raises(InputError, match=r"this machine to have 2 cores \(--cluster.cpus\) and 0 GPUs .* give less"):
        Cluster("local", 2.0)._check_room()
    Cluster("auto", 2.0)._check_room()  # a cluster may grow


def test_the_longest_names_have_a_checkpoint_too() -> None:
    longest = Path(f"{'a' * 251}.png")
    longest.touch()
    file = Unfinished(longest, {}, 5).file
    file.touch()
    assert file != Unfinished(Path(f"{'b' * 251}.png"), {}, 5).file
    assert Unfinished(Path("out/a.png"), {}, 5).file == Path("out/.a.png.ckpt")


@pytest.mark.slow
def test_the_command_makes_skips_and_fails_as_without_a_cluster(capsys: pytest.CaptureFixture[str]) -> None:
    photographs(2)
    Path("photos/no.png").write_text("no picture")
    words = [*SETTINGS, "--data.steps", "3", "--data.content", "photos/*.png", "--output", "out", "--cluster", "local"]
    assert main(["batch", *words]) == 1
    first = capsys.readouterr().out
    assert "3 pictures: 2 made, 0 skipped, 1 failed" in first and "failed   photos/no.png: Expected" in first
    Path("photos/no.png").unlink()
    sweep = [*SETTINGS, "--data.steps", "3", "--data.content", "photos/00.png", "--output", "sheet.png"]
    assert main(["batch", *words]) == 0
    assert "2 pictures: 0 made, 2 skipped, 0 failed" in capsys.readouterr().out
    assert main(["sweep", *sweep, "--model.style_weight", "1,10", "--cluster", "local", "--cluster.cpus", "0.5"]) == 0
    assert "2 pictures: 2 made" in capsys.readouterr().out and Path("sheet.png").exists()


@pytest.mark.slow
def test_a_picture_that_ends_its_workers_is_told_and_the_others_are_made(machines: Any) -> None:
    paths = [*photographs(3), draw(Path("photos") / LOST)]
    found = {
        job.name: outcome
        for job, outcome in Cluster("auto").outcomes(jobs_of(paths), deadly_runner, [*SETTINGS, "--data.steps", "3"])
    }
    assert Path("deaths.txt").read_text() == "xxx"
    assert found.pop(str(paths[-1])).line.endswith("lost.png: the worker that made it was lost 3 times")
    assert [outcome.kind for outcome in found.values()] == ["made"] * 3


def test_a_stopped_batch_goes_on_from_its_checkpoints(pair: tuple[Path, Path]) -> None:
    args = [*SETTINGS, "--data.steps", "12"]
    job = Job("photo.png", ["--data.content=photo.png"], Path("out/photo.png"))
    Path("out").mkdir()
    runner = JobRunner(job_settings(args), keeps=True)
    settings = cut_short(runner.settings(job.options), 8)
    with pytest.raises(Cut):
        runner.make(settings, job.output)
    assert Path("out/.photo.png.ckpt").exists() and not job.output.exists()
    assert runner.outcome(job).line.endswith("gone on from step 5")
    assert record.read(job.output)["resumed"] == 5 and not Path("out/.photo.png.ckpt").exists()
    alone = JobRunner(job_settings(args))
    assert alone.make(alone.settings(job.options), Path("alone.png")) == 0
    assert torch.equal(images.load("alone.png").rgb, images.load(job.output).rgb)
    assert runner.outcome(job).kind == "skipped"
    # a checkpoint of other settings, or a damaged one, is no reason to fail
    Path("out/.photo.png.ckpt").write_text("damaged")
    job.output.unlink()
    assert runner.outcome(job).kind == "made" and "resumed" not in record.read(job.output)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--cluster", "nowhere:1"], "Expected --cluster to be `local`, or a cluster that can be reached"),
        (["--cluster", "local", "--cluster.cpus", "0"], "Expected --cluster.cpus to be above 0, but got 0"),
        (["--cluster", "local", "--cluster.gpus", "1.5"], "Expected --cluster.gpus to be 0 to 1, or a whole number"),
        (["--cluster.cpus", "2"], "Expected --cluster with --cluster.cpus, but it was not given"),
        (["--trainer.devices", "2"], "Expected --trainer.devices to be 1 for many pictures, but got 2"),
    ],
)
def test_wrong_clusters_are_told_in_one_line(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    photographs(1)
    assert main(["batch", *SETTINGS, "--data.content", "photos/*.png", "--output", "out", *words]) == 2
    err = capsys.readouterr().err
    assert told in err and err.count("\n") == 1


def test_without_ray_it_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"Ray to be installed for --cluster.*'nst\[cluster\]'"):
        Cluster("local")
