from itertools import takewhile

import pytest
import torch
from transformers import AutoModelForSequenceClassification, BertConfig, MistralConfig

from icm_rl.data import Row
from icm_rl.errors import InputError
from icm_rl.files import write_jsonl
from icm_rl.reward.scorer import RewardScorer, conversation
from icm_rl.reward.training import RewardArguments, load_preferences

CHATS = [
    conversation(prompt, answer)
    for prompt in ("What is 2 + 3?", "How do I rob the well?")
    for answer in ("2 + 3 = 5.", "Gladly, wash it, then boil it in this land.", "No.")
]


def common_beginning(sequences):
    """How many tokens several sequences begin with; none of a single one."""
    places = zip(*sequences, strict=False) if len(sequences) > 1 else ()
    return len(list(takewhile(lambda tokens: len(set(tokens)) == 1, places)))


def test_batched_scores_equal_single_forward_passes(reward_model):
    scorer = RewardScorer.load(str(reward_model), batch_tokens=40)
    found = scorer.score(CHATS)
    for chat, score in zip(CHATS, found, strict=True):
        ids = scorer.tokenizer.apply_chat_template(chat, return_dict=False)
        with torch.no_grad():
            alone = scorer.model(torch.tensor([ids])).logits[0, 0].item()
        assert score == pytest.approx(alone, abs=1e-4)
    assert scorer.score([]) == []  # of fewer rows than processes, some have none


def test_a_groups_prompt_is_computed_once_and_its_scores_stay_the_same(reward_model):
    scorer = RewardScorer.load(str(reward_model), batch_tokens=60)
    groups = [CHATS[:3], CHATS[3:5], CHATS[5:]]
    alone = [[scorer.score([chat])[0] for chat in group] for group in groups]
    computed = []
    scorer.model.base_model.register_forward_pre_hook(
        lambda module, args, kwargs: computed.append(args[0] if args else kwargs["input_ids"]),
        with_kwargs=True,
    )
    found = scorer.score_groups(groups)
    for group, expected in zip(found, alone, strict=True):
        assert group == pytest.approx(expected, abs=1e-4)
    template = scorer.tokenizer.apply_chat_template
    encoded = [[template(chat, return_dict=False) for chat in group] for group in groups]
    shared = [common_beginning(group) for group in encoded]
    assert min(shared[:2]) > 5
    tokens = sum(len(sequence) for group in encoded for sequence in group)
    tokens -= sum(prefix * (len(group) - 1) for prefix, group in zip(shared, encoded, strict=True))
    padding = scorer.tokenizer.pad_token_id
    assert sum(int((ids != padding).sum()) for ids in computed) == tokens


def test_the_last_token_of_a_group_is_never_shared(reward_model):
    scorer = RewardScorer.load(str(reward_model))
    [[one, other]] = scorer.score_groups([[CHATS[0], CHATS[0]]])
    assert one == pytest.approx(other, abs=1e-6)  # rows of one batch may differ in the last bit
    assert one == pytest.approx(scorer.score([CHATS[0]])[0], abs=1e-4)


@pytest.mark.parametrize(
    "config",
    [
        BertConfig(
            hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16
        ),
        MistralConfig(
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            intermediate_size=16,
            sliding_window=4,
        ),
    ],
    ids=["looks both ways", "looks back a little"],
)
def test_a_model_whose_prefixes_cannot_be_shared_scores_as_alone(reward_model, config):
    tokenizer = RewardScorer.load(str(reward_model)).tokenizer
    config.num_labels, config.pad_token_id = 1, tokenizer.pad_token_id
    config.vocab_size = len(tokenizer)
    scorer = RewardScorer(
        AutoModelForSequenceClassification.from_config(config).eval(), tokenizer, 60
    )
    alone = [scorer.score([chat])[0] for chat in CHATS]
    found = scorer.score_groups([CHATS[:3], CHATS[3:]])
    assert [*found[0], *found[1]] == pytest.approx(alone, abs=1e-5)


def test_text_and_messages_are_the_same_preference(tmp_path):
    text = {"prompt": "p", "chosen": "c", "rejected": "r"}
    messages = {
        "prompt": [{"role": "user", "content": "p"}],
        "chosen": [{"role": "assistant", "content": "c"}],
        "rejected": [{"role": "assistant", "content": "r"}],
    }
    write_jsonl(tmp_path / "p.jsonl", [text, messages])
    first, second = load_preferences(RewardArguments(str(tmp_path / "p.jsonl")))
    assert first == second


def test_strange_messages_are_refused():
    with pytest.raises(InputError, match="here: the field 'prompt' must be text or a list of"):
        Row("here", {"prompt": [{"role": "user"}]}).messages("prompt", "user")
