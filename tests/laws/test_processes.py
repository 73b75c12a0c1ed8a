"""Law: two processes with half a batch each are one process with the whole batch, in loss, gradient and weights."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from small_methods import PROGRESS, cases, fixed_batch, memory_of, small_method, total


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], list[dict[str, Any]]]]:
    folder = tmp_path_factory.mktemp("pair")
    command = [sys.executable, str(Path(__file__).with_name("pair_worker.py"))]
    workers = [
        subprocess.Popen(
            [*command, str(rank), str(folder / "store")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for rank in range(2)
    ]

    def ask(name: str) -> list[dict[str, Any]]:
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write(f"{name} {folder / name}\n")
            worker.stdin.flush()
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline().strip() == "done"
        return [torch.load(f"{folder / name}.{rank}", weights_only=True) for rank in range(2)]

    yield ask
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.close()
        worker.wait(timeout=30)


def _halves(whole: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """BatchNorm over each half of the batch by itself, as two processes compute it."""

    def normalised(x: torch.Tensor, *arguments: Any, **options: Any) -> torch.Tensor:
        return torch.cat([whole(half, *arguments, **options) for half in x.chunk(2)])

    return normalised


@pytest.mark.parametrize("name", cases())
def test_two_processes_equal_one(
    name: str, pair: Callable[[str], list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = pair(name)
    method = small_method(name, batch_size=32).double()
    method.before_epoch(0)
    batch = fixed_batch(method, 32, dtype=torch.float64)
    optimizer = torch.optim.SGD(method.parameters(), lr=1e-3)
    if method.synchronised:  # the others form their groups by themselves
        monkeypatch.setattr(F, "batch_norm", _halves(F.batch_norm))
    losses = []
    for step in range(2):
        optimizer.zero_grad()
        loss = total(method(batch, PROGRESS[step]))
        loss.backward()
        gradients = {key: p.grad.clone() for key, p in method.named_parameters() if p.grad is not None}
        optimizer.step()
        method.after_step(0.5)
        losses.append(loss.item())
    for rank in found:
        assert rank["losses"] == pytest.approx(losses, rel=1e-9)
        assert rank["gradients"].keys() == gradients.keys()
        for key, gradient in gradients.items():
            torch.testing.assert_close(rank["gradients"][key], gradient, rtol=1e-9, atol=1e-12)
        for key, parameter in method.named_parameters():
            torch.testing.assert_close(rank["parameters"][key], parameter, rtol=1e-9, atol=1e-12)
        for key, buffer in memory_of(method).items():
            torch.testing.assert_close(rank["memory"][key], buffer, rtol=1e-9, atol=1e-12)
