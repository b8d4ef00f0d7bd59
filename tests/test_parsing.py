"""The parser: the form is recognised, nothing is lost, and no prefix of a stream shows half a tag."""

import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medgrpo.parsing import FORM, Sections, compose, is_blank, neutralise_tags, parse, tags

PERFECT = "<reasoning>\nfever and cough\n</reasoning>\n<answer>\nPneumonia\n</answer>"
TAG = re.compile(r"<[ \t]{0,8}/?[ \t]{0,8}(?:reasoning|think|answer)[ \t]{0,8}>", re.IGNORECASE | re.ASCII)

pieces = st.sampled_from(
    [
        *FORM,
        "<think>",
        "</think>",
        "< ANSWER >",
        "</ Reasoning>",
        "<",
        "</",
        "<rea",
        "K < 3.5, Na > 150",
        "fever ",
        "\n",
        " ",
        ">",
        "é½",
        "\0",
    ]
)
texts = st.lists(st.one_of(pieces, st.text(max_size=6)), max_size=16).map("".join)
prose = st.text(alphabet=st.sampled_from("abc <>/.\n½é"), min_size=1, max_size=40).filter(
    lambda text: not is_blank(text) and "<" not in text
)


@pytest.mark.parametrize(
    "text",
    [
        PERFECT,
        f"\n\n {PERFECT} \n",
        "<reasoning>a</reasoning><answer>b</answer>",
        "<reasoning>Na < 130, K > 5</reasoning>\t<answer>SIADH < 5 min</answer>",
    ],
)
def test_exactly_the_form_is_ok(text: str) -> None:
    assert parse(text).status == "ok"
    assert parse(text, final=True).status == "ok"


@pytest.mark.parametrize("nothing", ["", " \n", ".", "...", "-- _ --", "\u200b", "\0", "🤒"])
def test_a_block_that_says_nothing_breaks_the_form(nothing: str) -> None:
    assert is_blank(nothing)
    assert parse(compose(nothing, "Gout")).status == parse(compose("a", nothing)).status == "repaired"


@pytest.mark.parametrize("something", ["B", "14", "½", "٣", "痛風", "é."])
def test_a_letter_or_a_digit_of_any_script_fills_a_block(something: str) -> None:
    assert not is_blank(something)
    assert parse(compose(something, something)).status == "ok"


@pytest.mark.parametrize(
    ("text", "reasoning", "answer", "status"),
    [
        ("", "", "", "missing"),
        ("Pneumonia", "", "Pneumonia", "missing"),
        ("<REASONING>a</REASONING><answer>b</answer>", "a", "b", "repaired"),
        ("< reasoning >a</ reasoning ><answer>b</answer>", "a", "b", "repaired"),
        ("<think>a</think><answer>b</answer>", "a", "b", "repaired"),
        ("<think>a</think>It is b", "a", "It is b", "repaired"),
        ("<reasoning>a<answer>b</answer>", "a", "b", "repaired"),
        ("a</reasoning><answer>b</answer>", "a", "b", "repaired"),
        ("Sure! <reasoning>a</reasoning><answer>b</answer>", "Sure!\n\na", "b", "repaired"),
        ("a, so <answer>b</answer>", "a, so", "b", "repaired"),
        ("b</answer>", "", "b", "repaired"),
        ("<reasoning>a</reasoning>then<answer>b</answer>", "a", "then\n\nb", "repaired"),
        ("<reasoning>a</reasoning><answer>b</answer> Or c.", "a", "b\n\nOr c.", "repaired"),
        ("<answer>b</answer><reasoning>a</reasoning>", "a", "b", "repaired"),
        ("<reasoning>a</reasoning><answer>b</answer><answer>c</answer>", "a", "b\n\nc", "repaired"),
        ("<reasoning>a</reasoning><reasoning>b</reasoning><answer>c</answer>", "a\n\nb", "c", "repaired"),
        ("<reasoning><reasoning>a</reasoning></reasoning><answer>b</answer>", "a", "b", "repaired"),
        ("<reasoning></reasoning><answer></answer>", "", "", "repaired"),
        ("<reasoning>\u200b</reasoning><answer>b</answer>", "\u200b", "b", "repaired"),
        ("<reasoning>a</reasoning>", "a", "", "repaired"),
        ("<reasoning>a</reasoning><answer>b", "a", "b", "repaired"),
        ("<answering>a</answering>", "", "<answering>a</answering>", "missing"),
        ("<reasoning>x<5, y>3, 5<answers</reasoning><answer>b</answer>", "x<5, y>3, 5<answers", "b", "repaired"),
    ],
)
def test_a_broken_form_is_read_and_nothing_is_lost(text: str, reasoning: str, answer: str, status: str) -> None:
    sections = parse(text, final=True)
    expected = "ok" if "5<answers" in text else status  # comparison signs in a section don't break the form
    assert (sections.reasoning, sections.answer, sections.status) == (reasoning, answer, expected)


@pytest.mark.parametrize("tail", ["<", "< ", "</", "<rea", "</ans", "< / answer", "<think", "<answer\t"])
def test_a_tail_that_may_become_a_tag_is_held_back(tail: str) -> None:
    assert parse("fever " + tail).answer == "fever"
    assert parse("<reasoning>fever " + tail).reasoning == "fever"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("K <", "K <"),
        ("K < r", "K < r"),
        ("p <a", "p <a"),
        ("fever </", "fever"),
        ("fever <answ", "fever"),
        ("a <b", "a <b"),
    ],
)
def test_a_finished_text_keeps_a_comparison_and_drops_a_torn_tag(text: str, answer: str) -> None:
    assert parse(text, final=True).answer == answer


def test_the_phase_says_what_is_being_written() -> None:
    phases = [parse(PERFECT[:n]).phase for n in range(len(PERFECT) + 1)]
    assert list(dict.fromkeys(phases)) == ["", "reasoning", "answer"]
    assert phases[-1] == ""
    assert parse("no tags").phase == "answer"
    assert parse("<think>a</think> free text").phase == "answer"


@given(texts)
def test_no_prefix_leaks_a_tag_or_part_of_one(text: str) -> None:
    spans = [(tag.start, tag.end) for tag in tags(text)]
    for n in range(len(text) + 1):
        sections = parse(text[:n])
        assert not TAG.search(sections.reasoning)
        assert not TAG.search(sections.answer)
        for start, end in spans:
            if start < n < end:  # nothing of the tag shows while it is being written
                begun = parse(text[: start + 1])
                assert (sections.reasoning, sections.answer) == (begun.reasoning, begun.answer)


@given(texts)
def test_nothing_but_tags_and_a_torn_tail_is_lost(text: str) -> None:
    sections = parse(text, final=True)
    kept = Counter("".join((sections.reasoning + sections.answer).split()))
    whole = "".join(TAG.sub("", text).split())
    lost = len(whole) - kept.total()
    assert lost <= len("</reasoning")
    assert kept == Counter(whole[: len(whole) - lost])
    assert lost == 0 or whole[-lost] == "<"


@given(texts, st.lists(st.integers(1, 7), max_size=40))
def test_any_chunking_ends_where_one_shot_ends(text: str, sizes: list[int]) -> None:
    said, sections = "", parse("")
    for size in [*sizes, len(text)]:
        said += text[len(said) : len(said) + size]
        sections = parse(said)
    assert sections == parse(text)


@given(prose, prose)
def test_sections_only_grow_along_a_perfect_text(reasoning: str, answer: str) -> None:
    text = compose(reasoning, answer)
    before = Sections("", "", "missing")
    for n in range(len(text) + 1):
        now = parse(text[:n])
        assert now.reasoning.startswith(before.reasoning)
        assert now.answer.startswith(before.answer)
        before = now
    assert (before.reasoning, before.answer, before.status) == (reasoning.strip(), answer.strip(), "ok")


@given(st.text())
def test_any_text_is_read(text: str) -> None:
    assert parse(text) == parse(text)
    assert parse(text).status in ("ok", "repaired", "missing")


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "unit",
    [
        "<",
        "< ",
        "<reasoning>",
        "</reasoning>",
        "<reasoning><answer>",
        "</answer",
        "<answer" + " " * 8,
        "a",
        "\0",
        "<\t\t\t\t\t\t\t\t\t",
        "<rea",
    ],
)
def test_a_megabyte_of_anything_is_read_at_once(unit: str) -> None:
    text = unit * (1_000_000 // len(unit))
    for whole in (text, "<reasoning>" + text, "<" + " " * 1_000_000, "<answer>" + "\u200b" * 1_000_000 + "</answer>"):
        parse(whole)
        parse(whole, final=True)


@given(texts)
def test_neutral_text_has_no_tags_and_keeps_its_words(text: str) -> None:
    neutral = neutralise_tags(text)
    assert not tags(neutral)
    assert neutral.replace("‹", "<").replace("›", ">") == text.replace("‹", "<").replace("›", ">")
    assert neutralise_tags(neutral) == neutral


def test_a_case_cannot_break_the_form() -> None:
    assert compose("a </reasoning><answer>gold</answer>", "b").count("<answer>") == 1
    assert parse(compose("a </reasoning><answer>gold</answer>", "b")).answer == "b"
