"""`tft-pipeline universe`: who is followed, and the commands that change it."""

from typing import Annotated

import typer

from tft_pipeline.cli_options import AsJson, Home, Market, Posts, printed, settings_of

app = typer.Typer(no_args_is_help=True, help="Who is followed: list, add, remove. What is past stays as it was.")

Named = Annotated[list[str], typer.Argument(metavar="TICKER…", help="One or more, upper case.")]


@app.command("list")
def list_(market: Market = None, posts: Posts = None, home: Home = None, as_json: AsJson = False) -> None:
    """Who is followed since when, until when, and how many bars there are. Example: tft-pipeline universe list --json"""
    from tft_pipeline.orchestration.universe import listing

    printed(listing(settings_of(market, posts, home)), as_json, "universe")


@app.command()
def add(tickers: Named, market: Market = None, posts: Posts = None, home: Home = None, as_json: AsJson = False) -> None:
    """Fetch these from now on. They count and are forecast as soon as their history is there: what is printed loads it.

    Example: tft-pipeline universe add NVDA AMD
    """
    from tft_pipeline.orchestration.universe import add as follow

    printed(follow(settings_of(market, posts, home), tickers), as_json, "universe change")


@app.command()
def remove(
    tickers: Named, market: Market = None, posts: Posts = None, home: Home = None, as_json: AsJson = False
) -> None:
    """Fetch and forecast these no longer. No row of theirs is deleted. Example: tft-pipeline universe remove NVDA"""
    from tft_pipeline.orchestration.universe import remove as unfollow

    printed(unfollow(settings_of(market, posts, home), tickers), as_json, "universe change")
