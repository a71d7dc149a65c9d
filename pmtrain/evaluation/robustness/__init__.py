"""What a score leans on, and how it holds when the images change."""
