"""A card is plain JSON that says how to feed the encoder as its evaluation fed it."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from wisp.data.plain import centred
from wisp.encoders.stock import spec
from wisp.errors import WispError
from wisp.export.card import card, load_lines, onnx_lines, read_card, update_card
from wisp.files import plain, write_json


@dataclass
class _Budget:
    epochs: int
    sizes: tuple[int, ...]


def test_everything_known_is_in_it() -> None:
    made = card(
        spec("resnet8", 24),
        name="1x",
        method={"name": "sacl_xd", "width": 1.5},
        data="digits",
        budget=_Budget(3, (1, 2)),
        accuracy={"knn": {20: 88.5, 200: math.nan}},
        cost={"step_flops": 5},
    )
    assert json.loads(json.dumps(made, allow_nan=False)) == made
    assert made["budget"] == {"epochs": 3, "sizes": [1, 2]}
    assert made["accuracy"] == {"knn": {"20": 88.5, "200": None}}
    assert made["build"] == {"factory": "wisp.encoders.cifar_resnet.resnet8", "kwargs": {}}
    assert made["preprocessing"]["image_size"] == 24
    assert "weights are yours" in made["licence"]


@pytest.mark.parametrize(("height", "width", "size"), [(90, 130, 48), (40, 32, 32), (70, 65, 32)])
def test_its_preprocessing_is_that_of_the_evaluation(height: int, width: int, size: int) -> None:
    image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    told = card(spec("resnet8", size), name="1x")["preprocessing"]
    part = 1.0 if min(height, width) <= 64 else told["crop_pct"]
    side = round(told["image_size"] / part)
    resized = F.resize(image, [side], interpolation=InterpolationMode(told["interpolation"]), antialias=True)
    assert torch.equal(F.center_crop(resized, [size]), centred(image, size))
    assert "64 pixels" in told["small_images"]


def test_its_lines_use_the_best_file_that_is_there() -> None:
    timm, ours = spec("test_efficientnet", 32), spec("resnet8", 16)
    every = {"onnx": "encoder.onnx", "pt2": "encoder.pt2", "safetensors": "encoder.safetensors", "card": "card.json"}
    for kind, files, word in (
        (timm, every, "safetensors.torch.load_file('encoder.safetensors')"),
        (ours, every, "torch.export.load('encoder.pt2')"),
        (timm, {"pt2": "encoder.pt2"}, "torch.export.load('encoder.pt2')"),
        (timm, {"onnx": "encoder.onnx"}, "onnxruntime.InferenceSession('encoder.onnx')"),
    ):
        lines = load_lines({**card(kind, name="1x"), "files": files})
        assert len(lines) == 3
        assert word in "\n".join(lines)
    named = load_lines({**card(timm, name="1x", classes=("a", "b")), "files": {"onnx": "classifier.onnx"}})
    assert "logits = classifier.run(" in named[-1]
    assert "json.load(open('card.json', encoding='utf-8'))['classes']" in named[2]
    assert load_lines({**card(ours, name="1x"), "build": None, "files": {"safetensors": "encoder.safetensors"}}) == []


def test_its_lines_may_be_run_from_elsewhere() -> None:
    """A narrow network's loader is a module, and must be found."""
    timm, place = spec("test_efficientnet", 32), Path("my runs") / "a"
    files = {"safetensors": "classifier.safetensors", "onnx": "classifier.onnx"}
    content = {**card(timm, name="1x", classes=("a", "b")), "files": files}
    for lines, file in ((load_lines(content, place), "safetensors"), (onnx_lines(content, place), "onnx")):
        assert f"'my runs/a/classifier.{file}'" in "\n".join(lines)
        assert "open('my runs/a/card.json'" in "\n".join(lines)
    narrow = load_lines({**card(timm, name="0.5"), "build": None, "files": {"loader": "load_narrow.py"}}, place)
    assert narrow[0] == "import sys; sys.path.insert(0, 'my runs/a')"


def test_plain_values_stay() -> None:
    assert plain({"a": None, "b": [True, 1, 2.5, "x"], 3: -math.inf}) == {
        "a": None,
        "b": [True, 1, 2.5, "x"],
        "3": None,
    }


def test_update_adds_to_mappings_and_replaces_the_rest(tmp_path: Path) -> None:
    write_json(tmp_path / "card.json", card(spec("resnet8", 24), name="1x", cost={"flops": 1}, data="digits"))
    update_card(tmp_path, cost={"seconds": 2.0}, data="cifar10", accuracy={"knn": {20: 50.0}})
    content = read_card(tmp_path)
    assert content["cost"] == {"flops": 1, "seconds": 2.0}
    assert content["data"] == "cifar10"
    assert content["accuracy"] == {"knn": {"20": 50.0}}


def test_a_card_of_a_newer_wisp_is_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "card.json", {"schema": 99})
    with pytest.raises(WispError, match="schema 99, this wisp knows 1; update wisp"):
        read_card(tmp_path)


@pytest.mark.parametrize("content", ["[]", "{}", '{"schema": "x"}', "{", "\ufeff"])
def test_what_is_no_card_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "card.json").write_text(content, encoding="utf-8")
    with pytest.raises(WispError, match=r"card\.json") as found:
        read_card(tmp_path)
    assert "\n" not in str(found.value)
