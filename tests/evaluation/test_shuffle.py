import pytest

from medgrpo.cases import Case
from medgrpo.data.hub import _choice
from medgrpo.errors import DataError
from medgrpo.evaluation.shuffle import shuffled

OPTIONS = {"A": "aspirin", "B": "heparin", "C": "aspirin and heparin", "D": "none"}


def choice(question: str, options: dict[str, str] = OPTIONS, answer: str = "C") -> Case:
    return Case("med/1", question, answer, "choice", options=options)


def test_every_version_asks_the_same_with_its_own_key() -> None:
    made = _choice("A woman has a clot. What next?", OPTIONS, "C")
    assert isinstance(made, Case)
    versions = shuffled([choice(made.question)], 4)
    assert [case.id for case in versions] == [f"med/1~{n}" for n in range(4)]
    assert versions[0].question == made.question
    assert versions[0].options == OPTIONS
    assert len({tuple(case.options.values()) for case in versions}) == 4
    for case in versions:
        assert case.options[case.answer] == "aspirin and heparin"
        assert case.question.splitlines()[:2] == made.question.splitlines()[:2]
        assert case.question.splitlines()[2:] == [f"{letter}. {text}" for letter, text in case.options.items()]
    assert shuffled([choice(made.question)], 4) == versions


def test_other_ways_to_list_options() -> None:
    case = shuffled([choice("Which?\n(A) aspirin\n(B) heparin\n(C) aspirin and heparin\n(D) none  ")], 3)[2]
    assert case.question == "Which?\n" + "\n".join(f"({letter}) {text}" for letter, text in case.options.items())


def test_what_cannot_be_moved_is_a_sentence() -> None:
    with pytest.raises(DataError, match="isn't a line of its own"):
        shuffled([choice("Aspirin, heparin, both or none?")], 2)
    with pytest.raises(DataError, match="not multiple choice"):
        shuffled([Case("1", "Why?", "Gout", "diagnosis")], 2)
