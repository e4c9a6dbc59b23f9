"""Runs a recipe under FSDP on CPUs, which accelerate does on GPUs alone; the rest of it can."""

import runpy
import sys

from accelerate import PartialState
from accelerate.utils import DistributedType

_init = PartialState.__init__


def _as_if_on_gpus(state: PartialState, *args, **kwargs) -> None:
    began = PartialState._shared_state == {}
    _init(state, *args, **kwargs)
    if began:
        state.distributed_type = DistributedType.MULTI_GPU


PartialState.__init__ = _as_if_on_gpus
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
