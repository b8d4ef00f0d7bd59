"""The casebook's training vignettes once more, with words left out of what they say.

A model that has read every phrasing many times knows it as a whole and is lost when one word differs. Here "a deep ache
behind the breastbone that came on at rest" is told as "deep ache behind breastbone came at rest": what remains has to be
enough, as it is for someone who reads another doctor's notes. Word dropout: Iyyer et al., Deep unordered composition rivals
syntactic methods for text classification, 2015 (ACL), there on the words of the input at each step.

Nothing is left out that says how much, when or whether at all: numbers with their unit, negations and words of direction stay.
"""

import random
import re
from dataclasses import replace
from functools import cache
from itertools import compress, count

from medgrpo.cases import Case
from medgrpo.data.casebook import SEED, Vignette, vignettes
from medgrpo.data.registers import Item

NAME = "fragments"
SHARE = 0.7  # of the findings, details and risk factors; the others stay as they are
KEEP = (0.5, 0.9)  # chance that a word stays, drawn for each phrase
SMALL_WORDS = 0.35  # the same chance for words that only join others
LEAST = 2  # words that remain
JOINING = frozenset(
    """a an and are as at be been but by for from had has have he her his i in into is it its like my of on or our she so
    some than that the their then there they this to was we were when which while with you your""".split()  # noqa: SIM905
)
STAY = re.compile(
    r"\d|^(?:no|not|non|nor|neither|never|nil|none|nothing|nowhere|cannot|can|could|without|absent|absence|lack|lacks|"
    r"free|loss|lost|less|more|few|only|except|denies|denied|negative|positive|normal|abnormal|clear|intact|un\w+|"
    r"high|low|higher|lower|raised|reduced|above|below|over|under|up|down|before|after|during|until|since|"
    r"better|worse|eases|eased|relieves|relieved|\w*n['’]?t|[+<>=±↑↓/-]+)$",
    re.I,
)  # fmt: skip
LOOSE = re.compile(r"^[\s,;:.–-]+|[\s,;:–-]+$")
ROLES = ("finding", "detail", "history")


@cache
def fragments() -> tuple[Vignette, ...]:
    """Each training vignette in fragments; those of which nothing could be left out are not among them."""
    return tuple(told for each in vignettes("train") if (told := in_fragments(each)) is not None)


def in_fragments(vignette: Vignette) -> Vignette | None:
    """The vignette with some phrases shortened, the same at every call; None if none of them could be."""
    rng = random.Random(f"{SEED}/{NAME}/{vignette.case.id}")
    text, spans = vignette.case.question, list(vignette.spans)
    for place, (item, span) in enumerate(zip(vignette.items, vignette.spans, strict=True)):
        if not _free(item, span, spans, text) or rng.random() > SHARE:
            continue
        short = leave_out(span, rng)
        if short in text.replace(span, ""):
            continue
        text, spans[place] = text.replace(span, short), short
    if text == vignette.case.question:
        return None
    told = dict(zip(vignette.spans, spans, strict=True))
    return replace(vignette, case=_case(vignette.case, text, told), spans=tuple(spans))


def leave_out(phrase: str, rng: random.Random) -> str:
    """The phrase without some of its words; the phrase itself if it is too short to spare any."""
    words, keep = phrase.split(), rng.uniform(*KEEP)
    stays = [_must_stay(words, place) or rng.random() < _chance(word, keep) for place, word in enumerate(words)]
    missing = [place for place, word in enumerate(words) if not stays[place] and _tells(word)]
    while missing and sum(map(_tells, compress(words, stays))) < LEAST:
        stays[missing.pop(rng.randrange(len(missing)))] = True
    end = max(compress(count(1), stays), default=0)
    while end > 1 and _joins(words[end - 1]):
        end -= 1
    short = LOOSE.sub("", " ".join(compress(words[:end], stays)))
    return short if any(map(_tells, short.split())) else phrase


def _free(item: Item, span: str, spans: list[str], text: str) -> bool:
    """Whether the phrase stands once in the text and in no other phrase, so that it can be told otherwise."""
    return item.role in ROLES and text.count(span) == 1 and sum(span in other for other in spans) == 1


def _case(case: Case, text: str, told: dict[str, str]) -> Case:
    """The case with its new text; `told` has the new phrase for each old one."""
    name = case.id.replace("casebook/", f"{NAME}/", 1)
    return replace(case, id=name, question=text, findings=tuple(told[each] for each in case.findings), source=NAME)


def _must_stay(words: list[str], place: int) -> bool:
    """Numbers, negations and words of direction, each with the word after it."""
    return any(STAY.search(_bare(word)) for word in words[max(0, place - 1) : place + 1])


def _chance(word: str, keep: float) -> float:
    return keep * SMALL_WORDS if _joins(word) else keep


def _tells(word: str) -> bool:
    return len(word) > 2 and not _joins(word)


def _joins(word: str) -> bool:
    return _bare(word).lower() in JOINING


def _bare(word: str) -> str:
    return word.strip(",;:.()")
