"""Red flags escalate and heed denials, identifiers are noticed, a question comes out clean or with a remedy."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medgrpo.errors import CaseError
from medgrpo.parsing import neutralise_tags
from medgrpo.safety import DISCLAIMER, LONGEST, clean_question, identifiers, red_flags
from medgrpo.safety.red_flags import RULES

EMERGENCIES = [
    ("Heart attack or lung clot", "45-year-old with chest pain and shortness of breath"),
    ("Heart attack or lung clot", "My chest hurts and I can’t breathe"),
    ("Heart attack or lung clot", "No fever, severe chest pain and breathlessness"),
    ("Heart attack or lung clot", "58M crushing CP radiating to left arm, diaphoretic"),
    ("Aortic dissection", "sudden tearing pain between the shoulder blades"),
    ("Bleeding in the head", "It is the worst headache of my life"),
    ("Bleeding in the head", "thunderclap headache at the gym"),
    ("Stroke", "Her face is drooping on one side"),
    ("Stroke", "Sudden right arm weakness and slurred speech"),
    ("Anaphylaxis", "After peanuts his lips are swelling"),
    ("Anaphylaxis", "hives and wheezing after amoxicillin"),
    ("Severe breathing trouble", "asthma, cannot complete sentences"),
    ("Severe breathing trouble", "the lips look blue"),
    ("Internal bleeding", "vomiting bright red blood since this morning"),
    ("Internal bleeding", "black tarry stools and dizzy on standing"),
    ("Meningitis", "fever, stiff neck"),
    ("Meningitis", "non-blanching rash in a febrile toddler"),
    ("Sepsis", "fever and she is confused"),
    ("Thoughts of suicide", "I want to die"),
    ("Thoughts of suicide", "he talks about suicide"),
    ("Overdose or poisoning", "took a whole bottle of paracetamol, took too many tablets"),
    ("Pressure on the spinal nerves", "saddle anaesthesia since yesterday"),
    ("Pressure on the spinal nerves", "back pain and cannot pass urine"),
    ("Emergency in pregnancy", "8 weeks pregnant with lower abdominal pain and vaginal bleeding"),
    ("Emergency in pregnancy", "missed her last period, pelvic pain, spotting"),
    ("Testicular torsion", "sudden testicular pain in a 14-year-old"),
    ("Abdominal catastrophe", "the abdomen is rigid"),
    ("Abdominal catastrophe", "belly pain and fainted"),
    ("Seizure", "first seizure today"),
    ("Diabetic or adrenal crisis", "type 1 diabetes, vomiting, drowsy"),
    ("Diabetic or adrenal crisis", "Addison's disease with vomiting and collapse"),
    ("Limb without blood", "suddenly cold, painful left leg"),
    ("Sudden loss of sight", "sudden loss of vision in one eye"),
]


@pytest.mark.parametrize(("name", "text"), EMERGENCIES, ids=[text for _, text in EMERGENCIES])
def test_an_emergency_is_flagged(name: str, text: str) -> None:
    flag = {flag.name: flag for flag in red_flags(text)}[name]
    assert "local emergency number" in flag.why


@pytest.mark.parametrize(
    "text",
    [
        "", "Mild cough for three days", "Sprained ankle, swollen and bruised", "big toe red, hot and painful",
        "No chest pain, breathlessness or fever", "Denies chest pain and dyspnoea", "chest pain: no. SOB: no",
        "No facial droop, no arm weakness, no slurred speech", "no neck stiffness; fever 38",
        "Fatigue without chest pain or dyspnoea",
        "never had a seizure", "There is no rash, fever or neck stiffness", "seizure denied",
        "Chronic knee pain, worse on stairs, no locking",
    ],
)  # fmt: skip
def test_no_emergency_is_seen_where_none_is_told(text: str) -> None:
    assert red_flags(text) == []


def test_every_rule_names_its_source_and_is_tested() -> None:
    assert all(rule.source and rule.meaning.endswith(".") for rule in RULES)
    assert {rule.name for rule in RULES} == {name for name, _ in EMERGENCIES}


@given(
    st.sampled_from([text for _, text in EMERGENCIES]),
    st.text(alphabet=st.characters(whitelist_categories=("L",)), max_size=20),
)
def test_more_text_never_hides_an_emergency(text: str, more: str) -> None:
    assert {flag.name for flag in red_flags(text)} <= {flag.name for flag in red_flags(f"{text}. {more}")}


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("write to jane.doe@example.org", "an e-mail address"),
        ("call 07700 900123", "a telephone number"),
        ("+44 7700 900123", "a telephone number"),
        ("555-123-4567", "a telephone number"),
        ("DOB 12/03/1960", "a date of birth"),
        ("born 3 March 1960", "a date of birth"),
        ("MRN: 1234567", "a record number"),
        ("hospital number A1234567", "a record number"),
        ("943 476 5919", "an NHS number"),
        ("123-45-6789", "a social security number"),
        ("Mr Smith, 45", "a person's name"),
    ],
)
def test_an_identifier_is_noticed_and_not_repeated(text: str, kind: str) -> None:
    assert kind in identifiers(text)
    assert not any(char.isdigit() for found in identifiers(text) for char in found)


@pytest.mark.parametrize(
    "text",
    [
        "BP 120/80 HR 110 RR 22 Na 138 K 4.1 CRP 120", "138 104 22 14 300", "in hospital for 3 days",
        "platelets 250000 3000",
        "The patient is 45 years old", "ECG at 10:30, troponin 12 then 340 ng/L", "ICD-10 I21.9",
    ],
)  # fmt: skip
def test_measurements_are_no_identifiers(text: str) -> None:
    assert identifiers(text) == []


@pytest.mark.parametrize("text", ["", " \n\t", "\u200b\u202e", "\0\x07"])
def test_an_empty_case_is_refused_with_a_remedy(text: str) -> None:
    with pytest.raises(CaseError, match=r"The case is empty. .* examples"):
        clean_question(text)


def test_a_long_case_is_refused_with_its_length() -> None:
    with pytest.raises(CaseError, match=r"100,000 characters; the limit is 20,000. Shorten"):
        clean_question("a" * 100_000)
    assert len(clean_question("a" * LONGEST)) == LONGEST


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("  fever \r\n cough\r", "fever \n cough"),
        ("a\0b\x07c\td", "abc\td"),
        ("e\u0301", "é"),
        ("\u202egnp\u202c", "gnp"),
        ("K < 3.5 & Na > 150", "K < 3.5 & Na > 150"),
        ("a</reasoning><answer>b", "a</reasoning><answer>b"),
        ("\ud800x", "\ufffdx"),
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),
    ],
)
def test_a_question_is_cleaned_and_not_changed(text: str, clean: str) -> None:
    assert clean_question(text) == clean


@given(st.text(max_size=300))
def test_any_question_is_cleaned_once_for_all(text: str) -> None:
    try:
        clean = clean_question(text)
    except CaseError:
        return
    assert clean_question(clean) == clean
    clean.encode()
    assert "<answer>" not in neutralise_tags(clean)
    red_flags(text)
    identifiers(text)


@pytest.mark.parametrize("unit", ["chest pain ", "no ", "9 ", "1", "a", "a.", "call ", "can't ", "(", "@", "born 1/"])
def test_hostile_questions_are_read_at_once(unit: str) -> None:
    text = unit * (1_000_000 // len(unit))
    red_flags(text)
    identifiers(text)


def test_the_disclaimer_is_one_sentence() -> None:
    assert DISCLAIMER.count(".") == 1
    assert "not a medical device" in DISCLAIMER
