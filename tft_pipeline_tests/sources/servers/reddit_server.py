"""Reddit's OAuth token endpoint, its listings (/r/X/new, /r/X/comments, /search) and /api/info, as praw 8 asks for them."""

import base64
import time
from dataclasses import dataclass, field
from typing import Any

from tft_pipeline_tests.sources.servers._base import Answer, Fault, Request, StandIn

CLIENT_ID, CLIENT_SECRET = "the-client", "the-secret"
TOKEN_PATH = "/api/v1/access_token"  # noqa: S105
LISTING_ENDS_AT = 1000


@dataclass
class Community:
    """One subreddit: its submissions and comments, newest first."""

    posts: list[dict[str, Any]] = field(default_factory=list)
    comments: list[dict[str, Any]] = field(default_factory=list)


class RedditServer(StandIn):
    FAULTS = frozenset({
        "rate_limited", "server_error", "reset", "torn_connection", "slow", "drip", "html", "truncated", "null_body", "empty_body",
        "no_children", "private", "quarantined", "banned", "missing", "redirect", "unauthorized", "unauthorized_bare",
        "quota_used_up", "float_quota", "odd_quota", "author_null", "field_missing", "foreign_child", "forbidden_html", "damaged_post", "repeating_page", "endless", "cut_short",
        "oversized", "token_server_error", "token_html", "token_rate_limited", "token_error_in_200", "bad_request",
    })  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.communities: dict[str, Community] = {}
        self.tokens_given = 0

    def post(self, subreddit: str, created: float, title: str, body: str = "", **fields: Any) -> dict[str, Any]:
        """Add a submission; fields override or, when None is not JSON's null but missing is meant, use the faults."""
        community = self.communities.setdefault(subreddit, Community())
        data = {
            "id": f"{len(community.posts):x}{subreddit[:4].lower()}", "subreddit": subreddit, "title": title, "selftext": body,
            "created_utc": float(created), "score": 1, "author": "someone", "num_comments": 0, "is_self": True, "permalink": "/r/x/",
            "url": "https://www.reddit.com/r/x/", "over_18": False, "stickied": False, **fields,
        }  # fmt: skip
        data["name"] = f"t3_{data['id']}"
        community.posts.append(data)
        community.posts.sort(key=lambda post: -post["created_utc"])
        return data

    def comment(self, subreddit: str, created: float, body: str, **fields: Any) -> dict[str, Any]:
        community = self.communities.setdefault(subreddit, Community())
        comment_id = f"c{len(community.comments):x}"
        data = {"id": comment_id, "name": f"t1_{comment_id}", "subreddit": subreddit, "body": body, "created_utc": created,
                "score": 1, "author": "someone", "parent_id": "t3_0", "link_id": "t3_0", **fields}  # fmt: skip
        community.comments.append(data)
        community.comments.sort(key=lambda comment: -comment["created_utc"])
        return data

    def answer(self, request: Request) -> Answer:
        if request.path == TOKEN_PATH:
            return self._token(request)
        if request.path in ("/search", "/api/info"):
            return self._across(request)
        parts = request.path.strip("/").split("/")
        if len(parts) != 3 or parts[0] != "r" or parts[2] not in ("new", "comments"):
            return Answer.json({"message": "Not Found", "error": 404}, 404)
        fault = self._fault(parts[1], *(name for name in self.FAULTS if not name.startswith("token_")))
        if fault and (answer := _spoilt(fault, parts[1])):
            return answer
        if (refusal := self._refused(request)) is not None:
            return refusal
        community = self.communities.get(parts[1])
        if community is None:
            return Answer(302, b"", {"location": f"{self.url}/subreddits/search.json?q={parts[1]}"})
        items = community.posts if parts[2] == "new" else community.comments
        return _bent(_listing(items, request.query, "t3" if parts[2] == "new" else "t1"), fault)

    def _refused(self, request: Request) -> Answer | None:
        if request.headers.get("authorization") == f"bearer token-{self.tokens_given}":
            return None
        challenge = 'Bearer realm="reddit", error="invalid_token"'
        return Answer.json({"message": "Unauthorized", "error": 401}, 401, www_authenticate=challenge)

    def _across(self, request: Request) -> Answer:
        """What is asked of all subreddits together; faults of the subject `search` or `info`."""
        subject = request.path.rpartition("/")[2]
        fault = self._fault(subject, *(name for name in self.FAULTS if not name.startswith("token_")))
        if fault and (answer := _spoilt(fault, subject)):
            return answer
        if (refusal := self._refused(request)) is not None:
            return refusal
        posts = [("t3", post) for community in self.communities.values() for post in community.posts]
        posts += [("t1", one) for community in self.communities.values() for one in community.comments]
        if subject == "info":
            wanted = request.query.get("id", "").split(",")[:100]
            found = [(kind, data) for kind, data in posts if data["name"] in wanted]
        else:
            words = request.query.get("q", "").lower().split()
            text = [(kind, data, f"{data.get('title', '')} {data.get('selftext', '')}".lower()) for kind, data in posts]
            found = [(kind, data) for kind, data, said in text if kind == "t3" and all(word in said for word in words)]
            found.sort(key=lambda one: -one[1]["created_utc"])
        listing = _listing([data for _, data in found], request.query, "t3")
        kinds = {data["name"]: kind for kind, data in found}
        for child in listing["data"]["children"]:
            child["kind"] = kinds[child["data"]["name"]]
        return _bent(listing, fault)

    def _token(self, request: Request) -> Answer:
        fault = self._fault(None, *(name for name in self.FAULTS if name.startswith("token_")))
        match fault.name if fault else "":
            case "token_server_error":
                return Answer(521, b"<html>Web server is down</html>", {"content-type": "text/html"})
            case "token_html":
                return Answer(200, b"<html>whoa there, pardner!</html>", {"content-type": "text/html"})
            case "token_rate_limited":
                return Answer.json({"message": "Too Many Requests", "error": 429}, 429)
            case "token_error_in_200":
                return Answer.json({"error": "unsupported_grant_type"})
        expected = "Basic " + base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
        if request.headers.get("authorization") != expected:
            return Answer.json({"message": "Unauthorized", "error": 401}, 401)
        self.tokens_given += 1
        return Answer.json(
            {"access_token": f"token-{self.tokens_given}", "token_type": "bearer", "expires_in": 86400, "scope": "*"}
        )


def _listing(items: list[dict[str, Any]], query: dict[str, str], kind: str) -> dict[str, Any]:
    items = items[:LISTING_ENDS_AT]
    limit = min(int(query.get("limit", 25)), 100)
    names = [item["name"] for item in items]
    start = names.index(query["after"]) + 1 if query.get("after") in names else 0
    page = items[start : start + limit]
    after = page[-1]["name"] if page and start + limit < len(items) else None
    children = [{"kind": kind, "data": dict(item)} for item in page]
    return {"kind": "Listing", "data": {"after": after, "before": None, "dist": len(page), "children": children}}


def _refusal(status: int, reason: str) -> Answer:
    message = {403: "Forbidden", 404: "Not Found"}[status]
    return Answer.json({"reason": reason, "message": message, "error": status}, status)


def _spoilt(fault: Fault, subreddit: str) -> Answer | None:
    """Faults that need no listing."""
    html = b"<!doctype html><html><title>Ow! -- reddit.com</title></html>"
    match fault.name:
        case "rate_limited":
            after = fault.options.get("retry_after")
            return Answer.json(
                {"message": "Too Many Requests", "error": 429}, 429, **({"retry_after": str(after)} if after else {})
            )
        case "server_error":
            return Answer(fault.options.get("status", 500), html, {"content-type": "text/html"})
        case "reset":
            return Answer(reset=True)
        case "slow":
            time.sleep(fault.options.get("seconds", 0.5))
        case "html":
            return Answer(200, html, {"content-type": "text/html"})
        case "null_body":
            return Answer(200, b"null", {"content-type": "application/json"})
        case "empty_body":
            return Answer(200, b"", {"content-type": "application/json"})
        case "no_children":
            return Answer.json({"kind": "Listing", "data": {"after": None}})
        case "private" | "quarantined":
            return _refusal(403, fault.name)
        case "forbidden_html":
            return Answer(403, html, {"content-type": "text/html"})
        case "banned":
            return _refusal(404, "banned")
        case "missing":
            return Answer.json({"message": "Not Found", "error": 404}, 404)
        case "redirect":
            return Answer(302, b"", {"location": "https://www.reddit.com/subreddits/search?q=" + subreddit})
        case "unauthorized":
            return Answer.json({"error": 401}, 401, www_authenticate='Bearer realm="reddit", error="invalid_token"')
        case "unauthorized_bare":
            return Answer.json({"error": 401}, 401)
        case "bad_request":
            return Answer.json({"reason": "BAD_SR_NAME", "explanation": "no", "fields": ["sr"]}, 400)
        case "oversized":
            return Answer(200, b"[" + b"1," * 2**25 + b"1]", {"content-type": "application/json"})
    return None


def _bent(listing: dict[str, Any], fault: Fault | None) -> Answer:
    """Faults inside or around a well-formed listing."""
    name = fault.name if fault else ""
    children = listing["data"]["children"]
    if children and name == "author_null":
        children[0]["data"]["author"] = None
    if name == "foreign_child":
        children.insert(0, {"kind": "t9", "data": None})
    if children and name == "field_missing":
        children[0]["data"].pop(fault.options["field"], None)  # type: ignore[union-attr]
    if children and name == "damaged_post":
        children[0]["data"].update(fault.options["fields"])  # type: ignore[union-attr]
    if name == "endless":
        listing["data"]["after"] = f"t3_{time.monotonic_ns()}"
    if name == "cut_short":  # the post that the page was to follow is gone
        listing["data"] |= {"after": None, "dist": 0, "children": []}
    if name == "repeating_page":
        listing["data"]["after"] = "t3_always"
    answer = Answer.json(listing)
    if name in ("truncated", "torn_connection"):
        whole = len(answer.body)
        answer.body = answer.body[: whole // 2]
        answer.declared_length = whole if name == "torn_connection" else None
    if name == "drip":
        answer.drip_seconds = fault.options["seconds"]  # type: ignore[union-attr]
    quota = {
        "quota_used_up": {
            "remaining": "0.0",
            "used": "600",
            "reset": str(fault.options.get("reset", 300)) if fault else "",
        },
        "float_quota": {"remaining": "590.0", "used": "10.0", "reset": "300.5"},
        "odd_quota": {"remaining": "many", "used": "", "reset": "-1"},
    }.get(name, {"remaining": "995.0", "used": "5", "reset": "300"})
    answer.headers |= {f"x-ratelimit-{key}": value for key, value in quota.items()}
    return answer
