"""Room for a GPU run: the chat engine leaves the GPU while a run trains there, if both do not fit, and comes back.

What is decided is decided from the run directories at every look, so it does not matter who started the run or whether
this server was restarted meanwhile. On a machine without a GPU the chat engine stays.
"""

import threading
from collections.abc import Callable

from medgrpo.engines.shapes import shape_of
from medgrpo.errors import MedGRPOError
from medgrpo.training.config import RunConfig, read_config
from medgrpo.training.estimate import estimate
from medgrpo.training.machine import Machine
from medgrpo.training.manager import RunManager

ENGINE_GB = 1.5
"""Beside the weights: CUDA context, cache and workspaces of a chat engine."""


def needs_engine_room(config: RunConfig, machine: Machine, share: float = 0.0) -> bool:
    """Whether the run and a chat engine do not fit on the largest GPU together.

    Args:
        share: of the GPU's memory that the engine takes whatever its model; 0 if it takes what the run's model needs.
    """
    if not machine.gpus:
        return False
    there = max(memory for _, memory in machine.gpus)
    expected, shape = estimate(config, machine), shape_of(config.model)
    if expected is None or shape is None:
        return True  # nothing is known of its size: the run, which cannot wait, comes first
    chat = share * there if share else 2 * shape.parameters / 2**30 + ENGINE_GB
    return expected.memory_gb + chat > there


class EngineRoom:
    """Keeps the chat engine off the GPU while a run needs it.

    Args:
        unload, load: of the chat engine; each is called once per change, from the thread that looks.
        share: see `needs_engine_room`.
    """

    def __init__(
        self,
        manager: RunManager,
        machine: Machine,
        unload: Callable[[], None],
        load: Callable[[], None],
        share: float = 0.0,
    ) -> None:
        self._share = share
        self._manager = manager
        self._machine = machine
        self._unload = unload
        self._load = load
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._away_for = ""

    @property
    def says(self) -> str:
        """For the page; "" while the engine is where it belongs."""
        if not self._away_for:
            return ""
        return f"The chat is unloaded while the run {self._away_for} needs the GPU, and comes back when it ends."

    def look(self) -> str:
        """Unload or load if that is due; returns `says`."""
        if not self._machine.gpus:
            return ""
        with self._lock:
            wanted = self._wanted()
            if wanted and not self._away_for:
                self._unload()
            elif self._away_for and not wanted:
                self._load()
            self._away_for = wanted
        return self.says

    def watch(self, seconds: float = 2.0) -> threading.Thread:
        """Look again and again in a thread, so that nobody has to have the page open."""

        def looks() -> None:
            while not self._closed.wait(seconds):
                self.look()

        thread = threading.Thread(target=looks, name="engine-room", daemon=True)
        thread.start()
        return thread

    def close(self) -> None:
        self._closed.set()

    def _wanted(self) -> str:
        """The active run that needs the room; ""."""
        run = self._manager.active()
        if run is None:
            return ""
        try:
            config = read_config(run.path / "config.yaml")
        except MedGRPOError:
            return run.id
        return run.id if needs_engine_room(config, self._machine, self._share) else ""
