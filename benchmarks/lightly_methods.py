"""Methods made of lightly's building blocks, as its documentation's examples put them together.

Encoder, head sizes, temperatures, momenta and the length of a queue are those of wisp's method. MoCo v2 is that of
lightly's tutorial with `SplitBatchNorm` and shuffled keys, which stand for several devices as wisp's groups do; without
groups (`splits=1`) it is the plain example.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from wisp.data.views import View
from wisp.encoders.slow import momentum_at
from wisp.encoders.stock import EncoderSpec
from wisp.methods.moco_v2 import PAPER_QUEUE
from wisp.methods.parts.queue import queue_size
from wisp.session import Session


class Barlow(nn.Module):
    """Barlow Twins."""

    def __init__(self, session: Session) -> None:
        from lightly.loss import BarlowTwinsLoss
        from lightly.models.modules import BarlowTwinsProjectionHead

        super().__init__()
        config = session.run.method
        self.encoder = session.untrained()
        self.head = BarlowTwinsProjectionHead(session.spec.features, config.hidden, config.out)
        self.criterion, self.scale = BarlowTwinsLoss(lambda_param=config.lam), config.scale

    def forward(self, views: list[Tensor], progress: float) -> Tensor:
        """The loss of two views [B,3,H,W]."""
        one, other = (self.head(self.encoder(view)) for view in views)
        loss: Tensor = self.scale * self.criterion(one, other)
        return loss


class Slow(nn.Module):
    """An encoder with a head, and slow copies of both."""

    def __init__(self, encoder: nn.Module, head: Callable[[], nn.Module], momentum: float) -> None:
        from lightly.models.utils import deactivate_requires_grad

        super().__init__()
        self.encoder, self.head = encoder, head()
        self.slow_encoder, self.slow_head = copy.deepcopy(encoder), head()  # what has weight_norm cannot be copied
        self.slow_head.load_state_dict(self.head.state_dict())
        deactivate_requires_grad(self.slow_encoder)
        deactivate_requires_grad(self.slow_head)
        self.momentum = momentum

    def follow(self, momentum: float) -> None:
        """Before every step, as in the examples."""
        from lightly.models.utils import update_momentum

        update_momentum(self.encoder, self.slow_encoder, m=momentum)
        update_momentum(self.head, self.slow_head, m=momentum)

    def slow(self, x: Tensor) -> Tensor:
        """What the slow copies make of [B,3,H,W]."""
        said: Tensor = self.slow_head(self.slow_encoder(x)).detach()
        return said


class Moco(Slow):
    """MoCo v2, one-sided."""

    def __init__(self, session: Session) -> None:
        from lightly.loss import NTXentLoss
        from lightly.models.modules import MoCoProjectionHead

        config, batch = session.run.method, session.resolved.batch_size
        groups = max(1, min(config.splits, batch // 2))
        encoder = session.untrained()
        if groups > 1:
            _split(encoder, groups)
        head = partial(MoCoProjectionHead, session.spec.features, config.hidden, config.out)
        super().__init__(encoder, head, config.momentum)
        size = queue_size(config.queue, PAPER_QUEUE, images=len(session.train), step=batch)
        self.criterion = NTXentLoss(temperature=config.temperature, memory_bank_size=(size, config.out))
        self.groups = groups

    def forward(self, views: list[Tensor], progress: float) -> Tensor:
        """The loss of two views [B,3,H,W]; its memory bank takes the keys."""
        from lightly.models.utils import batch_shuffle, batch_unshuffle

        x, other = views
        self.follow(self.momentum)
        query = self.head(self.encoder(x))
        if self.groups > 1:
            shuffled, order = batch_shuffle(other)
            key = batch_unshuffle(self.slow(shuffled), order)
        else:
            key = self.slow(other)
        loss: Tensor = self.criterion(query, key)
        return loss


class Byol(Slow):
    """BYOL."""

    def __init__(self, session: Session) -> None:
        from lightly.loss import NegativeCosineSimilarity
        from lightly.models.modules import BYOLPredictionHead, BYOLProjectionHead

        config = session.run.method
        head = partial(BYOLProjectionHead, session.spec.features, config.hidden, config.out)
        super().__init__(session.untrained(), head, config.momentum)
        self.prediction = BYOLPredictionHead(config.out, config.hidden, config.out)
        self.criterion = NegativeCosineSimilarity()

    def forward(self, views: list[Tensor], progress: float) -> Tensor:
        """The loss of two views [B,3,H,W], both directions."""
        a, b = views
        self.follow(momentum_at(self.momentum, progress))
        pa, za = self.prediction(self.head(self.encoder(a))), self.slow(a)
        pb, zb = self.prediction(self.head(self.encoder(b))), self.slow(b)
        loss: Tensor = 0.5 * (self.criterion(pa, zb) + self.criterion(pb, za))
        return loss


class Dino(Slow):
    """DINO."""

    def __init__(self, session: Session) -> None:
        from lightly.loss import DINOLoss
        from lightly.models.modules import DINOProjectionHead

        config = session.run.method
        sizes = (session.spec.features, config.hidden, config.out, config.prototypes)
        head = partial(DINOProjectionHead, *sizes, batch_norm=config.head_norm)
        super().__init__(session.untrained(), head, config.momentum)
        self.criterion = DINOLoss(
            output_dim=config.prototypes, student_temp=config.temperature, center_momentum=config.centre_momentum
        )
        self.temperature = config.teacher_end

    def forward(self, views: list[Tensor], progress: float) -> Tensor:
        """The loss of the views [B,3,H,W], of which the teacher sees the first two; the centre moves."""
        self.follow(momentum_at(self.momentum, progress))
        taught = [self.slow(view) for view in views[:2]]
        said = [self.head(self.encoder(view)) for view in views]
        loss: Tensor = self.criterion(taught, said, teacher_temp=self.temperature)
        return loss


METHODS: dict[str, type[nn.Module]] = {"barlow_twins": Barlow, "moco_v2": Moco, "byol": Byol, "dino": Dino}


def lightly_method(session: Session) -> nn.Module:
    """The session's method in lightly's form, (views, progress) -> loss; channels_last where its blocks take it."""
    made: Any = METHODS[session.run.method_name](session)
    if memory_format(made) is torch.channels_last:
        made = made.to(memory_format=torch.channels_last)
    trained: nn.Module = made.train()
    return trained


def lightly_view(view: View, spec: EncoderSpec) -> Callable[[Image.Image], Tensor]:
    """A BYOL view of lightly with the probabilities and strengths of ours."""
    from lightly.transforms.byol_transform import BYOLView1Transform

    made: Callable[[Image.Image], Tensor] = BYOLView1Transform(
        input_size=view.pixels(spec.image_size),
        cj_prob=view.jitter,
        cj_strength=1.0,
        cj_bright=view.brightness,
        cj_contrast=view.contrast,
        cj_sat=view.saturation,
        cj_hue=view.hue,
        min_scale=view.crop_scale[0],
        random_gray_scale=view.gray,
        gaussian_blur=view.blur,
        sigmas=view.blur_sigma,
        solarization_prob=view.solarize,
        hf_prob=view.flip,
        normalize={"mean": list(spec.mean), "std": list(spec.std)},
    )
    return made


def memory_format(made: nn.Module) -> torch.memory_format:
    """`SplitBatchNorm` takes a view of its input that channels_last memory does not have."""
    return torch.contiguous_format if getattr(made, "groups", 1) > 1 else torch.channels_last


def _split(encoder: nn.Module, groups: int) -> None:
    """Puts `SplitBatchNorm` where the encoder has BatchNorm, with its weights."""
    from lightly.models.batchnorm import SplitBatchNorm

    for path, norm in [(p, m) for p, m in encoder.named_modules() if isinstance(m, nn.BatchNorm2d)]:
        split = SplitBatchNorm(norm.num_features, groups, eps=norm.eps, momentum=norm.momentum)
        split.load_state_dict(dict(norm.named_parameters()), strict=False)
        parent, _, name = path.rpartition(".")
        setattr(encoder.get_submodule(parent), name, split)
