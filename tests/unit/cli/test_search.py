from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from cli.report.search import search_lines
from tests.unit.cli.conftest import search_answer

if TYPE_CHECKING:
    from cli.answers import SearchAnswer
    from tests.unit.cli.conftest import FakeDaemon, Lookalike


def test_a_photo_of_the_library_is_asked_for_by_its_real_path_and_stat(
    lookalike: Lookalike, daemon: FakeDaemon, photo: Path
) -> None:
    (photo.parent / "link.jpg").symlink_to(photo)
    daemon.will_find((1.0, [str(photo)]))

    done = lookalike("search", "link.jpg", "-n", "3", "--model", "a model")

    assert (done.returncode, done.stdout.decode(), done.stderr) == (0, f"1.000  {photo}\n", b"")
    (request,) = daemon.requests
    assert request.target == "/v1/search?limit=3&model=a+model"
    assert request.headers["Content-Type"] == "application/json"
    stat = photo.stat()
    assert json.loads(request.body) == {
        "path": os.path.realpath(photo),
        "size": stat.st_size,
        "mtime_ns": stat.st_mtime_ns,
    }


def test_any_other_photo_is_sent_as_bytes_on_the_same_connection(
    lookalike: Lookalike, daemon: FakeDaemon, photo: Path
) -> None:
    daemon.will_refuse("not_in_library", "It is not in the library.")
    daemon.will_find((0.98, ["/a.jpg"]))

    done = lookalike("search", "photo.jpg")

    assert (done.returncode, done.stdout) == (0, b"0.980  /a.jpg\n")
    by_path, by_bytes = daemon.requests
    assert by_path.connection == by_bytes.connection
    assert by_bytes.body == photo.read_bytes()
    assert by_bytes.headers["Content-Length"] == str(photo.stat().st_size)
    assert by_bytes.target == "/v1/search"


def test_the_image_can_come_from_standard_input(lookalike: Lookalike, daemon: FakeDaemon) -> None:
    image = os.urandom(1_000_000)
    daemon.will_find((0.98, ["/a.jpg"]))

    done = lookalike("search", "-", stdin=image)

    assert (done.returncode, done.stdout) == (0, b"0.980  /a.jpg\n")
    assert daemon.requests[0].body == image


def test_the_image_can_come_from_a_named_pipe(lookalike: Lookalike, daemon: FakeDaemon) -> None:
    daemon.will_find((0.98, ["/a.jpg"]))

    done = lookalike("search", "/dev/stdin", stdin=b"an image")

    assert (done.returncode, done.stdout) == (0, b"0.980  /a.jpg\n")
    assert daemon.requests[0].body == b"an image"


def test_copies_follow_their_photo_and_are_aligned_with_it(
    lookalike: Lookalike, daemon: FakeDaemon, photo: Path
) -> None:
    daemon.will_find((1.0, ["/a.jpg", "/copy of a.jpg"]), (0.5, ["/b.jpg"]))

    done = lookalike("search", str(photo))

    assert done.stdout.decode().splitlines() == ["1.000  /a.jpg", "     = /copy of a.jpg", "0.500  /b.jpg"]


def test_a_name_that_is_not_utf8_travels_both_ways(lookalike: Lookalike, daemon: FakeDaemon, tmp_path: Path) -> None:
    name = b"caf\xe9\n.jpg"
    path = os.path.join(os.fsencode(tmp_path), name)
    Path(os.fsdecode(path)).write_bytes(b"x")
    for _ in range(2):
        daemon.will_find((1.0, [os.fsdecode(path)]))

    assert lookalike("search", "--paths", "-0", name).stdout == path + b"\0"
    assert lookalike("search", name).stdout.endswith(b"/caf\\xe9\\n.jpg\n")
    assert os.fsencode(json.loads(daemon.requests[0].body)["path"]) == path


def test_paths_are_written_one_per_line_copies_included(lookalike: Lookalike, daemon: FakeDaemon, photo: Path) -> None:
    daemon.will_find((1.0, ["/a.jpg", "/copy.jpg"]), (0.5, ["/b.jpg"]))

    assert lookalike("search", "--paths", str(photo)).stdout == b"/a.jpg\n/copy.jpg\n/b.jpg\n"


def test_what_a_terminal_would_obey_is_escaped(lookalike: Lookalike, daemon: FakeDaemon, photo: Path) -> None:
    daemon.will_find((1.0, ["/\x1b[31mred\u202e.jpg"]))

    assert lookalike("search", str(photo)).stdout == b"1.000  /\\x1b[31mred\\u202e.jpg\n"


def test_json_is_the_daemons_answer_unchanged(lookalike: Lookalike, daemon: FakeDaemon, photo: Path) -> None:
    raw = b'{"schema": 1,   "results": [], "later": [1.00, "\\udcff"]}'
    daemon.will_answer(raw)

    done = lookalike("search", "--json", str(photo))

    assert (done.returncode, done.stdout, done.stderr) == (0, raw + b"\n", b"")


def test_a_file_that_cannot_be_looked_at_is_marked_and_explained(
    lookalike: Lookalike, daemon: FakeDaemon, photo: Path
) -> None:
    answer = search_answer((1.0, ["/a.jpg", "/mnt/nas/a.jpg"]), (0.5, ["/mnt/nas/b.jpg"]))
    answer["results"][0]["unverified"] = ["/mnt/nas/a.jpg"]
    answer["results"][1]["unverified"] = ["/mnt/nas/b.jpg"]
    daemon.will_answer(answer)
    daemon.will_answer(answer)

    done = lookalike("search", str(photo))

    assert done.stdout.decode().splitlines() == [
        "1.000  /a.jpg",
        "     = /mnt/nas/a.jpg  (unverified)",
        "0.500  /mnt/nas/b.jpg  (unverified)",
    ]
    assert (done.returncode, done.stderr) == (0, b"2 of these could not be verified: see lookalike deletions list\n")
    assert lookalike("search", "--paths", str(photo)).stdout == b"/a.jpg\n/mnt/nas/a.jpg\n/mnt/nas/b.jpg\n"


def test_a_search_can_wait_for_what_is_on_disk(
    lookalike: Lookalike, daemon: FakeDaemon, photo: Path, sync_answer: dict[str, Any]
) -> None:
    daemon.will_answer(sync_answer)
    daemon.will_find((1.0, [str(photo)]))

    done = lookalike("search", "--sync", "--timeout", "7", str(photo))

    assert (done.returncode, done.stdout.decode(), done.stderr) == (0, f"1.000  {photo}\n", b"")
    sync, search = daemon.requests
    assert (sync.method, sync.target, sync.body) == ("POST", "/v1/sync?timeout=7.0", b"{}")
    assert search.connection == sync.connection


def test_a_search_that_waited_in_vain_says_so_and_searches(
    lookalike: Lookalike, daemon: FakeDaemon, photo: Path, sync_answer: dict[str, Any]
) -> None:
    daemon.will_answer(sync_answer | {"complete": False, "pending": 5, "reasons": ["Milvus was away."]})
    daemon.will_find((0.5, ["/a.jpg"]))

    done = lookalike("search", "--sync", str(photo))

    assert (done.returncode, done.stdout) == (0, b"0.500  /a.jpg\n")
    assert done.stderr.decode().splitlines() == [
        "not in step: 1,234 files, 5 paths to go: a photo that is not found may not be indexed yet",
        "Milvus was away.",
    ]


@pytest.mark.parametrize("arguments", [[], ["--paths"]])
def test_an_empty_library_is_said_aloud_and_is_no_error(
    lookalike: Lookalike, daemon: FakeDaemon, photo: Path, arguments: list[str]
) -> None:
    daemon.will_find()

    done = lookalike("search", *arguments, str(photo))

    assert (done.returncode, done.stdout) == (0, b"")
    assert done.stderr == b"No similar photos yet: the library is empty.\n"


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        ("missing.jpg", "missing.jpg does not exist"),
        (".", ". is a directory, not a photo"),
        ("", "a term of the query is empty: it must be an image file or a text"),
        ("photo.jpg/x.jpg", "photo.jpg/x.jpg cannot be read: not a directory"),
        ("a\x1bb.jpg", "a\\x1bb.jpg does not exist"),
        ("red and/or blue", "red and/or blue does not exist; if it is a text, write 'text:red and/or blue'"),
    ],
)
def test_an_image_that_cannot_be_read_is_one_sentence(
    lookalike: Lookalike, photo: Path, image: str, sentence: str
) -> None:
    done = lookalike("search", image)

    assert (done.returncode, done.stdout, done.stderr.decode()) == (1, b"", sentence + "\n")


def test_a_refusal_of_the_bytes_names_the_image(lookalike: Lookalike, daemon: FakeDaemon, photo: Path) -> None:
    daemon.will_refuse("not_in_library", "It is not in the library.")
    daemon.will_refuse("not_an_image", "This is no image.", status=415)

    done = lookalike("search", "photo.jpg")

    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"photo.jpg: This is no image.\n")


@pytest.mark.parametrize("arguments", [["-"], ["dog", "-", "-"], ["/dev/stdin"]])
def test_an_empty_standard_input_is_called_so(lookalike: Lookalike, daemon: FakeDaemon, arguments: list[str]) -> None:
    daemon.will_refuse("not_an_image", "the query cannot be used: the file is empty", status=415)

    done = lookalike("search", *arguments)

    name = "/dev/stdin" if "-" not in arguments else "standard input"
    assert (done.returncode, done.stdout, done.stderr.decode()) == (1, b"", f"{name} is empty\n")


def test_an_empty_file_is_called_so(lookalike: Lookalike, daemon: FakeDaemon, photo: Path) -> None:
    photo.write_bytes(b"")
    daemon.will_refuse("not_in_library", "It is not in the library.")

    done = lookalike("search", "photo.jpg")

    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"photo.jpg is empty\n")


@pytest.mark.parametrize(
    ("arguments", "refusal", "sentence"),
    [
        (["-"], "the query cannot be used: it is text", "standard input cannot be used: it is text"),
        (["dog", "-", "-"], "term 2 cannot be used: it is text", "standard input cannot be used: it is text"),
        (["-", "+", "dog"], "term 1 cannot be used: it is text", "standard input cannot be used: it is text"),
        (["dog", "-", "-"], "the terms are too many", "the terms are too many"),
    ],
)
def test_a_refusal_of_a_term_names_where_its_image_came_from(
    lookalike: Lookalike, daemon: FakeDaemon, arguments: list[str], refusal: str, sentence: str
) -> None:
    daemon.will_refuse("not_an_image", refusal, status=415)

    done = lookalike("search", *arguments, stdin=b"some text")

    assert (done.returncode, done.stdout, done.stderr.decode()) == (1, b"", f"{sentence}\n")


def test_any_other_refusal_is_the_daemons_sentence(lookalike: Lookalike, daemon: FakeDaemon, photo: Path) -> None:
    daemon.will_refuse("unknown_model", "There is no model x: there is efficientnet-lite0.", status=400)

    done = lookalike("search", "photo.jpg", "--model", "x")

    assert (done.returncode, done.stderr) == (1, b"There is no model x: there is efficientnet-lite0.\n")


def test_an_answer_before_the_end_of_the_image_is_read(lookalike: Lookalike, daemon: FakeDaemon) -> None:
    daemon.body_limit = 1000
    daemon.will_refuse("too_large", "The image is larger than 64 MiB.", status=413)

    done = lookalike("search", "-", stdin=bytes(5_000_000))

    assert (done.returncode, done.stderr) == (1, b"standard input: The image is larger than 64 MiB.\n")


def test_an_image_without_an_end_is_sent_until_the_answer(lookalike: Lookalike, daemon: FakeDaemon) -> None:
    daemon.body_limit, daemon.reads_on = 1000, True
    daemon.will_refuse("too_large", "The image is larger than 64 MiB.", status=413)

    done = lookalike("search", "/dev/zero")

    assert (done.returncode, done.stderr) == (1, b"/dev/zero: The image is larger than 64 MiB.\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--json", "--paths"],
        ["--null"],
        ["-n", "0"],
        ["-n", "x"],
        ["--timeout", "0"],
        ["--timeout", "nan"],
        ["--timeout", "1e99"],
        ["--unknown"],
        ["--fuse", "sum"],
        ["--model", ""],
        ["--model", "words", "--model", " "],
        ["and", "more"],
        ["+"],
    ],
)
def test_wrong_usage_is_exit_code_2(lookalike: Lookalike, photo: Path, arguments: list[str]) -> None:
    done = lookalike("search", "photo.jpg", *arguments)

    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"Usage: lookalike search")
    assert b"Traceback" not in done.stderr


def test_a_reader_that_goes_away_is_no_error_to_talk_about(
    lookalike: Lookalike, daemon: FakeDaemon, photo: Path
) -> None:
    daemon.will_find(*[(0.5, ["/" + "x" * 1000])] * 1000)

    with subprocess.Popen(
        [sys.executable, "-m", "cli.main", "search", str(photo)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=lookalike.environment(),
    ) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_a_full_disk_is_one_sentence(lookalike: Lookalike, daemon: FakeDaemon, photo: Path) -> None:
    daemon.will_find((0.5, ["/a.jpg"]))

    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "cli.main", "search", str(photo)],
            stdout=full,
            stderr=subprocess.PIPE,
            env=lookalike.environment(),
            check=False,
        )

    assert (done.returncode, done.stderr) == (1, b"the output cannot be written: No space left on device\n")


def test_a_text_is_a_query_of_one_term(lookalike: Lookalike, daemon: FakeDaemon) -> None:
    daemon.will_find((0.31, ["/boat.jpg"]))

    done = lookalike("search", "a red boat at dusk")

    assert (done.returncode, done.stdout, done.stderr) == (0, b"0.310  /boat.jpg\n", b"")
    assert json.loads(daemon.requests[0].body) == {"terms": [{"text": "a red boat at dusk", "weight": 1.0}]}


def test_images_and_texts_are_added_and_subtracted(lookalike: Lookalike, daemon: FakeDaemon, photo: Path) -> None:
    daemon.will_find((0.4, ["/a.jpg"]))

    done = lookalike("search", "photo.jpg", "-n", "3", "+", "2:at night", "-", "-", "--fuse", "rrf", stdin=b"piped")

    assert (done.returncode, done.stderr) == (0, b"")
    (request,) = daemon.requests
    assert request.target == "/v1/search?limit=3&fuse=rrf"
    by_path, text, piped = json.loads(request.body)["terms"]
    assert (by_path["path"], by_path["weight"]) == (os.path.realpath(photo), 1.0)
    assert text == {"text": "at night", "weight": 2.0}
    assert piped == {"image": base64.b64encode(b"piped").decode(), "weight": -1.0}


def test_several_models_are_asked_in_one_request(lookalike: Lookalike, daemon: FakeDaemon) -> None:
    daemon.will_answer(search_answer((0.032522, ["/a.jpg"]), (0.032258, ["/b.jpg"])) | {"metric": "rrf"})

    done = lookalike("search", "cat", "--model", "a", "--model", "b")

    assert done.stdout == b"0.0325  /a.jpg\n0.0323  /b.jpg\n"
    assert daemon.requests[0].target == "/v1/search?model=a&model=b"


def test_a_model_that_does_not_know_all_photos_is_said(lookalike: Lookalike, daemon: FakeDaemon) -> None:
    answered = [
        {"name": "clip-vit-b32", "metric": "cosine", "photos": 1200, "of": 10000},
        {"name": "words", "metric": "cosine", "photos": 10000, "of": 10000},
    ]
    for found in ([(0.3, ["/a.jpg"])], []):
        daemon.will_answer(search_answer(*found) | {"models": answered})

    said = b"clip-vit-b32 knows 1,200 of 10,000 photos so far\n"
    assert (lookalike("search", "cat").stderr, lookalike("search", "--paths", "cat").stderr) == (said, said)


def test_a_library_without_a_model_for_text_says_which_would_do(lookalike: Lookalike, daemon: FakeDaemon) -> None:
    daemon.will_refuse("no_text_model", "no model here understands text; pull clip-vit-b32", status=422)

    done = lookalike("search", "cat")

    assert (done.returncode, done.stderr) == (1, b"no model here understands text; pull clip-vit-b32\n")


def test_scores_of_any_metric_are_aligned() -> None:
    answer = {"metric": "l2", "results": [{"score": 9.5, "paths": ["/a", "/b"]}, {"score": 123.25, "paths": ["/c"]}]}

    assert search_lines(cast("SearchAnswer", answer)) == ["  9.500  /a", "       = /b", "123.250  /c"]
