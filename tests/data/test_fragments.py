"""Fragments: the training vignettes with words left out of them, and with nothing left out that would turn their sense."""

import hashlib
import json
import os
import random
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from functools import cache
from pathlib import Path

import pytest

from medgrpo.data.casebook import SIZES, Vignette, vignettes
from medgrpo.data.demonstrations import demonstrate
from medgrpo.data.fragments import JOINING, LEAST, ROLES, TIMES, fragments, in_fragments, leave_out

EDGES = ",;:.–-"
DENIES = re.compile(
    r"(?<![\w-])(?:no|not|never|nor|none|nil|nothing|nobody|without|w/o|cannot|can'?t|won'?t|isn'?t|don'?t|doesn'?t|didn'?t|"
    r"couldn'?t|unable|inability|refuses|failure|absent|absence|lack|loss|lost|hardly|barely|instead|rather|nad|neg|pos|[+-]ve|"
    r"negative|positive|normal|abnormal|clear|intact)(?![\w-])",
    re.I,
)
DIRECTION = re.compile(
    r"[↑↓<>+±]|(?<![\w-])(?:raised|elevated|increased|increasing|reduced|decreased|high|higher|low|lower|rising|rises|rose|falling|"
    r"falls|fell|dropped|dropping|doubled|twice|half|more|less|above|below|up|down|over|under|better|worse|relieved|eased|"
    r"two|three|four|ten|missed|stopped|off|out|late|overdue)(?![\w-])",
    re.I,
)


@cache
def originals() -> dict[str, Vignette]:
    """The vignette behind each fragment, by the id of the fragment."""
    return {vignette.case.id.replace("casebook/", "fragments/"): vignette for vignette in vignettes("train", TIMES)}


def changed() -> Iterator[tuple[str, str]]:
    """Every phrase that was shortened, before and after."""
    for told in fragments():
        for old, new in zip(originals()[told.case.id].spans, told.spans, strict=True):
            if old != new:
                yield old, new


def bare(phrase: str) -> list[str]:
    return [word.strip(EDGES) for word in phrase.split()]


def telling(phrase: str) -> int:
    words = [word.strip(",;:.?!()'\"‘’“”") for word in phrase.split()]
    return sum(len(word) > 2 and word.lower() not in JOINING for word in words)


def spans(told: tuple[Vignette, ...]) -> set[tuple[str, str]]:
    """What is said without numbers, and of which entry."""
    return {
        (f"{vignette.condition.slug}/{item.statement.id}", span.lower().replace("'", ""))
        for vignette in told
        for item, span in zip(vignette.items, vignette.spans, strict=True)
        if not re.search(r"\d", span)
    }


def test_most_vignettes_are_told_and_most_of_them_much_shorter() -> None:
    assert 0.9 * len(originals()) < len(fragments()) < len(originals())
    lost = sum(len(old.split()) - len(new.split()) for old, new in changed())
    assert 0.3 < lost / sum(len(old.split()) for old, _ in changed()) < 0.5


def test_cases_are_those_of_the_training_split_under_a_name_of_their_own() -> None:
    assert {(told.case.source, told.case.split) for told in fragments()} == {("fragments", "train")}
    for told in fragments():
        case, before = told.case, originals()[told.case.id].case
        assert (case.answer, case.aliases, case.meanings) == (before.answer, before.aliases, before.meanings)
        assert case.question != before.question


def test_every_finding_stands_verbatim_in_its_question() -> None:
    for told in fragments():
        assert all(span in told.case.question for span in (*told.case.findings, *told.spans)), told.case
        own = [span for item, span in zip(told.items, told.spans, strict=True) if item.role == "finding"]
        assert Counter(told.case.findings) == Counter(own), told.case


def test_a_finding_keeps_its_place_and_with_it_its_meaning() -> None:
    for told in fragments():
        before = originals()[told.case.id]
        now = dict(zip(before.spans, told.spans, strict=True))
        assert told.case.findings == tuple(now[span] for span in before.case.findings)


def test_words_are_left_out_in_their_order_and_nothing_else_is_touched() -> None:
    for told in fragments():
        before, text = originals()[told.case.id], told.case.question
        for item, old, new in reversed(list(zip(before.items, before.spans, told.spans, strict=True))):
            if old != new:
                assert item.role in ROLES, told.case.id
                words = iter(bare(old))
                assert all(word in words for word in bare(new)), (old, new)
                text = text.replace(new, old)
        assert text == before.case.question


def test_numbers_stay_with_their_unit() -> None:
    for old, new in changed():
        assert re.findall(r"\d+", old) == re.findall(r"\d+", new), (old, new)
        for number, unit in re.findall(r"(\S*\d\S*) (\S+)", old):
            assert f"{number} {unit}".strip(EDGES) in new or unit in JOINING, (old, new)


def test_two_telling_words_remain() -> None:
    for old, new in changed():
        assert telling(new) >= min(LEAST, telling(old)), (old, new)


def test_what_is_denied_stays_denied_to_the_next_pause() -> None:
    denied = 0
    for old, new in changed():
        for stretch in re.split(r"(?<=[,;:.])\s+", old):
            if DENIES.search(stretch):
                words = stretch.split()
                while words and words[-1].lower().strip(EDGES) in JOINING:
                    words.pop()
                assert " ".join(words).strip(EDGES) in new, (old, new)
                denied += 1
    assert denied > 2000


def test_words_of_direction_stay() -> None:
    directed = 0
    for old, new in changed():
        found = DIRECTION.findall(old)
        assert found == DIRECTION.findall(new), (old, new)
        directed += bool(found)
    assert directed > 5000


@pytest.mark.parametrize(
    ("phrase", "kept"),
    [
        ("calf swelling since the long flight, foot pulses absent", "foot pulses absent"),
        ("a heavy chest after a very big meal, effort test neg", "effort test neg"),
        ("pain that began at night, without any relief from antacids", "without any relief from antacids"),
        ("no fever at the onset, shaking chills and sweating since then", "no fever at the onset,"),
        (
            "both thyroid lobes are twice their normal size, and hands shake",
            "both thyroid lobes are twice their normal size",
        ),
        ("a kidney marker raised to 231 µmol/L on the day of arrival", "raised to 231 µmol/L"),
        ("swollen painful ankles with lactate ↑↑ in the evening", "↑↑"),
        ("yellow urine needles seen, Gram -ve", "Gram -ve"),
        ("-ve first troponin, strange heavy chest feeling", "-ve first troponin"),
        ("left flank pain, sudden and severe -> groin", "->"),
        ("a sudden collapse at breakfast, wtihout a warning", "wtihout a warning"),
        ("he stopped his blood thinners before the operation", "stopped his"),
        ("leg wound breaking down badly, BP 88/-", "88/-"),
    ],
)
def test_these_words_are_never_lost(phrase: str, kept: str) -> None:
    told = [leave_out(phrase, random.Random(seed)) for seed in range(300)]
    assert all(kept in each for each in told)
    assert len(set(told)) > 1


def test_a_phrase_too_short_to_spare_a_word_stays_as_it_is() -> None:
    for seed in range(50):
        for phrase in ("haemoptysis", "crushing pain", "the right foot"):
            assert set(bare(phrase)) - JOINING <= set(bare(leave_out(phrase, random.Random(seed))))


def digest() -> str:
    """Of the validation split in fragments: any vignette can be told so, and this split is drawn in a second."""
    told = [in_fragments(each) for each in vignettes("validation")]
    pairs = [(asdict(each.case), each.spans, demonstrate(each)) for each in told if each]
    return hashlib.sha256(json.dumps(pairs).encode()).hexdigest()


def test_it_is_the_same_to_the_byte_in_another_process() -> None:
    here = Path(__file__).resolve()
    environment = {**os.environ, "PYTHONHASHSEED": "4711", "PYTHONPATH": str(here.parents[2])}
    program = f"import runpy; print(runpy.run_path({str(here)!r})['digest']())"
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
    assert other.stdout.strip() == digest()


def test_no_question_occurs_elsewhere() -> None:
    questions = [told.case.question for told in fragments()]
    assert len(set(questions)) == len(questions)
    for split in SIZES:
        assert not set(questions) & {vignette.case.question for vignette in vignettes(split)}


def test_no_shortened_phrase_is_one_of_a_held_out_split() -> None:
    new = spans(fragments()) - spans(vignettes("train", TIMES))
    assert not new & spans(vignettes("hard"))
    assert not new & spans(vignettes("test"))
    assert len(new & spans(vignettes("validation"))) <= 5  # "a reduced appetite" without its article, and the like
