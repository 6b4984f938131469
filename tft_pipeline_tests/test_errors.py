"""No error text may carry a secret."""

import pytest

from tft_pipeline.errors import PipelineError, StorageError, redacted


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
