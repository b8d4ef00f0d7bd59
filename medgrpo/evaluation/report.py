"""An evaluation as a table, a JSON record and a picture. Reads results only; asks no model."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from medgrpo.evaluation.folder import Arm, Evaluation, compared
from medgrpo.evaluation.measures import Share
from medgrpo.evaluation.summary import Paired, Summary, compare_paired, confusions, near_confusers, summarise
from medgrpo.safety import DISCLAIMER

MEASURES: dict[str, tuple[str, str]] = {
    "strict": ("strict accuracy", "right and exactly in form; malformed is wrong"),
    "lenient": ("lenient accuracy", "right wherever the answer was found"),
    "form": ("well-formed", "exactly one reasoning, then one answer"),
    "accuracy_in_form": ("accuracy if well-formed", "right, of the well-formed answers"),
    "majority_at_k": ("majority of k", "the most frequent of several answers to a case is right"),
    "consistency": ("consistent", "the same option is chosen in every order of the options"),
    "truncated": ("cut off", "the token limit ended the answer"),
    "several": ("hedged", "hedges, doubles or lists instead of answering"),
    "copied": ("copied", "reasoning or answer is mostly text of the question"),
    "declined": ("declined", "says that the case is outside what was trained"),
    "real_citations": ("citations real", "quotations that stand in the case; interval over cases"),
    "explanations_fit": ("explanations fit", "what is said of a quoted finding is what it means; interval over cases"),
    "next_step_intact": ("next step intact", "the next step is word for word right, of the right answers"),
}
"""Field of `Summary` -> heading and what it counts, in the order in which they are shown."""
SOMETIMES = ("majority_at_k", "consistency", "explanations_fit", "next_step_intact")
"""Shown only where an arm has them."""
COLOURS = {"control": "#9ca3af", "base": "#64748b", "sft": "#5fada5", "grpo": "#0f766e"}


def measures_of(summaries: Mapping[str, Summary]) -> list[str]:
    """The fields to show for these arms."""
    empty = [name for name in SOMETIMES if not any(getattr(s, name).of for s in summaries.values())]
    return [name for name in MEASURES if name not in empty]


def table(summaries: Mapping[str, Summary]) -> str:
    """A Markdown table, one row an arm, every share with its 95 % interval."""
    names = measures_of(summaries)
    heads = ["arm", "cases", *(MEASURES[name][0] for name in names), "real citations an answer", "tokens"]
    rows = [heads, ["---"] * len(heads)]
    for arm, s in summaries.items():
        shares = [percent(getattr(s, name)) for name in names]
        rows.append([arm, str(s.cases), *shares, f"{s.mean_citations:.1f}", f"{s.mean_tokens:.0f}"])
    return _markdown(rows)


def percent(value: Share) -> str:
    """A share in per cent with its interval, or a dash."""
    if not value.of:
        return "–"
    return f"{100 * value.value:.1f} % ({100 * value.low:.1f}–{100 * value.high:.1f})"


def paired_sentence(name: str, against: str, paired: Paired) -> str:
    """One plain sentence on two arms over the same cases; `paired` has `against` first."""
    if not paired.cases:
        return f"{name} and {against} answered no case in common."
    points = 100 * paired.difference
    chance = "p < 0.001" if paired.p < 0.001 else f"p = {paired.p:.3f}"
    cases = "case" if paired.cases == 1 else f"{paired.cases} cases"
    detail = f"{paired.only_second} only {name} has right, {paired.only_first} only {against}; McNemar {chance}"
    if not paired.only_first + paired.only_second:
        return f"{name} and {against} are right on exactly the same cases, of {paired.cases} that both answered."
    if not round(points, 1):
        return f"{name} answers as many of the same {cases} as {against} ({detail})."
    more = "more" if points > 0 else "fewer"
    return f"{name} answers {abs(points):.1f} points {more} of the same {cases} than {against} ({detail})."


def reference_of(evaluation: Evaluation) -> Arm | None:
    """The arm that the others are compared with: the named one, else the last adapter, else none."""
    adapters = [arm for arm in evaluation.arms if arm.kind in ("grpo", "sft")]
    return evaluation.arm(evaluation.reference) or (adapters[-1] if adapters else None)


def title_of(evaluation: Evaluation) -> str:
    """Source, split and size, from the cases themselves."""
    splits: dict[str, set[str]] = {}
    for case in evaluation.cases.values():
        splits.setdefault(case.source, set()).add(case.split)
    names = "; ".join(
        f"{source}, {' and '.join(sorted(found))} {'splits' if len(found) > 1 else 'split'}"
        for source, found in sorted(splits.items())
    )
    count = len({result.case for arm in evaluation.arms for result in arm.results})
    return f"{names or evaluation.folder.name}, {count} cases"


def scoreboard(evaluation: Evaluation) -> dict[str, Any]:
    """Everything that the page and the documents show of an evaluation."""
    arms, reference = evaluation.arms, reference_of(evaluation)
    record: dict[str, Any] = {
        "title": title_of(evaluation),
        "cases": len(evaluation.cases),
        "reference": reference.title if reference else "",
        "arms": {arm.title: _arm(arm) for arm in arms},
        "confusions": {arm.title: [[*pair, n] for pair, n in confusions(arm.results).most_common(12)] for arm in arms},
        "near_confusers": {
            arm.title: {name: asdict(row) for name, row in near_confusers(arm.results).items()} for arm in arms
        },
        "paired": {},
        "disclaimer": DISCLAIMER,
    }
    if reference:
        others = compared(arms, reference)
        record["paired"] = {arm.title: asdict(compare_paired(arm.results, reference.results)) for arm in others}
    return record


def _arm(arm: Arm) -> dict[str, Any]:
    asked = {name: arm.settings.get(name, "") for name in ("engine", "model", "adapter", "adapter_sha256")}
    return {"folder": arm.name, "kind": arm.kind, **asked, **summarise(arm.results).record()}


def markdown(evaluation: Evaluation) -> str:
    """The report: all measures, the paired comparison, registers, conditions and near confusers."""
    arms, reference = evaluation.arms, reference_of(evaluation)
    summaries = {arm.title: summarise(arm.results) for arm in arms}
    lines = [f"# {title_of(evaluation)}", "", table(summaries), "", _legend(summaries), ""]
    if reference:
        lines += [
            "- " + paired_sentence(reference.title, arm.title, compare_paired(arm.results, reference.results))
            for arm in compared(arms, reference)
        ]
    lines += ["", *_by("register", {name: s.by_group for name, s in summaries.items()})]
    lines += _by("condition", {name: s.by_condition for name, s in summaries.items()})
    if reference:
        lines += _confused(reference)
    return "\n".join([*lines, DISCLAIMER, ""])


def _legend(summaries: Mapping[str, Summary]) -> str:
    said = "; ".join(f"*{MEASURES[name][0]}*: {MEASURES[name][1]}" for name in measures_of(summaries))
    return f"{said}. In brackets 95 % Wilson intervals; several answers or quotations of one case count as one cluster."


def _by(what: str, shares: Mapping[str, Mapping[str, Share]]) -> list[str]:
    """A table of strict accuracies, one row a register or condition, one column an arm."""
    names = sorted({name for found in shares.values() for name in found if name})
    if len(names) < 2:
        return []
    rows = [[what, *shares], ["---"] * (len(shares) + 1)]
    rows += [[name, *(_short(found.get(name)) for found in shares.values())] for name in names]
    return [f"## Strict accuracy by {what}", "", _markdown(rows), ""]


def _short(value: Share | None) -> str:
    return f"{value.hits}/{value.of}" if value and value.of else "–"


def _confused(arm: Arm) -> list[str]:
    table = near_confusers(arm.results)
    if not table:
        return []
    rows = [["condition", "answers", "right", "near confusers", "another condition", "declined", "unclear"]]
    rows.append(["---"] * len(rows[0]))
    for name, row in table.items():
        near = ", ".join(f"{other} {n}" for other, n in row.near.items() if n) or "–"
        counts = [str(n) for n in (row.far, row.declined, row.unclear)]
        rows.append([name, str(row.answers), str(row.right), near, *counts])
    return [f"## What {arm.title} answered instead", "", _markdown(rows), ""]


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)


def write_report(evaluation: Evaluation, folder: Path) -> bool:
    """Write `scoreboard.json`, `report.md` and `accuracy.png` into `folder`.

    Returns:
        False if the picture is missing because matplotlib isn't installed (it is in requirements-dev.txt).
    """
    folder.mkdir(parents=True, exist_ok=True)
    record = json.dumps(scoreboard(evaluation), indent=1, ensure_ascii=False)
    (folder / "scoreboard.json").write_text(record + "\n", encoding="utf-8")
    (folder / "report.md").write_text(markdown(evaluation), encoding="utf-8")
    try:
        picture(evaluation, folder / "accuracy.png")
    except ImportError:
        return False
    return True


def picture(evaluation: Evaluation, path: Path) -> None:
    """A bar chart of strict accuracy with intervals, one bar an arm. Raises ImportError without matplotlib."""
    from matplotlib.figure import Figure

    arms = evaluation.arms
    shares = [summarise(arm.results).strict for arm in arms]
    values = [100 * s.value if s.of else 0.0 for s in shares]
    below = [value - 100 * s.low if s.of else 0.0 for value, s in zip(values, shares, strict=True)]
    above = [100 * s.high - value if s.of else 0.0 for value, s in zip(values, shares, strict=True)]
    figure = Figure(figsize=(8, 0.6 * len(arms) + 1.4), layout="constrained")
    axes = figure.add_subplot()
    colours = [COLOURS[arm.kind] for arm in arms]
    axes.barh(range(len(arms)), values, xerr=[below, above], color=colours, ecolor="#374151", capsize=3)
    axes.set_yticks(range(len(arms)), [arm.title for arm in arms])
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("strict accuracy, % (lines: 95 % Wilson interval)")
    axes.set_title(title_of(evaluation), loc="left", fontsize=11)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for y, (value, rise) in enumerate(zip(values, above, strict=True)):
        axes.text(min(value + rise + 1, 94), y, f"{value:.1f}", va="center", fontsize=9)
    figure.savefig(path, dpi=150, metadata={"Software": None})
