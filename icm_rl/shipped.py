"""The recipes, scripts and configs that are installed with this package."""

from importlib.util import find_spec
from pathlib import Path

CONFIGS = Path("recipes/configs")
"""Where the configs are in a checkout; they are named so from anywhere."""


def script(path: str) -> str:
    """The file of a recipe or script, named as in a checkout: ``recipes/ppo.py``.

    It is the checkout's where the package was installed from one in place, else the installed one.
    """
    module = path.removesuffix(".py").replace("/", ".")
    found = find_spec(f"icm_rl.{module}")
    if found is None or found.origin is None:
        raise FileNotFoundError(f"{path} is not installed; install icm_rl by pip")
    return found.origin


def configs() -> Path:
    """The folder of the configs."""
    return Path(script("recipes/__init__.py")).parent / "configs"


def shipped(path: str) -> str:
    """A config's path as it is, or where there is no such file that of the config shipped so.

    So ``recipes/configs/miniature.yaml`` names the same file in a checkout and in any folder.
    """
    if not Path(path).exists() and Path(path).is_relative_to(CONFIGS):
        own = configs() / Path(path).relative_to(CONFIGS)
        if own.exists():
            return str(own)
    return path
