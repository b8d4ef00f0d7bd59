"""The completion a good clinician would write for a vignette, in the exact form the rewards ask for.

It says nothing about the patient that the vignette does not say: findings are quoted verbatim, general statements come
from the knowledge base. These texts are the targets of the warm start and the gold completions of the audit.
"""

import random
import re

from medgrpo.data.casebook import SEED, Vignette
from medgrpo.data.knowledge import Confuser
from medgrpo.data.registers import Item

LONG_QUOTE = 56  # characters; a longer phrase is quoted in part
PAUSE = re.compile(r"\s*[,;:]\s|\s(?=(?:and|with|but|when|while|after|since|because|that|which|until|so)\b)")
WORDS = 62  # of reasoning before the conclusion; a further finding is quoted only within this budget
QUOTED = 0.55  # of the question; no third finding is quoted beyond it, since copying the case earns nothing
COPIED = 0.7  # of the question in quotes of any kind; from there on a third finding is given up again

FIRST = (
    'The key finding is "{q}": {b}.',
    '"{q}" stands out: {b}.',
    'Most telling is "{q}": {b}.',
    'The case turns on "{q}": {b}.',
    'Start from "{q}": {b}.',
)
THEN = ('"{q}" fits: {b}.', 'Then there is "{q}": {b}.', 'Next to it stands "{q}": {b}.', '"{q}" adds weight: {b}.')
BARE = ('"{q}" agrees with this.', 'It also mentions "{q}".', '"{q}" goes along with it.')
AGAINST = ('"{q}" argues against {other}.', 'Against {other} stands "{q}".', '{Other} is less likely with "{q}".')
DENIED = (
    "{Other} is less likely: {b}.",
    'Against {other} stands "{q}": {b}.',
    '"{q}" argues against {other}: {b}.',
)
DETAIL = (
    '"{q}" could suggest {other}, but the findings above weigh more.',
    '"{q}" would fit {other}, yet it does not outweigh the rest.',
    '{Other} was considered because of "{q}", but the other findings decide.',
)
ABSENT = ('"{q}" is unusual here, but does not rule it out.', 'Despite "{q}", the other findings decide.')
TELLS = ("{Other} comes near, but {b}.", "{Other} is less likely: {b}.", "{Other} must be weighed too: {b}.")
CONCLUSION = (
    "Together this points to {name}.",
    "The whole picture is that of {name}.",
    "So {name} is most likely.",
    "This makes {name} the best answer.",
    "All in all this is {name}.",
)


def demonstrate(vignette: Vignette) -> str:
    """The completion: two to four quoted findings with their reasons, the nearest confuser weighed, the conclusion."""
    source, split, _, number = vignette.case.id.split("/")
    rng = random.Random(f"{SEED}/demonstration/{source}/{split}/{number}")
    sentences, weighed = _support(vignette, rng), _weigh(vignette, rng)
    while len(sentences) > 2 and _quoted(*sentences, weighed) > COPIED * len(vignette.case.question):
        sentences.pop()
    sentences.append(weighed)
    sentences.append(rng.choice(CONCLUSION).format(name=in_sentence(vignette.condition.name)))
    answer = f"{vignette.condition.name}. Next: {vignette.condition.approach}."
    return in_form(" ".join(sentences), answer)


def in_form(reasoning: str, answer: str) -> str:
    """The one exact form of a completion."""
    return f"<reasoning>\n{reasoning}\n</reasoning>\n<answer>\n{answer}\n</answer>"


def in_sentence(name: str) -> str:
    """The name as it stands within a sentence: "gout", but "COPD exacerbation"."""
    return name if name[1:2].isupper() else name[0].lower() + name[1:]


def excerpt(span: str) -> str:
    """What to quote of a long phrase: its beginning up to the first pause after half of it.

    Half is what the reasoning reward asks of a quote. A small model copies short quotes more faithfully.
    """
    if len(span) <= LONG_QUOTE:
        return span
    cuts = (match.start() for match in PAUSE.finditer(span))
    return next((span[:cut] for cut in cuts if 2 * cut >= len(span)), span)


def _support(vignette: Vignette, rng: random.Random) -> list[str]:
    """Quotes of findings, key ones first."""
    told = zip(vignette.items, vignette.spans, strict=True)
    own = [(item.statement, excerpt(span)) for item, span in told if item.role == "finding"]
    rng.shuffle(own)
    own.sort(key=lambda pair: (pair[0].weight != "key", pair[0].atypical))
    sentences: list[str] = []
    quoted = 0
    for number, (statement, span) in enumerate(own[:4]):
        template = rng.choice((FIRST, THEN, BARE, BARE)[number])
        sentence = _upper(template.format(q=span, b=statement.because))
        quoted += len(span)
        long = len(" ".join([*sentences, sentence]).split()) > WORDS - 18
        if number >= 2 and (long or quoted > QUOTED * len(vignette.case.question)):
            break
        sentences.append(sentence)
    return sentences


def _quoted(*sentences: str) -> int:
    return sum(len(quote) for sentence in sentences for quote in re.findall(r'"([^"]+)"', sentence))


def _weigh(vignette: Vignette, rng: random.Random) -> str:
    """One sentence on another condition: a detail that points to it, a negative against it, or what sets it apart."""
    told = list(zip(vignette.items, vignette.spans, strict=True))
    details = [pair for pair in told if pair[0].role == "detail"]
    negatives = [pair for pair in told if pair[0].role == "negative"]
    if details:
        item, span = details[0]
        return _sentence(rng.choice(DETAIL if item.about else ABSENT), item.about, "", span)
    if negatives:
        item, span = _nearest(vignette, negatives)
        because = item.statement.because
        # the reason must rest on what this vignette denies, no more and nothing else
        fitting = not re.search(r"\band\b|\bor\b|,", because) and _stems(because) & _stems(span)
        return _sentence(rng.choice(DENIED if fitting else AGAINST), item.about, because, span)
    confuser = _apart(vignette, rng)
    return _sentence(rng.choice(TELLS), confuser.name, confuser.tells, "")


def _nearest(vignette: Vignette, negatives: list[tuple[Item, str]]) -> tuple[Item, str]:
    names = [confuser.name for confuser in vignette.condition.confusers]
    return min(negatives, key=lambda pair: names.index(pair[0].about) if pair[0].about in names else len(names))


def _apart(vignette: Vignette, rng: random.Random) -> Confuser:
    """A confuser whose distinguishing mark shares the fewest words with this vignette."""
    words = _stems(vignette.case.question)
    confusers = rng.sample(vignette.condition.confusers, len(vignette.condition.confusers))
    return min(confusers, key=lambda confuser: len(words & _stems(confuser.tells)))


def _stems(text: str) -> set[str]:
    return {word[:5] for word in re.findall(r"[a-z]{4,}", text.lower())}


def _sentence(template: str, other: str, because: str, span: str) -> str:
    return _upper(template.format(Other=other, other=in_sentence(other) if other else "", b=because, q=span))


def _upper(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]
