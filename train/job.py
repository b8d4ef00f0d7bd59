"""One run on a rented machine: train as `config.yaml` of the archive says, then push the adapter.

    python -m train.job OWNER/NAME REVISION SECONDS

Started by `medgrpo.training.jobs`, which packed the archive. The machine is taken away when the time is over, so the run
is asked to stop, save and finish before that, and what it has learned is pushed. The token is the job's secret HF_TOKEN.
"""

import argparse
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import get_token

from medgrpo.errors import MedGRPOError, RunError
from medgrpo.training.config import read_config
from medgrpo.training.hub import push
from medgrpo.training.run_directory import RunDirectory

HERE = Path(__file__).parents[1]


def main(argv: Sequence[str] | None = None) -> int:
    """Train and push; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m train.job", description=__doc__)
    parser.add_argument("repository", help="where the adapter goes, OWNER/NAME")
    parser.add_argument("revision", help="of the archive; only told in the log")
    parser.add_argument("seconds", type=float, help="time limit of the machine")
    options = parser.parse_args(argv)
    began = time.monotonic()
    print(f"{options.repository} at {options.revision}, {options.seconds:.0f} s", flush=True)
    run = RunDirectory(HERE / "run")
    code = train(run, began + options.seconds - spare(options.seconds))
    try:
        token = get_token()
        if not token:
            raise RunError("The job has no token: start it again from the Train tab.")
        report = push(
            run, options.repository, token=token, on_progress=lambda progress: print(progress.says, flush=True)
        )
    except MedGRPOError as error:
        print(error, flush=True)
        return code or 1
    print(f"pushed: {report.url}", flush=True)
    return code


def spare(seconds: float) -> float:
    """Seconds before the limit at which a run is asked to end: for the step at work, the held-out cases and the push."""
    return min(max(180.0, seconds / 10), seconds / 2)


def train(run: RunDirectory, stop_at: float) -> int:
    """The run as a process of its own; asked to stop at `stop_at` (of time.monotonic) or when this one is told to end."""
    config = read_config(HERE / "config.yaml")
    command = [sys.executable, "-m", f"train.{config.stage}", "--config", "config.yaml", "--run-dir", str(run.path)]
    print(" ".join(command), flush=True)
    process = subprocess.Popen(command, cwd=HERE)

    def stop(*_: object) -> None:
        run.stop_file.parent.mkdir(parents=True, exist_ok=True)
        run.stop_file.touch()

    signal.signal(signal.SIGTERM, stop)
    while process.poll() is None:
        if time.monotonic() > stop_at and not run.stop_file.exists():
            print("The time is nearly over: the run saves and ends after this step.", flush=True)
            stop()
        time.sleep(0.5)
    return int(process.returncode)


if __name__ == "__main__":
    sys.exit(main())
