"""Reports as a person wants to read them."""

from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table

_console = Console(highlight=False)


def show(kind: str, report: dict[str, Any]) -> None:
    {
        "demo": _demo,
        "forecast": _forecast,
        "doctor": _doctor,
        "migrate": _migrate,
        "replay": _replay,
        "run": _run,
        "quarantine": _quarantine,
        "universe": _universe,
        "universe change": _universe_change,
    }[kind](report)


def _demo(report: dict[str, Any]) -> None:
    history, seconds = report["history"], report["seconds"]
    source = (
        "a SIMULATED market: nothing here is real"
        if report["simulated"]
        else f"{report['market']}, posts {report['posts']}"
    )
    _console.print(f"\n[bold]{source}[/]")
    _console.print(
        f"history {history['from']} … {history['to']}, model trained with what was known at the end of {history['trained_as_of']}\n"
    )
    rows = Table("table", "rows", "written now", title="Rows in PostgreSQL", title_justify="left")
    for name, count in report["rows"].items():
        rows.add_row(name, f"{count:,}", f"{report['rows_written'].get(name, 0):,}")
    _console.print(rows)
    _skill(report["forecast"])
    _decisions(report["decisions"])
    _portfolio(report["portfolio"])
    _console.print(
        f"\n{seconds['total']:.0f} s in all, of these {seconds.get('tft_model', 0):.0f} s training; "
        f"{report['peak_memory_bytes'] / 2**20:,.0f} MiB at the most."
    )
    _console.print("Next: [bold]make up[/] (or tft-pipeline up), then open [bold]http://127.0.0.1:3000/asset-groups[/]")


def _skill(forecast: dict[str, Any]) -> None:
    if not forecast.get("n"):
        _console.print("\nNo forecast has matured yet.")
        return
    verdict = "better than" if forecast["skill"] > 0 else "no better than"
    _console.print(
        f"\n[bold]Forecast skill {forecast['skill']:+.2%}[/]: {verdict} the naive baseline "
        f"(pinball {forecast['pinball']:.6f} against {forecast['baseline_pinball']:.6f}, {forecast['n']:,} forecasts never trained on). "
        f"The 80 % band covered {forecast['coverage_80']:.1%}."
    )


def _decisions(decisions: list[dict[str, Any]]) -> None:
    if not decisions:
        return
    table = Table(
        "ticker",
        "action",
        "weight",
        "confidence",
        "why",
        title=f"\nDecisions at {decisions[0]['issued_at']}",
        title_justify="left",
    )
    for row in decisions:
        colour = {"BUY": "green", "SELL": "red"}.get(row["action"], "default")
        table.add_row(
            row["ticker"],
            f"[{colour}]{row['action']}[/]",
            f"{row['weight']:+.1%}",
            f"{row['confidence']:.0%}",
            row["reason"],
        )
    _console.print(table)


def _portfolio(portfolio: dict[str, Any]) -> None:
    if not portfolio:
        return
    _console.print(
        f"\n[bold]Portfolio {portfolio['equity_usd']:,.2f} USD[/] ({portfolio['return']:+.2%} after {portfolio['costs_usd']:,.2f} USD of costs, "
        f"{portfolio['trades']:,} trades, deepest drawdown {portfolio['max_drawdown']:.2%})"
    )


def _forecast(report: dict[str, Any]) -> None:
    if report["simulated"]:
        _console.print("[bold]SIMULATED market[/]")
    issued = sorted({row["issued_at"] for row in report["forecasts"]})
    title = f"Forecasts issued {', '.join(issued)}, and what was decided"
    table = Table("ticker", "hours", "P10", "P50", "P90", "action", "why", title=title, title_justify="left")
    for row in report["forecasts"]:
        for step in row["quantiles"]:
            last = step is row["quantiles"][-1]
            table.add_row(
                row["ticker"], str(step["horizon_hours"]), f"{step['p10']:+.2%}", f"{step['p50']:+.2%}", f"{step['p90']:+.2%}",
                row["action"] if last else "", row["reason"] if last else "", end_section=last,
            )  # fmt: skip
    _console.print(table)


def _replay(report: dict[str, Any]) -> None:
    if report["simulated"]:
        _console.print("[bold]SIMULATED market[/]")
    rows = Table(
        "model",
        "what",
        "issued then",
        "rebuilt now",
        "",
        title=f"Issued at {report['issued_at']}",
        title_justify="left",
    )
    for issue in report["issues"]:
        for what in ("features", "forecast"):
            part = issue[what]
            rows.add_row(
                issue["model_id"], what, part["issued"][:10], part["rebuilt"][:10],
                "[green]equal[/]" if part["equal"] else "[bold red]different[/]", end_section=what == "forecast",
            )  # fmt: skip
    _console.print(rows)
    arrived = {name: count for name, count in report["arrived_since"].items() if count}
    since = ", ".join(f"{name} {count:,}" for name, count in arrived.items()) or "nothing"
    _console.print(f"Came or was corrected since, about the time before: {since}.")
    if report["equal"]:
        _console.print("[bold green]equal[/]: features and forecasts are what was issued then, hash for hash")
        return
    for issue in report["issues"]:
        versions = issue["code_version"]
        if not issue["equal"] and versions["issued"] != versions["rebuilt"]:
            _console.print(
                f"{issue['model_id']}: issued by version {versions['issued']}, rebuilt by {versions['rebuilt']}"
            )
    for sentence in dict.fromkeys(_differences(report)):
        _console.print(sentence)
    for sentence in report["damaged"]:
        _console.print(f"changed behind the writer's back: {sentence}")
    _console.print("[bold red]different[/]: what is rebuilt is not what was issued then")


def _differences(report: dict[str, Any]) -> Iterator[str]:
    for issue in report["issues"]:
        for part in (issue["features"], issue["forecast"]):
            if part["equal"]:
                continue
            first = part["difference"]
            if first is None:
                yield f"what differs cannot be named: {part['why_not_named']}"
                continue
            places = {"table", "column", "issued", "rebuilt"}
            where = ", ".join(f"{name} {value}" for name, value in first.items() if name not in places)
            what = f"{first['column']} was {first['issued']!r} and is {first['rebuilt']!r}"
            if first["column"] is None:
                what = f"issued was {first['issued']}, rebuilt is {first['rebuilt']}"
            yield f"{first['table']}: {where}: {what}"


def _doctor(report: dict[str, Any]) -> None:
    for finding in report["findings"]:
        mark = "[green]✓[/]" if finding["well"] else "[bold red]✗[/]"
        sentence = finding["sentence"].replace("\n", "\n    ")
        _console.print(f"{mark} [bold]{finding['subject']}[/] {sentence}")
    _console.print(
        "\n[bold green]all is well[/]" if report["healthy"] else "\n[bold red]not all is well[/]: see ✗ above"
    )


def _quarantine(report: dict[str, Any]) -> None:
    if not report["rules"]:
        _console.print("nothing was refused")
        return
    rules = Table("table", "reason", "rows", "tickers", "first", "last", title="Refused, by rule", title_justify="left")
    for rule in report["rules"]:
        rules.add_row(*(f"{value:,}" if isinstance(value, int) else str(value) for value in rule.values()))
    _console.print(rules)
    rows = Table(
        "day",
        "table",
        "ticker",
        "reason",
        "row, as it came",
        title=f"The newest {len(report['rows'])}",
        title_justify="left",
    )
    for row in report["rows"]:
        came = ", ".join(f"{name} {value}" for name, value in row["row"].items())
        rows.add_row(str(row["day"]), row["table"], row["ticker"] or "", row["reason"], came)
    _console.print(rows)


def _migrate(report: dict[str, Any]) -> None:
    _console.print(f"up to date: {', '.join(report['migrations'])}")


def _run(report: dict[str, Any]) -> None:
    written = {name: count for name, count in report["rows_written"].items() if count}
    _console.print(f"{report['job']} from {report['from']} to {report['to']}: run {report['run_id']}")
    _console.print(
        "rows written: "
        + (", ".join(f"{name} {count:,}" for name, count in written.items()) or "none, all was there already")
    )
    for ticker in report.get("waiting", []):
        _console.print(
            f"{ticker} does not count yet, and is not forecast: its history has to reach the newest day with features, without a gap before."
        )


def _universe(report: dict[str, Any]) -> None:
    if report["simulated"]:
        _console.print("[bold]SIMULATED market[/]")
    title = f"The universe, by {report['decided_by']}"
    table = Table("ticker", "state", "added", "counts from", "removed", "bars", "first bar", "last bar", title=title, title_justify="left")  # fmt: skip
    for row in report["tickers"]:
        moments = {
            name: (row[name] or "")[:16].replace("T", " ") for name in row if name.endswith(("_at", "_from", "_bar"))
        }
        colour = {"member": "green", "waiting": "yellow"}.get(row["state"], "default")
        table.add_row(
            row["ticker"], f"[{colour}]{row['state']}[/]", moments["added_at"], moments["member_from"], moments["removed_at"], f"{row['bars']:,}",
            moments["first_bar"], moments["last_bar"],
        )  # fmt: skip
    _console.print(table)
    if report["note"]:
        _console.print(report["note"])


def _universe_change(report: dict[str, Any]) -> None:
    done, already = (", ".join(report[name]) for name in ("done", "already"))
    adding = report["change"] == "add"
    if done:
        _console.print(
            f"{done}: {'followed from now on' if adding else 'followed no longer; no row of the past is deleted'}"
        )
    if already:
        _console.print(f"{already}: {'followed already' if adding else 'was removed before'}")
    if report.get("next"):
        _console.print("Nothing counts and nothing is forecast before its history is there. Load it now:")
        _console.print(f"  [bold]{report['next']}[/]", soft_wrap=True)
    for ticker, shares in report.get("shares", {}).items():
        _console.print(
            f"the portfolio holds {shares:,} shares of {ticker}: nothing sells them, and they stay marked at their last price"
        )
    if report["note"]:
        _console.print(report["note"])
