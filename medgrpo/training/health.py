"""What a run's metrics say about its health, in plain words with the remedy.

Every rule looks at the last `WINDOW` logged steps (a few of them compare with earlier ones), speaks only when it has
seen enough of them, and has its threshold written out beside it. The thresholds are warnings for a reader, not tests of
significance: they were set by judgement, and the shipped recordings raise nothing that
asks to act. A rule that needs a key the trainer did not log says nothing.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from medgrpo.training.curves import Metrics, Numbers, contributions, mean_of_last
from medgrpo.training.view import View

Level = Literal["bad", "warn", "info", "good"]

WINDOW, ENOUGH = 20, 5
"""Logged steps that are averaged, and the fewest that a rule speaks on."""
CUT_WARN, CUT_BAD = 0.25, 0.60
"""Share of completions that end at the length limit: a quarter already shifts what is learned, past 60 % little is."""
FLAT_WARN, FLAT_BAD = 0.50, 0.80
"""Share of groups without spread: from half of them on, most of the batch teaches nothing."""
FORM_LEARNED, STILL = 0.95, 0.03
"""Form counts as learned from this mean on; correctness as flat if it moved less than this over two windows."""
RIGHT_ENOUGH = 0.95
"""From this correctness on, standing still is success."""
ENTROPY_LEFT, ENTROPY_LEAST = 0.30, 0.03
"""Share of its first entropy, and nats a token, below which a policy has nearly stopped to explore."""
KL_FAR = 0.5
"""Nats a token away from the starting model: more than most GRPO reports reach with a reward that works."""
LONGER, SHORTER = 1.6, 0.5
"""Mean length against the first window: growth or shrinking beyond these is worth a look."""
FELL = 0.10
"""Share of the most that can be earned by which the reward fell from its best window."""
ONE_SIDED = 0.75
"""Share of the reward that comes from form alone (format and tags)."""
NO_GRADIENT = 1e-6
"""Gradient norm below which no weight moves."""
LOSS_ZERO = 0.05
ROSE = 1.5
"""Loss against its least window in supervised fine-tuning."""
SILENT = 90.0
"""Seconds without a heartbeat (written every 5) after which a living process is said to be silent."""


@dataclass(frozen=True)
class Finding:
    """One thing worth knowing: what is seen, with its numbers, and what to do about it ("" for nothing)."""

    key: str
    level: Level
    seen: str
    remedy: str = ""


Rule = Callable[[View, Metrics], Iterator[Finding]]


def findings(view: View, now: float | None = None) -> list[Finding]:
    """Everything the rules have to say, the worst first; one reassuring line if there is nothing.

    Args:
        now: seconds since 1970, for the heartbeat.
    """
    found = list(_silence(view, time.time() if now is None else now))
    metrics = view.metrics
    for rule in RULES if view.stage == "grpo" else SFT_RULES:
        found += rule(view, metrics)
    if len(metrics) < ENOUGH:
        early = f"{len(metrics)} logged steps so far; the rules speak from {ENOUGH} on."
        found.append(Finding("early", "info", early))
    elif not any(each.level in ("bad", "warn") for each in found):
        found.append(Finding("fine", "good", f"Nothing stands out in the last {min(WINDOW, len(metrics))} steps."))
    order: tuple[Level, ...] = ("bad", "warn", "good", "info")
    return sorted(found, key=lambda each: order.index(each.level))


def _last(metrics: Metrics, name: str) -> float | None:
    """Mean over the window, None before there is enough of it."""
    values = metrics.column(name)[-WINDOW:]
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) >= ENOUGH else None


def _first(metrics: Metrics, name: str) -> float | None:
    """Mean over the first window; None unless a whole second window has passed since, so that both are apart."""
    values = metrics.column(name)
    known = values[~np.isnan(values)]
    return float(known[:WINDOW].mean()) if len(known) >= 2 * WINDOW else None


def _silence(view: View, now: float) -> Iterator[Finding]:
    status = view.status
    if view.until is None and status.active and status.heartbeat and now - status.heartbeat > SILENT:
        minutes = (now - status.heartbeat) / 60
        yield Finding(
            "silent",
            "warn",
            f"The process lives, but has given no sign for {minutes:.0f} min.",
            "Look at the end of the log; if it hangs, cancel the run and resume it from its last checkpoint.",
        )


def _not_a_number(view: View, metrics: Metrics) -> Iterator[Finding]:
    loss = metrics.column("loss")
    lost = len(metrics) and "loss" in metrics.columns and bool(np.isnan(loss[-1])) and bool(np.isnan(loss[-3:]).all())
    if lost and metrics.has("loss"):
        yield Finding(
            "nan",
            "bad",
            "The loss is not a number any more.",
            "Stop the run; lower training.learning_rate or set precision: fp32, and resume from a checkpoint before it.",
        )


def _cut_off(view: View, metrics: Metrics) -> Iterator[Finding]:
    cut = _last(metrics, "completions/clipped_ratio")
    if cut is None or cut < CUT_WARN:
        return
    limit = view.setting("grpo.max_completion_length")
    at = f" at {limit} tokens" if limit else ""
    yield Finding(
        "cut",
        "bad" if cut >= CUT_BAD else "warn",
        f"{cut:.0%} of completions are cut{at}, so their answer is missing and earns nothing.",
        f"Raise grpo.max_completion_length{f' above {limit}' if limit else ''}, or warm up with shorter demonstrations.",
    )


def _no_spread(view: View, metrics: Metrics) -> Iterator[Finding]:
    flat = _last(metrics, "frac_reward_zero_std")
    if flat is None or flat < FLAT_WARN:
        return
    most = sum(weight for weight in view.weights.values() if weight > 0)
    reward = _last(metrics, "reward")
    easy = reward is not None and most > 0 and reward > 0.8 * most
    yield Finding(
        "spread",
        "bad" if flat >= FLAT_BAD else "warn",
        f"No spread in {flat:.0%} of groups: all their completions earn the same, so they teach nothing.",
        "The cases have become easy: give harder ones, or stop here."
        if easy
        else "Raise grpo.temperature or grpo.num_generations, or give more varied cases.",
    )


def _form_without_correctness(view: View, metrics: Metrics) -> Iterator[Finding]:
    form, now = _last(metrics, "rewards/format/mean"), _last(metrics, "rewards/correctness/mean")
    before = mean_of_last(metrics.column("rewards/correctness/mean"), WINDOW, skip=WINDOW)
    if form is None or now is None or before is None or len(metrics) < 2 * WINDOW:
        return
    if form >= FORM_LEARNED and now < RIGHT_ENOUGH and abs(now - before) < STILL:
        flat = _last(metrics, "frac_reward_zero_std")
        agree = f" {flat:.0%} of groups agree among themselves." if flat is not None and flat >= 0.3 else ""
        yield Finding(
            "form only",
            "warn" if now < 0.7 else "info",
            f"Form is learned ({form:.0%}). Correctness has been flat for {2 * WINDOW} steps ({now:.0%}).{agree}",
            "Try a higher temperature, more varied cases or a larger group; more of the same steps seldom help.",
        )


def _entropy(view: View, metrics: Metrics) -> Iterator[Finding]:
    now, first = _last(metrics, "entropy"), _first(metrics, "entropy")
    if now is None or not (now < ENTROPY_LEAST or (first is not None and now < ENTROPY_LEFT * first)):
        return
    fallen = f", down from {first:.2f}" if first is not None else ""
    yield Finding(
        "entropy",
        "warn",
        f"Entropy is {now:.3f} nats a token{fallen}: the policy writes nearly the same text every time.",
        "Raise grpo.temperature or grpo.epsilon_high, or lower training.learning_rate.",
    )


def _far_away(view: View, metrics: Metrics) -> Iterator[Finding]:
    kl = _last(metrics, "kl")
    if kl is not None and kl > KL_FAR:
        yield Finding(
            "kl",
            "warn",
            f"KL is {kl:.2f} nats a token: the policy has moved far from where it began.",
            "Lower training.learning_rate or raise grpo.beta; read some completions before you trust the reward.",
        )


def _length(view: View, metrics: Metrics) -> Iterator[Finding]:
    now, first = _last(metrics, "completions/mean_length"), _first(metrics, "completions/mean_length")
    if now is None or not first or SHORTER <= now / first <= LONGER:
        return
    word = "longer" if now > first else "shorter"
    yield Finding(
        "length",
        "warn",
        f"Completions have become {word}: {now:.0f} tokens, {first:.0f} in the first steps.",
        "Read some of them: a reward may pay for words."
        if now > first
        else "Read some of them: the reasoning may be vanishing; a reward for it keeps it.",
    )


def _fell(view: View, metrics: Metrics) -> Iterator[Finding]:
    values = metrics.column("reward")
    known = values[~np.isnan(values)]
    most = sum(weight for weight in view.weights.values() if weight > 0)
    if len(known) < 2 * WINDOW or most <= 0:
        return
    means = np.convolve(known, np.full(WINDOW, 1 / WINDOW), mode="valid")
    best, now = float(means.max()), float(means[-1])
    if best - now > FELL * most:
        at = metrics.steps[~np.isnan(values)][int(means.argmax()) + WINDOW - 1]
        yield Finding(
            "fell",
            "bad",
            f"The reward has fallen from {best:.2f} (around step {at:.0f}) to {now:.2f}.",
            "Stop and go on from a checkpoint near the best step with a lower training.learning_rate.",
        )


def _one_sided(view: View, metrics: Metrics) -> Iterator[Finding]:
    parts = {name: _window_mean(values) for name, values in contributions(metrics, view.weights).items()}
    positive = {name: value for name, value in parts.items() if value > 0}
    whole = sum(positive.values())
    form = sum(value for name, value in positive.items() if name in ("format", "tags"))
    if len(metrics) >= ENOUGH and whole > 0 and len(view.weights) > 2 and form / whole > ONE_SIDED:
        yield Finding(
            "one-sided",
            "warn",
            f"{form / whole:.0%} of the reward comes from form; the answers earn little.",
            "Early in a run that is usual. If it stays, give rewards.weights.correctness more, or warm up with SFT.",
        )


def _window_mean(values: Numbers) -> float:
    return float(values[-WINDOW:].mean()) if len(values) else 0.0


def _never_applied(view: View, metrics: Metrics) -> Iterator[Finding]:
    if len(metrics) < ENOUGH:
        return
    silent = [name for name in view.weights if not metrics.has(f"rewards/{name}/mean")]
    if silent and len(silent) < len(view.weights):
        yield Finding(
            "unused",
            "info",
            f"{', '.join(silent)} {'has' if len(silent) == 1 else 'have'} not applied to any case so far.",
            "Nothing to mend if the data has no such cases (numeric needs cases whose answer is a number).",
        )


def _no_gradient(view: View, metrics: Metrics) -> Iterator[Finding]:
    gradient = metrics.column("grad_norm")[-ENOUGH:]
    known = gradient[~np.isnan(gradient)]
    if len(known) >= ENOUGH and bool((known < NO_GRADIENT).all()):
        yield Finding(
            "gradient",
            "bad",
            f"The gradient has been 0 for {ENOUGH} steps: no weight moves.",
            "Look at the share of groups without spread and at the completions; the rewards must differ within a group.",
        )


def _loss_near_zero(view: View, metrics: Metrics) -> Iterator[Finding]:
    loss = _last(metrics, "loss")
    if loss is not None and abs(loss) < LOSS_ZERO:
        yield Finding("loss", "info", "A loss near 0 is normal in GRPO; the reward is what to watch.")


def _loss_rises(view: View, metrics: Metrics) -> Iterator[Finding]:
    values = metrics.column("loss")
    known = values[~np.isnan(values)]
    if len(known) < 2 * WINDOW:
        return
    means = np.convolve(known, np.full(WINDOW, 1 / WINDOW), mode="valid")
    least, now = float(means.min()), float(means[-1])
    if now > ROSE * least:
        yield Finding(
            "loss rises",
            "warn",
            f"The loss has risen from {least:.2f} to {now:.2f}.",
            "Lower training.learning_rate, or lengthen training.warmup_steps.",
        )


RULES: tuple[Rule, ...] = (
    _not_a_number, _no_gradient, _cut_off, _no_spread, _fell, _form_without_correctness, _entropy, _far_away, _length,
    _one_sided, _never_applied, _loss_near_zero,
)  # fmt: skip
SFT_RULES: tuple[Rule, ...] = (_not_a_number, _no_gradient, _loss_rises)
