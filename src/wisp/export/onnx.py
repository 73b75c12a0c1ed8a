"""The ONNX twin of an encoder, checked by onnxruntime on real images."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wisp.errors import WispError
from wisp.export.stock import standalone
from wisp.files import write_bytes

ONNX = "encoder.onnx"
TOLERANCE = 1e-4


def missing_extra() -> str | None:
    """One line that names the extra to install, or None when ONNX export can run."""
    absent = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
    if not absent:
        return None
    return f"no ONNX twin: {', '.join(absent)} not installed; pip install 'wisp[onnx]', then wisp export RUN --to onnx"


def export_onnx(encoder: nn.Module, images: Tensor, path: Path) -> dict[str, float] | None:
    """Writes the encoder as ONNX (float32, eval mode, dynamic batch, fixed size) and compares both on `images`.

    The graph has one input, `images` [B,3,H,W] (normalised), and one output, `features` [B,D].

    Args:
        encoder: maps [B,3,H,W] to [B,D]; stays as it is.
        images: real normalised images [16,3,H,W]; they fix H and W.
        path: of the file.

    Returns:
        `max_difference` over all outputs and the `tolerance` that it met, 1e-4 * max(1, max|y|); None when the extra is
        not installed (`missing_extra` has the line for it).

    Raises:
        WispError: the encoder cannot be expressed in ONNX, onnxruntime computes something else, or the file cannot be
            written; no file is left.
    """
    if missing_extra() is not None:
        return None
    network = standalone(encoder)
    images = images.detach().to("cpu", torch.float32).contiguous()
    model = _translate(network, images)
    difference, tolerance = _compare(network, images, model)
    if not difference <= tolerance:  # also when it is NaN
        raise WispError(
            f"no ONNX twin was written: it differs from the encoder by {difference:.1e}, more than {tolerance:.1e}"
        )
    write_bytes(path, model)
    return {"max_difference": difference, "tolerance": tolerance}


def _translate(network: nn.Module, images: Tensor) -> bytes:
    """The ONNX file's content; two images, because torch.export takes a batch of one for a constant."""
    example = images[:1].expand(2, -1, -1, -1).contiguous()
    try:
        with _quiet():
            program = torch.onnx.export(
                network,
                (example,),
                dynamo=True,
                input_names=["images"],
                output_names=["features"],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                verbose=False,
            )
    except Exception as error:  # the exporter raises what the traced code raises
        raise WispError(f"ONNX cannot express this encoder ({_first_line(error)}); use encoder.safetensors") from error
    assert program is not None
    model = program.model_proto
    _strip(model)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _strip(model: Any) -> None:
    """Removes the exporter's notes, which hold the paths of this machine and are half of a small file."""
    for part in (model, model.graph, *model.functions):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    nodes = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    values = [*model.graph.input, *model.graph.output, *model.graph.value_info, *model.graph.initializer]
    for item in (*nodes, *values):
        item.ClearField("doc_string")
        item.ClearField("metadata_props")


def _compare(network: nn.Module, images: Tensor, model: bytes) -> tuple[float, float]:
    """Largest difference on all images at once and on the first alone, and what is allowed."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    difference, largest = 0.0, 1.0
    for batch in (images, images[:1]):
        with torch.inference_mode():
            wanted = network(batch)
        got = torch.from_numpy(session.run(None, {"images": batch.numpy()})[0])
        if got.shape != wanted.shape:
            raise WispError(f"the ONNX twin gives {list(got.shape)}, the encoder {list(wanted.shape)}; not written")
        # torch's max keeps a NaN, Python's would drop it
        difference = float(torch.stack([torch.tensor(difference), (wanted - got).abs().max()]).max())
        largest = max(largest, float(wanted.abs().max()))
    return difference, TOLERANCE * largest


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences the exporter, which reports its progress on stdout, warns about itself and logs on two loggers."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
