"""How often is the page right when it says that an explanation belongs to another finding?

Run `python -m benchmarks.misplaced` (some seconds). Takes the answers that the shipped adapters gave to the test and the hard
cases of the casebook. Of those quotes that hold a finding of the case it is known what the finding means
(`Case.meanings`), so whether what is said of it fits is known, too; the page's rule (`medgrpo.evaluation.misplaced`) doesn't
see that. It knows the words that training uses; those of the hard cases it has never seen. The casebook's own
demonstrations are counted, too: all that is said in them is in its place. `--arm grpo-shipped-before` takes the answers of the
adapters before, on which the rule was chosen, and writes nothing. Results go to `benchmarks/results/misplaced.json` and, as
a table, to standard output.
"""

import argparse
import gzip
import json
from collections import Counter
from pathlib import Path

from medgrpo.cases import Case
from medgrpo.data.casebook import vignettes
from medgrpo.data.demonstrations import demonstrate
from medgrpo.evaluation.misplaced import misplaced
from medgrpo.parsing import parse
from medgrpo.rewards.citations import plain, supports
from medgrpo.rewards.meanings import FITS, SAYS_SOMETHING, dice, said_of_quotes, stems

ROOT = Path(__file__).parent
ASSETS = ROOT.parent / "medgrpo" / "assets"


def counted(reasoning: str, case: Case) -> Counter[tuple[bool | None, bool]]:
    """(does the explanation fit its finding; None if the quote holds none of the case's, is it marked) -> how many."""
    counts = Counter[tuple[bool | None, bool]]()
    marked = set(misplaced(reasoning))
    for quote, start, end in said_of_quotes(reasoning):
        said = stems(reasoning[start:end])
        if len(said) < SAYS_SOMETHING:
            continue
        about = [
            dice(said, stems(meaning))
            for finding, meaning in zip(case.findings, case.meanings, strict=True)
            if supports(plain(quote), plain(finding))
        ]
        counts[max(about) >= FITS if about else None, (start, end) in marked] += 1
    return counts


def row(model: str, split: str, arm: str) -> dict[str, object]:
    cases = {each.case.id: each.case for each in vignettes(split)}
    counts = Counter[tuple[bool | None, bool]]()
    answers = Counter[tuple[bool, bool]]()  # (is it right, has it a mark) -> how many
    with gzip.open(ASSETS / model / "evaluation" / f"casebook-{split}" / arm / "results.jsonl.gz", "rt") as lines:
        for line in map(json.loads, lines):
            here = counted(parse(line["text"]).reasoning, cases[line["case_id"]])
            counts += here
            answers[bool(line["correct"]), any(marked for _, marked in here)] += 1
    wrong, right = counts[False, True], counts[True, True]
    return {
        "model": model,
        "cases": split,
        "explanations": counts.total(),
        "of findings of the case": sum(n for (fits, _), n in counts.items() if fits is not None),
        "marked": sum(n for (_, marked), n in counts.items() if marked),
        "rightly": wrong,
        "wrongly": right,
        "precision": round(wrong / (wrong + right), 3),
        "recall": round(wrong / (wrong + counts[False, False]), 3),
        "answers with a mark": answers[False, True] + answers[True, True],
        "of them wrong": round(answers[False, True] / (answers[False, True] + answers[True, True]), 3),
        "of the others wrong": round(answers[False, False] / (answers[False, False] + answers[True, False]), 3),
    }


def demonstrations(split: str) -> dict[str, object]:
    """How many of the casebook's own answers have a mark."""
    marked = [bool(misplaced(parse(demonstrate(each)).reasoning)) for each in vignettes(split)]
    return {"cases": split, "demonstrations": len(marked), "with a mark": sum(marked)}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.misplaced", description=__doc__)
    parser.add_argument("--arm", default="grpo", help="folder of the answers (default: grpo)")
    arm = parser.parse_args().arm
    rows = [row(model, split, arm) for model in ("smollm2-135m", "qwen2.5-coder-0.5b") for split in ("test", "hard")]
    own = [demonstrations(split) for split in ("validation", "test", "hard")]
    for table in (rows, own):
        print("| " + " | ".join(table[0]) + " |\n|" + "---|" * len(table[0]))
        print("\n".join("| " + " | ".join(map(str, each.values())) + " |" for each in table), end="\n\n")
    if arm == "grpo":
        (ROOT / "results" / "misplaced.json").write_text(json.dumps({"answers": rows, "own": own}, indent=1) + "\n")


if __name__ == "__main__":
    main()
