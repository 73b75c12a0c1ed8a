"""The ONNX twin of an encoder, checked by onnxruntime."""

from __future__ import annotations

import contextlib
import importlib.util
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wisp.errors import one_line
from wisp.export.stock import standalone
from wisp.export.twin import USE_WEIGHTS, compare
from wisp.files import write_bytes
from wisp.muting import muted

TOLERANCE = 1e-4


def missing_extra() -> str | None:
    """One line that names the extra to install, or None when ONNX export can run."""
    absent = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
    if not absent:
        return None
    return f"no ONNX twin: {', '.join(absent)} not installed; pip install -e '.[onnx]', then wisp export RUN --to onnx"


def export_onnx(encoder: nn.Module, images: Tensor, path: Path, output: str = "features") -> dict[str, float] | None:
    """Writes the encoder as ONNX (float32, eval mode, dynamic batch, fixed size) and compares both on `images`.

    The graph has one input, `images` [B,3,H,W] (normalised), and one output: `features` [B,D], or `logits` [B,C].

    Args:
        encoder: maps [B,3,H,W] to [B,D]; stays as it is.
        images: normalised images [16,3,H,W], real ones wherever there are any; they fix H and W.
        path: of the file.
        output: its name in the graph.

    Returns:
        `max_difference` over all outputs and the `tolerance` that it met, 1e-4 * max(1, max|y|); None when the extra is
        not installed (`missing_extra` has the line for it).

    Raises:
        WispError: the encoder cannot be expressed in ONNX, onnxruntime cannot run it or computes something else, or the
            file cannot be written; an earlier file stays as it was.
    """
    if missing_extra() is not None:
        return None
    network = standalone(encoder)
    images = images.detach().to("cpu", torch.float32).contiguous()
    with one_line("ONNX cannot express this encoder", USE_WEIGHTS):
        model = _translate(network, images, output)
    with one_line("onnxruntime cannot run the ONNX twin of this encoder", USE_WEIGHTS):
        found = compare("ONNX twin", network, _session(model), images, TOLERANCE)
    write_bytes(path, model)
    return found


def _translate(network: nn.Module, images: Tensor, output: str) -> bytes:
    """The ONNX file's content; two images, because torch.export takes a batch of one for a constant."""
    example = images[:1].expand(2, -1, -1, -1).contiguous()
    with _quiet():
        program = torch.onnx.export(
            network,
            (example,),
            dynamo=True,
            input_names=["images"],
            output_names=[output],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    _strip(model)
    content: bytes = model.SerializeToString(deterministic=True)  # refuses 2 GB and more
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


def _session(model: bytes) -> Callable[[Tensor], Tensor]:
    """[B,3,H,W] -> [B,D] on the CPU, by onnxruntime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences the exporter, which reports its progress on stdout, warns about itself and logs."""
    with muted("torch.onnx", "onnxscript", "onnx_ir"), contextlib.redirect_stdout(io.StringIO()):
        yield
