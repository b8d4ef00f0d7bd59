"""The page over scripted engines, as a process of its own: `python serve.py PORT [base-only|loading|down|MODEL]`.

A word in capitals in the question picks the scene, so that one server is enough for most tests.
"""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from medgrpo.engines.base import Health
from medgrpo.engines.fake import FakeEngine, Script
from medgrpo.errors import ModelError
from medgrpo.settings import Settings
from medgrpo.ui.desk import Desk
from medgrpo.ui.page import build_app, launch_options

REASONING = "\n".join(f"{n}. A finding of the case and what it means for the patient." for n in range(1, 9))
ATTACK = (
    "<script>window.__pwn=1</script> <img src=x onerror=window.__pwn=1> ![x](https://evil.example/x.png) "
    "<form action=https://evil.example><button>go</button></form> ${window.__pwn=1} {{value}} "
    "[link](javascript:window.__pwn=1) <iframe src=https://evil.example></iframe> \u202eabc"
)
SCENES = {
    "SHORT": ("Gout, perhaps.", "<reasoning>A red toe.</reasoning><answer>Gout. Next: aspirate.</answer>"),
    "LONG": ("word " * 900, f"<reasoning>{REASONING * 20}</reasoning><answer>Gout</answer>"),
    "CRASH": (
        "All is well here. " * 60,
        Script(f"<reasoning>{REASONING}", fail_after=40, error="The model broke: ask again."),
    ),
    "ATTACK": (ATTACK, f"<reasoning>{ATTACK}</reasoning><answer>{ATTACK}</answer></details></article>"),
    "BROKEN": ("</reasoning>late <answer>tail", "<reasoning>never closed " + "and on " * 20),
    "NOTHING": ("", ""),
}
DEFAULT = (
    "A rambling text without any form. " * 12,
    f"<reasoning>\n{REASONING}\n</reasoning>\n<answer>\nGout. Rest.\n</answer>",
)


def pick(side: int):
    def script(messages):
        asked = messages[-1]["content"]
        chosen = next((scene for word, scene in SCENES.items() if word in asked), DEFAULT)[side]
        return chosen if isinstance(chosen, Script) else Script(chosen)

    return script


def load(settings: Settings) -> FakeEngine:
    mode = settings.model
    if mode == "down":
        raise ModelError("The weights are not on this machine: run `make app`.")
    if mode == "loading":
        time.sleep(4)
    scripts = {"base": pick(0)} if mode == "base-only" else {"base": pick(0), "grpo": pick(1)}
    return FakeEngine(scripts, delay=0.02, state=Health("ready", "Ready."))


if __name__ == "__main__":
    chosen = Settings(engine="fake", model=sys.argv[2] if len(sys.argv) > 2 else "smollm2-135m")
    options = launch_options(chosen) | {"server_name": "127.0.0.1", "server_port": int(sys.argv[1])}
    build_app(chosen, Desk(chosen, load).open()).launch(**options)
