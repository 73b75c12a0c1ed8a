"""Features are what the frozen encoder computes, and the encoder is as before."""

import pytest
import torch
from torch import nn

from wisp.encoders.cifar_resnet import resnet8
from wisp.errors import WispError
from wisp.evaluate.features import Features, evaluating, extract


def _images(count: int) -> torch.Tensor:
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def test_rows_keep_their_order_and_use_running_statistics() -> None:
    encoder = resnet8()
    images = _images(10)
    features = extract(encoder, images.split(4))
    assert features.shape == (10, 64)
    assert features.dtype == torch.float32
    assert torch.allclose(features, encoder.eval()(images).detach(), atol=1e-6)


def test_encoder_is_as_before() -> None:
    encoder = resnet8().train()
    encoder.bn1.eval()  # a frozen norm inside a training network
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    modes = [part.training for part in encoder.modules()]
    extract(encoder, [_images(4)])
    assert [part.training for part in encoder.modules()] == modes
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())


def test_mode_is_restored_after_an_error() -> None:
    encoder = resnet8().train()
    with evaluating(encoder):
        assert not encoder.training
    with pytest.raises(RuntimeError):
        extract(encoder, [_images(2)[:, :1]])
    assert encoder.training


def test_channels_last_gives_the_same_features() -> None:
    encoder = resnet8()
    plain = extract(encoder, [_images(6)])
    encoder.to(memory_format=torch.channels_last)
    last = extract(encoder, [_images(6).contiguous(memory_format=torch.channels_last)])
    assert torch.allclose(plain, last, atol=1e-5)


def test_features_are_float32_and_may_enter_autograd() -> None:
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 5)).bfloat16()
    features = extract(encoder, [_images(3).bfloat16()])
    assert features.dtype == torch.float32
    weight = torch.ones(5, requires_grad=True)
    (features @ weight).sum().backward()
    assert torch.allclose(weight.grad, features.sum(dim=0))


def test_no_image_is_refused() -> None:
    with pytest.raises(WispError, match="no images"):
        extract(resnet8(), [])


def test_a_map_instead_of_features_is_refused() -> None:
    with pytest.raises(WispError, match=r"\[2, 4, 14, 14\] for 2 images"):
        extract(nn.Conv2d(3, 4, 3), [_images(2)])


def test_sets_must_fit_together() -> None:
    x, y = torch.zeros(4, 2), torch.tensor([0, 1, 2, 1])
    assert Features(x, y, x[:2], y[:2]).classes == 3
    with pytest.raises(WispError, match="4 images and 3 labels"):
        Features(x, y[:3], x, y)
    with pytest.raises(WispError, match="one or more rows"):
        Features(x, y, x[:0], y[:0])
    with pytest.raises(WispError, match="non-finite features on the test set"):
        Features(x, y, x / 0, y)
    with pytest.raises(WispError, match="label below 0"):
        Features(x, y - 1, x, y)
    with pytest.raises(WispError, match="differ in size: 2, 1"):
        Features(x, y, x[:, :1], y)
    assert Features(x, y, x, y, (x, x + 1)).augmented[1].sum() == 8
    with pytest.raises(WispError, match="same images as the training features"):
        Features(x, y, x[:2], y[:2], (x[:3],))
    with pytest.raises(WispError, match="non-finite features on augmented images"):
        Features(x, y, x, y, (x, x / 0))
