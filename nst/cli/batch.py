"""`nst batch`: a picture of each of many photographs, one after another in one process, or side by side."""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from nst.cli.explain import Parser
from nst.cli.settings import JobCLI, job_settings
from nst.errors import InputError
from nst.many import cluster, remote
from nst.many.jobs import Job, JobRunner, check_distinct
from nst.run.stopping import Stop
from nst.scene import samples

log = logging.getLogger(__name__)


def batch(args: Sequence[str], stop: Stop) -> int:
    """Makes a picture of each photograph with the same settings and one network load; skips pictures made already."""
    parser = Parser("nst batch", description=batch.__doc__, allow_abbrev=False, epilog="All flags of nst fit hold too.")
    parser.add_argument(
        "--data.content", nargs="+", required=True, help="Photographs: files, patterns, samples, addresses."
    )
    parser.add_argument("--output", required=True, help="A folder, or a pattern with {name}: 'out/{name}-starry.jpg'.")
    cluster.add_flags(parser)
    known, rest = parser.parse_known_args(list(args))
    machines = cluster.chosen(known)
    photographs = expanded(getattr(known, "data.content"))
    jobs = [job(x, known.output) for x in photographs]
    check_distinct(jobs)
    outcomes = machines.outcomes(jobs, job_runner, rest) if machines else None
    return 1 if JobRunner(JobCLI.maker(rest, stop)).work(jobs, outcomes) else 0


def job_runner(args: Sequence[str]) -> JobRunner:
    """Returns what makes pictures in a worker of a cluster, each from its checkpoint where it has one."""
    return JobRunner(job_settings(args), keeps=True)


def expanded(patterns: Sequence[str]) -> list[str]:
    """Returns the files and addresses that match patterns, and samples that are named, in order and each once.

    Raises:
        InputError: If a pattern matches nothing, or there is no such sample.
    """
    files: list[str] = []
    for pattern in patterns:
        if samples.is_name(pattern):
            samples.path(pattern)  # or an error that names those that there are
            files += [pattern] if pattern not in files else []
            continue
        if remote.is_address(pattern):
            names = remote.expanded(pattern, "data.content")
            files += [x for x in _matched(names, pattern) if x not in files]
            continue
        # an existing file with brackets in its name is not a pattern
        names = [pattern] if Path(pattern).is_file() else sorted(glob.glob(pattern, recursive=True))
        found = _matched([x for x in names if Path(x).is_file()], pattern)
        files += [x for x in found if x not in files]
    return files


def _matched(names: list[str], pattern: str) -> list[str]:
    if not names:
        raise InputError(
            f"Expected --data.content to match photographs, but {pattern} matches no file; change the pattern"
        )
    return names


def job(photograph: str, output: str) -> Job:
    """Returns the job of a photograph; an output without `{name}` is a folder."""
    pattern = output if "{name}" in output else os.path.join(output, "{name}.png")
    place, options = pattern.replace("{name}", stem(photograph)), [f"--data.content={photograph}"]
    if remote.is_address(place):
        return Job(photograph, options, remote.place(place), place)
    return Job(photograph, options, Path(place))


def stem(photograph: str) -> str:
    """Returns what a picture is named after: a file's name without its suffix, or a sample's name."""
    return photograph.removeprefix(samples.PREFIX) if samples.is_name(photograph) else Path(photograph).stem
