"""Stage 2: a reward model from preferences, and the one way this project scores text with it."""
