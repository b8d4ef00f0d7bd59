"""Accuracy of the word-counting baselines on the casebook: python benchmarks/baselines.py

Prints a table with 95 % Wilson intervals for validation, test and hard and writes benchmarks/results/baselines.json.
The casebook is too easy if TF-IDF exceeds 90 % on hard.
"""

import json
import math
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from medgrpo.data import load_cases
from medgrpo.evaluation.baselines import keyword_rule, majority, tfidf

RESULT = Path(__file__).parent / "results" / "baselines.json"
SPLITS = ("validation", "test", "hard")


def wilson(right: int, total: int) -> tuple[float, float]:
    """95 % interval of a share. Wilson, J Am Stat Assoc 1927;22:209-12."""
    z, share = 1.96, right / total
    centre = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total)) / (1 + z * z / total)
    return centre - half, centre + half


def main() -> None:
    started = time.perf_counter()
    train = load_cases("casebook", "train")
    held_out = {split: load_cases("casebook", split) for split in SPLITS}
    seconds = time.perf_counter() - started
    print(f"{len(train)} training cases; all splits generated in {seconds:.1f} s\n")
    print(f"{'baseline':14}" + "".join(f"{split:>26}" for split in SPLITS))
    results: dict[str, dict[str, dict[str, float]]] = {}
    for name, predict in (("majority", majority), ("keyword_rule", keyword_rule), ("tfidf", tfidf)):
        cases = [case for split in SPLITS for case in held_out[split]]
        labels = iter(predict(train, cases))
        row = f"{name:14}"
        for split in SPLITS:
            right, total = sum(next(labels) == case.answer for case in held_out[split]), len(held_out[split])
            low, high = wilson(right, total)
            results.setdefault(name, {})[split] = {"accuracy": right / total, "low": low, "high": high, "cases": total}
            row += f"{right / total:>12.1%} ({low:.1%}–{high:.1%})".rjust(26)
        print(row)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps({"train": len(train), "baselines": results}, indent=1) + "\n", encoding="utf-8")
    print(f"\nwritten to {RESULT}")
    if results["tfidf"]["hard"]["accuracy"] > 0.9:
        raise SystemExit("TF-IDF exceeds 90 % on hard: the casebook is too easy. Add hard phrasings.")


if __name__ == "__main__":
    main()
