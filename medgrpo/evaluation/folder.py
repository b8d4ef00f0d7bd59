"""An evaluation on disk, and how it is read: the truth that reports and the page show.

    <evaluation>/cases.jsonl[.gz]            the cases as they were asked
    <evaluation>/<arm>/settings.json         who was asked, and how
    <evaluation>/<arm>/results.jsonl[.gz]    one line an answer, appended while it runs
    <evaluation>/scoreboard.json, report.md, accuracy.png   written from the lines above

A shipped evaluation is packed: its lines are gzipped without a time stamp, so the same results are the same bytes. Readers
take both, and forgive a torn last line.
"""

import gzip
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from medgrpo.cases import Case
from medgrpo.errors import RunError
from medgrpo.evaluation.measures import Result, judge

Kind = Literal["control", "base", "sft", "grpo"]
KINDS: tuple[Kind, ...] = ("control", "base", "sft", "grpo")
TITLES = {"base": "base", "base-free": "base, no instructions", "base-few-shot": "base, 3 examples", "grpo": "GRPO"}
"""Titles of arm folders that don't name their own."""


@dataclass(frozen=True)
class Arm:
    """One way of answering the cases.

    Attributes:
        name: of its folder.
        title: as people read it.
        kind: "control" (no model, or one that was rewarded for something else), "base", "sft" or "grpo".
        settings: who was asked and how; see `settings.json`.
        results: one an answer.
    """

    name: str
    title: str
    kind: Kind
    settings: Mapping[str, Any]
    results: Sequence[Result]


@dataclass(frozen=True)
class Evaluation:
    """The arms over one set of cases, controls first, then base, SFT, GRPO.

    Attributes:
        folder: where it was read from.
        cases: id -> case, as it was asked.
        arms: with at least one result each.
        reference: title of the arm that the others are compared with, "" if none was named.
    """

    folder: Path
    cases: Mapping[str, Case]
    arms: tuple[Arm, ...]
    reference: str = ""

    def arm(self, title: str) -> Arm | None:
        """The arm with this title."""
        return next((arm for arm in self.arms if arm.title == title), None)


def read_lines(folder: Path, name: str) -> list[dict[str, Any]]:
    """The JSON objects of `<name>.jsonl.gz` and then of `<name>.jsonl`; a torn line is left out."""
    packed, plain = folder / f"{name}.jsonl.gz", folder / f"{name}.jsonl"
    text = gzip.decompress(packed.read_bytes()).decode("utf-8") if packed.is_file() else ""
    text += plain.read_text(encoding="utf-8") if plain.is_file() else ""
    records = []
    for line in text.split("\n"):
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            records.append(record)
    return records


def write_lines(folder: Path, name: str, records: Iterable[Mapping[str, Any]], packed: bool = False) -> None:
    """Replace `<name>.jsonl`, or with `packed` `<name>.jsonl.gz`, and delete the other one."""
    text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    path, other = folder / f"{name}.jsonl", folder / f"{name}.jsonl.gz"
    data = text.encode("utf-8")
    if packed:
        path, other = other, path
        buffer = io.BytesIO()
        with gzip.GzipFile(filename="", mode="wb", fileobj=buffer, mtime=0) as file:
            file.write(data)
        data = buffer.getvalue()
    folder.mkdir(parents=True, exist_ok=True)
    written = path.with_name(path.name + ".new")
    written.write_bytes(data)
    written.replace(path)
    other.unlink(missing_ok=True)


def read_cases(folder: Path) -> dict[str, Case]:
    """The cases of an evaluation by id; none if the folder has no file of them."""
    lists = ("aliases", "findings", "meanings")
    records = (record | {name: tuple(record.get(name, ())) for name in lists} for record in read_lines(folder, "cases"))
    return {record["id"]: Case(**record) for record in records}


def keep_cases(folder: Path, cases: Sequence[Case], packed: bool = False) -> None:
    """Add cases to those of the folder, and to kept ones what their findings mean and which step comes next if it wasn't known.

    Raises:
        RunError: the folder has a case of the same id that asks or expects something else.
    """
    kept = read_cases(folder)
    changed = [case.id for case in cases if case.id in kept and _asked(kept[case.id]) != _asked(case)]
    if changed:
        raise RunError(
            f"{folder} holds answers to an older version of these cases ({changed[0]} and {len(changed) - 1} more differ): "
            "choose another folder, or delete this one."
        )
    new = kept | {case.id: case for case in cases}
    known = [(case, kept[case.id]) for case in cases if case.id in kept]
    learned = any((case.meanings and not old.meanings) or (case.approach and not old.approach) for case, old in known)
    if len(new) > len(kept) or learned or packed:
        write_lines(folder, "cases", (asdict(case) for case in new.values()), packed)


def _asked(case: Case) -> tuple[object, ...]:
    return case.question, case.answer, dict(case.options), case.unit, case.tolerance


def read_results(folder: Path) -> list[Result]:
    """The results of an arm's folder as they were judged; of several to one case and seed the last."""
    found: dict[tuple[str, int], Result] = {}
    for record in read_lines(folder, "results"):
        try:
            result = Result.of(record)
        except TypeError:
            continue
        found[result.case_id, result.seed] = result
    return list(found.values())


def rejudge(folder: Path, cases: Iterable[Case]) -> list[Result]:
    """The kept answers to `cases`, judged anew: texts are kept for good, verdicts follow the matcher of today.

    One result a case and seed; if an answer stands there twice, the later one counts.
    """
    by_id = {case.id: case for case in cases}
    fields = ("seed", "tokens", "seconds", "truncated")
    records = {(record["case_id"], record["seed"]): record for record in read_lines(folder, "results")}
    return [
        judge(by_id[case_id], record["text"], **{name: record[name] for name in fields})
        for (case_id, _), record in records.items()
        if case_id in by_id
    ]


def read_settings(folder: Path) -> dict[str, Any]:
    """`settings.json` of an arm, empty if there is none that can be read."""
    try:
        settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return settings if isinstance(settings, dict) else {}


def kind_of(title: str, settings: Mapping[str, Any]) -> Kind:
    """How an arm is counted: by its variant, and for adapters by its title.

    "SFT" in a title is the warm start; a title with brackets, such as "GRPO (random rewards)", is a control.
    """
    variant = settings.get("variant", "")
    if variant in ("control", "base"):
        return variant  # type: ignore[no-any-return]
    if "(" in title:
        return "control"
    return "sft" if "SFT" in title.upper() and "GRPO" not in title.upper() else "grpo"


def read_arm(folder: Path, title: str = "", cases: Iterable[Case] | None = None) -> Arm:
    """One arm from its folder, under another `title` if one is given, judged anew if `cases` are given."""
    settings = read_settings(folder)
    title = title or settings.get("title") or TITLES.get(folder.name, folder.name)
    results = read_results(folder) if cases is None else rejudge(folder, cases)
    return Arm(folder.name, title, kind_of(title, settings), settings, results)


def arm_folders(folder: Path) -> list[Path]:
    """The folders of an evaluation that hold answers, by name."""
    found = {path.parent for path in folder.glob("*/results.jsonl*") if path.name.endswith((".jsonl", ".jsonl.gz"))}
    return sorted(found)


def ordered(arms: Iterable[Arm]) -> tuple[Arm, ...]:
    """Controls first, then base, SFT, GRPO; within a kind as given."""
    return tuple(sorted(arms, key=lambda arm: KINDS.index(arm.kind)))


def compared(arms: Iterable[Arm], reference: Arm) -> list[Arm]:
    """The arms that the reference is held against, the most telling first: its warm start, base, other runs, controls."""
    telling: tuple[Kind, ...] = ("sft", "base", "grpo", "control")
    return sorted((arm for arm in arms if arm.title != reference.title), key=lambda arm: telling.index(arm.kind))


def read_evaluation(folder: Path) -> Evaluation:
    """A whole evaluation, as it was judged when it was written.

    Raises:
        RunError: the folder holds no answers.
    """
    arms = [arm for path in arm_folders(folder) if (arm := read_arm(path)).results]
    if not arms:
        raise RunError(f"There is no evaluation in {folder}: run one with `python -m medgrpo evaluate --out {folder}`.")
    try:
        scoreboard = json.loads((folder / "scoreboard.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        scoreboard = {}
    order = {title: place for place, title in enumerate(scoreboard.get("arms", {}))}
    arms.sort(key=lambda arm: (order.get(arm.title, len(order)), arm.title))
    return Evaluation(folder, read_cases(folder), ordered(arms), scoreboard.get("reference", ""))


def slug(title: str) -> str:
    """A folder name for a title or a name that a person typed: lower-case letters, digits and hyphens; "" if nothing is left."""
    words = "".join(char if char.isascii() and char.isalnum() else " " for char in title.lower()).split()
    return "-".join(words)[:60].strip("-")


def find_evaluations(root: Path) -> list[Path]:
    """Folders directly under `root` that hold an evaluation, by name."""
    return [path for path in sorted(root.glob("*")) if path.is_dir() and arm_folders(path)]
