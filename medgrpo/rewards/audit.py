"""Attacks on the rewards: is the right answer in form still the best a model can do?

For each case the gold completion and a table of cheats are scored by the very functions the trainer uses. The audit
fails if a cheat reaches gold, if a wrong answer reaches a right one that keeps the form, or if the form alone earns
more than a third of gold. A training run starts only after it passed. Profiles made as controls (`legacy`,
`format_only`, `random`) fail, and should: the report shows how.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from medgrpo.cases import Case
from medgrpo.matching import match
from medgrpo.parsing import compose, parse
from medgrpo.rewards import explain, total

Role = Literal["gold", "right", "broken", "wrong", "form"]
"""gold: the reference completion; right: in form, nothing cited; broken: the right answer, form, explanations or next step lost,
so worth less than gold; wrong: worth less than "right"; form: wrong, and worth at most a third of gold.
"""

FORM_SHARE = 1 / 3
_LABELS = (
    "Gout",
    "Migraine",
    "Acute appendicitis",
    "Pulmonary embolism",
    "Iron-deficiency anaemia",
    "Asthma exacerbation",
)
_PLAIN = "The findings fit together and point to one answer."
_QUOTED = 3
"""Findings that a plain completion quotes."""
_FILLER = "It is important to consider every aspect of this case with great care. "


@dataclass(frozen=True)
class Attack:
    """A way to write a completion without deserving the reward; `write` gives its variants for a case."""

    name: str
    role: Role
    write: Callable[["Target"], Iterable[str]]


@dataclass(frozen=True)
class Target:
    """A case to attack: its gold completion, and answers that are wrong for it."""

    case: Case
    gold: str
    wrong: tuple[str, ...]

    @property
    def reasoning(self) -> str:
        return parse(self.gold, final=True).reasoning

    @property
    def answer(self) -> str:
        return parse(self.gold, final=True).answer

    @property
    def name(self) -> str:
        """The right answer as a phrase."""
        case = self.case
        if case.kind == "choice":
            return f"{case.answer}: {case.options.get(case.answer, '')}".rstrip(": ")
        return f"{case.answer} {case.unit}".strip()

    @property
    def labels(self) -> tuple[str, ...]:
        if self.case.kind == "choice":
            return tuple(f"{letter}: {text}" for letter, text in self.case.options.items())
        return (self.name, *self.wrong)


@dataclass(frozen=True)
class Row:
    """One attack over all cases.

    Attributes:
        name, role: of the attack.
        mean, maximum: of its totals, over cases and variants.
        faults: ids of the cases in which it paid too much.
        verdict: a few words.
    """

    name: str
    role: Role
    mean: float
    maximum: float
    faults: tuple[str, ...]
    verdict: str


@dataclass(frozen=True)
class AuditReport:
    """What every attack earned under a profile, on the cases of one source."""

    profile: str
    source: str
    cases: int
    rows: tuple[Row, ...] = ()

    @property
    def passed(self) -> bool:
        return self.cases > 0 and not any(row.faults for row in self.rows)

    def render(self) -> str:
        """A Markdown table, its columns aligned for a terminal, and the conclusion."""
        table = [(row.name, f"{row.mean:.3f}", f"{row.maximum:.3f}", row.verdict) for row in self.rows]
        table = [("completion", "mean", "max", "verdict"), *table]
        wide, widest = (max(len(cells[i]) for cells in table) for i in (0, 3))
        lines = [f"| {name:{wide}} | {mean:>7} | {most:>7} | {says:{widest}} |" for name, mean, most, says in table]
        lines.insert(1, f"|{'-' * (wide + 2)}|--------:|--------:|{'-' * (widest + 2)}|")
        where = f" of {self.source}" if self.source else ""
        title = f"Audit of the reward profile {self.profile} on {self.cases} case{'s' * (self.cases != 1)}{where}"
        return "\n".join([title, "", *lines, "", f"{'PASSED' if self.passed else 'FAILED'}: {self}"])

    def __str__(self) -> str:
        if self.passed:
            return "the right answer in form beats everything else."
        if not self.cases:
            return "there is no case to audit."
        return "; ".join(f"{row.name}: {row.verdict}" for row in self.rows if row.faults) + "."


def audit(
    cases: Sequence[Case],
    profile: str | Mapping[str, float] = "medgrpo",
    demonstrations: Sequence[tuple[Case, str]] | None = None,
) -> AuditReport:
    """Scores gold and every attack on every case.

    Args:
        cases: of one source (else see `audit_sources`); wrong answers are taken from the other cases of the same kind.
        profile: a name from `PROFILES`, or rewards with weights.
        demonstrations: gold completions; a case without one gets a plain one made from its fields.
    """
    targets = _targets(cases, demonstrations or ())
    earned: dict[str, list[list[float]]] = {
        attack.name: [_totals(attack.write(target), target.case, profile) for target in targets] for attack in ATTACKS
    }
    ids = [target.case.id for target in targets]
    rows = [_row(attack, earned, ids) for attack in ATTACKS if any(earned[attack.name])]
    name = profile if isinstance(profile, str) else "with weights of your own"
    source = "+".join(dict.fromkeys(target.case.source for target in targets if target.case.source))
    return AuditReport(name, source, len(targets), tuple(rows))


def audit_sources(
    cases: Sequence[Case],
    profile: str | Mapping[str, float] = "medgrpo",
    demonstrations: Sequence[tuple[Case, str]] | None = None,
) -> list[AuditReport]:
    """`audit` for a mixture, one report a source: what answers one source ("outside what this model was trained for")
    is no wrong answer to attack another with.
    """
    parts: dict[str, tuple[list[Case], list[tuple[Case, str]]]] = {}
    for case in cases:
        parts.setdefault(case.source, ([], []))[0].append(case)
    for case, text in demonstrations or ():
        parts.setdefault(case.source, ([], []))[1].append((case, text))
    return [audit(own, profile, told) for own, told in parts.values()]


def gold_completion(case: Case) -> str:
    """A plain completion that deserves the full reward: up to three findings quoted and explained, then the answer
    and the next step.
    """
    quoted = " ".join(f'"{finding}" supports this.' for finding in case.findings[:_QUOTED])
    explained = _explained(case.findings, case.meanings)
    return compose(explained or quoted or _PLAIN, _answered(case, case.approach))


def _answered(case: Case, step: str) -> str:
    return f"{Target(case, '', ()).name}." + (f" Next: {step}." if step else "")


def _explained(findings: Sequence[str], meanings: Sequence[str]) -> str:
    pairs = zip(findings[:_QUOTED], meanings, strict=False)
    return " ".join(f'"{finding}": {meaning}.' for finding, meaning in pairs)


def _totals(texts: Iterable[str], case: Case, profile: str | Mapping[str, float]) -> list[float]:
    """Totals of the variants; a completion that no reward can judge earns nothing here."""
    return [total(explain(text, case, profile)) or 0.0 for text in texts]


def _row(attack: Attack, earned: Mapping[str, list[list[float]]], ids: Sequence[str]) -> Row:
    totals = earned[attack.name]
    flat = [value for variants in totals for value in variants]
    gold = [variants[0] for variants in earned["gold in form"]]
    right = [variants[0] for variants in earned["right in form, nothing cited"]]
    faults = []
    for i, variants in enumerate(totals):
        limit = {"gold": max(0.0, right[i]), "broken": gold[i], "right": gold[i]}.get(
            attack.role, min(gold[i], right[i])
        )
        if attack.role == "gold":
            bad = gold[i] < limit or gold[i] <= 0
        elif attack.role == "right":
            bad = variants[0] > limit
        else:
            best = max(variants, default=float("-inf"))
            bad = best >= limit - 1e-9 or (attack.role == "form" and best > FORM_SHARE * gold[i] + 1e-9)
        if bad:
            faults.append(ids[i])
    return Row(
        attack.name, attack.role, sum(flat) / len(flat), max(flat), tuple(faults), _verdict(attack, faults, len(ids))
    )


def _verdict(attack: Attack, faults: Sequence[str], count: int) -> str:
    if not faults:
        return {"gold": "wins", "right": "right, and less than gold"}.get(attack.role, "loses")
    where = f"in {len(faults)} of {count} case{'s' * (count != 1)}"
    if attack.role == "gold":
        return f"LOSES {where}"
    return f"PAYS TOO MUCH {where}"


def _targets(cases: Sequence[Case], demonstrations: Sequence[tuple[Case, str]]) -> list[Target]:
    gold = {case.id: (case, gold_completion(case)) for case in cases}
    gold |= {case.id: (case, text) for case, text in demonstrations}
    names: dict[str, dict[str, None]] = {}
    for case, _ in gold.values():
        names.setdefault(case.kind, {})[case.answer] = None
    return [Target(case, text, _wrong(case, [*names[case.kind], *_LABELS])) for case, text in gold.values()]


def _wrong(case: Case, names: Sequence[str]) -> tuple[str, ...]:
    """Up to 32 answers that are not right for the case."""
    if case.kind == "choice":
        return tuple(f"{letter}: {text}" for letter, text in case.options.items() if letter != case.answer)
    if case.kind == "numeric":
        try:
            value = float(case.answer)
        except ValueError:
            value = 0.0
        return tuple(f"{value + step * (1 + 3 * case.tolerance):g} {case.unit}".strip() for step in (1, -1, 2, 10))
    wrong = (name for name in names if match(name, case).correct is not True and name not in case.aliases)
    return tuple(dict.fromkeys(wrong))[:32]


def _two_answers(t: Target) -> Iterable[str]:
    for wrong in t.wrong[:2]:
        yield f"{t.gold}\n<answer>\n{wrong}\n</answer>"
        yield compose(t.reasoning, wrong) + f"\n<answer>\n{t.name}\n</answer>"
        yield compose(t.reasoning, f"{t.name}. {wrong}.")
        yield f"{t.gold}\nOr {wrong}."


def _either(t: Target) -> Iterable[str]:
    for wrong in t.wrong[:2]:
        for text in (f"{t.name} or {wrong}", f"{wrong} or {t.name}", f"{t.name} vs. {wrong}", f"{t.name} / {wrong}"):
            yield compose(t.reasoning, text)


def _all_labels(t: Target) -> Iterable[str]:
    if len(t.labels) > 1:
        for separator in (", ", "; ", "\n", " and ", "\n- "):
            yield compose(t.reasoning, separator.join(t.labels))


def _negated(t: Target) -> Iterable[str]:
    for text in ("Not {}", "not {}.", "{} is unlikely", "This is not {}."):
        yield compose(t.reasoning, text.format(t.name))


def _copied(t: Target) -> Iterable[str]:
    question = t.case.question
    yield question
    yield compose(_PLAIN, question)
    for wrong in t.wrong[:1]:
        yield compose(f'"{question}"', wrong)
        yield compose(" ".join(f'"{part.strip()}"' for part in question.split(".")), wrong)


def _filler(t: Target) -> Iterable[str]:
    filler = _FILLER * (10_000 // len(_FILLER) + 1)
    yield filler
    for wrong in t.wrong[:1]:
        yield compose(filler, wrong)
        yield compose(_PLAIN, f"{wrong}. {filler}")


def _outside(t: Target) -> Iterable[str]:
    yield f"{t.reasoning}\n<answer>\n{t.answer}\n</answer>"
    yield f"{t.reasoning}\n{compose('See above.', t.answer)}"
    yield f"{compose(t.reasoning, t.answer)}\n{t.reasoning}"


def _exchanged(t: Target) -> Iterable[str]:
    """The right answer, with each quoted finding explained by what another one means."""
    meanings = t.case.meanings
    if len(set(meanings)) > 1:
        others = [next(m for m in meanings[i:] + meanings[:i] if m != own) for i, own in enumerate(meanings)]
        yield compose(_explained(t.case.findings, others), t.answer)


def _garbled(t: Target) -> Iterable[str]:
    """The right answer with a next step that ends in words of its own."""
    if t.case.approach:
        yield compose(t.reasoning, _answered(t.case, " ".join([*t.case.approach.split()[:-3], "as soon as possible"])))


def _form_alone(t: Target) -> Iterable[str]:
    return (compose(_PLAIN, wrong) for wrong in t.wrong[:4])


ATTACKS = (
    Attack("gold in form", "gold", lambda t: [t.gold]),
    Attack("right in form, nothing cited", "right", lambda t: [compose(_PLAIN, t.answer)]),
    Attack("gold without form", "broken", lambda t: [t.answer, t.name, f"{t.reasoning}\n\n{t.answer}"]),
    Attack("reasoning outside its block", "broken", _outside),
    Attack("truncated at every tenth", "broken", lambda t: [t.gold[: len(t.gold) * k // 10] for k in range(10)]),
    Attack("10 kB of filler around gold", "broken", lambda t: [compose(_FILLER * 140 + t.reasoning, t.answer)]),
    Attack("explanations exchanged", "broken", _exchanged),
    Attack("next step garbled", "broken", _garbled),
    Attack("well-formed but wrong", "form", _form_alone),
    Attack("wrong, findings cited", "wrong", lambda t: [compose(t.reasoning, wrong) for wrong in t.wrong[:4]]),
    Attack("empty blocks", "form", lambda t: [compose("", ""), compose(" \u200b", "\u200b"), compose(".", ".")]),
    Attack("all options or labels", "wrong", _all_labels),
    Attack("A or B", "wrong", _either),
    Attack("negated gold", "wrong", _negated),
    Attack("question copied", "wrong", _copied),
    Attack("two answers", "wrong", _two_answers),
    Attack("10 kB of filler", "wrong", _filler),
)
