"""The first cases of a data source exactly as the model will see them, before anything is trained.

Prompt and reference columns come from the functions that build the training set. Where the model's GGUF is on this
machine its own chat template lays the prompt out, special tokens included; else the messages are shown by their roles.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medgrpo.cases import Case
from medgrpo.data import load_cases, load_demonstrations
from medgrpo.engines.gguf_file import read_gguf
from medgrpo.errors import ModelError
from medgrpo.models import PROFILES, packaged_gguf
from medgrpo.prompts import Message
from medgrpo.training.config import RunConfig
from medgrpo.training.dataset import grpo_rows, sft_rows

SHOWN = 5


@dataclass(frozen=True)
class Seen:
    """One case of a preview.

    Attributes:
        case: with the reference that is never shown to the model.
        prompt: the text the model reads.
        completion: the demonstration to imitate; "" in GRPO.
        templated: the model's own chat template made `prompt`.
    """

    case: Case
    prompt: str
    completion: str
    templated: bool


def preview(config: RunConfig, count: int = SHOWN) -> list[Seen]:
    """The first cases that a run would draw.

    Raises:
        DataError: the source is missing or has no usable row in this split.
    """
    data, rows = config.data, []
    limit = min(count, data.limit) if data.limit else count
    template = chat_template(config.model)
    if config.stage == "sft":
        pairs = load_demonstrations(data.source, data.split, limit, config.seed)
        cases, rows = [case for case, _ in pairs], sft_rows(pairs)
    else:
        cases = load_cases(data.source, data.split, limit, config.seed)
        rows = grpo_rows(cases)
    return [_seen(case, row, template) for case, row in zip(cases, rows, strict=True)]


def _seen(case: Case, row: dict[str, Any], template: str) -> Seen:
    laid_out = render_template(template, row["prompt"]) if template else ""
    completion = row["completion"][0]["content"] if "completion" in row else ""
    return Seen(case, laid_out or by_role(row["prompt"]), completion, bool(laid_out))


def by_role(messages: Sequence[Message]) -> str:
    """Messages one below the other, each under the name of its role."""
    return "\n\n".join(f"[{message['role']}]\n{message['content']}" for message in messages)


def chat_template(model: str) -> str:
    """The Jinja template inside the model's GGUF; "" if the file is not on this machine."""
    profile = PROFILES.get(model)
    path = packaged_gguf(profile) if profile else Path(model).expanduser() if model.endswith(".gguf") else None
    if path is None or not path.is_file():
        return ""
    try:
        return str(read_gguf(path).metadata.get("tokenizer.chat_template", ""))
    except ModelError:
        return ""


def render_template(template: str, messages: Sequence[Message]) -> str:
    """A prompt as the tokenizer's `apply_chat_template` lays it out; "" if the template needs more than Jinja has.

    The template comes with a model file, so it runs in a sandbox.
    """
    from jinja2.exceptions import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    try:
        return environment.from_string(template).render(messages=list(messages), add_generation_prompt=True)
    except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError):
        return ""
