"""The encoders that wisp lists, with their size in million parameters; read without importing torch."""

from __future__ import annotations

TESTED: dict[str, tuple[float, str]] = {
    "resnet20": (0.27, "CIFAR ResNet of SACL-XD, 32 px; also comes as .pt2"),
    "resnet20x2": (1.09, "twice as wide"),
    "resnet20x4": (4.33, "four times as wide, SlimCLR's Fig. 5"),
    "resnet8": (0.08, "the smallest of its family, for first tries"),
    "mobilenetv1_100": (3.21, "224 px"),
    "mobilenetv2_100": (2.22, "224 px"),
    "mobilenetv3_small_100": (1.52, "224 px"),
    "mobilenetv3_large_100": (4.20, "224 px"),
    "mobilenetv4_conv_small": (2.49, "256 px"),
    "efficientnet_b0": (4.01, "224 px"),
    "efficientnet_b1": (6.51, "256 px"),
    "resnet18": (11.18, "224 px"),
    "resnet34": (21.28, "224 px"),
    "resnet50": (23.51, "224 px"),
    "repvit_m0_9": (4.72, "224 px"),
    "mobileone_s0": (4.27, "224 px"),
    "vit_tiny_patch16_224": (5.52, "224 px; widths are thirds, for its 3 heads"),
    "deit_tiny_patch16_224": (5.52, "224 px; widths are thirds, for its 3 heads"),
    "convnext_atto": (3.37, "224 px"),
    "regnety_002": (2.79, "224 px"),
    "ghostnet_100": (3.90, "224 px"),
    "fastvit_t8": (3.26, "256 px"),
    "mobilevitv2_050": (1.11, "256 px"),
    "efficientformerv2_s0": (3.25, "224 px; widths are eighths, for its 8 heads"),
}
"""Those that the tests slice."""

UNSLICED: dict[str, tuple[float, str]] = {
    "resnet20_pad": (0.27, "zero-pad shortcuts, as in public CIFAR-10 checkpoints; cannot be sliced"),
    "resnet32_pad": (0.46, "the same, deeper"),
    "resnet44_pad": (0.66, "the same, deeper"),
    "resnet56_pad": (0.85, "the same, deeper"),
}
"""Ours that no method with a sub-network takes: which of their channels are zero is fixed."""
