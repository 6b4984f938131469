"""Reports as a person wants to read them."""

from typing import Any

from rich.console import Console
from rich.table import Table

_console = Console(highlight=False)


def show(kind: str, report: dict[str, Any]) -> None:
    {"demo": _demo, "forecast": _forecast, "doctor": _doctor, "migrate": _migrate, "run": _run}[kind](report)


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


def _doctor(report: dict[str, Any]) -> None:
    for finding in report["findings"]:
        mark = "[green]✓[/]" if finding["well"] else "[bold red]✗[/]"
        _console.print(f"{mark} [bold]{finding['subject']}[/] {finding['sentence']}")
    _console.print(
        "\n[bold green]all is well[/]" if report["healthy"] else "\n[bold red]not all is well[/]: see ✗ above"
    )


def _migrate(report: dict[str, Any]) -> None:
    _console.print(f"up to date: {', '.join(report['migrations'])}")


def _run(report: dict[str, Any]) -> None:
    written = {name: count for name, count in report["rows_written"].items() if count}
    _console.print(f"{report['job']} from {report['from']} to {report['to']}: run {report['run_id']}")
    _console.print(
        "rows written: "
        + (", ".join(f"{name} {count:,}" for name, count in written.items()) or "none, all was there already")
    )
