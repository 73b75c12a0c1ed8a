"""The command line for a process of its own, without the exports that take most of a tiny run's time."""

from __future__ import annotations

import torch

from wisp import finishing
from wisp.cli import main
from wisp.export import stock

if __name__ == "__main__":
    torch.set_num_threads(1)
    finishing.missing_extra = lambda: "no ONNX twin: left out by the test"
    stock.export_program = lambda network, images, path: path.write_bytes(b"left out")
    main()
