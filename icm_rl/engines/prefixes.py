"""Requests as a tree of segments: what of them is to be computed, known before anything runs.

The tree outlives a call. A segment that an engine has kept since an earlier call costs nothing, so
contexts that only grow at their end cost their new segments.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from icm_rl.engines.base import Request

LONGEST_RUN = 2048
"""Tokens of one run at most, so that the attention mask of a long prefill stays small."""


@dataclass(eq=False)
class Segment:
    """A piece of text after its parent's.

    Attributes:
        text: The piece.
        tokens: Its token ids.
        parent: The segment before it; None at the root, which has no tokens.
        past: How many tokens stand before it.
        depth: How many segments stand before it.
        children: What may follow, by text.
        used: The last pass that needs it.
        requests: The open requests whose query it is.
        kept: What an engine keeps of it, or None.
    """

    text: str
    tokens: list[int]
    parent: "Segment | None" = None
    past: int = 0
    depth: int = 0
    children: dict[str, "Segment"] = field(default_factory=dict)
    used: int = 0
    requests: list[int] = field(default_factory=list)
    kept: Any = None

    @property
    def end(self) -> int:
        """How many tokens the prompt has up to here."""
        return self.past + len(self.tokens)

    def path(self) -> list["Segment"]:
        """The segments from the first one to this one."""
        path, segment = [], self
        while segment.parent is not None:
            path.append(segment)
            segment = segment.parent
        return path[::-1]


Run = list[Segment]
"""Segments one after the other that are computed together."""


def run_tokens(run: Run) -> int:
    """The tokens that a run computes."""
    return run[-1].end - run[0].past


class PrefixTree:
    """The segments of this call's requests and those kept from earlier ones.

    Args:
        encode: Token ids of a piece.
        budget: How many tokens of contexts may be kept; one prompt's always are.
        first: A piece at the start of each prompt, or None.
        state: What a kept segment takes beside its tokens, in tokens. Where it takes something,
            runs are of one segment each, so that each ends in its own state.
    """

    def __init__(
        self,
        encode: Callable[[str], list[int]],
        budget: int,
        first: str | None = None,
        state: int = 0,
    ):
        self._encode, self._budget, self._state = encode, budget, state
        self._start = () if first is None else (first,)
        self._pass = 0
        self._kept: set[Segment] = set()
        self.root = Segment("", [], kept=())

    def passes(self, requests: Sequence[Request]) -> Iterator[list[Run]]:
        """Puts requests into the tree and takes up as many at a time as the budget allows.

        Yields:
            For each pass the runs with which it begins; ``after`` gives those that follow a run.
        """
        for index, request in enumerate(requests):
            segment = self.root
            for piece in (*self._start, *request.context, request.query):
                segment = self._child(segment, piece)
            segment.requests.append(index)
        asked = [segment for segment in self.segments() if segment.requests]
        while asked:
            self._pass += 1
            taken, needed = 0, 0
            for segment in asked:
                path = [part for part in segment.path() if part.used != self._pass]
                tokens = sum(self._held(part) for part in path if part.children)
                if taken and needed + tokens > self._budget:
                    break
                for part in path:
                    part.used = self._pass
                taken, needed = taken + 1, needed + tokens
            self._make_room(needed)
            yield self.after(self.root)
            for segment in asked[:taken]:
                segment.requests = []
            asked = asked[taken:]
        for segment in self.segments():
            segment.children = {k: c for k, c in segment.children.items() if c.kept is not None}

    def keep(self, segment: Segment, value: Any) -> None:
        """Keeps what an engine computed for a segment that others follow."""
        segment.kept = value
        self._kept.add(segment)

    def answered(self, segment: Segment) -> None:
        """Takes a query out that was answered, unless other segments follow it."""
        segment.requests = []
        if segment.parent is not None and not segment.children:
            del segment.parent.children[segment.text]

    def _make_room(self, needed: int) -> None:
        """Drops what this pass does not need, until what it needs fits beside the rest.

        What was not used for the longest goes first; of one pass's segments, the deepest.
        """
        others = [segment for segment in self._kept if segment.used != self._pass]
        spare = self._budget - needed - sum(self._held(other) for other in others)
        for segment in sorted(others, key=lambda other: (other.used, -other.depth)):
            if spare >= 0:
                break
            spare += self._held(segment)
            segment.kept = None
            self._kept.remove(segment)

    def _held(self, segment: Segment) -> int:
        return len(segment.tokens) + self._state

    def _child(self, parent: Segment, piece: str) -> Segment:
        if piece not in parent.children:
            parent.children[piece] = Segment(
                piece, self._encode(piece), parent, parent.end, parent.depth + 1
            )
        return parent.children[piece]

    def segments(self) -> Iterator[Segment]:
        """All segments, depth first, so that those of like prefixes stand side by side."""
        stack = [self.root]
        while stack:
            segment = stack.pop()
            yield segment
            stack += reversed(segment.children.values())

    def after(self, segment: Segment) -> list[Run]:
        """The runs of this pass that follow a segment; what is kept is left out."""
        runs, stack = [], [segment]
        while stack:
            for child in self._needed(stack.pop()):
                if self._is_there(child):
                    stack.append(child)
                else:
                    runs.append(self._run(child))
        return runs

    def _needed(self, segment: Segment) -> list[Segment]:
        return [child for child in segment.children.values() if child.used == self._pass]

    @staticmethod
    def _is_there(segment: Segment) -> bool:
        return segment.kept is not None and not segment.requests

    def _run(self, segment: Segment) -> Run:
        run = [segment]
        while not run[-1].requests and not self._state:
            needed = self._needed(run[-1])
            if len(needed) != 1 or self._is_there(needed[0]):
                break
            if needed[0].end - segment.past > LONGEST_RUN:
                break
            run.append(needed[0])
        return run

    def clear(self) -> None:
        """Removes all segments."""
        self.root.children, self._kept = {}, set()
