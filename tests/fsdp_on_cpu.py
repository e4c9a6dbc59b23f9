"""Runs a recipe under FSDP on CPUs, which accelerate does on GPUs alone; the rest of it can."""

import runpy
import sys

from accelerate import PartialState
from accelerate.utils import DistributedType

PartialState(cpu=True).distributed_type = DistributedType.MULTI_GPU
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
