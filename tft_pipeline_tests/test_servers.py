"""A program that this machine lacks is never passed over in silence, and in CI not at all."""

import pytest

from tft_pipeline_tests.servers import missing_tool


def test_a_missing_program_skips_with_its_reason_and_fails_where_it_is_required(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("TFT_REQUIRE_TOOLS", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no abacus"):
        missing_tool("no abacus")
    monkeypatch.setenv("TFT_REQUIRE_TOOLS", "1")
    with pytest.raises(pytest.fail.Exception, match="TFT_REQUIRE_TOOLS=1, but no abacus"):
        missing_tool("no abacus")
