"""Score a completion as the trainer would, and print why."""

from medgrpo.data import load_cases
from medgrpo.parsing import compose
from medgrpo.rewards import explain, total

case = load_cases("casebook", "validation", limit=1)[0]
completion = compose(f'"{case.findings[0]}" decides the case.', case.answer)
scores = explain(completion, case)
for score in scores:
    print(f"{score.name:12} {score.value}  {score.why}")
print("total", total(scores))
