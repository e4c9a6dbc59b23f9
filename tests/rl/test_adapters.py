"""What a sync to vLLM does to the weights below LoRA adapters: TRL's merges, as it makes them."""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model

from icm_rl.rl.vllm import unchanged


def adapted(model):
    """The model in bfloat16, with adapters that add something to it."""
    config = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", init_lora_weights=False)
    torch.manual_seed(0)
    return get_peft_model(model, config).to(torch.bfloat16)


@pytest.mark.parametrize("kept", [True, False])
def test_base_weights_are_the_same_after_a_hundred_syncs(kept, model):
    policy = adapted(copy.deepcopy(model))
    before = {name: weight.clone() for name, weight in policy.state_dict().items()}
    for _ in range(100):
        if kept:
            with unchanged(policy):
                policy.merge_adapter()
                policy.unmerge_adapter()
        else:
            policy.merge_adapter()
            policy.unmerge_adapter()
    after = policy.state_dict()
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert bool(changed) is not kept
    assert all(".base_layer." in name for name in changed)
