"""CIFAR ResNets (He et al. 2016, section 4.2): a 3x3 stem and three stages of basic blocks, 16-32-64 wide.

`resnet20` has 1x1-convolution shortcuts (0.27 M parameters): every shortcut is then an ordinary convolution whose
channels can be selected. The networks called `_pad` have the shortcuts without parameters of the paper (option A),
and with them the tensors of public CIFAR checkpoints. timm has neither, so exports also come as a self-contained
program.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class ZeroPad(nn.Module):
    """A shortcut without parameters, [B,C,H,W] -> [B,C',H/stride,W/stride]: every `stride`-th pixel of both axes.

    Its new channels are zero, half of them before the old ones and half behind (He et al. 2016, option A; the paper
    does not say where, the public checkpoints do).
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        new = outputs - inputs
        self.before, self.behind, self.stride = new // 2, new - new // 2, stride

    def forward(self, x: Tensor) -> Tensor:
        """[B,C,H,W] -> [B,C',H/stride,W/stride]."""
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.before, self.behind))


def convolution(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """A shortcut with parameters, [B,C,H,W] -> [B,C',H/stride,W/stride]: a 1x1 convolution and its norm (option B)."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


Shortcut = Callable[[int, int, int], nn.Module]
"""Channels in, channels out, stride -> the shortcut of a block that changes them."""


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, [B,C,H,W] -> [B,C',H/stride,W/stride]."""

    def __init__(self, inputs: int, outputs: int, stride: int, shortcut: Shortcut) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = shortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        """[B,C,H,W] -> [B,C',H/stride,W/stride]."""
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class CifarResNet(nn.Module):
    """Features of a CIFAR ResNet, [B,3,H,W] -> [B,D]; D is the last width (64). With classes, [B,C] of those."""

    def __init__(
        self,
        depths: Sequence[int],
        widths: Sequence[int] = (16, 32, 64),
        shortcut: Shortcut = convolution,
        *,
        classes: int = 0,
    ) -> None:
        super().__init__()
        self.num_features = widths[-1]
        self.conv1 = nn.Conv2d(3, widths[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        inputs = widths[0]
        stages: list[nn.Sequential] = []
        for stage, (depth, width) in enumerate(zip(depths, widths, strict=True), start=1):
            blocks = []
            for block in range(depth):
                blocks.append(BasicBlock(inputs, width, 2 if stage > 1 and block == 0 else 1, shortcut))
                inputs = width
            stages.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3 = stages
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(widths[-1], classes) if classes else nn.Identity()
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """[B,3,H,W] -> [B,D], or [B,C]."""
        x = F.relu(self.bn1(self.conv1(x)))
        for stage in (self.layer1, self.layer2, self.layer3):
            x = stage(x)
        outputs: Tensor = self.fc(self.pool(x).flatten(1))
        return outputs


def resnet20(num_classes: int = 0) -> CifarResNet:
    """ResNet-20 with 1x1-convolution shortcuts: 0.27 M parameters, 64 features."""
    return CifarResNet((3, 3, 3), classes=num_classes)


def resnet20x2(num_classes: int = 0) -> CifarResNet:
    """ResNet-20 at twice the width: 1.1 M parameters, 128 features."""
    return CifarResNet((3, 3, 3), (32, 64, 128), classes=num_classes)


def resnet20x4(num_classes: int = 0) -> CifarResNet:
    """ResNet-20 at four times the width, the host of SlimCLR's Fig. 5: 4.3 M parameters, 256 features."""
    return CifarResNet((3, 3, 3), (64, 128, 256), classes=num_classes)


def resnet8(num_classes: int = 0) -> CifarResNet:
    """ResNet-8: the smallest of the family, for tests and first tries."""
    return CifarResNet((1, 1, 1), classes=num_classes)


def resnet20_pad(num_classes: int = 0) -> CifarResNet:
    """ResNet-20 with zero-pad shortcuts: 0.27 M parameters, 64 features."""
    return CifarResNet((3, 3, 3), shortcut=ZeroPad, classes=num_classes)


def resnet32_pad(num_classes: int = 0) -> CifarResNet:
    """ResNet-32 with zero-pad shortcuts: 0.46 M parameters, 64 features."""
    return CifarResNet((5, 5, 5), shortcut=ZeroPad, classes=num_classes)


def resnet44_pad(num_classes: int = 0) -> CifarResNet:
    """ResNet-44 with zero-pad shortcuts: 0.66 M parameters, 64 features."""
    return CifarResNet((7, 7, 7), shortcut=ZeroPad, classes=num_classes)


def resnet56_pad(num_classes: int = 0) -> CifarResNet:
    """ResNet-56 with zero-pad shortcuts: 0.85 M parameters, 64 features."""
    return CifarResNet((9, 9, 9), shortcut=ZeroPad, classes=num_classes)
