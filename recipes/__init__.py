"""The stages as programs; installed as ``icm_rl.recipes``."""
