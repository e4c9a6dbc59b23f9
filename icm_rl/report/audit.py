"""A person's answers to a random sample of labels, made on the page and stated by the report."""

from pathlib import Path
from typing import Any

from scipy.stats import binomtest

from icm_rl.errors import InputError
from icm_rl.files import fingerprint, read_json


def run_id(labels: Path) -> str:
    """What tells a run's labels from others: a hash of ``labels.jsonl``."""
    return fingerprint(labels, whole=True)


def read_audit(path: str | Path, run: str) -> dict[str, Any]:
    """What an audit's file says.

    Args:
        path: The file that the page saved.
        run: The identity of the run's labels.

    Returns:
        ``answered``, how many labels a person judged, with how many they ``agreed``, and the
        ``agreement``, 0–1, with its 95 % ``interval`` (Wilson's).

    Raises:
        InputError: The file is missing, no audit, of another run, or without an answer.
    """
    audit = read_json(path)
    answers = audit.get("answers") if isinstance(audit, dict) else None
    if not isinstance(answers, dict) or not all(isinstance(a, bool) for a in answers.values()):
        raise InputError(f"{path}: not an audit; save one from a report's page")
    if audit.get("run") != run:
        raise InputError(f"{path}: an audit of another run ({audit.get('run')}, not {run})")
    if not answers:
        raise InputError(f"{path}: holds no answer yet; judge some labels first")
    agreed = sum(answers.values())
    interval = binomtest(agreed, len(answers)).proportion_ci(method="wilson")
    return {
        "answered": len(answers),
        "agreed": agreed,
        "agreement": agreed / len(answers),
        "interval": [float(interval.low), float(interval.high)],
    }
