"""ResNets in plain PyTorch, a bottleneck's stride on its 3x3 convolution, and the notes' training in it."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn


class Basic(nn.Module):
    EXPANSION = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*conv_bn(inputs, width, 3, stride), nn.ReLU(inplace=True), *conv_bn(width, width, 3))
        self.short = shortcut(inputs, width, stride)

    def forward(self, x):
        return torch.relu(self.body(x) + self.short(x))


class Bottleneck(nn.Module):
    EXPANSION = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *conv_bn(inputs, width, 1),
            nn.ReLU(inplace=True),
            *conv_bn(width, width, 3, stride),
            nn.ReLU(inplace=True),
            *conv_bn(width, 4 * width, 1),
        )
        self.short = shortcut(inputs, 4 * width, stride)

    def forward(self, x):
        return torch.relu(self.body(x) + self.short(x))


def shortcut(inputs: int, outputs: int, stride: int) -> nn.Module:
    same = inputs == outputs and stride == 1
    return nn.Identity() if same else nn.Sequential(*conv_bn(inputs, outputs, 1, stride))


def conv_bn(inputs: int, outputs: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    return [convolution, nn.BatchNorm2d(outputs)]


DEPTHS: dict[int, tuple[type[nn.Module], tuple[int, ...]]] = {
    18: (Basic, (2, 2, 2, 2)),
    34: (Basic, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
    152: (Bottleneck, (3, 8, 36, 3)),
}


def resnet(depth: int) -> nn.Module:
    block, depths = DEPTHS[depth]
    layers: list[nn.Module] = [*conv_bn(3, 64, 7, 2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)]
    channels = 64
    for stage, (width, count) in enumerate(zip((64, 128, 256, 512), depths, strict=True)):
        for index in range(count):
            layers.append(block(channels, width, 2 if index == 0 and stage else 1))
            channels = block.EXPANSION * width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 1))


def new_step(precision: str, layers: int = 50):
    """A channels-last model, its optimizer, and one training step on (N, 3, S, S) images and (N, 1) labels."""
    torch.manual_seed(0)
    model = resnet(layers).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9, weight_decay=0.001)

    def step(images, labels):
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            logits = model(images.contiguous(memory_format=torch.channels_last))
        loss = nn.functional.binary_cross_entropy_with_logits(logits.float(), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    return model, step


class Images(torch.utils.data.Dataset):
    """JPEG files and their labels, resized and scaled as in the notes."""

    def __init__(self, samples: list[tuple[str, int]], size: int) -> None:
        self.samples, self.size = samples, size

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int):
        import cv2

        path, label = self.samples[index]
        image = cv2.resize(cv2.imread(path), (self.size, self.size)).transpose(2, 0, 1)
        return torch.from_numpy(image.astype("float32") / 255.0 * 2.0 - 1.0), torch.tensor([float(label)])


def job(data: Path, precision: str, epochs: int, batch_size: int, size: int, layers: int, workers: int) -> float:
    """The notes' whole training on iChallenge-PM; returns the last validation accuracy."""
    import csv

    from loading import one_thread

    # The first letter names the class: P is pathological.
    training = [(str(path), int(path.name[0] == "P")) for path in sorted((data / "PALM-Training400").glob("*.jpg"))]
    with open(data / "labels.csv", encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    validation = [(str(data / "PALM-Validation400" / row["imgName"]), int(row["Label"])) for row in rows]
    model, step = new_step(precision, layers)
    options = {"batch_size": batch_size, "num_workers": workers, "persistent_workers": True}
    options["worker_init_fn"] = one_thread
    train_loader = torch.utils.data.DataLoader(Images(training, size), shuffle=True, **options)
    valid_loader = torch.utils.data.DataLoader(Images(validation, size), **options)
    accuracy = 0.0
    for _ in range(epochs):
        model.train()
        for images, labels in train_loader:
            step(images, labels)
        model.eval()
        right = 0
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            for images, labels in valid_loader:
                logits = model(images.contiguous(memory_format=torch.channels_last))
                right += int(((logits >= 0) == (labels == 1)).sum())
        accuracy = right / len(validation)
    return accuracy
