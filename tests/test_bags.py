from __future__ import annotations

import pytest
import torch

from wisp import bags
from wisp.bags import nearest


@pytest.fixture
def rows() -> torch.Tensor:
    """40 rows of length 1; the 7th, 8th and 30th are equal."""
    found = torch.randn(40, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found[8] = found[30] = found[7]
    return torch.nn.functional.normalize(found, dim=1)


@pytest.mark.parametrize("block", [4096, 7, 40, 3])
def test_they_are_the_nearest_by_the_cosine_and_never_itself(rows, block, monkeypatch):
    monkeypatch.setattr(bags, "_BLOCK", block)
    calls = []
    found = nearest(rows, 5, progress=lambda done, of: calls.append((done, of)))
    assert found.dtype == torch.int64
    assert found.shape == (40, 5)
    for place, row in enumerate(rows):
        others = sorted(((float(row @ other), -i) for i, other in enumerate(rows) if i != place), reverse=True)
        mine = [float(row @ rows[i]) for i in found[place]]
        assert mine == pytest.approx([cosine for cosine, _ in others[:5]], abs=1e-6)
        assert place not in found[place]
        assert len(set(found[place].tolist())) == 5
    assert {8, 30} <= set(found[7].tolist())
    assert calls[-1] == (40, 40)


def test_all_others_may_be_asked_for(rows):
    assert all(
        sorted(row.tolist()) == [i for i in range(40) if i != place] for place, row in enumerate(nearest(rows, 39))
    )


def test_half_precision_is_enough(rows):
    apart = (nearest(rows.half(), 3) != nearest(rows, 3)).float().mean()
    assert apart < 0.1
