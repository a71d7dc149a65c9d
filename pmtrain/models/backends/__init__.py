"""What computes a network: Paddle's kernels or the oneDNN engine."""
