import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from hub_server import Hub, hub_server


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A stand-in for the Hub, with the pauses of the real client cut out: `hub.waits` holds the seconds it would have slept."""
    import huggingface_hub.utils._http as client

    for name, value in (("MAX_ATTEMPTS", "2"), ("BASE_DELAY", "10ms"), ("MAX_DURATION", "1s")):
        monkeypatch.setenv(f"HF_XET_CLIENT_RETRY_{name}", value)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    waits: list[float] = []
    monkeypatch.setattr(client, "time", SimpleNamespace(sleep=waits.append, time=time.time))
    with hub_server() as server:
        server.waits = waits
        yield server
