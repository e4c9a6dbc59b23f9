"""Reward models and assistants without human labels, from ICM labels to RewardBench."""
