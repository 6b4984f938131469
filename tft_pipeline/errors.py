"""Every error this package raises on purpose. Each message says what, where, and what to do about it."""

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
