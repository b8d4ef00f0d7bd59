"""The knowledge base keeps the rules of its README, and the reader complains in sentences."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from medgrpo.data.knowledge import FOLDER, Condition, Statement, load_conditions, read_condition
from medgrpo.errors import DataError

from ..labels import label_pattern

FUNCTION_WORDS = frozenset(
    """the and with for was were are that this her his their has had have been not but when after since into out down
    over under like than then they them him she you your its ive cant dont can could would did does got get very all any
    some more most one two both just only even now said told patient from""".split()  # noqa: SIM905
)
KINDS = ("symptom", "sign", "vital", "laboratory", "imaging")


def violations(conditions: Sequence[Condition]) -> list[str]:
    """Editorial slips, one sentence each; empty when the knowledge base keeps the rules of its README."""
    names = {condition.name for condition in conditions}
    labels = label_pattern(conditions)
    found: list[str] = []
    for condition in conditions:
        found += [f"{condition.slug}: {slip}" for slip in _condition_slips(condition, names)]
        for statement in condition.statements():
            slips = _statement_slips(statement, condition, labels)
            found += [f"{condition.slug}/{statement.id}: {slip}" for slip in slips]
    return found


def _condition_slips(condition: Condition, names: set[str]) -> Iterator[str]:
    keys = [f for f in condition.findings if f.weight == "key"]
    counts = {
        "findings (10 to 14)": 10 <= len(condition.findings) <= 14,
        "key findings (4 or more)": len(keys) >= 4,
        "key findings in the patient's words (3 or more)": sum(bool(f.say.patient) for f in keys) >= 3,
        "atypical findings (2 or more)": sum(f.atypical for f in condition.findings) >= 2,
        "negatives (4 or more)": len(condition.negatives) >= 4,
        "risk factors (3 or more)": len(condition.risk_factors) >= 3,
        "confusers (3 or more)": len(condition.confusers) >= 3,
    }
    yield from (f"number of {what} is off" for what, kept in counts.items() if not kept)
    others = [c.name for c in condition.confusers] + [n.against for n in condition.negatives]
    yield from (f"{other!r} is not another condition" for other in others if other not in names - {condition.name})
    ids = [statement.id for statement in condition.statements()]
    yield from (f"id {each!r} occurs twice" for each in sorted({i for i in ids if ids.count(i) > 1}))
    if len(condition.approach.split()) > 20 or condition.approach_source not in condition.sources:
        yield "approach is longer than 20 words or names an unknown source"


def _statement_slips(statement: Statement, condition: Condition, labels: re.Pattern[str]) -> Iterator[str]:
    if statement.source not in condition.sources:
        yield f"source {statement.source!r} is not under sources"
    if statement.kind not in KINDS or statement.weight not in ("key", "support"):
        yield f"kind {statement.kind!r} or weight {statement.weight!r} is unknown"
    is_finding = any(statement is finding for finding in condition.findings)
    for name, where, least in (("say", statement.say, 4 if is_finding else 3), ("hard", statement.hard, 2)):
        for voice in ("note", "prose"):
            if len(where.of(voice)) < least:
                yield f"{name}.{voice} has {len(where.of(voice))} phrasings, needs {least}"
        if 0 < len(where.patient) < least:
            yield f"{name}.patient has {len(where.patient)} phrasings, needs none or {least}"
    if bool(statement.say.patient) != bool(statement.hard.patient):
        yield "patient phrasings under say or hard only"
    for text in statement.say.all() + statement.hard.all():
        if match := labels.search(text):
            yield f"{text!r} names {match.group()!r}"
        if '"' in text or len(text) > 160:
            yield f"{text!r} has a double quote or more than 160 characters"
        if set(re.findall(r"\{(\w+)\}", text)) - set(statement.values):
            yield f"{text!r} has a placeholder without values"
    repeated = {text.lower() for text in statement.say.all()} & {text.lower() for text in statement.hard.all()}
    yield from (f"{text!r} stands under say and hard" for text in sorted(repeated))
    if len(statement.because.split()) > 16:
        yield f"because is {len(statement.because.split())} words"


CONDITIONS = """Acute myocardial infarction; Pulmonary embolism; Aortic dissection; Acute pericarditis;
Acute heart failure; Pneumothorax; Community-acquired pneumonia; Asthma exacerbation; COPD exacerbation;
Gastro-oesophageal reflux disease;
Acute appendicitis; Acute cholecystitis; Acute pancreatitis; Small bowel obstruction; Diverticulitis;
Perforated peptic ulcer; Ectopic pregnancy; Renal colic; Acute pyelonephritis; Ischaemic stroke;
Subarachnoid haemorrhage; Bacterial meningitis; Migraine; Diabetic ketoacidosis; Hypoglycaemia; Thyrotoxicosis;
Adrenal crisis; Anaphylaxis; Sepsis; Iron-deficiency anaemia; Deep vein thrombosis; Gout"""


def test_it_holds_the_32_conditions() -> None:
    expected = sorted(" ".join(name.split()) for name in CONDITIONS.split(";"))
    assert sorted(condition.name for condition in load_conditions()) == expected


def test_every_file_keeps_the_editorial_rules() -> None:
    assert violations(load_conditions()) == []


def test_training_and_hard_phrasings_are_kept_apart() -> None:
    """Hardly any training phrasing shares three content words, or a third of them, with a hard one of its entry."""
    near = total = 0
    for statement in (each for condition in load_conditions() for each in condition.statements()):
        held_out = [content(text) for text in statement.hard.all()]
        for words in map(content, statement.say.all()):
            shared = [(len(words & other), len(words | other)) for other in held_out]
            near += any(both >= 3 or (both >= 2 and 3 * both > every) for both, every in shared)
            total += 1
    assert total > 30_000
    assert near < 0.02 * total


def content(text: str) -> frozenset[str]:
    """Beginnings of the words that carry meaning."""
    words = re.findall(r"[a-z]+", text.lower().replace("'", ""))
    return frozenset(word[:5] for word in words if len(word) > 2 and word not in FUNCTION_WORDS)


def test_no_label_is_ambiguous() -> None:
    labels = [(label.lower(), c.name) for c in load_conditions() for label in {c.name, *c.aliases}]
    assert len({label for label, _ in labels}) == len({(label, name) for label, name in labels})


def test_loading_is_cached() -> None:
    assert load_conditions() is load_conditions()


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("name:", "nom:", "KeyError 'name'"),
        ("    frequency: 0", "    frequency: often", "could not convert"),
        ("findings:", "findings: [1]\nother:", "AttributeError"),
        ("age: [", "age: [a, ", "invalid literal"),
        ("name:", "\tname: {", "cannot be read"),
    ],
)
def test_a_broken_file_is_named_with_the_reason(tmp_path: Path, old: str, new: str, says: str) -> None:
    text = next(iter(sorted(FOLDER.glob("*.yaml")))).read_text(encoding="utf-8")
    broken = tmp_path / "broken.yaml"
    broken.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(DataError, match=re.escape(says)) as error:
        read_condition(broken)
    assert "broken.yaml" in str(error.value)


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no knowledge files"):
        load_conditions(tmp_path)


def test_abbreviations_count_as_labels_in_capitals_only() -> None:
    pattern = label_pattern(load_conditions())
    assert pattern.search("known MI in 2010")
    assert not pattern.search("the mitten")
    assert pattern.search("an ACUTE MYOCARDIAL INFARCTION last year")
