"""What the studio costs: a run that is looked at against one that is not, and its memory over many pictures.

    python -m benchmarks.studio live --size 512
    python -m benchmarks.studio queue --clients 10 --pictures 20

`live` makes the same steps with and without the live view, in turns, and reports the medians of the seconds per step
and the median of the ratios. `queue` has clients ask for pictures at once, and reports the memory of this process
and of the one that waits for the next run, after the first picture and after the last. Nothing else should run.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.trainer_overhead import Clock
from nst.cli.settings import JobCLI
from nst.cli.studio.command import Words, paint
from nst.machine.quiet import quiet_libraries
from nst.studio.asked import Limits, Wish
from nst.studio.folder import Folder
from nst.studio.orders import Orders
from nst.studio.queue import Queue
from nst.studio.worker import Live


def seconds_per_step(size: int, steps: int, live: bool) -> float:
    """Makes the steps of one level of the usual preset."""
    settings = [f"--data.size={size}", f"--data.min_size={size}", f"--data.steps={steps}", "--model.backbone=compact"]
    ours, theirs = multiprocessing.Pipe()
    threading.Thread(target=_drain, args=(ours,), daemon=True).start()
    clock = Clock()
    with quiet_libraries():
        job = JobCLI(["--config", "starry", *settings], "nst fit", "")
        job.begin()
        callbacks: Any = job.trainer.callbacks  # type: ignore[attr-defined]  # the Trainer has them
        callbacks += [*([Live((), theirs)] if live else []), clock]
        job.trainer.fit(job.model, datamodule=job.datamodule)
    theirs.close()
    return clock.seconds_per_step


def _drain(pipe: Any) -> None:
    try:
        while True:
            pipe.recv()
    except (EOFError, OSError):
        return


def live(size: int, steps: int, rounds: int) -> dict[str, Any]:
    """Returns the seconds per step without and with the live view, and their ratio."""
    times: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(rounds + 1):
        for looked in times:
            times[looked].append(seconds_per_step(size, steps, looked))
    plain, looked_at = (statistics.median(times[x][1:]) for x in (False, True))
    ratio = statistics.median(b / a for a, b in zip(times[False][1:], times[True][1:], strict=True))
    return {"size": size, "plain": plain, "live": looked_at, "ratio": ratio}


def queue(clients: int, pictures: int, size: int) -> dict[str, Any]:
    """Returns how many pictures were made, and the bytes in use after the first and after the last."""
    with tempfile.TemporaryDirectory() as place, quiet_libraries():
        limits = Limits(queue=pictures)
        folder = Folder(Path(place), 86400, 10**12)
        orders, waiting = Orders(Words(), folder, limits), Queue(paint, [[]], folder, limits)
        waiting.start()
        settings = {"data.size": size, "data.steps": [20]}
        runs = [orders.run(Wish("quick", settings, pinned=True))]
        waiting.submit(runs[0])
        _wait(runs)
        first = memory(waiting)
        runs += [orders.run(Wish("quick", settings, pinned=True)) for _ in range(pictures - 1)]
        shares = [runs[1 + i :: clients] for i in range(clients)]
        threads = [threading.Thread(target=lambda x=x: [*map(waiting.submit, x)]) for x in shares]
        for thread in threads:
            thread.start()
        _wait(runs)
        last = memory(waiting)
        waiting.close()
    made = sum(run.state == "done" for run in runs)
    return {"pictures": pictures, "made": made, "first": first, "last": last, "ratio": last / first}


def _wait(runs: list[Any]) -> None:
    while not all(run.over for run in runs):
        time.sleep(0.2)


def memory(waiting: Queue) -> int:
    """Returns the resident bytes of this process and of the one that waits for the next run, once they stay."""
    before, now = 0, 1
    while now != before:
        time.sleep(10)
        names = ["self", *(str(process.pid) for process in waiting.processes.values())]
        lines = [line for name in names for line in Path(f"/proc/{name}/status").read_text().splitlines()]
        before, now = now, sum(int(line.split()[1]) << 10 for line in lines if line.startswith("VmRSS"))
    return now


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["live", "queue"])
    parser.add_argument("--size", type=int)
    parser.add_argument("--steps", type=int, default=20, help="steps in a round")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count, after one that does not")
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--pictures", type=int, default=20)
    options = parser.parse_args()
    if options.what == "live":
        report = live(options.size or 512, options.steps, options.rounds)
    else:
        report = queue(options.clients, options.pictures, options.size or 96)
    print(json.dumps(report | {"machine": machine.described()}))


if __name__ == "__main__":
    main()
