"""Engines turn chat messages into streams of text; `load_engine` picks one by the settings.

Each engine's own libraries are imported only when it is picked.
"""

from medgrpo.engines.base import BASE, GRPO, Engine, Health, Sampling
from medgrpo.errors import SettingsError
from medgrpo.settings import Settings

__all__ = ["BASE", "GRPO", "Engine", "Health", "Sampling", "load_engine"]


def load_engine(settings: Settings) -> Engine:
    """The engine that the settings ask for; "auto" is `endpoint` if an endpoint is set, else `llamacpp`.

    It returns at once: a model may still be loading, which `health` tells and `stream` waits for.

    Raises:
        SettingsError: there is no such engine here.
        ModelError: a model or adapter file is missing, damaged or unfit.
    """
    choice = settings.engine
    if choice == "auto":
        choice = "endpoint" if settings.endpoint else "llamacpp"
    if choice == "llamacpp":
        from medgrpo.engines.llamacpp import LlamaCppEngine

        return LlamaCppEngine(settings)
    if choice == "endpoint":
        from medgrpo.engines.endpoint import EndpointEngine

        return EndpointEngine(settings)
    if choice == "fake":
        from medgrpo.engines.fake import TOKENS_PER_SECOND, FakeEngine

        return FakeEngine(delay=1 / TOKENS_PER_SECOND)
    raise SettingsError(f"MEDGRPO_ENGINE={choice} is not available in this version: use llamacpp, endpoint or fake.")
