"""CIFAR ResNets (He et al. 2016, section 4.2): a 3x3 stem and three stages of basic blocks, 16-32-64 wide.

`resnet20` has 1x1-convolution shortcuts (0.27 M parameters): every shortcut is then an ordinary convolution whose
channels can be selected. timm has no such network, so its exports also come as a self-contained program.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, [B,C,H,W] -> [B,C',H/stride,W/stride]."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """[B,C,H,W] -> [B,C',H/stride,W/stride]."""
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class CifarResNet(nn.Module):
    """Features of a CIFAR ResNet, [B,3,H,W] -> [B,D]; D is the last width (64)."""

    def __init__(self, depths: Sequence[int], widths: Sequence[int] = (16, 32, 64)) -> None:
        super().__init__()
        self.num_features = widths[-1]
        self.conv1 = nn.Conv2d(3, widths[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        inputs = widths[0]
        stages: list[nn.Sequential] = []
        for stage, (depth, width) in enumerate(zip(depths, widths, strict=True), start=1):
            blocks = []
            for block in range(depth):
                blocks.append(BasicBlock(inputs, width, stride=2 if stage > 1 and block == 0 else 1))
                inputs = width
            stages.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3 = stages
        self.pool = nn.AdaptiveAvgPool2d(1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """[B,3,H,W] -> [B,D]."""
        x = F.relu(self.bn1(self.conv1(x)))
        for stage in (self.layer1, self.layer2, self.layer3):
            x = stage(x)
        pooled: Tensor = self.pool(x)
        return pooled.flatten(1)


def resnet20() -> CifarResNet:
    """ResNet-20 with 1x1-convolution shortcuts: 0.27 M parameters, 64 features."""
    return CifarResNet((3, 3, 3))


def resnet20x2() -> CifarResNet:
    """ResNet-20 at twice the width: 1.1 M parameters, 128 features."""
    return CifarResNet((3, 3, 3), (32, 64, 128))


def resnet20x4() -> CifarResNet:
    """ResNet-20 at four times the width, the host of SlimCLR's Fig. 5: 4.3 M parameters, 256 features."""
    return CifarResNet((3, 3, 3), (64, 128, 256))


def resnet8() -> CifarResNet:
    """ResNet-8: the smallest of the family, for tests and first tries."""
    return CifarResNet((1, 1, 1))
