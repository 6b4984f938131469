"""From followed to member: a ticker that was added counts and speaks as soon as its history is there, whoever loaded it.

Not before, and not by hand: what was issued while its history was missing would not be what is rebuilt once it is there.
"""

from datetime import timedelta

from tft_pipeline.contracts import FEATURES
from tft_pipeline.orchestration.rebuilding import encoder_days
from tft_pipeline.orchestration.resources import Pipeline
from tft_pipeline.storage.ledger import newest
from tft_pipeline.storage.read import read
from tft_pipeline.storage.universe import admit


def admit_ready(pipeline: Pipeline) -> tuple[str, ...]:
    """Make members, from now on, of those who wait and have features on the newest day that has any, and enough of them for a forecast.

    Returns who became one. Asks no more than one query where nobody waits.
    """
    now = pipeline.now()
    waiting = [one.ticker for one in pipeline.membership.intervals if one.followed(now) and one.member_from is None]
    last = newest(pipeline.database, FEATURES) if waiting else None
    if last is None:
        return ()
    since = last - timedelta(days=encoder_days(pipeline))
    held = read(
        pipeline.database, FEATURES, since, last + timedelta(microseconds=1), tickers=waiting, columns=["ticker", "bar_start"]
    )  # fmt: skip
    counts = held.groupby("ticker").size()
    enough = counts.index[counts >= pipeline.settings.training.encoder_bars]
    current = held.loc[held["bar_start"] >= last.replace(hour=0, minute=0, second=0, microsecond=0), "ticker"]
    ready = [ticker for ticker in waiting if ticker in set(enough) & set(current)]
    return admit(pipeline.database, ready, at=now) if ready else ()
