"""The judge agrees with the package's mathematics, which it does not use, and the scripts run."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from benchmarks import all as figures
from benchmarks import blind, convergence, gpu, machine, quality, scale, second, sizes
from benchmarks import studio as live_view
from benchmarks.judge import LOOK, STYLE, Judge
from benchmarks.second import SecondJudge
from nst.losses import functional as F
from nst.losses.distances.frobenius import gram_distance
from nst.losses.distances.wasserstein import wasserstein_distance
from nst.network.features import Features
from nst.network.weights import load
from nst.pictures import images
from nst.scene import samples
from tests.helpers import draw

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole VGG16's state dict, with random weights."""
    path = tmp_path_factory.mktemp("weights") / "vgg16.safetensors"
    positions = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
    state = {}
    for position, (weight, bias) in zip(positions, load("vgg16", "random:0").convolutions, strict=True):
        state[f"features.{position}.weight"], state[f"features.{position}.bias"] = weight.contiguous(), bias
    safetensors.torch.save_file(state, path)
    return path


def test_the_judge_measures_what_the_losses_do(weights: Path, pair: tuple[Path, Path], tmp_path: Path) -> None:
    result, style = draw(tmp_path / "result.png", seed=5), draw(tmp_path / "style.png", seed=6)
    figures = Judge(weights)(result, pair[0], style)
    network = Features(load("vgg16", "random:0"), [*STYLE, "relu4_2"])
    x, p, a = (network(images.load(path, "x").rgb) for path in (result, pair[0], style))
    grams = [gram_distance(F.moments(x[layer]), F.moments(a[layer])) for layer in STYLE]
    w2 = [wasserstein_distance(F.moments(x[layer]), F.moments(a[layer])) for layer in STYLE]
    error = F.squared_error(x["relu4_2"], p["relu4_2"]) / p["relu4_2"].square().sum()
    assert figures["gram"] == pytest.approx(float(sum(grams)) / 5, rel=1e-3)
    assert figures["w2"] == pytest.approx(float(sum(w2)) / 5, rel=1e-3)
    assert figures["look"] == pytest.approx(float(sum(w * d for w, d in zip(LOOK, w2, strict=True))) / 341, rel=1e-3)
    assert figures["content"] == pytest.approx(float(error), rel=1e-3)


def test_the_judge_finds_no_fault_with_the_pictures_themselves(weights: Path, pair: tuple[Path, Path]) -> None:
    figures = Judge(weights)(pair[0], pair[0], pair[0])
    for name in ("tv", "nyquist", "edges", "coverage"):
        assert figures.pop(name) == pytest.approx(1)
    assert figures == pytest.approx(dict.fromkeys(figures, 0), abs=1e-6)


def test_the_judge_sees_edges_hatch_and_what_is_not_used(
    weights: Path, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    judge = Judge(weights)
    photograph = Image.open(pair[0]).convert("RGB")
    pixels = np.asarray(photograph).astype(int)
    columns = np.arange(pixels.shape[1])[:, None]
    hatched = Image.fromarray((pixels + 12 * (1 - 2 * (columns % 2))).clip(0, 255).astype(np.uint8))
    hatched.save(tmp_path / "hatched.png")
    photograph.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "flipped.png")
    Image.new("RGB", photograph.size, (9, 9, 90)).save(tmp_path / "flat.png")
    hatch, flip, flat = (judge(tmp_path / f"{x}.png", pair[0], pair[0]) for x in ("hatched", "flipped", "flat"))
    assert hatch["nyquist"] > 5 and 0.8 < hatch["edges"] < 1
    assert abs(flip["edges"]) < 0.5 and flip["structure"] > 0.02 and flip["nyquist"] == pytest.approx(1, rel=0.1)
    assert flat["coverage"] < 0.3


def test_the_second_judge_knows_a_cat_and_what_has_left_a_picture(tmp_path: Path) -> None:
    judge = SecondJudge()
    with Image.open(samples.path("sample:chelsea")) as image:
        cat = image.convert("RGB").crop((80, 0, 80 + image.height, image.height)).resize((224, 224))
    cat.save(tmp_path / "cat.png")
    pixels = torch.from_numpy(np.asarray(cat, np.float32)).permute(2, 0, 1)[None]
    with torch.no_grad():
        scores = judge.network((pixels - 127) / 128)[0]
    assert {281, 282, 285} >= {int(scores.argmax())}  # ImageNet's tabby, tiger cat and Egyptian cat
    same = judge(tmp_path / "cat.png", tmp_path / "cat.png", tmp_path / "cat.png")
    assert same == pytest.approx(dict.fromkeys(same, 0), abs=1e-6)
    cat.transpose(Image.Transpose.FLIP_TOP_BOTTOM).save(tmp_path / "flipped.png")
    Image.new("RGB", cat.size, (9, 9, 90)).save(tmp_path / "flat.png")
    flipped, flat = (
        judge(tmp_path / f"{x}.png", tmp_path / "cat.png", tmp_path / "cat.png") for x in ("flipped", "flat")
    )
    assert flipped["lite_frechet"] < 0.1 * flat["lite_frechet"] and flipped["lite_structure"] > 0.02
    assert flipped["lite_content"] > 0.5


def test_a_contact_sheet_has_a_column_for_each_label() -> None:
    red, blue = Image.new("RGB", (20, 10), "red"), Image.new("RGB", (10, 20), "blue")
    sheet = quality.contact_sheet([[red, blue], [blue, red]], ["a", "b"])
    assert sheet.size == (2 * 28, 24 + 2 * 28)
    assert sheet.getpixel((0, 24)) == sheet.getpixel((28, 52)) == (255, 0, 0)
    assert sheet.getpixel((28, 24)) == sheet.getpixel((0, 52)) == (0, 0, 255)


@pytest.mark.slow
def test_blind_pairs_are_made_judged_and_scored(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    debug = str(ROOT / "configs" / "debug.yaml")
    configs = [f"{debug} --data.steps 1", f"{debug} --data.steps 1 --model.init gray"]
    pairs = ["--pair", *map(str, pair), "--pair", *map(str, reversed(pair))]
    blind.main(["make", str(tmp_path / "b"), *configs, *pairs, "--size", "48", "--seed", "3"])
    sheets = json.loads((tmp_path / "b" / "key.json").read_text())["sheets"]
    assert [*sheets] == ["001.png", "002.png"]
    assert Image.open(tmp_path / "b" / "001.png").size == (2 * (41 + 8), 24 + 2 * (48 + 8))
    assert blind.score(tmp_path / "b") == "0 verdicts by 0 on 0 pairs: none for either"
    for person, answers in (("ann", ["what", "l", "r"]), ("bob", ["s", "r"])):
        given = iter(answers)
        monkeypatch.setattr("builtins.input", lambda _, given=given: next(given))
        blind.main(["judge", str(tmp_path / "b"), "--person", person])
        blind.main(["judge", str(tmp_path / "b"), "--person", person])  # all is judged: asks for nothing
    wins = (sheets["001.png"]["left"] == configs[0]) + 2 * (sheets["002.png"]["right"] == configs[0])
    blind.main(["score", str(tmp_path / "b")])
    told = capsys.readouterr().out
    assert told.startswith(
        f"4 verdicts by 2 on 2 pairs: {wins} for {configs[0]}, {3 - wins} for {configs[1]}, 1 the same"
    )


def test_the_interval_of_a_score(tmp_path: Path) -> None:
    sheets = {f"{i:03}.png": {"left": "a", "right": "b"} for i in range(8)}
    (tmp_path / "key.json").write_text(json.dumps({"configs": ["a", "b"], "sheets": sheets}))
    rows = [f"ann,{sheet},{'left' if i else 'right'}" for i, sheet in enumerate(sheets)]
    (tmp_path / "verdicts.csv").write_text("\n".join(["person,sheet,verdict", *rows]))
    assert blind.score(tmp_path).endswith("7 for a, 1 for b, 0 the same; share of the first 0.88 (95 %: 0.53 to 0.98)")


@pytest.mark.slow
def test_quality_and_sizes_print_a_row_for_each_run(
    weights: Path,
    pair: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "pairs" / "one").mkdir(parents=True)
    pair[0].rename(tmp_path / "pairs" / "one" / "content.png")
    pair[1].rename(tmp_path / "pairs" / "one" / "style.png")
    config = str(ROOT / "configs" / "debug.yaml")
    common = ["--judge", str(weights), "--options=--data.steps 1"]
    monkeypatch.setattr(
        sys, "argv", ["x", config, *common, "--pairs", "pairs", "--size", "48", "--sheet", "a.png", "--keep", "kept"]
    )
    sys.argv += ["--peer", "cp {content} {result}", "--second"]
    quality.main()
    first, *rows = capsys.readouterr().out.splitlines()
    assert "threads" in first and len(rows) == 4 and rows[2].startswith("| one | debug | ")
    figures = dict(zip([*quality.FIGURES, *second.FIGURES], rows[3].split("|")[3:-1], strict=True))
    assert rows[3].startswith("| one | cp {content} | ") and float(figures["edges"]) == 1
    assert float(figures["lite_content"]) == 0 < float(figures["lite_frechet"])
    assert all(float(cell) >= 0 for cell in rows[2].split("|")[3:-1])
    assert Image.open("a.png").width == 4 * 56
    assert Image.open("kept/one-0-debug.png").size == Image.open("kept/one-1-cp.png").size == (48, 40)
    both = ["pairs/one/content.png", "pairs/one/style.png"]
    monkeypatch.setattr(sys, "argv", ["x", config, *common, "--pair", *both, "--sizes", "48", "96"])
    sizes.main()
    rows = capsys.readouterr().out.splitlines()
    assert [row.split("|")[1].strip() for row in rows[2:]] == ["48", "96"]


@pytest.mark.slow
def test_scale_prints_a_row_for_each_size(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # its processes are started elsewhere
    monkeypatch.setattr(
        sys, "argv", ["x", "--backbone", "compact", "--sizes", "64", "96", "--streaming", "on", "--json"]
    )
    scale.main()
    small, large = json.loads(capsys.readouterr().out)["sizes"]
    assert (small["size"], large["size"]) == (64, 96)
    assert large["seconds"] > 0 and large["us/pixel"] == pytest.approx(1e6 * large["seconds"] / 96**2)
    assert small["steps"] == 4 and large["work"] > 1 and large["rows"][0] < 96
    assert large["peak"] > large["beyond"] > 0


@pytest.mark.slow
def test_all_figures_come_with_the_machine(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    step = ["step", "--size", "32", "--backbone", "compact", "--rounds", "1", "--steps", "6"]
    monkeypatch.setattr(figures, "BENCHMARKS", {"a step": step})
    monkeypatch.setattr(figures, "COMMANDS", {"a picture": ["--config", "debug"]})
    monkeypatch.setattr(sys, "argv", ["x", "--json"])
    figures.main()
    report = json.loads(capsys.readouterr().out)
    assert report["a step"]["machine"]["processor"] == report["machine"]["processor"] != ""
    assert report["machine"]["instructions"].startswith(torch.backends.cpu.get_cpu_capability())
    assert report["a step"]["float32"]["seconds"] > 0 and report["a picture"]["seconds"] > 1
    monkeypatch.setattr(sys, "argv", ["x", "--only", "nothing"])
    figures.main()
    assert "threads" in capsys.readouterr().out


@pytest.mark.slow
def test_figures_of_a_gpu_are_one_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    words = ["--device", "cpu", "--backbone", "compact", "--sizes", "48", "2", "--steps", "2", "--only", "in bands"]
    monkeypatch.setattr(sys, "argv", ["x", *words, "--output", "figures.md"])
    gpu.main()
    lines = Path("figures.md").read_text(encoding="utf-8").splitlines()
    assert lines[0] == f"# {machine.described()['processor']}"
    row, failed = (line.split(" | ") for line in lines if line.startswith(("| 48 ", "| 2 ")))
    assert row[1] == "in bands" and all(float(cell.strip(" |")) > 0 for cell in row[2:])
    assert failed[2].startswith("RuntimeError: Input and output sizes should be greater than 0")
    shares = [float(line.split(" | ")[1].rstrip("%")) for line in lines if "% |" in line]
    assert len(shares) == gpu.SHOWN and shares == sorted(shares, reverse=True) and 20 < sum(shares) <= 100


def test_without_a_gpu_there_are_no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA GPU")
    bash = shutil.which("bash")
    if bash is None or sys.platform == "win32":
        pytest.skip("there is no bash")
    monkeypatch.setenv("PYTHON", sys.executable)
    done = subprocess.run([bash, str(ROOT / "benchmarks" / "gpu.sh")], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "") and done.stderr.startswith(
        "Expected a CUDA GPU that torch can use"
    )
    assert done.stderr.count("\n") == 1 and not Path("gpu.md").exists()


@pytest.mark.slow
def test_curves_are_read_from_the_logs(pair: tuple[Path, Path]) -> None:
    words = ["--config", str(ROOT / "configs" / "debug.yaml"), "--data.content", str(pair[0].resolve())]
    curve = convergence.curve([*words, "--data.style", str(pair[1].resolve()), "--data.steps", "4"])
    assert len(curve) == 4
    assert curve[0][0] == 0 and curve[-1][1] < curve[0][1]


def test_the_objective_falls_as_it_is_measured() -> None:
    name, make = next(convergence.optimizers())
    assert name == "Adam 0.01 (0.9, 0.999)"
    torch.manual_seed(0)
    values = convergence.fall(make, 64, cosine=True)
    assert len(values) == len(convergence.MARKS)
    assert values == sorted(values, reverse=True)


def test_the_live_view_is_measured_against_none() -> None:
    report = live_view.live(size=48, steps=3, rounds=1)
    assert report["plain"] > 0 and report["ratio"] == pytest.approx(report["live"] / report["plain"])
