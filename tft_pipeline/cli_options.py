"""What commands share: the options that choose a market and a home, and how a report is printed."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from tft_pipeline import config
from tft_pipeline.config import Settings

Market = Annotated[
    str | None,
    typer.Option(help="simulated | files:FOLDER | yahoo | massive. Default: the last one chosen, else simulated."),
]
Posts = Annotated[
    str | None,
    typer.Option(help="simulated | files:FOLDER | reddit | none. Default: as the market, where it has posts."),
]
Home = Annotated[Path | None, typer.Option(help="Where all state lies. Default: TFT_HOME, else .tft in the checkout.")]
Tickers = Annotated[str | None, typer.Option(help="Comma-separated; default: all that the source offers.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on standard output, and nothing else.")]


def settings_of(market: str | None, posts: str | None, home: Path | None, tickers: str | None = None) -> Settings:
    """Settings with the command line on top. Posts follow the market where they are not named."""
    if market is not None and posts is None:
        posts = "simulated" if market == "simulated" else "none"
    chosen = tuple(t.strip() for t in tickers.split(",") if t.strip()) if tickers else None
    return config.load(market=market, posts=posts, home=home, tickers=chosen)


def printed(report: dict[str, Any], as_json: bool, kind: str) -> None:
    """The report on standard output: as one JSON object, or as `printing` shows this kind."""
    if as_json:
        sys.stdout.write(json.dumps(report, default=str, allow_nan=False) + "\n")
        return
    from tft_pipeline import printing

    printing.show(kind, report)
