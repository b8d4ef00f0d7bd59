"""The Hub adapters, through the real `datasets` code on rows we invented with the exact schema of each data set."""

import logging
import re
from pathlib import Path
from typing import Any

import pytest

from medgrpo import data
from medgrpo.data import hub
from medgrpo.data.hub import ADAPTERS, load_hub
from medgrpo.errors import DataError

FIXTURES = Path(__file__).parent / "fixtures"
FILES = {
    "FreedomIntelligence/medical-o1-reasoning-SFT": "medical_o1_sft.jsonl",
    "FreedomIntelligence/medical-o1-verifiable-problem": "medical_o1_verifiable.jsonl",
    "GBaker/MedQA-USMLE-4-options": "medqa.jsonl",
    "openlifescienceai/medmcqa": "medmcqa.jsonl",
    "qiaojin/PubMedQA": "pubmedqa.jsonl",
}


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A loader with the signature of `datasets.load_dataset` that reads the fixture and never the network."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")

    def load(repo: str, config: str | None, *, revision: str, split: str) -> Any:
        assert re.fullmatch(r"[0-9a-f]{40}", revision)
        return datasets.load_dataset(
            "json", data_files={split: str(FIXTURES / FILES[repo])}, split=split, cache_dir=str(tmp_path)
        )

    return load


def everything(name: str, loader: Any) -> list[Any]:
    return [pair for split in ADAPTERS[name].splits for pair in load_hub(name, split, loader)]


def test_every_revision_is_a_commit() -> None:
    assert all(re.fullmatch(r"[0-9a-f]{40}", adapter.revision) for adapter in ADAPTERS.values())
    assert len({adapter.revision for adapter in ADAPTERS.values()}) == len(ADAPTERS) == 5


def test_medical_o1_reasoning(local: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        pairs = everything("medical-o1-reasoning-SFT", local)
    assert len(pairs) == 2
    assert "1 rows left out, such as row 2: question or answer is empty" in caplog.text
    for case, told in pairs:
        assert case.kind == "open"
        assert told[0].startswith(("A thorn", "Gas expands"))
        assert told[1] == case.answer


def test_medical_o1_verifiable(local: Any) -> None:
    pairs = everything("medical-o1-verifiable-problem", local)
    assert sorted(case.answer for case, _ in pairs) == ["Serous otitis media", "Vitamin C"]
    assert {case.answer: case.kind for case, _ in pairs} == {"Serous otitis media": "diagnosis", "Vitamin C": "open"}
    assert {told for _, told in pairs} == {None}


def test_medqa(local: Any, caplog: pytest.LogCaptureFixture) -> None:
    cases = [case for case, _ in load_hub("GBaker/MedQA-USMLE-4-options", "test", local)]
    assert [(case.answer, case.options[case.answer]) for case in cases] == [
        ("B", "A challenge with flour"),
        ("C", "A tendon sheath"),
    ]
    assert "B. A challenge with flour" in cases[0].question
    assert "answer 'Iron' is not option 'A'" in caplog.text


def test_medmcqa_counts_the_options_from_zero(local: Any, caplog: pytest.LogCaptureFixture) -> None:
    cases = [case for case, _ in load_hub("medmcqa", "validation", local)]
    assert [(case.answer, case.options[case.answer]) for case in cases] == [("A", "The first"), ("D", "Blue")]
    assert "cop is -1, so the answer is hidden" in caplog.text


def test_medmcqa_has_no_usable_test_split(local: Any) -> None:
    with pytest.raises(DataError, match=r"answers are hidden .* Evaluate on one of: train, validation"):
        load_hub("medmcqa", "test", local)


def test_pubmedqa(local: Any) -> None:
    cases = sorted((case for case, _ in everything("PubMedQA", local)), key=lambda case: case.id)
    assert [case.options[case.answer] for case in cases] == ["no", "yes", "maybe"]
    assert cases[0].question.startswith("We timed forty invented visitors.\nHalf of them hummed.\n\nDoes humming")
    assert {case.split for case in cases} <= {"train", "validation", "test"}


@pytest.mark.parametrize("name", ADAPTERS)
def test_a_missing_column_is_named(name: str, local: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "other.jsonl"
    other.write_text('{"stem": "x", "key": "y"}\n', encoding="utf-8")
    monkeypatch.setitem(FILES, ADAPTERS[name].repo, str(other))
    with pytest.raises(DataError, match=r"lacks the columns .*; it has \['stem', 'key'\]"):
        load_hub(name, "train", local)


def test_no_network_is_a_sentence() -> None:
    def offline(*_: Any, **__: Any) -> Any:
        raise ConnectionError("the Hub cannot be reached.")

    with pytest.raises(DataError, match=r"could not be loaded: the Hub cannot be reached. Check the network"):
        load_hub("PubMedQA", "test", offline)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(DataError, match=r"no adapter is called 'medqa5'. Known: medical-o1-reasoning-SFT"):
        load_hub("medqa5", "test")


def test_load_cases_drops_training_rows_that_overlap_with_the_test(
    local: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The fixture serves train and test alike, so every training row is also a test row."""
    monkeypatch.setattr(data, "load_hub", lambda name, split: hub.load_hub(name, split, local))
    assert len(data.load_cases("MedQA-USMLE-4-options", "test")) == 2
    with pytest.raises(DataError, match="has no case in split 'train'"):
        data.load_cases("MedQA-USMLE-4-options", "train")
    assert "overlap with held-out cases" in caplog.text


def test_demonstrations_come_in_form(local: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "load_hub", lambda name, split: hub.load_hub(name, split, local))
    splits = {split for case, _ in everything("medical-o1-reasoning-SFT", local) for split in [case.split]}
    for split in splits:
        for case, text in data.load_demonstrations("medical-o1-reasoning-SFT", split):
            assert text.startswith("<reasoning>\n")
            assert text.endswith(f"<answer>\n{case.answer}\n</answer>")
    with pytest.raises(DataError, match="has no demonstrations"):
        data.load_demonstrations("MedQA-USMLE-4-options", "test")
