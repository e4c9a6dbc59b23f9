import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from icm_rl.engines import LocalEngine
from icm_rl.engines.branches import Stretch, side_by_side, stretches
from icm_rl.engines.prefixes import Segment
from icm_rl.models import load_causal_lm
from tests.engines.test_local import requests

A, B, C, D, E = (Segment(name, []) for name in "abcde")


def test_shared_stretches_are_found_once():
    paths = [(A, B, C), (A, B, D), (A, E), (), (B,)]
    assert stretches(paths) == [
        Stretch(0, 3, (A,)),
        Stretch(0, 2, (B,)),
        Stretch(0, 1, (C,)),
        Stretch(1, 2, (D,)),
        Stretch(2, 3, (E,)),
        Stretch(4, 5, (B,)),
    ]


def test_a_path_that_is_the_beginning_of_another():
    assert stretches([(A, B), (A, B, C)]) == [Stretch(0, 2, (A, B)), Stretch(1, 2, (C,))]


def test_paths_with_a_common_beginning_come_to_stand_side_by_side():
    paths = [(A, B, C), (E,), (A, D), (E, A), (A, B)]
    ordered = [paths[k] for k in side_by_side(paths)]
    assert ordered == [(A, B), (A, B, C), (A, D), (E,), (E, A)]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_branches_answer_as_joined_keys_do(tokenizer, dtype):
    model = load_causal_lm("miniature", dtype)
    engine = LocalEngine(model, tokenizer, (" True", " False"), 4000)
    assert engine._branches
    asked, found = requests(40), {}
    for engine._branches in (True, False):
        first = engine.label_log_probs(asked[:25])
        found[engine._branches] = torch.tensor([*first, *engine.label_log_probs(asked[15:])])
        engine.forget()
    tolerance = 1e-4 if dtype == "float32" else 0.2
    torch.testing.assert_close(found[True], found[False], rtol=0, atol=tolerance)
    assert model.config._attn_implementation == "sdpa"


def test_the_kernel_gives_the_log_sum_exp_that_parts_are_joined_by():
    torch.manual_seed(1)
    query, keys, values = torch.randn(2, 4, 5, 8), torch.randn(2, 4, 9, 8), torch.randn(2, 4, 9, 8)
    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    parts = [kernel(query, keys[:, :, s], values[:, :, s]) for s in (slice(4), slice(4, 9))]
    whole = torch.logaddexp(parts[0][1], parts[1][1])
    joined = sum(output * (weight - whole).exp()[..., None] for output, weight in parts)
    torch.testing.assert_close(joined, scaled_dot_product_attention(query, keys, values))
