"""What is asked: the terms of a query and who is to answer, read from a request and checked."""

from __future__ import annotations

import binascii
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from daemon.api.bodies import check_path, json_object, whole_number
from daemon.errors import QueryError
from daemon.outline import Long

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from daemon.encode.images import Bytes

MAX_ID = 2**63 - 1
MAX_TERMS = 16
MAX_WEIGHT = 1000
MAX_CHARACTERS = 10_000

By = Literal["path", "id", "bytes", "text", "terms"]
_KINDS = ("text", "path", "id", "image")
_STATE = ("size", "mtime_ns")


@dataclass(frozen=True, slots=True)
class Text:
    """What a photo shows, in words."""

    text: str


@dataclass(frozen=True, slots=True)
class File:
    """A file of the library; `size` and `mtime_ns` say which state of it is meant, where they are given."""

    path: str
    size: int | None = None
    mtime_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Photo:
    """A photo of the library by its id."""

    id: int


@dataclass(frozen=True, slots=True)
class Picture:
    """Any image, by its bytes."""

    data: Bytes


What = Text | File | Photo | Picture


@dataclass(frozen=True, slots=True)
class Term:
    """One part of a query; what is not wanted has a weight below 0."""

    what: What
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Question:
    """A query and who is to answer it: the models that are named, each once, or those that the daemon chooses."""

    by: By
    terms: tuple[Term, ...]
    limit: int
    models: tuple[str, ...] = ()
    fuse: bool = False

    @property
    def has_text(self) -> bool:
        return any(isinstance(term.what, Text) for term in self.terms)

    @property
    def lone(self) -> bool:
        """Whether it asks for what one thing is like, and not for a combination or for its contrary."""
        return len(self.terms) == 1 and self.terms[0].weight > 0


def question(
    body: bytes | bytearray, *, is_json: bool, limit: int, models: Sequence[str] = (), fuse: str | None = None
) -> Question:
    """Return what a request to /v1/search asks; QueryError says in a sentence what is wrong with it."""
    if fuse not in (None, "rrf"):
        raise QueryError("bad_request", f"'fuse' must be rrf (reciprocal rank fusion), not {fuse[:40]!r}")
    by, terms = _asked(json_object(body)) if is_json else ("bytes", (Term(Picture(body)),))
    return Question(by, terms, limit, tuple(dict.fromkeys(models)), fuse is not None)


def _asked(asked: dict[str, Any]) -> tuple[By, tuple[Term, ...]]:
    match [kind for kind in ("path", "id", "terms") if asked.get(kind) is not None]:
        case ["path"]:
            return "path", (Term(_file(asked)),)
        case ["id"]:
            return "id", (Term(_photo(asked)),)
        case ["terms"] if isinstance(asked["terms"], list):
            terms = _terms(asked["terms"])
            return ("text" if len(terms) == 1 and isinstance(terms[0].what, Text) else "terms"), terms
    raise QueryError("bad_request", "the body must be an object with either a 'path', an 'id' or a list of 'terms'")


def _terms(given: list[Any]) -> tuple[Term, ...]:
    if not 1 <= len(given) <= MAX_TERMS:
        raise QueryError("bad_request", f"a query has 1 to {MAX_TERMS} terms, not {len(given)}")
    return tuple(map(_term, given))


def _term(given: Any) -> Term:
    kinds = [kind for kind in _KINDS if kind in given] if isinstance(given, dict) else []
    allowed = {*kinds, "weight", *(_STATE if kinds == ["path"] else ())}
    if len(kinds) != 1 or not allowed.issuperset(given):
        raise QueryError(
            "bad_request",
            "a term must be an object with one of 'text', 'path' (perhaps with 'size' and 'mtime_ns'), 'id' or 'image',"
            " and perhaps a 'weight'",
        )
    return Term(_READERS[kinds[0]](given), _weight(given.get("weight", 1.0)))


def _weight(given: Any) -> float:
    is_number = isinstance(given, int | float) and not isinstance(given, bool)
    # Written so that NaN is refused too.
    if not (is_number and 0 < abs(given) <= MAX_WEIGHT):
        raise QueryError("bad_request", f"a weight must be a number from -{MAX_WEIGHT} to {MAX_WEIGHT}, and not 0")
    return float(given)


def _text(given: dict[str, Any]) -> Text:
    text = given["text"]
    if isinstance(text, Long):
        raise QueryError("bad_request", f"a text may have {MAX_CHARACTERS:,} characters, and this one has many more")
    if not isinstance(text, str) or not text.strip():
        raise QueryError("bad_request", "a term's 'text' must be words")
    if len(text) > MAX_CHARACTERS:
        raise QueryError(
            "bad_request", f"a text may have {MAX_CHARACTERS:,} characters, and this one has {len(text):,}"
        )
    if not _is_unicode(text):
        raise QueryError("bad_request", "a term's 'text' must be Unicode: it holds bytes that are not UTF-8")
    return Text(text)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _file(given: dict[str, Any]) -> File:
    if not isinstance(given["path"], str):
        raise QueryError("bad_request", "a 'path' must be the path of a file")
    check_path(given["path"])
    return File(given["path"], whole_number(given, "size"), whole_number(given, "mtime_ns"))


def _photo(given: dict[str, Any]) -> Photo:
    # A bool is an int for Python, and written in letters.
    digits = str(given["id"]) if isinstance(given["id"], str | int) else type(given["id"]).__name__
    if not digits.isascii() or not digits.isdigit() or len(digits) > len(str(MAX_ID)) or int(digits) > MAX_ID:
        raise QueryError("bad_request", f"{digits[:40]!r} is no photo's id; ids are the numbers that results carry")
    return Photo(int(digits))


def _picture(given: dict[str, Any]) -> Picture:
    image = given["image"]
    try:
        return Picture(image.from_base64() if isinstance(image, Long) else binascii.a2b_base64(image, strict_mode=True))
    except (TypeError, ValueError) as error:
        raise QueryError("bad_request", "a term's 'image' must be the bytes of an image in base64") from error


_READERS: dict[str, Callable[[dict[str, Any]], What]] = {"text": _text, "path": _file, "id": _photo, "image": _picture}
