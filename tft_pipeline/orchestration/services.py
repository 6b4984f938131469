"""The three processes that `up` keeps alive, and how to ask whether they are ready.

Not `dagster dev`: it never starts a killed code server again, and goes down itself when the daemon does.
"""

import json
import os
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tft_pipeline.config import Settings

HOST = "127.0.0.1"
LOCATION = "tft_pipeline"
LONGEST_SOCKET = 103  # bytes; macOS allows 103, Linux 107
# For each of Dagster's three storages the page keeps one connection and opens so many more under load; by itself 20, hence 63 in all.
# Every other process opens one for a question and closes it again.
PAGE_OVERFLOW = 4


@contextmanager
def code_socket(settings: Settings) -> Iterator[Path]:
    """Where the code server listens: the same path each time, or where that is too long for a socket, one of our own elsewhere."""
    path = settings.dagster_home / "code.sock"
    if len(os.fsencode(path)) <= LONGEST_SOCKET:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="tft-") as folder:
        yield Path(folder) / "code.sock"


def workspace_file(settings: Settings, socket_path: Path) -> Path:
    """A workspace file that names the code server which is already running."""
    file = settings.dagster_home / "workspace.yaml"
    server = {"grpc_server": {"socket": str(socket_path), "location_name": LOCATION}}
    file.write_text(json.dumps({"load_from": [server]}))  # JSON is YAML
    return file


def code_server(socket_path: Path) -> list[str]:
    return [
        sys.executable, "-m", "dagster", "api", "grpc", "--socket", str(socket_path), "--module-name", "tft_pipeline.orchestration.definitions",
        "--location-name", LOCATION, "--empty-working-directory", "--use-python-environment-entry-point", "--log-level", "warning",
    ]  # fmt: skip


def web_page(port: int, workspace: Path) -> list[str]:
    return [
        sys.executable, "-m", "dagster_webserver", "--workspace", str(workspace), "--host", HOST, "--port", str(port),
        "--dagster-log-level", "warning", "--log-level", "warning", "--live-data-poll-rate", "2000",
        "--db-pool-max-overflow", str(PAGE_OVERFLOW),
    ]  # fmt: skip


def daemon(workspace: Path) -> list[str]:
    return [sys.executable, "-m", "dagster._daemon", "run", "--workspace", str(workspace), "--log-level", "warning"]


def answers(socket_path: Path) -> bool:
    from dagster._core.errors import DagsterUserCodeUnreachableError
    from dagster._grpc.client import DagsterGrpcClient

    try:
        DagsterGrpcClient(socket=str(socket_path)).ping("")
    except DagsterUserCodeUnreachableError:
        return False
    return True


def serves(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}/server_info", timeout=2):
            return True
    except (urllib.error.URLError, OSError):
        return False
