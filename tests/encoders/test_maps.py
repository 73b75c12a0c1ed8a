"""Feature maps of any encoder: which, of what size, and that watching changes nothing."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.func import functional_call

from small_methods import SIZE, fixed_batch, small_method
from wisp.cost.count import count_step
from wisp.encoders import stock
from wisp.encoders.cifar_resnet import resnet8, resnet20
from wisp.encoders.maps import Stages, paired
from wisp.errors import WispError
from wisp.losses.relation import attention


def on_meta(name: str) -> tuple[nn.Module, int]:
    spec = stock.spec(name)
    with torch.device("meta"):
        return spec.build(), spec.image_size


def shapes(stages: Stages) -> list[tuple[int, int]]:
    return [(stage.channels, stage.side) for stage in stages.stages]


FOUND = {
    "resnet20": [(16, 32), (32, 16), (64, 8)],
    "resnet8": [(16, 32), (32, 16), (64, 8)],
    "mobilenetv3_small_050": [(8, 56), (16, 28), (24, 14), (288, 7)],
    "resnet18": [(64, 56), (128, 28), (256, 14), (512, 7)],
    "resnet50": [(256, 56), (512, 28), (1024, 14), (2048, 7)],
    "efficientnet_b0": [(16, 112), (24, 56), (40, 28), (112, 14), (1280, 7)],
    "convnext_atto": [(40, 56), (80, 28), (160, 14), (320, 7)],
    "densenet121": [(256, 56), (512, 28), (1024, 14), (1024, 7)],
    "swin_tiny_patch4_window7_224": [(96, 56), (192, 28), (384, 14), (768, 7)],
    "vit_tiny_patch16_224": [(192, 14)] * 4,
    "deit_tiny_distilled_patch16_224": [(192, 14)] * 4,
}


@pytest.mark.parametrize("name", FOUND)
def test_which_maps_there_are(name: str) -> None:
    assert shapes(Stages(*on_meta(name))) == FOUND[name]


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "convnext_atto", "regnety_002", "repvit_m0_9"])
def test_timm_names_the_same_stages(name: str) -> None:
    """Where timm lists the stages of a network, they are ours; its list may begin with the stem."""
    encoder, size = on_meta(name)
    theirs = [(stage["num_chs"], size // stage["reduction"]) for stage in encoder.feature_info]
    ours = shapes(Stages(encoder, size))
    assert len(ours) >= 4
    assert theirs[-len(ours) :] == ours


def test_the_stages_of_a_transformer_are_quarters_of_its_blocks() -> None:
    paths = [stage.path for stage in Stages(*on_meta("vit_tiny_patch16_224")).stages]
    assert paths == ["blocks.2", "blocks.5", "blocks.8", "blocks.11"]


def built(name: str) -> tuple[nn.Module, int]:
    torch.manual_seed(0)
    if name in stock.OURS:
        return {"resnet8": resnet8, "resnet20": resnet20}[name](), 16
    size = 64
    kwargs = {"img_size": size, "num_classes": 0} if name.startswith(("vit", "swin")) else {"num_classes": 0}
    return timm.create_model(name, **kwargs), size


REAL = ["resnet8", "resnet20", "mobilenetv3_small_050", "resnet18", "vit_tiny_patch16_224"]


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("training", [False, True])
def test_watching_changes_nothing(name: str, training: bool) -> None:
    encoder, size = built(name)
    before = list(encoder.state_dict())
    plain = copy.deepcopy(encoder).train(training)
    stages = Stages(encoder.train(training), size)
    x = torch.randn(4, 3, size, size)
    torch.manual_seed(1)
    features, maps = stages(encoder, x)
    torch.manual_seed(1)
    assert torch.equal(features, plain(x))
    assert [(each.shape[1], *each.shape[2:]) for each in maps] == [(c, s, s) for c, s in shapes(stages)]
    assert all(len(each) == 4 for each in maps)
    assert encoder.training is training
    assert list(encoder.state_dict()) == before
    assert all(torch.equal(a, b) for a, b in zip(encoder.buffers(), plain.buffers(), strict=True))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in encoder.modules())


def resnet_by_hand(encoder: nn.Module, x: Tensor) -> list[Tensor]:
    x = torch.relu(encoder.bn1(encoder.conv1(x)))
    maps = []
    for stage in (encoder.layer1, encoder.layer2, encoder.layer3):
        x = stage(x)
        maps.append(x)
    return maps


def test_the_maps_of_a_resnet_are_its_stages() -> None:
    encoder, size = built("resnet20")
    x = torch.randn(2, 3, size, size)
    _, maps = Stages(encoder, size)(encoder.eval(), x)
    for found, wanted in zip(maps, resnet_by_hand(encoder, x), strict=True):
        assert torch.equal(found, wanted)


def test_the_maps_of_a_transformer_are_its_tokens_on_a_grid() -> None:
    encoder, size = built("vit_tiny_patch16_224")
    x = torch.randn(2, 3, size, size)
    _, maps = Stages(encoder, size)(encoder.eval(), x)
    wanted = timm.create_model("vit_tiny_patch16_224", img_size=size, num_classes=0).eval()
    wanted.load_state_dict(encoder.state_dict())
    grids = wanted.forward_intermediates(x, indices=[2, 5, 8, 11], intermediates_only=True)
    for found, grid in zip(maps, grids, strict=True):
        assert torch.equal(found, grid)


def test_maps_with_channels_last_are_turned() -> None:
    encoder, size = built("swin_tiny_patch4_window7_224")
    x = torch.randn(1, 3, size, size)
    _, maps = Stages(encoder, size)(encoder.eval(), x)
    assert torch.equal(maps[-1].permute(0, 2, 3, 1), encoder.forward_features(x))


@pytest.mark.parametrize("name", REAL)
def test_gradients_flow(name: str) -> None:
    """From the last map to the first layer, and not to what comes after the map."""
    encoder, size = built(name)
    _, maps = Stages(encoder, size)(encoder, torch.randn(4, 3, size, size))
    first = next(encoder.parameters())
    for each in maps:
        (gradient,) = torch.autograd.grad(each.square().sum(), first, retain_graph=True, allow_unused=True)
        assert gradient is not None
        assert gradient.any()
    loss = torch.stack([attention(one, torch.rand_like(one)) for one in maps]).sum()
    loss.backward()
    assert torch.isfinite(loss)


def test_every_pass_through_a_larger_module_is_kept() -> None:
    """A method calls its network, of which the encoder is a part, once for each view or group."""
    encoder, size = built("resnet8")
    network = nn.Sequential(encoder, nn.Linear(64, 8))
    stages = Stages(encoder, size)
    views = [torch.randn(4, 3, size, size), torch.randn(2, 3, size // 2, size // 2)]
    with stages.watching(encoder) as passes:
        for view in views:
            network(view)
    assert [[tuple(each.shape) for each in maps] for maps in passes] == [
        [(4, 16, 16, 16), (4, 32, 8, 8), (4, 64, 4, 4)],
        [(2, 16, 8, 8), (2, 32, 4, 4), (2, 64, 2, 2)],
    ]
    network(views[0])
    assert len(passes) == 2


def test_nothing_stays_after_an_error() -> None:
    encoder, size = built("resnet8")
    with pytest.raises(RuntimeError, match="stop"), Stages(encoder, size).watching(encoder):
        raise RuntimeError("stop")
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in encoder.modules())


def test_another_networks_weights() -> None:
    """`functional_call`, copies and networks with synchronised BatchNorm have the same stages."""
    encoder, size = built("resnet8")
    stages = copy.deepcopy(Stages(encoder, size))
    x = torch.randn(4, 3, size, size)
    other = resnet8()
    weights = dict(other.named_parameters())
    with stages.watching(encoder) as passes:
        features = functional_call(encoder, weights, (x,))
    wanted, maps = stages(other, x)
    assert torch.equal(features, wanted)
    assert all(torch.equal(a, b) for a, b in zip(passes[0], maps, strict=True))
    converted = stock.synchronised(copy.deepcopy(encoder)).eval()
    _, again = stages(converted, x)
    assert len(again) == len(maps)


def test_a_step_with_maps_is_counted() -> None:
    """The cost count copies the method to the meta device; the stages travel with it."""
    method = small_method("barlow_twins")
    encoder = method.encoders()["1x"]
    plain = count_step(method, 8, SIZE)

    class WithMaps(type(method)):  # type: ignore[misc]  # a base that is known only when it runs
        def forward(self, batch, progress):
            encoder = self.encoders()["1x"]
            with self.stages.watching(encoder) as passes:
                terms = super().forward(batch, progress)
            terms["at"] = torch.stack([attention(a, b) for a, b in zip(*passes, strict=True)]).sum()
            return terms

    method.stages = Stages(encoder, SIZE)
    method.__class__ = WithMaps
    counted = count_step(method, 8, SIZE)
    assert {key: value for key, value in counted.branches.items() if key not in ("loss", "backward")} == {
        key: value for key, value in plain.branches.items() if key not in ("loss", "backward")
    }
    assert "at" in method(fixed_batch(method), 0.5)


class Twice(nn.Module):
    """One activation that is called after every layer, as in many networks of others."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 4, 3, padding=1)
        self.two = nn.Conv2d(4, 5, 3, padding=1)
        self.down = nn.Conv2d(5, 6, 3, stride=2, padding=1)
        self.act = nn.Tanh()

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.two(self.act(self.one(x))))
        x = self.act(self.down(x))
        return x.mean((2, 3))


def test_a_module_that_is_called_several_times() -> None:
    encoder = Twice()
    stages = Stages(encoder, 8)
    assert [(stage.path, stage.turn) for stage in stages.stages] == [("act", 1), ("act", 2)]
    x = torch.randn(2, 3, 8, 8)
    for _ in range(2):
        features, maps = stages(encoder, x)
    assert torch.equal(maps[0], encoder.act(encoder.two(encoder.act(encoder.one(x)))))
    assert torch.equal(maps[1].mean((2, 3)), features)


class Detour(nn.Module):
    """A branch at a lower resolution that comes back up."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1))
        self.branch = nn.Conv2d(4, 4, 4, stride=4)
        self.up = nn.Upsample(scale_factor=4)
        self.down = nn.Conv2d(4, 8, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.down(x + self.up(self.branch(x))).mean((2, 3))


def test_a_detour_is_no_stage() -> None:
    assert [stage.path for stage in Stages(Detour(), 16).stages] == ["up", "down"]


@pytest.mark.parametrize(
    ("encoder", "size"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(192, 8)), 8),
        (nn.Sequential(nn.Conv2d(3, 8, 8, 8), nn.Flatten()), 8),
    ],
)
def test_a_network_without_maps(encoder: nn.Module, size: int) -> None:
    with pytest.raises(WispError, match=r"^Sequential has no feature map of more than one pixel at 8 px") as found:
        Stages(encoder, size)
    assert "--method.extra rkd" in str(found.value)


def test_maps_are_paired_from_the_last() -> None:
    def some(*numbers: int) -> Sequence[Tensor]:
        return [torch.tensor(number) for number in numbers]

    def pairs(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> list[tuple[int, int]]:
        return [(int(a), int(b)) for a, b in paired(student, teacher)]

    assert pairs(some(1, 2, 3), some(7, 8, 9)) == [(1, 7), (2, 8), (3, 9)]
    assert pairs(some(1, 2, 3), some(8, 9)) == [(2, 8), (3, 9)]
    assert pairs(some(3), some(7, 8, 9)) == [(3, 9)]
    assert pairs(some(1, 2), some()) == []
