"""Index vectors and what they gather."""

import pytest
import torch
from torch import Tensor

from wisp.errors import WispError
from wisp.subnet.groups import Axis, ChannelGroups, Group
from wisp.subnet.indexmap import IndexMap

GROUPS = ChannelGroups(
    (
        Group("a.conv", 6, (Axis("a.conv.weight", 0), Axis("b.weight", 1))),
        Group("b", 4, (Axis("b.weight", 0), Axis("b.bias", 0))),
    )
)
HOST = {"a.conv": 6, "b": 4}


def make(a: list[int], b: list[int]) -> IndexMap:
    return IndexMap(GROUPS, HOST, {"a.conv": torch.tensor(a), "b": torch.tensor(b)})


def test_gather_selects_rows_and_columns() -> None:
    maps = make([0, 2, 5], [1, 3])
    weight = torch.arange(24.0).view(4, 6)
    assert maps.gather("b.weight", weight).tolist() == [[6, 8, 11], [18, 20, 23]]
    assert maps.gather("b.bias", torch.arange(4)).tolist() == [1, 3]
    assert maps.gather("a.conv.weight", torch.arange(12).view(6, 2)).tolist() == [[0, 1], [4, 5], [10, 11]]
    fixed = torch.randn(3)
    assert maps.gather("elsewhere", fixed) is fixed
    assert maps.sizes == {"a.conv": 3, "b": 2}


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("kernel", [3, 1])
@pytest.mark.parametrize("a", [[0, 2, 5], [0, 1, 2, 3, 4, 5]])
def test_gather_keeps_the_memory_format(a: list[int], kernel: int, last: bool) -> None:
    maps = make(a, [1, 3])
    weight = torch.randn(4, 6, kernel, kernel)
    memory_format = torch.channels_last if last else torch.contiguous_format
    parameter = weight.clone().to(memory_format=memory_format).requires_grad_()
    gathered = maps.gather("b.weight", parameter)
    assert gathered.stride() == torch.empty(2, len(a), kernel, kernel).to(memory_format=memory_format).stride()
    assert torch.equal(gathered, weight[[1, 3]][:, a])
    (grad,) = torch.autograd.grad(gathered.sum(), parameter)
    assert grad.stride() == parameter.stride()
    assert grad.sum() == gathered.numel()


def test_gather_keeps_the_memory_format_of_depthwise_weights() -> None:
    maps = make([0, 2, 5], [1, 3])
    for memory_format in (torch.channels_last, torch.contiguous_format):
        weight = torch.randn(6, 1, 3, 3).to(memory_format=memory_format)
        assert maps.gather("a.conv.weight", weight).stride() == weight.stride()


def test_identity_needs_no_gather() -> None:
    maps = IndexMap.identity(GROUPS, HOST)
    weight = torch.randn(4, 6)
    assert maps.gather("b.weight", weight) is weight
    assert maps.sizes == HOST


def test_compose_reads_through_both() -> None:
    outer = make([0, 2, 3, 5], [0, 1, 3])
    inner = IndexMap(GROUPS, outer.sizes, {"a.conv": torch.tensor([1, 3]), "b": torch.tensor([0, 2])})
    both = outer.compose(inner)
    assert both["a.conv"].tolist() == [2, 5]
    assert both["b"].tolist() == [0, 3]
    with pytest.raises(WispError, match="do not compose"):
        inner.compose(outer)


def test_update_is_in_place_and_checkpointed() -> None:
    maps = make([0, 2, 5], [1, 3])
    buffer = maps["a.conv"]
    maps.update({"a.conv": torch.tensor([1, 2, 3]), "b": torch.tensor([0, 1])})
    assert maps["a.conv"] is buffer
    assert buffer.tolist() == [1, 2, 3]
    other = make([0, 1, 2], [2, 3])
    other.load_state_dict(maps.state_dict())
    assert other["a.conv"].tolist() == [1, 2, 3]
    assert other["b"].tolist() == [0, 1]


@pytest.mark.parametrize(
    "bad",
    [
        torch.tensor([0, 2, 2]),
        torch.tensor([2, 0, 5]),
        torch.tensor([-1, 2, 5]),
        torch.tensor([0, 2, 6]),
        torch.tensor([0, 2]),
        torch.tensor([0.0, 2.0, 5.0]),
        torch.tensor([[0, 2, 5]]),
    ],
    ids=str,
)
def test_bad_indices_are_refused_and_change_nothing(bad: Tensor) -> None:
    maps = make([0, 2, 5], [1, 3])
    with pytest.raises(WispError, match=r"^a.conv: "):
        maps.update({"b": torch.tensor([0, 1]), "a.conv": bad})
    assert maps["a.conv"].tolist() == [0, 2, 5]
    assert maps["b"].tolist() == [1, 3]
    if bad.shape == (3,):
        with pytest.raises(WispError, match=r"^a.conv: "):
            IndexMap(GROUPS, HOST, {"a.conv": bad, "b": torch.tensor([1, 3])})
