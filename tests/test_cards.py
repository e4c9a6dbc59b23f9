from huggingface_hub import ModelCard

from icm_rl.cards import write_model_card
from icm_rl.files import write_json


def test_a_card_is_the_hubs_and_names_no_place_on_this_machine(tmp_path):
    run, model = tmp_path / "reward", tmp_path / "rm"
    model.mkdir()
    settings = {"rewards": [str(model)], "seed": 0, "max_kl": None}
    write_json(run / "settings.json", {"settings": settings})
    metrics = {"accuracy": 0.98765, "bins": [1], f"eval/rewards/{model}": 0.5}
    write_model_card(run, run, "Reward model: a", "It scores.", "org/base", ["rm"], metrics)
    card = ModelCard.load(run / "README.md")
    assert card.data.base_model == "org/base"
    assert card.data.tags == ["icm_rl", "rm"]
    assert "| accuracy | 0.9877 |" in card.text and "bins" not in card.text
    assert "| eval/rewards/rm | 0.5 |" in card.text
    assert "rewards:\n- rm\nseed: 0\n" in card.text and "max_kl" not in card.text
    assert str(tmp_path) not in str(card)
