"""A process with everything imported and nothing running, that forks a child for each order: a kill costs milliseconds, not imports.

Orders come as lines of JSON on standard input, answers go out the same way. Started by `Nursery`; never imported by tests itself.
"""

import gc
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]


class Nursery:
    """The other end."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def order(self, what: str, **how: Any) -> dict[str, Any]:
        """{killed: bool, status: int, said: [...]} once the child has ended. kill_after: seconds from its first word to SIGKILL."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"what": what, **how}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the nursery died with {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def nursery(home: Path) -> Iterator[Nursery]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("TFT_", "DAGSTER_"))}
    with (home / "nursery.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tft_pipeline_tests.faults.nursery", str(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
            text=True, cwd=CHECKOUT, env={**environment, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        try:
            yield Nursery(process)
        finally:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.close()
            process.wait(60)
            process.stdout.close()


def serve(home: Path) -> None:
    from tft_pipeline_tests.faults import children

    children.warm(home)
    gc.collect()
    gc.freeze()  # else each child's first full collection copies every page that it looks at
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever prints, prints to the log
    for line in sys.stdin:
        order = json.loads(line)
        kill_after = order.pop("kill_after", None)
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            status = 1
            try:
                children.obey(order, os.fdopen(writing, "w", buffering=1))
                status = 0
            except BaseException:
                import traceback

                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(status)
        os.close(writing)
        with os.fdopen(reading) as words:
            said = []
            if kill_after is not None:
                said.append(words.readline())
                time.sleep(kill_after)
                os.kill(pid, signal.SIGKILL)
            said.extend(words)
        _, status = os.waitpid(pid, 0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        answer = {
            "killed": killed,
            "status": status,
            "said": [json.loads(word) for word in said if word.endswith("\n")],
        }
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
