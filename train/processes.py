"""One run in several processes, as `accelerate launch` starts them: all compute, the first one writes.

Whatever could differ between them (the clock, whether a file is there yet, who got a signal) is taken from the first
one and told to the others: otherwise one stops and the rest wait for it. Alone, each function does nothing and loads
no torch.
"""

import os
import socket
import sys
from collections.abc import Callable, Mapping
from typing import TypeVar, cast

T = TypeVar("T")
R = TypeVar("R")
LAUNCHERS = (
    "ACCELERATE_", "TORCHELASTIC_", "RANK", "LOCAL_RANK", "GROUP_RANK", "ROLE_", "WORLD_SIZE", "LOCAL_WORLD_SIZE",
    "GROUP_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "OMP_NUM_THREADS", "FORK_LAUNCHED",
)  # fmt: skip


def count() -> int:
    """Processes that work on this run."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Whether this process is the one that writes."""
    return os.environ.get("RANK", "0") == "0"


def take_port() -> None:
    """Choose a free port for the process group that vLLM opens even in a single process, unless a launcher has.

    TRL takes 29500 if nobody listens there yet, and so does a run that starts at the same moment: one of them fails.
    """
    if "MASTER_PORT" not in os.environ:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            os.environ["MASTER_PORT"] = str(probe.getsockname()[1])


def told_by_first(value: T) -> T:
    """`value` of the first process, in every process. All of them have to call it."""
    if count() == 1:
        return value
    from accelerate.utils import broadcast_object_list

    _state()
    return cast(T, broadcast_object_list([value])[0])


def shared_out(items: list[T], work: Callable[[list[T]], list[R]]) -> list[R]:
    """What `work` makes of `items`, each process doing an equal part; all get everything, in order."""
    if count() == 1:
        return work(items)
    from accelerate.utils import gather_object

    state = _state()
    part = -(-len(items) // count())
    padded = items + items[-1:] * (part * count() - len(items))
    done = work(padded[state.process_index * part : (state.process_index + 1) * part])
    return cast(list[R], gather_object(done)[: len(items)])


def leave() -> None:
    """Leave the group of processes after a good end; alone, nothing happens.

    One of several does not return: threads that torch leaves behind abort the interpreter's own end now and then
    (SIGABRT), and the launcher would call a finished run failed.
    """
    if count() > 1:
        _state().destroy_process_group()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def without_launcher(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment for another run's process, without the place that a launcher gave this one."""
    if "WORLD_SIZE" not in environ:
        return dict(environ)
    return {name: value for name, value in environ.items() if not name.startswith(LAUNCHERS)}


def _state():  # type: ignore[no-untyped-def]  # accelerate is only there where something is trained
    """The group, and this process's device chosen in it; made at the first call."""
    import torch
    from accelerate import PartialState

    return PartialState(cpu=not torch.cuda.is_available())
