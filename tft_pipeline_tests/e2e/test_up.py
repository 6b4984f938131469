"""`up` as its user meets it: the page in a real browser, then gone without a trace."""

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from tft_pipeline.orchestration.assets import ALL  # noqa: F401 - declares them
from tft_pipeline.orchestration.reporting import partitioned_assets
from tft_pipeline_tests.e2e.conftest import World
from tft_pipeline_tests.servers import missing_tool

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--window-size=2400,1300", "--virtual-time-budget=30000",
]  # fmt: skip


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Served:
    process: subprocess.Popen[str]
    port: int
    family: list[psutil.Process]

    def ask(self, query: str) -> dict[str, Any]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/graphql",
            json.dumps({"query": query}).encode(),
            {"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            content: dict[str, Any] = json.load(answer)
        return content["data"]


@pytest.fixture(scope="module")
def served(world: World) -> Iterator[Served]:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "tft_pipeline.cli", "up", "--port", str(port)], env=world.environment, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    said = ""
    assert process.stdout is not None
    while "ready" not in said:
        line = process.stdout.readline()
        if not line:
            pytest.fail(f"up ended early: {said}")
        said += line
    yield Served(process, port, psutil.Process(process.pid).children(recursive=True))
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        process.wait(150)
    process.stdout.close()


def dom(served: Served, path: str, folder: Path) -> str:
    """The page's document after its scripts ran."""
    if CHROMIUM is None:
        missing_tool("there is no Chromium on this machine: the page is not looked at")
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={folder}", "--dump-dom", f"http://127.0.0.1:{served.port}{path}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def test_the_graph_shows_every_stage_filled(served: Served, tmp_path: Path) -> None:
    page = dom(served, "/asset-groups/~/*?expandedGroups=", tmp_path)
    for group in (
        "market",
        "sentiment",
        "features",
        "training",
        "forecasts",
        "signals",
        "portfolio",
        "monitoring",
        "storage",
    ):
        assert re.search(rf">\s*{group}\s*<", page), f"group {group} is not on the page"


def test_every_asset_is_materialized_for_every_day_and_its_checks_passed(served: Served) -> None:
    nodes = served.ask(
        """{assetNodes {assetKey {path} groupName partitionStats {numPartitions numMaterialized numFailed}
            assetMaterializations(limit: 1) {runId} description owners {... on TeamAssetOwner {team}} kinds
            assetChecksOrError {... on AssetChecks {checks {name blocking executionForLatestMaterialization {status}}}}}}"""
    )["assetNodes"]
    unpartitioned = {node["assetKey"]["path"][-1]: node for node in nodes if node["partitionStats"] is None}
    assert set(unpartitioned) == {"partition_upkeep"}
    assert unpartitioned["partition_upkeep"]["assetMaterializations"]
    assert unpartitioned["partition_upkeep"]["description"]
    assert len(nodes) == 13 + len(unpartitioned)
    for node in nodes:
        name, stats = node["assetKey"]["path"][-1], node["partitionStats"]
        if name in unpartitioned:
            continue
        assert stats["numFailed"] == 0, name
        assert stats["numPartitions"] == stats["numMaterialized"], name
        assert node["description"], name
        assert "postgres" in node["kinds"], name
        checks = {check["name"]: check for check in node["assetChecksOrError"]["checks"]}
        assert checks["contract"]["blocking"], name
        assert checks["contract"]["executionForLatestMaterialization"]["status"] == "SUCCEEDED", name


def test_materializations_carry_their_figures_and_the_newest_a_picture(served: Served) -> None:
    query = """{assetOrError(assetKey: {path: ["%s"]}) {... on Asset {assetMaterializations(limit: 400)
               {runId partition metadataEntries {label __typename ... on MarkdownMetadataEntry {mdStr} ... on FloatMetadataEntry {floatValue}}}}}}"""
    for asset in partitioned_assets():
        found = [
            {entry["label"]: entry for entry in one["metadataEntries"]}
            for one in served.ask(query % asset)["assetOrError"]["assetMaterializations"]
        ]
        for entries in found:
            assert {"rows", "ticker_coverage", "quality", "seconds", "peak_memory_mib"} <= entries.keys(), asset
        judged = any("floatValue" in entries["quality"] for entries in found)
        # The others run before any judgement, and the model's day may be a Sunday.
        assert judged or asset not in ("bar_quality", "features_hourly", "forecasts", "trading_signals", "portfolio"), (
            asset
        )
    for asset in ("forecasts", "portfolio"):
        found = served.ask(query % asset)["assetOrError"]["assetMaterializations"]
        pictured = [m for m in found if any(entry["label"] == "picture" for entry in m["metadataEntries"])]
        assert max(m["partition"] for m in found) in {m["partition"] for m in pictured}
        assert len({m["runId"] for m in pictured}) == len(pictured), (
            "a run attaches its picture once, not to each of its days"
        )


def test_the_schedule_and_the_sensor_are_on(served: Served) -> None:
    repositories = served.ask(
        """{repositoriesOrError {... on RepositoryConnection {nodes {
            schedules {name scheduleState {status}} sensors {name sensorState {status}}}}}}"""
    )["repositoriesOrError"]["nodes"]
    states = {
        item["name"]: item.get("scheduleState", item.get("sensorState"))["status"]
        for r in repositories
        for item in (*r["schedules"], *r["sensors"])
    }
    assert states["hourly_refresh"] == "RUNNING"
    assert states["daily_upkeep"] == "RUNNING"
    assert states["drift_sensor"] == "RUNNING"


def test_a_second_up_is_refused_with_the_first_ones_process(served: Served, world: World) -> None:
    found = world.run("up", check=False)
    assert found.returncode == 1
    assert f"is already up (process {served.process.pid})" in " ".join(found.stderr.split())


def test_whatever_is_killed_comes_back(served: Served, world: World) -> None:
    services = [process for process in served.family if "postgres" not in process.name()]
    assert len(services) == 3
    for process in services:
        process.kill()
    deadline = time.monotonic() + 90
    while True:
        try:
            answer = served.ask(
                """{repositoriesOrError {... on RepositoryConnection {nodes {name}}}
                    instance {daemonHealth {allDaemonStatuses {daemonType healthy}}}}"""
            )
            if answer["repositoriesOrError"].get("nodes"):
                break
        except OSError:
            pass  # the page is not back yet
        assert time.monotonic() < deadline, "they did not come back within 90 s"
        time.sleep(0.5)
    log = (world.home / "up.log").read_text()
    for name in ("code server", "web page", "daemon"):
        assert re.search(rf"the {name} \(process \d+\) ended with status -9 .* started again in 0 s", log), name
    served.family = psutil.Process(served.process.pid).children(recursive=True)


def test_it_stops_all_that_it_started(served: Served, world: World) -> None:
    started = [p for p in served.family if p.is_running()]
    assert started
    assert world.run("down").stdout.strip() == "stopped"
    served.process.wait(150)
    deadline = time.monotonic() + 20
    while any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in started) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert [p for p in started if p.is_running() and p.status() != psutil.STATUS_ZOMBIE] == []
    assert not (world.home / "postgres" / "postmaster.pid").exists()
    assert world.run("down").stdout.strip() == "nothing was up"
