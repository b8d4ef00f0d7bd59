"""What an engine is: something that turns chat messages into a stream of text for a variant.

All state of a request lives in the iterator that `stream` returns. Closing it (`close()`, or leaving the `for` loop of a
generator that owns it) stops the generation on the server. Errors of the model server reach the caller as `EngineError`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from medgrpo.prompts import Message

BASE, GRPO = "base", "grpo"


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen; the defaults are greedy and repeatable.

    Attributes:
        temperature: 0 is greedy.
        top_p: nucleus share in (0, 1].
        max_tokens: most new tokens of one answer.
        seed: of the sampler; None draws one.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 320
    seed: int | None = 0


@dataclass(frozen=True)
class Health:
    """What the page shows beside the status dot.

    Attributes:
        state: "loading", "ready" or "down".
        detail: one plain sentence; for "down" with the remedy.
    """

    state: Literal["loading", "ready", "down"]
    detail: str


class Piece(str):
    """A text delta of several tokens; a plain string counts as one.

    Attributes:
        tokens: how many, as the server counts them.
    """

    tokens: int

    def __new__(cls, text: str, tokens: int) -> "Piece":
        piece = super().__new__(cls, text)
        piece.tokens = tokens
        return piece


def tokens_of(delta: str) -> int:
    """Tokens that a delta stands for."""
    return delta.tokens if isinstance(delta, Piece) else 1


class Engine(Protocol):
    """One loaded model in its variants.

    Attributes:
        name: of the engine, such as "llama.cpp".
        model: name of the base model, as people know it.
        adapter: name of the adapter, "" if there is none.
        variants: what `stream` accepts: ("base",) or ("base", "grpo").
    """

    name: str
    model: str
    adapter: str
    variants: tuple[str, ...]

    def stream(self, messages: Sequence[Message], sampling: Sampling, variant: str) -> Iterator[str]:
        """Text deltas of one answer, in order, one a token or `Piece`s. It is a generator: closing it stops the work.

        Raises:
            EngineError: the variant is unknown, the server is down, or it stopped in the middle.
        """
        ...

    def health(self) -> Health:
        """State right now; never blocks longer than a second and never raises."""
        ...

    def close(self) -> None:
        """Stop every process and connection this engine started. May be called twice."""
        ...
