"""A step whose gradient is not a number is left out, in a real Trainer: one bad batch must not cost a run."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from medgrpo.errors import RunError  # noqa: E402
from train.callbacks import LOST, RunCallback  # noqa: E402


class Line(torch.nn.Module):  # type: ignore[misc]
    """y = a x, to be fitted to y = 1."""

    def __init__(self) -> None:
        super().__init__()
        self.a = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x: Any, labels: Any = None) -> dict[str, Any]:
        return {"loss": ((self.a * x - 1) ** 2).mean()}


def fit(folder: Path, batches: list[float], **values: Any) -> tuple[float, list[str], Any]:
    """The weight after one step a batch, the notes, and the trainer."""
    notes: list[str] = []
    attempt = SimpleNamespace(
        status=SimpleNamespace(update=lambda **fields: None),
        stop_asked=lambda: False,
        run=SimpleNamespace(metrics_file=folder / "metrics.jsonl"),
        note=notes.append,
        say=lambda text: None,
    )
    arguments = transformers.TrainingArguments(
        output_dir=str(folder), max_steps=len(batches), per_device_train_batch_size=1, learning_rate=0.1,
        lr_scheduler_type="constant", logging_strategy="no", save_strategy="no", report_to="none", disable_tqdm=True,
        use_cpu=True, train_sampling_strategy="sequential", **values,
    )  # fmt: skip
    model = Line()
    rows = [{"x": value, "labels": 1.0} for value in batches]
    trainer = transformers.Trainer(model=model, args=arguments, train_dataset=rows)
    trainer.add_callback(RunCallback(attempt, lambda step: None, 0))  # type: ignore[arg-type]
    try:
        trainer.train()
    except RunError as error:
        notes.append(str(error))
    return float(model.a.detach()), notes, trainer


def test_one_bad_batch_costs_its_own_step_and_nothing_else(tmp_path: Path) -> None:
    good, none, _ = fit(tmp_path, [1.0] * 6)
    weight, notes, trainer = fit(tmp_path, [1.0, 1.0, float("nan"), 1.0, 1.0, 1.0])
    assert trainer.state.global_step == 6
    assert 0 < weight < good
    assert none == []
    assert notes == ["Step 3 was left out, because its gradient is not a number."]


def test_the_run_ends_when_no_step_is_good_any_more(tmp_path: Path) -> None:
    bad = [1.0] + [float("nan")] * (LOST + 3)
    weight, notes, trainer = fit(tmp_path, bad)
    assert trainer.state.global_step == LOST  # the last step that ended: the good one and those left out before the end
    assert weight == pytest.approx(0.1, abs=1e-3)
    assert len(notes) == LOST
    assert "lower training.learning_rate" in notes[-1]


def test_bad_steps_that_are_not_in_a_row_do_not_end_it(tmp_path: Path) -> None:
    _, notes, trainer = fit(tmp_path, [float("nan"), 1.0] * (LOST + 1))
    assert trainer.state.global_step == 2 * (LOST + 1)
    assert len(notes) == LOST + 1
