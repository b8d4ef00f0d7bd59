"""Cases with a reference, and completions to try on them: the gold one and the usual ways to cheat."""

from functools import cache

from medgrpo.cases import Case
from medgrpo.data import load_demonstrations
from medgrpo.parsing import compose, parse

SOURCES = (("casebook", 20), ("calculations", 6))


@cache
def cases() -> dict[str, tuple[Case, str]]:
    """Held-out cases by a readable title, each with its demonstration. Takes a second the first time."""
    found = [pair for source, count in SOURCES for pair in load_demonstrations(source, "validation", limit=count)]
    return {_title(case): (case, gold) for case, gold in found}


def _title(case: Case) -> str:
    answer = f"{case.answer} {case.unit}".strip()
    return f"{answer} ({case.id.removeprefix('casebook/')})"


def attempts(case: Case, gold: str) -> dict[str, str]:
    """Completions for a case, by what they are."""
    sections = parse(gold, final=True)
    wrong = "42 kg" if case.kind == "numeric" else "Gout" if case.answer != "Gout" else "Pneumothorax"
    other = "Asthma exacerbation" if case.answer != "Asthma exacerbation" else "Sepsis"
    return {
        "Gold": gold,
        "Right, no form": f"{sections.reasoning}\n\n{sections.answer}",
        "Form, wrong answer": compose(sections.reasoning, wrong),
        "Form only": compose("The findings point to one answer.", "It is hard to say."),
        "Two answers": compose(sections.reasoning, f"{case.answer} or {other}"),
        "Case copied": compose(case.question, case.answer),
        "Cut off": gold[: len(gold) // 2],
        "Rambling": "There can be many reasons for this. It could be one thing or another. Please see a doctor.",
    }
