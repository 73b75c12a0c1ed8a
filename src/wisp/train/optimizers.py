"""Optimizers by name, and which parameters they leave alone.

LARS is timm's (trust ratio, clipping and exclusion as in the released recipes), SGD and AdamW are torch's. AdamW takes
all parameters at once, which torch does by itself on a GPU alone; so it is the same numbers in two thirds of the time.
Fused ones are faster still, but break SGD's momentum where a parameter's first gradient comes late or overflows, and
keep fp16's scale to themselves.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from timm.optim import Lars
from torch import nn

Name = Literal["lars", "sgd", "adamw"]
_MOMENTUM = 0.9
_TOKENS = ("pos_embed", "cls_token", "reg_token")


def is_plain(name: str, parameter: nn.Parameter) -> bool:
    """Whether a parameter gets neither weight decay nor LARS scaling: biases, norms, positions, tokens."""
    return parameter.ndim <= 1 or name.rpartition(".")[2] in _TOKENS


def groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups of a method: with weight decay (and LARS) and without, each split by whether its rate is fixed.

    Args:
        module: whose parameters that want a gradient are trained; `constant_lr` names modules of it, if it has any.
        weight_decay: for matrices and filters only.
    """
    fixed = tuple(f"{prefix}." for prefix in getattr(module, "constant_lr", ()))
    found: dict[tuple[bool, bool], list[nn.Parameter]] = {(False, False): [], (False, True): []}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            found.setdefault((name.startswith(fixed), is_plain(name, parameter)), []).append(parameter)
    return [
        {
            "params": parameters,
            "weight_decay": 0.0 if plain else weight_decay,
            "always_adapt": not plain,
            "scheduled": not constant,
        }
        for (constant, plain), parameters in found.items()
    ]


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Sets the learning rate of this step where it follows the schedule; a group's is a fixed part of it."""
    for group in optimizer.param_groups:
        if group["scheduled"]:
            group["lr"] = lr * group["lr_factor"]


def build(
    name: Name,
    module: nn.Module,
    *,
    lr: float,
    weight_decay: float,
    trust: float = 0.001,
    clip: bool = False,
    plain_lr: float = 1.0,
) -> torch.optim.Optimizer:
    """The optimizer over all parameters of `module`.

    Args:
        name: `lars`, `sgd` (both with momentum 0.9) or `adamw`.
        module: whose parameters are trained.
        lr: learning rate; the loop sets it anew before every step.
        weight_decay: for matrices and filters only.
        trust: LARS trust coefficient (You et al. 2017).
        clip: whether LARS holds the trust ratio at or below 1.
        plain_lr: factor on the learning rate of what LARS leaves alone.
    """
    parameters = groups(module, weight_decay)
    for group in parameters:
        group["lr_factor"] = plain_lr if name == "lars" and not group["always_adapt"] else 1.0
        group["lr"] = lr * group["lr_factor"]
    if name == "lars":
        lars: torch.optim.Optimizer = Lars(parameters, lr=lr, momentum=_MOMENTUM, trust_coeff=trust, trust_clip=clip)
        return lars
    for group in parameters:
        del group["always_adapt"]
    if name == "sgd":
        return torch.optim.SGD(parameters, lr=lr, momentum=_MOMENTUM)
    return torch.optim.AdamW(parameters, lr=lr, foreach=True)
