"""One of the two gloo processes that serve all methods: reads a method's name and a file name a line, trains two
steps."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from small_methods import PROGRESS, fixed_batch, memory_of, small_method, total
from wisp.data.loader import Batch


def two_steps(name: str, rank: int, per_rank: int = 16) -> dict[str, object]:
    method = small_method(name, batch_size=2 * per_rank).double()
    method.before_epoch(0)
    whole = fixed_batch(method, 2 * per_rank, dtype=torch.float64)
    mine = slice(rank * per_rank, (rank + 1) * per_rank)
    batch = Batch(
        views=tuple(view[mine] for view in whole.views),
        index=whole.index[mine],
        labels=None if whole.labels is None else whole.labels[mine],
        companions=tuple(view[mine] for view in whole.companions),
        remembered=None if whole.remembered is None else whole.remembered[mine],
    )
    idle = len(method.phases()) > 1
    wrapped = DistributedDataParallel(method, broadcast_buffers=False, find_unused_parameters=idle)
    optimizer = torch.optim.SGD(method.parameters(), lr=1e-3)
    losses = []
    for step in range(2):
        optimizer.zero_grad()
        loss = total(wrapped(batch, PROGRESS[step]))
        loss.backward()
        gradients = {key: p.grad.clone() for key, p in method.named_parameters() if p.grad is not None}
        optimizer.step()
        method.after_step(0.5)
        losses.append(loss.item())
    return {
        "losses": losses,
        "gradients": gradients,
        "parameters": dict(method.named_parameters()),
        "memory": memory_of(method),
    }


def main() -> None:
    rank, store = int(sys.argv[1]), sys.argv[2]
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    for line in sys.stdin:
        name, path = line.split()
        torch.save(two_steps(name, rank), f"{path}.{rank}")
        print("done", flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
