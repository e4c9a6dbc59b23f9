"""Stage 3: a policy trained against a reward model."""
