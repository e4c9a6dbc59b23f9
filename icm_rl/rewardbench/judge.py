"""A base or chat model as the judge: which of two answers is better, asked in both orders."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from icm_rl.engines import Engine, Request
from icm_rl.rewardbench.benchmark import BenchmarkRow
from icm_rl.rewardbench.scoring import RowScore
from icm_rl.tasks import Task
from icm_rl.tasks.pairs import as_query, compare


class PairwiseJudge:
    """Judges each chosen answer against each rejected one, without any demonstration.

    It is asked of both orders whether the first answer is better, in the words in which ICM asks.

    Args:
        engine: Who answers, with the task's labels.
        task: The words of the question: a task of pairs.
        tokenizer: Of a chat model, whose user asks the question; None for a base model.
    """

    def __init__(
        self, engine: Engine, task: Task, tokenizer: PreTrainedTokenizerBase | None = None
    ):
        self.engine, self.task, self.tokenizer = engine, task, tokenizer

    def score(self, rows: Sequence[BenchmarkRow]) -> list[RowScore]:
        """Each row's log-odds, and how right its verdicts are.

        Returns:
            For each pair of a row's answers the log-odds that the chosen one is better, asked in
            the order (chosen, rejected), and that the rejected one is, in the other order. A pair
            is won where both orders say that the chosen one is better, lost where both say the
            other, and otherwise tied. A row is credited 0 where a pair is lost, otherwise
            1 / (1 + tied pairs).
        """
        requests = []
        for row in rows:
            query = as_query(row.messages)
            for rejected in row.rejected:
                for first, second in ((row.chosen[0], rejected), (rejected, row.chosen[0])):
                    text = compare(self.task, query, first, second)
                    requests.append(Request((), self._asked(text)))
        labels = list(self.task.verbalizers)
        true, false = labels.index(True), labels.index(False)
        log_odds = iter(a[true] - a[false] for a in self.engine.label_log_probs(requests))
        scores = []
        for row in rows:
            pairs = [(next(log_odds), next(log_odds)) for _ in row.rejected]
            wins = [(chosen > 0) + (rejected <= 0) for chosen, rejected in pairs]
            credit = 0.0 if 0 in wins else 1 / (1 + wins.count(1))
            scores.append(RowScore([a for a, _ in pairs], [b for _, b in pairs], credit))
        return scores

    def _asked(self, text: str) -> str:
        if self.tokenizer is None:
            return text
        asked = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True, tokenize=False
        )
        return asked.removeprefix(self.tokenizer.bos_token or "")  # the engine begins with it


def more_confident(score: RowScore) -> float:
    """How right a judged row is if of each pair the order decides of which it is more confident.

    1 where the chosen answer wins each pair so, otherwise 0 (Algorithm 4 of the ICM paper).
    """
    pairs = zip(score.chosen, score.rejected, strict=True)
    return float(all(chosen > rejected for chosen, rejected in pairs))


def orders_agree(score: RowScore) -> bool:
    """Whether both orders name the same answer, in each of the row's pairs."""
    pairs = zip(score.chosen, score.rejected, strict=True)
    return all((chosen > 0) != (rejected > 0) for chosen, rejected in pairs)
