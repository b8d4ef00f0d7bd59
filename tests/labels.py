"""The names of the conditions as a pattern: no text of the casebook may contain one."""

import re
from collections.abc import Sequence

from medgrpo.data.knowledge import Condition


def label_pattern(conditions: Sequence[Condition]) -> re.Pattern[str]:
    """Matches any name or alias of any condition as whole words; short capital abbreviations only in capitals."""
    labels = sorted({label for c in conditions for label in (c.name, *c.aliases)}, key=lambda s: (-len(s), s))
    parts = [
        re.escape(label) if len(label) <= 5 and label.isupper() else f"(?i:{re.escape(label)})" for label in labels
    ]
    return re.compile(r"(?<!\w)(?:" + "|".join(parts) + r")s?(?!\w)")
