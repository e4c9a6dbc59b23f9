"""The programs that score and report; installed as ``icm_rl.eval``."""
