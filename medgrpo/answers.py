"""One question, one variant, one answer record, growing while the model writes.

The record is what the page renders, `--json` prints, the API returns and the export stores.
"""

import time
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from contextvars import copy_context
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

from medgrpo.engines.base import Engine, Sampling, tokens_of
from medgrpo.parsing import Sections, parse
from medgrpo.prompts import build_messages
from medgrpo.safety import DISCLAIMER, clean_question, red_flags


@dataclass(frozen=True)
class Answer:
    """A snapshot of one answer. Field names are the public answer record.

    Attributes:
        format: `Sections.status` of the text so far.
        told: all that the person has said, this question last: what an answer may quote.
        tokens: received so far, as the engine counts them.
        seconds: since the question was sent.
        reasoning_seconds: until the answer section began, None before that.
        first_seconds: until the first delta, None before that.
        done: no more text will come.
    """

    question: str
    variant: str
    model: str
    adapter: str
    sampling: Sampling
    text: str = ""
    sections: Sections = field(default_factory=lambda: parse(""))
    tokens: int = 0
    seconds: float = 0.0
    first_seconds: float | None = None
    reasoning_seconds: float | None = None
    done: bool = False
    red_flags: tuple[str, ...] = ()
    told: str = ""

    def record(self) -> dict[str, Any]:
        """The answer record, ready for `json.dumps`."""
        return {
            "question": self.question,
            "variant": self.variant,
            "text": self.text,
            "reasoning": self.sections.reasoning,
            "answer": self.sections.answer,
            "format": self.sections.status,
            "model": self.model,
            "adapter": self.adapter,
            "sampling": asdict(self.sampling),
            "tokens": self.tokens,
            "seconds": round(self.seconds, 3),
            "red_flags": list(self.red_flags),
            "disclaimer": DISCLAIMER,
        }


def ask(
    engine: Engine,
    question: str,
    variant: str,
    sampling: Sampling = Sampling(),
    history: Sequence[tuple[str, str]] = (),
    structured: bool = True,
) -> Generator[Answer]:
    """Snapshots of one answer, the first before any text, the last with `done=True`. Closing the iterator stops the model.

    Raises:
        CaseError: the question is empty or too long.
        EngineError: the engine is down or stopped in the middle.
    """
    question = clean_question(question)
    messages = build_messages(question, history, structured)
    adapter = engine.adapter if variant != "base" else ""
    flags = tuple(flag.why for flag in red_flags(question))
    told = "\n".join([*(earlier for earlier, _ in history), question])
    answer = Answer(question, variant, engine.model, adapter, sampling, red_flags=flags, told=told)
    return _grow(engine, messages, answer)


def _grow(engine: Engine, messages: list[dict[str, str]], answer: Answer) -> Generator[Answer]:
    start = time.perf_counter()
    yield answer
    with closing(engine.stream(messages, answer.sampling, answer.variant)) as deltas:  # type: ignore[type-var]
        for delta in deltas:
            seconds = time.perf_counter() - start
            text = answer.text + delta
            sections = parse(text)
            thought = answer.reasoning_seconds
            if thought is None and sections.answer and sections.reasoning:
                thought = seconds
            answer = replace(
                answer,
                text=text,
                sections=sections,
                tokens=answer.tokens + tokens_of(delta),
                seconds=seconds,
                first_seconds=answer.first_seconds if answer.first_seconds is not None else seconds,
                reasoning_seconds=thought,
            )
            yield answer
    yield replace(answer, sections=parse(answer.text, final=True), seconds=time.perf_counter() - start, done=True)


def answer(engine: Engine, question: str, variant: str, **options: Any) -> Answer:
    """The finished answer of one variant; options and errors as for `ask`."""
    *_, last = ask(engine, question, variant, **options)
    return last


def compare(engine: Engine, question: str, **options: Any) -> list[Answer]:
    """The finished answers of every variant of the engine, asked at the same time; options and errors as for `ask`."""
    with ThreadPoolExecutor(len(engine.variants)) as pool:
        ask_one = partial(answer, engine, question, **options)
        # in the caller's context, from which ZeroGPU knows whose quota it is
        asked = [pool.submit(partial(copy_context().run, ask_one, variant)) for variant in engine.variants]
        return [one.result() for one in asked]
