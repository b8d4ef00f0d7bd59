"""Gold wins and cheats lose on every source: the generated ones, each Hub adapter by its fixture, a person's own file."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from medgrpo.cases import Case
from medgrpo.data import FRAGMENTS, GENERATED, PRACTICE, TRAIN_ONLY, load_cases, load_demonstrations
from medgrpo.data.demonstrations import in_form
from medgrpo.data.files import SPLITS, read_file
from medgrpo.data.hub import ADAPTERS, load_hub
from medgrpo.data.knowledge import load_conditions
from medgrpo.parsing import compose, parse
from medgrpo.rewards import explain, total
from medgrpo.rewards.audit import audit, audit_sources, gold_completion

ROOT = Path(__file__).parents[2]
FIXTURES = ROOT / "tests" / "data" / "fixtures"
OWN = ROOT / "examples" / "own_cases.csv"
SOURCES = [*(f"{name}/{split}" for name in GENERATED for split in SPLITS), f"{FRAGMENTS}/train", *ADAPTERS, "own_cases"]
VIGNETTES = [*(("casebook", split) for split in SPLITS), *((name, "train") for name in TRAIN_ONLY)]
ATTACKED = 16  # cases a source that are cheated on; gold is tried on all

Pairs = list[tuple[Case, str]]


class Rows(list[Any]):
    """A fixture as `datasets` would hand it over; `tests/data/test_hub.py` reads it through the real library."""

    @property
    def column_names(self) -> list[str]:
        return list(self[0])


def fixture(repo: str, config: str | None, *, revision: str, split: str) -> Rows:
    """The fixture that has the adapter's columns, whatever split is asked for."""
    columns = {column for adapter in ADAPTERS.values() if adapter.repo == repo for column in adapter.columns}
    files = (path.read_text(encoding="utf-8").splitlines() for path in sorted(FIXTURES.glob("*.jsonl")))
    return next(rows for rows in (Rows(map(json.loads, lines)) for lines in files) if columns <= set(rows[0]))


@cache
def pairs(source: str) -> tuple[tuple[Case, str], ...]:
    """Every case of a source with its gold completion."""
    if source == "own_cases":
        return tuple((case, gold_completion(case)) for case in read_file(OWN).cases)
    if source in ADAPTERS:
        told = [pair for split in ADAPTERS[source].splits for pair in load_hub(source, split, fixture)]
        return tuple((case, in_form(*answer) if answer else gold_completion(case)) for case, answer in told)
    return tuple(load_demonstrations(*source.split("/")))


def some(source: str) -> Pairs:
    """A few of them, spread over the source."""
    found = pairs(source)
    return list(found[:: max(1, len(found) // ATTACKED)])[:ATTACKED]


def phrase(case: Case) -> str:
    return (
        f"{case.answer}: {case.options[case.answer]}" if case.kind == "choice" else f"{case.answer} {case.unit}".strip()
    )


def wrong(case: Case) -> str:
    if case.kind == "choice":
        return next(f"{letter}: {text}" for letter, text in case.options.items() if letter != case.answer)
    if case.kind == "numeric":
        return f"{float(case.answer) + 10 * (1 + case.tolerance):g} {case.unit}".strip()
    return "Migraine" if case.answer == "Gout" else "Gout"


def cheats(case: Case, gold: str) -> dict[str, str]:
    """Completions that deserve less than any right answer in form."""
    reasoning, right, other = parse(gold, final=True).reasoning, phrase(case), wrong(case)
    filler = "It is important to weigh every aspect of this case with care. " * 160
    return {
        "nothing": "",
        "empty blocks": compose("", ""),
        "full stops": compose(".", "..."),
        "zero-width": compose("\u200b", "\u2060"),
        "the form alone": compose("The findings point to one answer.", "It is hard to say."),
        "a wrong answer": compose(reasoning, other),
        "A or B": compose(reasoning, f"{right} or {other}"),
        "a wrong answer, right step": compose(reasoning, f"{other}. Next: {case.approach or 'rest'}."),
        "B or A": compose(reasoning, f"{other} or {right}"),
        "a list": compose(reasoning, f"- {right}\n- {other}"),
        "denied": compose(reasoning, f"Not {right}"),
        "unlikely": compose(reasoning, f"{right} is unlikely"),
        "another block": f"{gold}\n<answer>\n{other}\n</answer>",
        "a first block": f"{compose(reasoning, other)}\n<answer>\n{right}\n</answer>",
        "no form": f"{reasoning}\n\n{right}",
        "answer not closed": gold.removesuffix("</answer>"),
        "the case as answer": compose("It says so.", case.question),
        "the case quoted": compose(f'"{case.question}"', other),
        "filler": compose(filler, other),
        "right in filler": compose("The findings fit.", f"{other}. {filler} {right}"),
    }


def worth(text: str, case: Case) -> float:
    return total(explain(text, case)) or 0.0


@pytest.mark.parametrize("source", [*SOURCES, f"{PRACTICE}/train"])
def test_gold_in_form_earns_everything_that_applies(source: str) -> None:
    assert pairs(source)
    for case, gold in pairs(source):
        scores = {score.name: score.value for score in explain(gold, case)}
        assert scores.pop("length") == 0.0, case.id
        assert set(scores.values()) - {None} == {1.0}, (case.id, scores)
        assert scores["correctness"] == scores["format"] == 1.0
        assert (scores["numeric"] is None) == (case.kind != "numeric")
        assert (scores["reasoning"] is None) == (not case.findings)
        assert (scores["meaning"] is None) == (not case.meanings)
        assert (scores["next_step"] is None) == (not case.approach)


@pytest.mark.parametrize(("source", "split"), VIGNETTES)
def test_every_vignette_says_what_its_findings_mean(source: str, split: str) -> None:
    for case in load_cases(source, split):
        assert len(case.meanings) == len(case.findings) > 0, case.id
        assert explain(gold_completion(case), case, {"meaning": 1.0})[0].value == 1.0, case.id


@pytest.mark.parametrize(("source", "split"), VIGNETTES)
def test_every_vignette_names_the_next_step_of_its_condition(source: str, split: str) -> None:
    approaches = {condition.name: condition.approach for condition in load_conditions()}
    for case in load_cases(source, split):
        assert case.approach == approaches[case.answer] != "", case.id


@pytest.mark.parametrize("source", ["calculations", "out_of_scope"])
def test_other_sources_name_no_next_step(source: str) -> None:
    assert {case.approach for case in load_cases(source, "test")} == {""}


@pytest.mark.parametrize("source", SOURCES)
def test_a_cheat_earns_less_than_any_right_answer_in_form(source: str) -> None:
    for case, gold in some(source):
        answer = parse(gold, final=True).answer
        least = min(
            worth(gold, case), worth(compose("It fits.", answer), case), worth(compose("It fits.", phrase(case)), case)
        )
        paid = {name: worth(text, case) for name, text in cheats(case, gold).items()}
        assert {name: value for name, value in paid.items() if value >= least} == {}, (case.id, least)
        assert 3 * paid["the form alone"] <= worth(gold, case), case.id
        assert max(paid[name] for name in ("nothing", "empty blocks", "full stops", "zero-width")) <= 0.125, case.id


@pytest.mark.parametrize("source", SOURCES)
def test_the_audit_passes_for_the_profile_we_train_with_and_fails_for_the_others(source: str) -> None:
    chosen = some(source)
    cases = [case for case, _ in chosen]
    report = audit(cases, "medgrpo", chosen)
    assert report.passed, report.render()
    assert report.source == source.split("/")[0]
    assert audit(cases, "medgrpo").passed  # with plain gold completions, as before a training run
    for profile in ("legacy", "format_only", "random"):
        assert not audit(cases, profile, chosen).passed, profile


def test_a_mixture_is_audited_part_by_part() -> None:
    cases = load_cases("casebook+out_of_scope+calculations", "validation", 24)
    reports = audit_sources(cases, "medgrpo", load_demonstrations("casebook+calculations", "validation", 8))
    assert {report.source for report in reports} == set(GENERATED)
    assert sum(report.cases for report in reports) >= 24
    assert all(report.passed for report in reports), "\n".join(report.render() for report in reports)
    assert not any(report.passed for report in audit_sources(cases, "legacy"))
    assert audit_sources([]) == []
