"""The queue, with workers that only say that they paint."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from nst.studio import queue as queue_module
from nst.studio.asked import Limits, Order
from nst.studio.folder import Folder
from nst.studio.queue import Queue
from nst.studio.run import POINTS, Run


def state(step: int) -> dict[str, Any]:
    losses = {"total": 1.0 / step}
    return {"kind": "state", "state": "painting", "step": step, "left": 3.0, "losses": losses, "preview": b"jpeg"}


def pretend(pipe: Connection) -> None:
    """A worker that does what its order says: how many steps of a hundredth of a second it makes."""
    order = pipe.recv()
    (word,) = order.args
    if word == "hang":
        time.sleep(600)
    pipe.send({"kind": "begun"})
    if word == "hang after it began":
        time.sleep(600)
    if word == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if word == "fail":
        pipe.send({"kind": "failed", "message": f"Expected {order.folder}/content.png to be good"})
        return
    for step in range(1, int(word) + 1):
        time.sleep(0.01)
        pipe.send(state(step))
        if pipe.poll():
            change = pipe.recv()["change"]
            pipe.send({"kind": "changed", "change": {"step": step, **change}})
            if change.get("end") == "now":
                pipe.send({"kind": "done", "steps": step, "complete": False})
                return
    pipe.send({"kind": "done", "steps": int(word), "complete": True})


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "files", 3600, 10**9)


Start = Callable[..., Queue]


@pytest.fixture
def start(folder: Folder) -> Iterator[Start]:
    made: list[Queue] = []

    def starting(devices: int = 1, **limits: Any) -> Queue:
        made.append(Queue(pretend, [[] for _ in range(devices)], folder, Limits(**limits)))
        made[-1].start()
        return made[-1]

    yield starting
    for queue in made:
        queue.close()


def submit(queue: Queue, word: str, pinned: bool = True) -> Run:
    place = queue.folder.new_run()
    run = Run(place.name, Order((word,), place), word, (), 100.0, {"style_weight": 1.0}, pinned)
    queue.submit(run)
    return run


def until(done: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_runs_are_made_in_turn_each_in_a_process_of_its_own(start: Start) -> None:
    queue = start()
    first, second, third = submit(queue, "30"), submit(queue, "3"), submit(queue, "3")
    until(lambda: first.state == "painting")
    assert (queue.place(second), queue.place(third)) == (0, 1) and queue.counts()["waiting"] == 2
    before = queue.processes[0].pid
    until(lambda: third.over)
    assert [x.state for x in (first, second, third)] == ["done"] * 3
    assert first.ended is not None and second.begun is not None and first.ended <= second.begun
    until(lambda: queue.processes[0].pid != before)
    assert first.curve[-1] == (30, {"total": 1 / 30}) and first.preview == b"jpeg"


def test_a_run_is_steered_and_stopped(start: Start) -> None:
    queue = start()
    run = submit(queue, "100000")
    until(lambda: run.curve)
    run.change(style_weight=2.0)
    until(lambda: run.changes)
    assert run.steered["style_weight"] == 2.0
    queue.stop(run)
    until(lambda: run.over)
    assert run.state == "stopped" and run.changes[-1]["end"] == "now" and run.message == ""


def test_a_run_that_waits_is_taken_out(start: Start) -> None:
    queue = start()
    busy, run = submit(queue, "100000"), submit(queue, "1")
    until(lambda: busy.state == "painting")
    queue.stop(run)
    assert run.state == "stopped" and queue.counts()["waiting"] == 0
    queue.stop(busy)
    until(lambda: busy.over)


def test_the_death_of_a_process_and_a_failure_are_messages(start: Start) -> None:
    queue = start()
    died, failed, fine = submit(queue, "die"), submit(queue, "fail"), submit(queue, "2")
    until(lambda: fine.over)
    assert died.state == "failed" and "it ended (signal 9)" in died.message
    assert failed.state == "failed" and failed.message == "Expected content.png to be good"
    assert fine.state == "done"


def test_a_process_that_dies_while_it_waits_is_replaced(start: Start) -> None:
    queue = start()
    until(lambda: 0 in queue.processes)
    time.sleep(0.5)
    os.kill(queue.processes[0].pid or 0, signal.SIGKILL)
    until(lambda: not queue.processes[0].is_alive())
    run = submit(queue, "2")
    until(lambda: run.over)
    assert run.state == "done"


def test_who_is_not_watched_ends_unless_pinned(start: Start) -> None:
    queue = start(alone=0.5)
    watched, waiting = submit(queue, "100000", pinned=False), submit(queue, "100000", pinned=False)
    until(lambda: queue.find(watched.token) and waiting.over)
    assert waiting.message == "Its page was closed."
    assert not watched.over
    until(lambda: watched.over)
    assert watched.state == "stopped" and watched.message == "Stopped, as its page was closed."
    pinned = submit(queue, "150")
    until(lambda: pinned.over)
    assert pinned.state == "done"


def test_a_run_has_its_time(start: Start) -> None:
    queue = start(time=0.5)
    run = submit(queue, "100000")
    until(lambda: run.over)
    assert run.state == "stopped" and "the most that --studio.max_time allows" in run.message


@pytest.mark.parametrize("word", ["hang", "hang after it began"])
def test_a_process_that_hangs_is_ended_and_the_next_run_works(
    start: Start, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    monkeypatch.setattr(queue_module, "GRACE", 0.5)
    queue = start(time=1)
    hangs, next_one = submit(queue, word), submit(queue, "2")
    until(lambda: hangs.over and next_one.over)
    assert (hangs.state, next_one.state) == ("failed", "done")
    assert "made no step for long after 1 s (--studio.max_time)" in hangs.message


def test_the_queue_is_bounded(start: Start) -> None:
    queue = start(queue=1)
    busy = submit(queue, "100000")
    until(lambda: busy.state == "painting")
    submit(queue, "1")
    with pytest.raises(ValueError, match=r"1 wait already, the most that --studio.queue allows"):
        submit(queue, "1")


def test_time_is_expected_from_the_runs_before(start: Start) -> None:
    queue = start()
    run = submit(queue, "1")
    assert queue.expected(run) is None
    until(lambda: run.over and queue.rate)
    busy = submit(queue, "100000")
    until(lambda: busy.curve)
    assert queue.expected(busy) == 3.0
    later = submit(queue, "1")
    queue.rate = 0.1  # seconds for a unit of cost: runs have 100
    assert queue.expected(later) == pytest.approx(13.0)


def test_two_devices_work_at_once(start: Start) -> None:
    queue = start(devices=2)
    one, two = submit(queue, "100000"), submit(queue, "100000")
    until(lambda: one.state == two.state == "painting")
    assert queue.counts() == {"waiting": 0, "painting": 2, "processes": 2}


def test_runs_whose_files_are_cleaned_away_are_forgotten(start: Start, folder: Folder) -> None:
    queue = start()
    folder.max_bytes = 10
    first = submit(queue, "1")
    (first.order.folder / "picture.png").write_bytes(b"x" * 100)
    until(lambda: first.over)
    until(lambda: first.token not in queue.runs)


def test_a_long_curve_is_thinned_out(folder: Folder) -> None:
    run = Run("x", Order((), folder.root), "x", (), 1.0, {})
    for step in range(1, 10 * POINTS):
        run.hear(state(step))
    assert len(run.curve) <= POINTS and run.curve[0][0] == 1 and run.curve[-1][0] > 9 * POINTS
