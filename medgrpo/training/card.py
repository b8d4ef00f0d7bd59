"""The model card that travels with an adapter: purpose, origin and scores, filled from the run."""

from medgrpo.safety import DISCLAIMER
from medgrpo.training.config import RunConfig
from medgrpo.training.run_directory import RunDirectory


def write_card(run: RunDirectory, config: RunConfig, base: str, licence: str) -> None:
    """Write `adapter/README.md`."""
    (run.adapter / "README.md").write_text(card(run, config, base, licence), encoding="utf-8")


def card(run: RunDirectory, config: RunConfig, base: str, licence: str) -> str:
    """The card's text: front matter of the Hub, then purpose, data, method, results and limits."""
    method = "GRPO" if config.stage == "grpo" else "supervised fine-tuning"
    start = f", continuing the adapter `{config.init_adapter}`" if config.init_adapter else ""
    rewards = f" Rewards: profile `{config.rewards.profile}`." if config.stage == "grpo" else ""
    return f"""---
base_model: {base}
library_name: peft
pipeline_tag: text-generation
tags: [lora, {config.stage}, medical, education]
---

# MedGRPO adapter for {base}

A LoRA adapter that makes the base model answer a patient case as `<reasoning>` above `<answer>`. It is made for
teaching how {method} works.

**{DISCLAIMER}**

- Base model: {base}{f" ({licence})" if licence else ""}
- Data: `{config.data.source}`, split `{config.data.split}`, seed {config.seed}
- Method: {method} with TRL, {run.written_status().step} steps, LoRA r={config.lora.r},
alpha={config.lora.alpha}{start}.{rewards}

## Held-out cases

{_results(run, config)}
Strict accuracy counts an answer that is right and well-formed. The cases come from the same generator as the training
cases unless their source says otherwise; nothing here shows that the model is fit for patients.
"""


def _results(run: RunDirectory, config: RunConfig) -> str:
    steps = run.evaluation_steps()
    if not steps:
        return "No held-out cases were answered in this run.\n"
    lines = [f"`{config.evaluation.source}`, split `{config.evaluation.split}`, greedy decoding.", ""]
    lines += ["| step | cases | strict accuracy | well-formed | cut off |", "| --- | --- | --- | --- | --- |"]
    for step in dict.fromkeys((steps[0], steps[-1])):
        found = run.evaluation(step)
        shares = " | ".join(f"{found[name]:.1%}" for name in ("accuracy", "format_rate", "truncated"))
        lines.append(f"| {step} | {found['cases']} | {shares} |")
    return "\n".join(lines) + "\n"
