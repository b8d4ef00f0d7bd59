"""An engine without a model, for tests and for work on the page: scripted text, delays, malformed output, crashes.

It says so: its model is called "fake" and so is its diagnosis. The base variant rambles; the grpo variant answers in
the form, quoting the case that was typed. The same request always gives the same text.
"""

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from medgrpo.engines.base import BASE, GRPO, Health, Sampling
from medgrpo.errors import EngineError
from medgrpo.parsing import compose
from medgrpo.prompts import Message

TOKENS_PER_SECOND = 60.0
_TOKEN = re.compile(r"\s*\S{1,6}|\s+$")


@dataclass(frozen=True)
class Script:
    """What a variant does when it is asked.

    Attributes:
        text: the whole answer; it may be malformed.
        fail_after: tokens after which the engine "crashes", None = never.
        error: message of that crash.
    """

    text: str
    fail_after: int | None = None
    error: str = "The fake model stopped in the middle of an answer: ask again."


class FakeEngine:
    """Scripted engine.

    Args:
        scripts: variant to its script, or to a function from the messages to one; by default the two of this module.
        delay: seconds before each token.
        first_delay: further seconds before the first token.
        state: what `health` reports.

    Attributes:
        closed: `close` was called.
        running: requests in progress now; 0 shows that every iterator ended or was closed.
    """

    name = "fake"
    model = "fake model (no weights)"

    def __init__(
        self,
        scripts: Mapping[str, Script | Callable[[Sequence[Message]], Script]] | None = None,
        delay: float = 0.0,
        first_delay: float = 0.0,
        state: Health = Health("ready", "The fake engine is ready; its answers are scripted."),
    ) -> None:
        self._scripts = dict(scripts) if scripts is not None else {BASE: rambling, GRPO: structured}
        self._delay, self._first_delay, self._state = delay, first_delay, state
        self.variants = tuple(self._scripts)
        self.adapter = "fake adapter" if GRPO in self._scripts else ""
        self.closed = False
        self.running = 0

    def stream(self, messages: Sequence[Message], sampling: Sampling, variant: str) -> Iterator[str]:
        """See `Engine.stream`."""
        if variant not in self._scripts:
            raise EngineError(f"The fake engine has no variant {variant!r}, only {', '.join(self.variants)}.")
        entry = self._scripts[variant]
        script = entry if isinstance(entry, Script) else entry(messages)
        self.running += 1
        try:
            time.sleep(self._first_delay)
            for count, token in enumerate(_TOKEN.findall(script.text)[: sampling.max_tokens]):
                if count == script.fail_after:
                    raise EngineError(script.error)
                time.sleep(self._delay)
                yield token
        finally:
            self.running -= 1

    def health(self) -> Health:
        """See `Engine.health`."""
        return Health("down", "The fake engine is closed: start it again.") if self.closed else self._state

    def close(self) -> None:
        """See `Engine.close`."""
        self.closed = True


def rambling(messages: Sequence[Message]) -> Script:
    """An answer without structure, the way a small base model talks."""
    case = _phrases(messages)
    return Script(
        f"It sounds like you are asking about {case[0]}. There can be many reasons for this, and it is important to "
        "stay calm. Some people feel this way when they are tired or stressed, others after a meal. It could be one "
        "thing or it could be another. You may want to rest, drink water and keep a diary. If it does not get better, "
        "a doctor can tell you more. (Scripted text of the fake engine.)"
    )


def structured(messages: Sequence[Message]) -> Script:
    """An answer in the form that quotes the phrases of the case."""
    findings = "\n".join(f'- "{phrase}" is a finding to explain.' for phrase in _phrases(messages)[:4])
    reasoning = f"{findings}\nTaken together they point one way; this text is scripted, no model has read them."
    answer = "Fake diagnosis of the fake engine. Next step: choose a real engine with MEDGRPO_ENGINE=auto."
    return Script(compose(reasoning, answer))


def _phrases(messages: Sequence[Message]) -> list[str]:
    case = next((m["content"] for m in reversed(messages) if m["role"] == "user"), "")
    pieces = (" ".join(piece.split())[:120] for piece in re.split(r"[.;,?!\n]| and | with ", case))
    return [piece for piece in pieces if len(piece) > 3] or ["the case"]
