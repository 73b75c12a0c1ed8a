"""The principal plane against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from wisp.interference import principal
from wisp.interference.principal import principal_plane


def test_it_is_the_plane_of_scikit_learn() -> None:
    vectors = torch.randn(9, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    plane, known = principal_plane(vectors), PCA(2).fit(vectors.numpy())
    assert plane is not None
    for ours, theirs in zip(plane.components.numpy(), known.components_, strict=True):
        assert np.abs(ours @ theirs) == pytest.approx(1)
        assert ours[np.abs(ours).argmax()] > 0
    assert plane.explained == pytest.approx(known.explained_variance_ratio_)
    places = plane.places(vectors - vectors.mean(0)).numpy()
    np.testing.assert_allclose(np.abs(places), np.abs(known.transform(vectors.numpy())), rtol=1e-9)


@pytest.mark.parametrize(
    "vectors",
    [torch.eye(2, 5), torch.ones(4, 5), torch.arange(4.0)[:, None] * torch.ones(5)],
    ids=["two", "same", "line"],
)
def test_vectors_without_a_plane(vectors: torch.Tensor) -> None:
    assert principal_plane(vectors) is None


def test_entries_are_looked_at_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = torch.randn(6, 40, generator=torch.Generator().manual_seed(1))
    whole = principal_plane(vectors)
    monkeypatch.setattr(principal, "_BLOCK", 7)
    parts = principal_plane(vectors)
    assert whole is not None
    assert parts is not None
    torch.testing.assert_close(parts.components, whole.components)
    torch.testing.assert_close(parts.places(vectors), whole.places(vectors))
