"""Every error this package raises on purpose.

Each message is a sentence with a remedy: what happened, with the value, and the command or setting that mends it.
Whoever shows an error to a person (page, command line, API) prints `str(error)` and no traceback.
"""


class MedGRPOError(Exception):
    """Base of all errors a person can mend; the command line ends with exit code 2 on one."""


class SettingsError(MedGRPOError):
    """An environment variable, option or configuration value that cannot be used."""


class CaseError(MedGRPOError):
    """A question typed by a person, or a case in a data file, that cannot be used."""


class DataError(MedGRPOError):
    """A data source that is missing, unreadable or has the wrong columns."""


class ModelError(MedGRPOError):
    """A model or adapter file that is missing, corrupt or made for another base model."""


class EngineError(MedGRPOError):
    """An engine that did not start, stopped answering, or refused a request."""


class RunError(MedGRPOError):
    """A training run that cannot be started, resumed, read or pushed."""
