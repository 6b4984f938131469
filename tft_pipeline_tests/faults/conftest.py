"""The small world with a nursery in it, made once for all that kills something in it."""

from collections.abc import Iterator

import pytest

from tft_pipeline.storage.embedded import EmbeddedServer
from tft_pipeline_tests.faults import kills
from tft_pipeline_tests.faults.nursery import Nursery


@pytest.fixture(scope="session")
def filled() -> Iterator[tuple[EmbeddedServer, Nursery]]:
    with kills.world() as prepared:
        yield prepared
