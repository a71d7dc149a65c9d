"""What lies under everything: errors, files, the console, the machine, Paddle itself."""
