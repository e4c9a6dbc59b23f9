"""Stage 1: label a data set with a base model by Internal Coherence Maximization.

    python recipes/icm.py --config recipes/configs/miniature/icm.yaml

With ``--processes N``, or started by ``torchrun --nproc_per_node N``, its processes share out the
searches.

Departs from Algorithm 1 of the paper in two points, as the authors' code does: the mutual
predictability is the mean of the labels' log-odds (``--objective``), and a proposal that repeats
the current label is not scored.
"""

import os
import signal
import sys
from multiprocessing.queues import SimpleQueue

import torch
from accelerate import Accelerator
from accelerate.utils.other import get_free_port
from torch.multiprocessing import ProcessExitedException, get_context, spawn
from transformers.utils import is_bitsandbytes_available
from trl import ModelConfig, get_quantization_config

from icm_rl.engines import Engine, LocalEngine
from icm_rl.errors import InputError, quiet_libraries, run
from icm_rl.files import open_stage
from icm_rl.icm.config import IcmConfig, stage_settings
from icm_rl.icm.labeling import label_dataset, plan_pools
from icm_rl.models import load_causal_lm, load_config, load_tokenizer, resolve
from icm_rl.settings import parse
from icm_rl.tasks import Task


def main() -> None:
    (config,) = parse([IcmConfig])
    if config.processes == 1 or "LOCAL_RANK" in os.environ:  # or a launcher started them
        label(config)
        return
    errors = get_context("spawn").SimpleQueue()
    try:
        spawn(_process, (config, get_free_port(), errors), config.processes)
    except ProcessExitedException as error:
        if not errors.empty():
            raise InputError(errors.get()) from None
        raise SystemExit(error.exit_code) from None


def _process(rank: int, config: IcmConfig, port: int, errors: SimpleQueue) -> None:
    # torch sends this when the starting process dies; a script's background job would ignore it
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    count = str(config.processes)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": count}
    os.environ |= {"LOCAL_WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    threads = max(1, torch.get_num_threads() // config.processes)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    torch.set_num_threads(threads)
    quiet_libraries()
    try:
        label(config)
    except InputError as error:
        errors.put(str(error))
        sys.exit(2)


def label(config: IcmConfig) -> None:
    """Labels the data set; of several processes, each calls this."""
    accelerator = Accelerator(cpu=not torch.accelerator.is_available())
    task = config.configured_task
    data = task.load(config.source, config.limit)
    engine = load_engine(config, task, accelerator)
    pools = plan_pools(data, engine, config)
    inputs = {"data": str(config.source), "model": resolve(config.model)}
    with accelerator.main_process_first():
        stage = open_stage(config.output_dir, stage_settings(config), inputs)
    if stage.complete:
        accelerator.print(f"{config.output_dir}: complete, nothing to do")
        return
    metrics = label_dataset(data, pools, engine, config) or {}
    for name, value in metrics.items():
        print(f"{name:>28}  {value if not isinstance(value, float) else round(value, 4)}")
    accelerator.end_training()


def load_engine(config: IcmConfig, task: Task, accelerator: Accelerator) -> Engine:
    """The model in this process, or the connection to a server."""
    tokenizer = load_tokenizer(config.model, config.trust_remote_code)
    labels = list(task.labels.values())
    if config.server:
        try:
            from icm_rl.engines.server import ServerConfig, ServerEngine
        except ImportError:
            raise InputError(
                "--server needs the extra 'server': pip install icm_rl[server]"
            ) from None
        settings = ServerConfig(
            config.server[accelerator.process_index % len(config.server)],
            config.server_kind,
            config.served_model,
            config.top_logprobs,
            config.concurrency,
            config.request_timeout,
            config.request_retries,
        )
        return ServerEngine(
            settings,
            tokenizer,
            labels,
            load_config(config.model, config.trust_remote_code).max_position_embeddings,
            config.cache_tokens,
        )
    quantisation = None
    if config.load_in_8bit or config.load_in_4bit:
        if not is_bitsandbytes_available():
            raise InputError(
                "--load_in_8bit and --load_in_4bit need the extra 'quantized': pip install "
                "icm_rl[quantized]"
            )
        dtype = config.dtype
        if dtype == "auto":
            dtype = load_config(config.model, config.trust_remote_code).dtype
        quantisation = get_quantization_config(
            ModelConfig(
                dtype=dtype, load_in_8bit=config.load_in_8bit, load_in_4bit=config.load_in_4bit
            )
        )
    model = load_causal_lm(
        config.model,
        config.dtype,
        config.trust_remote_code,
        device_map=config.device_map or accelerator.device,
        quantization_config=quantisation,
    )
    return LocalEngine(model, tokenizer, labels, config.cache_tokens)


if __name__ == "__main__":
    run(main)
