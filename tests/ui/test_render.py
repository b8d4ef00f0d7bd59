"""Rendering is pure: these tests need no Gradio and no engine."""

import json
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medgrpo.answers import Answer
from medgrpo.engines.base import Health, Sampling
from medgrpo.parsing import parse
from medgrpo.safety import DISCLAIMER
from medgrpo.ui import render
from medgrpo.ui.state import Panel

WELL_FORMED = "<reasoning>\nfever and cough\n</reasoning>\n<answer>\nPneumonia. Next: X-ray.\n</answer>"
HOSTILE = (
    "<script>window.__pwn=1</script>",
    "<img src=x onerror=window.__pwn=1>",
    "![x](https://evil.example/x.png)",
    '"><iframe src="https://evil.example">',
    "${window.__pwn=1} {{value}} `${1}`",
    "</details></article><form action=https://evil.example>",
    "\u202etxt.exe\u0000\u0007",
    "\ud800 lone surrogate",
)


class Outline(HTMLParser):
    """The elements, attributes and text of a piece of HTML, and whether every element is closed in order."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(markup)
        self.close()
        assert not self._open, self._open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def one(self, tag: str) -> dict[str, str | None]:
        found = [attrs for name, attrs in self.elements if name == tag]
        assert len(found) == 1, found
        return found[0]


def view(text: str = "", phase: str = "done", variant: str = "grpo", note: str = "", **answer) -> Panel:
    sections = parse(text)
    thought = answer.pop("reasoning_seconds", 1.9 if sections.reasoning and sections.answer else None)
    record = Answer(
        "A case", variant, "M", "", Sampling(), text, sections, tokens=3, seconds=2.0, first_seconds=0.1, **answer
    )
    return Panel(variant, phase, replace(record, reasoning_seconds=thought), note)


ALLOWED = {"article", "header", "h2", "b", "i", "span", "p", "details", "summary", "div", "section", "h3", "strong"}
ALLOWED |= {"footer", "button", "sup"}


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("form", ["{}", "<reasoning>{}</reasoning><answer>{}</answer>", "</reasoning>{}<answer>"])
def test_hostile_text_is_only_ever_text(text, form):
    outline = Outline(render.panel(view(form.replace("{}", text))))
    assert {tag for tag, _ in outline.elements} <= ALLOWED
    for _, attributes in outline.elements:
        assert not {"src", "href", "action", "style"} & attributes.keys()
        assert not [name for name in attributes if name.startswith("on")]


@given(st.text(), st.sampled_from(["waiting", "writing", "done", "stopped", "error"]))
def test_any_text_in_any_phase_keeps_the_skeleton(text, phase):
    outline = Outline(render.panel(view(text, phase, note=text)))
    assert {tag for tag, _ in outline.elements} <= ALLOWED
    assert [tag for tag, _ in outline.elements if tag in ("article", "details", "section", "footer")] == [
        "article", "details", "section", "footer",
    ]  # fmt: skip
    outline.text.encode()


@pytest.mark.parametrize(
    "text", ["no tags", WELL_FORMED, "</reasoning>late", "<answer>only", "a < b and c > d", "x" * 5000]
)
def test_no_word_is_lost(text):
    sections = parse(text)
    shown = Outline(render.panel(view(text))).text
    assert sections.reasoning in shown
    assert sections.answer in shown


def test_disclaimer_is_on_every_answer():
    for phase in ("writing", "done", "stopped", "error"):
        outline = Outline(render.panel(view("words", phase)))
        assert DISCLAIMER in outline.text
        assert "hidden" not in outline.one("footer")


@pytest.mark.parametrize(
    ("text", "chip"),
    [(WELL_FORMED, "● well-formed"), ("<answer>x</answer>", "◐ repaired"), ("plain", "○ no structure")],
)
def test_chips_say_shape_and_word(text, chip):
    assert chip in Outline(render.panel(view(text))).text


def test_reasoning_is_open_while_written_and_folds_when_the_answer_begins():
    thinking = Outline(render.panel(view("<reasoning>\nfever", "writing")))
    assert "open" in thinking.one("details")
    assert "live" in str(thinking.one("details")["class"])
    answering = Outline(render.panel(view("<reasoning>\nfever</reasoning><answer>P", "writing")))
    assert "open" not in answering.one("details")
    assert "Reasoning (1.8 s)" in answering.text


@pytest.mark.parametrize(
    ("phase", "title"),
    [
        ("stopped", "Reasoning (stopped)"),
        ("error", "Reasoning (broken off)"),
        ("done", "Reasoning (no answer followed)"),
    ],
)
def test_unfinished_reasoning_stays_open_and_says_why(phase, title):
    outline = Outline(render.panel(view("<reasoning>\nfever", phase)))
    assert title in outline.text
    assert "open" in outline.one("details")


def test_an_answer_without_reasoning_hides_the_block():
    assert "hidden" in Outline(render.panel(view("plain"))).one("details")


def test_error_keeps_the_text_and_offers_retry():
    panel = view("half a", "error", note="The server stopped: ask again.")
    outline = Outline(render.panel(panel))
    assert "half a" in outline.text
    assert "The server stopped: ask again." in outline.text
    assert 'data-do="retry"' in render.panel(panel)
    assert 'data-do="retry"' not in render.panel(panel, retry=False)


def test_an_answer_of_nothing_says_so():
    assert "The model wrote nothing" in Outline(render.panel(view(""))).text


def test_a_cut_answer_says_so():
    panel = view("plain")
    assert panel.answer
    cut = replace(panel, answer=replace(panel.answer, tokens=320))
    assert "cut at 320 tokens" in Outline(render.panel(cut)).text


def test_the_record_survives_for_export_and_only_when_finished():
    text = 'say "x" <b> & \u0000'
    record = Outline(render.panel(view(text))).one("article")["data-record"]
    assert json.loads(str(record))["text"] == text
    assert json.loads(str(record))["state"] == "done"
    assert "data-record" not in Outline(render.panel(view(text, "writing"))).one("article")


def test_bold_is_the_only_mark():
    assert render.prose("**a** *b* `c` [d](https://e)") == "<strong>a</strong> *b* `c` [d](https://e)"


@pytest.mark.parametrize(
    ("first", "second", "says"),
    [
        ("Pneumonia. Next: X-ray.", "pneumonia", "same answer"),
        (
            "The most likely diagnosis is acute appendicitis. Operate.",
            "Acute appendicitis; call a surgeon",
            "same answer",
        ),
        ("Diagnosis: **Gout**", "Gout.", "same answer"),
        ("Gout", "Septic arthritis", "different answers"),
        ("", "Gout", ""),
        ("...", "!!!", "different answers"),
    ],
)
def test_agreement(first, second, says):
    panels = [view(f"<reasoning>r</reasoning><answer>{text}</answer>") for text in (first, second)]
    assert render.agreement(panels) == says


def test_verdict_appears_when_all_is_finished():
    assert "hidden" in render.verdict([])
    assert "hidden" in render.verdict([view("a", "writing"), view("b")])
    whole = render.verdict([view("Gout", variant="base"), view("Gout")])
    assert "same answer" in whole
    assert whole.count('data-do="vote"') == 4
    assert 'data-do="vote"' not in render.verdict([view("Gout")])


def test_alerts_hide_when_there_is_nothing_to_say():
    assert "hidden" in render.alert([], "emergency")
    shown = Outline(render.alert(["Call <b>now</b>."], "emergency"))
    assert "Possible emergency" in shown.text
    assert "Call <b>now</b>." in shown.text


def test_status_words():
    def dot(health: Health, waiting: int = 0, busy: bool = False) -> str:
        return Outline(render.status(health, "llama.cpp", "SmolLM2", "v1", waiting, busy)).text

    assert "ready llama.cpp · SmolLM2 · adapter v1" in dot(Health("ready", "ok"))
    assert "busy, 2 waiting" in dot(Health("ready", "ok"), 2, True)
    assert "down Install it." in dot(Health("down", "Install it."))
    assert "loading Half." in dot(Health("loading", "Half."))


def test_announcements_are_short():
    assert "Writing." in render.announcement([view("a", "writing"), view("", "waiting")])
    assert "Base model: ready. GRPO model: stopped." in render.announcement(
        [view("a", variant="base"), view("b", "stopped")]
    )


def test_speed_counts_from_the_first_token():
    panel = view("words")
    assert panel.answer
    assert render.speed(replace(panel.answer, tokens=101, seconds=2.1)) == "50 tok/s · 101 tokens · 2.1 s"
    assert render.speed(replace(panel.answer, tokens=1)) == "1 token · 2.0 s"


QUOTING = (
    '<reasoning>\n"Chest pain" stands out. "jaw pain" fits; "chest  PAIN" again, and "fever" too.\n</reasoning>\n'
    "<answer>\nX.\n</answer>"
)


def test_a_quote_is_marked_by_whether_it_stands_in_the_case() -> None:
    outline = Outline(render.panel(view(QUOTING, told="A man with chest pain and no fever.")))
    quotes = [attrs["class"] for tag, attrs in outline.elements if tag == "span" and "quote" in str(attrs.get("class"))]
    assert quotes == ["quote", "quote false", "quote", "quote"]
    assert outline.one("sup")["aria-label"] == "not in the case"
    assert '"jaw pain"≠ fits' in outline.text
    assert "3 of 4 quotes in the case" in outline.text


def test_without_the_case_nothing_is_said_of_quotes() -> None:
    markup = render.panel(view(QUOTING))
    assert "quote" not in markup.replace("&quot;", "")
    assert "quotes in the case" not in render.panel(view(WELL_FORMED, told="fever and cough"))


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_quote_stays_text(text: str) -> None:
    quoting = f'<reasoning>\n"{text}" and "a {text} b"\n</reasoning>\n<answer>\nX.\n</answer>'
    for told in (text, "something else"):
        assert {tag for tag, _ in Outline(render.panel(view(quoting, told=told))).elements} <= ALLOWED


MISPLACED = (
    '<reasoning>\n"My chest hurts when I lie down" fits: <acetone> on the breath shows ketosis. So it is.\n</reasoning>\n'
    "<answer>\nX.\n</answer>"
)


def test_an_explanation_of_another_finding_is_marked_and_counted_when_the_answer_is_done() -> None:
    told = "My chest hurts when I lie down."
    outline = Outline(render.panel(view(MISPLACED, told=told)))
    marked = [attrs for tag, attrs in outline.elements if tag == "span" and attrs.get("class") == "misplaced"]
    assert marked == [{"class": "misplaced", "title": render.MISPLACED}]
    assert "fits: <acetone> on the breath shows ketosis⇄. So it is." in outline.text
    assert "1 explanation out of place" in outline.text
    for other in (view(MISPLACED, "writing", told=told), view(MISPLACED), view(QUOTING, told=told)):
        markup = render.panel(other)
        assert "misplaced" not in markup
        assert "out of place" not in markup


@pytest.mark.parametrize("phase", ["writing", "stopped", "error"])
def test_quotes_are_counted_when_the_answer_is_done_and_marked_before(phase: str) -> None:
    markup = render.panel(view(QUOTING, phase, told="A man with chest pain and no fever."))
    assert 'class="quote false"' in markup
    assert "quotes in the case" not in markup
