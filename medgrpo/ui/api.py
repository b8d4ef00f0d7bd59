"""The public functions of the page, for programs and MCP clients: `/ask`, `/compare`, `/score`.

They go through the same line as the page and return answer records. Everything else the page can do is private.
"""

from collections.abc import Callable
from typing import Any, get_args

import gradio as gr

from medgrpo.cases import Case, Kind
from medgrpo.engines.base import BASE, GRPO, Sampling
from medgrpo.errors import MedGRPOError
from medgrpo.rewards import explain, total
from medgrpo.safety import clean_question
from medgrpo.ui import render
from medgrpo.ui.controls import MOST_TOKENS
from medgrpo.ui.desk import Desk
from medgrpo.ui.state import Panel, Stop
from medgrpo.ui.stream import Question, answers

Record = dict[str, Any]
PUBLIC = ("ask", "compare", "score")


def score(completion: str, question: str, answer: str, kind: str = "diagnosis", profile: str = "medgrpo") -> Record:
    """Score a completion with the rewards the model was trained by, and say why.

    Args:
        completion: What a model wrote, tags included.
        question: The case it was asked.
        answer: The reference answer.
        kind: How the reference is judged: "diagnosis", "choice", "numeric" or "open".
        profile: Name of the reward profile.

    Returns:
        "scores", one entry a reward with name, value, weight and why, and "total".
    """
    kinds = get_args(Kind)
    if kind not in kinds:
        raise gr.Error(f"There is no kind {kind!r}: use one of {', '.join(kinds)}.", print_exception=False)
    try:
        scores = explain(completion, Case("api", question, answer, kind), profile)  # type: ignore[arg-type]
    except MedGRPOError as error:
        raise gr.Error(str(error), print_exception=False) from error
    rows = [{"name": s.name, "value": s.value, "weight": s.weight, "why": s.why} for s in scores]
    return {"scores": rows, "total": total(scores)}


def functions(desk: Desk) -> list[Callable[..., Record]]:
    """The three functions, bound to an engine; names, types and docstrings are what a client sees."""

    def ask(
        question: str,
        variant: str = "grpo",
        temperature: float = 0.0,
        top_p: float = 1.0,
        max_tokens: int = 320,
        seed: int = 0,
    ) -> Record:
        """Answer one made-up patient case with one model. Educational only: not for diagnosis or treatment.

        Args:
            question: The case as free text, ending in a question.
            variant: "grpo" for the tuned model, "base" for the model as published.
            temperature: 0 is greedy and repeatable.
            top_p: Share of likely tokens kept, in (0, 1].
            max_tokens: Most new tokens of the answer.
            seed: Seed of the sampler.

        Returns:
            The answer record: question, variant, text, reasoning, answer, format, model, adapter, sampling, tokens,
            seconds, red_flags, disclaimer.
        """
        sampling = _sampling(temperature, top_p, max_tokens, seed)
        record: Record = _ask(desk, question, (variant,), sampling, True)[variant]
        return record

    def compare(
        question: str,
        same_instructions: bool = True,
        temperature: float = 0.0,
        top_p: float = 1.0,
        max_tokens: int = 320,
        seed: int = 0,
    ) -> Record:
        """Answer one made-up patient case with both models, base and GRPO. Educational only: not for diagnosis.

        Args:
            question: The case as free text, ending in a question.
            same_instructions: False leaves the instructions on the form out for the base model.
            temperature: 0 is greedy and repeatable.
            top_p: Share of likely tokens kept, in (0, 1].
            max_tokens: Most new tokens of each answer.
            seed: Seed of the sampler.

        Returns:
            Answer records under "base" and "grpo".
        """
        sampling = _sampling(temperature, top_p, max_tokens, seed)
        return _ask(desk, question, ("base", "grpo"), sampling, same_instructions)

    return [ask, compare, score]


def _sampling(temperature: float, top_p: float, max_tokens: int, seed: int) -> Sampling:
    if not (0 <= temperature <= 2 and 0 < top_p <= 1 and 1 <= max_tokens <= MOST_TOKENS):
        given = f"temperature {temperature}, top_p {top_p}, max_tokens {max_tokens}"
        limits = f"temperature takes 0 to 2, top_p takes more than 0 up to 1, max_tokens takes 1 to {MOST_TOKENS}"
        raise gr.Error(f"The sampling cannot be used ({given}): {limits}.", print_exception=False)
    return Sampling(temperature, top_p, max_tokens, seed)


def _ask(desk: Desk, question: str, variants: tuple[str, ...], sampling: Sampling, same: bool) -> Record:
    try:
        text = clean_question(question)
    except MedGRPOError as error:
        raise gr.Error(str(error), print_exception=False) from error
    asked = [Question(text, variant, sampling, structured=same or variant != BASE) for variant in variants]
    panels: list[Panel] = []
    for latest in answers(desk, asked, Stop()):
        missing = [variant for variant in variants if variant not in desk.variants]
        if missing:
            raise gr.Error(_unknown(desk, missing[0]), print_exception=False)
        panels = latest
    broken = [panel.note for panel in panels if panel.phase == "error"]
    if broken:
        raise gr.Error(broken[0], print_exception=False)
    return {panel.variant: panel.answer.record() for panel in panels if panel.answer}


def _unknown(desk: Desk, variant: str) -> str:
    if variant == GRPO:
        return render.no_adapter(desk.title)
    return f"There is no variant {variant!r}: use one of {', '.join(desk.variants)}."
