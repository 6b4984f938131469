"""The command line: every command works on the market that the last `demo` or `--market` chose, under one home."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tft_pipeline import __version__, config
from tft_pipeline.cli_options import AsJson, Home, Market, Posts, Tickers
from tft_pipeline.cli_options import printed as _print
from tft_pipeline.cli_options import settings_of as _settings
from tft_pipeline.cli_universe import app as universe
from tft_pipeline.config import Settings
from tft_pipeline.errors import ConfigError, PipelineError, in_words

LINE_SECONDS = 5.0  # between two lines about one stage, where no bar can be shown
INTERRUPTED = 128 + 2  # as shells tell who was ended by SIGINT

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)

app.add_typer(universe, name="universe")


def main() -> None:
    """Run the command line; what went wrong becomes one message on standard error and exit status 1."""
    try:
        app()
    except (PipelineError, OSError) as error:
        Console(stderr=True, highlight=False).print(f"[bold red]error[/] {type(error).__name__}: ", end="")
        sys.stderr.write(f"{in_words(error) if isinstance(error, OSError) else error}\n")
        sys.exit(1)
    except SystemExit as ended:
        if ended.code == INTERRUPTED:  # typer has caught ctrl-c, and says nothing
            sys.stderr.write("interrupted; what was committed stays, and the same command goes on from there\n")
        raise


@app.callback(invoke_without_command=True)
def version(shown: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if shown:
        typer.echo(__version__)
        raise typer.Exit


@app.command()
def demo(
    market: Market = None,
    posts: Posts = None,
    tickers: Tickers = None,
    home: Home = None,
    again: Annotated[bool, typer.Option("--again", help="Train even if this very model is already stored.")] = False,
    as_json: AsJson = False,
) -> None:
    """The whole pipeline: bars and posts in, a model trained, decisions and a portfolio out.

    Example: tft-pipeline demo --market files:FOLDER --posts files:FOLDER --json
    """
    from tft_pipeline.orchestration.demo import demo as run_demo

    # Without a word about the market, the demo is the simulated one, whatever was looked at last.
    settings = _settings(market or "simulated", posts, home, tickers)
    with _progress(quiet=as_json) as progress:
        report = run_demo(settings, again=again, progress=progress)
    _print(report, as_json, "demo")


@app.command()
def up(
    market: Market = None,
    posts: Posts = None,
    home: Home = None,
    port: Annotated[int, typer.Option(min=1024, max=65535, help="Of the web UI.")] = 3000,
) -> None:
    """PostgreSQL, Dagster's UI and its daemon on 127.0.0.1, until ctrl-c. Example: tft-pipeline up --port 3001"""
    from tft_pipeline.orchestration.settling import settle
    from tft_pipeline.orchestration.up import refuse_if_up
    from tft_pipeline.orchestration.up import up as serve

    settings = settle(_settings(market, posts, home))
    refuse_if_up(settings)
    settings.remember()
    console = Console(highlight=False)
    console.print(f"starting PostgreSQL and Dagster for [bold]{_shown(settings)}[/] …")
    serve(
        settings, port=port,
        on_ready=lambda url: console.print(f"[bold green]ready[/] {url}/asset-groups   (ctrl-c stops all of it; log: {settings.home / 'up.log'})"),
    )  # fmt: skip
    console.print("stopped")


@app.command()
def down(home: Home = None) -> None:
    """Stop what `up` started from another terminal. Example: tft-pipeline down"""
    from tft_pipeline.orchestration.up import down as stop

    typer.echo("stopped" if stop(_settings(None, None, home)) else "nothing was up")


@app.command()
def migrate(market: Market = None, posts: Posts = None, home: Home = None, as_json: AsJson = False) -> None:
    """Bring the database's tables up to date; running it again changes nothing. Example: tft-pipeline migrate"""
    from tft_pipeline.storage.migrate import applied
    from tft_pipeline.storage.opening import open_database

    with open_database(_settings(market, posts, home)) as database:
        names = applied(database)
    _print({"migrations": names}, as_json, "migrate")


@app.command()
def backfill(
    first: Annotated[datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="First day, UTC.")],
    last: Annotated[datetime, typer.Option("--to", formats=["%Y-%m-%d"], help="Last day, UTC, included.")],
    ticker: Annotated[
        list[str] | None,
        typer.Option(help="The history of this one only: no other ticker's row is written. May be given again."),
    ] = None,
    market: Market = None,
    posts: Posts = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Refresh every asset but the model over a range of days, in one run; of single tickers, bars, moods and features.

    Example: tft-pipeline backfill --from 2026-01-05 --to 2026-01-09 --ticker NVDA
    """
    if first > last:
        raise ConfigError(f"--from {first:%Y-%m-%d} is after --to {last:%Y-%m-%d}; swap them.")
    _launch(_settings(market, posts, home), "refresh", first.date(), last.date(), as_json, tickers=ticker or ())


@app.command()
def train(
    as_of: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%d"],
            help="Train with what was known at the end of this day. Default: yesterday, or the last day of the files.",
        ),
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Even if this very model is already stored.")] = False,
    max_epochs: Annotated[int | None, typer.Option(min=1)] = None,
    seed: Annotated[int | None, typer.Option(min=0)] = None,
    market: Market = None,
    posts: Posts = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Train a model as of the end of a day. Example: tft-pipeline train --as-of 2026-01-09 --max-epochs 5"""
    settings = _settings(market, posts, home)
    yesterday = config.today() - timedelta(days=1)
    day = as_of.date() if as_of else min(yesterday, settings.end or yesterday)
    chosen = {"again": again, "max_epochs": max_epochs, "seed": seed}
    given = {name: value for name, value in chosen.items() if value is not None}
    _launch(settings, "retrain", day, day, as_json, run_config={"ops": {"tft_model": {"config": given}}})


@app.command()
def forecast(
    ticker: Annotated[str | None, typer.Option(help="Only this one.")] = None,
    market: Market = None,
    posts: Posts = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Forecast from the newest bars with the newest model, and print P10, P50 and P90 with the decision.

    Example: tft-pipeline forecast --ticker AAPL --json
    """
    from tft_pipeline.orchestration.newest import newest_forecasts

    settings = _settings(market, posts, home)
    with _progress(quiet=as_json) as progress:
        report = newest_forecasts(settings, ticker=ticker, progress=progress)
    _print(report, as_json, "forecast")


@app.command()
def replay(
    as_of: Annotated[str, typer.Option(help="A moment with its zone, such as 2016-01-04T15:00Z.")],
    market: Market = None,
    posts: Posts = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Rebuild the newest forecasts of a past moment from raw data as of then, and say whether they equal what was issued, hash for hash.

    Exit status 0: equal, 1: different. Writes no row. Example: tft-pipeline replay --as-of 2016-01-04T15:00Z
    """
    from tft_pipeline.orchestration.replay import refuse_no_moment
    from tft_pipeline.orchestration.replay import replay as rebuild

    try:
        moment = datetime.fromisoformat(as_of)
    except ValueError:
        raise ConfigError(f"--as-of {as_of!r} is no moment; write it as 2016-01-04T15:00Z.") from None
    refuse_no_moment(moment)
    with _progress(quiet=as_json) as progress:
        report = rebuild(_settings(market, posts, home), moment, progress=progress)
    _print(report, as_json, "replay")
    if not report["equal"]:
        raise typer.Exit(1)


@app.command()
def doctor(
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="Make Dagster's record say what PostgreSQL holds. Missing and untrue events are written anew from the ledger. Events of days "
            "without rows are deleted from Dagster's event log, for Dagster cannot wipe single days, and an observation says so. Runs that "
            "are in progress for longer than a run may take, or whose command line was killed, are ended. No row of the pipeline's own tables is changed.",
        ),
    ] = False,
    deep: Annotated[
        bool,
        typer.Option(
            "--deep",
            help="Read every row too, and hold each slice's content hash against the ledger. Slow on years of many tickers.",
        ),
    ] = False,
    network: Annotated[
        bool, typer.Option("--network", help="Ask each configured source for one ticker or subreddit, for real.")
    ] = False,
    market: Market = None,
    posts: Posts = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Look at everything that can be wrong, and say in a sentence what is. Example: tft-pipeline doctor --json"""
    from tft_pipeline.orchestration.doctor import examine

    findings = examine(_settings(market, posts, home), mending=repair, deep=deep, network=network)
    report = {"healthy": all(f.well for f in findings), "findings": [f.as_dict() for f in findings]}
    _print(report, as_json, "doctor")
    if not report["healthy"]:
        raise typer.Exit(1)


@app.command()
def quarantine(
    table: Annotated[str | None, typer.Option(help="Only this table, such as market.bars.")] = None,
    ticker: Annotated[str | None, typer.Option(help="Only this one.")] = None,
    first: Annotated[datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="First day, UTC.")] = None,
    last: Annotated[datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="Last day, UTC.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="The newest so many rows.")] = 20,
    market: Market = None,
    posts: Posts = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """What was refused and why: counted by rule, and the newest rows as they came. Example: tft-pipeline quarantine --ticker AAPL"""
    from tft_pipeline.orchestration.refusals import refusals

    days = [moment and moment.date() for moment in (first, last)]
    _print(refusals(_settings(market, posts, home), table, ticker, *days, limit=limit), as_json, "quarantine")


def _launch(
    settings: Settings, job: str, first: date, last: date, as_json: bool, run_config: dict[str, Any] | None = None,
    tickers: Sequence[str] = (),
) -> None:  # fmt: skip
    from tft_pipeline.orchestration.ranges import run_range

    with _progress(quiet=as_json) as progress:
        report = run_range(settings, job, first, last, run_config=run_config, progress=progress, tickers=tickers)
    _print(report, as_json, "run")


def _shown(settings: Settings) -> str:
    return f"{settings.market} (simulated data)" if settings.simulated else settings.market


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """A bar per stage on standard error; none for --json or where nobody can see it move."""
    from tft_pipeline.orchestration.resources import no_progress

    console = Console(stderr=True)
    if quiet:
        yield no_progress
        return
    if not console.is_terminal:
        began, printed = datetime.now(UTC), dict[str, float]()

        def line(stage: str, done: int, total: int) -> None:
            seconds = (datetime.now(UTC) - began).total_seconds()
            due = seconds - printed.get(stage, -LINE_SECONDS) >= LINE_SECONDS
            if done == 0 or (total > 1 and (done == total or due)):
                printed[stage] = seconds
                console.print(
                    f"{seconds:6.1f} s  {stage}" + (f" {done:,}/{total:,}" if total > 1 else ""), highlight=False
                )

        yield line
        return
    columns = (TextColumn("{task.description:24}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bars:
        tasks: dict[str, Any] = {}

        def bar(stage: str, done: int, total: int) -> None:
            if stage not in tasks or done == 0:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield bar


if __name__ == "__main__":
    main()
