"""The quick trainer of the manager's tests: the real launcher, status, stop and recording around steps that learn nothing.

`install` puts a `train` package into a folder in which only the programs differ; everything else is the real one. What
the steps do is told by the environment: PATIENT_SECONDS each, and PATIENT_DEAF=1 takes no notice of any request.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAM = '''
import json, os, signal, struct, sys, time, zipfile
from pathlib import Path
from medgrpo.training import launching
from train.launch import launch
from medgrpo.training.recording import append_metrics

launching.ROOT = Path(__file__).parents[1]  # the next of the queue is a patient one too
SECONDS, DEAF = float(os.environ.get("PATIENT_SECONDS", "0.05")), os.environ.get("PATIENT_DEAF") == "1"


def checkpoint(folder, step):
    folder.mkdir()
    header = b"{}"
    (folder / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    for name in ("optimizer.pt", "scheduler.pt"):
        with zipfile.ZipFile(folder / name, "w") as archive:
            archive.writestr("data", "x" * int(os.environ.get("PATIENT_BYTES", "100")))
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}))


def train(config, attempt):
    """Patience."""
    if os.environ.get("PATIENT_CRASH"):
        raise ValueError(os.environ["PATIENT_CRASH"])
    attempt.enter("loading")
    if DEAF:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    first = int(attempt.checkpoint.name.removeprefix("checkpoint-")) if attempt.checkpoint else 0
    attempt.status.update(total=config.training.max_steps)
    attempt.enter("training")
    for step in range(first + 1, config.training.max_steps + 1):
        time.sleep(SECONDS)
        append_metrics(attempt.run, step, {"reward": step / 10, "loss": 0.0})
        attempt.say(f"step {step}")
        stopping = attempt.stop.requested() and not DEAF
        if stopping or step % config.training.save_steps == 0:
            checkpoint(attempt.run.path / f"checkpoint-{step}", step)
        attempt.status.update(step=step)
        if stopping:
            break
    attempt.status.update(phase="stopped" if stopping else "finished")


if __name__ == "__main__":
    sys.exit(launch("grpo", train))
'''


def install(root: Path) -> Path:
    """Make `root/train`; returns `root`, to be used as the place of the training programs."""
    package = root / "train"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(
        f"__path__.append({str(ROOT / 'train')!r})\nimport sys\nsys.path.append({str(ROOT)!r})\n"
    )
    for stage in ("grpo", "sft"):
        (package / f"{stage}.py").write_text(PROGRAM.replace('launch("grpo"', f'launch("{stage}"'))
    return root


assert sys.version_info >= (3, 11)
