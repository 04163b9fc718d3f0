"""Decisions: a thousand approvals and rejections while walks run, disks come and go, and the daemon is killed right after an answer.

An answered decision is in force from its answer on. That means, of the photos of a disk that has not been back since:

- *approved*: none of them is found or listed any more, after a restart as well;
- *rejected*, and not approved: all of them are found, marked as unverified and listed, and no reason of `status` asks about them,
  after a restart as well;
- a disk that is back ends both. All of its photos are found, unmarked and unlisted, whatever was decided while it was away. When it
  goes the next time, all of them are held, and somebody is asked, until there is another decision.

A decision whose answer the killing of the daemon has cut off may be in force or not, but for all photos of its folder alike.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from random import Random
from typing import TYPE_CHECKING, Any

from tests.drills import asking
from tests.drills.installation import DAEMON, DrillError, Installation, wait_for
from tests.drills.namespace import Namespace
from tests.drills.oracle import Differences, photo_id
from tests.drills.photos import photo
from tests.namespaces import obstacle

if TYPE_CHECKING:
    from pathlib import Path

SETTINGS = """
folders: {paths}
watch: {{max_delete_count: 1000000, max_delete_ratio: 1.0, poll_seconds: 1, settle_seconds: 0.3}}
search: {{max_limit: 1000}}
"""
SHELVES = 6
PHOTOS = 4
DECIDERS = 2
"""How many people decide about each folder at once."""
DECISIONS = 30
"""How many each of them tries in a round."""
APPROVES, WAITS, COMES_BACK, IS_KILLED = 0.3, 0.5, 0.25, 0.6
"""How likely it is that a decider approves in the end, that it waits until all is held before, that a disk comes back meanwhile, and
that the daemon is killed."""
SETTLE_SECONDS = 20.0
PATIENCE_SECONDS = 10.0
"""For how long a decider waits until there is something to decide."""
APPROVE, REJECT = "approve", "reject"


@dataclass
class Shelf:
    """A watched folder, which is where a disk is mounted, and what was decided since that went away."""

    path: Path
    disk: Path
    """Where its disk is mounted all the time."""
    other: Path
    """The same of a disk that is put in its place at times, with a photo of its own."""
    photos: dict[str, int]
    """Path -> id of what is on the disk."""
    other_photo: int
    state: str = "away"
    """back, away, gone (the folder too) or swapped."""
    answered: Counter[str] = field(default_factory=Counter)
    unanswered: Counter[str] = field(default_factory=Counter)

    @property
    def is_back(self) -> bool:
        return self.state == "back"


@dataclass(frozen=True, slots=True)
class Seen:
    """What the daemon says of all folders."""

    found: dict[str, int]
    unverified: frozenset[str]
    listed: frozenset[str]
    reasons: tuple[str, ...]


class Stress:
    """Rounds on one library; each begins with every disk in its place."""

    def __init__(self, seed: int, cache: Path) -> None:
        self._seed = seed
        self.installation = Installation(cache=cache, library="folders")
        self._namespace = Namespace()
        self.installation.before = self._namespace.before
        self._shelves = [self._shelf(number) for number in range(SHELVES)]
        paths = [str(shelf.path) for shelf in self._shelves]
        self.installation.configuration.write_text(SETTINGS.format(paths=paths), encoding="utf-8")
        self.decisions = 0
        """Answered ones, those that had something to decide."""
        self.kills = 0
        self._kill_after: int | None = None
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        self._aside = (self.installation.root / f"aside-{number}" for number in itertools.count())
        """Names for folders that go with their disks."""

    def start(self) -> None:
        self.installation.start()

    def close(self) -> None:
        self.installation.close()
        self._namespace.close()

    def round(self, number: int) -> Differences:
        """Have all disks go, decide, and return where what was answered is not in force."""
        random = Random(f"{self._seed}/{number}")
        if found := self._bring_back():
            return found
        self._kill_after = random.randrange(SHELVES * DECISIONS) + 1 if random.random() < IS_KILLED else None
        self._is_over.clear()
        walker = threading.Thread(target=self._walk, args=(Random(random.random()),), name="walker")
        lives = [_Thread(self._live, shelf, Random(random.random())) for shelf in self._shelves]
        for thread in (walker, *lives):
            thread.start()
        for life in lives:
            life.join()
        self._is_over.set()
        walker.join()
        for life in lives:
            life.raise_error()
        if self.installation.process is None:
            self.installation.start()
        return self._settle()

    # A round

    def _bring_back(self) -> Differences:
        # A disk that was put in the place of another one takes nothing with it that would be held.
        swapped = [shelf for shelf in self._shelves if shelf.state == "swapped"]
        for shelf in swapped:
            self._namespace.seen(shelf.other / "other.jpg").unlink()
            shelf.state = "emptied"
        if swapped and (found := self._settle()):
            return found
        for shelf in self._shelves:
            self._return(shelf)
        return self._settle()

    def _live(self, shelf: Shelf, random: Random) -> None:
        """The disk of one folder goes, people decide, and at times it comes back meanwhile."""
        shelf.answered.clear()
        shelf.unanswered.clear()
        self._leave(shelf, random.choice(["away", "gone", "swapped"]))
        if random.random() < WAITS:
            self._await_hold(shelf)
        deciders = [_Thread(self._decide, shelf, Random(random.random())) for _ in range(DECIDERS)]
        for decider in deciders:
            decider.start()
        if shelf.state != "swapped" and random.random() < COMES_BACK:
            time.sleep(random.uniform(0, 1))
            self._return(shelf)
        for decider in deciders:
            decider.join()
            decider.raise_error()

    def _leave(self, shelf: Shelf, state: str) -> None:
        self._namespace.run("umount", "--lazy", shelf.path)
        if state == "gone":
            self._namespace.seen(shelf.path).rename(self._namespace.seen(next(self._aside)))
        if state == "swapped":
            self._namespace.seen(shelf.other / "other.jpg").write_bytes(_content(shelf.path.name, PHOTOS))
            self._namespace.run("mount", "--bind", shelf.other, shelf.path)
        shelf.state = state

    def _return(self, shelf: Shelf) -> None:
        if shelf.is_back:
            return
        if shelf.state == "emptied":
            self._namespace.run("umount", "--lazy", shelf.path)
        self._namespace.seen(shelf.path).mkdir(exist_ok=True)
        self._namespace.run("mount", "--bind", shelf.disk, shelf.path)
        shelf.state = "back"

    def _await_hold(self, shelf: Shelf) -> None:
        """Wait until all of the disk is held and somebody is asked, before anything is decided."""

        def is_held() -> bool:
            if self.installation.process is None:
                return True
            with suppress(OSError, HTTPException, ValueError):
                seen = self._seen()
                return seen.listed.issuperset(shelf.photos) and _asks(seen, shelf)
            return False

        wait_for(is_held, f"{shelf.path} is held as a whole and asked about once more", SETTLE_SECONDS)

    def _decide(self, shelf: Shelf, random: Random) -> None:
        decisions = [REJECT] * random.randint(1, DECISIONS)
        if random.random() < APPROVES:
            decisions[random.randrange(len(decisions))] = APPROVE
        deadline = time.monotonic() + PATIENCE_SECONDS
        for decision in decisions:
            while not self._answered(shelf, decision):
                is_decided = shelf.is_back or shelf.answered[APPROVE] or self.installation.process is None
                if is_decided or time.monotonic() > deadline:
                    return
                time.sleep(0.02)

    def _answered(self, shelf: Shelf, decision: str) -> bool:
        """Send a decision, and return whether it had something to decide."""
        try:
            answer = self.installation.asked("POST", f"/v1/deletions/{decision}", {"folder": str(shelf.path)})
        except (ConnectionRefusedError, FileNotFoundError):
            # Nobody has it: the daemon was killed before.
            return False
        except (OSError, HTTPException, ValueError):
            with self._lock:
                shelf.unanswered[decision] += 1
            return False
        if "error" in answer:
            if answer["error"]["code"] != "not_held":
                raise DrillError(f"{decision}: {answer['error']['message']}")
            return False
        if not answer["files"]:
            return False
        if answer["files"] != len(shelf.photos):
            raise DrillError(f"{decision} was about {answer['files']} files, and {len(shelf.photos)} were on the disk")
        with self._lock:
            shelf.answered[decision] += 1
            self.decisions += 1
            if self._kill_after is not None:
                self._kill_after -= 1
                if not self._kill_after:
                    # Right after the answer: nothing but what the daemon did before it answered is left.
                    self.installation.kill([DAEMON], Random(0))
                    self.kills += 1
        return True

    def _walk(self, random: Random) -> None:
        """Have walks run all the time."""
        while not self._is_over.is_set():
            body = {"path": str(random.choice(self._shelves).path)} if random.random() < 0.7 else {}
            with suppress(OSError, HTTPException, ValueError):
                self.installation.asked("POST", "/v1/sync?timeout=1", body)
            self._is_over.wait(random.uniform(0, 0.1))

    # The comparison

    def _settle(self) -> Differences:
        """Return where the daemon does not say what it has to, once it had time for that."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while (found := self._compared()) and time.monotonic() < deadline:
            time.sleep(0.1)
        return found or self._compared()

    def _compared(self) -> Differences:
        asking.sync(self.installation)
        seen = self._seen()
        found = Differences()
        for shelf in self._shelves:
            self._compare(shelf, seen, found)
        return found

    def _compare(self, shelf: Shelf, seen: Seen, found: Differences) -> None:
        below = f"{shelf.path}/"
        shown = {path for path in seen.found if path.startswith(below)}
        listed = {path for path in seen.listed if path.startswith(below)}
        marked = {path for path in seen.unverified if path.startswith(below)}
        asks = _asks(seen, shelf)
        there = {f"{below}other.jpg": shelf.other_photo} if shelf.state == "swapped" else {}
        approved = bool(shelf.answered[APPROVE] or (shelf.unanswered[APPROVE] and not listed))
        held = {} if approved or shelf.is_back else shelf.photos
        there |= shelf.photos if shelf.is_back else {}
        decided = ", ".join(f"{count} x {what}" for what, count in sorted(shelf.answered.items()) if count) or "nothing"
        about = f"{shelf.path} is {shelf.state}, and {decided} was answered"
        expected = held | there
        found.lost += [f"lost: {path} is not found; {about}" for path in sorted(expected.keys() - shown)]
        wrong = {path for path in shown & expected.keys() if seen.found[path] != expected[path]}
        found.lost += [f"lost: {path} is found as another photo; {about}" for path in sorted(wrong)]
        found.ghosts += [f"ghost: {path} is found; {about}" for path in sorted(shown - expected.keys())]
        found.ghosts += [f"ghost: {path} is listed; {about}" for path in sorted(listed - held.keys())]
        found.lost += [f"lost: {path} is not listed; {about}" for path in sorted(held.keys() - listed)]
        found.ghosts += [f"ghost: {path} is marked or not; {about}" for path in sorted(marked ^ listed)]
        is_open = not shelf.answered[REJECT] and bool(held)
        may_be_either = bool(held) and shelf.unanswered[REJECT] and not shelf.answered[REJECT]
        if asks != is_open and not may_be_either and not (approved and shelf.state == "gone"):
            found.ghosts.append(f"ghost: somebody is {'' if asks else 'not '}asked; {about}")

    def _seen(self) -> Seen:
        known = itertools.chain.from_iterable(shelf.photos.values() for shelf in self._shelves)
        found, unverified = asking.search(self.installation, known)
        listed = frozenset[str]().union(*(asking.listed(self.installation, shelf.path) for shelf in self._shelves))
        return Seen(found, unverified, listed, tuple(self.installation.asked("GET", "/v1/status")["reasons"]))

    # The disks

    def _shelf(self, number: int) -> Shelf:
        name = f"shelf-{number}"
        path = self.installation.folder / name
        path.mkdir()
        disk, other = self.installation.root / "disks" / name, self.installation.root / "others" / name
        for stashed in (disk, other):
            stashed.mkdir(parents=True)
            self._namespace.run("mount", "-t", "tmpfs", "disk", stashed)
        photos = {}
        for index in range(PHOTOS):
            content = _content(name, index)
            self._namespace.seen(disk / f"{index}.jpg").write_bytes(content)
            photos[f"{path}/{index}.jpg"] = photo_id(content)
        shelf = Shelf(path, disk, other, photos, photo_id(_content(name, PHOTOS)))
        self._return(shelf)
        return shelf


def _content(shelf: str, number: int) -> bytes:
    return photo(Random(f"{shelf}/{number}"))


def _asks(seen: Seen, shelf: Shelf) -> bool:
    """Whether the daemon waits for somebody to decide about a folder."""
    return any(reason.startswith(f"{shelf.path}:") for reason in seen.reasons)


class _Thread(threading.Thread):
    """One that keeps its error for whoever waits for it."""

    def __init__(self, run: Any, *arguments: object) -> None:
        super().__init__(name=run.__name__)
        self._run, self._arguments = run, arguments
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._run(*self._arguments)
        except BaseException as error:  # noqa: BLE001 - raised again where the thread is waited for
            self._error = error

    def raise_error(self) -> None:
        if self._error is not None:
            raise self._error


def run(rounds: int, seed: int, cache: Path) -> bool:
    """Do the rounds, tell of each, and return whether every answered decision was in force."""
    if why := obstacle():
        print(f"the drill cannot mount anything: {why}")
        return False
    stress = Stress(seed, cache)
    lost = ghosts = 0
    try:
        stress.start()
        for number in range(1, rounds + 1):
            found = stress.round(number)
            lost, ghosts = lost + len(found.lost), ghosts + len(found.ghosts)
            print(
                f"round {number:4}  {stress.decisions:5} decisions, {stress.kills} kills  {found}".rstrip(), flush=True
            )
            if found:
                break
    except (DrillError, HTTPException, OSError) as error:
        stress.close()
        print(f"{type(error).__name__}: {error}\nkept: {stress.installation.root}")
        return False
    stress.close()
    print(f"rounds {number}, decisions {stress.decisions:,}, lost {lost}, ghosts {ghosts} (--seed {seed})")
    if lost or ghosts:
        print(f"kept: {stress.installation.root}")
        return False
    stress.installation.remove()
    return True
