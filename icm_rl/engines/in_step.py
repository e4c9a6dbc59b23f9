"""Jobs side by side, whose requests one engine answers together, so that its batches are full.

A search asks, decides, and asks again, a few requests at a time. Several searches that wait for
each other ask as many times the requests at once::

    search 0   decides ─ asks ┐           ┌ decides ─ asks ┐
    search 1   decides ─ asks ├ one call ─┤ decides ─ asks ├ one call ─ …
    search 2   decides ─ asks ┘           └ ends
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

from icm_rl.engines.base import Request
from icm_rl.engines.local import LocalEngine

Result = TypeVar("Result")


class Place:
    """The engine as one of several jobs sees it.

    Args:
        engine: The job's own part of the engine.

    Attributes:
        seconds: What the job took so far: its own time, and its share of the calls it was part of.
    """

    def __init__(self, engine: LocalEngine):
        self.engine, self.seconds = engine, 0.0
        self.context_length = engine.context_length
        self._said: SimpleQueue[tuple[str, Any]] = SimpleQueue()
        self._answers: SimpleQueue[list[tuple[float, ...]] | None] = SimpleQueue()
        self._afresh = False

    @property
    def prompt_tokens(self) -> int:
        return self.engine.prompt_tokens

    @property
    def computed_tokens(self) -> int:
        return self.engine.computed_tokens

    @property
    def missing_labels(self) -> int:
        return self.engine.missing_labels

    def count_tokens(self, text: str) -> int:
        return self.engine.count_tokens(text)

    def forget(self) -> None:
        """Also keeps the next call apart from the other jobs': no answer depends on them then."""
        self.engine.forget()
        self._afresh = True

    def label_log_probs(self, requests: Sequence[Request]) -> list[tuple[float, ...]]:
        if self._afresh:
            self._afresh = False
            return self.engine.label_log_probs(requests)
        self._said.put(("asks", requests))
        answers = self._answers.get()
        if answers is None:
            raise _Ended
        return answers

    def begin(self, job: Callable[["Place"], Any]) -> tuple[str, Any]:
        """Lets a job run until it asks, ends or fails: what it says, and the word for that."""

        def run() -> None:
            try:
                said = ("ends", job(self))
            except _Ended:
                return
            except BaseException as error:
                said = ("fails", error)
            self._said.put(said)

        Thread(target=run, daemon=True).start()
        return self._listen()

    def go_on(self, answers: list[tuple[float, ...]]) -> tuple[str, Any]:
        """Answers a job and lets it run on, as ``begin`` does."""
        self._answers.put(answers)
        return self._listen()

    def end(self) -> None:
        """Ends a job that has asked."""
        self._answers.put(None)

    def _listen(self) -> tuple[str, Any]:
        start = time.monotonic()
        said = self._said.get()
        self.seconds += time.monotonic() - start
        return said


class _Ended(BaseException):
    """Another job failed."""


def in_step(
    engine: LocalEngine, jobs: Sequence[Callable[[Place], Result]], places: int
) -> list[Result]:
    """Runs jobs side by side, each in a thread of its own, of which one at a time runs.

    Args:
        engine: Answers all of them; each place has an equal share of what it may keep.
        jobs: What is to be run, each with an engine of its own. A job that comes to a place after
            another one finds nothing kept.
        places: How many jobs are under way at most.

    Returns:
        What the jobs return, in their order.

    Raises:
        Exception: The first that a job raises; no other job goes on then.
    """
    results: dict[int, Result] = {}
    todo = deque(enumerate(jobs))
    asked: dict[Place, tuple[int, Sequence[Request]]] = {}

    def heard(place: Place, number: int, said: tuple[str, Any]) -> None:
        what, value = said
        if what == "asks":
            asked[place] = number, value
        elif what == "fails":
            raise value
        else:
            results[number] = value
            place.engine.forget()
            begin(place.engine)

    def begin(own: LocalEngine) -> None:
        if todo:
            number, job = todo.popleft()
            place = Place(own)
            heard(place, number, place.begin(job))

    try:
        for own in engine.apart(places):
            begin(own)
        while asked:
            waiting = dict(asked)
            start = time.monotonic()
            answers = LocalEngine.together(
                [(place.engine, requests) for place, (_, requests) in waiting.items()]
            )
            share = (time.monotonic() - start) / len(waiting)
            for (place, (number, _)), found in zip(waiting.items(), answers, strict=True):
                place.seconds += share
                del asked[place]
                heard(place, number, place.go_on(found))
    finally:
        for place in asked:
            place.end()
    return [results[number] for number in range(len(jobs))]
