"""The Evaluate tab: figures from files, filters, cases side by side, and a run of one's own behind the page."""

import json
import threading
import time
from dataclasses import replace
from pathlib import Path

import gradio as gr
import pytest
from helpers import desk_of, until

from medgrpo.cases import Case
from medgrpo.engines.fake import FakeEngine, Script
from medgrpo.errors import MedGRPOError, RunError, SettingsError
from medgrpo.evaluation.folder import read_evaluation, read_results, write_lines
from medgrpo.evaluation.measures import judge, share
from medgrpo.models import PROFILES
from medgrpo.parsing import compose
from medgrpo.settings import Settings
from medgrpo.ui import evaluate_tab, render_evaluate
from medgrpo.ui.evaluate_job import FEW, MOST, Job, Jobs, Order, unfinished
from medgrpo.ui.evaluate_view import ALL, HERE, PAGE, Sight, choose, places, settled

ATTACK = "<script>window.__pwn=1</script>"
GOOD = compose('"hot toe" fits crystals.', "Gout. Next: aspirate.")
BAD = compose("It is red.", "Sepsis. Next: cultures.")


def case(number: int, answer: str = "Gout", register: str = "note") -> Case:
    question = f"Case {number}: a hot toe. {ATTACK}"
    return Case(
        f"casebook/hard/{register}/{number:03d}", question, answer, "diagnosis", source="casebook", split="hard"
    )


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Runs in a folder with one evaluation of three arms: a control, base, GRPO."""
    root = tmp_path / "evaluations" / "first"
    cases = [case(n, "Gout" if n % 3 else "Sepsis", "letter" if n % 2 else "note") for n in range(90)]
    texts = {
        "majority": lambda c: compose("No model.", "Gout"),
        "base": lambda c: f"It could be anything. {ATTACK}",
        "grpo": lambda c: (
            GOOD if c.answer == "Gout" or c.id.endswith("0") else BAD.replace("Sepsis", f"Gout? {ATTACK}")
        ),
    }
    write_lines(root, "cases", [vars(c) for c in cases])
    for name, text in texts.items():
        write_lines(root / name, "results", [judge(c, text(c), tokens=12).record() for c in cases])
        variant = "control" if name == "majority" else name
        title = "GRPO" if name == "grpo" else name
        (root / name / "settings.json").write_text(json.dumps({"variant": variant, "title": title, "model": "M"}))
    return Settings(engine="fake", runs=tmp_path)


def sight_of(**fields: object) -> Sight:
    return replace(Sight(model=HERE, data="first"), **fields)  # type: ignore[arg-type]


def pick(settings: Settings, **fields: object):
    found = places(settings)
    return choose(settled(sight_of(**fields), found, ""), found)


def test_shipped_evaluations_come_first_and_own_ones_are_found(settings):
    found = places(settings)
    title = PROFILES["smollm2-135m"].title
    assert next(iter(found)) == title
    assert "Casebook hard" in found[title]
    assert list(found)[-1] == HERE
    assert list(found[HERE]) == ["first"]
    assert settled(Sight(), found, title).model == title
    assert settled(Sight(model="gone", data="gone"), found, "also gone").model in found


def test_the_chart_shows_what_the_files_say(settings):
    choice = pick(settings)
    shown = render_evaluate.chart(choice)
    results = read_results(settings.runs / "evaluations" / "first" / "grpo")
    strict = share((r.case_id, bool(r.strict)) for r in results)
    assert f"{100 * strict.value:.1f} %" in shown
    assert f"{100 * strict.low:.1f}–{100 * strict.high:.1f}" in shown
    assert [arm.title for arm in choice.arms] == ["majority", "base", "GRPO"]
    assert shown.count('class="ev-bar"') == 3
    assert 'aria-label="GRPO, after GRPO: ' in shown
    assert shown.count('aria-pressed="true"') == 1
    assert "casebook, hard split, 90 cases" in shown


@pytest.mark.parametrize(
    ("column", "fields", "share", "meaning"),
    [
        (
            "explanations fit",
            lambda number: {"explained": 2, "fitting": 1},
            "50.0 %",
            "what is said of a quoted finding is what it means",
        ),
        (
            "next step intact",
            lambda number: {"intact": number % 4 > 0},
            "75.0 %",
            "the next step is word for word right, of the right answers",
        ),
    ],
)
def test_what_only_some_cases_have_is_a_column_where_an_arm_has_any(settings, column, fields, share, meaning):
    assert column not in render_evaluate.table(pick(settings))
    folder = settings.runs / "evaluations" / "first" / "grpo"
    results = [replace(result, **fields(number)) for number, result in enumerate(read_results(folder)[:40])]
    write_lines(folder, "results", [result.record() for result in results], packed=True)
    shown = render_evaluate.table(pick(settings))
    assert f">{column}</th>" in shown
    row = shown[shown.index("GRPO</th>") :]
    assert f"<td>{share}<small>" in row
    assert meaning in shown


def test_filters_count_only_what_they_leave(settings):
    choice = pick(settings, condition="Sepsis", register="note")
    assert {len(arm.results) for arm in choice.arms} == {15}
    assert {(r.condition, r.group) for arm in choice.arms for r in arm.results} == {("Sepsis", "note")}
    assert "Only Sepsis · note." in render_evaluate.filters(choice)
    assert choice.conditions == ("Gout", "Sepsis")
    assert choice.registers == ("letter", "note")
    assert "15" in render_evaluate.table(choice)
    assert pick(settings, condition="nothing like it").sight.condition == ALL


def test_all_measures_stand_in_the_table(settings):
    shown = render_evaluate.table(pick(settings))
    for heading in (
        "strict accuracy",
        "lenient accuracy",
        "well-formed",
        "cut off",
        "hedged",
        "copied",
        "citations real",
    ):
        assert f">{heading}</th>" in shown
    assert "majority of k" not in shown


def test_the_comparison_is_on_the_same_cases(settings):
    shown = render_evaluate.sentences(pick(settings))
    assert "of the same 90 cases than base" in shown
    assert "McNemar p &lt; 0.001" in shown


def test_the_list_has_word_shape_and_colour_and_is_paged(settings):
    choice = pick(settings)
    shown = render_evaluate.cases(choice)
    assert shown.count("case:casebook") == PAGE
    assert "chip-ok" in shown
    assert "✓</i> right" in shown
    assert "1–40 of 90" in shown
    last = pick(settings, page=99)
    assert last.sight.page == 2
    assert "81–90 of 90" in render_evaluate.cases(last)
    malformed = pick(settings, arm="base", outcome="Malformed")
    assert "◇</i> malformed" in render_evaluate.cases(malformed)
    assert "No case of this arm" in render_evaluate.cases(pick(settings, arm="base", outcome="Right"))


def test_a_case_opens_with_its_answers_side_by_side_and_nothing_is_markup(settings):
    choice = pick(settings, case="casebook/hard/letter/003")
    shown = render_evaluate.case(choice)
    assert "Case 3: a hot toe." in shown
    assert "<b>Reference:</b> Sepsis" in shown
    assert shown.count('<article class="panel"') == 2
    assert shown.count('<details class="reasoning"') == 2
    assert "<script>" not in shown + render_evaluate.cases(choice) + render_evaluate.chart(choice)
    assert "&lt;script&gt;" in shown
    assert "Choose a case" in render_evaluate.case(pick(settings, case="../../etc/passwd"))


def test_small_bars_and_near_confusers(settings):
    choice = pick(settings)
    shown = render_evaluate.parts(choice)
    assert "by register" in shown
    assert "<h4>Sepsis</h4>" in shown
    assert "What GRPO answered instead" in render_evaluate.confusers(choice.arm)
    assert render_evaluate.confusers(replace(choice.arm, results=[])) == ""


def test_clicks_are_looked_up_and_never_trusted():
    sight = Sight(page=3, case="x")
    assert sight.after("arm:GRPO, #1#7") == replace(sight, arm="GRPO, #1", page=0)
    assert sight.after("case:a/b#1").case == "a/b"
    assert sight.after("page:2#1").page == 2
    for nonsense in ("", "page:-1#1", "page:x#1", "drop:table#1", "arm", "#", "page:" + "9" * 90 + "#1"):
        assert sight.after(nonsense).arm == ""
    assert sight.with_("model", "M") == replace(sight, model="M", data="", case="", page=0)


def test_painting_never_fails_and_an_empty_folder_teaches(settings, tmp_path, monkeypatch):
    values = evaluate_tab.paint(settings, sight_of())
    assert "ev-bar" in str(values[4])
    assert evaluate_tab.picked(settings, sight_of(), "case:casebook/hard/letter/003#1")[4] == gr.skip()
    monkeypatch.setattr("medgrpo.ui.evaluate_view.PROFILES", {})
    values = evaluate_tab.paint(replace(settings, runs=tmp_path / "none"), Sight())
    assert "run one below" in str(values[4])


def test_files_for_the_browser(settings):
    choice = pick(settings)
    file = json.loads(evaluate_tab.results_file(choice))
    assert file["name"] == "first-grpo.jsonl"
    assert len(file["text"].splitlines()) == 90
    report = json.loads(evaluate_tab.report_file(choice))
    assert report["name"] == "first-report.md"
    assert report["text"].startswith("# casebook, hard split, 90 cases")


def test_a_changed_file_is_read_again(settings):
    before = pick(settings).arm.results
    folder = settings.runs / "evaluations" / "first" / "grpo"
    write_lines(folder, "results", [r.record() for r in before[:10]])
    fewer = pick(settings)
    assert len(fewer.arm.results) == 10
    assert "Not every arm answered the same cases (majority 90, base 90, GRPO 10)" in render_evaluate.chart(fewer)


def running_desk(settings: Settings, **scripts: Script):
    desk = desk_of(FakeEngine(scripts or {"base": Script("No idea."), "grpo": Script(GOOD)}))
    desk.settings = settings
    return desk


def finish(jobs: Jobs) -> Job:
    assert until(lambda: jobs.last is not None and not jobs.last.running, 20)
    assert jobs.last is not None
    return jobs.last


def begin(desk, jobs, variant="GRPO model", data="Casebook, test split", count=4, name="mine", most=MOST) -> Job:
    return evaluate_tab.start(desk, jobs, "ann", most, variant, data, count, name)


def test_an_evaluation_runs_is_kept_and_compared(settings):
    desk = running_desk(settings)
    jobs = Jobs(desk)
    begin(desk, jobs)
    assert finish(jobs).state == "done"
    begin(desk, jobs, "Base model")
    job = finish(jobs)
    evaluation = read_evaluation(settings.runs / "evaluations" / "mine")
    assert [(arm.title, arm.kind, len(arm.results)) for arm in evaluation.arms] == [
        ("base", "base", 4),
        ("GRPO", "grpo", 4),
    ]
    assert len(evaluation.cases) == 4
    assert "mine" in places(settings)[HERE]
    shown = render_evaluate.progress(job)
    assert "4 of 4 answered" in shown
    assert "Done." in shown
    assert pick(settings, data="mine").missing == 0
    assert (settings.runs / "evaluations" / "mine" / "report.md").is_file()
    assert not desk.line.busy()


def test_a_stopped_evaluation_goes_on_under_its_name(settings):
    slow = FakeEngine({"base": Script("x"), "grpo": Script(GOOD)}, delay=0.02)
    desk = desk_of(slow)
    desk.settings = settings
    jobs = Jobs(desk)
    job = begin(desk, jobs, count=8)
    assert until(lambda: len(job.results) >= 1, 20)
    with pytest.raises(RunError, match="mine is running"):
        begin(desk, jobs, name="other")
    assert "left" in render_evaluate.progress(job)
    job.stop.set()
    assert finish(jobs).state == "stopped"
    answered = len(read_results(settings.runs / "evaluations" / "mine" / "grpo"))
    assert 1 <= answered < 8
    assert pick(settings, data="mine").missing == 8 - answered
    assert "press Evaluate again" in render_evaluate.progress(job)
    slow._delay = 0.0
    again = Jobs(desk)  # as after a restart
    evaluate_tab.go_on(desk, again, "bob", MOST, sight_of(data="mine"))
    assert finish(again).state == "done"
    assert len(again.last.results) == 8
    assert unfinished(settings.runs / "evaluations" / "mine") is None
    with pytest.raises(RunError, match="complete"):
        evaluate_tab.go_on(desk, again, "bob", MOST, sight_of(data="mine"))


def test_questions_of_visitors_go_between_the_cases(settings):
    engine = FakeEngine({"base": Script("x"), "grpo": Script(GOOD)}, delay=0.01)
    desk = desk_of(engine, slots=1)
    desk.settings = settings
    jobs = Jobs(desk)
    job = begin(desk, jobs, count=8)
    assert until(lambda: len(job.results) >= 1, 20)
    ticket = desk.line.join()
    assert until(lambda: desk.line.ahead(ticket) == 0, 5)  # after one case, long before the eighth
    held = len(job.results)
    time.sleep(0.3)
    assert len(job.results) == held < 8
    desk.line.leave(ticket)
    assert finish(jobs).state == "done"


def test_errors_are_sentences_and_what_was_answered_stays(settings):
    broken = running_desk(
        settings, grpo=Script(GOOD, fail_after=2, error="The model broke: ask again."), base=Script("x")
    )
    jobs = Jobs(broken)
    begin(broken, jobs)
    job = finish(jobs)
    assert (job.state, job.note) == ("failed", "The model broke: ask again.")
    assert "The model broke" in render_evaluate.progress(job)
    plain = running_desk(settings, base=Script("x"))
    with pytest.raises(MedGRPOError, match="no adapter"):
        begin(plain, Jobs(plain))


def test_another_adapter_is_not_mixed_into_an_evaluation(settings):
    desk = running_desk(settings)
    jobs = Jobs(desk)
    begin(desk, jobs)
    finish(jobs)
    desk.engine.adapter = "another one"
    begin(desk, jobs, count=8)
    assert "another adapter" in finish(jobs).note
    desk.adapter = "chosen on the page"
    begin(desk, jobs, count=8)
    assert finish(jobs).state == "done"
    assert {arm.title for arm in read_evaluation(settings.runs / "evaluations" / "mine").arms} == {
        "GRPO",
        "another one",
    }


def test_an_adapter_that_changes_meanwhile_ends_the_evaluation(settings):
    desk = desk_of(FakeEngine({"base": Script("x"), "grpo": Script(GOOD)}, delay=0.01))
    desk.settings = settings
    jobs = Jobs(desk)
    job = begin(desk, jobs, count=8)
    assert until(lambda: len(job.results) >= 1, 20)
    desk.engine.adapter = "another one"
    assert "The adapter was changed" in finish(jobs).note


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"data": "/etc/passwd"}, "no data set"),
        ({"count": 0}, "0 cases are out of range"),
        ({"count": MOST + 1}, f"choose 1 to {MOST}"),
        ({"count": FEW + 1, "most": FEW}, "duplicate the Space"),
        ({"name": "☂"}, "no letter or digit"),
    ],
)
def test_what_cannot_be_evaluated_is_a_sentence(settings, fields, says):
    desk = running_desk(settings)
    with pytest.raises(SettingsError, match=says):
        begin(desk, Jobs(desk), **fields)


def test_a_name_is_made_from_the_choices_and_cannot_leave_the_folder(settings):
    assert Order.of(settings, "grpo", "Casebook, hard split", 4, "", MOST).name == "smollm2-135m-casebook-hard-4"
    assert Order.of(settings, "grpo", "Casebook, hard split", 4, "../../My run", MOST).name == "my-run"


def test_the_view_while_it_runs_reports_and_two_starts_race_for_one_place(settings):
    desk = desk_of(FakeEngine({"base": Script("x"), "grpo": Script(GOOD)}, delay=0.005))
    desk.settings = settings
    jobs = Jobs(desk)
    refused: list[MedGRPOError] = []

    def attempt(name: str) -> None:
        try:
            begin(desk, jobs, name=name)
        except MedGRPOError as error:
            refused.append(error)

    threads = [threading.Thread(target=attempt, args=(f"run-{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 3
    progress, run, stop, timer = evaluate_tab.report(jobs)
    assert "answered" in str(progress)
    assert (run.interactive, stop.interactive, timer.active) == (False, True, True)
    finish(jobs)
    assert [each.interactive for each in evaluate_tab.report(jobs)[1:3]] == [True, False]
