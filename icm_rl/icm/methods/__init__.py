"""The ways to label a data set, by name."""

from dataclasses import fields

from icm_rl.errors import InputError
from icm_rl.functions import load_function
from icm_rl.icm.methods.base import ByLogOdds, Cost, Job, Labeling, Method, Need
from icm_rl.icm.methods.bootstrap import Bootstrap
from icm_rl.icm.methods.easy_to_hard import EasyToHard
from icm_rl.icm.methods.ensemble import Ensemble
from icm_rl.icm.methods.folds import Folds
from icm_rl.icm.methods.judge import Judge
from icm_rl.icm.methods.known import Golden, Human, Perturbed
from icm_rl.icm.methods.probes import CCS, PCA, RandomProbe
from icm_rl.icm.methods.random_few_shot import RandomFewShot
from icm_rl.icm.methods.search import Search
from icm_rl.icm.methods.self_training import SelfTraining
from icm_rl.icm.methods.zero_shot import ZeroShot

METHODS: dict[str, type[Method]] = {
    method.name: method
    for method in (
        *(Search, Folds, ZeroShot, RandomFewShot, Bootstrap, SelfTraining, EasyToHard, Judge),
        *(CCS, PCA, RandomProbe, Golden, Human, Perturbed, Ensemble),
    )
}

__all__ = [
    "METHODS",
    "ByLogOdds",
    "Cost",
    "Job",
    "Labeling",
    "Method",
    "Need",
    "load_method",
    "settings_of",
]


def load_method(name: str) -> type[Method]:
    """A method by its name, or a class of the user's own, ``FILE.py:CLASS``.

    Raises:
        InputError: There is no such method, file or class.
    """
    if name in METHODS:
        return METHODS[name]
    if ":" not in name:
        raise InputError(
            f"--method '{name}' is not known; give one of {', '.join(METHODS)} or a class of your "
            "own as FILE.py:CLASS"
        )
    found = load_function("method", name)
    if not isinstance(found, type) or not issubclass(found, Method):
        raise InputError(f"--method {name}: no subclass of icm_rl.icm.methods.Method")
    return found


def settings_of(method: type[Method]) -> list[str]:
    """The names of a method's own settings."""
    return [field.name for field in fields(method)]  # type: ignore[arg-type]
