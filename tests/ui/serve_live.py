"""The live view alone, as a process of its own: `python serve_live.py FOLDER`; every folder in FOLDER is a run.

The shipped recordings are there too. The run that is shown first is "mine", or the recording if there is none.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import gradio as gr

from medgrpo.errors import RunError
from medgrpo.settings import Settings
from medgrpo.training.run_directory import RunDirectory
from medgrpo.ui import recorded, train_live
from medgrpo.ui.page import launch_options


def build(folder: Path) -> gr.Blocks:
    runs = {path.name: RunDirectory(path) for path in sorted(folder.iterdir())} | recorded.recordings()

    def find(run_id: str) -> RunDirectory:
        if run_id not in runs:
            raise RunError(f"There is no run {run_id!r}: choose one from the list.")
        return runs[run_id]

    with (
        gr.Blocks(title="Live", analytics_enabled=False, fill_width=True) as demo,
        gr.Tabs(elem_id="tabs"),
        gr.Tab("Train"),
    ):
        first = "mine" if "mine" in runs else next(iter(recorded.recordings()))
        chosen = gr.Dropdown([*runs, "gone"], value=first, label="Run", elem_id="chosen")
        gr.Textbox(elem_id="case")  # the fixture that opens pages waits for it
        parts = train_live.layout()
        assert [getattr(parts, name) for name in parts.names] == parts.outputs[: len(parts.names)]
        assert set(train_live.PICKED) <= {*parts.names, "which"}
        train_live.wire(parts, chosen, find, gr.Timer(1.0), lambda: [(name, name) for name in runs])
    return demo


if __name__ == "__main__":
    options = launch_options(Settings()) | {"server_name": "127.0.0.1"}  # the port comes from GRADIO_SERVER_PORT
    build(Path(sys.argv[1])).launch(**options)
