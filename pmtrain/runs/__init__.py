"""What a run keeps on disk: its folder, its checkpoints, and the state in them."""
