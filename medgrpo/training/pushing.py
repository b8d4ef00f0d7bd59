"""`python -m medgrpo push RUN --to OWNER/NAME`: a run's adapter to the Hub.

There is no option for a token on purpose: argument lists are visible to every user of a machine. It comes from HF_TOKEN or
`hf auth login`.
"""

import argparse
import sys

from medgrpo.settings import Settings


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the verb."""
    verb = verbs.add_parser("push", help="publish a run's adapter with its model card on the Hub; private by default")
    verb.add_argument("run", help="id of a run, as `medgrpo runs` lists it")
    verb.add_argument("--to", required=True, metavar="OWNER/NAME", help="repository on the Hub; made if there is none")
    verb.add_argument("--public", action="store_true", help="for everyone to see (default: private)")
    verb.set_defaults(command=_push)


def _push(options: argparse.Namespace) -> int:
    from medgrpo.training.hub import Progress, find_token, push
    from medgrpo.training.manager import RunManager

    def say(progress: Progress) -> None:
        share = progress.done / progress.total if progress.total else 0.0
        print(f"{share:4.0%} {progress.says}", file=sys.stderr)

    run = RunManager(Settings.from_env().runs).directory(options.run)
    token = find_token(None, on_space=False)
    report = push(run, options.to, token=token, private=not options.public, on_progress=say)
    print(
        f"{report.url} ({'private' if report.private else 'public'}, {len(report.files)} files, {report.commit[:10]})"
    )
    return 0
