"""A desk over a scripted engine, and a page in a process of its own."""

import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from medgrpo.engines.fake import FakeEngine
from medgrpo.settings import Settings
from medgrpo.ui.desk import Desk

HERE = Path(__file__).parent


def desk_of(engine: FakeEngine, slots: int = 2) -> Desk:
    """An open desk whose engine is there."""
    desk = Desk(Settings(engine="fake"), lambda _: engine, slots).open()
    desk.check(5)
    return desk


def until(true: Callable[[], bool], seconds: float = 5.0) -> bool:
    """Whether something becomes true in time."""
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.01)
    return true()


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def serving(
    mode: str = "", command: list[str] | None = None, environment: dict[str, str] | None = None
) -> Iterator[str]:
    """Address of a page that runs while the block does; `command` is started instead of `serve.py` if given."""
    port = unused_port()
    arguments = command or [sys.executable, str(HERE / "serve.py"), str(port), *filter(None, [mode])]
    if environment is not None:
        environment = environment | {"GRADIO_SERVER_PORT": str(port)}
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            arguments, cwd=HERE.parents[1], env=environment, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            url = f"http://127.0.0.1:{port}/"
            if not until(lambda: process.poll() is not None or _answers(url), 90) or process.poll() is not None:
                log.seek(0)
                raise RuntimeError(f"The page did not start:\n{log.read()}")
            yield url
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)


def _answers(url: str) -> bool:
    time.sleep(0.2)
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except OSError:
        return False
