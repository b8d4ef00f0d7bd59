"""The supervisor, with small Python programs as servers."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from medgrpo.engines import server
from medgrpo.engines.server import UNUSABLE, LocalServer
from medgrpo.errors import EngineError

SERVE = """
import http.server, pathlib, sys, threading, os
secret = sys.stdin.readline().strip()
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def log_message(self, *args): pass
server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
print("secret is", len(secret), "long", flush=True)
pathlib.Path("ADDRESS").write_text(f"http://127.0.0.1:{server.server_port}")
os.read(0, 1)
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[object]:
    servers: list[LocalServer] = []

    def start(program: str) -> LocalServer:
        program = program.replace("ADDRESS", str(tmp_path / "address"))
        servers.append(LocalServer("base model", [sys.executable, "-c", program], tmp_path, "xyz"))
        return servers[-1]

    yield start
    for running in servers:
        running.close()


def wait_until(condition: object, seconds: float = 20) -> None:
    limit = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < limit, "it took too long"
        time.sleep(0.02)


def test_serves_and_stops(start) -> None:  # type: ignore[no-untyped-def]
    running = start(SERVE)
    assert running.health().state == "loading"
    assert running.address(20).startswith("http://127.0.0.1:")
    assert running.health().state == "ready"
    assert "secret is 3 long" in running.log.read_text()
    pid = running.pid
    begin = time.monotonic()
    running.close()
    running.close()
    assert time.monotonic() - begin < 2, "a closed standard input is enough to end the child"
    assert running.pid is None
    assert not Path(f"/proc/{pid}").exists()
    with pytest.raises(EngineError, match="was stopped"):
        running.address(1)


def test_a_crash_is_followed_by_a_restart_on_another_address(start) -> None:  # type: ignore[no-untyped-def]
    import os
    import signal

    running = start(SERVE)
    first, pid = running.address(20), running.pid
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: running.health().state == "loading")
    assert running.address(20) != first
    assert running.pid not in (None, pid)


def test_crash_after_crash_is_down_with_the_last_line(start, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(server, "FIRST_DELAY", 0.01)
    running = start("import sys; print('no room left'); sys.exit(9)")
    wait_until(lambda: running.health().state == "down")
    with pytest.raises(EngineError, match=r"stopped 4 times in a row \(status 9, last line 'no room left\.'\).*see /"):
        running.address(5)


def test_what_can_never_work_is_not_started_again(start) -> None:  # type: ignore[no-untyped-def]
    running = start(f"import sys; print('bad weights'); sys.exit({UNUSABLE})")
    with pytest.raises(EngineError, match=r"could not be loaded: bad weights\. The log is "):
        running.address(20)
    time.sleep(0.7)
    assert running.log.read_text().count("bad weights") == 1


def test_a_start_that_takes_long_and_fails_is_no_service(start, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(server, "FIRST_DELAY", 0.01)
    monkeypatch.setattr(server, "STABLE", 0.1)
    running = start("import sys, time; time.sleep(0.3); print('no room left'); sys.exit(9)")
    wait_until(lambda: running.health().state == "down")
    assert "stopped 4 times in a row" in running.health().detail


def test_what_a_crashed_child_started_is_ended_too(start, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    import psutil

    orphan = (
        "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(99)']).pid)"
    )
    running = start(orphan)
    wait_until(lambda: running.log.is_file() and running.log.read_text().strip())
    pid = int(running.log.read_text().split()[0])
    wait_until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE, 5)


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    running = LocalServer("base model", ["/nowhere/program"], tmp_path)
    with pytest.raises(EngineError, match="could not be started"):
        running.address(5)
    running.close()


def test_patience_ends(start) -> None:  # type: ignore[no-untyped-def]
    running = start("import time; time.sleep(60)")
    with pytest.raises(EngineError, match="still loading after 0 seconds"):
        running.address(0.1)
    begin = time.monotonic()
    running.close()
    assert time.monotonic() - begin < 5
