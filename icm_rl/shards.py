"""Shares of a stage's work for jobs that know nothing of each other, as a SLURM array starts them.

Work is saved in files that are whole or absent. A job does its share of those that are missing, and
a run without a share does all of them and goes on from there.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from icm_rl.errors import InputError

T = TypeVar("T")


class ShareDone(Exception):
    """A job's share is done: the rest is another's."""


def share_done_line(shard: str | None) -> str:
    """What a job says at its end."""
    return (
        f"shard {shard}: its share is done; when all are, the same command without --shard writes "
        "the results"
    )


@dataclass(frozen=True)
class Shard:
    """One of several shares of the work.

    Attributes:
        index: Its number, from 0.
        count: How many there are.
    """

    index: int = 0
    count: int = 1

    @classmethod
    def parse(cls, text: str | None) -> "Shard":
        """The share that ``--shard`` names, as 1/16 to 16/16; without one all of the work.

        Raises:
            InputError: It names none.
        """
        if text is None:
            return cls()
        number, _, count = text.partition("/")
        if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
            raise InputError(f"--shard {text}: write I/N, from 1/N to N/N, such as 1/16")
        return cls(int(number) - 1, int(count))

    def own(self, work: Sequence[T]) -> Sequence[T]:
        """What this process does: of the share's work what is its own."""
        state = PartialState()
        return work[self.index :: self.count][state.process_index :: state.num_processes]

    def wait(self, files: Iterable[Path]) -> None:
        """Waits for this run's processes, when each has done its own.

        Raises:
            ShareDone: Files of other shares are missing, without which nothing goes on.
        """
        PartialState().wait_for_everyone()
        if self.count > 1:
            # another job may save its last file meanwhile: one process looks for all
            found = [all(file.exists() for file in files)]
            broadcast_object_list(found)
            if not found[0]:
                raise ShareDone

    def end(self) -> None:
        """Leaves what is made of all shares to a run without one, so that it is made once.

        Raises:
            ShareDone: This is a share.
        """
        if self.count > 1:
            raise ShareDone
