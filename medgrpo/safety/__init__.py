"""What stands before and beside every model: the disclaimer, emergencies, identifiers, and a clean question.

Plain rules, no model: they run before an answer is asked for, never look at one, and can only escalate or warn.
They are written to speak up too often rather than too seldom, and prove nothing by staying silent.
"""

from medgrpo.safety.identifiers import identifiers
from medgrpo.safety.question import LONGEST, clean_question
from medgrpo.safety.red_flags import RedFlag, red_flags

__all__ = ["DISCLAIMER", "LONGEST", "RedFlag", "clean_question", "identifiers", "red_flags"]

DISCLAIMER = (
    "Educational software, not a medical device: its answers may be wrong and must not be used for the diagnosis, "
    "treatment or care of any person."
)
