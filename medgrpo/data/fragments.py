"""The casebook's training vignettes once more and others drawn alike, with words left out of what they say.

A model that has read every phrasing many times knows it as a whole and is lost when one word differs. Here "a deep ache
behind the breastbone that came on at rest" is told as "deep ache behind breastbone came at rest": what remains has to be
enough, as it is for someone who reads another doctor's notes. Word dropout: Iyyer et al., Deep unordered composition rivals
syntactic methods for text classification, 2015 (ACL), there on the words of the input at each step.

Nothing is left out that says whether or how much: between two pauses all stays if something there is denied, normal or
positive, and numbers and words of direction stay with the word after them.
"""

import random
import re
from dataclasses import replace
from functools import cache
from itertools import compress, count

from medgrpo.cases import Case
from medgrpo.data import FRAGMENTS
from medgrpo.data.casebook import SEED, Vignette, vignettes
from medgrpo.data.registers import Item

TIMES = 3  # as many vignettes as the training split has; beyond the first time they are drawn for this source alone
SHARE = 0.7  # of the findings, details and risk factors; the others stay as they are
KEEP = (0.5, 0.9)  # chance that a word stays, drawn for each phrase
SMALL_WORDS = 0.35  # the same chance for words that only join others
LEAST = 2  # words that remain
JOINING = frozenset(
    """a an and are as at be been but by for from had has have he her his i in into is it its like my of on or our she so
    some than that the their then there they this to was we were when which while with you your""".split()  # noqa: SIM905
)
DENIAL = (
    r"no(?:-\w+)?|not|non\S*|nor|neither|never|nil|none|nothing|nobody|nowhere|nowt|cannot|without|w/o|nad|absen\w+|"
    r"(?:are|ca|could|did|do|does|had|has|have|is|must|need|should|was|were|wo|would)n['’]?t|unable|inabil\w+|"
    r"impossible|lack\w*|lost|los[es]\w*|free|gone|fail\w*|refus\w+|denie[sd]|hardly|barely|scarcely|rarely|seldom|"
    r"instead|rather|except|excluded|[+-]ve|pos|neg|positive|negative|normal|abnormal|clear|intact"
)
DEGREE = (
    r"\S*[\d+<>=±↑↓→]\S*|[/-]+|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|\w+teen|twenty|thirty|forty|"
    r"fifty|sixty|seventy|eighty|ninety|hundred|thousand|times|twice|thrice|half|halv\w+|doubl\w+|trebl\w+|tripl\w+|"
    r"can|could|more|less|fewer|few|little|only|too|nearly|almost|un\w+|\w+nt|poor|short|hard|difficult\w*|troubl\w+|"
    r"struggl\w+|stop\w*|ceas\w+|quit\w*|miss(?:ed|ing)|used|out|off|late|overdue|delay\w*|despite|empt\w+|vanish\w*|"
    r"disappear\w*|impair\w*|i[mn]\w+ble|defici\w+|deplet\w+|scant\w*|\S*high\S*|low\S*|rais\w+|ris\w+|rose|elevat\w+|"
    r"depress\w+|\w+creas\w+|reduc\w+|diminish\w+|declin\w+|fall\w*|fell|drop\w*|dip(?:s|ped|ping)|s[aiu]nk\w*|"
    r"shr[aiu]nk\w*|gr[eo]w\w*|gain\w*|surg(?:e|es|ed|ing)|spik\w+|soar\w*|exce\w+|above|below|beyond|over|under|up|"
    r"down|before|after|during|until|since|better|worse\w*|eas\w+|reliev\w+|relief|help\w*|improv\w+|settl\w+|resolv\w+"
)
KINDS = re.compile(f"(?:(?P<denial>{DENIAL})|(?P<degree>{DEGREE}))(?:['’]s)?", re.I)
SLIP = 6  # letters; in a word as long as this the casebook may exchange two neighbours
PAUSE = re.compile(r"(?<=[,;:.])\s+")
LOOSE = re.compile(r"^(?:[,;:.–-]+\s+)+|(?:\s+[.–-]+|[\s,;:–])+$")
ROLES = ("finding", "detail", "history")


@cache
def fragments() -> tuple[Vignette, ...]:
    """Each training vignette and as many again as TIMES says, in fragments; without those that could spare no word."""
    return tuple(told for each in vignettes("train", TIMES) if (told := in_fragments(each)) is not None)


def in_fragments(vignette: Vignette) -> Vignette | None:
    """The vignette with some phrases shortened, the same at every call; None if none could be or one holds another."""
    rng = random.Random(f"{SEED}/{FRAGMENTS}/{vignette.case.id}")
    text, spans = vignette.case.question, list(vignette.spans)
    for place, (item, span) in enumerate(zip(vignette.items, vignette.spans, strict=True)):
        if not _free(item, span, spans, text) or rng.random() > SHARE:
            continue
        short = leave_out(span, rng)
        if short in text.replace(span, ""):
            continue
        text, spans[place] = text.replace(span, short), short
    if text == vignette.case.question or any(one != other and one in other for one in spans for other in spans):
        return None
    told = dict(zip(vignette.spans, spans, strict=True))
    return replace(vignette, case=_case(vignette.case, text, told), spans=tuple(spans))


def leave_out(phrase: str, rng: random.Random) -> str:
    """The phrase without some of its words; the phrase itself if it is too short to spare any."""
    words, keep = phrase.split(), rng.uniform(*KEEP)
    stays = [must or rng.random() < _chance(word, keep) for word, must in zip(words, _must_stay(phrase), strict=True)]
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
    name = case.id.replace("casebook/", f"{FRAGMENTS}/", 1)
    return replace(case, id=name, question=text, findings=tuple(told[each] for each in case.findings), source=FRAGMENTS)


def _must_stay(phrase: str) -> list[bool]:
    """For each word whether it says how much, follows one that does, or has a denial between the same two pauses."""
    must, follows = list[bool](), False
    for stretch in PAUSE.split(phrase):
        kinds = [_kind(word) for word in stretch.split()]
        for kind in kinds:
            must.append("denial" in kinds or kind == "degree" or follows)
            follows = kind == "degree"
    return must


@cache
def _kind(word: str) -> str:
    """ "denial", "degree" or "", for the word, its parts at a stroke, or the word with a slip undone."""
    bare = _bare(word)
    places = range(1, len(bare) - 1) if len(bare) >= SLIP else ()
    undone = (bare[:at] + bare[at + 1] + bare[at] + bare[at + 2 :] for at in places)
    kinds = {found.lastgroup for each in (bare, *bare.split("/"), *undone) if (found := KINDS.fullmatch(each))}
    return next((kind for kind in ("denial", "degree") if kind in kinds), "")


def _chance(word: str, keep: float) -> float:
    return keep * SMALL_WORDS if _joins(word) else keep


def _tells(word: str) -> bool:
    return len(_bare(word)) > 2 and not _joins(word)


def _joins(word: str) -> bool:
    return _bare(word).lower() in JOINING


def _bare(word: str) -> str:
    return word.strip(",;:.?!()'\"‘’“”")
