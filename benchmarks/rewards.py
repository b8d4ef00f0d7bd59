"""Completions of 2 kB a second through every reward of the default profile, on one core.

Run `python benchmarks/rewards.py`. Rewards are called as the trainer calls them: batches of lists, one call per
reward. Every completion is scored once only, so no cache of an earlier answer helps. Prints a table and writes
`benchmarks/results/rewards.json`.
"""

import json
import platform
import sys
from pathlib import Path
from time import process_time
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from medgrpo.cases import Case
from medgrpo.parsing import compose
from medgrpo.rewards import PROFILES, REWARDS, case_columns

COMPLETIONS, SIZE, GROUP, BATCH, ROUNDS = 8_000, 2_000, 8, 64, 3
GOAL = 10_000
RESULT = Path(__file__).parent / "results" / "rewards.json"

FINDINGS = ("sharp chest pain that eases on leaning forward", "a friction rub", "a cold two weeks ago")
MEANINGS = (
    "pain that depends on posture suggests an inflamed pericardium",
    "roughened layers scrape against each other with every beat",
    "viral infections often precede the illness",
)
APPROACH = "12-lead ECG, troponin and echocardiography"
ANSWERS = (
    f"Acute pericarditis. Next: {APPROACH} {{}}.",
    "The most likely diagnosis is acute pericarditis, given the positional pain and the rub {}.",
    "Pulmonary embolism. Next: CT pulmonary angiography {}.",
    "Acute pericarditis or myocardial infarction {}.",
    "This is not pericarditis {}.",
)
"""Each with a number of its own, since the matcher remembers the answers it judged last."""


def cases() -> list[Case]:
    question = (
        "A {age}-year-old woman has {0}. On examination there is {1}. She had {2}. Blood pressure is 128/76 mmHg."
    )
    return [
        Case(
            f"b{age}",
            question.format(*FINDINGS, age=age),
            "Acute pericarditis",
            "diagnosis",
            ("pericarditis",),
            findings=FINDINGS,
            meanings=MEANINGS,
            approach=APPROACH,
        )
        for age in range(20, 84)
    ]


def completion(number: int) -> str:
    """A well-formed completion of about `SIZE` characters; every one is different."""
    told = list(zip(FINDINGS, MEANINGS, strict=True))[: 1 + number % 3]
    quotes = " ".join(f'"{finding}" stands out: {meaning}.' for finding, meaning in told)
    filler = f"Step {number}: weighing the findings against the alternatives. "
    reasoning = (quotes + " " + filler * (SIZE // len(filler)))[: SIZE - 160]
    return compose(reasoning, ANSWERS[number % len(ANSWERS)].format(number))


def batches() -> list[tuple[list[Any], dict[str, list[Any]]]]:
    texts = [completion(i) for i in range(COMPLETIONS)]
    rows = [case_columns(case) for case in cases()]
    out = []
    for start in range(0, COMPLETIONS, BATCH):
        chosen = [rows[(start + i) // GROUP % len(rows)] for i in range(BATCH)]
        columns = {name: [row[name] for row in chosen] for name in chosen[0]}
        out.append(([[{"role": "assistant", "content": text}] for text in texts[start : start + BATCH]], columns))
    return out


def measure() -> dict[str, float]:
    """Seconds per reward for all completions, the best of some rounds, and of all rewards together."""
    best: dict[str, float] = {}
    for _ in range(ROUNDS):
        work = batches()
        seconds = dict.fromkeys(PROFILES["medgrpo"], 0.0)
        for completions, columns in work:
            for name in seconds:
                start = process_time()
                REWARDS[name](completions, **columns)
                seconds[name] += process_time() - start
        seconds["all"] = sum(seconds.values())
        if not best or seconds["all"] < best["all"]:
            best = seconds
    return best


def main() -> None:
    seconds = measure()
    size = sum(len(completion(i)) for i in range(100)) / 100
    print(f"{COMPLETIONS:,} completions of {size:,.0f} characters, one core, Python {platform.python_version()}\n")
    print(f"{'reward':12} {'µs each':>8} {'per second':>12}")
    for name, spent in seconds.items():
        print(f"{name:12} {1e6 * spent / COMPLETIONS:8.1f} {COMPLETIONS / spent:12,.0f}")
    rate = COMPLETIONS / seconds["all"]
    print(
        f"\ngoal {GOAL:,} a second: {'reached' if rate >= GOAL else 'missed'}. The first reward parses for all others."
    )
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    record = {
        "completions": COMPLETIONS,
        "characters": round(size),
        "per_second": round(rate),
        "goal": GOAL,
        "microseconds": {name: round(1e6 * spent / COMPLETIONS, 2) for name, spent in seconds.items()},
        "python": platform.python_version(),
        "machine": platform.machine(),
    }
    RESULT.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
