"""Evaluations as a table, a JSON record and pictures. Reads results only; asks no model."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medgrpo.evaluation.measures import Paired, Result, Share, Summary, compare_paired, confusions, summarise
from medgrpo.safety import DISCLAIMER

COLUMNS = (
    "arm",
    "strict accuracy",
    "lenient accuracy",
    "well-formed",
    "accuracy if well-formed",
    "cut off",
    "hedged",
    "citations real",
    "tokens",
)


def table(summaries: Mapping[str, Summary]) -> str:
    """A Markdown table, one row an arm, every share with its 95 % Wilson interval."""
    rows = [" | ".join(COLUMNS), " | ".join("---" for _ in COLUMNS)]
    for name, s in summaries.items():
        shares = (s.strict, s.lenient, s.form, s.accuracy_in_form, s.truncated, s.several, s.real_citations)
        rows.append(" | ".join([name, *map(_percent, shares), f"{s.mean_tokens:.0f}"]))
    return "\n".join(f"| {row} |" for row in rows)


def _percent(value: Share) -> str:
    if not value.of:
        return "–"
    return f"{100 * value.value:.1f} % ({100 * value.low:.1f}–{100 * value.high:.1f})"


def paired_sentence(name: str, against: str, paired: Paired) -> str:
    """One sentence on two arms over the same cases."""
    points = 100 * paired.difference
    chance = "p < 0.001" if paired.p < 0.001 else f"p = {paired.p:.3f}"
    return (
        f"{name} against {against}, {paired.cases} cases: {points:+.1f} points, right where the other is wrong "
        f"{paired.only_second} times, the reverse {paired.only_first} times (McNemar, exact, {chance})."
    )


def scoreboard(arms: Mapping[str, Sequence[Result]], reference: str = "") -> dict[str, Any]:
    """Everything the page and the documents show of a set of evaluations over the same cases.

    Args:
        arms: name -> results.
        reference: arm every other one is compared with, pairwise; "" for none.
    """
    summaries = {name: summarise(results) for name, results in arms.items()}
    record: dict[str, Any] = {
        "arms": {name: summary.record() for name, summary in summaries.items()},
        "confusions": {
            name: [[*pair, n] for pair, n in confusions(results).most_common(12)] for name, results in arms.items()
        },
        "disclaimer": DISCLAIMER,
    }
    if reference in arms:
        record["paired"] = {
            name: vars(compare_paired(results, arms[reference])) for name, results in arms.items() if name != reference
        }
        record["reference"] = reference
    return record


def write_report(arms: Mapping[str, Sequence[Result]], folder: Path, title: str, reference: str = "") -> None:
    """Write `scoreboard.json`, `report.md` and `accuracy.png` into `folder`."""
    summaries = {name: summarise(results) for name, results in arms.items()}
    lines = [f"# {title}", "", table(summaries), ""]
    for name, results in arms.items():
        if reference in arms and name != reference:
            lines.append("- " + paired_sentence(reference, name, compare_paired(results, arms[reference])))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "scoreboard.json").write_text(json.dumps(scoreboard(arms, reference), indent=1) + "\n", encoding="utf-8")
    (folder / "report.md").write_text("\n".join([*lines, "", DISCLAIMER, ""]), encoding="utf-8")
    picture(summaries, folder / "accuracy.png", title)


def picture(summaries: Mapping[str, Summary], path: Path, title: str) -> None:
    """A bar chart of strict accuracy with intervals, one bar an arm, in the order given."""
    from matplotlib.figure import Figure

    names = list(summaries)
    values = [100 * s.strict.value for s in summaries.values()]
    below = [100 * (s.strict.value - s.strict.low) for s in summaries.values()]
    above = [100 * (s.strict.high - s.strict.value) for s in summaries.values()]
    figure = Figure(figsize=(8, 0.6 * len(names) + 1.4), layout="constrained")
    axes = figure.add_subplot()
    colours = ["#0f766e" if "GRPO" in name and "(" not in name else "#9ca3af" for name in names]
    axes.barh(names, values, xerr=[below, above], color=colours, ecolor="#374151", capsize=3)
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("strict accuracy, % (bars: 95 % Wilson interval)")
    axes.set_title(title, loc="left", fontsize=11)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for y, (value, rise) in enumerate(zip(values, above, strict=True)):
        axes.text(min(value + rise + 1, 94), y, f"{value:.1f}", va="center", fontsize=9)
    figure.savefig(path, dpi=150)
