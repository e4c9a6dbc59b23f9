"""Reward models and assistants without human labels: ICM labels, a reward model, PPO, RewardBench."""
