"""What a module keeps between passes outside its buffers: it belongs to other weights after the next gather."""

from __future__ import annotations

from torch import Tensor, nn

_TORCHS = frozenset(vars(nn.Module()))
Caches = tuple[tuple[nn.Module, str], ...]


def caches_of(network: nn.Module) -> Caches:
    """Dictionaries of the network's own that are empty or hold tensors, as timm's attention biases by device."""
    return tuple(
        (module, name)
        for module in network.modules()
        for name, value in vars(module).items()
        if isinstance(value, dict) and name not in _TORCHS and all(isinstance(v, Tensor) for v in value.values())
    )


def clear(caches: Caches) -> None:
    """Forget what is kept."""
    for module, name in caches:
        getattr(module, name).clear()
