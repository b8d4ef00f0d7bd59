"""The model card and its pictures, from real and from poor runs."""

import json
import math
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
import yaml
from hub_runs import RECORDED

from medgrpo.safety import DISCLAIMER
from medgrpo.training.card import card_files, public, write_card
from medgrpo.training.config import RunConfig, parse_config, read_config
from medgrpo.training.curves import Metrics, read_metrics
from medgrpo.training.pictures import Line, line_chart, nice_ticks, run_pictures
from medgrpo.training.run_directory import RunDirectory
from medgrpo.training.view import View

BASE = "HuggingFaceTB/SmolLM2-135M-Instruct"
SVG = "{http://www.w3.org/2000/svg}"


def recorded(stage: str = "grpo") -> tuple[RunDirectory, RunConfig]:
    run = RunDirectory(RECORDED / "runs" / stage)
    return run, read_config(run.config_file)


def front(card: str) -> dict[str, object]:
    return yaml.safe_load(card.split("---\n")[1])


def test_a_supervised_run_has_its_own_card() -> None:
    card = card_files(*recorded("sft"), BASE, "Apache-2.0")
    assert "SFT with TRL: 1199 of 1300 steps of 64 demonstrations" in card["README.md"]
    assert "Reward profile" not in card["README.md"]
    assert {name for name in card if name.endswith(".svg")} >= {"pictures/loss.svg"}
    assert "pictures/reward.svg" not in card


def test_a_run_that_recorded_nothing_says_so(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.create()
    files = card_files(run, parse_config({}), "unknown-base", "")
    card = files["README.md"]
    assert list(files) == ["README.md"]
    assert "No held-out cases were answered" in card
    assert "## Curves" not in card
    assert DISCLAIMER in card
    assert "base_model" not in front(card)
    assert "license" not in front(card)


def test_the_card_says_where_the_cases_are_from(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.create()
    config = parse_config({"data": {"source": "practice+fragments+out_of_scope"}})
    data = card_files(run, config, BASE, "Apache-2.0")["README.md"].split("## Data")[1].split("##")[0]
    assert "`practice`: synthetic cases" in data
    assert "`fragments`: synthetic cases" in data
    assert data.count("no patient data") == 3
    assert data.count("with words left out") == 1


def test_the_licence_of_the_base_binds() -> None:
    card = card_files(*recorded(), "Qwen/Qwen2.5-3B-Instruct", "Qwen Research (non-commercial)")["README.md"]
    assert front(card)["license_name"] == "qwen-research"
    assert "(Qwen Research (non-commercial)) holds for it too" in card


def test_one_measurement_is_no_comparison(tmp_path: Path) -> None:
    shutil.copytree(RECORDED / "runs" / "grpo", tmp_path / "run")
    run = RunDirectory(tmp_path / "run")
    for step in (50, 100):
        run.evaluation_file(step).unlink()
    card = card_files(run, read_config(run.config_file), BASE, "Apache-2.0")["README.md"]
    assert "| | step 0 |" in card
    assert "no second measurement" in card


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("casebook", "casebook"),
        (BASE, BASE),
        ("/home/ada/cases.csv", "cases.csv"),
        ("data/cases.csv", "cases.csv"),
        ("C:\\ada\\cases.csv", "cases.csv"),
        ("runs/sft/adapter", "sft/adapter"),
        ("~/models/base.gguf", "base.gguf"),
        ("", ""),
    ],
)
def test_of_a_path_only_the_end_is_public(name: str, shown: str) -> None:
    assert public(name) == shown


def test_a_folder_that_looks_like_a_hub_id_is_still_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ada" / "model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert public("ada/model") == "model"


def test_writing_the_card_puts_the_pictures_beside_it(tmp_path: Path) -> None:
    shutil.copytree(RECORDED / "runs" / "grpo", tmp_path / "run")
    run = RunDirectory(tmp_path / "run")
    run.adapter.mkdir()
    write_card(run, read_config(run.config_file), BASE, "Apache-2.0")
    assert (run.adapter / "README.md").is_file()
    assert (run.adapter / "pictures" / "reward.svg").is_file()


def test_every_picture_is_well_formed_and_shows_what_was_logged() -> None:
    view = View(recorded()[0])
    pictures = run_pictures(view.whole, view.weights)
    assert list(pictures) == ["reward.svg", "rewards.svg", "groups.svg", "length.svg", "entropy.svg"]
    for title, svg in pictures.values():
        root = ElementTree.fromstring(svg)
        assert root.find(f"{SVG}title").text == title  # type: ignore[union-attr]
        assert root.findall(f"{SVG}polyline")
    names = [node.text for node in ElementTree.fromstring(pictures["reward.svg"][1]).iter(f"{SVG}text")]
    assert {"total", "correctness", "reasoning"} <= set(names)
    assert "numeric" not in names  # never applied in this run


def test_the_line_goes_where_the_numbers_say() -> None:
    svg = line_chart("t", [Line("a", np.array([0.0, 5.0, 10.0]), np.array([0.0, 1.0, 0.5]))])
    (line,) = ElementTree.fromstring(svg).findall(f"{SVG}polyline")
    (x0, y0), (x1, y1), (x2, y2) = (tuple(map(float, pair.split(","))) for pair in line.attrib["points"].split())
    assert x0 < x1 < x2
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert y1 < y2 < y0  # the larger, the higher
    assert y2 == pytest.approx((y0 + y1) / 2, abs=0.2)


def test_a_long_run_stays_small_and_says_that_it_is_smoothed(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text("".join(json.dumps({"step": n, "reward": math.sin(n)}) + "\n" for n in range(1, 20_001)))
    title, svg = run_pictures(read_metrics(file), {"format": 1.0})["reward.svg"]
    assert title.endswith("(mean over 200 steps)")
    assert len(svg) < 20_000


def test_nothing_but_numbers_that_are_none_is_no_picture() -> None:
    steps = np.arange(3.0)
    assert run_pictures(Metrics(steps, {"reward": np.full(3, np.nan)}), {"format": 1.0}) == {}
    assert run_pictures(Metrics(np.empty(0), {}), {}) == {}


def test_names_are_text_and_no_markup() -> None:
    svg = line_chart("<script>", [Line("<b>", np.array([1.0]), np.array([1.0]))])
    assert "<script>" not in svg
    assert ElementTree.fromstring(svg).findall(f"{SVG}circle")


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.12, 0.34), (-3, 250), (5, 5), (0, 0), (1e-7, 2e-7)])
def test_ticks_are_round_and_enclose(low: float, high: float) -> None:
    ticks = nice_ticks(low, high)
    assert ticks[0] <= low
    assert ticks[-1] >= high
    assert 3 <= len(ticks) <= 9
