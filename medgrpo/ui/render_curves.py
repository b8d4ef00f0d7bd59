"""Which charts a run gets: reward first, loss last. Values in, HTML out."""

from collections.abc import Sequence

import numpy as np

from medgrpo.training.curves import Metrics, contributions, running_mean
from medgrpo.training.held_out import accuracy
from medgrpo.training.view import View
from medgrpo.ui.charts import Frame, Limit, Line, lines, number

SMOOTH = 60
"""Logged steps from which a running mean is drawn over the raw values."""
ORDER = ("correctness", "reasoning", "meaning", "next_step", "numeric", "format", "tags", "length")
"""Rewards from the one that matters most; each keeps its colour in every chart."""

SMALL: tuple[tuple[str, str, str, str], ...] = (
    ("reward_std", "Reward spread", "", "Standard deviation of the rewards of a batch. Without spread nothing is learned."),
    ("frac_reward_zero_std", "No-spread groups", "%", "Share of groups whose completions all earn the same."),
    ("completions/mean_length", "Completion length", "tokens", "Mean length; the dashed line is the limit."),
    ("completions/clipped_ratio", "Cut off", "%", "Share of completions that reached the length limit."),
    ("entropy", "Entropy", "nats", "How undecided the policy is, a token. A fall to 0 means it stopped to explore."),
    ("kl", "KL from the start", "nats", "How far the policy has moved from the model it began as, a token."),
    ("mean_token_accuracy", "Token accuracy", "%", "Share of the demonstrations' tokens that the model predicts first."),
    ("learning_rate", "Learning rate", "", "Step size of the optimiser."),
    ("step_time", "Step time", "s", "Seconds a step took, evaluations left out."),
    ("grad_norm", "Gradient norm", "", "Length of the gradient before it is cut."),
    ("loss", "Loss", "", "In GRPO it stays near 0 and says little; the reward is what to watch."),
)  # fmt: skip
SFT_FIRST = ("loss", "mean_token_accuracy")
GRPO_ONLY = ("reward_std", "frac_reward_zero_std", "completions/mean_length", "completions/clipped_ratio", "kl")


def first(view: View) -> str:
    """The charts that matter most: what the rewards contribute; for supervised fine-tuning loss and token accuracy."""
    total = float(view.status.total)
    if view.stage == "sft":
        return f'<div class="charts">{"".join(_single(view, name, total, big=True) for name in SFT_FIRST)}</div>'
    return f'<div class="charts">{rewards(view, total)}{raw_means(view, total)}</div>'


def rest(view: View) -> str:
    """The small charts: held-out accuracy first, loss last."""
    total = float(view.status.total)
    left_out = {"mean_token_accuracy"} | (set() if _has_kl(view) else {"kl"})
    if view.stage == "sft":
        left_out = {*SFT_FIRST, *GRPO_ONLY}
    names = [name for name, *_ in SMALL if name not in left_out]
    small = "".join(_single(view, name, total) for name in names)
    return f'<div class="charts">{_held_out(view, total)}{small}</div>'


def rewards(view: View, total: float = 0.0) -> str:
    """The weighted contribution of each reward, stacked, with their sum as logged."""
    metrics = view.metrics
    parts = contributions(metrics, view.weights)
    width = _width(metrics)
    smooth = {name: running_mean(values, width) if width else values for name, values in parts.items()}
    bands = [Line(name, metrics.steps, smooth[name], kind) for name, kind in _kinds(view) if name in parts]
    most = sum(weight for name, weight in view.weights.items() if name in parts and weight > 0 and name != "length")
    limits = [Limit(f"most that can be earned ({most:g})", most)] if parts else []
    now = metrics.latest("reward")
    frame = Frame(
        "Reward: what each part contributes (mean × weight)",
        "The mean of every reward times its weight, stacked; the line is the reward as the trainer logged it.",
        last=total, low=0.0, high=most or None, big=True, shown=number(now) if now is not None else "",
    )  # fmt: skip
    return lines(frame, _smoothed("reward", metrics, "reward", 8), limits, bands)


def raw_means(view: View, total: float = 0.0) -> str:
    """The mean of each reward without its weight."""
    metrics = view.metrics
    curves: list[Line] = []
    for name, kind in _kinds(view):
        curves += _smoothed(name, metrics, f"rewards/{name}/mean", kind)
    why = "The mean of every reward as it is scored, before weights. A reward that does not apply has no line."
    return lines(Frame("Raw means", why, last=total, low=0.0, high=1.0, big=True, shown=" "), curves)


def overlay(this: View, other: View, names: tuple[str, str]) -> str:
    """The rewards and the held-out accuracy of two runs on the same axes."""
    both = ((names[0], this, 0), (names[1], other, 1))
    key, title = ("loss", "Loss") if "sft" in (this.stage, other.stage) else ("reward", "Reward")
    curves = [line for name, view, kind in both for line in _smoothed(name, view.metrics, key, kind)]
    right = [
        Line(name, np.array(view.evaluation_steps, float), np.array([each.value for each in accuracy(view)]), kind)
        for name, view, kind in both
        if view.evaluation_steps
    ]
    first = lines(Frame(f"{title} of both runs", low=0.0 if key == "reward" else None, big=True, shown=" "), curves)
    if not right:
        return f'<div class="charts">{first}</div>'
    held = Frame("Held-out cases: right and well-formed", unit="%", low=0.0, high=1.0, big=True, shown=" ")
    return f'<div class="charts">{first}{lines(held, right)}</div>'


def _held_out(view: View, total: float) -> str:
    if not view.evaluation_steps:
        return ""
    shares = accuracy(view)
    steps = np.array(view.evaluation_steps, float)
    low, high = (np.array([each.interval[end] for each in shares]) for end in (0, 1))
    limits = [Line("95 % interval", steps, low, 6), Line("", steps, high, 6)]
    why = "Share of the held-out cases answered right and well-formed, with its 95 % Wilson interval."
    frame = Frame("Held-out accuracy", why, "%", last=total, low=0.0, high=1.0)
    return lines(frame, [*limits, Line("accuracy", steps, np.array([each.value for each in shares]), 0)])


def _single(view: View, name: str, total: float, big: bool = False) -> str:
    _, title, unit, why = next(row for row in SMALL if row[0] == name)
    metrics = view.metrics
    limits = []
    longest = view.setting("grpo.max_completion_length")
    if name == "completions/mean_length" and isinstance(longest, int):
        limits = [Limit(f"limit {longest}", float(longest))]
    low = 0.0 if unit else None
    high = 1.0 if name in ("frac_reward_zero_std", "completions/clipped_ratio") else None
    why = why if view.stage == "grpo" or name != "loss" else "Cross-entropy of the demonstrations, a token."
    frame = Frame(title, why, unit, last=total, low=low, high=high, big=big)
    return lines(frame, _smoothed(title, metrics, name, 0), limits)


def _smoothed(title: str, metrics: Metrics, name: str, kind: int) -> list[Line]:
    """The values; from `SMOOTH` steps on thin behind their running mean over a thirtieth of the run."""
    values = metrics.column(name)
    if not metrics.has(name):
        return []
    width = _width(metrics)
    if not width:
        return [Line(title, metrics.steps, values, kind)]
    mean = running_mean(values, width)
    return [Line(title, metrics.steps, values, kind, quiet=True), Line(title, metrics.steps, mean, kind)]


def _width(metrics: Metrics) -> int:
    """Steps that a running mean takes in, 0 for a run so short that its values are drawn as they are."""
    return 0 if len(metrics) < SMOOTH else max(5, len(metrics) // 30)


def _kinds(view: View) -> Sequence[tuple[str, int]]:
    """Rewards of the run with their colours."""
    names = sorted(view.weights, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))
    return [(name, ORDER.index(name) if name in ORDER else place % 6) for place, name in enumerate(names)]


def _has_kl(view: View) -> bool:
    return view.metrics.has("kl") or bool(view.setting("grpo.beta", 0.0))
