"""praw's client as we use it: explicit settings, bounded waits, every answer judged before praw can stumble over it.

praw reads a `praw.ini` of the working directory and may follow it to another host; prawcore sleeps through a whole rate-limit window,
never retries a 429 or a token, and raises KeyError and ValueError on odd headers (FAULTS 29-32). All that is settled in the one
place where praw sends its requests: the requestor.
"""

import configparser
import time
from importlib.resources import files
from typing import Any
from urllib.parse import urlsplit

import praw
import prawcore
import requests
import urllib3
from praw.config import Config

from tft_pipeline.config import RedditSettings
from tft_pipeline.errors import ConfigError
from tft_pipeline.sources._patience import Patience, retry_after_seconds

ATTEMPTS = 3  # of one request, when the answer is unusable
TIMEOUT_SECONDS = 16.0  # prawcore's own
MAX_ANSWER_BYTES = 32 * 2**20  # a hundred posts of 40,000 characters take 4 MB
TOKEN_PATH = "/api/v1/access_token"  # noqa: S105

_KINDS = {"comment": "t1", "message": "t4", "redditor": "t2", "submission": "t3", "subreddit": "t5", "trophy": "t6"}
_QUOTA_HEADERS = ("x-ratelimit-remaining", "x-ratelimit-used", "x-ratelimit-reset")


class RedditTroubleError(Exception):
    """A request gave no usable answer; the text is a sentence for a person."""


class CredentialsRefusedError(RedditTroubleError):
    """The token was refused: no subreddit can be read."""


class _PassingError(Exception):
    """The next attempt may fare better."""


class PatientRequestor(prawcore.Requestor):
    """Sends praw's requests. Retries what may pass, out of `patience`; keeps Reddit's quota itself, with a bounded wait."""

    def __init__(self, *, patience: Patience, timeout_seconds: float, **more: Any) -> None:
        session = requests.Session()
        session.auth = _as_it_is
        super().__init__(session=session, timeout=timeout_seconds, **more)
        self._patience = patience
        self._free_at = 0.0
        self._unauthorized = 0

    def request(self, *args: Any, timeout: float | None = None, **kwargs: Any) -> requests.Response:
        """Raises RedditTroubleError, or OutOfPatienceError where waiting would take too long. Never prawcore's RequestException."""
        unusable = limited = 0
        while True:
            self._keep_quota()
            try:
                response = self._once(*args, timeout=timeout or self.timeout, **kwargs)
            except _PassingError as error:
                unusable += 1
                if unusable == ATTEMPTS:
                    raise RedditTroubleError(
                        f"{error}, {ATTEMPTS} times; it will be read again with the next run"
                    ) from None
                self._patience.back_off(unusable, str(error))
                continue
            if response.status_code != 429:
                return response
            asked = retry_after_seconds(response.headers.get("retry-after"))
            self._patience.back_off(
                limited, "Reddit answers 429, too many requests", base_seconds=5.0, at_least_seconds=asked
            )
            limited += 1

    def _once(self, *args: Any, **kwargs: Any) -> requests.Response:
        try:
            response = super().request(*args, stream=True, **kwargs)
            with response:
                _read(response, time.monotonic() + 2 * self.timeout)
        except prawcore.RequestException as error:
            raise _PassingError(f"Reddit does not answer ({type(error.original_exception).__name__})") from None
        except urllib3.exceptions.HTTPError as error:
            raise _PassingError(f"Reddit's answer broke off ({type(error).__name__})") from None
        self._note_quota(response)
        return self._judged(response)

    def _judged(self, response: requests.Response) -> requests.Response:
        status, is_token = response.status_code, urlsplit(response.url).path.endswith(TOKEN_PATH)
        if status >= 500:
            raise _PassingError(f"Reddit answers {status}")
        if is_token and status in (400, 401, 403):
            raise CredentialsRefusedError(
                f"Reddit refuses the client's credentials (HTTP {status}); check TFT_REDDIT_CLIENT_ID and TFT_REDDIT_CLIENT_SECRET"
            )
        if not is_token:
            # A first 401 is a token that ran out: prawcore fetches another. A second one in a row would reach its KeyError.
            self._unauthorized = self._unauthorized + 1 if status == 401 else 0
            if self._unauthorized > 1:
                raise RedditTroubleError("Reddit refuses a fresh token (HTTP 401); check that the application may read")
        if status == 200:
            shape = _shape_problem(response, is_token)
            if shape:
                raise _PassingError(shape)
        return response

    def _note_quota(self, response: requests.Response) -> None:
        """Remember when Reddit allows the next request, and hide the headers: prawcore would sleep on them, unbounded."""
        left, reset = (_number(response.headers.get(f"x-ratelimit-{name}")) for name in ("remaining", "reset"))
        if left is not None and reset is not None and left < 1:
            self._free_at = time.monotonic() + max(reset, 1.0)
        for name in _QUOTA_HEADERS:
            response.headers.pop(name, None)

    def _keep_quota(self) -> None:
        seconds = self._free_at - time.monotonic()
        if seconds > 0:
            self._patience.wait(seconds, "Reddit's request quota is used up")
            self._free_at = 0.0


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Authentication that adds nothing: without one, requests would put a ~/.netrc entry in the place of Reddit's token."""
    return request


def open_reddit(
    settings: RedditSettings, patience: Patience, *, timeout_seconds: float = TIMEOUT_SECONDS
) -> praw.Reddit:
    """A read-only client of the application named by the settings, and of nothing else: no praw.ini, no praw_* variable.

    Raises ConfigError naming the missing setting.
    """
    secret = settings.client_secret.get_secret_value() if settings.client_secret else ""
    for name, value in (
        ("CLIENT_ID", settings.client_id),
        ("CLIENT_SECRET", secret),
        ("USER_AGENT", settings.user_agent),
    ):
        if not value:
            raise ConfigError(
                f"setting TFT_REDDIT_{name} is missing, and TFT_POSTS=reddit needs it. "
                "Create a script application at https://www.reddit.com/prefs/apps and set it, or set TFT_POSTS=none."
            )
    for name, url in (("REDDIT_URL", settings.reddit_url), ("OAUTH_URL", settings.oauth_url)):
        _demand_safe(f"TFT_REDDIT_{name}", url)
    _ignore_praw_ini()

    return praw.Reddit(
        "DEFAULT", requestor_class=PatientRequestor,
        requestor_kwargs={"patience": patience, "timeout_seconds": timeout_seconds},
        client_id=settings.client_id, client_secret=secret, user_agent=settings.user_agent,
        reddit_url=settings.reddit_url.rstrip("/"), oauth_url=settings.oauth_url.rstrip("/"),
        # Whatever a file or the environment might still say about these is overruled here.
        username=None, password=None, refresh_token=None, redirect_uri=None, short_url="https://redd.it",
        check_for_updates=False, check_for_async=False, timeout=int(timeout_seconds) or 1, ratelimit_seconds=0, window_size=600,
        **{f"{name}_kind": kind for name, kind in _KINDS.items()},
    )  # fmt: skip


def _ignore_praw_ini() -> None:
    """Load praw's packaged defaults and nothing else, before praw looks into the working directory."""
    with Config.LOCK:
        if Config.CONFIG is None:
            packaged = configparser.ConfigParser(interpolation=None)
            packaged.read_string(files("praw").joinpath("praw.ini").read_text(encoding="utf-8"))
            Config.CONFIG = packaged


def _demand_safe(setting: str, url: str) -> None:
    parts = urlsplit(url)
    is_here = parts.hostname in ("127.0.0.1", "::1", "localhost")
    if not parts.hostname or parts.username or not (parts.scheme == "https" or (parts.scheme == "http" and is_here)):
        raise ConfigError(
            f"setting {setting}: {url!r} would carry credentials in the clear or is no address; use https://host."
        )


def _read(response: requests.Response, deadline: float) -> None:
    """Read the body within limits: requests itself would follow an endless one, and wait for ever on a slow drip."""
    body = bytearray()
    while part := response.raw.read1(64 * 1024, decode_content=True):  # what has arrived, not what might still come
        body += part
        if len(body) > MAX_ANSWER_BYTES:
            raise _PassingError(f"Reddit's answer is longer than {MAX_ANSWER_BYTES // 2**20} MiB")
        if time.monotonic() > deadline:
            raise _PassingError("Reddit's answer only drips in")
    response._content = bytes(body)  # where requests keeps a body that was read


def _shape_problem(response: requests.Response, is_token: bool) -> str | None:
    try:
        answer = response.json()
    except ValueError:
        return f"Reddit's answer is not JSON (begins {response.text[:40]!r})"
    if is_token:
        known = isinstance(answer, dict) and (
            {"access_token", "expires_in", "scope"} <= answer.keys() or "error" in answer
        )
        return None if known else "Reddit's answer holds no token"
    data = answer.get("data") if isinstance(answer, dict) and answer.get("kind") == "Listing" else None
    if not isinstance(data, dict) or not isinstance(data.get("children"), list):
        return f"Reddit's answer is no listing (begins {response.text[:40]!r})"
    return None


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text else None
    except ValueError:
        return None
    return value if value is not None and 0 <= value < 1e9 else None
