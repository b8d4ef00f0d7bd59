"""The one prompt builder: page, command line, training and evaluation ask every model in the same words.

The instructions name the form and nothing else: no list of conditions, no examples, so that what a tuned model does beyond
them was learned and not prompted. Earlier turns are given as answers only; old reasoning never enters a prompt.
"""

from collections.abc import Sequence

from medgrpo.parsing import neutralise_tags, parse

Message = dict[str, str]

SYSTEM_PROMPT = (
    "You are a medical education assistant. Read the patient case and answer in exactly this form:\n"
    "<reasoning>\n"
    "the findings that matter, quoted from the case, and what they mean\n"
    "</reasoning>\n"
    "<answer>\n"
    "the single most likely answer, then the next step\n"
    "</answer>"
)


def build_messages(question: str, history: Sequence[tuple[str, str]] = (), structured: bool = True) -> list[Message]:
    """Chat messages for one question.

    Args:
        question: the case as a person typed it or a data source gave it. Form tags inside it are made harmless.
        history: earlier (question, model text) pairs, oldest first; of each text only the answer section is sent.
        structured: with the instructions on the form; False leaves the system message out.

    Returns:
        `{"role", "content"}` dictionaries, the question last.
    """
    messages: list[Message] = [{"role": "system", "content": SYSTEM_PROMPT}] if structured else []
    for earlier, text in history:
        messages.append({"role": "user", "content": neutralise_tags(earlier)})
        messages.append({"role": "assistant", "content": parse(text).answer})
    messages.append({"role": "user", "content": neutralise_tags(question)})
    return messages
