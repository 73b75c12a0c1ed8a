"""Laws that every method obeys; a new file in `wisp/methods` enrols itself."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric

from small_methods import SIZE, begun, cases, config_of, fixed_batch, small_method, total
from wisp import methods
from wisp.cost.count import count_step
from wisp.data.loader import Batch
from wisp.encoders import stock
from wisp.evaluate.health import effective_rank
from wisp.export.card import card
from wisp.export.stock import export_encoder, load_encoder
from wisp.run import Run, difference, from_json, to_json
from wisp.session import method_class
from wisp.train import checkpoint
from wisp.train.loop import resume
from wisp.train.optimizers import build

every_method = pytest.mark.parametrize("name", cases())
every_file = pytest.mark.parametrize("name", methods.names())


@every_method
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_terms_are_finite_scalars(name: str, dtype: torch.dtype) -> None:
    method = begun(name)
    for progress in method.phases():
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            terms = method(fixed_batch(method), progress)
        assert terms
        for term in terms.values():
            assert term.shape == ()
            assert torch.isfinite(term)
            assert term.dtype == torch.float32, "losses are computed in float32"


@every_method
def test_gradient_reaches_every_parameter_in_some_phase(name: str) -> None:
    method = begun(name)
    reached = set()
    for progress in method.phases():
        method.zero_grad(set_to_none=True)
        total(method(fixed_batch(method), progress)).backward()
        for key, p in method.named_parameters():
            assert p.grad is None or p.grad.abs().sum() > 0, f"{key} is neither trained nor left alone in this phase"
        reached |= {key for key, p in method.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert reached == {key for key, p in method.named_parameters() if p.requires_grad}


@every_method
def test_forward_changes_nothing_but_batchnorm_statistics(name: str) -> None:
    method = begun(name)
    before = copy.deepcopy(method.state_dict())
    method(fixed_batch(method), 0.5)
    statistics = ("running_mean", "running_var", "num_batches_tracked", ".statistics.")
    changed = [key for key, value in method.state_dict().items() if not torch.equal(value, before[key])]
    assert all(any(word in key for word in statistics) for key in changed)
    assert changed


@every_method
def test_a_step_copies_nothing_to_the_host(name: str) -> None:
    """Tensors of the meta device have no values: whatever reads one in a step, even a mask's count, raises."""
    method = begun(name).to("meta")
    batch = fixed_batch(method)
    labels = None if batch.labels is None else batch.labels.to("meta")
    views, companions = (tuple(v.to("meta") for v in each) for each in (batch.views, batch.companions))
    remembered = None if batch.remembered is None else batch.remembered.to("meta")
    far = Batch(views, batch.index.to("meta"), labels, companions, remembered)
    for progress in method.phases():
        loss = total(method(far, progress))
        assert loss.device.type == "meta"
        loss.backward()
        method.after_step(progress)
    assert {tensor.device.type for tensor in (*method.parameters(), *method.buffers())} == {"meta"}


@every_method
def test_diagnosis_and_cost_change_nothing(name: str) -> None:
    method = begun(name)
    before = copy.deepcopy(method.state_dict())
    with torch.no_grad():
        method.diagnose(fixed_batch(method))
    cost = count_step(method, 32, SIZE)
    assert cost.flops == sum(cost.branches.values())
    assert cost.branches["backward"] > 0
    assert cost.activations > 0
    assert all(torch.equal(value, before[key]) for key, value in method.state_dict().items())


@every_method
def test_same_seed_same_weights(name: str) -> None:
    one, two, other = (small_method(name, seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert any(not torch.equal(one[key], other[key]) for key in one)


@every_method
def test_resumed_training_is_the_same_training(name: str, tmp_path: Path) -> None:
    def trained(method: torch.nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> list[float]:
        losses = []
        for step in steps:
            if step % 5 == 0:
                method.before_epoch(step // 5)
            optimizer.zero_grad()
            loss = total(method(fixed_batch(method, seed=step), step / 20))
            loss.backward()
            optimizer.step()
            method.after_step(step / 20)
            losses.append(loss.item())
        return losses

    def fresh(seed: int) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
        method = small_method(name, seed=seed)
        return method, build("lars", method, lr=0.3, weight_decay=1e-4, trust=0.02, clip=True)

    method, optimizer = fresh(0)
    trained(method, optimizer, range(7))
    path = tmp_path / "last.ckpt"
    progress = {"step": 7, "seconds": 0.0, "waited": 0.0}
    state = {"method": method.state_dict(), "optimizer": optimizer.state_dict(), "progress": progress, "precision": {}}
    checkpoint.save(path, state)
    undisturbed = trained(method, optimizer, range(7, 17))
    other, other_optimizer = fresh(9)
    assert resume(path, Fabric(accelerator="cpu"), other, other_optimizer).step == 7
    assert trained(other, other_optimizer, range(7, 17)) == undisturbed


@every_method
def test_encoders_are_what_their_card_says(name: str, tmp_path: Path) -> None:
    method = begun(name)
    for step in range(2):
        total(method(fixed_batch(method, seed=step), 0.5)).backward()
    method.calibrate([fixed_batch(method)])
    spec = stock.spec("resnet8", SIZE)
    images = fixed_batch(method, 5, seed=3).views[0]
    names = list(method.encoders())
    assert names[0] in ("1x", "1.0")
    for key, encoder in method.encoders().items():
        export_encoder(encoder, spec, tmp_path / key, card=card(spec, name=key))
        loaded = load_encoder(tmp_path / key)
        encoder.eval()
        loaded.eval()
        with torch.no_grad():
            torch.testing.assert_close(loaded(images), encoder(images), rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        stock_twin = load_encoder(tmp_path / names[0]).eval()
        first = method.encoders()[names[0]].eval()
        assert type(stock_twin) is type(spec.build()), "the first encoder is the stock network"
        assert torch.equal(stock_twin(images), first(images))


@every_method
def test_thirty_steps_on_one_batch_learn_without_collapse(name: str) -> None:
    method = begun(name)
    batch = fixed_batch(method)

    def rank() -> float:
        encoder = copy.deepcopy(next(iter(method.encoders().values()))).train()
        with torch.no_grad():
            return effective_rank(encoder(batch.views[0]) - encoder(batch.views[0]).mean(0))

    optimizer = torch.optim.AdamW(method.parameters(), lr=1e-3)
    ranks, losses = [rank()], []
    for _ in range(30):
        optimizer.zero_grad()
        loss = total(method(batch, 0.5))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    ranks.append(rank())
    assert losses[-1] <= 0.95 * losses[0]
    if not method.needs_labels:  # labels of few classes pull the features together on purpose
        assert ranks[1] >= 0.5 * ranks[0]


@every_method
def test_a_run_survives_its_file(name: str) -> None:
    import json

    run = Run(method=config_of(name), data="digits", epochs=3, lr=0.1)
    again = from_json(json.dumps(to_json(run)), "run.json")
    assert again == run
    assert difference(again, run) == []
    assert again.method_name == name.partition(":")[0]


@every_file
def test_a_method_file_is_one_final_class_and_says_its_source(name: str) -> None:
    module = methods.load(name)
    text = Path(str(module.__file__)).read_text(encoding="utf-8")
    about = methods.about(name)
    assert all((about.source, about.cost, about.use))
    assert getattr(method_class(module), "__final__", False)
    assert len(text.splitlines()) <= 220
    assert about.summary == (module.__doc__ or "").splitlines()[0]
