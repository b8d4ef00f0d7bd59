"""The page: `python app.py`, and the entry point of the Space.

Starts on 127.0.0.1:7860 or the next free port. `MEDGRPO_*` variables choose model, adapter and engine (see the README).
"""

import os
import signal
import socket
import sys

from medgrpo.engines import load_engine
from medgrpo.errors import MedGRPOError, SettingsError
from medgrpo.settings import Settings
from medgrpo.ui.desk import Desk

HOST, PORT, PORTS = "127.0.0.1", 7860, 100
PATIENCE = 2.0
"""Seconds in which a missing model or adapter is reported before the page opens; what loads longer loads behind it."""


def free_port(first: int = PORT, count: int = PORTS, host: str = HOST) -> int:
    """The first port from `first` on that nothing listens on.

    Raises:
        SettingsError: all of them are taken.
    """
    for port in range(first, first + count):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
    raise SettingsError(f"The ports {first} to {first + count - 1} are all taken: end a program that uses one.")


def main() -> int:
    """Open the page and serve it until it is interrupted; returns the exit code."""
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    try:
        settings = Settings.from_env()
        desk = Desk(settings, load_engine).open(wait=settings.zero_gpu)
        desk.check(PATIENCE)
        serve(settings, desk)
    except MedGRPOError as error:
        print(f"medgrpo: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        pass
    return 0


def serve(settings: Settings, desk: Desk) -> None:
    """Build the page, launch it, print its address, and wait for the end.

    Raises:
        SettingsError: no port is free.
    """
    from medgrpo.ui.page import build_app, launch_options

    options = launch_options(settings)
    if not settings.on_space:
        options["server_name"] = settings.host
        options["server_port"] = int(os.environ.get("GRADIO_SERVER_PORT") or free_port(host=settings.host))
    demo = build_app(settings, desk)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _, url, _ = demo.launch(prevent_thread_lock=True, **options)
        print(f"MedGRPO is at {url} (Ctrl+C ends it)", flush=True)
        demo.block_thread()
    except OSError as error:
        raise SettingsError(f"The page could not start: {error}") from error
    finally:
        desk.close()


if __name__ == "__main__":
    sys.exit(main())
