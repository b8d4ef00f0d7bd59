"""One moment of a run, live or played; and what two runs were told differently."""

import os
from pathlib import Path

import pytest
from written_runs import RIGHT, a_run, steady, write_evaluation, write_group, write_status

from medgrpo.training.overlay import differences
from medgrpo.training.run_directory import RunDirectory, process_identity
from medgrpo.training.view import View


def test_a_played_recording_knows_nothing_of_later(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", steady(40))
    write_status(run, step=40, total=40, error="", notes=["skipped"])
    for step in (1, 10, 20):
        write_group(run, step, 0, [RIGHT, RIGHT])
    view = View(run, until=12)
    assert len(view.metrics) == 12
    assert len(view.whole) == 40
    assert view.completion_steps == [1, 10]
    assert (view.status.phase, view.status.step, view.status.total) == ("training", 12, 40)
    assert view.seconds_left == pytest.approx(2.0 * 28)
    assert View(run, until=40).status.phase == "finished"
    assert View(run, until=0).status.phase == "loading"
    write_evaluation(run, 0, [RIGHT])
    assert View(run, until=0).status.phase == "evaluating"


def test_time_left_is_only_told_of_a_run_that_goes_on(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", steady(10))
    assert View(run).seconds_left is None
    me = os.getpid()
    write_status(run, phase="training", pid=me, identity=process_identity(me), step=10, total=60)
    assert View(run).seconds_left == pytest.approx(100.0)
    write_status(run, phase="training", pid=me, identity="another/1", step=10, total=60)
    assert View(run).status.phase == "interrupted"
    assert View(run).seconds_left is None


def test_weights_are_the_profile_with_the_runs_own_on_top(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", rewards={"profile": "medgrpo", "weights": {"correctness": 5.0, "tags": 0.0}})
    weights = View(run).weights
    assert weights["correctness"] == 5.0
    assert "tags" not in weights
    assert weights["format"] == 0.5
    assert View(a_run(tmp_path / "sft", stage="sft")).weights == {}


@pytest.mark.parametrize("text", ["", "[1, 2", "- a", "\x00"])
def test_a_broken_configuration_is_an_empty_one(tmp_path: Path, text: str) -> None:
    run = a_run(tmp_path / "run", steady(3))
    run.config_file.write_text(text)
    view = View(run)
    assert view.config == {}
    assert view.setting("grpo.beta", 7) == 7
    assert view.stage == "grpo"


def test_an_empty_folder_is_a_run_that_has_not_begun(tmp_path: Path) -> None:
    view = View(RunDirectory(tmp_path))
    assert len(view.metrics) == 0
    assert view.completion_steps == view.evaluation_steps == []
    assert view.config == {}
    assert view.seconds_left is None


def test_only_what_differs_is_listed(tmp_path: Path) -> None:
    one = View(a_run(tmp_path / "one", training={"learning_rate": 1e-5}, rewards={"weights": {"reasoning": 2.0}}))
    two = View(a_run(tmp_path / "two", training={"learning_rate": 2e-4}, rewards={"profile": "format_only"}, seed=3))
    found = {each.name: (each.this, each.other) for each in differences(one, two)}
    assert found == {
        "seed": ("0", "3"),
        "training.learning_rate": ("1e-05", "0.0002"),
        "rewards.profile": ("medgrpo", "format_only"),
        "rewards.weights.format": ("0.5", "1"),
        "rewards.weights.correctness": ("2", "–"),
        "rewards.weights.numeric": ("0.5", "–"),
        "rewards.weights.reasoning": ("2", "–"),
        "rewards.weights.meaning": ("0.5", "–"),
        "rewards.weights.next_step": ("0.5", "–"),
        "rewards.weights.length": ("0.25", "–"),
    }
    assert differences(one, one) == []


def test_a_weight_of_the_profile_written_out_is_no_difference(tmp_path: Path) -> None:
    one = View(a_run(tmp_path / "one"))
    two = View(a_run(tmp_path / "two", rewards={"weights": {"format": 0.5}}))
    assert differences(one, two) == []
