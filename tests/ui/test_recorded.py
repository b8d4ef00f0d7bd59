"""A recording is played as if it were live: by time, at a speed, with Pause, and as the visitor last wished."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))

from written_runs import a_run, steady, write_status

from medgrpo.training.run_directory import RunDirectory
from medgrpo.training.view import View
from medgrpo.ui import recorded, train_live
from medgrpo.ui.recorded import Place, Replay
from medgrpo.ui.state import Kept


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    run = a_run(tmp_path / "run", steady(20))
    write_status(run, step=20, total=40)
    return run


def test_the_recordings_ship_and_have_names():
    found = recorded.recordings()
    assert "recorded:smollm2-135m" in found
    for run_id, run in found.items():
        assert recorded.is_recorded(run_id)
        assert recorded.title(run_id) != run_id
        assert len(View(run).metrics) > 10
    assert not recorded.is_recorded("20260101-run")
    assert not recorded.is_recorded(None)


def test_a_replay_runs_at_its_speed_and_ends(run):
    waits = recorded.begin("recorded:x", run)
    assert waits.speed in recorded.SPEEDS
    assert recorded.place(waits, run, 500.0).step == 0
    replay = recorded.looked_at(replace(waits, speed=2.0), 100.0)
    assert recorded.looked_at(replay, 101.0) is replay
    assert recorded.place(replay, run, 102.0) == Place(2, True, 2.0, 20)  # 2 s a step, twice as fast
    assert recorded.place(replay, run, 119.9).playing
    assert recorded.place(replay, run, 1000.0) == Place(20, False, 2.0, 20)
    again = recorded.pressed(replay, run, 1000.0)
    assert recorded.place(again, run, 1000.0) == Place(0, True, 2.0, 20)


def test_pause_holds_play_goes_on_and_speed_changes_from_where_it_is(run):
    replay = Replay("recorded:x", base=7.0, speed=1.0, since=10.0)
    paused = recorded.pressed(replay, run, 11.0)
    assert recorded.place(paused, run, 99.0) == Place(7, False, 1.0, 20)
    going = recorded.pressed(paused, run, 50.0)
    assert recorded.place(going, run, 53.0) == Place(9, True, 1.0, 20)
    faster = recorded.hurried(going, run, 10, 53.0)
    assert recorded.place(faster, run, 54.0) == Place(14, True, 10.0, 20)
    assert not recorded.place(recorded.hurried(paused, run, 10, 53.0), run, 99.0).playing
    assert recorded.place(recorded.moved(faster, 3), run, 99.0) == Place(3, False, 10.0, 20)


def test_play_before_the_first_look_begins(run):
    going = recorded.pressed(recorded.begin("recorded:x", run), run, 5.0)
    assert recorded.looked_at(going, 6.0) is going
    assert recorded.place(going, run, 6.0).playing


def test_time_passes_with_looks_but_not_with_opening(run):
    find = {"recorded:x": run}.__getitem__
    replay = Kept(None)
    at = train_live.played("recorded:x", replay, find, 10.0, begins=False)
    assert (replay.value.waits, at.step, at.playing) == (True, 0, False)
    train_live.played("recorded:x", replay, find, 20.0)
    started = replay.value
    assert not started.waits
    assert train_live.played("recorded:x", replay, find, 22.0).step > 0
    assert replay.value is started
    assert train_live.played("live", replay, find, 23.0) is None
    assert replay.value is None
