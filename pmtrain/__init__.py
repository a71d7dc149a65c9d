"""pmtrain: train, evaluate and look into classifiers of medical images, on PaddlePaddle."""

__version__ = "0.1.0"
