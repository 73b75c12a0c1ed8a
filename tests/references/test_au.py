"""A/U against its terms, written again in loops: labels, both networks' embeddings, and softened outputs."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from references import paper
from references.contrast import distance, dot, minus_log_share, unit
from references.paper import Matrix
from small_methods import fixed_batch, small_method
from wisp.errors import WispError
from wisp.losses.alignment import alignment, uniformity
from wisp.methods import au
from wisp.methods.au import AU
from wisp.methods.parts import projectors


def spread(z: Matrix, t: float) -> float:
    """Log of the mean potential of the pairs i < j."""
    potentials = [
        math.exp(-t * sum((x - y) ** 2 for x, y in zip(z[i], z[j], strict=True)))
        for j in range(len(z))
        for i in range(j)
    ]
    return math.log(sum(potentials) / len(potentials))


def contrast(zs: Matrix, zt: Matrix, temperature: float) -> float:
    """Eq. 1: each pair of an image against its student's with all teacher's, and its teacher's with all student's."""
    total = 0.0
    for i in range(len(zs)):
        own = dot(zs[i], zt[i]) / temperature
        others = [dot(zs[i], zt[j]) / temperature for j in range(len(zs)) if j != i]
        others += [dot(zs[j], zt[i]) / temperature for j in range(len(zs)) if j != i]
        total += minus_log_share(own, [own, *others])
    return total / len(zs)


def softmax(row: list[float], temperature: float) -> list[float]:
    powers = [math.exp(value / temperature) for value in row]
    return [power / sum(powers) for power in powers]


def linear(x: Matrix, layer: nn.Module) -> Matrix:
    assert isinstance(layer, nn.Linear)
    bias = 0.0 if layer.bias is None else layer.bias.detach().numpy()
    return np.asarray(x @ layer.weight.detach().numpy().T + bias)


def projected(x: Matrix, head: nn.Module | None) -> Matrix:
    """Linear, ReLU, Linear; of the teacher's own head with running statistics between the first two."""
    assert isinstance(head, nn.Sequential)
    hidden = linear(x, head[0])
    if isinstance(norm := head[1], nn.BatchNorm1d):
        assert norm.running_mean is not None
        assert norm.running_var is not None
        mean, variance = norm.running_mean.numpy(), norm.running_var.numpy()
        scale, shift = norm.weight.detach().numpy(), norm.bias.detach().numpy()
        hidden = (hidden - mean) / np.sqrt(variance + norm.eps) * scale + shift
    last = [layer for layer in head if isinstance(layer, nn.Linear)][1]
    return linear(np.maximum(hidden, 0), last)


def gap(one: Matrix, other: Matrix) -> float:
    """Mean over all numbers."""
    total = 0.0
    for i in range(len(one)):
        for k in range(len(one[i])):
            total += (one[i][k] - other[i][k]) ** 2
    return total / one.size


def expected(method: AU, student: Matrix, teacher: Matrix, labels: list[int]) -> dict[str, float]:
    """Every term of one view without its weight, from the features of both."""
    c, count = method.config, len(labels)
    assert method.teacher.classifier is not None
    ours, theirs = linear(student, method.classifier).tolist(), linear(teacher, method.teacher.classifier).tolist()
    found = {"cross_entropy": 0.0}
    for label, s in zip(labels, ours, strict=True):
        found["cross_entropy"] -= math.log(softmax(s, 1.0)[label]) / count
    if c.logit_loss == "srrl":
        assert method.connector is not None
        lifted = np.maximum(projected(student, method.connector), 0)
        found["features"] = gap(lifted, teacher)
        found["logits"] = gap(linear(lifted, method.teacher.classifier), theirs)
    else:
        found["distill"] = 0.0
        for s, t in zip(ours, theirs, strict=True):
            wanted, given = softmax(t, c.temperature), softmax(s, c.temperature)
            divergence = sum(p * math.log(p / q) for p, q in zip(wanted, given, strict=True))
            found["distill"] += c.temperature**2 * divergence / count
    ours = projected(student, method.projector)
    theirs = projected(teacher, method.teacher_projector or method.teacher.head)
    if c.loss == "barlow":
        return found | {"contrast": paper.barlow(ours, theirs, c.lam) / ours.shape[1]}
    zs, zt = unit(ours), unit(theirs)
    if c.loss == "info_nce":
        return found | {"contrast": contrast(zs, zt, c.contrast_temperature)}
    return found | {"align": distance(zs, zt), "uniform": 0.5 * spread(zs, c.t) + 0.5 * spread(zt, c.t)}


WEIGHTS = {
    "label_weight": 0.3,
    "embed_weight": 0.7,
    "align_weight": 1.5,
    "uniform_weight": 0.4,
    "logit_weight": 0.9,
    "temperature": 2.5,
}
OTHERS: dict[str, dict[str, object]] = {
    "au": {"t": 3.0},
    "info_nce": {"contrast_temperature": 0.2},
    "barlow": {"lam": 0.05},
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("loss", ["au", "info_nce", "barlow", "srrl", "pretrained"])
def test_the_terms_are_the_papers(loss: str, weighted: bool) -> None:
    """`srrl` is another loss of the logits (Table 8), `pretrained` the teacher's own head (code, for MoCo)."""
    form = {"srrl": {"logit_loss": "srrl"}, "pretrained": {"teacher_head": "pretrained"}}.get(loss, {"loss": loss})
    method = small_method("au", **form, **(WEIGHTS | OTHERS.get(loss, {}) if weighted else {})).double()
    assert isinstance(method, AU)
    batch = fixed_batch(method, 12, dtype=torch.float64)
    assert batch.labels is not None
    second = fixed_batch(method, 12, seed=7, dtype=torch.float64)
    both = batch._replace(views=batch.views + second.views)
    with torch.no_grad():
        terms = method(both, 0.5)
        views = [
            expected(
                method, method.encoder(view).numpy(), method.teacher.looks([view])[0].numpy(), both.labels.tolist()
            )
            for view in both.views
        ]
    weights = {"cross_entropy": 0.3, "distill": 0.9, "contrast": 0.7, "align": 0.7 * 1.5, "uniform": 0.7 * 0.4}
    weights |= {"features": 0.9, "logits": 0.9}
    assert terms.keys() == views[0].keys()
    for name, term in terms.items():
        value = sum(view[name] for view in views) / len(views)
        # The terms of logits are float32, whatever the network.
        assert float(term) == pytest.approx((weights[name] if weighted else 1) * value, rel=1e-5), name


@pytest.mark.parametrize(
    ("kind", "layers"),
    [
        ("linear", "Linear"),
        ("moco_v2", "Linear ReLU Linear"),
        ("simclr", "Linear BatchNorm1d ReLU Linear BatchNorm1d"),
        ("simclr_v2", "Linear BatchNorm1d ReLU Linear BatchNorm1d ReLU Linear BatchNorm1d"),
    ],
)
def test_both_projectors_are_the_codes_and_learn(kind: str, layers: str) -> None:
    method = small_method("au", projector=kind)
    assert isinstance(method, AU)
    sum(method(fixed_batch(method), 0.5).values(), torch.zeros(())).backward()
    for head, features in ((method.projector, 64), (method.teacher_projector, 24)):
        assert isinstance(head, nn.Sequential)
        assert " ".join(type(layer).__name__ for layer in head) == layers
        widths = [(layer.in_features, layer.out_features) for layer in head if isinstance(layer, nn.Linear)]
        assert widths == [(features, features)] * (len(widths) - 1) + [(features, 128)]
        assert all(parameter.grad is not None and parameter.grad.any() for parameter in head.parameters())
    assert not any(parameter.requires_grad for parameter in method.teacher.parameters())


def test_a_term_without_weight_is_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> Tensor:
        raise AssertionError("nobody asked for this")

    everything = {"cross_entropy", "align", "uniform", "distill"}
    for weight, gone, names in (
        ("label_weight", {"cross_entropy"}, ("cross_entropy",)),
        ("logit_weight", {"distill"}, ("knowledge_distillation",)),
        ("align_weight", {"align"}, ("alignment",)),
        ("uniform_weight", {"uniform"}, ("uniformity",)),
        ("embed_weight", {"align", "uniform"}, ("alignment", "uniformity")),
    ):
        method = small_method("au", **{weight: 0.0})
        with monkeypatch.context() as patched:
            for name in names:
                patched.setattr(au, name, never)
            assert method(fixed_batch(method), 0.5).keys() == everything - gone, weight
    assert isinstance(method, AU)
    assert method.projector is method.teacher_projector is method.head() is None


def test_no_connector_is_made_where_the_logits_have_no_weight() -> None:
    method = small_method("au", logit_loss="srrl", logit_weight=0.0, teacher_classifier="none")
    assert isinstance(method, AU)
    assert method.connector is None
    assert method(fixed_batch(method), 0.5).keys() == {"cross_entropy", "align", "uniform"}


def test_the_teachers_own_head_is_met_where_it_is_and_stays_as_it_is() -> None:
    """The student's projector ends in its width; nothing of the teacher learns, and no other head is made."""
    method = small_method("au", teacher_head="pretrained")
    assert isinstance(method, AU)
    assert method.teacher_projector is None
    assert isinstance(method.projector, nn.Sequential)
    assert method.projector[-1].out_features == method.teacher.width == 16
    before = [tensor.clone() for tensor in (*method.teacher.parameters(), *method.teacher.buffers())]
    optimizer = torch.optim.AdamW(method.parameters(), lr=0.1)
    sum(method(fixed_batch(method), 0.5).values(), torch.zeros(())).backward()
    optimizer.step()
    after = (*method.teacher.parameters(), *method.teacher.buffers())
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert not any(key.startswith("teacher.") for key, p in method.named_parameters() if p.requires_grad)
    small_method("au", teacher_head="pretrained", out=16)
    with pytest.raises(
        WispError, match=r"^out is 8, and the head of the teacher small gives 16 numbers; leave out --m"
    ):
        small_method("au", teacher_head="pretrained", out=8)


@pytest.mark.parametrize("loss", ["au", "info_nce", "barlow"])
def test_no_loss_of_the_embeddings_drowns_the_labels(loss: str) -> None:
    """At the start, with the weights of the paper: each of them is of the size of the cross-entropy."""
    method = small_method("au", loss=loss)
    with torch.no_grad():
        terms = method(fixed_batch(method), 0.0)
    label = float(terms["cross_entropy"])
    assert all(abs(float(terms[name])) < 5 * label for name in terms.keys() - {"cross_entropy", "distill"})


def test_a_teacher_that_knows_no_classes_is_not_asked() -> None:
    method = small_method("au", logit_weight=0.0, teacher_classifier="none")
    assert isinstance(method, AU)
    method.teacher.classifier = None
    assert method(fixed_batch(method), 0.5).keys() == {"cross_entropy", "align", "uniform"}
    assert not au.Config(logit_weight=0.0).asks_classes
    assert au.Config().asks_classes


def rows(count: int, width: int = 5, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.nn.functional.normalize(torch.randn(count, width, generator=generator, dtype=torch.float64)).to(dtype)


@pytest.mark.parametrize("t", [0.5, 2.0, 7.0])
@pytest.mark.parametrize("count", [2, 3, 9])
def test_uniformity_is_the_mean_potential_of_pairs(count: int, t: float) -> None:
    z = rows(count)
    assert float(uniformity(z, t)) == pytest.approx(spread(z.numpy(), t), rel=1e-12)
    assert float(uniformity(z[:1].expand(count, -1), t)) == pytest.approx(0, abs=1e-12)


def test_the_gradient_is_that_of_the_pairs() -> None:
    """Along the sphere: nobody moves a unit row away from it."""
    found, wanted = (rows(9).mul(3).requires_grad_() for _ in range(2))
    (2.5 * uniformity(torch.nn.functional.normalize(found), 2.0)).backward()
    (2.5 * torch.pdist(torch.nn.functional.normalize(wanted)).square().mul(-2).exp().mean().log()).backward()
    torch.testing.assert_close(found.grad, wanted.grad, rtol=1e-10, atol=1e-13)


def test_half_precision_and_a_steep_potential_do_no_harm() -> None:
    """In float32, where exp(-t 4) of the farthest pairs is 0, and one row's own would drown all the others."""
    z = rows(40, 8, torch.float32)
    for t in (2.0, 60.0):
        assert float(uniformity(z, t)) == pytest.approx(spread(z.double().numpy(), t), rel=1e-4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert uniformity(z.bfloat16(), 2.0).dtype == torch.float32
        assert float(uniformity(z, 2.0)) == pytest.approx(spread(z.double().numpy(), 2.0), rel=1e-5)


class Blocks(TorchDispatchMode):
    """Counts the storages of N x N numbers that operations make."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.size, self.seen = count * count, list[Tensor]()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]  # as torch has it
        out = func(*args, **(kwargs or {}))
        large = isinstance(out, Tensor) and out.untyped_storage().nbytes() >= 4 * self.size
        if large and all(out.untyped_storage().data_ptr() != kept.untyped_storage().data_ptr() for kept in self.seen):
            self.seen.append(out)
        return out


def test_one_block_of_pairs_is_made_and_none_kept() -> None:
    z = rows(64, 8, torch.float32).requires_grad_()
    with Blocks(64) as blocks:
        value = uniformity(z, 2.0)
        assert len(blocks.seen) == 1
        kept: tuple[Tensor, ...] = value.grad_fn.saved_tensors  # type: ignore[union-attr]  # of a custom function
        assert [tensor.shape for tensor in kept] == [(64, 8)]
        value.backward()
        assert len(blocks.seen) == 1


def test_alignment_is_the_squared_distance() -> None:
    a, b = rows(6), rows(7)[:6]
    assert float(alignment(a, b)) == pytest.approx(distance(a.numpy(), b.numpy()), rel=1e-12)


def test_the_settings_are_the_papers() -> None:
    c = au.Config()
    assert (c.align_weight, c.uniform_weight, c.label_weight, c.embed_weight, c.logit_weight) == (1, 1, 1, 1, 1)
    assert (c.loss, c.projector, projectors.OUT, c.t, c.temperature) == ("au", "moco_v2", 128, 2.0, 4.0)
    assert (c.logit_loss, c.teacher_head, c.out) == ("kd", "none", None)
    for plan, s in zip(("pad_crop", "supervised"), au.SETTINGS.values(), strict=True):
        assert (s.optimizer, s.lr, s.weight_decay, s.epochs, s.batch_size) == ("adamw", 1e-3, 0.01, 250, 64)
        assert (s.plan, s.warmup_epochs, s.lr_scale) == (plan, 0, "none")


def test_settings_that_cannot_be() -> None:
    for name in ("t", "temperature", "contrast_temperature"):
        with pytest.raises(WispError, match=f"^{name} is 0; it must be a number above 0"):
            au.Config(**{name: 0.0})
    for name in ("align_weight", "uniform_weight", "lam", "label_weight", "embed_weight", "logit_weight"):
        with pytest.raises(WispError, match=f"{name} is -1; it must be 0 or more"):
            au.Config(**{name: -1.0})
    with pytest.raises(WispError, match=r"teacher-classifier probed, or, of au and crd, --method.logit-weight 0"):
        au.Config(teacher="x", teacher_classifier="none")
    with pytest.raises(WispError, match="nothing trains the classifier"):
        au.Config(label_weight=0.0, logit_weight=0.0)
    with pytest.raises(WispError, match=r"srrl asks the teacher's classifier alone; use --method.logit-loss kd"):
        au.Config(label_weight=0.0, logit_loss="srrl")
    with pytest.raises(WispError, match=r"nobody asks the teacher's head; leave out --method.teacher-head"):
        au.Config(embed_weight=0.0, teacher_head="pretrained")
    with pytest.raises(WispError, match="nothing is learnt from the teacher"):
        au.Config(embed_weight=0.0, logit_weight=0.0)
    with pytest.raises(WispError, match=r"use --method.embed-weight 0"):
        au.Config(align_weight=0.0, uniform_weight=0.0)
    au.Config(align_weight=0.0, uniform_weight=0.0, loss="barlow")
    with pytest.raises(WispError, match="cannot be built"):
        small_method("au", out=0)
