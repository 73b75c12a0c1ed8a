"""Encoders out and in: a state_dict that the card's build call loads strictly, and the loader that insists on it.

"Stock" means that `factory(**kwargs)` of the card gives a network with exactly these tensors and exactly these outputs.
What timm cannot build (a dense wide host, a CIFAR ResNet) also comes as a self-contained program, and what has a stock
network's layers at other sizes with a list of these sizes.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from wisp.encoders.stock import EncoderSpec, call
from wisp.encoders.weights import load_strictly, mismatches
from wisp.errors import WispError
from wisp.export.card import CARD, file_name, load_lines, read_card
from wisp.export.narrow import fitted, read_narrow, sizes_of, write_narrow
from wisp.export.program import export_program, load_program
from wisp.files import write_bytes, write_json


def export_encoder(
    encoder: nn.Module, spec: EncoderSpec, folder: Path, *, card: Mapping[str, Any]
) -> tuple[dict[str, str], list[str]]:
    """Writes weights, a program where timm cannot build the network, and the card; of an encoder or a classifier.

    Files are called by the card's kind, and the same weights give the same bytes of `encoder.safetensors`. `encoder`
    stays as it is, wherever it is.

    Args:
        encoder: maps normalised images [B,3,H,W] to [B,D], or to logits [B,C].
        spec: the architecture that it should be; if its tensors differ the card says `build: null`.
        folder: created when missing.
        card: from `wisp.export.card.card`.

    Returns:
        Kind of file -> its name, and why the program is not among them where it should be.

    Raises:
        WispError: a weight is not finite, the tensors fit `spec` but its outputs differ, or the folder cannot be
            written.
    """
    network = standalone(encoder)
    # Tied weights share memory, which safetensors refuses; timm wants each name.
    tensors = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    twin = _build(spec.factory, spec.kwargs)
    images = torch.rand(2, 3, spec.image_size, spec.image_size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    broken = next((name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())), None)
    if broken is not None:
        raise WispError(f"{broken} holds non-finite weights: training has diverged; lower --lr and train again")
    with torch.inference_mode():
        features = int(network(images).shape[1])
    stock = not mismatches(twin.state_dict(), tensors)
    if stock:
        twin.load_state_dict(tensors)
        _same_outputs(twin, network, images, spec.name)
    folder.mkdir(parents=True, exist_ok=True)
    files, notes = {"safetensors": file_name(card, "safetensors")}, []
    write_bytes(folder / files["safetensors"], safetensors.torch.save(tensors, metadata={"format": "pt"}))
    if not (stock and spec.is_timm):
        files |= _narrow(network, twin, tensors, spec, folder, images)
        try:
            export_program(network, images, folder / file_name(card, "pt2"))
            files["pt2"] = file_name(card, "pt2")
        except WispError as error:  # the weights are what the training was for
            notes.append(str(error))
    files["card"] = CARD
    build = {"factory": spec.factory, "kwargs": dict(spec.kwargs)} if stock else None
    content = {**card, "features": features, "build": build, "files": files}
    write_json(folder / CARD, {**content, "load": load_lines(content)})
    return files, notes


def load_encoder(path: Path | str) -> nn.Module:
    """The encoder in an exported folder, or in one file, in eval mode on the CPU.

    Rebuilt by the card's call, at the sizes of `narrow.json` if there is one, and loaded only if every tensor fits.
    Where there is no such call, or no weights, it is the program `encoder.pt2`, which computes the same but cannot be
    trained.

    Args:
        path: an exported folder, a `.pt2` file, or a `.safetensors` file of any name with the card beside it.

    Raises:
        WispError: nothing is there, the card or a file is damaged, or a tensor is missing, unexpected or of another
            shape (named).
    """
    path = Path(path)
    if not path.exists():
        raise WispError(f"{path} does not exist; name an exported folder or its .safetensors file")
    if path.is_file() and path.suffix not in (".safetensors", ".pt2"):
        raise WispError(f"{path} is no file that wisp loads; name a .safetensors or .pt2 file, or the exported folder")
    if path.suffix == ".pt2":
        return load_program(path)
    folder = path if path.is_dir() else path.parent
    content = read_card(folder)
    weights = folder / file_name(content, "safetensors") if path.is_dir() else path
    program = folder / file_name(content, "pt2")
    build = content.get("build")
    files = content.get("files", {"safetensors": weights.name})
    if path.is_dir() and "safetensors" not in files:
        return load_program(program)
    if build is None and "narrow" in files:
        factory, kwargs, sizes = read_narrow(folder)
        return fitted(_build(factory, kwargs), sizes, read_weights(weights), str(weights))
    if build is None and path.is_dir():
        return load_program(program)
    if build is None:  # the weights that were asked for, in the only network that takes them
        loaded = load_program(program)
        load_strictly(loaded.network, read_weights(weights), str(weights))
        return loaded
    try:
        factory, kwargs = str(build["factory"]), dict(build["kwargs"])
    except (KeyError, TypeError, ValueError):
        raise WispError(f"{folder / CARD} names no build call; export the encoder again") from None
    encoder = _build(factory, kwargs)
    load_strictly(encoder, read_weights(weights), str(weights))
    return encoder


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file, on the CPU.

    Raises:
        WispError: the file is missing or damaged.
    """
    try:
        tensors: dict[str, Tensor] = safetensors.torch.load_file(path)
    except FileNotFoundError:
        raise WispError(f"{path} does not exist; export the encoder again") from None
    except (OSError, safetensors.SafetensorError) as error:
        raise WispError(f"{path} is not a whole safetensors file ({error}); export the encoder again") from None
    return tensors


def standalone(encoder: nn.Module) -> nn.Module:
    """A copy for deployment: on the CPU, float32, eval mode, without gradients, every tensor contiguous."""
    network = copy.deepcopy(encoder).cpu().float().eval().requires_grad_(False)
    for tensor in (*network.parameters(), *network.buffers()):
        # clone, since contiguous() keeps the channels_last strides of a 1x1 convolution, and kernels go by strides
        tensor.data = tensor.data.clone(memory_format=torch.contiguous_format)
    return network


def _narrow(
    network: nn.Module,
    twin: nn.Module,
    tensors: dict[str, Tensor],
    spec: EncoderSpec,
    folder: Path,
    images: Tensor,
) -> dict[str, str]:
    """Writes the sizes of a network that is narrower than the stock one; a wide host is not deployed.

    Returns:
        Kind of file -> its name; none where the sizes do not describe the network.
    """
    smaller = sum(t.numel() for t in tensors.values()) < sum(t.numel() for t in twin.state_dict().values())
    sizes = sizes_of(network, twin) if smaller else None
    if sizes is None:
        return {}
    try:
        rebuilt = fitted(_build(spec.factory, spec.kwargs), sizes, tensors, spec.name).eval()
        with torch.inference_mode():
            same = torch.equal(rebuilt(images), network(images))
    except (WispError, RuntimeError):  # a size that is no attribute; the program serves, and the training was for it
        same = False
    if not same:
        return {}
    return write_narrow(folder, spec.factory, dict(spec.kwargs), sizes)


def _build(factory: str, kwargs: dict[str, Any]) -> nn.Module:
    # Random weights that nobody keeps must not move the generator of a run that exports between epochs.
    with torch.random.fork_rng(devices=[]):
        return call(factory, kwargs).eval()


def _same_outputs(twin: nn.Module, network: nn.Module, images: Tensor, name: str) -> None:
    with torch.inference_mode():
        if not torch.equal(twin(images), network(images)):
            raise WispError(f"this encoder has the tensors of {name} but computes something else; it is not exported")
