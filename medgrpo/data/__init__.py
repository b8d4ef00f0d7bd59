"""Cases and demonstrations from every source, behind two functions.

Sources: "casebook", "practice", "fragments", "calculations", "out_of_scope", the name of a Hub adapter (`hub.ADAPTERS`),
or a path ending in .csv, .jsonl or .parquet; several joined by "+". Generated sources keep their splits apart by
construction; training cases of the others are de-duplicated and lose everything that shares 64 characters with a
held-out case.
Importing this package loads none of datasets, torch or pandas.
"""

import logging
import random
from collections import defaultdict
from pathlib import Path

from medgrpo.cases import Case
from medgrpo.data.files import SPLITS, SUFFIXES, read_file
from medgrpo.data.hub import ADAPTERS, find_adapter, load_hub
from medgrpo.data.leakage import deduplicate, drop_overlapping
from medgrpo.errors import DataError

log = logging.getLogger(__name__)
GENERATED = ("casebook", "calculations", "out_of_scope")
PRACTICE = "practice"
"""Further casebook vignettes in words that no demonstration used: what GRPO learns from. It has a train split only."""
FRAGMENTS = "fragments"
"""The casebook's training vignettes with words left out. It has a train split only, as well."""
TRAIN_ONLY = (PRACTICE, FRAGMENTS)

Pair = tuple[Case, str]  # a case and its demonstration; "" where the source has none


def load_cases(source: str, split: str, limit: int | None = None, seed: int = 0) -> list[Case]:
    """Cases of a split ("train", "validation", "test" or "hard").

    Without `limit` all of them. With it a selection balanced over the answers (calculations: over the formulas) and,
    for joined sources, over the sources; `seed` decides which and in what order. Raises DataError for a source or split
    that is unknown, empty or cannot be fetched.
    """
    return [case for case, _ in _load(source, split, limit, seed)]


def load_demonstrations(source: str, split: str, limit: int | None = None, seed: int = 0) -> list[tuple[Case, str]]:
    """Cases as from `load_cases`, each with a completion in the exact form to learn from.

    Raises DataError where a source has none (multiple choice sets, own files).
    """
    pairs = _load(source, split, limit, seed)
    if lacking := sorted({case.source for case, completion in pairs if not completion}):
        ours = ", ".join(GENERATED)
        raise DataError(f"{', '.join(lacking)} has no demonstrations. Use {ours} or medical-o1-reasoning-SFT instead.")
    return pairs


def _load(source: str, split: str, limit: int | None, seed: int) -> list[Pair]:
    names = [name.strip() for name in source.split("+")]
    if split not in SPLITS:
        raise DataError(f"there is no split {split!r}. Use one of: {', '.join(SPLITS)}.")
    if limit is not None and limit < 1:
        raise DataError(f"limit is {limit}. Use a number of 1 or more, or leave it out for everything.")
    groups = {name: _source(name, split) for name in names}
    if split == "train":
        groups = _without_leaks(groups)
    for name, pairs in groups.items():
        if not pairs:
            raise DataError(f"{name} has no case in split {split!r}. Choose another split, or give rows that split.")
    rng = random.Random(f"{source}/{split}/{seed}")
    if limit is not None:
        shares = _shares([len(pairs) for pairs in groups.values()], limit)
        groups = {name: _balanced(groups[name], share, rng) for name, share in zip(groups, shares, strict=True)}
    joined = [pair for pairs in groups.values() for pair in pairs]
    if len(groups) > 1:
        rng.shuffle(joined)
    return joined


def _source(name: str, split: str) -> list[Pair]:
    """All pairs of one source; an empty list if only this split is empty."""
    if name in ("casebook", *TRAIN_ONLY):
        return _told(name, split)
    if name == "calculations":
        from medgrpo.data.calculations import calculations

        return list(calculations(split))
    if name == "out_of_scope":
        from medgrpo.data.scope import out_of_scope

        return list(out_of_scope(split))
    if name.lower().endswith(SUFFIXES):
        return [(case, "") for case in _file_cases(Path(name)) if case.split == split]
    if find_adapter(name):
        from medgrpo.data.demonstrations import in_form

        return [(case, in_form(*told) if told else "") for case, told in load_hub(name, split)]
    known = ", ".join((*GENERATED, *TRAIN_ONLY, *ADAPTERS))
    raise DataError(f"unknown source {name!r}. Use {known}, or a path ending in {', '.join(SUFFIXES)}.")


def _told(name: str, split: str) -> list[Pair]:
    from medgrpo.data.casebook import vignettes
    from medgrpo.data.demonstrations import demonstrate
    from medgrpo.data.fragments import fragments

    if name in TRAIN_ONLY and split != "train":
        return []
    drawn = fragments() if name == FRAGMENTS else vignettes(PRACTICE if name == PRACTICE else split)
    return [(vignette.case, demonstrate(vignette)) for vignette in drawn]


def _file_cases(path: Path) -> tuple[Case, ...]:
    report = read_file(path)
    listed = "; ".join(f"line {row.line}: {row.reason}" for row in report.rejected[:20])
    if not report.cases:
        raise DataError(f"no row of {path} can be used: {listed}.")
    if report.rejected:
        log.warning("%s: %d rows rejected, %d used. %s", path, len(report.rejected), len(report.cases), listed)
    return report.cases


def _without_leaks(groups: dict[str, list[Pair]]) -> dict[str, list[Pair]]:
    """Training pairs; those not generated lose repeats and whatever overlaps with a held-out case of such a source."""
    outside = [name for name in groups if name not in (*GENERATED, *TRAIN_ONLY)]
    held_out: list[Case] = []
    for name in outside:
        adapter = find_adapter(name)
        for split in ("validation", "test", "hard"):
            if adapter is None or split in adapter[1].splits:
                held_out += [case for case, _ in _source(name, split)]
    clean = dict(groups)
    for name in outside:
        kept, dropped = drop_overlapping(deduplicate(case for case, _ in groups[name]), held_out)
        if lost := len(groups[name]) - len(kept):
            log.warning("%s: %d training cases left out, %d overlap with held-out cases", name, lost, len(dropped))
        ids = {case.id for case in kept}
        clean[name] = [pair for pair in groups[name] if pair[0].id in ids]
    return clean


def _shares(sizes: list[int], limit: int) -> list[int]:
    """`limit` divided evenly; what a small source cannot give, the others do."""
    shares = [0] * len(sizes)
    for _ in range(min(limit, sum(sizes))):
        open_ = [i for i, size in enumerate(sizes) if shares[i] < size]
        shares[min(open_, key=lambda i: shares[i])] += 1
    return shares


def _balanced(pairs: list[Pair], count: int, rng: random.Random) -> list[Pair]:
    """`count` pairs, strata taking turns, in random order."""
    strata: dict[str, list[Pair]] = defaultdict(list)
    for pair in pairs:
        strata[_stratum(pair[0])].append(pair)
    queues = [rng.sample(stratum, len(stratum)) for _, stratum in sorted(strata.items())]
    rng.shuffle(queues)
    chosen: list[Pair] = []
    while len(chosen) < count:
        for queue in queues:
            if queue and len(chosen) < count:
                chosen.append(queue.pop())
    rng.shuffle(chosen)
    return chosen


def _stratum(case: Case) -> str:
    if case.kind in ("diagnosis", "choice"):
        return case.answer
    return case.id.rpartition("/")[0] if case.kind == "numeric" else ""
