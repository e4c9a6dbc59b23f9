"""Stage 4: RewardBench's data and score, for reward models and for a policy's answers."""
