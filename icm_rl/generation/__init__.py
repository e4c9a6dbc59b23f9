"""Answers sampled from a causal language model, here or on a server."""
