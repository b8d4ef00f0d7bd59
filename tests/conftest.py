"""Which tests one worker of pytest-xdist takes together (`-n 2 --dist loadfile`): those of a file, which share its fixtures.

The files that read the whole training data of the casebook count as one: making it takes most of a minute, once a process.
"""

from typing import Any

import pytest

CASEBOOK = {
    "tests/data/test_casebook.py",
    "tests/data/test_document.py",
    "tests/data/test_fragments.py",
    "tests/data/test_sources.py",
    "tests/evaluation/test_arms.py",
    "tests/rewards/test_sources.py",
    "tests/training/test_preflight.py",
}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from xdist.scheduler import LoadScopeScheduling

    class Together(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return "casebook" if file in CASEBOOK else file

    return Together(config, log) if config.getoption("dist") == "loadfile" else None
