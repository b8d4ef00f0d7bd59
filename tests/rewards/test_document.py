"""The figures of docs/rewards.md are those of the code."""

import re
from pathlib import Path

from medgrpo.data import load_demonstrations
from medgrpo.rewards import FITS, PROFILES
from medgrpo.rewards.audit import audit
from medgrpo.rewards.citations import LARGEST_SHARE
from medgrpo.rewards.next_step import CHANGED
from medgrpo.rewards.scores import HARD_LENGTH, SOFT_LENGTH

TEXT = (Path(__file__).parents[2] / "docs" / "rewards.md").read_text(encoding="utf-8")


def rows(after: str) -> list[list[str]]:
    """The cells of the first table after a heading or a sentence, without emphasis and quotation marks."""
    table = re.search(r"(?:^\|.*\n)+", TEXT[TEXT.index(after) :], re.MULTILINE)
    assert table
    lines = table[0].splitlines()[2:]
    return [[cell.strip(' *`"').replace("−", "-") for cell in line.strip("|").split("|")] for line in lines]


def test_the_weights_are_those_of_the_profile() -> None:
    assert {row[0]: float(row[1]) for row in rows("## The rewards of profile")} == PROFILES["medgrpo"]


def test_the_totals_in_the_text_follow_from_the_weights() -> None:
    weights = PROFILES["medgrpo"]
    form, right = weights["format"] + weights["tags"], weights["correctness"]
    cited = weights["reasoning"] + weights["meaning"]
    gold = form + right + cited + weights["next_step"]
    untidy = right + weights["tags"] + weights["next_step"]
    said = " ".join(TEXT.split())
    assert f"earns at most {untidy:g} ({untidy + weights['numeric']:g} with a number)" in said
    assert f"where gold earns {gold:g} ({gold + weights['numeric']:g})" in said
    assert f"A wrong answer in form earns at most {form + cited:g}" in said
    assert f"less than a right one in form ({form + right - weights['length']:g} or more)" in said
    assert form + cited < form + right - weights["length"]
    assert f"The form alone is worth {form:g}**, {form / gold:.0%}".replace("%", " %") in said
    assert f"({form / (form + right):.0%} in a case without findings)".replace("%", " %") in said
    assert f"more than {LARGEST_SHARE:.0%} of the case".replace("%", " %") in said
    assert f"it fits from {FITS:g}" in said
    assert f"in other words earns at most {CHANGED:g}" in said
    assert f"0 up to {SOFT_LENGTH:,} characters, falling to −1 at {HARD_LENGTH:,}" in said


def test_the_audit_s_table_is_what_the_audit_says() -> None:
    demonstrations = load_demonstrations("casebook", "validation", 64)
    cases = [case for case, _ in demonstrations]
    ours, seeds = (audit(cases, profile, demonstrations) for profile in ("medgrpo", "legacy"))
    measured = [
        [one.name, *(f"{value:.3f}" for value in (one.mean, one.maximum, other.mean, other.maximum))]
        for one, other in zip(ours.rows, seeds.rows, strict=True)
    ]
    assert rows("Measured on 64 validation vignettes") == measured
    assert ours.passed
    failed = sum(bool(row.faults) for row in seeds.rows)
    assert (failed, len(seeds.rows)) == (14, 17)  # "fails on fourteen of its seventeen"
