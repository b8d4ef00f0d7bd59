"""An engine that answers every case in form, and counts what it was asked."""

from collections.abc import Iterator, Sequence

from medgrpo.engines import Health, Sampling
from medgrpo.errors import EngineError
from medgrpo.parsing import compose
from medgrpo.prompts import Message


class Counting:
    """GRPO says gout, base says sepsis; after `break_at` answers it breaks."""

    name, model, adapter, variants = "counting", "none", "a1", ("base", "grpo")

    def __init__(self, break_at: int = 10**9) -> None:
        self.asked: list[Sequence[Message]] = []
        self.sampled: list[Sampling] = []
        self.break_at = break_at

    def stream(self, messages: Sequence[Message], sampling: Sampling, variant: str) -> Iterator[str]:
        self.asked.append(messages)
        self.sampled.append(sampling)
        if len(self.asked) > self.break_at:
            raise EngineError("The model server stopped.")
        yield from compose("A hot toe.", "Gout" if variant == "grpo" else "Sepsis").split(" ")

    def health(self) -> Health:
        return Health("ready", "")

    def close(self) -> None:
        pass
