"""The engine behind the page, loaded in the background so that the page opens at once, and the line in front of it."""

import logging
import threading
from collections.abc import Callable

from medgrpo.engines.base import Engine, Health
from medgrpo.errors import EngineError, MedGRPOError
from medgrpo.models import PROFILES
from medgrpo.settings import Settings
from medgrpo.ui.state import Line

LOG = logging.getLogger(__name__)
SLOTS = 2
"""Questions with the engine at once. One already uses all threads of a CPU; the second keeps it busy between phases."""


class Desk:
    """Where questions are handed in.

    Attributes:
        settings: of the process.
        line: who is next.
    """

    def __init__(self, settings: Settings, load: Callable[[Settings], Engine], slots: int = SLOTS) -> None:
        self.settings = settings
        self.line = Line(slots)
        self._load = load
        self._engine: Engine | None = None
        self._error: MedGRPOError | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._open, name="load-engine", daemon=True)

    def open(self) -> "Desk":
        """Start to load the engine; returns at once."""
        self._thread.start()
        return self

    def check(self, seconds: float) -> None:
        """Wait a moment for what is wrong at once, such as a missing file; a model that takes longer loads on.

        Raises:
            MedGRPOError: the engine could not be loaded.
        """
        self._thread.join(seconds)
        if self._error is not None:
            raise self._error

    @property
    def engine(self) -> Engine:
        """The engine.

        Raises:
            MedGRPOError: it is not loaded, or could not be.
        """
        if self._engine is None:
            raise self._error or EngineError("The model is still being loaded: try again in a moment.")
        return self._engine

    @property
    def variants(self) -> tuple[str, ...]:
        """What can be asked; both until the engine says otherwise."""
        return self._engine.variants if self._engine else ("base", "grpo")

    @property
    def title(self) -> str:
        """Name of the base model, known before it is loaded."""
        profile = PROFILES.get(self.settings.model)
        return self._engine.model if self._engine else profile.title if profile else self.settings.model

    def health(self) -> Health:
        """State of the engine for the status dot."""
        if self._engine is not None:
            return self._engine.health()
        return Health("down", str(self._error)) if self._error else Health("loading", f"Loading {self.title}.")

    def close(self) -> None:
        """Stop the engine. May be called twice."""
        self._closed = True
        if self._engine is not None:
            self._engine.close()

    def _open(self) -> None:
        try:
            engine = self._load(self.settings)
        except MedGRPOError as error:
            self._error = error
        except Exception:
            LOG.exception("the engine could not be loaded")
            self._error = EngineError(
                "The engine could not be loaded; the log says why. `python -m medgrpo doctor` names what is missing."
            )
        else:
            self._engine = engine
            if self._closed:
                engine.close()
