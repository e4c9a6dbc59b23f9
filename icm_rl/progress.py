"""Progress with rate and time left: a bar on a terminal, a plain line now and then in a log."""

import sys
import time

from tqdm import tqdm

_SECONDS_BETWEEN_LINES = 15.0


class Progress:
    """Counts a stage's steps and shows the numbers that matter while one waits.

    Args:
        name: What is being done.
        total: How many steps it takes.
        done: How many of them an earlier, killed run has done.
        unit: What a step is called.
        shown: Whether this process shows anything.
    """

    def __init__(self, name: str, total: int, done: int = 0, unit: str = "it", shown: bool = True):
        self.plain = not sys.stderr.isatty()
        self.bar = tqdm(
            desc=name, total=total, initial=done, unit=unit, disable=self.plain or not shown
        )
        self.name, self.total, self.unit, self.shown = name, total, unit, shown
        self.done = self.initial = done
        self.start = self.last_line = time.monotonic()

    def advance(self, steps: int = 1, /, **numbers: float) -> None:
        """Counts ``steps`` and shows ``numbers`` beside the bar."""
        self.done += steps
        values = {name: f"{value:.4g}" for name, value in numbers.items()}
        if not self.shown:
            return
        if self.plain:
            now = time.monotonic()
            if now - self.last_line >= _SECONDS_BETWEEN_LINES or self.done == self.total:
                self.last_line = now
                self._line(", ".join(f"{name}={value}" for name, value in values.items()))
            return
        self.bar.set_postfix(values, refresh=False)
        self.bar.update(steps)

    def close(self) -> None:
        self.bar.close()

    def _line(self, numbers: str) -> None:
        meter = tqdm.format_meter(
            self.done,
            self.total,
            time.monotonic() - self.start,
            prefix=self.name,
            unit=self.unit,
            initial=self.initial,
            postfix=numbers,
            bar_format="{desc} {percentage:.0f}% {n_fmt}/{total_fmt} "
            "[{elapsed}<{remaining}, {rate_fmt}{postfix}]",
        )
        print(meter, file=sys.stderr, flush=True)
