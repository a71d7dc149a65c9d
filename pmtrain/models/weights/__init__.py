"""Weights of ResNets under other libraries' names, brought into this project's and back."""
