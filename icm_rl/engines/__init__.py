"""Who answers "log P(label | context)"."""

from icm_rl.engines.base import Engine, Request
from icm_rl.engines.local import LocalEngine

__all__ = ["Engine", "LocalEngine", "Request"]
