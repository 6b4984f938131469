"""What counts as memory in use, and that a watch forgets no peak and carries none over."""

import time

import psutil
import psycopg
import pytest

from tft_pipeline.orchestration.memory import MemoryWatch, of_this_command, of_this_process
from tft_pipeline.storage.embedded import EmbeddedServer

MIB = 2**20


def test_a_peak_in_between_is_seen_and_the_next_watch_does_not_repeat_it() -> None:
    with MemoryWatch(of_this_process, every_seconds=0.01) as large:
        block = bytearray(200 * MIB)
        block[::4096] = b"x" * len(block[::4096])  # pages that nobody touched take no memory
        time.sleep(0.1)
        del block
    with MemoryWatch(of_this_process, every_seconds=0.01) as small:
        time.sleep(0.05)
    assert large.peak_mib - small.peak_mib > 150
    assert small.peak_mib == pytest.approx(of_this_process() / MIB, abs=30)


def test_a_watch_ends_with_its_block_even_when_that_raises() -> None:
    asked = []
    with pytest.raises(ValueError, match="on the way"), MemoryWatch(lambda: asked.append(1) or 7, 0.01) as watch:
        raise ValueError("on the way")
    n = len(asked)
    time.sleep(0.05)
    assert (len(asked), watch.peak_bytes) == (n, 7)


def test_postgresql_and_its_backends_are_in_the_sum_and_shared_buffers_once(postgres_server: EmbeddedServer) -> None:
    home, dsn = postgres_server.data.parent, postgres_server.dsn("tft_template")
    with psycopg.connect(dsn, autocommit=True) as one, psycopg.connect(dsn, autocommit=True) as two:
        one.execute("CREATE TABLE public.pages AS SELECT repeat('x', 1000) AS text FROM generate_series(1, 28000)")
        try:
            for connection in (one, two):
                connection.execute("SELECT count(text) FROM public.pages")  # both map the same 32 MB of buffers
            tree = [psutil.Process(postgres_server.pid), *psutil.Process(postgres_server.pid).children(recursive=True)]
            resident = {process.pid: process.memory_info().rss for process in tree}
            of_server = of_this_command(home) - of_this_command(None)
        finally:
            one.execute("DROP TABLE public.pages")
    assert max(resident.values()) < of_server < sum(resident.values()) - 25 * MIB, resident
