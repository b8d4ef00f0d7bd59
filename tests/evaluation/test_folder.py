"""The files of an evaluation: torn lines, packed bytes, cases that changed."""

import gzip
import json
from dataclasses import replace
from pathlib import Path

import pytest

from medgrpo.cases import Case
from medgrpo.errors import RunError
from medgrpo.evaluation.folder import (
    Arm,
    compared,
    find_evaluations,
    keep_cases,
    kind_of,
    read_cases,
    read_evaluation,
    read_lines,
    read_results,
    slug,
    write_lines,
)
from medgrpo.evaluation.measures import judge
from medgrpo.evaluation.report import scoreboard
from medgrpo.models import ASSETS
from medgrpo.parsing import compose

CASE = Case("c/test/note/1", "A hot toe.", "Gout", "diagnosis", ("podagra",), {"A": "x"}, findings=("hot toe",))
RESULT = judge(CASE, compose("A hot toe.", "Gout – sure"))


def test_packed_and_plain_lines_are_read_alike(tmp_path: Path) -> None:
    write_lines(tmp_path, "results", [RESULT.record()])
    plain = read_results(tmp_path)
    write_lines(tmp_path, "results", [RESULT.record()], packed=True)
    assert read_results(tmp_path) == plain == [RESULT]
    assert [path.name for path in tmp_path.iterdir()] == ["results.jsonl.gz"]


def test_the_same_lines_are_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_lines(tmp_path / name, "results", [RESULT.record()], packed=True)
    first, second = ((tmp_path / name / "results.jsonl.gz").read_bytes() for name in ("a", "b"))
    assert first == second
    assert first[4:8] == b"\0\0\0\0"  # no time in the header
    assert gzip.decompress(first).endswith(b"\n")


def test_torn_and_foreign_lines_are_left_out(tmp_path: Path) -> None:
    write_lines(tmp_path, "results", [RESULT.record()])
    with (tmp_path / "results.jsonl").open("a") as file:
        file.write('[1]\n{"case_id": "x"}\n{"case_id": "c/te')
    assert read_results(tmp_path) == [RESULT]
    assert len(read_lines(tmp_path, "results")) == 2


def test_a_later_answer_replaces_an_earlier_one_even_beside_a_packed_file(tmp_path: Path) -> None:
    write_lines(tmp_path, "results", [RESULT.record()], packed=True)
    later = judge(CASE, compose("x", "Sepsis"))
    (tmp_path / "results.jsonl").write_text((tmp_path / "results.jsonl.gz").name + "\n")
    with (tmp_path / "results.jsonl").open("a") as file:
        file.write(json.dumps(later.record()) + "\n")
    assert read_results(tmp_path) == [later]


def test_cases_are_kept_as_they_were_asked(tmp_path: Path) -> None:
    keep_cases(tmp_path, [CASE])
    keep_cases(tmp_path, [replace(CASE, id="c/test/note/2")])
    assert read_cases(tmp_path) == {case.id: case for case in (CASE, replace(CASE, id="c/test/note/2"))}
    with pytest.raises(RunError, match="older version of these cases"):
        keep_cases(tmp_path, [replace(CASE, question="A cold toe.")])


@pytest.mark.parametrize("packed", [False, True])
def test_cases_kept_before_meanings_were_known_get_them(tmp_path: Path, packed: bool) -> None:
    older = {name: value for name, value in vars(CASE).items() if name != "meanings"}
    write_lines(tmp_path, "cases", [older, older | {"id": "c/test/note/2"}], packed)
    told = replace(CASE, meanings=("the big toe is the classic site",))
    keep_cases(tmp_path, [CASE])
    assert {case.meanings for case in read_cases(tmp_path).values()} == {()}
    keep_cases(tmp_path, [told])
    assert read_cases(tmp_path) == {CASE.id: told, "c/test/note/2": replace(CASE, id="c/test/note/2")}
    keep_cases(tmp_path, [CASE])  # as asked by someone who doesn't know them
    assert read_cases(tmp_path)[CASE.id] == told


def test_cases_kept_before_the_next_step_was_known_get_it(tmp_path: Path) -> None:
    told = replace(CASE, approach="Serum urate")
    older = {name: value for name, value in vars(CASE).items() if name != "approach"}
    write_lines(tmp_path, "cases", [older, older | {"id": "c/test/note/2"}])
    assert {case.approach for case in read_cases(tmp_path).values()} == {""}
    keep_cases(tmp_path, [told])
    assert read_cases(tmp_path) == {CASE.id: told, "c/test/note/2": replace(CASE, id="c/test/note/2")}
    keep_cases(tmp_path, [CASE])  # as asked by someone who doesn't know it
    assert read_cases(tmp_path)[CASE.id] == told


def test_kinds_of_arms() -> None:
    assert kind_of("SFT", {"variant": "grpo"}) == "sft"
    assert kind_of("GRPO from SFT 300", {"variant": "grpo"}) == "grpo"
    assert kind_of("GRPO (random rewards)", {"variant": "grpo"}) == "control"
    assert kind_of("base, 3 examples", {"variant": "base"}) == "base"
    assert kind_of("majority", {"variant": "control"}) == "control"


def test_names_of_folders() -> None:
    assert slug("GRPO, seed 1 (β=0)") == "grpo-seed-1-0"
    assert slug("../../etc") == "etc"
    assert slug("☂") == ""


def test_an_empty_folder_teaches(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="python -m medgrpo evaluate"):
        read_evaluation(tmp_path)
    assert find_evaluations(tmp_path / "missing") == []


SHIPPED = [each for place in sorted(ASSETS.glob("*/evaluation")) for each in find_evaluations(place)]


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda path: f"{path.parts[-3]}-{path.name}")
def test_shipped_evaluations_say_what_their_answers_say(folder: Path) -> None:
    evaluation = read_evaluation(folder)
    now = json.loads(json.dumps(scoreboard(evaluation)), parse_float=lambda number: round(float(number), 9))
    kept = json.loads((folder / "scoreboard.json").read_text(), parse_float=lambda number: round(float(number), 9))
    for part in ("title", "arms", "paired", "reference"):
        assert now[part] == kept[part], part
    for arm in evaluation.arms:
        assert {result.case_id for result in arm.results} <= evaluation.cases.keys()
        assert [path.name for path in (folder / arm.name).glob("results*")] == ["results.jsonl.gz"]
        assert "/" not in str(arm.settings.get("model"))


def test_there_is_something_shipped_to_look_at() -> None:
    assert "casebook-hard" in {path.name for path in SHIPPED}


def test_the_most_telling_comparison_stands_first() -> None:
    titles = {"majority": "control", "base": "base", "SFT": "sft", "GRPO": "grpo", "GRPO, seed 1": "grpo"}
    arms = [Arm(title, title, kind, {}, []) for title, kind in titles.items()]
    assert [arm.title for arm in compared(arms, arms[3])] == ["SFT", "base", "GRPO, seed 1", "majority"]
