"""The HTTP session that yfinance is given: it judges every chart answer before yfinance can misread it.

yfinance spends seven requests on one 429, and reads HTML as "possibly delisted" (FAULTS 17-20). Here a bad answer raises at the first
response, with its own reason.
"""

import json
import threading
from typing import Any
from urllib.parse import urlsplit

from curl_cffi import CurlOpt
from curl_cffi.requests import Response, Session

from tft_pipeline.sources._patience import retry_after_seconds

CHART_PATH = "/v8/finance/chart/"
MAX_ANSWER_BYTES = 32 * 2**20  # two years of hourly bars take about 1 MiB


class YahooTroubleError(Exception):
    """A chart request gave no usable answer."""


class RefusedError(YahooTroubleError):
    """Yahoo answered that it has no such thing: asking again does not help."""


class UnusableError(YahooTroubleError):
    """An outage, a torn or a foreign answer: the next attempt may fare better."""


class RateLimitedError(YahooTroubleError):
    """HTTP 429: nothing more may be asked for a while."""

    def __init__(self, retry_after: float) -> None:
        super().__init__("Yahoo answers 429, too many requests")
        self.retry_after_seconds = retry_after


class ChartSession(Session[Response]):
    """A curl_cffi session that remembers `chart`, each thread's last answer of the chart API."""

    def __init__(self) -> None:
        # yfinance's own choice of browser, and a limit that curl keeps while it receives. Each thread has a connection of its own.
        super().__init__(impersonate="chrome", curl_options={CurlOpt.MAXFILESIZE_LARGE: MAX_ANSWER_BYTES})
        self._of_thread = threading.local()

    @property
    def chart(self) -> dict[str, Any] | None:
        chart: dict[str, Any] | None = getattr(self._of_thread, "chart", None)
        return chart

    def forget(self) -> None:
        self._of_thread.chart = None

    def request(self, method: Any, url: str, *args: Any, **kwargs: Any) -> Response:
        """Raises RateLimitedError, RefusedError or UnusableError for a chart answer without a chart."""
        response = super().request(method, url, *args, **kwargs)
        if CHART_PATH in urlsplit(url).path:
            self.forget()
            self._of_thread.chart = _judged(response, urlsplit(url).path)
        return response


def _judged(response: Response, path: str) -> dict[str, Any] | None:
    """The chart: {meta, timestamp, indicators, events …}; None for 401 and 403, which yfinance answers with a new cookie."""
    status = response.status_code
    if status == 429:
        raise RateLimitedError(retry_after_seconds(response.headers.get("retry-after")))
    if status in (401, 403):
        return None
    landed = urlsplit(response.url)
    if (landed.hostname or "").endswith("consent.yahoo.com"):
        return None  # Europe's consent page: yfinance fills it in and asks again
    if landed.path != path:
        raise UnusableError(f"redirected to {landed.hostname}{landed.path[:80]}")
    try:
        answer = json.loads(response.content)
        chart = answer["chart"]
        error, result = chart.get("error"), chart.get("result")
    except (ValueError, KeyError, TypeError, AttributeError):
        beginning = response.content[:40].decode("utf-8", "replace")
        raise UnusableError(f"HTTP {status} without a chart (begins {beginning!r})") from None
    if status >= 500:
        raise UnusableError(f"HTTP {status}")
    if error:
        reason = str(error.get("description") or error.get("code")) if isinstance(error, dict) else str(error)
        raise RefusedError(f"{reason[:300]} (HTTP {status})")
    if status != 200 or not isinstance(result, list) or not result or not isinstance(result[0], dict):
        raise UnusableError(f"HTTP {status} with an empty chart")
    return result[0]
