"""Metrics are read once, forgive what a crash leaves, and a thinned curve keeps its extremes."""

import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from written_runs import a_run, steady

from medgrpo.training import curves
from medgrpo.training.curves import contributions, read_metrics, running_mean, seconds_a_step, thin
from medgrpo.training.run_directory import append_lines
from medgrpo.training.view import View


def line(step: int, **values: object) -> str:
    return json.dumps({"step": step, **values}) + "\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "metrics.jsonl"


def test_a_second_look_parses_only_what_is_new(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text("".join(line(step, reward=step / 10) for step in range(1, 1001)))
    assert len(read_metrics(file)) == 1000
    parsed: list[bytes] = []
    loads = json.loads
    monkeypatch.setattr(curves.json, "loads", lambda text: parsed.append(text) or loads(text))
    same = read_metrics(file)
    assert not parsed
    with file.open("a") as end:
        end.write(line(1001, reward=5.0))
    grown = read_metrics(file)
    assert len(parsed) == 1
    assert same.version != grown.version
    assert grown.latest("reward") == 5.0
    assert (len(same), len(grown)) == (1000, 1001)  # what was handed out before does not change


def test_a_torn_last_line_waits_until_it_is_whole(file: Path) -> None:
    whole = line(1, reward=1.0) + line(2, reward=2.0)
    file.write_text(whole[:-9])
    assert read_metrics(file).steps.tolist() == [1]
    file.write_text(whole)
    assert read_metrics(file).steps.tolist() == [1, 2]


def test_a_torn_line_that_was_ended_is_left_out(file: Path) -> None:
    file.write_text(line(1, reward=1.0) + '{"step": 2, "rew')
    append_lines(file, [{"step": 3, "reward": 3.0}])
    assert read_metrics(file).steps.tolist() == [1, 3]


def test_a_resumed_run_is_read_anew(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", steady(30))
    assert len(read_metrics(run.metrics_file)) == 30
    run.forget_after(10)
    append_lines(run.metrics_file, [{"step": step, "reward": -1.0} for step in range(11, 40)])
    found = read_metrics(run.metrics_file)
    assert found.steps.tolist() == list(range(1, 40))
    assert found.column("reward")[10:].tolist() == [-1.0] * 29


def test_a_file_rewritten_in_place_is_read_anew(file: Path) -> None:
    file.write_text(line(1, reward=1.0) + line(2, reward=2.0))
    read_metrics(file)
    identity = os.stat(file).st_ino
    file.write_text(line(1, reward=7.0) + line(2, reward=8.0) + line(3, reward=9.0))
    assert os.stat(file).st_ino == identity
    assert read_metrics(file).column("reward").tolist() == [7.0, 8.0, 9.0]


def test_of_a_step_logged_twice_the_later_line_counts(file: Path) -> None:
    file.write_text("".join(line(step, reward=value) for step, value in [(1, 1.0), (2, 2.0), (3, 3.0), (2, 9.0)]))
    found = read_metrics(file)
    assert found.steps.tolist() == [1, 2, 3]
    assert found.column("reward").tolist() == [1.0, 9.0, 3.0]


def test_missing_null_and_odd_values_are_gaps(file: Path) -> None:
    file.write_text(line(1, a=None) + line(2, a=2, b="x", c=True) + "[]\n7\n" + line("3", a=1) + line(4, a=4.0))
    found = read_metrics(file)
    assert found.steps.tolist() == [1, 2, 4]
    assert np.isnan(found.column("a")[0])
    assert found.column("a")[1:].tolist() == [2.0, 4.0]
    assert not found.has("b")
    assert not found.has("c")
    assert np.isnan(found.column("never")).all()
    assert found.latest("never") is None


def test_no_file_is_an_empty_run_and_one_that_comes_later_is_read(file: Path) -> None:
    assert len(read_metrics(file)) == 0
    file.write_text(line(1, reward=1.0))
    assert len(read_metrics(file)) == 1
    file.unlink()
    assert len(read_metrics(file)) == 0


def test_only_a_few_runs_stay_in_memory(tmp_path: Path) -> None:
    for number in range(curves.KEPT + 3):
        path = tmp_path / f"{number}.jsonl"
        path.write_text(line(1, reward=1.0))
        read_metrics(path)
    assert len(curves._READERS) <= curves.KEPT


def test_many_readers_and_a_writer_agree(file: Path) -> None:
    seen: list[bool] = []

    def watch() -> None:
        for _ in range(200):
            found = read_metrics(file)
            seen.append(found.steps.tolist() == list(range(1, len(found) + 1)))
            seen.append(len(found.column("reward")) == len(found))

    watchers = [threading.Thread(target=watch) for _ in range(4)]
    for watcher in watchers:
        watcher.start()
    for step in range(1, 300):
        append_lines(file, [{"step": step, "reward": 1.0, f"k{step % 7}": 2.0}])
    for watcher in watchers:
        watcher.join()
    assert all(seen)
    assert len(read_metrics(file)) == 299


def test_until_cuts_and_a_later_step_changes_nothing(file: Path) -> None:
    file.write_text("".join(line(step, reward=step) for step in (5, 10, 15)))
    found = read_metrics(file)
    assert found.until(12).steps.tolist() == [5, 10]
    assert len(found.until(0)) == 0
    assert found.until(15) is found
    assert found.until(None) is found


@given(st.lists(st.one_of(st.floats(-1e6, 1e6), st.just(float("nan"))), max_size=3000), st.integers(10, 500))
def test_thinning_keeps_ends_and_extremes(values: list[float], points: int) -> None:
    array = np.array(values, float)
    index = thin(array, points)
    known = array[~np.isnan(array)]
    assert len(index) <= max(points, 0)
    assert (np.diff(index) > 0).all()
    assert not np.isnan(array[index]).any()
    if len(known):
        assert array[index].min() == known.min()
        assert array[index].max() == known.max()
        assert array[index][0] == known[0]
        assert array[index][-1] == known[-1]


def test_thinning_keeps_a_single_spike_of_a_long_run() -> None:
    values = np.zeros(20_000)
    values[12_345] = 9.0
    values[17_001] = -9.0
    index = thin(values)
    assert {12_345, 17_001} <= set(index.tolist())
    assert len(index) <= curves.POINTS


def test_a_running_mean_leaves_gaps_out() -> None:
    nan = float("nan")
    found = running_mean(np.array([nan, 1.0, nan, 3.0, 5.0, 7.0]), 3)
    assert np.isnan(found[0])
    assert found[1:].tolist() == [1.0, 1.0, 2.0, 4.0, 5.0]


def test_contributions_add_up_to_the_logged_reward_where_a_reward_does_not_apply_to_all(tmp_path: Path) -> None:
    """Half of the cases have no findings: the mean of "reasoning" is over the other half."""
    logged = {
        "rewards/format/mean": 1.0,
        "rewards/correctness/mean": 0.5,
        "rewards/reasoning/mean": 0.8,
        "rewards/numeric/mean": None,
        "reward": 0.5 * 1.0 + 2.0 * 0.5 + 1.0 * 0.8 / 2,
    }
    view = View(a_run(tmp_path / "run", [logged] * 3))
    parts = contributions(view.metrics, view.weights)
    assert sum(parts.values()).tolist() == pytest.approx([1.9] * 3)
    assert parts["reasoning"].tolist() == pytest.approx([0.4] * 3)
    assert parts["correctness"].tolist() == pytest.approx([1.0] * 3)
    assert "numeric" not in parts


def test_contributions_without_partial_rewards_are_mean_times_weight(tmp_path: Path) -> None:
    logged = {"rewards/format/mean": 1.0, "rewards/length/mean": -0.4, "reward": 0.4}
    view = View(a_run(tmp_path / "run", [logged]))
    parts = contributions(view.metrics, view.weights)
    assert {name: values.tolist() for name, values in parts.items()} == {
        "format": [0.5],
        "length": pytest.approx([-0.1]),
    }


def test_the_pace_counts_what_happens_between_steps(file: Path) -> None:
    file.write_text("".join(line(step, time=100.0 + 3 * step) for step in range(0, 50, 5)))
    assert seconds_a_step(read_metrics(file)) == pytest.approx(3.0)
    file.write_text(line(1, time=100.0))
    assert seconds_a_step(read_metrics(file)) is None


def test_a_clock_set_back_gives_no_negative_pace(file: Path) -> None:
    file.write_text(line(1, time=200.0) + line(2, time=100.0))
    assert seconds_a_step(read_metrics(file)) is None
