"""A model of large pictures on many GPUs, and of many pictures on many machines: arithmetic, no measurement.

    python -m benchmarks.cluster_model --seconds 0.004 --size 512

A step of a square picture takes the time of its pixels on one GPU, as measured at a small size (`--seconds` at
`--size`), shared by the rows; the rows of halos that neighbours both compute; and the messages: the sums of the style
layers and the picture's gradient, all-reduced in a ring, and the rows of each stage's border, to and from two
neighbours. What is assumed of networks is printed beside the figures.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

CHANNELS = (64, 128, 256, 512, 512)
"""Of VGG19's blocks."""

HALO = (2, 2, 4, 4, 2)
"""Rows of a stage's input beyond a share that it depends on (see `nst.streaming.stages.Stage.halo`)."""

WORK = (0.125, 0.195, 0.28, 0.28, 0.12)
"""Share of VGG19's operations up to relu5_1 in each stage, all of them over all positions."""


@dataclass(frozen=True)
class Network:
    """What connects GPUs.

    Attributes:
        name: For people.
        bandwidth: Bytes per second, to and from one GPU.
        latency: Seconds of a message.
    """

    name: str
    bandwidth: float
    latency: float


NVLINK = Network("NVLink, 8 GPUs a machine, 400 GB/s", 400e9, 5e-6)
ETHERNET = Network("100 Gbit/s between machines, 12.5 GB/s", 12.5e9, 30e-6)


def step(size: int, gpus: int, seconds_per_pixel: float, sharded: bool, item: int = 2) -> dict[str, float]:
    """Returns the seconds of a step of a picture of `size` pixels a side, by part.

    Args:
        size: Pixels a side.
        gpus: GPUs, each with an equal share of the rows.
        seconds_per_pixel: Seconds of a step on one GPU over the number of pixels.
        sharded: Whether picture, gradient and moments are sharded by rows too, which nst does not do.
        item: Bytes of an activation.
    """
    network = NVLINK if gpus <= 8 else ETHERNET
    rows = size / gpus
    work = seconds_per_pixel * size * rows
    twice = sum(share * 2 * halo / max(rows / 2**i, 1) for i, (share, halo) in enumerate(zip(WORK, HALO, strict=True)))
    sums = 4 * sum(c * c for c in CHANNELS)
    gradient = 12 * size * size
    ring = 2 * (gpus - 1) / gpus if gpus > 1 else 0.0
    stages = enumerate(zip((3, *CHANNELS[:4]), HALO, strict=True))
    borders = 4.0 * item * sum(channels * halo * size / 2**i for i, (channels, halo) in stages if i or sharded)
    messages = (2 * 4 + 2 * 2) * (gpus > 1)
    return {
        "work": work,
        "halos": work * twice * (gpus > 1),
        "sums": ring * sums / network.bandwidth,
        "gradient": 0.0 if sharded else ring * gradient / network.bandwidth,
        "borders": borders / network.bandwidth * (gpus > 1),
        "latency": messages * network.latency + (2 * (gpus - 1) * network.latency * 2 if gpus > 1 else 0.0),
    }


def memory(size: int, gpus: int, sharded: bool, item: int = 2) -> float:
    """Returns the bytes that a GPU holds: the inputs of the stages of its rows, in bands, and picture and gradients."""
    inputs: float = item * sum(c * (size / 2**i) * (size / gpus / 2**i) for i, c in enumerate(CHANNELS[:4], 1))
    whole = 5.0 * 12 * size**2  # the picture, its gradient, two moments and the guard's copy
    return (whole / gpus if sharded else whole) + inputs + (2 << 30)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, required=True, help="of a step on one GPU, as measured")
    parser.add_argument("--size", type=int, default=512, help="pixels a side at which it was measured")
    parser.add_argument("--steps", type=int, default=600, help="of a picture of many, at --size")
    parser.add_argument("--euros", type=float, default=2.0, help="for a machine of the cluster and an hour")
    options = parser.parse_args()
    per_pixel = options.seconds / options.size**2
    print(f"{options.seconds} s a step at {options.size} px; {NVLINK.name}; {ETHERNET.name}; bands: 1.5 times the work")
    print("Picture, gradient and moments whole on each GPU / sharded by rows as well\n")
    print("| size | GPUs | s/step | at the ideal | gradient, s | halos, s | GiB a GPU |")
    print("|---|---|---|---|---|---|---|")
    for size in (16384, 65536, 262144, 1000000):
        for gpus in (8, 64, 1024):
            both = [step(size, gpus, 1.5 * per_pixel, sharded) for sharded in (False, True)]
            totals = [sum(parts.values()) for parts in both]
            seconds = " / ".join(f"{total:.3g}" for total in totals)
            ideal = " / ".join(f"{parts['work'] / total:.0%}" for parts, total in zip(both, totals, strict=True))
            held = " / ".join(f"{memory(size, gpus, sharded) / 2**30:.0f}" for sharded in (False, True))
            parts = f"{both[0]['gradient']:.3g} | {both[0]['halos']:.3g}"
            print(f"| {size} | {gpus} | {seconds} | {ideal} | {parts} | {held} |")
    hourly = 100 * 3600 / (options.steps * options.seconds)
    print(
        f"\n100 machines with a GPU each, {options.steps} steps at {options.size} px: {hourly:.0f} pictures an hour, "
        f"{hourly / (100 * options.euros):.0f} for a euro at {options.euros} euros a machine and hour"
    )


if __name__ == "__main__":
    main()
