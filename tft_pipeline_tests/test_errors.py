"""No error text may carry a secret."""

import errno

import pytest

from tft_pipeline.errors import PipelineError, StorageError, in_words, redacted


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://tft:hunter2@db/x", "postgresql://tft:***@db/x"),
        ("host=db password=hunter2 dbname=x", "host=db password=*** dbname=x"),
        ("password='two words' x", "password=*** x"),
        ("url?apiKey=hunter2&b=1", "url?apiKey=***&b=1"),
        ("postgresql://postgres@/db?host=/tmp", "postgresql://postgres@/db?host=/tmp"),
    ],
)
def test_passwords_and_keys_are_not_shown(text: str, shown: str) -> None:
    assert redacted(text) == shown
    assert str(StorageError(text)) == shown


def test_every_error_of_ours_can_be_caught_as_one() -> None:
    with pytest.raises(PipelineError):
        raise StorageError("the server is away; start it")


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            FileNotFoundError(errno.ENOENT, "No such file or directory", "/data/x"),
            "/data/x: No such file or directory. Mend that path, or set TFT_HOME to a folder that you may write to.",
        ),
        (
            OSError(errno.ENOSPC, "No space left on device", b"/data/x"),
            "/data/x: No space left on device. Make room on that disk, or set TFT_HOME to a folder on another.",
        ),
        (
            OSError(errno.EMFILE, "Too many open files"),
            "Too many open files. Raise the limit of open files (ulimit -n), or end what else runs.",
        ),
        (
            TimeoutError(),
            "TimeoutError. Try again; `tft-pipeline doctor` looks at everything that can be wrong.",
        ),
    ],
    ids=["missing", "disk full", "too many files", "nothing said"],
)
def test_what_the_system_refuses_is_said_with_its_path_and_a_remedy(error: OSError, sentence: str) -> None:
    assert in_words(error) == sentence
