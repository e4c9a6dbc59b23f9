"""The methods whose labels another method can begin with."""

from icm_rl.icm.methods.base import MadeConsistent
from icm_rl.icm.methods.bootstrap import Bootstrap
from icm_rl.icm.methods.random_few_shot import RandomFewShot
from icm_rl.icm.methods.zero_shot import ZeroShot

_SHOTS = 8
"""Examples of a context at most: what only begins must not cost more than what follows."""

BEGINNINGS: dict[str, type[MadeConsistent]] = {
    method.name: method for method in (ZeroShot, RandomFewShot, Bootstrap)
}


def beginning(name: str, consistency: bool, centered: bool) -> MadeConsistent:
    """The method of a name, with its defaults but for what the method after it decides by.

    Args:
        name: One of ``BEGINNINGS``.
        consistency: Whether the most confident example of a group decides on it (Algorithm 4).
        centered: Whether log-odds are taken less their center.
    """
    method = BEGINNINGS[name](consistency=consistency)
    method.objective = "centered" if centered else "mean_log_odds"
    if isinstance(method, RandomFewShot):
        method.most_shots = _SHOTS
    return method
