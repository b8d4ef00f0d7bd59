"""The Rewards tab shows what the trainer's own functions say."""

import pytest
from helpers import desk_of

from medgrpo.engines.fake import FakeEngine, Script
from medgrpo.errors import EngineError
from medgrpo.rewards import PROFILES, Score, advantages, explain, total
from medgrpo.ui import render_rewards, rewards_tab
from medgrpo.ui.attempts import attempts, cases
from medgrpo.ui.state import Visits


@pytest.fixture(scope="module")
def first():
    title = next(iter(cases()))
    return title, *cases()[title]


def test_every_case_has_every_attempt_and_gold_wins():
    for case, gold in cases().values():
        made = attempts(case, gold)
        assert list(made) == rewards_tab.KINDS
        totals = {kind: total(explain(text, case)) or 0.0 for kind, text in made.items()}
        for kind in ("Right, no form", "Form, wrong answer", "Form only", "Two answers", "Cut off", "Rambling"):
            assert totals["Gold"] > totals[kind], (case.id, kind, totals)


def test_the_sheet_shows_each_reward_with_its_reason(first):
    title, case, gold = first
    shown = rewards_tab.score(title, gold, "medgrpo")
    for score in explain(gold, case):
        assert f">{score.name.replace('_', ' ')}<" in shown
        if score.value is not None:
            assert f"{score.value:.2f} × {score.weight:g}" in shown
    assert f"<b>{total(explain(gold, case)):.2f}</b>" in shown


@pytest.mark.parametrize("profile", list(PROFILES))
def test_every_profile_can_be_shown(first, profile):
    assert "<table>" in rewards_tab.score(first[0], first[2], profile)


@pytest.mark.parametrize("text", ["x" * 1_000_000, "\x00\ud800", "<script>1</script>", "1e999 NaN ½ ٣", "\u202e"])
def test_hostile_completions_are_scored_and_escaped(first, text):
    shown = rewards_tab.score(first[0], text, "medgrpo")
    assert "<script>" not in shown
    shown.encode()


def test_an_empty_completion_teaches(first):
    assert "Write a completion" in rewards_tab.score(first[0], "  ", "medgrpo")
    assert "Choose a case" in rewards_tab.score("", "text", "medgrpo")


def test_a_group_uses_the_weights_and_the_trainers_arithmetic(first):
    title, case, gold = first
    made = attempts(case, gold)
    texts = [made["Gold"], made["Form, wrong answer"], "", made["Rambling"]]
    weights = [1.0, 0.0, 3.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    chosen = dict(zip(rewards_tab.WEIGHTS, weights, strict=True))
    totals = [total(explain(text, case, chosen)) for text in texts if text]
    shown = rewards_tab.compare_group(title, texts, weights)
    for whole, advantage in zip(totals, advantages(totals), strict=True):
        assert f"{whole:.2f}" in shown
        assert f"{advantage:+.2f}".replace("-", "−") in shown
    assert shown.count("more likely") == 1


def test_the_model_can_be_asked_for_a_completion(first):
    title, _, gold = first
    engine = FakeEngine({"base": Script("Gout"), "grpo": Script(gold)})
    *_, last = rewards_tab.written(desk_of(engine), Visits(), "ann", title)
    assert last == gold
    assert list(rewards_tab.written(desk_of(engine), Visits(), "ann", "no such case")) == []


def test_a_model_that_breaks_says_so_and_a_stopped_one_writes_no_more(first):
    broken = FakeEngine({"base": Script("one two three four five", fail_after=2, error="It broke: ask again.")})
    with pytest.raises(EngineError, match="It broke"):
        list(rewards_tab.written(desk_of(broken), Visits(), "ann", first[0]))
    visits = Visits()
    slow = FakeEngine({"base": Script("word " * 400)}, delay=0.01)
    texts = rewards_tab.written(desk_of(slow), visits, "ann", first[0])
    next(texts)
    visits.stop("ann", rewards_tab.PLACE)
    assert list(texts) == []


def test_a_group_without_differences_teaches_nothing():
    assert "nothing is learned" in render_rewards.group([1.0, 1.0], [0.0, 0.0])
    assert "nothing is learned" in render_rewards.group([None, 1.0], [0.0, 0.0])
    assert "at least two" in render_rewards.group([1.0], [0.0])


def test_gold_fills_the_bar_of_the_total(first):
    _, case, gold = first
    assert render_rewards.sheet(explain(gold, case)).rsplit("<tfoot>")[1].count("fill w100") == 1


def test_reasons_are_escaped():
    shown = render_rewards.sheet([Score("format", -0.5, 1.0, "<b>no</b>"), Score("tags", None, 1.0, "n/a")])
    assert "&lt;b&gt;no" in shown
    assert "fill down w50" in shown
    assert "no score" in shown
