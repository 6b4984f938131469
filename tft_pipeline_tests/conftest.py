"""Fixtures that every test folder may use."""

import os
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """`../shared`, where real bars and posts lie. Skips with a reason where it is missing; fails if TFT_REQUIRE_SHARED=1."""
    folder = CHECKOUT.parent / "shared"
    if folder.is_dir():
        return folder
    if os.environ.get("TFT_REQUIRE_SHARED") == "1":
        pytest.fail(f"TFT_REQUIRE_SHARED=1, but {folder} is missing")
    pytest.skip(f"{folder} with real bars and posts is missing")
