"""Read your own cases, see what was rejected and why, and take a split: python examples/own_cases.py"""

from pathlib import Path

from medgrpo.data import load_cases
from medgrpo.data.files import read_file

path = Path(__file__).with_name("own_cases.csv")

report = read_file(path)  # other column names: read_file(path, {"question": "stem", "answer": "key"})
print(f"{len(report.cases)} cases, {len(report.rejected)} rows rejected")
for row in report.rejected:
    print(f"  line {row.line}: {row.reason}")

for case in load_cases(str(path), "test"):
    print(f"{case.id}: {case.question[:50]}... -> {case.answer} {case.unit}")

for case in load_cases("casebook+calculations", "hard", limit=2, seed=1):
    print(f"\n{case.id}\n{case.question}\n-> {case.answer}")
