"""The matcher: right answers in many wordings, and the cheats and near misses that are not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medgrpo.cases import Case
from medgrpo.matching import LONGEST, match, states_unit


def diagnosis(answer: str, *aliases: str) -> Case:
    return Case("d", "A patient is unwell.", answer, "diagnosis", aliases)


MI = diagnosis("Acute myocardial infarction", "MI", "heart attack", "STEMI", "myocardial infarction")
PERICARDITIS = diagnosis("Acute pericarditis", "pericarditis")
EMBOLISM = diagnosis("Pulmonary embolism", "PE", "pulmonary thromboembolism")
REFLUX = diagnosis("Gastro-oesophageal reflux disease", "GORD", "GERD", "acid reflux")
PNEUMONIA = diagnosis("Community-acquired pneumonia", "CAP", "pneumonia")
MENINGITIS = diagnosis("Bacterial meningitis", "meningitis", "meningococcal meningitis")
HEART_FAILURE = diagnosis("Acute heart failure")
THROMBOSIS = diagnosis("Deep vein thrombosis", "DVT")
ANAEMIA = diagnosis("Iron-deficiency anaemia", "IDA")
COPD = diagnosis("COPD exacerbation", "AECOPD")
ASTHMA = diagnosis("Asthma exacerbation", "acute asthma")
BLEED = diagnosis("Subarachnoid haemorrhage", "SAH")
COLIC = diagnosis("Renal colic", "kidney stone", "ureteric stone")


@pytest.mark.parametrize(
    ("case", "text"),
    [
        (MI, "Acute myocardial infarction. Next: ECG and troponin to look for pulmonary embolism."),
        (MI, "The most likely diagnosis is acute inferior ST-elevation myocardial infarction (STEMI)."),
        (MI, "**Diagnosis:** Acute MI"),
        (MI, "Diagnosis:\nAcute MI"),
        (MI, "MI"),
        (MI, "Acute MI / heart attack"),
        (MI, "ＡＣＵＴＥ ＭＹＯＣＡＲＤＩＡＬ ＩＮＦＡＲＣＴＩＯＮ"),
        (PERICARDITIS, "Acute pericarditis, likely viral, given the positional chest pain and friction rub."),
        (PERICARDITIS, "Viral pericarditis"),
        (
            PERICARDITIS,
            "The patient is a 45-year-old man with a history of asthma who has chest pain. The most likely "
            "diagnosis is acute "
            "pericarditis. Myocardial infarction is less likely because the ECG shows diffuse ST elevation.",
        ),
        (REFLUX, "Gastroesophageal reflux disease"),
        (REFLUX, "gastro-esophageal reflux disease (GERD)"),
        (PNEUMONIA, "Community acquired bacterial pneumonia"),
        (PNEUMONIA, "Pneumonia, right lower lobe"),
        (HEART_FAILURE, "Acute decompensated heart failure"),
        (HEART_FAILURE, "Heart failure with reduced ejection fraction"),
        (THROMBOSIS, "Left deep venous thrombosis of the calf"),
        (ANAEMIA, "Iron deficiency anemia due to chronic blood loss"),
        (COPD, "Acute exacerbation of COPD"),
        (COPD, "Infective exacerbation of COPD"),
        (ASTHMA, "Acute exacerbation of asthma"),
        (BLEED, "Aneurysmal subarachnoid hemorrhage (SAH)"),
        (EMBOLISM, "Pulmonary embolism, not pneumonia"),
        (EMBOLISM, "Pulmonary embolism rather than pneumonia."),
        (EMBOLISM, "Not pneumonia but pulmonary embolism"),
        (EMBOLISM, "Acute pulmonary embolus secondary to DVT"),
        (EMBOLISM, "PE. The tachycardia and clear chest support this."),
        (EMBOLISM, "Based on the findings, this is most consistent with a pulmonary embolism."),
        (EMBOLISM, "The patient likely has a pulmonary embolism."),
        (EMBOLISM, "Possible pulmonary embolism."),
        (EMBOLISM, "1. Pulmonary embolism"),
        (EMBOLISM, "Answer: Pulmonary embolism (PE)"),
        (EMBOLISM, "Pulmonary embolism. Next step: CT pulmonary angiography. If negative consider pneumonia."),
        (EMBOLISM, "**Pulmonary embolism**\n\n**Next step:** CT angiography\n\n- Heparin for PE\n\n- Look for DVT"),
        (EMBOLISM, "Dyspnoea due to pulmonary embolism"),
        (EMBOLISM, "I would diagnose pulmonary embolism"),
        (MENINGITIS, "Meningococcal meningitis"),
    ],
)
def test_a_right_diagnosis_in_free_words(case: Case, text: str) -> None:
    verdict = match(text, case)
    assert verdict.correct is True, verdict.why


@pytest.mark.parametrize(
    ("case", "text"),
    [
        (MI, "Pulmonary embolism"),
        (MI, "minor illness"),
        (EMBOLISM, "people"),
        (EMBOLISM, "Perforated peptic ulcer"),
        (MI, "Post-MI pericarditis"),
        (MI, "Sepsis due to MI"),
        (MENINGITIS, "Viral meningitis"),
        (PNEUMONIA, "history of pneumonia"),
        (COLIC, "Of relevance in the history: kidney stones in the family"),
        (PNEUMONIA, "Not pneumonia"),
        (PNEUMONIA, "Pneumonia is unlikely"),
        (PNEUMONIA, "Pneumonia, given the findings, is unlikely"),
        (PNEUMONIA, "Rule out pneumonia"),
        (PNEUMONIA, "This is not community-acquired pneumonia."),
        (PERICARDITIS, "Not Acute pericarditis."),
        (PERICARDITIS, "Pericarditis is ruled out."),
        (PERICARDITIS, "It is impossible that this is pericarditis"),
        (PERICARDITIS, "Next: pericarditis"),
        (PERICARDITIS, "None of the above"),
        (PERICARDITIS, "I cannot say"),
        (PERICARDITIS, "Acute pericarditis. However, this is unlikely; more likely gout."),
        (PERICARDITIS, ""),
        (PERICARDITIS, " \u200b\n"),
    ],
)
def test_a_wrong_or_denied_diagnosis(case: Case, text: str) -> None:
    verdict = match(text, case)
    assert verdict.correct is False
    assert verdict.why.endswith(".")


@pytest.mark.parametrize(
    ("case", "text"),
    [
        (MI, "Acute MI or pulmonary embolism"),
        (MI, "MI vs. PE"),
        (MI, "MI/PE"),
        (MI, "Possibly MI, PE"),
        (MI, "The differential includes MI and PE"),
        (MI, "Differential diagnosis: MI"),
        (MI, "MI, pericarditis, PE"),
        (MI, "MI\nPE\npericarditis"),
        (MI, "- MI\n- PE"),
        (MI, "1. MI\n2. PE"),
        (MI, "MI. Or PE."),
        (MI, "MI. It could also be PE."),
        (MI, "MI and PE"),
        (MI, "MI. Next: aspirin.\n\nOr PE."),
        (MI, "MI. Next: aspirin.\n\nPulmonary embolism"),
        (PERICARDITIS, "Acute pericarditis. The diagnosis is myocardial infarction."),
        (PERICARDITIS, "Acute pericarditis. Next: ECG. The diagnosis is gout."),
        (PERICARDITIS, "Acute pericarditis; gout; sepsis"),
        (PERICARDITIS, "pericarditis (or gout)"),
        (PERICARDITIS, "pericarditis, alternatively gout"),
        (PERICARDITIS, "Either pericarditis or something else"),
        (PERICARDITIS, "Pericarditis or not"),
        (PERICARDITIS, "Acute pericarditis with gout with migraine with asthma"),
        (PERICARDITIS, "pericarditis because of pain, or pulmonary embolism"),
        (PERICARDITIS, "Gout. Pericarditis."),
        (PERICARDITIS, "Pericarditis? PE? MI?"),
        (PERICARDITIS, "pericarditis & myocarditis"),
        (PERICARDITIS, "Pericarditis, dyspepsia, heartburn, hiccups"),
        (PERICARDITIS, "Pericarditis, pericarditis or gout"),
    ],
)
def test_hedging_and_listing_is_wrong_and_named_so(case: Case, text: str) -> None:
    verdict = match(text, case)
    assert verdict.correct is False
    assert verdict.several, verdict.why


def test_repeating_the_case_is_no_answer() -> None:
    question = (
        "F, 42. Exam: renal angle sore, afebrile. Tests so far blood 3+ on dip with loin pain. Waves of flank "
        "pain with dull "
        "ache between. Sudden severe loin to groin pain. Of note no tearing chest pain. Hx kidney stones. Also "
        "hay fever as a child."
    )
    case = Case("c", question, "Renal colic", "diagnosis", ("kidney stone",))
    assert match(question, case).correct is False
    assert match("Renal colic", case).correct is True


CHOICE = Case(
    "c",
    "Which?",
    "B",
    "choice",
    options={"A": "Aspirin", "B": "Low-dose aspirin with heparin", "C": "Warfarin", "D": "Insulin"},
)


@pytest.mark.parametrize(
    "text",
    [
        "B", "(B)", "B.", "b", "**B**", "Option B", "B: Low-dose aspirin with heparin", "The answer is B.", "Answer: B",
        "low-dose aspirin with heparin", "The correct answer is (B) Low-dose aspirin with heparin.",
        "B) Low-dose aspirin with heparin. Next: check INR", "A patient like this needs low-dose aspirin with heparin",
        "B. Low dose aspirin with heparin. Warfarin is contraindicated in pregnancy.",
        "B - low-dose aspirin with heparin",
    ],
)  # fmt: skip
def test_a_right_choice(text: str) -> None:
    verdict = match(text, CHOICE)
    assert verdict.correct is True, verdict.why


@pytest.mark.parametrize(
    "text",
    [
        "A", "A or B", "B, C", "A B C D", "A, B, C, D", "B: Warfarin", "Warfarin", "not B", "Not option B", "B or C",
        "(A) and (B)",
        "A/B", "Option B or option C", "B\nC", "", "Low-dose aspirin with heparin or insulin", "E", "Anything",
        "B. Or C.",
        "A: Aspirin\nB: Low-dose aspirin with heparin", "ABCD",
    ],
)  # fmt: skip
def test_a_wrong_choice(text: str) -> None:
    assert match(text, CHOICE).correct is False


def test_yes_no_and_maybe() -> None:
    case = Case("p", "Does it?", "yes", "choice", options={"A": "yes", "B": "no", "C": "maybe"})
    assert match("Yes, there is no doubt.", case).correct is True
    assert match("A", case).correct is True
    assert match("No.", case).correct is False
    assert match("yes or no", case).correct is False


def test_a_case_without_its_own_option_cannot_be_judged() -> None:
    assert match("B", Case("c", "Which?", "Z", "choice", options={"A": "Aspirin"})).correct is None
    assert match("14", Case("n", "How much?", "plenty", "numeric")).correct is None


def numeric(answer: str, unit: str = "", tolerance: float = 0.0) -> Case:
    return Case("n", "How much?", answer, "numeric", unit=unit, tolerance=tolerance)


GAP = numeric("14", "mmol/L", 0.5)


@pytest.mark.parametrize(
    ("case", "text"),
    [
        *(
            (GAP, text)
            for text in ("14", "14 mmol/L", "= 14.0", "14.0 mEq/L", "The anion gap is 14 mmol/L.", "140 - 126 = 14")
        ),
        *(
            (GAP, text)
            for text in ("١٤", "１４", "14.3", "1.4e1", "1.4 x 10^1", "1.4×10¹", "**14 mmol/L**", "about 14")
        ),
        (GAP, "Anion gap = 140 - (104 + 22) = 14 mmol/L. Next: lactate in 2 h"),
        (GAP, "Anion gap: 14 mmol/L (normal 8-12)"),
        (GAP, "14 mmol/L, above normal"),
        (numeric("0.5", tolerance=0.01), "½"),
        (numeric("0.5", tolerance=0.01), "1/2"),
        (numeric("2.5"), "2½"),
        (numeric("1200", "mL", 1), "1,200 mL"),
        (numeric("1200", "mL", 1), "1.2 L"),
        (numeric("14"), "GCS 14/15"),
        (numeric("4"), "The CHA₂DS₂-VASc score is 4."),
        (numeric("4"), "4 points"),
        (numeric("27.8", "kg/m²", 0.1), "27.8 kg/m2"),
        (numeric("20", "pack-years"), "20 pack-years"),
        (numeric("20", "pack-years"), "20 pack years"),
        (numeric("93", "mmHg", 1), "93 mm Hg"),
        (numeric("-3.5", tolerance=0.1), "−3.5"),
        (numeric("7.4", tolerance=0.01), "7,4"),
        (numeric("13", "g/dL", 0.1), "130 g/L"),
    ],
)
def test_a_right_number(case: Case, text: str) -> None:
    verdict = match(text, case)
    assert verdict.correct is True, verdict.why


@pytest.mark.parametrize(
    "text",
    [
        "15", "14 mg/dL", "14 kg", "14%", "12 or 14", "12, 14", "12. Or 14.", "AG = 12, AG = 14", "= 12 = 14",
        "12-16", "10 to 14", ">14",
        "at least 14", "140 - 128 = 12; 140 - 126 = 14", "not 14", "-14", "14,000", "1e14", "inf", "nan", "NaN",
        "1e999", "½", "²",
        "fourteen", "", "9" * 3000, "14 mmol/L\n15 mmol/L", "1e-9999999", "14/15/16", "0x0E",
    ],
)  # fmt: skip
def test_a_wrong_number(text: str) -> None:
    assert match(text, GAP).correct is False


def test_a_fraction_is_not_two_scores() -> None:
    assert match("2 / 1", numeric("2")).correct is False
    assert match("13 / 14", numeric("13")).correct is False


def test_a_unit_is_seen_or_missed() -> None:
    assert states_unit("14 mmol/L", GAP)
    assert states_unit("14 mEq/L", GAP)
    assert not states_unit("14", GAP)
    assert not states_unit("14 mg/dL", GAP)


def test_open_answers_are_right_or_left_to_a_person() -> None:
    case = Case("o", "Why?", "Inhibition of xanthine oxidase", "open", ("Xanthine oxidase inhibition",))
    assert match("inhibition of the xanthine oxidase.", case).correct is True
    assert match("Xanthine-oxidase inhibition. Next: check urate", case).correct is True
    assert match("It blocks an enzyme", case).correct is None
    assert match("", case).correct is False


KINDS = [MI, CHOICE, GAP, Case("o", "Why?", "Because", "open")]
HOSTILE = [
    "\0",
    "\u202e14",
    "\ud800",
    "１ｅ９９９",
    "(" * 50,
    "or " * 40,
    "½" * 20,
    "MI, " * 60,
    "²³",
    "٣",
    "A" * 500,
    "=" * 99,
    "1/0",
    "é" * 30,
    "Next:",
]


@pytest.mark.parametrize("case", KINDS, ids=lambda case: str(case.kind))
@given(
    text=st.one_of(
        st.text(),
        st.lists(st.sampled_from([*HOSTILE, "MI", "B", "14", "or", "not", ", ", "\n"]), max_size=12).map("".join),
    )
)
def test_any_text_is_judged(case: Case, text: str) -> None:
    assert match(text, case).correct in (True, False, None)
    assert match(text, case) == match(text, case)


@pytest.mark.parametrize("case", KINDS, ids=lambda case: str(case.kind))
@pytest.mark.parametrize(
    "unit", ["MI or ", "B ", "14 ", "<", "\0", "½", "(", "a", "9", "= ", "\u202e", "not ", "e\u0301", "Next: "]
)
def test_a_megabyte_is_no_answer(case: Case, unit: str) -> None:
    verdict = match(unit * (1_000_000 // len(unit)), case)
    assert verdict.correct is False
    text = (unit * LONGEST)[:LONGEST]
    assert match(text, case).correct in (True, False, None)


@given(
    st.sampled_from([EMBOLISM, PERICARDITIS, REFLUX]),
    st.sampled_from(["Gout", "Asthma exacerbation", "Acute appendicitis", "DKA"]),
)
def test_naming_a_second_condition_is_never_right(case: Case, other: str) -> None:
    for text in (
        "{} or {}",
        "{}, {}",
        "{} and {}",
        "{}\n{}",
        "{} / {}",
        "{}; {}",
        "{}. {}.",
        "{} vs {}",
        "{} ({})",
        "{}? {}?",
        "{} + {}",
    ):
        assert match(text.format(case.answer, other), case).correct is False
        assert match(text.format(other, case.answer), case).correct is False


def test_a_long_option_can_be_denied_and_may_contain_a_denial() -> None:
    options = {
        "A": "Disclose the error to the patient and put it in the operative report before anything else is done",
        "B": "Tell the attending that he cannot fail to disclose this mistake",
        "C": "Not inhibition of the proteasome",
    }
    for letter, text in options.items():
        case = Case("c", "Which?", letter, "choice", options=options)
        for right in (letter, text, f"{letter}: {text}", f"({letter}) {text}.", f"The answer is {letter}."):
            assert match(right, case).correct is True
        for wrong in (f"Not {letter}: {text}", f"{letter}: {text} is unlikely", f"This is not {text}", f"not {letter}"):
            assert match(wrong, case).correct is False


def test_letters_inside_an_option_s_text_choose_nothing() -> None:
    options = {"A": "Type I", "B": "Hepatitis A", "C": "20 mg", "D": "Vitamin B12 and C", "E": "Both A and B"}
    for letter, text in options.items():
        assert match(f"{letter}: {text}", Case("c", "Which?", letter, "choice", options=options)).correct is True
    assert match("A and B", Case("c", "Which?", "A", "choice", options=options)).correct is False
