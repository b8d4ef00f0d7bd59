"""The model card that travels with an adapter: use, limits, origin, curves and scores, filled from the run.

Everything in it comes from the run directory, so a run that watched no held-out cases says so, and what was not logged
has no picture. A card is public before its author thinks of it: paths of this machine are cut down to their last part.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from medgrpo import __version__
from medgrpo.data import FRAGMENTS, GENERATED, TRAIN_ONLY
from medgrpo.data.hub import find_adapter
from medgrpo.models import PROFILES
from medgrpo.safety import DISCLAIMER
from medgrpo.training import held_out
from medgrpo.training.config import RunConfig
from medgrpo.training.pictures import run_pictures
from medgrpo.training.run_directory import RunDirectory
from medgrpo.training.view import View

OWN_SOURCES = (*GENERATED, *TRAIN_ONLY)
CAUTION = (
    "The cases come from the same generator as the training cases unless their source says otherwise; nothing here shows "
    "that the model is fit for patients."
)
LICENCES: dict[str, dict[str, str]] = {
    "Apache-2.0": {"license": "apache-2.0"},
    "Qwen Research (non-commercial)": {
        "license": "other",
        "license_name": "qwen-research",
        "license_link": "https://huggingface.co/Qwen/Qwen2.5-3B-Instruct/blob/main/LICENSE",
    },
}
"""Licence of the base -> what the Hub's front matter calls it; an adapter is bound by the licence of its base."""


def write_card(run: RunDirectory, config: RunConfig, base: str, licence: str) -> None:
    """Write `adapter/README.md` and its pictures."""
    for name, content in card_files(run, config, base, licence).items():
        path = run.adapter / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")


def card_files(run: RunDirectory, config: RunConfig, base: str, licence: str) -> dict[str, str]:
    """The card and what it shows: path below the adapter -> text."""
    view = View(run)
    pictures = run_pictures(view.whole, view.weights)
    shown = [(title, f"pictures/{name}") for name, (title, _) in pictures.items()]
    drawn = {f"pictures/{name}": svg for name, (_, svg) in pictures.items()}
    return {"README.md": card(run, config, base, licence, shown), **drawn}


def card(
    run: RunDirectory, config: RunConfig, base: str, licence: str, pictures: Sequence[tuple[str, str]] = ()
) -> str:
    """The card's text: front matter of the Hub, then use, limits, data, training, curves, results, versions."""
    base = public(base)
    parts = (
        _front_matter(config, base, licence),
        _opening(config, base, licence),
        _use(config, base),
        _data(config),
        _training(run, config),
        "\n".join(["## Curves", "", *(f"![{title}]({path})\n" for title, path in pictures)]) if pictures else "",
        f"## Held-out cases, before and after\n\n{_results(run, config)}",
        _versions(run, config),
    )
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def licence_of(base: str) -> str:
    """Licence of a base model by its Hub id, "" if it is none of ours."""
    return next((profile.licence for profile in PROFILES.values() if profile.base == base), "")


def public(name: str) -> str:
    """A model, data source or adapter as others may read it: Hub ids and names stay, of a path only its end."""
    if is_hub_id(name) or "/" not in name.replace("\\", "/"):
        return name
    path = Path(name.replace("\\", "/"))
    return f"{path.parent.name}/adapter" if path.name == "adapter" and path.parent.name else path.name


def public_config(config: RunConfig) -> dict[str, Any]:
    """The configuration without paths of this machine."""
    values = config.as_mapping()
    values["model"], values["init_adapter"] = public(config.model), public(config.init_adapter)
    for section in ("data", "evaluation"):
        values[section] = {**values[section], "source": _sources(values[section]["source"])}
    return values


def is_hub_id(name: str) -> bool:
    """OWNER/NAME. A relative path may look alike, so what exists here is a path."""
    is_file = re.search(r"\.(csv|jsonl?|parquet|gguf|safetensors)$", name, re.IGNORECASE)
    plain = re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", name)
    return bool(plain) and not is_file and not name.endswith("/adapter") and not Path(name).exists()


def _sources(source: str) -> str:
    return "+".join(public(part.strip()) for part in source.split("+"))


def _front_matter(config: RunConfig, base: str, licence: str) -> str:
    values = {
        **({"base_model": base} if is_hub_id(base) else {}),
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        **LICENCES.get(licence, {}),
        "language": ["en"],
        "tags": ["lora", config.stage, "medgrpo", "medical", "education"],
    }
    return f"---\n{yaml.safe_dump(values, sort_keys=False)}---"


def _opening(config: RunConfig, base: str, licence: str) -> str:
    method = "GRPO" if config.stage == "grpo" else "supervised fine-tuning"
    bound = f" The base model's licence ({licence}) holds for it too." if licence else ""
    return (
        f"# MedGRPO adapter for {base}\n\n"
        f"A LoRA adapter that makes {base} answer a patient case as `<reasoning>` above `<answer>`, trained with "
        f"{method}.{bound}\n\n**{DISCLAIMER}**"
    )


def _use(config: RunConfig, base: str) -> str:
    profile = next((profile.name for profile in PROFILES.values() if profile.base == base), base)
    return f"""## Intended use

For teaching and studying how a small language model learns a form of answer and a way of reasoning. With MedGRPO:
`MEDGRPO_MODEL={profile} MEDGRPO_ADAPTER=<this repository> python app.py`. With PEFT:

```python
from peft import AutoPeftModelForCausalLM

model = AutoPeftModelForCausalLM.from_pretrained("<this repository>")
```

## Limits

- Not for diagnosis, treatment or triage, and not for data of real patients. It can be wrong while sounding sure.
- It was rewarded for reasons that quote the case; that is no proof of how an answer came about.
- It knows what its training cases cover and little beyond. Figures on cases of the same kind say nothing about patients.
- It was not tested for fairness between groups of patients, nor for languages other than English."""


def _data(config: RunConfig) -> str:
    lines = [f"- {_origin(part.strip())}" for part in config.data.source.split("+")]
    amount = f"{config.data.limit} cases" if config.data.limit else "all cases"
    return "\n".join(
        ["## Data", "", *lines, f"- Split `{config.data.split}`, {amount}, order from seed {config.seed}."]
    )


def _origin(source: str) -> str:
    if found := find_adapter(source):
        adapter = found[1]
        return f"[{adapter.repo}](https://huggingface.co/datasets/{adapter.repo}), revision `{adapter.revision}`"
    if source in OWN_SOURCES:
        left_out = ", with words left out" if source == FRAGMENTS else ""
        made = f"synthetic cases that MedGRPO {__version__} makes from its knowledge base{left_out}"
        return f"`{source}`: {made}; no patient data"
    return f"`{public(source)}`: a file of the author's, not published here"


def _training(run: RunDirectory, config: RunConfig) -> str:
    training, lora, grpo = config.training, config.lora, config.grpo
    together = training.per_device_train_batch_size * training.gradient_accumulation_steps
    unit = "completions" if config.stage == "grpo" else "demonstrations"
    start = f"goes on from the adapter `{public(config.init_adapter)}`" if config.init_adapter else "a new adapter"
    lines = [
        "## Training",
        "",
        f"- {config.stage.upper()} with TRL: {run.written_status().step} of {training.max_steps} steps of {together} {unit}",
        f"- LoRA r={lora.r}, alpha={lora.alpha}, on {lora.target_modules}; {start}",
        f"- Learning rate {training.learning_rate:g}, {training.lr_scheduler_type}; {config.precision}; seed {config.seed}",
    ]
    if config.stage == "grpo":
        lines += [
            f"- Groups of {grpo.num_generations}, at most {grpo.max_completion_length} tokens, temperature "
            f"{grpo.temperature:g}; loss {grpo.loss_type}, beta {grpo.beta:g}, advantages scaled by {grpo.scale_rewards}",
            "",
            f"Reward profile `{config.rewards.profile}`:",
            "",
            "| reward | weight |",
            "| --- | --- |",
            *(f"| {name} | {weight:g} |" for name, weight in View(run).weights.items()),
        ]
    lines += [f"\n> {note}" for note in run.written_status().notes if "/" not in note]
    return "\n".join(lines)


def _results(run: RunDirectory, config: RunConfig) -> str:
    """The first and the last measurement of the same cases, and how many of them changed."""
    view = View(run)
    steps = list(dict.fromkeys(view.evaluation_steps[:1] + view.evaluation_steps[-1:]))
    if not steps:
        return "No held-out cases were answered in this run."
    found = [held_out.answers(view, step) for step in steps]
    lines = [
        f"{len(found[-1])} cases of `{_sources(config.evaluation.source)}`, split `{config.evaluation.split}`, greedy "
        "decoding as the trainer measured it; 95 % Wilson intervals.",
        "",
        f"| | {' | '.join(f'step {step}' for step in steps)} |",
        f"| --- |{' --- |' * len(steps)}",
    ]
    for name, _, measure in held_out.MEASURES:
        lines.append(f"| {name} | {' | '.join(_share(held_out.share(answers, measure)) for answers in found)} |")
    return "\n".join([*lines, "", _changed(held_out.before_after(view)), "", CAUTION])


def _share(share: held_out.Share) -> str:
    low, high = share.interval
    return f"{share.value:.1%} ({low:.1%} to {high:.1%})" if share.of else "–"


def _changed(both: held_out.BeforeAfter | None) -> str:
    """How many cases became right and how many wrong, and the chance of that without a cause."""
    if both is None:
        return "There is no second measurement to compare with."
    chance = f" (exact McNemar test p = {both.p:.3g})" if both.won + both.lost else ""
    return f"Of {both.pairs} cases judged both times, {both.won} became right and {both.lost} became wrong{chance}."


def _versions(run: RunDirectory, config: RunConfig) -> str:
    """When and with what it was made, and the configuration that repeats it."""
    try:
        head = run.config_file.read_text(encoding="utf-8").splitlines()
    except OSError:
        head = []
    made = [line.removeprefix("#").strip() for line in head if line.startswith("#")]
    values = yaml.safe_dump(public_config(config), sort_keys=False, allow_unicode=True)
    return "\n".join(
        [
            "## Versions",
            "",
            f"MedGRPO {__version__}. {' '.join(made)}".strip(),
            "",
            "<details><summary>Configuration; paths of the author's machine are cut short</summary>",
            "",
            "```yaml",
            values.strip(),
            "```",
            "",
            "</details>",
        ]
    )
