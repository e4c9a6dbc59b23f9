"""Tiny random models of many architectures, as transformers builds them from their configs."""

import torch
from transformers import AutoConfig

_COMMON = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_WINDOW = {"sliding_window": 16}
_STATE = {
    "mamba_n_heads": 4,
    "mamba_d_head": 16,
    "mamba_d_state": 8,
    "mamba_n_groups": 1,
    "mamba_chunk_size": 8,
}
_DELTA = {
    "num_hidden_layers": 4,
    "layer_types": ["linear_attention", "full_attention"] * 2,
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
_NO_HEAD_DIM = {"head_dim": None}
_NO_LIMIT = {"max_position_embeddings": None}

ARCHITECTURES = {
    "llama": {},
    "qwen2": {},
    "qwen3": {},
    "smollm3": {},
    "stablelm": {},
    "glm4": {},
    "granite": {},
    "olmo2": {},
    "phi3": {},
    "gpt_neox": {},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, **_NO_HEAD_DIM},
    "opt": {"ffn_dim": 64, "word_embed_proj_dim": 32},
    "falcon": {"new_decoder_architecture": False, **_NO_HEAD_DIM},
    "bloom": {"n_layer": 2, "n_head": 4, **_NO_HEAD_DIM, **_NO_LIMIT},
    "mpt": {"d_model": 32, "n_heads": 4, "n_layers": 2, **_NO_HEAD_DIM, **_NO_LIMIT},
    "mixtral": {"num_local_experts": 4},
    "deepseek_v3": {
        "num_key_value_heads": 4,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "first_k_dense_replace": 1,
        "n_group": 1,
        "topk_group": 1,
        "q_lora_rank": 8,
        "kv_lora_rank": 8,
        "head_dim": 4,
        "qk_rope_head_dim": 4,
        "qk_nope_head_dim": 8,
        "v_head_dim": 8,
    },
    "mistral": _WINDOW,
    "starcoder2": _WINDOW,
    "gemma2": _WINDOW,
    "gemma3_text": _WINDOW,
    "olmo3": _WINDOW,
    "cohere2": _WINDOW,
    "gpt_oss": {"num_local_experts": 4, **_WINDOW},
    "llama4_text": {"num_local_experts": 2},
    # layers with a state
    "qwen3_next": {
        **_DELTA,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 16,
    },
    "qwen3_5_text": _DELTA,
    "bamba": {**_STATE, "num_hidden_layers": 3, "attn_layer_indices": [1]},
    "granitemoehybrid": {
        **_STATE,
        "num_hidden_layers": 3,
        "layer_types": ["mamba", "attention", "mamba"],
        "num_local_experts": 0,
        "shared_intermediate_size": 32,
    },
    "lfm2": {"num_hidden_layers": 3, "layer_types": ["conv", "full_attention", "conv"]},
    "falcon_h1": {**_STATE, "mamba_d_ssm": 32, "mamba_d_head": 8},
    "recurrent_gemma": {
        "num_hidden_layers": 3,
        "lru_width": 32,
        "attention_window_size": 16,
        "block_types": ["recurrent", "recurrent", "attention"],
    },
    "mamba": {"state_size": 8, "time_step_rank": 4, **_NO_LIMIT},
    "mamba2": {"num_heads": 8, "head_dim": 8, "state_size": 8, "n_groups": 1, "chunk_size": 8},
}
"""What each needs to be tiny, by ``model_type``."""


def tiny(name: str, kind: type, vocabulary: int, **settings):
    """A random model of an architecture, large enough in its weights for answers to differ.

    Args:
        name: Its ``model_type``.
        kind: An auto class of transformers.
        vocabulary: Its tokens.
        **settings: Others of its config.
    """
    values = {**_COMMON, "vocab_size": vocabulary, **ARCHITECTURES[name], **settings}
    given = {key: value for key, value in values.items() if value is not None}
    torch.manual_seed(0)
    model = kind.from_config(AutoConfig.for_model(name, **given)).float().eval()
    for weight in model.parameters():
        if weight.dim() > 1:
            weight.data.normal_(0, 0.08)
    return model
