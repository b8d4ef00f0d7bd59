"""What a model must beat: three classifiers that read words and reason about nothing.

Each takes labelled training cases and returns one predicted label for each of `cases`. The labels are the `answer`s of
the training cases, so these work for closed sets (the casebook, multiple choice), not for numbers or free text.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import pairwise

from medgrpo.cases import Case


def majority(train: Sequence[Case], cases: Sequence[Case]) -> list[str]:
    """The commonest label of the training cases, for every case; the first in alphabet where several tie."""
    counts = Counter(case.answer for case in train)
    label = min(counts, key=lambda each: (-counts[each], each))
    return [label] * len(cases)


def keyword_rule(train: Sequence[Case], cases: Sequence[Case], keywords: int = 40) -> list[str]:
    """The label with the most keywords in the text.

    A label's keywords are the `keywords` words and word pairs with the highest log-odds in its training cases against
    all others (add-one smoothing), among those that occur at least three times there. No word counts as negated.
    """
    inside: dict[str, Counter[str]] = defaultdict(Counter)
    overall: Counter[str] = Counter()
    sizes = Counter(case.answer for case in train)
    for case in train:
        terms = _terms(case.question)
        inside[case.answer].update(terms)
        overall.update(terms)
    chosen: dict[str, set[str]] = {}
    for label, counts in inside.items():
        others = len(train) - sizes[label]

        def odds(term: str, counts: Counter[str] = counts, own: int = sizes[label], others: int = others) -> float:
            here, there = counts[term], overall[term] - counts[term]
            return math.log((here + 1) / (own - here + 1)) - math.log((there + 1) / (others - there + 1))

        frequent = [term for term, count in counts.items() if count >= 3]
        chosen[label] = set(sorted(frequent, key=lambda term: (-odds(term), term))[:keywords])
    fallback = majority(train, [train[0]])[0]
    return [_most_hits(_terms(case.question), chosen, fallback) for case in cases]


def tfidf(train: Sequence[Case], cases: Sequence[Case]) -> list[str]:
    """TF-IDF of words and word pairs, then multinomial logistic regression (scikit-learn, C = 10)."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    vectorizer = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    features = vectorizer.fit_transform([case.question for case in train])
    model = LogisticRegression(C=10, max_iter=300).fit(features, [case.answer for case in train])
    return [str(label) for label in model.predict(vectorizer.transform([case.question for case in cases]))]


def _most_hits(terms: set[str], keywords: dict[str, set[str]], fallback: str) -> str:
    hits = {label: len(terms & words) for label, words in keywords.items()}
    best = max(hits.values(), default=0)
    return min(label for label, count in hits.items() if count == best) if best else fallback


def _terms(text: str) -> set[str]:
    words = re.findall(r"\w+", text.lower())
    return {*words, *(f"{first} {second}" for first, second in pairwise(words))}
