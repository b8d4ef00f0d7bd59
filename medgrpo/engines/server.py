"""One supervisor for local model servers: start, wait until healthy, capture the log, restart after a crash, stop.

It knows processes and nothing about models. A child gets an argument list; it writes the address it listens on into
`<folder>/address`, and its output goes into `<folder>/log.txt`: a file, because a full pipe would stop the child. Its
standard input is a pipe whose first line is the secret that requests must carry and which is then left open: the child
ends itself when that pipe closes, so that it dies with this process however this process dies, on Linux and macOS too.

One thread per server owns the process. Everybody else reads the state that it publishes.
"""

import os
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from medgrpo.engines.base import Health
from medgrpo.errors import EngineError

FIRST_DELAY, LONGEST_DELAY = 0.5, 30.0
"""Seconds before the first restart after a crash and the most there are; each delay is twice the one before."""
STABLE = 60.0
"""Seconds of service after which an earlier crash is forgotten."""
PATIENCE = 4
"""Crashes in a row after which the server counts as down. It's still tried again, every `LONGEST_DELAY` seconds."""
UNUSABLE = 3
"""Exit status of a child that cannot work with what it was given: it isn't started again."""

_IMPORT_ROOT = Path(__file__).resolve().parents[2]
"""Where a child is started, so that `python -m medgrpo...` finds the package wherever this process was started."""
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class LocalServer:
    """A supervised child process that serves HTTP on this machine.

    Args:
        name: what people call it, such as "base model".
        command: argument list of the child.
        folder: its own existing folder, for the log and the address.
        secret: first line on the child's standard input.
        environment: variables the child gets beside those of this process.

    Attributes:
        log: output of every start, one after the other.
        since: when the child was started last, in seconds of `time.monotonic`.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        folder: Path,
        secret: str = "",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.log = folder / "log.txt"
        self._command = list(command)
        self._address_file = folder / "address"
        self._secret = secret
        self._environment = {**os.environ, **(environment or {})}
        self._changed = threading.Condition()
        self._health = Health("loading", f"The {name} is being loaded.")
        self._address = ""
        self.since = time.monotonic()
        self._ready_since: float | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._supervise, name=f"supervisor of {name}", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int | None:
        """Process id of the child that runs now."""
        process = self._process
        return process.pid if process and process.poll() is None else None

    @property
    def ended(self) -> bool:
        """Whether it was closed or given up, so that no child will be started again."""
        return not self._thread.is_alive()

    def health(self) -> Health:
        """State right now."""
        with self._changed:
            if self._closing.is_set():
                return Health("down", f"The {self.name} was stopped: start the program again.")
            if self._health.state == "ready" and self.pid is None:
                return Health("loading", f"The {self.name} stopped and is being restarted.")
            return self._health

    def address(self, patience: float) -> str:
        """Base URL of the healthy server, waiting up to `patience` seconds for it.

        Raises:
            EngineError: it is down, or still loading after that time.
        """
        limit = time.monotonic() + patience
        while (health := self.health()).state == "loading" and time.monotonic() < limit:
            with self._changed:
                self._changed.wait(0.05)
        if health.state == "ready":
            return self._address
        if health.state == "down":
            raise EngineError(health.detail)
        raise EngineError(
            f"The {self.name} was still loading after {patience:.0f} seconds: try again, or look at {self.log}."
        )

    def begin_close(self) -> None:
        """Asks the supervisor to end the child, without waiting."""
        self._closing.set()

    def close(self) -> None:
        """Ends the child: its standard input closes, then SIGTERM, then SIGKILL. May be called twice."""
        self.begin_close()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _supervise(self) -> None:
        failures = 0
        while not self._closing.is_set():
            self.since, self._ready_since = time.monotonic(), None
            try:
                status = self._run_once()
            except OSError as error:
                self._publish("down", f"The {self.name} could not be started: {error}. Reinstall with `make app`.")
                return
            if self._closing.is_set():
                return
            stable = self._ready_since is not None and time.monotonic() - self._ready_since > STABLE
            failures = 1 if stable else failures + 1
            if status == UNUSABLE:
                self._publish(
                    "down", f"The {self.name} could not be loaded: {self._last_words()} The log is {self.log}."
                )
                return
            delay = min(LONGEST_DELAY, FIRST_DELAY * 2 ** (failures - 1))
            self._report_crash(status, failures, delay)
            self._closing.wait(delay)

    def _report_crash(self, status: int, failures: int, delay: float) -> None:
        if failures < PATIENCE:
            self._publish("loading", f"The {self.name} stopped (exit status {status}) and is being restarted.")
            return
        self._publish(
            "down",
            f"The {self.name} stopped {failures} times in a row (status {status}, last line {self._last_words()!r}) "
            f"and is tried again in {delay:.0f} seconds. Free some memory, or see {self.log}.",
        )

    def _run_once(self) -> int:
        self._address_file.unlink(missing_ok=True)
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                self._command,
                cwd=_IMPORT_ROOT,
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._process = process
        try:
            assert process.stdin is not None
            with suppress(BrokenPipeError):  # it has ended already; its exit status says the rest
                process.stdin.write(f"{self._secret}\n".encode())
                process.stdin.flush()
            while process.poll() is None and not self._closing.is_set():
                if self._health.state != "ready":
                    self._announce_when_healthy()
                try:
                    process.wait(0.05 if self._health.state != "ready" else 0.2)
                except subprocess.TimeoutExpired:
                    continue
            return process.poll() or 0
        finally:
            _end(process)

    def _announce_when_healthy(self) -> None:
        try:
            address = self._address_file.read_text().strip()
            if address and _DIRECT.open(f"{address}/health", timeout=1).status == 200:
                self._address, self._ready_since = address, time.monotonic()
                self._publish("ready", f"The {self.name} is ready.")
        except (OSError, urllib.error.URLError):
            return

    def _publish(self, state: str, detail: str) -> None:
        with self._changed:
            self._health = Health(state, detail)  # type: ignore[arg-type]
            self._changed.notify_all()

    def _last_words(self) -> str:
        """The last line of the log that a person can use, closed with a full stop."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.is_file() else []
        last = next((line.strip() for line in reversed(lines) if line.strip()), "it wrote nothing")
        return last if last.endswith(".") else f"{last}."


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.stdin:
        with suppress(BrokenPipeError):
            process.stdin.close()
    for stop in (process.terminate, process.kill):
        if process.poll() is None:
            stop()
            try:
                process.wait(3)
            except subprocess.TimeoutExpired:
                continue
    with suppress(ProcessLookupError, PermissionError):  # what the child left behind, in its own process group
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
