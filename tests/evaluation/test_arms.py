"""A whole evaluation over an engine that answers in form: arms, joined arms, controls, report, pack."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from counting import Counting

from medgrpo.cli import main
from medgrpo.data import load_demonstrations
from medgrpo.engines import BASE, Engine, Sampling
from medgrpo.errors import RunError, SettingsError
from medgrpo.evaluation.arms import Plan, collect, pack, run_plan
from medgrpo.evaluation.folder import read_evaluation, read_lines, write_lines
from medgrpo.evaluation.report import MEASURES, paired_sentence, write_report
from medgrpo.evaluation.summary import Paired


def opened(variant: str) -> tuple[Engine, int]:
    return Counting(), 2


def test_arms_of_two_calls_are_in_one_report(tmp_path: Path) -> None:
    run_plan(Plan(tmp_path, limit=16, arms=("grpo",), name="SFT", fingerprint="aa"), opened)
    run_plan(Plan(tmp_path, limit=16, arms=("base", "base-free", "grpo"), name="GRPO seed 1"), opened)
    evaluation = read_evaluation(tmp_path)
    assert [arm.title for arm in evaluation.arms] == ["base", "base, no instructions", "SFT", "GRPO seed 1"]
    assert [arm.kind for arm in evaluation.arms] == ["base", "base", "sft", "grpo"]
    record = json.loads((tmp_path / "scoreboard.json").read_text())
    assert record["reference"] == "GRPO seed 1"
    assert record["arms"]["SFT"]["adapter_sha256"] == "aa"
    assert set(record["paired"]) == {"base", "base, no instructions", "SFT"}
    for name in ("strict", "copied", "majority_at_k", "pass_at_1", "real_citations", "by_group"):
        assert name in record["arms"]["GRPO seed 1"], name
    assert "Gout" in record["near_confusers"]["GRPO seed 1"]
    report = (tmp_path / "report.md").read_text()
    assert "# casebook, test split, 16 cases" in report
    assert "GRPO seed 1 and SFT are right on exactly the same cases, of 16 that both answered." in report
    for part in ("Strict accuracy by register", "Strict accuracy by condition", "What GRPO seed 1 answered instead"):
        assert f"## {part}" in report
    assert (tmp_path / "accuracy.png").stat().st_size > 5000


def test_a_joined_arm_is_packed_with_the_others(tmp_path: Path) -> None:
    run_plan(Plan(tmp_path / "old", limit=8, arms=("grpo",)), opened)
    joined = {"GRPO (other rewards)": tmp_path / "old" / "grpo"}
    evaluation = run_plan(Plan(tmp_path / "new", limit=8, arms=("base",), joined=joined), opened)
    pack(evaluation, tmp_path / "packed")
    packed = read_evaluation(tmp_path / "packed")
    assert [(arm.title, arm.kind, arm.name) for arm in packed.arms] == [
        ("GRPO (other rewards)", "control", "grpo-other-rewards"),
        ("base", "base", "base"),
    ]
    assert sorted(path.name for path in (tmp_path / "packed" / "base").iterdir()) == [
        "results.jsonl.gz",
        "settings.json",
    ]
    assert len(packed.cases) == 8
    before = {
        path: path.read_bytes() for path in (tmp_path / "packed").rglob("*") if path.suffix in (".gz", ".json", ".md")
    }
    pack(evaluation, tmp_path / "packed")
    assert {path: path.read_bytes() for path in before} == before
    evaluation = run_plan(Plan(tmp_path / "new", limit=8, arms=()), opened)
    with pytest.raises(RunError, match="also holds grpo-other-rewards"):
        pack(evaluation, tmp_path / "packed")


def test_verdicts_in_the_folder_follow_the_matcher_of_today(tmp_path: Path) -> None:
    run_plan(Plan(tmp_path, limit=4, arms=("grpo",)), opened)
    path = tmp_path / "grpo" / "results.jsonl"
    lines = [json.loads(line) | {"correct": None, "why": "old"} for line in path.read_text().splitlines()]
    stranger = lines[0] | {"case_id": "another/case"}
    path.write_text("".join(json.dumps(line) + "\n" for line in [*lines, stranger]))
    run_plan(Plan(tmp_path, limit=4, arms=()), opened)
    whys = {record["case_id"]: record["why"] for record in read_lines(tmp_path / "grpo", "results")}
    assert whys.pop("another/case") == "old"
    assert "old" not in whys.values()


def test_answers_kept_from_before_meanings_and_next_steps_were_known_are_judged_by_them(tmp_path: Path) -> None:
    plan = Plan(tmp_path, limit=4, arms=("grpo", "base"))
    run_plan(plan, opened)
    gold = {case.id: text for case, text in load_demonstrations("casebook", "test", 4)}
    new = ("meanings", "explained", "fitting", "approach", "intact")
    names = ("explanations_fit", "next_step_intact")
    for folder, name in ((tmp_path, "cases"), (tmp_path / "grpo", "results")):
        records = read_lines(folder, name)
        older = [{key: value for key, value in record.items() if key not in new} for record in records]
        write_lines(
            folder, name, [each | ({"text": gold[each["case_id"]]} if "text" in each else {}) for each in older]
        )

    write_report(collect(tmp_path), tmp_path)
    report = (tmp_path / "report.md").read_text()
    kept = json.loads((tmp_path / "scoreboard.json").read_text())["arms"]["GRPO"]
    for name in names:
        assert MEASURES[name][0] not in report
        assert kept[name]["of"] == 0

    run_plan(replace(plan, arms=()), opened)
    record = json.loads((tmp_path / "scoreboard.json").read_text())["arms"]
    assert record["GRPO"]["explanations_fit"]["hits"] == record["GRPO"]["explanations_fit"]["of"] >= 8
    head, _, base, grpo = (tmp_path / "report.md").read_text().splitlines()[2:6]
    assert record["GRPO"]["next_step_intact"]["hits"] == record["GRPO"]["next_step_intact"]["of"] == 4
    for name, others in zip(
        names, ("–", "0.0 % ("), strict=True
    ):  # base explains nothing and is right once, without a step
        column = head.split(" | ").index(MEASURES[name][0])
        assert base.split(" | ")[column].startswith(others)
        assert grpo.split(" | ")[column].startswith("100.0 % (")


def test_controls_are_arms_too(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    run_plan(Plan(tmp_path, limit=32, arms=(), baselines=True), opened)
    arms = read_evaluation(tmp_path).arms
    assert [arm.title for arm in arms] == ["majority", "keyword rule", "TF-IDF + logistic regression"]
    assert {arm.kind for arm in arms} == {"control"}
    assert {len(arm.results) for arm in arms} == {32}


@pytest.mark.parametrize(
    ("plan", "says"),
    [
        ({"arms": ("nope",)}, "--arms 'nope' is unknown"),
        ({"seeds": 3}, "same answer every time"),
        ({"seeds": 0, "sampling": Sampling(1.0)}, "--seeds 0"),
        ({"shuffle": 1}, "--shuffle 1"),
        ({"name": "☂"}, "--name"),
    ],
)
def test_what_makes_no_sense_is_a_sentence(tmp_path: Path, plan: dict[str, object], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        run_plan(Plan(tmp_path, limit=2, **plan), opened)  # type: ignore[arg-type]


def test_an_engine_without_an_adapter_cannot_be_asked_for_one(tmp_path: Path) -> None:
    class Plain(Counting):
        variants = (BASE,)  # type: ignore[assignment]

    with pytest.raises(RunError, match="give --adapter"):
        run_plan(Plan(tmp_path, limit=2), lambda variant: (Plain(), 1))


def test_two_splits_are_one_set_of_cases(tmp_path: Path) -> None:
    evaluation = run_plan(Plan(tmp_path, "out_of_scope", "test+hard", 3, ("grpo",)), opened)
    assert len(evaluation.cases) == 6


def test_options_are_shuffled_judged_by_their_key_and_counted_by_case(tmp_path: Path) -> None:
    options = json.dumps({"A": "Sepsis", "B": "Gout", "C": "Fracture"}).replace('"', '""')
    listed = "A. Sepsis\nB. Gout\nC. Fracture"
    rows = [f'"Case {n}: a hot toe. What is it?\n{listed}",B,"{options}",test' for n in range(3)]
    source = tmp_path / "own.csv"
    source.write_text("question,answer,options,split\n" + "\n".join(rows) + "\n")
    plan = Plan(tmp_path / "out", str(source), arms=("base", "grpo"), shuffle=3)
    run_plan(plan, opened)
    record = json.loads((tmp_path / "out" / "scoreboard.json").read_text())["arms"]
    assert (record["GRPO"]["cases"], record["GRPO"]["answers"]) == (3, 9)
    assert (record["GRPO"]["strict"]["hits"], record["base"]["strict"]["hits"]) == (9, 0)
    assert (record["GRPO"]["consistency"]["hits"], record["base"]["consistency"]["hits"]) == (3, 3)
    assert "| consistent |" in (tmp_path / "out" / "report.md").read_text()


@pytest.mark.parametrize(
    ("paired", "says"),
    [
        (Paired(640, 87, 165, 0.121875, 0.0), "GRPO answers 12.2 points more of the same 640 cases than SFT "
         "(165 only GRPO has right, 87 only SFT; McNemar p < 0.001)."),
        (Paired(10, 3, 1, -0.2, 0.625), "GRPO answers 20.0 points fewer of the same 10 cases than SFT "
         "(1 only GRPO has right, 3 only SFT; McNemar p = 0.625)."),
        (Paired(10, 2, 2, 0.0, 1.0), "GRPO answers as many of the same 10 cases as SFT "
         "(2 only GRPO has right, 2 only SFT; McNemar p = 1.000)."),
        (Paired(0, 0, 0, 0.0, 1.0), "GRPO and SFT answered no case in common."),
    ],
)  # fmt: skip
def test_a_comparison_is_a_plain_sentence(paired: Paired, says: str) -> None:
    assert paired_sentence("GRPO", "SFT", paired) == says


def test_the_command_evaluates_names_and_packs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MEDGRPO_ENGINE", "fake")
    out, packed = str(tmp_path / "out"), str(tmp_path / "packed")
    options = ["evaluate", "--limit", "4", "--arms", "grpo", "--name", "GRPO seed 1", "--out", out, "--pack", packed]
    assert main(options) == 0
    assert "| GRPO seed 1 | 4 |" in capsys.readouterr().out
    assert read_evaluation(Path(packed)).reference == "GRPO seed 1"
    assert main([*options, "--seeds", "2"]) == 2
    assert "--temperature" in capsys.readouterr().err
    assert main([*options, "--temperature", "0.5"]) == 2
    assert "another sampling" in capsys.readouterr().err
