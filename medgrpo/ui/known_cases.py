"""Cases of a run's data source by id, read in the background: the reasons of recorded scores need their reference."""

import logging
import threading

from medgrpo.cases import Case
from medgrpo.data import load_cases
from medgrpo.errors import MedGRPOError

LOG = logging.getLogger(__name__)


class KnownCases:
    """Shared by all visitors. A source is read once; reading the casebook takes some seconds, so nobody waits for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._threads: dict[tuple[str, str], threading.Thread] = {}
        self._cases: dict[tuple[str, str], dict[str, Case]] = {}

    def find(self, source: str, split: str, case_id: str) -> tuple[Case | None, bool]:
        """The case with this id, None if there is none or the source is not read yet; and whether it is being read."""
        key = (source, split)
        with self._lock:
            if key in self._cases:
                return self._cases[key].get(case_id), False
            if key not in self._threads:
                self._threads[key] = threading.Thread(target=self._read, args=key, name="read-cases", daemon=True)
                self._threads[key].start()
        return None, True

    def _read(self, source: str, split: str) -> None:
        try:
            found = {case.id: case for case in load_cases(source, split)}
        except MedGRPOError as error:
            LOG.warning("No reasons for the scores of this run: %s", error)
            found = {}
        except Exception:
            LOG.exception("the cases of %s could not be read", source)
            found = {}
        with self._lock:
            self._cases[source, split] = found
