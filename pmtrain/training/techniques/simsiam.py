"""SimSiam: learning features from images without labels, by two versions of each image that should be told alike."""

from __future__ import annotations

from typing import Any

from pmtrain.models.backends.choose import Backend
from pmtrain.models.resnet import ConvBNLayer, ResNet
from pmtrain.system.framework import paddle

nn: Any = paddle.nn
WIDTH, HIDDEN = 512, 128  # of the projection and its output; inside the prediction


class SimSiam(nn.Layer):
    """A network without its classifier, a projection of its features and a prediction of the projection.

    For two versions of N images, z = projection(features) and p = prediction(z), the loss is the mean over images of
    -(cos(p1, z2) + cos(p2, z1)) / 2, where no gradient flows through z. It lies in [-1, 1].

    Args:
        body: its `out` is replaced by the identity.
    Source: Chen and He 2021, "Exploring simple Siamese representation learning", equations 1 to 4; two layers of
        projection, as theirs for small images.
    """

    def __init__(self, body: ResNet) -> None:
        super().__init__()
        features = body.out.weight.shape[0]
        body.out = nn.Identity()
        self.body = body
        self.layers, self.frozen = body.layers, list[ConvBNLayer]()  # what restoring a state asks of a network
        with paddle.utils.unique_name.guard():  # its parameters are numbered alike in every process
            self.projection = nn.Sequential(*_hidden(features, WIDTH), *_hidden(WIDTH, WIDTH)[:2])
            self.prediction = nn.Sequential(*_hidden(WIDTH, HIDDEN), nn.Linear(HIDDEN, WIDTH))

    def forward(self, images, backend: Backend):
        """(2 N, 3, S, S), the second versions after the first -> the loss, and the spread of the projections.

        The spread is that of unit vectors over images: 1 where they point everywhere, 0 where all are the same.
        """
        with backend.autocast():
            z = self.projection(self.body(images))  # (2 N, WIDTH)
            p = self.prediction(z)
        z = nn.functional.normalize(z.detach().astype("float32"))
        p = nn.functional.normalize(p.astype("float32"))
        first, second = paddle.split(z, 2)
        loss = -(p * paddle.concat([second, first])).sum(axis=1).mean()
        return loss, z.std(axis=0, unbiased=False).mean() * WIDTH**0.5


def _hidden(inputs: int, outputs: int) -> list[Any]:
    """A layer without a bias, batch norm, ReLU."""
    return [nn.Linear(inputs, outputs, bias_attr=False), nn.BatchNorm1D(outputs), nn.ReLU()]
