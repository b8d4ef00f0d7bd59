"""The About tab: what this is, how the adapter was trained, what it cannot do."""

from medgrpo.models import PROFILES
from medgrpo.safety import DISCLAIMER
from medgrpo.ui.desk import Desk

WHAT = """## What this is

MedGRPO shows what reinforcement learning from verifiable rewards does to a small language model. The **base model** is
the model as it was published. The **GRPO model** is the same model with a small adapter, trained to reason in one block
and answer in another, and rewarded when the answer is right. Both get the same case, at the same time, side by side.

GRPO (group relative policy optimisation) lets the model write several answers to one case, scores each with plain
functions (is the form kept, is the answer right, are the findings cited and rightly explained, is the next
step the one that belongs to it), and makes those better than their group's average more likely. No second model judges;
every point has a reason you can read under *Rewards*.
"""

LIMITS = """## Limits

- These are small models. They state wrong things fluently, and a well-formed answer is not a correct one.
- The adapter was trained on generated vignettes of 32 conditions. Rare or atypical cases are outside of it, and a case of one or
  two findings is often answered wrongly or declined: give the whole story.
- The reasoning is text that earned reward. It need not be why the model gave its answer.
- The emergency notice is a list of rules that looks at the case before any model. It misses many emergencies.

## Your text

Cases go to the model on the machine that serves this page and are kept in its memory while your tab is open. Nothing is
written to disk; copy and export happen in your browser. Don't enter anything that identifies a patient.
"""


def text(desk: Desk) -> str:
    """The tab as Markdown; the adapter's own model card is part of it where there is one."""
    return "\n\n".join((WHAT, "## How it was trained\n\n" + _training(desk), LIMITS, f"**{DISCLAIMER}**"))


def _training(desk: Desk) -> str:
    profile = PROFILES.get(desk.settings.model)
    if profile is None:
        return f"The model is {desk.title}; it has no card here."
    licence = f"Base model: {profile.title} ({profile.base}), licence {profile.licence}."
    card = profile.assets / "README.md"
    if not card.is_file():
        return f"{licence}\n\nThere is no adapter card for it yet. Train an adapter with `python -m train.grpo`."
    words = card.read_text(encoding="utf-8")
    if words.startswith("---"):
        words = words.partition("\n---\n")[2] or words
    lines = [line.replace("# ", "### ", 1) if line.startswith(("# ", "## ")) else line for line in words.splitlines()]
    return licence + "\n\n" + "\n".join(lines).strip()
