"""The figures of one machine in less than ten minutes, in the form in which a user can send them.

    python -m benchmarks.all --json > machine.json

Steps against a plain loop, the Trainer against a loop, time and memory against the size, and two whole commands with
the sample pictures, from the call to the picture. Each is a process of its own, one after another; nothing else should
run. A machine without AVX512 takes the longest, about seven minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import machine

BENCHMARKS = {
    "step, VGG19, 512 px": ["step", "--size", "512", "--rounds", "1", "--steps", "8"],
    "step, VGG19, 256 px": ["step", "--size", "256", "--rounds", "1"],
    "step, compact, 128 px": ["step", "--size", "128", "--backbone", "compact", "--rounds", "1", "--steps", "40"],
    "trainer, VGG16, 256 px": ["trainer_overhead", "--rounds", "3"],
    "scale, VGG19": ["scale", "--sizes", "256", "512", "1024", "--steps", "3"],
}
"""Benchmarks by the name of their figures, each with its options."""

COMMANDS = {"first picture": ["--config", "starry"], "quick picture": ["--config", "quick"]}
"""Whole commands by the name of their figures."""


def measured(options: list[str]) -> Any:
    """Runs a benchmark and returns its figures."""
    command = [sys.executable, "-m", f"benchmarks.{options[0]}", *options[1:], "--json"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(output.splitlines()[-1])


def seconds(options: list[str]) -> float:
    """Returns the seconds of a command, from the call to the picture."""
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "picture.png"
        words = ["fit", *options, "--model.backbone", "compact", "--output", str(picture)]
        start = time.perf_counter()
        command = [sys.executable, "-m", "nst", *words, "--trainer.default_root_dir", folder]
        subprocess.run(command, check=True, capture_output=True)
        assert picture.exists()
        return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="words, one of which a figure's name has to have", nargs="+")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    report: dict[str, Any] = {"machine": machine.described()}
    if not options.json:
        print(", ".join(f"{key} {value}" for key, value in report["machine"].items()))
    for name, words in (BENCHMARKS | COMMANDS).items():
        if options.only and not any(word in name for word in options.only):
            continue
        report[name] = measured(words) if name in BENCHMARKS else {"seconds": seconds(words)}
        if not options.json:
            print(f"{name}: {json.dumps(report[name])}", flush=True)
    if options.json:
        print(json.dumps(report))


if __name__ == "__main__":
    main()
