"""Steps of one picture by 1, 2, 4 processes of this machine: time, memory and communication of each.

    python -m benchmarks.distributed --sizes 1024 4096 --counts 1 2 --backbone vgg19

Each process is one of `nst fit --trainer.devices N`, without the Trainer: the objective, its gradient and an Adam
step. Processes share the machine's cores, one of two with half of the threads each; with `--weak`, each has as many
rows as one process has alone. Reported are the median time of a step after a burn-in, over that of one process with
all threads in the same round; the peak memory of a process beyond loading torch; and of a step, the seconds and the
bytes that a process spends in collective calls, in which it waits for the slowest as well.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from benchmarks import machine
from benchmarks.step import CONTENT, LOADED, STYLE, peak_memory, pictures

COLLECTIVES = ("all_reduce", "broadcast", "all_gather", "batch_isend_irecv")


class Traffic:
    """Counts the seconds and the bytes of torch's collectives."""

    def __init__(self) -> None:
        self.seconds, self.bytes = 0.0, 0

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Counts within the context."""
        before = {name: getattr(dist, name) for name in COLLECTIVES}
        for name, function in before.items():
            setattr(dist, name, self._timed(name, function))
        yield
        for name, function in before.items():
            setattr(dist, name, function)

    def _timed(self, name: str, function: Any) -> Any:
        def call(given: Any, *rest: Any, **settings: Any) -> Any:
            start = time.perf_counter()
            result = function(given, *rest, **settings)
            if name == "batch_isend_irecv":
                for work in result:
                    work.wait()
                result = []  # as gloo waits for ever for what has been waited for
                self.bytes += sum(x.tensor.nbytes for x in given if x.op is dist.isend)
            elif isinstance(given, Tensor):
                self.bytes += given.nbytes
            self.seconds += time.perf_counter() - start
            return result

        return call


def steps(rank: int, count: int, folder: str, options: dict[str, Any]) -> None:
    """Takes steps as one of some processes and writes what they took."""
    from collections import deque

    from nst.distributed.processes import ALONE, Processes
    from nst.losses.objective import Objective
    from nst.losses.terms.standard import standard_terms
    from nst.network import weights
    from nst.network.features import Features
    from nst.optimise.targets import LevelScan
    from nst.scene.levels import Level, Painting, Place
    from nst.streaming.scanner import scanner_for

    torch.set_num_threads(max(1, options["threads"] // count))
    if count > 1:
        dist.init_process_group("gloo", f"file://{folder}/meet{count}", timedelta(hours=1), count, rank)
    processes = Processes(rank, count, count) if count > 1 else ALONE
    height = options["size"] * (count if options["weak"] else 1)
    content = pictures(options["size"], "cpu")[0].repeat(1, 1, height // options["size"], 1)
    objective = Objective(standard_terms({CONTENT: 1.0}, dict.fromkeys(STYLE, 1.0)))
    source: Any = "imagenet" if options["backbone"] == "compact" else "random:0"
    features = Features(weights.load(options["backbone"], source), objective.layers)
    picture = content.clone().requires_grad_()
    optimizer = torch.optim.Adam([picture], lr=0.02)
    context = torch.autocast("cpu", torch.bfloat16, enabled=options["precision"] == "bf16")
    traffic, times = Traffic(), []
    with context, traffic.counted():
        scanner = scanner_for(features, objective, optimizer, picture, 1, options["streaming"], processes=processes)
        style = pictures(min(1024, options["size"]), "cpu")[1]
        level = Level(0, 1, content, (Place((Painting(style),)),))
        objective.set_targets(level, LevelScan(features, scanner, 0, deque()))
        del content, level
        for i in range(options["steps"]):
            if i == options["burn_in"]:
                traffic.seconds, traffic.bytes = 0.0, 0
            start = time.perf_counter()
            optimizer.zero_grad()
            objective.total(objective.values(scanner.statistics(picture, objective), picture)).backward()
            optimizer.step()
            times.append(time.perf_counter() - start)
        rows = scanner.plan(picture).rows
    made = options["steps"] - options["burn_in"]
    found = {
        "seconds": statistics.median(times[options["burn_in"] :]),
        "memory": (peak_memory() - LOADED) * 1024,
        "waiting": traffic.seconds / made,
        "sent": traffic.bytes / made,
        "rows": list(rows),
    }
    (Path(folder) / f"{rank}.json").write_text(json.dumps(found))
    if count > 1:
        dist.destroy_process_group()


def measured(count: int, options: dict[str, Any]) -> dict[str, Any]:
    """Returns the figures of the slowest, or the largest, of some processes."""
    with tempfile.TemporaryDirectory() as folder:
        spawn(steps, (count, folder, options), nprocs=count)
        found = [json.loads((Path(folder) / f"{rank}.json").read_text()) for rank in range(count)]
    return {
        "processes": count,
        "size": options["size"],
        **{key: max(row[key] for row in found) for key in ("seconds", "memory", "waiting", "sent", "rows")},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 1024])
    parser.add_argument("--counts", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--backbone", default="vgg19", choices=["vgg19", "vgg16", "compact"])
    parser.add_argument("--precision", default="bf16", choices=["bf16", "float32"])
    parser.add_argument("--streaming", default="auto", choices=["auto", "on", "off"])
    parser.add_argument("--rounds", type=int, default=3, help="in which each number of processes has its turn")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--burn-in", type=int, default=2)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of all processes together")
    parser.add_argument("--weak", action="store_true", help="as many rows for each process as one has alone")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.steps <= options.burn_in:
        parser.error(f"--steps has to be more than --burn-in {options.burn_in}, not {options.steps}")
    report: dict[str, Any] = {"machine": machine.described(), "rows": []}
    if not options.json:
        print(", ".join(f"{key} {value}" for key, value in report["machine"].items()))
        print("| size | processes | s/step | over one | MiB a process | over one | s in collectives | MiB sent |")
        print("|---|---|---|---|---|---|---|---|")
    for size in options.sizes:
        # in turns, as the speed of a machine that others use changes by the minute
        rounds = [
            [measured(count, {**vars(options), "size": size}) for count in options.counts]
            for _ in range(options.rounds)
        ]
        for of_one_count in zip(*rounds, strict=True):
            row = {key: statistics.median(x[key] for x in of_one_count) for key in of_one_count[0] if key != "rows"}
            for key in ("seconds", "memory"):
                row[f"{key}_over_one"] = statistics.median(
                    x[key] / first[0][key] for x, first in zip(of_one_count, rounds, strict=True)
                )
            report["rows"].append(row)
            if not options.json:
                print(
                    f"| {size} | {row['processes']} | {row['seconds']:.3f} | {row['seconds_over_one']:.2f} | "
                    f"{row['memory'] / 2**20:.0f} | {row['memory_over_one']:.2f} | {row['waiting']:.3f} | "
                    f"{row['sent'] / 2**20:.1f} |",
                    flush=True,
                )
    if options.json:
        print(json.dumps(report))


if __name__ == "__main__":
    main()
