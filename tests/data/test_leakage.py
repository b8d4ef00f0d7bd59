"""De-duplication and the 64-character rule."""

import random
import time

from medgrpo.cases import Case
from medgrpo.data.leakage import deduplicate, drop_overlapping


def case(question: str) -> Case:
    return Case(id=question[:20], question=question, answer="x")


def words(seed: int, count: int) -> str:
    rng = random.Random(seed)
    return " ".join("".join(rng.choices("abcdefghij", k=rng.randint(2, 9))) for _ in range(count))


def test_deduplicate_keeps_the_first_of_each() -> None:
    cases = [case("One  two"), case("three"), case("one two"), case("Three ")]
    assert deduplicate(cases) == cases[:2]


def test_a_shared_span_of_64_is_dropped_wherever_it_stands() -> None:
    test = words(1, 60)
    for offset in range(0, 40):
        shared = test[37 : 37 + 64]
        train = [case(words(2, 10)[:offset] + "Z" + shared + "Z" + words(3, 9)), case(words(4, 40))]
        kept, dropped = drop_overlapping(train, [case(test)])
        assert (kept, dropped) == ([train[1]], [train[0]])


def test_63_characters_are_allowed() -> None:
    test = words(1, 60)
    train = [case("Z" + test[37 : 37 + 63] + "Z")]
    assert drop_overlapping(train, [case(test)]) == (train, [])


def test_case_and_white_space_do_not_hide_a_copy_and_short_copies_count() -> None:
    train = [case("A  short\nQUESTION?"), case("another")]
    assert drop_overlapping(train, [case("a short question?")])[1] == [train[0]]


def test_empty_inputs() -> None:
    assert drop_overlapping([], []) == ([], [])
    assert drop_overlapping([case("a")], []) == ([case("a")], [])


def test_it_is_linear() -> None:
    """Twenty times the text takes less than sixty times the time, repetitive text included."""

    def seconds(count: int) -> float:
        train = [case("ab" * 400 + str(i)) if i % 2 else case(words(i, 100)) for i in range(count)]
        test = [case("ab" * 30 + words(-i - 1, 80)) for i in range(count // 4)]
        started = time.process_time()
        drop_overlapping(train, test)
        return time.process_time() - started

    small = max(seconds(40), 0.005)
    assert seconds(800) < 60 * small
