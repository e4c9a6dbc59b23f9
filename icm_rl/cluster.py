"""Copies of an object on a Ray cluster, each in an actor of its own, that share work out."""

import os
from collections.abc import Callable, Sequence
from functools import cache, partial
from itertools import chain
from math import ceil
from typing import Any

from accelerate import PartialState

from icm_rl.errors import InputError
from icm_rl.runner import quiet_libraries

try:
    import ray
    from ray.exceptions import RayTaskError
    from ray.util import ActorPool
except ImportError:
    raise InputError("--ray_actors needs the extra 'ray': pip install icm_rl[ray]") from None

_PIECES = 4
"""Into so many pieces for each copy work is cut, so that none waits long for the slowest."""


class Copies:
    """So many copies of an object; each has a GPU, where the cluster has any, or else a core.

    The cluster is that of ``RAY_ADDRESS``, or one on this machine. A copy whose process or machine
    dies is made anew, and what it was asked is asked again.

    Args:
        count: How many.
        make: Makes one, there.
        *args: What it is made from.

    Raises:
        InputError: The cluster cannot be reached, or has not as many GPUs or cores, or several
            processes would each ask for that many.
    """

    def __init__(self, count: int, make: Callable[..., Any], *args: Any):
        if PartialState().num_processes > 1:
            raise InputError(
                "--ray_actors are asked by one process; start the recipe by python, without a "
                "launcher"
            )
        if not ray.is_initialized():
            _join()
        kind = "GPU" if ray.cluster_resources().get("GPU") else "CPU"
        most = int(ray.cluster_resources().get(kind, 0))
        if count > most:
            raise InputError(
                f"--ray_actors {count}: the cluster has {most} {kind}s, and each actor takes one; "
                f"set --ray_actors {most} or less"
            )
        kept = {"max_restarts": -1, "max_task_retries": -1, f"num_{kind.lower()}s": 1}
        holder = ray.remote(**kept)(_Holder)
        self._holders = [holder.remote(make, args) for _ in range(count)]

    def share(self, method: str, items: Sequence[Any], *args: Any) -> list[Any]:
        """What a method returns of each piece of a list, in order.

        Args:
            method: A method of the object, which is given a piece and ``args``.
            items: The list that is cut into pieces.
            *args: What it is given beside each.

        Raises:
            InputError: The method says so.
        """
        size = max(1, ceil(len(items) / (_PIECES * len(self._holders))))
        pieces = [items[start : start + size] for start in range(0, len(items), size)]
        try:
            pool = ActorPool(self._holders)
            return list(
                pool.map(lambda holder, own: holder.call.remote(method, own, *args), pieces)
            )
        except RayTaskError as error:
            if isinstance(error.cause, InputError):
                raise InputError(str(error.cause)) from None
            raise

    def each(self, method: str, *args: Any) -> None:
        """Calls a method of each copy."""
        ray.get([holder.call.remote(method, *args) for holder in self._holders])


class _Holder:
    """What an actor is: one copy, made when it is first asked, so that its errors are an answer."""

    def __init__(self, make: Callable[..., Any], args: Sequence[Any]):
        self.made = cache(partial(make, *args))

    def call(self, method: str, *args: Any) -> Any:
        quiet_libraries()
        return getattr(self.made(), method)(*args)


def joined(pieces: Sequence[Sequence[Any]]) -> list[Any]:
    """The items of all pieces."""
    return list(chain.from_iterable(pieces))


def _join() -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    except ConnectionError as error:
        address = os.environ.get("RAY_ADDRESS", "this machine")
        reason = str(error).strip().split("\n")[0]
        raise InputError(f"--ray_actors: no Ray cluster at {address} ({reason})") from None
