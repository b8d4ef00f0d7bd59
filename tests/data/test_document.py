"""The figures of docs/casebook.md are those of the knowledge base, the generator and benchmarks/results."""

import json
import re
from pathlib import Path

from medgrpo.data import casebook
from medgrpo.data.calculations import SIZES, calculations
from medgrpo.data.fragments import TIMES, fragments
from medgrpo.data.knowledge import load_conditions
from medgrpo.data.registers import registers_of

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "casebook.md").read_text(encoding="utf-8")
SAID = " ".join(TEXT.split())


def rows(heading: str) -> list[list[str]]:
    """The cells of the first table under a heading."""
    table = re.search(r"(?:^\|.*\n)+", TEXT[TEXT.index(heading) :], re.MULTILINE)
    assert table
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[0].splitlines()[2:]]


def test_the_baselines_are_those_of_the_last_benchmark() -> None:
    results = json.loads((ROOT / "benchmarks" / "results" / "baselines.json").read_text(encoding="utf-8"))
    assert f"the {results['train']:,} training vignettes" in SAID
    written = []
    for name, label in (("majority", "majority"), ("keyword_rule", "keyword rule"), ("tfidf", "TF-IDF")):
        splits = (results["baselines"][name][split] for split in ("validation", "test", "hard"))
        shown = (f"{one['accuracy']:.1%} ({one['low']:.1%}–{one['high']:.1%})".replace("%", " %") for one in splits)
        written.append([label, *shown])
    assert rows("## What counting words achieves") == written
    assert results["baselines"]["tfidf"]["hard"]["accuracy"] < 0.9
    assert results["baselines"]["tfidf"]["test"]["accuracy"] == 1.0
    assert results["baselines"]["tfidf"]["validation"]["accuracy"] > 0.98


def test_the_splits_are_those_of_the_generator() -> None:
    conditions = load_conditions()
    told = [(row[0], row[1], row[2]) for row in rows("## Splits")]
    assert told == [
        (split, f"{size * len(conditions):,}", ", ".join(register.name for register in registers_of(split)))
        for split, size in casebook.SIZES.items()
    ]


def test_the_fragments_are_as_many_as_it_says() -> None:
    assert f"{len(fragments()):,} of {TIMES * len(casebook.vignettes('train')):,} vignettes with words left out" in SAID


def test_the_counts_are_those_of_the_knowledge_base() -> None:
    conditions = load_conditions()
    findings, negatives, risks = (
        sum(len(getattr(condition, part)) for condition in conditions)
        for part in ("findings", "negatives", "risk_factors")
    )
    assert f"for {len(conditions)} conditions" in SAID
    assert f"In all, {findings} findings, {negatives} pertinent negatives and {risks} risk factors" in SAID
    sizes = {split: len(calculations(split)) for split in SIZES}
    formulas = sizes["train"] // SIZES["train"]
    assert set(sizes.values()) == {sizes["train"], sizes["test"]}
    assert f"({formulas} formulas; {sizes['train']} for training, {sizes['test']} in each other split" in SAID
    assert f"seed `{casebook.SEED}`" in SAID
