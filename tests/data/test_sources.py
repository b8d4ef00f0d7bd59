"""`load_cases` and `load_demonstrations` over all sources, and what importing them costs."""

import re
import subprocess
import sys
from collections import Counter

import pytest

from medgrpo.data import load_cases, load_demonstrations
from medgrpo.data.scope import ANSWER, REASONS
from medgrpo.errors import DataError

SPLITS = ("train", "validation", "test", "hard")


def test_importing_loads_nothing_heavy() -> None:
    heavy = "{'datasets', 'torch', 'pandas', 'pyarrow', 'sklearn'}"
    program = f"import sys, medgrpo.data; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_joined_sources_share_the_limit_and_mix() -> None:
    some = load_cases("casebook+out_of_scope", "train", limit=200, seed=5)
    assert Counter(case.source for case in some) == {"casebook": 100, "out_of_scope": 100}
    assert {case.source for case in some[:12]} == {"casebook", "out_of_scope"}
    assert some == load_cases("casebook+out_of_scope", "train", limit=200, seed=5)
    assert some != load_cases("casebook+out_of_scope", "train", limit=200, seed=6)


def test_fragments_can_be_mixed_with_others() -> None:
    some = load_demonstrations("casebook+fragments+out_of_scope", "train", limit=300)
    assert Counter(case.source for case, _ in some) == {"casebook": 100, "fragments": 100, "out_of_scope": 100}
    assert len({case.question for case, _ in some}) == 300
    assert all(completion for _, completion in some)


def test_a_source_that_runs_out_leaves_its_share_to_the_others() -> None:
    size = len(load_cases("out_of_scope", "test"))
    counts = Counter(case.source for case in load_cases("casebook+out_of_scope", "test", limit=300))
    assert counts == {"casebook": 300 - size, "out_of_scope": size}


def test_without_a_limit_everything_comes() -> None:
    joined = load_cases("casebook+calculations+out_of_scope", "hard")
    assert len(joined) == sum(len(load_cases(name, "hard")) for name in ("casebook", "calculations", "out_of_scope"))
    assert len({case.id for case in joined}) == len(joined)


@pytest.mark.parametrize(
    ("source", "split", "limit", "says"),
    [
        ("casebok", "test", None, "unknown source 'casebok'. Use casebook, calculations"),
        ("casebook", "dev", None, "there is no split 'dev'. Use one of: train"),
        ("casebook", "test", 0, "limit is 0"),
        ("casebook+", "test", None, "unknown source ''"),
        ("practice", "test", None, "practice has no case in split 'test'"),
        ("fragments", "validation", None, "fragments has no case in split 'validation'"),
        ("none.csv", "test", None, "there is no file none.csv"),
    ],
)
def test_mistakes_are_named(source: str, split: str, limit: int | None, says: str) -> None:
    with pytest.raises(DataError, match=re.escape(says)):
        load_cases(source, split, limit)


def test_out_of_scope_teaches_and_measures_abstention() -> None:
    seen: set[str] = set()
    for split in SPLITS:
        pairs = load_demonstrations("out_of_scope", split)
        assert len(pairs) >= 40
        for case, text in pairs:
            assert case.answer == ANSWER
            assert case.kind == "diagnosis"
            assert "Out of scope" in case.aliases
            assert case.question not in seen
            seen.add(case.question)
            assert re.fullmatch(r"<reasoning>\n.+\n</reasoning>\n<answer>\n.+\n</answer>", text)
            assert text.endswith(f"<answer>\n{ANSWER}. Please ask a clinician or a trusted source.\n</answer>")


def test_every_kind_of_question_out_of_scope_has_a_reason() -> None:
    told = {text.split("\n")[1] for split in SPLITS for _, text in load_demonstrations("out_of_scope", split)}
    assert told <= {reason for reasons in REASONS.values() for reason in reasons}
    assert all(told & set(reasons) for reasons in REASONS.values())


def test_every_generated_source_has_all_splits_and_demonstrations() -> None:
    for name in ("casebook", "calculations", "out_of_scope"):
        for split in SPLITS:
            pairs = load_demonstrations(name, split, limit=5)
            assert len(pairs) == 5
            assert {(case.source, case.split) for case, _ in pairs} == {(name, split)}
