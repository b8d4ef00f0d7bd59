"""Public data sets from the Hub: one small function each, pinned to a revision, columns checked before use.

`datasets` is imported on first use only. Where a data set has no split of ours, it is derived from a hash of the
question (PubMedQA: of the article id), the same on every machine.
"""

import importlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from medgrpo.cases import Case
from medgrpo.data.files import kind_of, split_by_hash
from medgrpo.errors import DataError

log = logging.getLogger(__name__)
Row = Mapping[str, Any]
Loader = Callable[..., Any]  # datasets.load_dataset


@dataclass(frozen=True)
class Adapter:
    """How one data set becomes cases.

    `splits` maps our split to the Hub's; a split of ours that maps to "train" beside "train" itself is cut out of it by
    hash. `convert` returns a case without id, source and split, or a sentence saying why a row is unusable.
    `reasoning` returns a demonstration (reasoning, answer) where the data set has one.
    """

    repo: str
    config: str | None
    revision: str
    columns: tuple[str, ...]
    splits: Mapping[str, str]
    convert: Callable[[Row], Case | str]
    key: str
    reasoning: Callable[[Row], tuple[str, str]] | None = None


def medical_o1_reasoning(row: Row) -> Case | str:
    """Open question with a long free answer; not judged automatically."""
    return _free(row["Question"], row["Response"])


def medical_o1_verifiable(row: Row) -> Case | str:
    """Open question with a short answer that can be checked; the columns are spelled as the data set spells them."""
    return _free(row["Open-ended Verifiable Question"], row["Ground-True Answer"])


def medqa(row: Row) -> Case | str:
    """USMLE question with options A to D; `answer` repeats the text of option `answer_idx`."""
    options = {letter: str(text) for letter, text in row["options"].items() if text is not None}
    if options.get(row["answer_idx"]) != row["answer"]:
        return f"answer {row['answer']!r:.60} is not option {row['answer_idx']!r}"
    return _choice(row["question"], options, row["answer_idx"])


def medmcqa(row: Row) -> Case | str:
    """Indian entrance question; `cop` counts the options from 0 (the card says from 1), and -1 hides the answer."""
    options = dict(zip("ABCD", (str(row[name]) for name in ("opa", "opb", "opc", "opd")), strict=True))
    if row["cop"] not in (0, 1, 2, 3):
        return f"cop is {row['cop']}, so the answer is hidden"
    return _choice(row["question"], options, "ABCD"[row["cop"]])


def pubmedqa(row: Row) -> Case | str:
    """Research question on an abstract, answered yes, no or maybe."""
    options = {"A": "yes", "B": "no", "C": "maybe"}
    letters = [letter for letter, text in options.items() if text == row["final_decision"]]
    if not letters:
        return f"final_decision is {row['final_decision']!r}"
    return _choice("\n".join(row["context"]["contexts"]) + f"\n\n{row['question']}", options, letters[0])


def _free(question: str | None, answer: str | None) -> Case | str:
    question, answer = (question or "").strip(), (answer or "").strip()
    if not question or not answer:
        return "question or answer is empty"
    return Case(id="", question=question, answer=answer, kind=kind_of(answer))


def _choice(question: str, options: Mapping[str, str], letter: str) -> Case | str:
    if not question.strip():
        return "question is empty"
    listed = "\n".join(f"{each}. {text}" for each, text in options.items())
    return Case(id="", question=f"{question.strip()}\n\n{listed}", answer=letter, kind="choice", options=dict(options))


OURS = {"train": "train", "validation": "train", "test": "train"}  # all three cut out of the Hub's train
ADAPTERS: dict[str, Adapter] = {
    "medical-o1-reasoning-SFT": Adapter(
        repo="FreedomIntelligence/medical-o1-reasoning-SFT",
        config="en",
        revision="fc2c9e8a37b38f38da6d449564a8c350b244aef4",
        columns=("Question", "Complex_CoT", "Response"),
        splits=OURS,
        convert=medical_o1_reasoning,
        key="Question",
        reasoning=lambda row: (row["Complex_CoT"], row["Response"]),
    ),
    "medical-o1-verifiable-problem": Adapter(
        repo="FreedomIntelligence/medical-o1-verifiable-problem",
        config=None,
        revision="46d5175eb74fdef3516d51d52e8c40db04bbdf35",
        columns=("Open-ended Verifiable Question", "Ground-True Answer"),
        splits=OURS,
        convert=medical_o1_verifiable,
        key="Open-ended Verifiable Question",
    ),
    "MedQA-USMLE-4-options": Adapter(
        repo="GBaker/MedQA-USMLE-4-options",
        config=None,
        revision="0fb93dd23a7339b6dcd27e241cb9b5eca62d4d18",
        columns=("question", "answer", "options", "answer_idx"),
        splits={"train": "train", "validation": "train", "test": "test"},
        convert=medqa,
        key="question",
    ),
    "medmcqa": Adapter(
        repo="openlifescienceai/medmcqa",
        config=None,
        revision="91c6572c454088bf71b679ad90aa8dffcd0d5868",
        columns=("id", "question", "opa", "opb", "opc", "opd", "cop"),
        splits={"train": "train", "validation": "validation"},
        convert=medmcqa,
        key="id",
    ),
    "PubMedQA": Adapter(
        repo="qiaojin/PubMedQA",
        config="pqa_labeled",
        revision="9001f2853fb87cab8d220904e0de81ac6973b318",
        columns=("pubid", "question", "context", "final_decision"),
        splits=OURS,
        convert=pubmedqa,
        key="pubid",
    ),
}


def find_adapter(name: str) -> tuple[str, Adapter] | None:
    """By short name or full Hub id, in any case."""
    for short, adapter in ADAPTERS.items():
        if name.lower() in (short.lower(), adapter.repo.lower()):
            return short, adapter
    return None


def load_hub(name: str, split: str, loader: Loader | None = None) -> list[tuple[Case, tuple[str, str] | None]]:
    """Cases of one split, each with its (reasoning, answer) where the data set has one.

    `loader` stands in for `datasets.load_dataset` in tests. Raises DataError for an unknown name or split, a missing
    column, or when the data set cannot be fetched. Unusable rows are counted in a warning.
    """
    found = find_adapter(name)
    if found is None:
        raise DataError(f"no adapter is called {name!r}. Known: {', '.join(ADAPTERS)}.")
    short, adapter = found
    if split not in adapter.splits:
        hidden = " Its test answers are hidden (cop is -1)." if short == "medmcqa" else ""
        known = ", ".join(adapter.splits)
        raise DataError(f"{adapter.repo} has no usable split {split!r}.{hidden} Evaluate on one of: {known}.")
    rows = _fetch(adapter, adapter.splits[split], loader)
    if missing := [column for column in adapter.columns if column not in rows.column_names]:
        raise DataError(
            f"{adapter.repo} at revision {adapter.revision} lacks the columns {missing}; it has {rows.column_names}. "
            "Save it as a file and load that with a column mapping (medgrpo.data.files.read_file)."
        )
    parts = [ours for ours, theirs in adapter.splits.items() if theirs == adapter.splits[split]]
    made: list[tuple[Case, tuple[str, str] | None]] = []
    reasons: list[str] = []
    for number, row in enumerate(rows):
        if len(parts) > 1 and _part(str(row[adapter.key]), parts) != split:
            continue
        case = adapter.convert(row)
        if isinstance(case, str):
            reasons.append(f"row {number}: {case}")
            continue
        case = replace(case, id=f"{short}/{adapter.splits[split]}/{number:06d}", source=short, split=split)
        made.append((case, adapter.reasoning(row) if adapter.reasoning else None))
    if reasons:
        log.warning("%s %s: %d rows left out, such as %s", short, split, len(reasons), "; ".join(reasons[:5]))
    return made


def _part(key: str, parts: list[str]) -> str:
    """The split a row of a shared Hub split belongs to; without a test part of its own, that share stays in train."""
    part = split_by_hash(key)
    return part if part in parts else "train"


def _fetch(adapter: Adapter, split: str, loader: Loader | None) -> Any:
    try:
        load: Loader = loader or importlib.import_module("datasets").load_dataset
    except ImportError:
        raise DataError("Hub data sets need the datasets library: pip install datasets==4.8.5.") from None
    try:
        return load(adapter.repo, adapter.config, revision=adapter.revision, split=split)
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(
            f"{adapter.repo} ({split}, revision {adapter.revision}) could not be loaded: {error} "
            "Check the network and HF_HUB_OFFLINE, or pass the path of a file you saved."
        ) from error
