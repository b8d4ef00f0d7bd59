"""The line in front of the engine and the stop flags."""

import threading
import time
from copy import deepcopy
from functools import partial

from medgrpo.ui.state import Kept, Line, Panel, Visits


def test_line_serves_first_come_first_served():
    line = Line(2)
    first, second, third, fourth = (line.join() for _ in range(4))
    assert [line.ahead(ticket) for ticket in (first, second, third, fourth)] == [0, 0, 1, 2]
    assert (line.busy(), line.waiting()) == (2, 2)
    line.leave(second)
    assert [line.ahead(third), line.ahead(fourth)] == [0, 1]
    line.leave(second)
    for ticket in (first, third, fourth):
        line.leave(ticket)
    assert not line.busy()


def test_a_new_run_replaces_the_one_before():
    visits = Visits()
    first = visits.begin("ann", "compare")
    second = visits.begin("ann", "compare")
    assert first.is_set()
    assert first.replaced
    assert not second.is_set()
    visits.end("ann", "compare", first)
    visits.stop("ann", "compare")
    assert second.is_set()
    assert not second.replaced


def test_visitors_do_not_stop_each_other():
    visits = Visits()
    ann, bob, elsewhere = (visits.begin(*key) for key in (("ann", "compare"), ("bob", "compare"), ("ann", "base")))
    visits.stop("ann", "compare")
    assert ann.is_set()
    assert not bob.is_set()
    assert not elsewhere.is_set()
    visits.leave("ann")
    assert elsewhere.is_set()
    assert not bob.is_set()
    visits.stop("nobody", "compare")


def test_stopping_a_panel_keeps_finished_ones():
    assert Panel("base", "writing").stopped().phase == "stopped"
    assert Panel("base", "done").stopped().phase == "done"
    assert Panel("base", "error", note="why").stopped().note == "why"


def test_of_two_changes_at_once_none_is_lost():
    kept = deepcopy(Kept(()))  # gr.State keeps a copy for each visitor

    def slowly(before: tuple[int, ...], new: int) -> tuple[int, ...]:
        time.sleep(0.01)
        return (*before, new)

    threads = [threading.Thread(target=kept.change, args=(partial(slowly, new=each),)) for each in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(kept.value) == list(range(8))
