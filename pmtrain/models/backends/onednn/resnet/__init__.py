"""The plans of the ResNets: training, and inference with batch norms folded in."""
