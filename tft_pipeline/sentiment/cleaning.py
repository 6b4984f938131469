"""A post's text as it is scored and hashed: markup, links and junk out, emoji in words, length bounded.

What belongs here: what one text looks like. What does not: what it means. Upper and lower case stay, tickers are told by them.
"""

import hashlib
import html
import re
import unicodedata

MAX_RAW_CHARACTERS = 8_000  # a 10 MB post costs no more than this
MAX_CHARACTERS = 2_000  # about four times what a scorer of 128 tokens reads

# In words that a forum of traders would use; what is not here gets its Unicode name.
EMOJI = {
    "🚀": "rocket", "🌙": "moon", "🌕": "moon", "🌝": "moon", "🌚": "moon", "🌛": "moon", "🌜": "moon", "💎": "diamond",
    "🙌": "hands", "🤲": "hands", "👐": "hands", "✋": "hands", "🧻": "paper", "📈": "stock going up", "📉": "stock going down",
    "🐂": "bull", "🐃": "bull", "🐮": "bull", "🐻": "bear", "🧸": "bear", "🦍": "ape", "🦧": "ape", "🤡": "clown", "🌈": "gay",
    "💰": "money", "💵": "money", "💸": "money", "🤑": "money", "🖨": "money printer", "🩸": "blood", "🔥": "fire", "🟢": "green",
    "🟩": "green", "🔴": "red", "🟥": "red", "🍗": "tendies", "😂": "laughing", "🤣": "laughing", "😭": "crying", "😢": "crying",
    "😱": "scared", "😡": "angry", "🤬": "angry", "💀": "dead", "☠": "dead", "⚰": "dead", "🪦": "dead", "🗑": "trash", "💩": "shit",
    "👍": "good", "👎": "bad", "❤": "love", "😍": "love", "🎉": "celebrate", "🥳": "celebrate", "💪": "strong", "🙏": "please",
    "⬆": "up", "⬇": "down", "🔺": "up", "🔻": "down", "🎰": "gambling", "💯": "hundred percent", "✅": "yes", "❌": "no",
}  # fmt: skip
_PUNCTUATION = {"‘": "'", "’": "'", "“": '"', "”": '"', "–": "-", "—": "-", "′": "'"}


class _Characters(dict[int, str]):
    """What becomes of each code point; worked out once, then looked up by str.translate."""

    def __missing__(self, code: int) -> str:
        kept = self[code] = _replacement(chr(code))
        return kept


def _replacement(character: str) -> str:
    if character in EMOJI:
        return f" {EMOJI[character]} "
    if character in _PUNCTUATION:
        return _PUNCTUATION[character]
    kind = unicodedata.category(character)
    if character.isspace() or kind in ("Cc", "Zl", "Zp"):
        return " "
    if kind in ("Cf", "Cs", "Co", "Cn", "Mn", "Me", "Sk") and character not in "^`":
        return ""  # invisible, half a pair, unassigned, piled-up accents, skin tones
    if kind == "So" and ord(character) > 0x2000:
        if 0x1F1E6 <= ord(character) <= 0x1F1FF:
            return ""  # half a flag
        return f" {unicodedata.name(character, '').lower()} "
    return character


_CHARACTERS = _Characters()

_IMAGE = re.compile(r"!\[[^\]\n]{0,200}\]\([^)\n]{0,500}\)")
_LINK = re.compile(r"\[([^\]\n]{0,300})\]\([^)\n]{0,1000}\)")
_URL = re.compile(r"(?:https?://|www\.|(?:pic\.twitter|t\.co|youtu\.be|bit\.ly|stks\.co)[./])\S*", re.IGNORECASE)
_RETWEET = re.compile(r"^\s*(?:RT|MT)\s+@\w+:?\s*")
_USER = re.compile(r"(?<![\w/])(?:@|/?u/)[\w-]{2,}")
_GONE = re.compile(r"^\s*\[?(?:deleted|removed)(?: by \w+)?\]?\s*$", re.IGNORECASE)
_LINE_MARK = re.compile(r"(?m)^[ \t]*(?:>+!?|#{1,6}(?=[ \t])|[*+-](?=[ \t])|\|)[ \t]*")
_INLINE_MARK = re.compile(r"\*{1,3}|~~|`+|\^+|(?<!\w)_{1,3}(?=\w)|(?<=\w)_{1,3}(?!\w)|!<|\\(?=[^\w\s])")
_REPEATED = re.compile(r"([^\d\s])\1{3,}")
_REPEATED_WORD = re.compile(r"\b(\w+(?: \w+){0,3}?)(?: \1\b){2,}")
_SPACE = re.compile(r"\s+")


def clean(text: str) -> str:
    """text without markup, links, user names and junk; emoji in words; at most MAX_CHARACTERS. Empty if nothing is left.

    Never raises: NUL, lone surrogates, piled-up accents and megabytes are dropped or cut.
    """
    text = text[:MAX_RAW_CHARACTERS]
    if "&" in text:  # archives escape twice: &amp;#x200B;
        text = html.unescape(html.unescape(text))[:MAX_RAW_CHARACTERS]
    if _GONE.match(text):
        return ""
    text = _RETWEET.sub("", text)
    if "[" in text:
        text = _LINK.sub(r"\1", _IMAGE.sub(" ", text))
    text = _URL.sub(" ", text)
    text = _USER.sub(" ", text)
    text = _INLINE_MARK.sub("", _LINE_MARK.sub(" ", text))
    if not text.isascii():
        # Before translate drops them: 𝐛𝐨𝐥𝐝 and ｗｉｄｅ letters to plain ones.
        text = unicodedata.normalize("NFKC", text)
    text = _SPACE.sub(" ", text.translate(_CHARACTERS))
    text = _REPEATED_WORD.sub(r"\1 \1", _REPEATED.sub(r"\1\1\1", text)).strip()
    return text if len(text) <= MAX_CHARACTERS else text[:MAX_CHARACTERS].rsplit(" ", 1)[0]


def text_hash(cleaned: str) -> str:
    """SHA-256 of a cleaned text, hex: the key of its cached score. Takes what `clean` returns."""
    return hashlib.sha256(cleaned.encode("utf-8", "ignore")).hexdigest()
