"""What the command line shows while it works: bars on a terminal, lines elsewhere, nothing for --json."""

import io
import os
import pty
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr

import pytest

from tft_pipeline.cli import _progress

Progress = Callable[[str, int, int], None]


class Terminal:
    """A real pseudo-terminal as standard error, and all that was written to it."""

    def __init__(self) -> None:
        self._ours, theirs = pty.openpty()
        self.file = os.fdopen(theirs, "w", encoding="utf-8")
        self._said = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                part = os.read(self._ours, 65536)
            except OSError:  # the other side was closed
                return
            self._said += part

    def text(self) -> str:
        """All of it, once nothing more can come; control sequences left out."""
        self.file.close()
        self._reader.join(10)
        os.close(self._ours)
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self._said.decode())


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    found = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    yield found
    found.file.close()


def work(progress: Progress) -> None:
    """An asset, its inner stage counted twice over, and the asset's end."""
    progress("tft_model", 0, 1)
    for _ in range(2):
        for epoch in range(4):
            progress("training", epoch, 3)
    progress("tft_model", 1, 1)


def test_a_terminal_shows_a_bar_for_each_stage_that_fills(terminal: Terminal) -> None:
    with redirect_stderr(terminal.file), _progress(quiet=False) as progress:
        work(progress)
    text = terminal.text()
    last = [line.rstrip() for line in re.split(r"[\r\n]+", text) if line.strip()][-3:]
    assert re.fullmatch(r"tft_model +━+ 1/1 \d:\d\d:\d\d", last[0]), text
    for line in last[1:]:  # a stage that begins again has a bar of its own
        assert re.fullmatch(r"training +━+ 3/3 \d:\d\d:\d\d", line), text


def test_a_stage_that_is_first_heard_of_halfway_has_a_bar_too(terminal: Terminal) -> None:
    with redirect_stderr(terminal.file), _progress(quiet=False) as progress:
        progress("scoring posts", 4096, 9000)
    assert re.search(r"scoring posts +━*[╸╺]?━+ +4096/9000", terminal.text())


def test_json_keeps_the_terminal_empty(terminal: Terminal) -> None:
    with redirect_stderr(terminal.file), _progress(quiet=True) as progress:
        work(progress)
    assert terminal.text() == ""


def test_elsewhere_a_line_says_what_began_and_how_far_it_is() -> None:
    file = io.StringIO()
    with redirect_stderr(file), _progress(quiet=False) as progress:
        progress("tft_model", 0, 1)
        progress("training", 2_000, 3_000)
        progress("tft_model", 1, 1)
    assert [line.split(" s  ")[1] for line in file.getvalue().splitlines()] == ["tft_model", "training 2,000/3,000"]


def test_elsewhere_five_hundred_steps_are_few_lines() -> None:
    file = io.StringIO()
    with redirect_stderr(file), _progress(quiet=False) as progress:
        for done in range(501):
            progress("tickers fetched", done, 500)
    said = [line.split(" s  ")[1] for line in file.getvalue().splitlines()]
    assert (said[0], said[-1]) == ("tickers fetched 0/500", "tickers fetched 500/500")
    assert len(said) < 10
