"""The engine behind the page, loaded in the background so that the page opens at once, and the line in front of it."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from medgrpo.engines import AT_ONCE, Engine, Health, choose
from medgrpo.errors import EngineError, MedGRPOError
from medgrpo.models import PROFILES
from medgrpo.settings import Settings
from medgrpo.ui.state import Line

LOG = logging.getLogger(__name__)
SLOTS = 2
"""Questions with the engine at once. One already uses all threads of a CPU; the second keeps it busy between phases."""
PATIENCE = 180.0
"""Seconds in which an engine with another adapter must be ready, and in which the one before may end its answers."""


class Desk:
    """Where questions are handed in.

    Attributes:
        settings: of the process.
        line: who is next.
        adapter: path of the adapter that was chosen on the page; "" for the one in the settings.
        resting: why there is no engine for the time being; "" if there is one.
    """

    def __init__(self, settings: Settings, load: Callable[[Settings], Engine], slots: int = 0) -> None:
        self.settings = settings
        self.line = Line(slots or AT_ONCE.get(choose(settings), SLOTS))
        self.adapter = ""
        self.resting = ""
        self._title = ""
        self._load = load
        self._changing = threading.Lock()
        self._engine: Engine | None = None
        self._error: MedGRPOError | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._open, name="load-engine", daemon=True)

    def open(self, wait: bool = False) -> "Desk":
        """Start to load the engine and return at once; with `wait`, load it in this thread, as ZeroGPU demands."""
        if wait:
            self._open()
        else:
            self._thread.start()
        return self

    def check(self, seconds: float) -> None:
        """Wait a moment for what is wrong at once, such as a missing file; a model that takes longer loads on.

        Raises:
            MedGRPOError: the engine could not be loaded.
        """
        if self._thread.is_alive():
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

    def use_adapter(self, path: str, title: str) -> None:
        """Answer with another adapter from now on, for everybody; "" goes back to the one in the settings.

        A second engine is loaded beside the first and takes its place when it is ready, so no question is lost: those
        asked before are answered by the adapter they were asked of. Waits for the engine.

        Raises:
            MedGRPOError: the adapter is missing, damaged or for another model; what answered before still does.
        """
        with self._changing:
            engine = self._ready(path, title)
            before, self._engine = self._engine, engine
            self.adapter, self._title, self._error = path, title, None
        if self._closed:
            engine.close()
        elif before is not None:
            asked = self.line.tickets()
            threading.Thread(target=self._retire, args=(before, asked), name="retire-engine", daemon=True).start()

    def rest(self, reason: str) -> None:
        """Free the engine's memory until `wake`; questions are answered with the reason. Waits for a load in progress."""
        with self._changing:
            before, self._engine = self._engine, None
            self.resting, self._error = reason, EngineError(reason)
        if before is not None:
            before.close()

    def wake(self) -> None:
        """Load the engine again after `rest`, in the background; nothing if it doesn't rest."""
        with self._changing:
            rested = bool(self.resting) and not self._closed
            if rested:
                self.resting, self._error = "", None
        if rested:
            threading.Thread(target=self._open, name="load-engine", daemon=True).start()

    def close(self) -> None:
        """Stop the engine. May be called twice."""
        self._closed = True
        if self._engine is not None:
            self._engine.close()

    def _ready(self, path: str, title: str) -> Engine:
        if self.resting:
            raise EngineError(self.resting)
        if choose(self.settings) == "endpoint":
            raise EngineError(
                f"The answers come from the server {self.settings.endpoint}, which has its own adapters: load it there."
            )
        engine = self._load(replace(self.settings, adapter=path) if path else self.settings)
        end = time.monotonic() + PATIENCE
        while (health := engine.health()).state == "loading" and time.monotonic() < end and not self._closed:
            time.sleep(0.05)
        if health.state != "ready":
            engine.close()
            raise EngineError(f"The adapter {title or path} could not be loaded. {health.detail}")
        if path and title:
            engine.adapter = title
        return engine

    def _retire(self, engine: Engine, asked: tuple[object, ...]) -> None:
        """Close an engine that was replaced, once those who asked it have their answers."""
        end = time.monotonic() + PATIENCE
        while set(asked) & set(self.line.tickets()) and time.monotonic() < end and not self._closed:
            time.sleep(0.1)
        engine.close()

    def _open(self) -> None:
        with self._changing:
            settings = replace(self.settings, adapter=self.adapter) if self.adapter else self.settings
            try:
                engine = self._load(settings)
            except MedGRPOError as error:
                self._error = error
            except Exception:
                LOG.exception("the engine could not be loaded")
                self._error = EngineError(
                    "The engine could not be loaded; the log says why. `python -m medgrpo doctor` names what is missing."
                )
            else:
                if self.adapter and self._title:
                    engine.adapter = self._title
                self._engine = engine
                if self._closed:
                    engine.close()
