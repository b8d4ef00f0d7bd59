"""What the model was not trained for: other conditions, questions, small talk, other languages, blank forms.

Teaches and measures abstention. Texts come from `knowledge_out_of_scope.yaml`; those under `test` serve test and hard
in turn, and every seventh entry under `train` is held out for validation, whole conditions at a time.
"""

import random
from functools import cache
from typing import Any

from medgrpo.cases import Case
from medgrpo.data.demonstrations import in_form
from medgrpo.data.knowledge import HERE, read_yaml
from medgrpo.data.registers import load_registers
from medgrpo.errors import DataError

SEED = "out-of-scope-1"
ANSWER = "Outside what this model was trained for"
ALIASES = ("Out of scope", "Outside my training", "Outside the scope of this model", "Outside my scope")
ADVICE = "Please ask a clinician or a trusted source."
REASONS = {
    "other_condition": (
        "These findings do not fit any of the 32 conditions this model knows.",
        "A case is described, but it matches none of the 32 conditions that were trained.",
        "The picture belongs to a condition that is not among the 32 this model has learned.",
    ),
    "question": (
        "This is a general question and not the description of a patient, so there is no case to diagnose.",
        "No patient is described here. The model only names one of 32 conditions from a case.",
        "This asks for knowledge or advice; the model was trained on case descriptions only.",
    ),
    "chitchat": (
        "This is conversation and not a case, so there are no findings to weigh.",
        "No symptoms, signs or results are given, so there is nothing to diagnose.",
        "There is no patient in this message.",
    ),
    "other_language": (
        "The message is not in English, and the model was trained on English cases only.",
        "This is written in another language than the English cases the model has learned.",
    ),
    "blank": (
        "No findings are given, so nothing can be weighed.",
        "The message holds no case: symptoms, signs and results are missing.",
        "There is too little here to think about a diagnosis.",
    ),
    "prompt_injection": (
        "This is an instruction and not a case, so there are no findings to weigh.",
        "The message gives orders but no symptoms, signs or results.",
    ),
}
KINDS = {
    "other_languages": "other_language",
    "drug_question": "question",
    "general_question": "question",
    "questions": "question",
}


@cache
def out_of_scope(split: str) -> tuple[tuple[Case, str], ...]:
    """Cases of a split with their demonstrations. Raises DataError for an unknown split."""
    raw: dict[str, Any] = read_yaml(HERE / "knowledge_out_of_scope.yaml")
    if split in ("test", "hard"):
        half = raw["test"][1::2] if split == "hard" else raw["test"][::2]
        texts = [(entry["kind"], entry["text"]) for entry in half]
    elif split in ("train", "validation"):
        texts = _train_texts(raw["train"], split)
    else:
        raise DataError(f"the out-of-scope cases have no split {split!r}. Use train, validation, test or hard.")
    unique = dict.fromkeys((KINDS.get(kind, kind), " ".join(text.split())) for kind, text in texts if text.strip())
    return tuple(_case(split, number, kind, text) for number, (kind, text) in enumerate(unique))


def _train_texts(raw: dict[str, Any], split: str) -> list[tuple[str, str]]:
    """Every text; those that read like a case also with one or three lines of noise and the questions of real vignettes,
    so that neither length nor manner tells what is outside.
    """

    def kept(entries: list[Any]) -> list[Any]:
        return [entry for i, entry in enumerate(entries) if (i % 7 == 3) == (split == "validation")]

    texts = [(kind, str(text)) for kind, entries in raw.items() if kind != "other_conditions" for text in kept(entries)]
    noise = [entry for i, entry in enumerate(read_yaml(HERE / "distractors.yaml")) if i % 4 != 3 and "age" not in entry]
    for condition in kept(raw["other_conditions"]):
        for register in load_registers()[:3]:
            for text in condition[register.voice]:
                texts.append(("other_condition", text))
                for lines in (1, 3):
                    rng = random.Random(f"{SEED}/{lines}/{text}")
                    said = [each[register.voice] for each in rng.sample(noise, lines)]
                    said = [f"The patient {each}." if register.voice == "prose" else f"{each}." for each in said]
                    parts = [text.rstrip(".") + ".", *said]
                    if register.voice == "patient":
                        rng.shuffle(parts)
                    texts.append(("other_condition", " ".join([*parts, rng.choice(register.question[split])])))
    return texts


def _case(split: str, number: int, kind: str, text: str) -> tuple[Case, str]:
    reason = random.Random(f"{SEED}/{split}/{number}").choice(REASONS[kind])
    case = Case(
        id=f"out_of_scope/{split}/{kind}/{number:04d}",
        question=text,
        answer=ANSWER,
        kind="diagnosis",
        aliases=ALIASES,
        source="out_of_scope",
        split=split,
    )
    return case, in_form(reason, f"{ANSWER}. {ADVICE}")
