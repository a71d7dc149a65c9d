"""What a network looks at in an image."""
