"""Compares two configs by eye, blind: which one made which picture is not shown before all verdicts are in.

    python -m benchmarks.blind make blind configs/best.yaml 'old.yaml --model.tv_weight 0.1' --pairs pairs --size 512
    python -m benchmarks.blind judge blind --person ann
    python -m benchmarks.blind score blind

`make` runs both configs on each pair, and writes a sheet for each pair: photograph and painting above, the two results
below, left and right by chance. `judge` asks for a verdict on each sheet that the person has not judged, and appends it
to `verdicts.csv`. `score` counts the verdicts, and gives the first config's share with its 95 % interval (Wilson's).
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import shlex
import tempfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from scipy.stats import binomtest

from benchmarks.quality import contact_sheet, pairs_in, run, words

KEY, VERDICTS = "key.json", "verdicts.csv"
ANSWERS = {"l": "left", "r": "right", "s": "same"}


def lay_out(pair: tuple[Path, Path], left: Path, right: Path) -> Image.Image:
    """Lays a photograph and a painting above two results."""
    results = [Image.open(path).convert("RGB") for path in (left, right)]
    sources = [Image.open(path).convert("RGB") for path in pair]
    for picture in sources:
        picture.thumbnail(results[0].size)
    return contact_sheet([sources, results], ["left", "right"])


def make(folder: Path, configs: Sequence[str], pairs: Sequence[tuple[Path, Path]], options: argparse.Namespace) -> None:
    """Makes the results of two configs, a sheet for each pair in random order, and the key to the sides."""
    folder.mkdir(parents=True, exist_ok=True)
    order, chance, key = list(pairs), random.Random(options.seed), {}
    chance.shuffle(order)
    for number, (content, style) in enumerate(order, 1):
        sides = [0, 1]
        chance.shuffle(sides)
        with tempfile.TemporaryDirectory() as scratch:
            made = [Path(scratch) / f"{side}.png" for side in (0, 1)]
            for entry, result in zip(configs, made, strict=True):
                config, *more = shlex.split(entry)
                run([*words(Path(config), content, style, options.size, result), *more], Path(scratch))
            name = f"{number:03}.png"
            lay_out((content, style), made[sides[0]], made[sides[1]]).save(folder / name)
        key[name] = {
            "left": configs[sides[0]],
            "right": configs[sides[1]],
            "content": str(content),
            "style": str(style),
        }
    (folder / KEY).write_text(json.dumps({"configs": list(configs), "sheets": key}, indent=1))


def judge(folder: Path, person: str) -> None:
    """Asks a person for a verdict on each sheet that the person has not judged yet."""
    done = {row["sheet"] for row in verdicts(folder) if row["person"] == person}
    fresh = not (folder / VERDICTS).exists()
    with (folder / VERDICTS).open("a", newline="") as file:
        table = csv.DictWriter(file, ["person", "sheet", "verdict"])
        if fresh:
            table.writeheader()
        for sheet in sorted(json.loads((folder / KEY).read_text())["sheets"]):
            while sheet not in done:
                answer = input(f"{folder / sheet}: which one would you hang, left, right or the same (l, r, s)? ")
                if answer.strip().lower()[:1] in ANSWERS:
                    verdict = ANSWERS[answer.strip().lower()[:1]]
                    table.writerow({"person": person, "sheet": sheet, "verdict": verdict})
                    file.flush()
                    done.add(sheet)


def verdicts(folder: Path) -> list[dict[str, str]]:
    """Returns all verdicts so far, each with its person, sheet and verdict."""
    if not (folder / VERDICTS).exists():
        return []
    with (folder / VERDICTS).open(newline="") as file:
        return list(csv.DictReader(file))


def score(folder: Path) -> str:
    """Returns the score of the first config against the second; a verdict of `same` counts for neither."""
    key = json.loads((folder / KEY).read_text())
    first, second = key["configs"]
    found = [(row, key["sheets"][row["sheet"]]) for row in verdicts(folder)]
    for_first = sum(sheet.get(row["verdict"]) == first for row, sheet in found)
    decided = sum(row["verdict"] != "same" for row, _ in found)
    people = len({row["person"] for row, _ in found})
    counts = f"{len(found)} verdicts by {people} on {len({row['sheet'] for row, _ in found})} pairs"
    if decided == 0:
        return f"{counts}: none for either"
    interval = binomtest(for_first, decided).proportion_ci(method="wilson")
    return (
        f"{counts}: {for_first} for {first}, {decided - for_first} for {second}, {len(found) - decided} the same; "
        f"share of the first {for_first / decided:.2f} (95 %: {interval.low:.2f} to {interval.high:.2f})"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    making, judging, scoring = (commands.add_parser(name) for name in ("make", "judge", "score"))
    for command in (making, judging, scoring):
        command.add_argument("folder", type=Path, help="folder of the sheets")
    making.add_argument("configs", nargs=2, help="a config each, with options behind it if need be")
    making.add_argument("--pairs", type=Path, help="folder of pairs")
    making.add_argument("--pair", type=Path, nargs=2, action="append", default=[], metavar=("CONTENT", "STYLE"))
    making.add_argument("--size", type=int, default=512)
    making.add_argument("--seed", type=int, help="seed of the order and the sides")
    judging.add_argument("--person", required=True, help="name of who judges")
    options = parser.parse_args(arguments)
    if options.command == "make":
        pairs = [(a, b) for a, b in options.pair] + (pairs_in(options.pairs) if options.pairs else [])
        make(options.folder, options.configs, pairs, options)
    elif options.command == "judge":
        judge(options.folder, options.person)
    else:
        print(score(options.folder))


if __name__ == "__main__":
    main()
