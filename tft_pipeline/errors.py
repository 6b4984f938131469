"""Every error this package raises on purpose. Each message says what, where, and what to do about it."""

import errno
import re

_URL_SECRET = re.compile(r"(?P<head>[a-z][a-z0-9+.\-]*://[^\s:/@]*):(?P<secret>[^\s'\"<>]*)@", re.IGNORECASE)
_KEY_SECRET = re.compile(
    r"(?P<head>\b(?:(?:ssl)?password|passwd|secret|api_?key|token)\s*[=:]\s*)(?:'[^']*'|\"[^\"]*\"|[^\s&'\"]+)",
    re.IGNORECASE,
)


def redacted(text: str) -> str:
    """text without passwords: of URLs (postgresql://user:…@host) and of key=value pairs (password=…)."""
    text = _URL_SECRET.sub(r"\g<head>:***@", text)
    return _KEY_SECRET.sub(r"\g<head>***", text)


NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
_NO_HANDLES = {errno.EMFILE, errno.ENFILE}


def in_words(error: OSError) -> str:
    """What the operating system refused, as a sentence: file, reason, remedy."""
    path = error.filename if error.filename is not None else error.filename2
    reason = error.strerror or str(error) or type(error).__name__
    if error.errno in NO_ROOM:
        remedy = "Make room on that disk, or set TFT_HOME to a folder on another."
    elif error.errno in _NO_HANDLES:
        remedy = "Raise the limit of open files (ulimit -n), or end what else runs."
    elif path is not None:
        remedy = "Mend that path, or set TFT_HOME to a folder that you may write to."
    else:
        remedy = "Try again; `tft-pipeline doctor` looks at everything that can be wrong."
    shown = "" if path is None else f"{path.decode(errors='replace') if isinstance(path, bytes) else path}: "
    return redacted(f"{shown}{reason}. {remedy}")


class PipelineError(Exception):
    """Base of all. The text is redacted here, so no caller can forget it.

    transient: the same call may succeed in a while, with nothing changed by hand; whoever can wait should try again.
    """

    def __init__(self, message: str, *, transient: bool = False) -> None:
        super().__init__(redacted(message))
        self.transient = transient


class ConfigError(PipelineError):
    """A setting is missing or makes no sense."""


class ContractError(PipelineError):
    """A frame does not keep its table's contract."""


class SourceError(PipelineError):
    """The outside world gave something that cannot be used, or nothing."""


class StorageError(PipelineError):
    """PostgreSQL cannot be reached, or refuses a write."""


class StaleWriterError(StorageError):
    """A writer holds an older generation of a slice than the one in charge: its successor must not be overwritten."""


class LeakageError(PipelineError):
    """Something used data from after the moment it speaks about."""


class TrainingError(PipelineError):
    """A fit cannot begin, or ended in numbers that must not be used."""


class ArtifactError(PipelineError):
    """A stored model is damaged, unknown, or of another version."""
