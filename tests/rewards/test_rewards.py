"""Gold wins and cheats lose; every reward in TRL's signature, and every explanation through the same code."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medgrpo.cases import Case
from medgrpo.parsing import compose
from medgrpo.rewards import COLUMNS, PROFILES, REWARDS, Score, case_columns, case_from_columns, explain, total
from medgrpo.rewards.scores import HARD_LENGTH, SOFT_LENGTH

QUESTION = (
    "A 45-year-old woman has sharp chest pain that eases on leaning forward. There is a friction rub. "
    "She had a cold two weeks ago. She works in an office and does not smoke. Blood pressure is normal."
)
DIAGNOSIS = Case(
    "d", QUESTION, "Acute pericarditis", "diagnosis", ("pericarditis",),
    findings=("sharp chest pain that eases on leaning forward", "friction rub", "a cold two weeks ago"),
    meanings=("pain that depends on posture suggests an inflamed pericardium",
              "roughened layers scrape against each other with every beat", "viral infections often precede the illness"),
    approach="ECG, troponin and echocardiography",
)  # fmt: skip
CHOICE = Case("c", "Which drug?", "B", "choice", options={"A": "Aspirin", "B": "Heparin", "C": "Warfarin"})
NUMERIC = Case("n", "Na 140, Cl 104, HCO3 22: anion gap?", "14", "numeric", unit="mmol/L", tolerance=0.5)
OPEN = Case("o", "Why?", "Lack of oxygen", "open", ("hypoxia",))
CASES = (DIAGNOSIS, CHOICE, NUMERIC, OPEN)
GOLD = {
    "d": compose(
        '"Sharp  chest pain that eases on leaning forward" stands out: pain that depends on posture suggests an inflamed '
        "pericardium. With a “friction rub” the roughened layers scrape against each other with every beat.",
        "Acute pericarditis. Next: ECG, troponin and echocardiography.",
    ),
    "c": compose("It needs no monitoring.", "B: Heparin"),
    "n": compose("140 - 104 - 22.", "14 mmol/L"),
    "o": compose("Cells starve.", "Hypoxia."),
}


def score(text: str, case: Case = DIAGNOSIS) -> dict[str, float | None]:
    return {item.name: item.value for item in explain(text, case)}


def worth(text: str, case: Case = DIAGNOSIS) -> float:
    value = total(explain(text, case))
    assert value is not None
    return value


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case.kind))
def test_gold_in_form_earns_every_reward_that_applies(case: Case) -> None:
    scores = score(GOLD[case.id], case)
    assert scores.pop("length") == 0.0
    assert {value for value in scores.values() if value is not None} == {1.0}
    assert (scores["numeric"] is None) == (case.kind != "numeric")
    assert (scores["reasoning"] is None) == (not case.findings)
    assert (scores["meaning"] is None) == (not case.meanings)
    assert (scores["next_step"] is None) == (not case.approach)


@pytest.mark.parametrize(
    ("case", "answer"),
    [
        (DIAGNOSIS, "Gout"),
        (DIAGNOSIS, "Acute pericarditis or gout"),
        (DIAGNOSIS, "Not acute pericarditis"),
        (DIAGNOSIS, "Acute pericarditis, gout, migraine"),
        (DIAGNOSIS, QUESTION),
        (DIAGNOSIS, "?"),
        (DIAGNOSIS, "42"),
        (CHOICE, "A"),
        (CHOICE, "A or B"),
        (CHOICE, "B: Warfarin"),
        (CHOICE, "A, B, C"),
        (NUMERIC, "15 mmol/L"),
        (NUMERIC, "14 or 15"),
        (NUMERIC, "14 mg/dL"),
        (NUMERIC, "1e999"),
        (NUMERIC, "NaN"),
        (NUMERIC, "½"),
    ],
)
def test_a_wrong_answer_in_form_is_worth_less_than_any_right_one_in_form(case: Case, answer: str) -> None:
    reasoning = GOLD[case.id].split("\n")[1]
    right = worth(compose("I think so.", "Acute pericarditis" if case is DIAGNOSIS else case.answer), case)
    assert score(compose(reasoning, answer), case)["correctness"] == 0.0
    assert worth(compose(reasoning, answer), case) < right
    assert 3 * worth(compose("I think so.", answer), case) <= worth(GOLD[case.id], case)


@pytest.mark.parametrize(
    "text",
    [
        "Acute pericarditis",
        "<answer>Acute pericarditis</answer>",
        "The pain points to the heart. <answer>Acute pericarditis</answer>",
        GOLD["d"].replace("reasoning>", "think>"),
        GOLD["d"] + GOLD["d"],
        GOLD["d"] + "\nI hope this helps.",
        "Sure! " + GOLD["d"],
        GOLD["d"].upper(),
        GOLD["d"].replace("</answer>", ""),
    ],
)
def test_gold_with_a_broken_form_earns_less_than_gold(text: str) -> None:
    assert worth(text) < worth(GOLD["d"]) - 0.5
    assert score(text)["format"] == 0.0


def test_correctness_needs_one_closed_answer_block() -> None:
    assert score("Acute pericarditis")["correctness"] == 0.0
    assert score("<answer>Acute pericarditis")["correctness"] == 0.0
    assert score("<answer>Acute pericarditis</answer>")["correctness"] == 1.0
    assert score("<answer>Acute pericarditis</answer><answer>Acute pericarditis</answer>")["correctness"] == 0.0
    assert score("<answer>Acute pericarditis</answer> or gout")["correctness"] == 0.0


def test_an_open_answer_in_other_words_is_not_scored() -> None:
    assert score(compose("x", "too little air in the blood"), OPEN)["correctness"] is None


@pytest.mark.parametrize("text", [GOLD["d"], compose("a\nb\n\nc", "d\ne"), compose("x < 5", "y > 3")])
def test_tag_progress_never_falls_along_a_perfect_text(text: str) -> None:
    values = [score(text[:n])["tags"] or 0.0 for n in range(len(text) + 1)]
    assert values == sorted(values)
    assert (values[0], values[-1]) == (0.0, 1.0)
    assert set(values) == {0.0, 0.25, 0.5, 0.75, 1.0}


@pytest.mark.parametrize(
    ("text", "progress"),
    [
        ("", 0.0),
        ("<answer>b</answer><reasoning>a</reasoning>", 0.0),
        ("<reasoning><reasoning><reasoning>", 0.0),
        ("<reasoning></reasoning><answer></answer>", 0.5),
        (GOLD["d"] + "<answer>b</answer>", 0.5),
        (GOLD["d"] * 2, 0.0),
        ("<think>a</think><answer>b</answer>", 0.0),
        ("</answer></reasoning>", 0.0),
    ],
)
def test_tags_out_of_order_or_repeated_do_not_pay(text: str, progress: float) -> None:
    assert score(text)["tags"] == progress


def test_a_trailing_line_break_changes_nothing() -> None:
    assert explain(GOLD["d"] + "\n", DIAGNOSIS)[:5] == explain(GOLD["d"], DIAGNOSIS)[:5]


def test_numbers_pay_for_value_and_unit() -> None:
    assert score(compose("x", "14 mmol/L"), NUMERIC)["numeric"] == 1.0
    assert score(compose("x", "14"), NUMERIC)["numeric"] == 0.5
    assert score(compose("x", "15 mmol/L"), NUMERIC)["numeric"] == 0.0
    assert score(GOLD["d"])["numeric"] is None


def test_length_costs_only_beyond_the_limit() -> None:
    values = [score("a" * n)["length"] for n in (0, SOFT_LENGTH, (SOFT_LENGTH + HARD_LENGTH) // 2, HARD_LENGTH, 10**6)]
    assert values == [0.0, 0.0, -0.5, -1.0, -1.0]


@pytest.mark.parametrize("name", list(REWARDS))
def test_every_reward_has_the_signature_of_trl(name: str) -> None:
    reward = REWARDS[name]
    assert reward.__name__ == name  # type: ignore[attr-defined]
    rows = [case_columns(case) for case in CASES]
    columns = {key: [row[key] for row in rows] for key in rows[0]}
    texts = [GOLD[case.id] for case in CASES]
    extra = {
        "prompts": ["p"] * 4,
        "completion_ids": [[1]] * 4,
        "trainer_state": object(),
        "log_extra": print,
        "source": ["x"] * 4,
    }
    plain = reward(completions=texts, **columns, **extra)
    chat = reward(completions=[[{"role": "assistant", "content": text}] for text in texts], **columns)
    assert plain == chat
    assert len(plain) == 4
    assert all(value is None or -10 <= value <= 2 for value in plain)


@pytest.mark.parametrize("profile", list(PROFILES))
@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case.kind))
def test_explain_gives_what_the_trainer_gets(profile: str, case: Case) -> None:
    columns = {name: [value] for name, value in case_columns(case).items()}
    for item in explain(GOLD[case.id], case, profile):
        assert isinstance(item, Score)
        assert REWARDS[item.name]([GOLD[case.id]], **columns) == [item.value]
        assert item.weight == PROFILES[profile][item.name]
        assert item.why.endswith(".")


def test_weights_of_your_own_can_be_explained() -> None:
    assert [item.name for item in explain("x", OPEN, {"tags": 1.0, "random": 2.0})] == ["tags", "random"]


def test_form_can_never_outweigh_correctness() -> None:
    weights = PROFILES["medgrpo"]
    assert weights["format"] + weights["tags"] < weights["correctness"]
    assert 3 * (weights["format"] + weights["tags"]) <= weights["format"] + weights["tags"] + weights["correctness"]
    assert weights["reasoning"] + weights["meaning"] + weights["length"] < weights["correctness"]


def test_a_group_over_one_case_and_the_next_gets_its_own_columns() -> None:
    asked = [DIAGNOSIS, DIAGNOSIS, CHOICE, CHOICE, DIAGNOSIS]
    rows = [case_columns(case) for case in asked]
    columns = {name: [row[name] for row in rows] for name in COLUMNS}
    right = [GOLD["d"], GOLD["c"], GOLD["c"], GOLD["d"], GOLD["d"]]
    assert REWARDS["correctness"](right, **columns) == [1.0, 0.0, 1.0, 0.0, 1.0]
    assert REWARDS["format"](right) == [1.0] * 5  # without any column


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case.kind))
def test_columns_survive_the_round_trip(case: Case) -> None:
    row = case_columns(case)
    assert tuple(row) == COLUMNS
    assert isinstance(row["options"], str)
    back = case_from_columns(json.loads(json.dumps(row)) | {"source": "ignored"})
    assert back == case


def test_missing_columns_get_defaults_and_wrong_lengths_a_remedy() -> None:
    assert case_from_columns({"answer": "x", "aliases": None}).kind == "open"
    with pytest.raises(ValueError, match="one row per completion"):
        REWARDS["format"](["a", "b"], answer=["x"])


HOSTILE = [
    "\0", "<reasoning>" * 40, "</answer>" * 40, "1e999", "NaN", "½", "²", "٣", "\u202eأهلا", "\ud800", '"' * 41, "<",
    "“", "“”",
    "<reasoning>", "</reasoning>", "<answer>", "</answer>", "Gout", "A", "B or C", "15",
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case.kind))
@given(text=st.one_of(st.text(), st.lists(st.sampled_from(HOSTILE), max_size=14).map("".join)))
def test_hostile_text_neither_raises_nor_pays(case: Case, text: str) -> None:
    for profile in PROFILES:
        explain(text, case, profile)
    assert worth(text, case) < worth(GOLD[case.id], case)


@pytest.mark.parametrize(
    "unit",
    [
        "<",
        "<reasoning>",
        "<reasoning><answer>",
        '"',
        '"a" ',
        "friction rub ",
        "Acute pericarditis ",
        "\0",
        "½",
        "\u202e",
        "<answer>",
        "\n",
    ],
)
def test_a_megabyte_neither_raises_nor_pays(unit: str) -> None:
    text = unit * (1_000_000 // len(unit))
    for whole in (text, compose(text, "Gout"), compose("a", text)):
        for profile in PROFILES:
            explain(whole, DIAGNOSIS, profile)
        assert worth(whole) <= 1.25
    assert worth(GOLD["d"] + text) <= worth(GOLD["d"]) - 0.25


def test_the_random_control_depends_on_the_text_alone() -> None:
    values = {REWARDS["random"]([text] * 2)[0] for text in ("a", "b", "c")}
    assert len(values) == 3
    assert REWARDS["random"](["a"]) == REWARDS["random"](["a"], answer=["x"])
