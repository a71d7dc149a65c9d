"""What a test is worth to those who act on it: net benefit, and other prevalences."""
