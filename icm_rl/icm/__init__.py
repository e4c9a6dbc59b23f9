"""Stage 1: Internal Coherence Maximization (Wen et al. 2025, arXiv 2506.10139)."""
