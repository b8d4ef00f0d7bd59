"""A person's own cases from CSV, JSON Lines or Parquet.

Every row either becomes a case or is listed with its line number and the reason; nothing is dropped in silence.
"""

import csv
import hashlib
import importlib
import io
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast, get_args

from medgrpo.cases import Case, Kind
from medgrpo.errors import DataError
from medgrpo.matching import states_condition

SUFFIXES = (".csv", ".jsonl", ".parquet")
REQUIRED = ("question", "answer")
OPTIONAL = ("id", "kind", "aliases", "unit", "tolerance", "options", "split")
SPLITS = ("train", "validation", "test", "hard")
LONGEST = 20_000  # characters of a question; about 5,000 tokens, more than any preset's prompt holds
ENCODING_REMEDY = "Save the file as UTF-8 (in a spreadsheet: 'CSV UTF-8')."


@dataclass(frozen=True)
class Rejected:
    """A row that did not become a case; `line` counts from 1 (Parquet: the row)."""

    line: int
    reason: str


@dataclass(frozen=True)
class FileReport:
    """What a file holds. `preview` is the first five rows as read, before any judgement."""

    cases: tuple[Case, ...]
    rejected: tuple[Rejected, ...]
    preview: tuple[Mapping[str, str], ...]


@dataclass
class _Seen:
    ids: dict[str, int] = field(default_factory=dict)
    questions: dict[str, int] = field(default_factory=dict)


class _BadRow(Exception):
    """Why a row cannot be a case."""


def read_file(path: str | Path, columns: Mapping[str, str] | None = None) -> FileReport:
    """Reads cases from a `.csv`, `.jsonl` or `.parquet` file.

    `columns` maps our names (question, answer; optional id, kind, aliases separated by "|", unit, tolerance, options as
    JSON, split) to the file's. Rows without a split get one from a hash of the question (80 % train, 10 %, 10 %).
    Raises DataError if the file is missing, of another type, in UTF-16, or lacks a required column.
    """
    path, names = Path(path), {**{name: name for name in REQUIRED + OPTIONAL}, **(columns or {})}
    if unknown := set(names) - set(REQUIRED + OPTIONAL):
        known = ", ".join(REQUIRED + OPTIONAL)
        raise DataError(f"unknown column names in the mapping: {sorted(unknown)}. Known: {known}.")
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(f"{path} is not one of {', '.join(SUFFIXES)}. Convert it to one of them.")
    if not path.is_file():
        raise DataError(f"there is no file {path}. Check the path; it is relative to {Path.cwd()}.")
    reader = {".csv": _csv_rows, ".jsonl": _jsonl_rows, ".parquet": _parquet_rows}[path.suffix.lower()]
    cases: list[Case] = []
    rejected: list[Rejected] = []
    preview: list[Mapping[str, str]] = []
    seen = _Seen()
    for line, row in reader(path, names):
        if isinstance(row, str):
            rejected.append(Rejected(line, row))
            continue
        if len(preview) < 5:
            preview.append({str(key): _text(value)[:500] for key, value in row.items() if key is not None})
        try:
            cases.append(_case({name: row.get(column) for name, column in names.items()}, path.stem, line, seen))
        except _BadRow as reason:
            rejected.append(Rejected(line, str(reason)))
    if not cases and not rejected:
        rejected.append(Rejected(1, "the file has no rows"))
    return FileReport(tuple(cases), tuple(rejected), tuple(preview))


def split_by_hash(text: str) -> str:
    """80 % train, 10 % validation, 10 % test; the same on every machine."""
    place = int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:4], "big") % 100
    return "train" if place < 80 else "validation" if place < 90 else "test"


def kind_of(answer: str) -> Kind:
    """How to judge a free answer nobody labelled: a short one that names a condition is a diagnosis, all else is open."""
    return "diagnosis" if len(answer.split()) <= 8 and states_condition(answer) else "open"


def _decode(path: Path) -> str:
    raw = path.read_bytes()
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError(f"{path} is in UTF-16. {ENCODING_REMEDY}")
    return raw.decode("utf-8-sig", errors="surrogateescape")


def _check_columns(path: Path, found: list[str], names: Mapping[str, str]) -> None:
    if missing := [names[name] for name in REQUIRED if names[name] not in found]:
        raise DataError(
            f"{path} has no column {', '.join(map(repr, missing))}; it has {', '.join(map(repr, found))}. "
            "Rename the columns or pass a mapping such as {'question': 'stem', 'answer': 'key'}."
        )


Row = tuple[int, Mapping[str, Any] | str]


def _csv_rows(path: Path, names: Mapping[str, str]) -> Iterator[Row]:
    csv.field_size_limit(max(csv.field_size_limit(), 10_000_000))  # so that one huge field is one bad row, not the end
    reader = csv.reader(io.StringIO(_decode(path), newline=""), strict=True)
    header: list[str] | None = None
    while True:
        line = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield line, f"not valid CSV: {error}"
            continue
        if not fields:
            continue
        if header is None:
            header = [name.strip() for name in fields]
            _check_columns(path, header, names)
        elif len(fields) != len(header):
            yield line, f"{len(fields)} fields where the header has {len(header)}; quote fields that contain commas"
        else:
            yield line, dict(zip(header, fields, strict=True))


def _jsonl_rows(path: Path, names: Mapping[str, str]) -> Iterator[Row]:
    checked = False
    for line, text in enumerate(_decode(path).split("\n"), start=1):
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except (ValueError, RecursionError) as error:
            yield line, f"not valid JSON: {error}"
            continue
        if not isinstance(row, dict):
            yield line, f"a JSON {type(row).__name__} where an object is needed"
            continue
        if not checked:
            _check_columns(path, list(row), names)
            checked = True
        yield line, row


def _parquet_rows(path: Path, names: Mapping[str, str]) -> Iterator[Row]:
    try:
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise DataError("Parquet needs pyarrow. Install it (pip install pyarrow) or save the file as CSV.") from None
    try:
        table = parquet.read_table(path)
    except Exception as error:  # pyarrow raises its own family, OSError and ValueError
        raise DataError(f"{path} is not a readable Parquet file: {error}. Export it again or save it as CSV.") from None
    _check_columns(path, table.column_names, names)
    yield from enumerate(table.to_pylist(), start=1)


def _text(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)


def _case(row: Mapping[str, Any], stem: str, line: int, seen: _Seen) -> Case:
    question, answer = (_field(row, name) for name in REQUIRED)
    split = _text(row["split"]).strip().lower() or split_by_hash(question)
    if split not in SPLITS:
        raise _BadRow(f"split {split!r} is not one of {', '.join(SPLITS)}")
    options, tolerance = _options(row["options"]), _tolerance(row["tolerance"])
    unit, kind = _text(row["unit"]).strip(), _text(row["kind"]).strip().lower()
    kind = kind or ("choice" if options else "numeric" if unit or tolerance else kind_of(answer))
    if kind not in get_args(Kind):
        raise _BadRow(f"kind {kind!r} is not one of {', '.join(get_args(Kind))}")
    digest = hashlib.sha256(question.encode()).hexdigest()[:10]
    case = _checked(
        Case(
            id=_text(row["id"]).strip() or f"{stem}/{digest}",
            question=question,
            answer=answer,
            kind=cast(Kind, kind),
            aliases=_aliases(row["aliases"]),
            options=options,
            unit=unit,
            tolerance=tolerance,
            source=stem,
            split=split,
        )
    )
    for what, key, known in (("id", case.id, seen.ids), ("question", " ".join(question.split()), seen.questions)):
        if (first := known.setdefault(key, line)) != line:
            raise _BadRow(f"the same {what} as on line {first}")
    return case


def _field(row: Mapping[str, Any], name: str) -> str:
    text = _text(row[name]).strip()
    if not text:
        raise _BadRow(f"{name} is empty")
    if len(text) > LONGEST:
        raise _BadRow(f"{name} has {len(text):,} characters; at most {LONGEST:,}")
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise _BadRow(f"{name} is not UTF-8. {ENCODING_REMEDY}")
    if any(ord(char) < 32 and char not in "\n\t\r" for char in text):
        raise _BadRow(f"{name} contains control characters")
    return text


def _checked(case: Case) -> Case:
    """The case with a choice answer as a letter; complains where answer and kind do not go together."""
    if case.kind == "choice":
        if len(case.options) < 2:
            raise _BadRow('a choice needs at least two options, as JSON: {"A": "...", "B": "..."}')
        letters = [k for k, v in case.options.items() if case.answer.lower() in (k.lower(), v.lower())]
        if len(letters) != 1:
            raise _BadRow(f"answer {case.answer!r:.60} is not one of the options {', '.join(case.options)}")
        return replace(case, answer=letters[0])
    if case.kind == "numeric" and _number(case.answer) is None:
        raise _BadRow(f"answer {case.answer!r:.60} is not a number; put the unit into the column 'unit'")
    return case


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _tolerance(value: object) -> float:
    text = str(value).strip() if value is not None else ""
    if not text:
        return 0.0
    number = _number(text)
    if number is None or number < 0:
        raise _BadRow(f"tolerance {text!r:.40} is not a number of 0 or more")
    return number


def _aliases(value: object) -> tuple[str, ...]:
    entries = value if isinstance(value, list | tuple) else _text(value).split("|")
    return tuple(alias for entry in entries if (alias := _text(entry).strip()))


def _options(value: object) -> dict[str, str]:
    text = _text(value).strip()
    if not text:
        return {}
    try:
        options = json.loads(text)
    except (ValueError, RecursionError):
        raise _BadRow(f"options are not JSON: {text!r:.60}") from None
    if not isinstance(options, dict):
        raise _BadRow("options must be a JSON object of letters and texts")
    return {str(letter).strip(): _text(option).strip() for letter, option in options.items() if option is not None}
