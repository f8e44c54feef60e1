"""Everything agentwatch raises on purpose.

AgentwatchError
├── UsageError            wrong arguments                         exit code 2
├── SettingsError         a setting is unknown, wrong or unsafe    exit code 2
├── UnknownNameError      what was asked for by name is not there   exit code 1
├── AlreadyRunningError   another daemon holds the state directory exit code 1
├── ModelError            the language model has not answered      exit code 1
└── StorageError          the disk said no where nothing may go on exit code 1

A log file's faults are never raised: they are counted (`model.Fault`) and reading goes on.
"""


class AgentwatchError(Exception):
    """What went wrong, in one line that names the thing; `hint` is the one next step, if there is one."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(AgentwatchError):
    """The command was called in a way that cannot be carried out."""

    exit_code = 2


class SettingsError(AgentwatchError):
    """A setting is unknown, cannot be understood, or stands where it may not."""

    exit_code = 2


class UnknownNameError(AgentwatchError):
    """What was asked for by its name is not there, or is not the only one of that name."""


class AlreadyRunningError(AgentwatchError):
    """Another daemon owns this log directory."""


class StorageError(AgentwatchError):
    """A file that must be written or read cannot be."""


class ModelError(AgentwatchError):
    """The language model has not answered, or not to the end. `is_free`: the request was refused or never arrived, so that nothing was spent."""

    def __init__(self, message: str, *, is_free: bool = False) -> None:
        super().__init__(message)
        self.is_free = is_free
