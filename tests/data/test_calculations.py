"""Every formula against an example worked by hand, and the cases made from them."""

import re

import pytest

from medgrpo.data import formulas, load_cases, load_demonstrations
from medgrpo.data.calculations import SIZES
from medgrpo.errors import DataError

# formula, inputs, value worked by hand
WORKED = [
    ("anion_gap", {"sodium": 140, "chloride": 104, "bicarbonate": 24}, 12),
    ("corrected_anion_gap", {"sodium": 140, "chloride": 104, "bicarbonate": 24, "albumin": 20}, 17),
    ("corrected_sodium", {"sodium": 130, "glucose": 600}, 138),
    ("mean_arterial_pressure", {"systolic": 120, "diastolic": 80}, 93.333),
    ("body_mass_index", {"weight": 70, "height": 175}, 22.857),
    ("creatinine_clearance", {"age": 60, "weight": 72, "creatinine": 1.0, "female": 0}, 80),
    ("creatinine_clearance", {"age": 60, "weight": 72, "creatinine": 1.0, "female": 1}, 68),
    ("pack_years", {"cigarettes": 30, "years": 20}, 30),
    ("gradient", {"fio2": 21, "paco2": 40, "pao2": 90}, 9.73),
    ("glasgow_coma_scale", {"eye": 3, "verbal": 4, "motor": 5}, 12),
    ("curb65", {"confusion": 1, "urea": 8, "respiratory_rate": 32, "systolic": 85, "diastolic": 50, "age": 70}, 5),
    ("curb65", {"confusion": 0, "urea": 7, "respiratory_rate": 29, "systolic": 90, "diastolic": 61, "age": 64}, 0),
    ("curb65", {"confusion": 0, "urea": 7, "respiratory_rate": 30, "systolic": 90, "diastolic": 60, "age": 65}, 3),
    ("qsofa", {"respiratory_rate": 22, "systolic": 100, "confusion": 1}, 3),
    ("qsofa", {"respiratory_rate": 21, "systolic": 101, "confusion": 0}, 0),
    (
        "cha2ds2_vasc",
        {"age": 75, "female": 1, "heart_failure": 1, "hypertension": 1, "diabetes": 1, "stroke": 1, "vascular": 1},
        9,
    ),
    (
        "cha2ds2_vasc",
        {"age": 65, "female": 0, "heart_failure": 0, "hypertension": 1, "diabetes": 0, "stroke": 0, "vascular": 0},
        2,
    ),
    (
        "cha2ds2_vasc",
        {"age": 64, "female": 0, "heart_failure": 0, "hypertension": 0, "diabetes": 0, "stroke": 1, "vascular": 0},
        2,
    ),
    (
        "wells",
        {
            "heart_rate": 101,
            "leg_signs": 1,
            "likeliest": 1,
            "immobile": 1,
            "previous": 1,
            "haemoptysis": 1,
            "cancer": 1,
        },
        12.5,
    ),
    (
        "wells",
        {
            "heart_rate": 100,
            "leg_signs": 0,
            "likeliest": 1,
            "immobile": 1,
            "previous": 0,
            "haemoptysis": 0,
            "cancer": 0,
        },
        4.5,
    ),
]


@pytest.mark.parametrize(("name", "inputs", "value"), WORKED)
def test_worked_examples(name: str, inputs: dict[str, float], value: float) -> None:
    working = getattr(formulas, name)(**inputs)
    assert working.value == pytest.approx(value, abs=0.01)
    assert float(working.steps.rsplit(" = ", 1)[1]) == pytest.approx(value, abs=0.01)


def test_every_formula_has_a_worked_example_a_source_and_cases() -> None:
    names = {case.id.split("/")[2] for case in load_cases("calculations", "train")}
    assert names == {name for name, _, _ in WORKED}
    assert all(re.search(r"(19|20)\d\d|Dictionary", getattr(formulas, name).__doc__) for name in names)


def test_sizes_splits_and_gold() -> None:
    questions: set[str] = set()
    count = 0
    for split in SIZES:
        for case, text in load_demonstrations("calculations", split):
            questions.add(case.question)
            count += 1
            assert case.kind == "numeric"
            assert case.split == split
            assert f"<answer>\n{case.answer}{' ' if case.unit else ''}{case.unit}\n</answer>" in text
            worked = float(re.search(r"= (-?[\d.]+)(?: [a-zA-Z/2-]+)?\.\n</reasoning>", text).group(1))
            assert float(case.answer) == pytest.approx(worked, abs=0.06 if "." in case.answer else 0.51)
            assert not re.search(r"[{}]", case.question)
    assert count == len(questions) >= 1000


def test_hard_uses_texts_of_its_own() -> None:
    def shapes(split: str) -> set[str]:
        return {
            case.question.split()[0] + case.question[-12:]
            for case in load_cases("calculations", split)
            if "glasgow" not in case.id
        }

    assert len(shapes("hard") & shapes("train")) <= 2


def test_an_unknown_split_is_named() -> None:
    with pytest.raises(DataError, match="no split 'dev'"):
        load_cases("calculations", "dev")


def test_a_limit_takes_every_formula_in_turn() -> None:
    some = load_cases("calculations", "test", limit=13, seed=3)
    assert len({case.id.split("/")[2] for case in some}) == 13
