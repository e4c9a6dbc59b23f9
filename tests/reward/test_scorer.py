import pytest
import torch

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


def test_batched_scores_equal_single_forward_passes(reward_model):
    scorer = RewardScorer.load(str(reward_model), batch_tokens=40)
    found = scorer.score(CHATS)
    for chat, score in zip(CHATS, found, strict=True):
        ids = scorer.tokenizer.apply_chat_template(chat, return_dict=False)
        with torch.no_grad():
            alone = scorer.model(torch.tensor([ids])).logits[0, 0].item()
        assert score == pytest.approx(alone, abs=1e-4)
    assert scorer.score([]) == []  # of fewer rows than processes, some have none


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
