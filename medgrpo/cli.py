"""The command line: `python -m medgrpo ask | compare | score | audit | evaluate | train | runs | doctor`.

Results go to standard output, progress and errors to standard error. Exit code 0 is success, 1 a check that failed,
2 an error the person can mend (one sentence, no traceback).
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

from medgrpo import __version__
from medgrpo.answers import Answer, ask, compare
from medgrpo.cases import Case
from medgrpo.doctor import examine
from medgrpo.engines import Sampling, load_engine
from medgrpo.errors import DataError, MedGRPOError, SettingsError
from medgrpo.evaluation import ARMS
from medgrpo.safety import DISCLAIMER
from medgrpo.settings import QUOTES, Settings
from medgrpo.training import commands
from medgrpo.training.pushing import add as add_push

Command = Callable[[argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    options = parser().parse_args(arguments)
    command: Command = options.command
    try:
        return command(options)
    except MedGRPOError as error:
        print(f"medgrpo: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("medgrpo: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0


def parser() -> argparse.ArgumentParser:
    """The argument parser, with one sub-command a verb."""
    root = argparse.ArgumentParser(
        prog="medgrpo", description="Structured medical reasoning, learned by reward.", epilog=DISCLAIMER
    )
    root.add_argument("--version", action="version", version=f"medgrpo {__version__}")
    verbs = root.add_subparsers(required=True, metavar="COMMAND")

    one = verbs.add_parser("ask", help="answer one case with one model", epilog=DISCLAIMER)
    one.add_argument("--variant", choices=("base", "grpo"), help="which model; the GRPO model where there is one")
    _asking(one, _ask)
    _asking(
        verbs.add_parser("compare", help="answer one case with the base and the GRPO model", epilog=DISCLAIMER),
        _compare,
    )

    score = verbs.add_parser("score", help="show each reward of a completion, and why")
    score.add_argument("completion", help="the completion's text, or - to read it from standard input")
    score.add_argument("--case", required=True, help="id of a casebook case, such as casebook/test/000001")
    score.add_argument("--profile", default="medgrpo", help="reward profile (default medgrpo)")
    score.add_argument("--json", action="store_true", help="print a JSON record")
    score.set_defaults(command=_score)

    audit = verbs.add_parser("audit", help="attack the rewards with cheating completions; exit code 1 if one wins")
    audit.add_argument("--source", default="casebook", help="data source (default casebook)")
    audit.add_argument("--split", default="validation", help="split of the source (default validation)")
    audit.add_argument("--profile", default="medgrpo", help="reward profile (default medgrpo)")
    audit.add_argument("--limit", type=int, default=64, help="cases to attack (default 64)")
    audit.set_defaults(command=_audit)

    _add_evaluate(verbs)
    add_push(verbs)

    commands.add(verbs)
    doctor = verbs.add_parser("doctor", help="what machine, engine, model and adapter this is, and why")
    doctor.add_argument("--json", action="store_true", help="print a JSON record")
    doctor.set_defaults(command=_doctor)
    return root


def _add_evaluate(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    measure = verbs.add_parser("evaluate", help="answer and judge the cases of a split; goes on where it stopped")
    measure.add_argument("--out", required=True, type=Path, help="folder for the answers and the report")
    measure.add_argument("--source", default="casebook", help="data source (default casebook)")
    measure.add_argument("--split", default="test", help="split of the source, several joined by + (default test)")
    measure.add_argument("--limit", type=int, help="number of cases (default all)")
    measure.add_argument("--arms", default="base,grpo", help=f"comma-separated: {', '.join(ARMS)} (default base,grpo)")
    measure.add_argument("--model", help="profile or .gguf file, instead of MEDGRPO_MODEL")
    measure.add_argument("--adapter", help="adapter folder, .gguf file or Hub id, instead of MEDGRPO_ADAPTER")
    measure.add_argument("--name", default="GRPO", help="name of the adapter's arm in the report (default GRPO)")
    measure.add_argument(
        "--join", action="append", default=[], metavar="NAME=FOLDER", help="add an earlier arm to the report"
    )
    measure.add_argument("--baselines", action="store_true", help="add majority, keyword rule and TF-IDF to the report")
    measure.add_argument("--seeds", type=int, default=1, help="answers to each case (default 1)")
    measure.add_argument("--temperature", type=float, default=0.0, help="0 is greedy (default)")
    measure.add_argument("--top-p", type=float, default=1.0, help="nucleus share (default 1)")
    measure.add_argument("--seed", type=int, default=0, help="the first seed (default 0)")
    measure.add_argument("--shuffle", type=int, default=0, help="versions of a multiple-choice case with moved options")
    measure.add_argument(
        "--quotes", choices=QUOTES, default="free", help="exact holds them to the case, as the page does (llama.cpp)"
    )
    measure.add_argument("--workers", type=int, default=0, help="answers at the same time (default one a core)")
    measure.add_argument("--max-tokens", type=int, default=320, help="most new tokens (default 320)")
    measure.add_argument("--pack", type=Path, metavar="FOLDER", help="write the evaluation there too, as it is shipped")
    measure.set_defaults(command=_evaluate)


def _asking(verb: argparse.ArgumentParser, command: Command) -> None:
    verb.add_argument("question", help="the patient case, or - to read it from standard input")
    verb.add_argument("--json", action="store_true", help="print the answer record as JSON")
    verb.add_argument("--temperature", type=float, default=0.0, help="0 is greedy (default)")
    verb.add_argument("--top-p", type=float, default=1.0, help="nucleus share (default 1)")
    verb.add_argument("--max-tokens", type=int, default=320, help="most new tokens (default 320)")
    verb.add_argument("--seed", type=int, default=0, help="of the sampler (default 0)")
    verb.add_argument("--no-instructions", action="store_true", help="ask without the instructions on the form")
    verb.set_defaults(command=command)


def _sampling(options: argparse.Namespace) -> Sampling:
    if not 0 <= options.temperature <= 2:
        raise SettingsError(f"--temperature {options.temperature} is out of range: use 0 (greedy) to 2.")
    if not 0 < options.top_p <= 1:
        raise SettingsError(f"--top-p {options.top_p} is out of range: use more than 0, at most 1.")
    if not 1 <= options.max_tokens <= 2048:
        raise SettingsError(f"--max-tokens {options.max_tokens} is out of range: use 1 to 2048.")
    return Sampling(options.temperature, options.top_p, options.max_tokens, options.seed)


def _text(argument: str) -> str:
    return sys.stdin.read() if argument == "-" else argument


def _print_json(record: Any) -> None:
    print(json.dumps(record, indent=2, ensure_ascii=False))


def _ask(options: argparse.Namespace) -> int:
    sampling = _sampling(options)
    with closing(load_engine(Settings.from_env())) as engine:
        variant = options.variant or engine.variants[-1]
        answers = ask(engine, _text(options.question), variant, sampling, structured=not options.no_instructions)
        last = _follow(answers, sys.stderr if options.json else sys.stdout)
    if options.json:
        _print_json(last.record())
    else:
        print(f"\n\n{_footer(last)}\n{DISCLAIMER}")
    return 0


def _follow(answers: Any, out: TextIO) -> Answer:
    """Write the text as it comes; returns the finished answer."""
    last, written = None, 0
    for last in answers:
        if last.tokens == 0 and last.red_flags and not last.done:
            print("\n".join(f"! {flag}" for flag in last.red_flags), file=out)
        out.write(last.text[written:])
        out.flush()
        written = len(last.text)
    assert isinstance(last, Answer)
    return last


def _footer(answer: Answer) -> str:
    speed = answer.tokens / answer.seconds if answer.seconds else 0.0
    form = {"ok": "well-formed", "repaired": "repaired", "missing": "no structure"}[answer.sections.status]
    model = f"{answer.model} + {answer.adapter}" if answer.adapter else answer.model
    return f"[{answer.variant}: {model} · {form} · {answer.tokens} tokens · {speed:.0f} tokens/s]"


def _compare(options: argparse.Namespace) -> int:
    sampling = _sampling(options)
    with closing(load_engine(Settings.from_env())) as engine:
        if len(engine.variants) == 1:
            print(f"medgrpo: there is no adapter for {engine.model} yet; only the base model answers.", file=sys.stderr)
        structured = not options.no_instructions
        answers = compare(engine, _text(options.question), sampling=sampling, structured=structured)
    if options.json:
        _print_json([answer.record() for answer in answers])
        return 0
    for flag in answers[0].red_flags:
        print(f"! {flag}")
    for answer in answers:
        print(f"\n{_footer(answer)}\n{answer.text.strip()}")
    print(f"\n{DISCLAIMER}")
    return 0


def _case(name: str) -> Case:
    """The case with this id; ids begin with source and split."""
    from medgrpo.data import load_cases

    source, _, rest = name.partition("/")
    found = next((case for case in load_cases(source, rest.partition("/")[0]) if case.id == name), None)
    if found is None:
        raise DataError(f"There is no case {name!r}: ids look like casebook/test/note/000001.")
    return found


def _profile(name: str) -> str:
    from medgrpo.rewards import PROFILES

    if name not in PROFILES:
        raise SettingsError(f"There is no reward profile {name!r}: use {', '.join(PROFILES)}.")
    return name


def _score(options: argparse.Namespace) -> int:
    from medgrpo.rewards import explain, total

    scores = explain(_text(options.completion), _case(options.case), _profile(options.profile))
    if options.json:
        _print_json([{"name": s.name, "value": s.value, "weight": s.weight, "why": s.why} for s in scores])
        return 0
    for score in scores:
        value = "  none" if score.value is None else f"{score.value:6.3f}"
        print(f"{score.name:12} {value} × {score.weight:<5g} {score.why}")
    print(f"{'total':12} {total(scores) or 0.0:6.3f}")
    return 0


def _audit(options: argparse.Namespace) -> int:
    from medgrpo.data import load_cases, load_demonstrations
    from medgrpo.rewards.audit import audit_sources

    try:
        demonstrations = load_demonstrations(options.source, options.split, options.limit)
    except DataError:
        demonstrations = None
    cases = load_cases(options.source, options.split, options.limit)
    reports = audit_sources(cases, _profile(options.profile), demonstrations)
    print("\n\n".join(report.render() for report in reports))
    return 0 if all(report.passed for report in reports) else 1


def _evaluate(options: argparse.Namespace) -> int:
    from medgrpo.evaluation.arms import Plan, pack, run_plan
    from medgrpo.evaluation.workers import fingerprint, open_engine

    chosen = {name: value for name in ("model", "adapter") if (value := getattr(options, name)) is not None}
    settings = replace(Settings.from_env(), quotes=options.quotes, **chosen)
    arms = tuple(name.strip() for name in options.arms.split(",") if name.strip())
    plan = Plan(
        options.out,
        options.source,
        options.split,
        options.limit,
        arms,
        options.name,
        {name: Path(folder) for name, folder in (pair.partition("=")[::2] for pair in options.join)},
        options.baselines,
        _sampling(options),
        options.seeds,
        options.shuffle,
        fingerprint(settings) if "grpo" in arms else "",
    )
    evaluation = run_plan(plan, lambda variant: open_engine(settings, variant, options.workers))
    if options.pack:
        pack(evaluation, options.pack)
    print((options.out / "report.md").read_text(encoding="utf-8"))
    return 0


def _doctor(options: argparse.Namespace) -> int:
    findings = examine(Settings.from_env())
    if options.json:
        _print_json([vars(finding) for finding in findings])
    else:
        for finding in findings:
            print(f"{'ok ' if finding.good else '!! '} {finding.what:10} {finding.says}")
    return 0 if all(finding.good for finding in findings) else 1
