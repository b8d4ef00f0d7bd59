"""The casebook: reproducible, splits apart, no label in any text, demonstrations that only say what is there."""

import hashlib
import json
import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import asdict
from functools import cache
from itertools import combinations
from pathlib import Path

import pytest

from medgrpo.data import casebook, load_cases, load_demonstrations
from medgrpo.data.casebook import BRIEF, SIZES, Vignette, split_of, vignettes
from medgrpo.data.demonstrations import demonstrate, excerpt
from medgrpo.data.knowledge import HERE, load_conditions, read_yaml
from medgrpo.data.registers import OPEN, load_registers, registers_of
from medgrpo.errors import DataError

from ..labels import label_pattern

SPLITS = tuple(SIZES)
HELD_OUT = ("validation", "test", "hard")
FORM = re.compile(r"<reasoning>\n(.+)\n</reasoning>\n<answer>\n(.+)\n</answer>", re.S)


@cache
def everything() -> list[tuple[str, Vignette]]:
    """Every split with its vignettes; made by the first test that asks, not by a process that only collects."""
    return [(split, vignette) for split in SPLITS for vignette in vignettes(split)]


def digest() -> str:
    pairs = [(vignette.case, demonstrate(vignette)) for split in HELD_OUT for vignette in vignettes(split)]
    return hashlib.sha256(json.dumps([(asdict(case), text) for case, text in pairs]).encode()).hexdigest()


def test_it_is_the_same_to_the_byte_in_another_process() -> None:
    here = Path(__file__).resolve()
    environment = {**os.environ, "PYTHONHASHSEED": "4711", "PYTHONPATH": str(here.parents[2])}
    program = [sys.executable, "-c", "from tests.data.test_casebook import digest; print(digest())"]
    other = subprocess.run(program, capture_output=True, text=True, env=environment, check=True)
    assert other.stdout.strip() == digest()


def test_sizes_balance_and_ids() -> None:
    assert len(everything()) >= 6000
    for split in SPLITS:
        cases = [vignette.case for vignette in vignettes(split)]
        assert set(Counter(case.answer for case in cases).values()) == {SIZES[split]}
        assert {(case.split, case.source, case.kind) for case in cases} == {(split, "casebook", "diagnosis")}
    assert len({vignette.case.id for _, vignette in everything()}) == len(everything())
    assert len({vignette.case.question for _, vignette in everything()}) == len(everything())


def test_no_text_names_any_condition() -> None:
    labels = label_pattern(load_conditions())
    named = [(v.case.id, match.group()) for _, v in everything() if (match := labels.search(v.case.question))]
    assert named == []


def test_nothing_of_the_machinery_is_left_in_the_text() -> None:
    for _, vignette in everything():
        text = vignette.case.question
        assert not re.search(r"[{}\n\t]|  |\.\.|,,|\s[.,;!]", text), text
        assert not any(ord(char) >= OPEN for char in text), text


def test_findings_are_verbatim_and_enough() -> None:
    few_keys = 0
    for _, vignette in everything():
        case, own = vignette.case, [item.statement for item in vignette.items if item.role == "finding"]
        assert len(case.findings) == len(own)
        assert (2 if is_brief(vignette) else 3) <= len(own) <= 8
        assert all(span in case.question for span in (*case.findings, *vignette.spans))
        keys = sum(statement.weight == "key" for statement in own)
        assert keys >= 1
        few_keys += keys == 1
    assert few_keys < 0.15 * len(everything())


def is_brief(vignette: Vignette) -> bool:
    return any(register.brief for register in load_registers() if register.name == vignette.case.id.split("/")[2])


def test_one_in_five_is_a_one_liner_of_two_or_three_findings_and_nothing_else() -> None:
    for split in SPLITS:
        brief = [vignette for vignette in vignettes(split) if is_brief(vignette)]
        assert len(brief) == pytest.approx(BRIEF * len(vignettes(split)), rel=0.25)
        assert {item.role for vignette in brief for item in vignette.items} == {"finding"}
        assert sum(len(vignette.items) > 3 for vignette in brief) < 0.05 * len(brief)
        assert all(vignette.items[i].statement.weight == "key" for vignette in brief for i in _key_places(vignette))


def _key_places(vignette: Vignette) -> list[int]:
    """Places of the key findings; there is at least one."""
    places = [i for i, item in enumerate(vignette.items) if item.statement.weight == "key"]
    assert places
    return places


def test_practice_and_validation_have_phrasings_of_their_own() -> None:
    """What is said of a finding in one of them is said nowhere else; test shares the words of train."""
    said: dict[str, set[tuple[str, str]]] = {split: set() for split in SPLITS}
    for split, vignette in everything():
        for item, span in zip(vignette.items, vignette.spans, strict=True):
            if item.role == "finding" and not re.search(r"\d", span):
                said[split].add((f"{vignette.condition.slug}/{item.statement.id}", span.lower().replace("'", "")))
    for one, other in combinations(SPLITS, 2):
        shared = said[one] & said[other]
        if {one, other} == {"train", "test"}:
            assert len(shared) > 0.9 * len(said["test"])
        else:  # misspelt by a patient's thumbs, two phrasings can meet
            assert len(shared) < 0.002 * len(said[one])


def test_finding_combinations_belong_to_one_split() -> None:
    sets: dict[str, set[tuple[str, ...]]] = {split: set() for split in SPLITS}
    for split, vignette in everything():
        ids = sorted(item.statement.id for item in vignette.items if item.role == "finding")
        assert split_of(vignette.condition.slug, ids) == split
        sets[split].add((vignette.condition.slug, *ids))
    assert all(not sets[one] & sets[other] for one, other in combinations(SPLITS, 2))


def test_frames_belong_to_one_split() -> None:
    for part in (1, 3):  # opener and order; with the register they make the frame
        frames: dict[str, set[tuple[str, str]]] = {split: set() for split in SPLITS}
        for split, vignette in everything():
            lines = vignette.template.split("\n")
            frames["train" if split == "practice" else split].add((lines[0], lines[part]))
        assert all(not frames[one] & frames[other] for one, other in combinations(SPLITS, 2))


def test_the_hard_split_has_its_own_registers_phrasings_and_noise() -> None:
    names = {split: {register.name for register in registers_of(split)} for split in SPLITS}
    assert all(names[split] == {"note", "prose", "patient"} for split in ("validation", "test"))
    assert names["train"] == names["practice"] > names["test"]
    assert names["hard"].isdisjoint(names["train"])
    assert len(names["hard"]) == 3
    said = {split: _spans(split) for split in ("train", "hard")}
    shared = said["train"] & said["hard"]
    assert {span for span in shared if not re.search(r"\d", span)} == set()


def _spans(split: str) -> set[str]:
    told = (pair for v in vignettes(split) for pair in zip(v.items, v.spans, strict=True))
    return {span.lower() for item, span in told if not item.about}


def test_negatives_details_and_noise_are_common() -> None:
    for split in SPLITS:
        full = [vignette for vignette in vignettes(split) if not is_brief(vignette)]
        roles = Counter(role for v in full for role in {item.role for item in v.items})
        shares = {role: count / len(full) for role, count in roles.items()}
        assert shares["negative"] > 0.6
        assert shares["noise"] > 0.6
        assert shares["detail"] > 0.15


def test_every_patient_is_possible() -> None:
    for _, vignette in everything():
        text = vignette.case.question.lower().replace("ambulance man", "")
        if re.search(r"\b(man|male)\b", text) and not re.search(r"\b(woman|female)\b", text):
            assert not re.search(r"pregnan|menstru|contracepti|\bovar", text), text


def test_the_rules_name_entries_that_exist() -> None:
    rules = read_yaml(HERE / "casebook_rules.yaml")
    ids = {condition.slug: {each.id for each in condition.statements()} for condition in load_conditions()}
    named = [(slug, each) for slug, pairs in rules["conflicts"].items() for one in pairs for each in (one, *pairs[one])]
    keys = [*rules["ages"], *(key for keys in rules["never_detail"].values() for key in keys)]
    named += [tuple(key.split("/")) for key in keys]
    assert [(slug, each) for slug, each in named if each not in ids.get(slug, ())] == []
    assert set(rules["variants"]) <= set(ids)
    assert set(rules["never_detail"]) <= {"any", *ids}


def test_contradicting_entries_never_meet() -> None:
    conflicts = read_yaml(HERE / "casebook_rules.yaml")["conflicts"]
    for _, vignette in everything():
        ids = {item.statement.id for item in vignette.items if item.role != "detail"}
        for one, others in conflicts.get(vignette.condition.slug, {}).items():
            assert one not in ids or not ids & set(others), vignette.case.id


def test_one_vignette_keeps_to_one_side() -> None:
    for _, vignette in everything():
        if vignette.condition.slug == "pneumothorax":
            told = zip(vignette.items, vignette.spans, strict=True)
            spans = " ".join(span for item, span in told if item.role == "finding")
            assert not (re.search(r"\bleft\b", spans) and re.search(r"\bright\b(?! (?:away|now))", spans)), spans


def test_an_unknown_split_is_named() -> None:
    with pytest.raises(DataError, match="no split 'dev'"):
        casebook.vignettes("dev")


def test_demonstrations_have_the_exact_form_and_quote_the_case() -> None:
    for _, vignette in everything():
        parts = FORM.fullmatch(demonstrate(vignette))
        assert parts, vignette.case.id
        _check_demonstration(vignette, parts.group(1), parts.group(2))
    told = load_demonstrations("casebook", "test")
    assert told == [(vignette.case, demonstrate(vignette)) for vignette in vignettes("test")]
    practised = load_demonstrations("practice", "train")
    assert [case for case, _ in practised] == [vignette.case for vignette in vignettes("practice")]


def test_a_long_phrase_is_quoted_to_the_first_pause_after_its_half() -> None:
    short = "severe pain in the right big toe"
    assert excerpt(short) == short
    long = "I woke up with unbearable pain in my big toe, and even the sheet hurts when it lies on it"
    assert excerpt(long) == "I woke up with unbearable pain in my big toe, and even the sheet hurts"
    unbroken = "a persistently oozing enormous rhomboid thing of considerable size indeed"
    assert excerpt(unbroken) == unbroken


def _check_demonstration(vignette: Vignette, reasoning: str, answer: str) -> None:
    quotes = re.findall(r'"([^"]+)"', reasoning)
    assert all(quote in vignette.case.question for quote in quotes), reasoning
    assert 2 <= len(set(quotes) & set(map(excerpt, vignette.case.findings))) <= 4, reasoning
    assert answer.startswith(f"{vignette.condition.name}. Next: ")
    assert not re.search(r"</?(reasoning|answer)", reasoning + answer)
    assert len(reasoning.split()) <= 105, reasoning


def test_demonstrations_are_not_one_string() -> None:
    texts = [re.sub(r'"[^"]+"', "", text) for _, text in load_demonstrations("casebook", "train")]
    assert len(set(texts)) > len(texts) / 2
    words = sorted(len(text.split()) for _, text in load_demonstrations("casebook", "train"))
    assert 50 <= words[len(words) // 2] <= 110


def test_limit_is_balanced_reproducible_and_seeded() -> None:
    some = load_cases("casebook", "train", limit=64, seed=1)
    assert len(some) == 64
    assert set(Counter(case.answer for case in some).values()) == {2}  # of 32 conditions
    assert some == load_cases("casebook", "train", limit=64, seed=1)
    assert some != load_cases("casebook", "train", limit=64, seed=2)
