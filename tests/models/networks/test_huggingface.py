"""Models of the transformers library by configuration and by folder, beside the library's own."""

from __future__ import annotations

import copy
import json
from functools import partial

import pytest
import torch

from fusion.errors import InputError, StoreError
from fusion.models import predict
from fusion.models.networks import huggingface
from fusion.models.registry import build
from fusion.models.training import checkpoint
from fusion.models.training.architecture import Architecture
from fusion.models.training.losses import cross_entropy, ohem_cross_entropy
from fusion.models.training.run import Run, train
from fusion.models.training.start import start_from
from fusion.stores import LogitStore
from tests.models.contract import NetworkContract
from tests.models.tools import CPU, same_state

pytestmark = pytest.mark.usefixtures("transformers")

SEGFORMER = {
    "model_type": "segformer",
    "depths": [1, 1, 1, 1],
    "hidden_sizes": [8, 16, 24, 32],
    "num_attention_heads": [1, 1, 2, 2],
    "decoder_hidden_size": 32,
}
FOUR = ["stage1", "stage2", "stage3", "stage4"]
CONVNEXT = {"model_type": "convnext", "hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]}
SWIN = {"model_type": "swin", "embed_dim": 8, "depths": [1] * 4, "num_heads": [1] * 4}
VIT = {
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "image_size": 64,
}
WIDE = {**VIT, "intermediate_size": 64}
DECODER = {
    "model_type": "detr",
    "d_model": 32,
    "encoder_layers": 0,
    "decoder_layers": 1,
    "decoder_ffn_dim": 32,
    "decoder_attention_heads": 2,
    "num_queries": 5,
}
MASKED = {
    "feature_size": 32,
    "mask_feature_size": 32,
    "hidden_dim": 32,
    "encoder_feedforward_dim": 64,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "num_attention_heads": 2,
    "dim_feedforward": 64,
    "num_queries": 5,
    "train_num_points": 100,
}
# configuration, width of the image over that of the outputs, whether it takes any size
MODELS = {
    "beit": ({**WIDE, "out_indices": [1, 2, 3, 4], "use_relative_position_bias": True}, 4, True),
    "data2vec-vision": ({**WIDE, "out_indices": [1, 2, 3, 4]}, 4, False),
    "dpt": (
        {
            **WIDE,
            "backbone_out_indices": [0, 1, 2, 3],
            "neck_hidden_sizes": [8, 16, 24, 32],
            "fusion_hidden_size": 16,
        },
        1,
        False,
    ),
    "upernet": (
        {"backbone_config": {**CONVNEXT, "out_features": FOUR}, "hidden_size": 16},
        4,
        True,
    ),
    "eomt": ({**VIT, "num_blocks": 1, "num_queries": 5, "mlp_ratio": 2}, 4, False),
    "eomt_dinov3": ({**WIDE, "num_blocks": 1, "num_queries": 5}, 4, False),
    "mask2former": ({"backbone_config": {**SWIN, "out_features": FOUR}, **MASKED}, 4, True),
    "maskformer": (
        {
            "backbone_config": {**SWIN, "out_features": FOUR},
            "decoder_config": DECODER,
            "fpn_feature_size": 32,
            "mask_feature_size": 32,
        },
        4,
        True,
    ),
}
SLOW = {  # hundreds of thousands of weights at their smallest
    "mobilenet_v2": ({"depth_multiplier": 0.25}, 32, True),
    "mobilevit": (
        {
            "hidden_sizes": [16, 24, 32],
            "neck_hidden_sizes": [8, 8, 16, 16, 16, 16, 32],
            "num_attention_heads": 2,
            "aspp_out_channels": 16,
        },
        32,
        True,
    ),
}


class TestHuggingFace(NetworkContract):
    name, options = "huggingface", {"config": SEGFORMER}

    def architecture(self, classes=("a", "b", "c"), tau=None):
        """As weights files keep it: all keys of the configuration."""
        options = build(self.name, 2, self.options).options
        return Architecture(self.name, classes, dict(options), tau)


@pytest.mark.parametrize(
    "kind", [*MODELS, *(pytest.param(kind, marks=pytest.mark.slow) for kind in SLOW)]
)
def test_models_of_the_library(kind):
    keys, cell, any_size = (MODELS | SLOW)[kind]
    torch.manual_seed(0)
    network = build("huggingface", 3, {"config": {"model_type": kind, **keys}})
    assert network.values == ("probabilities" if kind in huggingface.QUERIES else "logits")
    images, targets = torch.randn(2, 3, 64, 64), (torch.arange(64) // 22).expand(2, 64, 64)
    outputs = network.eval().logits(images).detach()
    assert outputs.shape == (2, 3, 64 // cell, 64 // cell)
    if kind in ("beit", "data2vec-vision", "dpt", *SLOW):
        assert torch.equal(outputs, network.model(images).logits)
    loss = network.train().loss(images, targets, cross_entropy)
    loss.backward()
    assert next(network.parameters()).grad.any()
    assert network.get_parameter(f"{network.classifier}.weight").grad.any()
    assert network.get_parameter(f"{network.classifier}.weight").shape[0] in (3, 4)
    # what weights files keep makes the same again
    again = build("huggingface", 3, json.loads(json.dumps(network.options))).eval()
    again.load_state_dict(network.state_dict())
    assert again.options == network.options
    assert torch.equal(again.logits(images), network.eval().logits(images))
    if any_size:
        assert network.logits(torch.randn(1, 3, 64, 96)).shape[-1] == 96 // cell
    else:
        got = (
            rf"{kind} takes images of 64 x 64 pixels only, got 64 x 96 \(.*\); train with crop = 64"
        )
        with pytest.raises(InputError, match=got):
            network.logits(torch.randn(1, 3, 64, 96))


# those of `MODELS` with a head that only training uses
AUXILIARY = ("beit", "data2vec-vision", "dpt", "upernet")


def test_these_have_auxiliary_heads(transformers):
    found = (transformers.AutoConfig.for_model(kind) for kind in huggingface._semantic())
    assert {one.model_type for one in found if hasattr(one, "use_auxiliary_head")} == {*AUXILIARY}


def described(kind, **more):
    return {"config": {"model_type": kind, **MODELS[kind][0], **more}}


@pytest.mark.parametrize("kind", AUXILIARY)
def test_auxiliary_heads_are_trained_as_the_library_trains_them(kind):
    torch.manual_seed(0)
    network = build("huggingface", 3, described(kind)).eval()
    assert "auxiliary_head" not in network.classifier
    images, targets = torch.randn(2, 3, 64, 64), torch.randint(0, 3, (2, 64, 64))
    targets[:, :20] = 255
    # the library's own loss of the same tensors, in a model of its own
    reference = type(network.model)(copy.deepcopy(network.model.config)).eval()
    reference.load_state_dict(network.model.state_dict())
    expected = reference(images, labels=targets).loss
    loss = network.loss(images, targets, cross_entropy)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    expected.backward()
    loss.backward()
    ours, theirs = (dict(each.named_parameters()) for each in (network.model, reference))
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        if tensor.grad is None:
            assert ours[name].grad is None
        else:
            torch.testing.assert_close(ours[name].grad, tensor.grad, rtol=1e-3, atol=1e-6)
    assert any(ours[name].grad.any() for name in ours if name.startswith("auxiliary_head."))
    # each head by the run's own criterion, and 0.4 times the second
    (one, main), (share, other) = network.heads(images)
    assert (one, share) == (1.0, 0.4)
    assert main.shape[1] == other.shape[1] == 3
    hard = partial(ohem_cross_entropy, threshold=0.4, min_kept=100)
    expected = hard(main, targets) + 0.4 * hard(other, targets)
    assert network.loss(images, targets, hard).item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("kind", AUXILIARY)
def test_prediction_has_no_use_for_auxiliary_heads(kind, monkeypatch):
    network = build("huggingface", 3, described(kind)).eval()
    images, names = torch.randn(1, 3, 64, 64), list(network.state_dict())
    expected = network.heads(images)[0][1]
    with monkeypatch.context() as patch:
        patch.setattr(network.model.auxiliary_head, "forward", pytest.fail)
        assert torch.equal(network.logits(images), expected)
    assert list(network.state_dict()) == names  # the head is there again
    assert len(network.heads(images)) == 2
    without = build("huggingface", 3, described(kind, use_auxiliary_head=False)).eval()
    assert [name for name in names if name not in without.state_dict()] == [
        name for name in names if name.startswith("model.auxiliary_head.")
    ]
    assert without.options["config"]["use_auxiliary_head"] is False
    without.load_state_dict(network.state_dict(), strict=False)
    ((factor, logits),) = without.heads(images)
    assert factor == 1.0
    assert torch.equal(logits, expected)


@pytest.mark.parametrize(
    ("kind", "rows"),
    [
        ("dpt", {"head.head.4", "auxiliary_head.head.4"}),
        ("upernet", {"decode_head.classifier", "auxiliary_head.classifier"}),
    ],
)
def test_of_a_state_of_other_classes_all_but_the_last_layers_is_taken(kind, rows, tmp_path):
    source = build("huggingface", 5, described(kind)).model.state_dict()
    torch.save(source, tmp_path / "w.pt")
    network = build("huggingface", 3, described(kind))
    architecture = Architecture("huggingface", ("a", "b", "c"), dict(network.options), None)
    start_from(network, architecture, tmp_path / "w.pt")
    taken = network.model.state_dict()
    left = {name for name in taken if not torch.equal(taken[name], source[name])}
    assert {name.rpartition(".")[0] for name in left} == rows


def test_images_are_of_whole_patches():
    backbone = {"model_type": "dinov2", "hidden_size": 32, "num_hidden_layers": 4, "image_size": 56}
    backbone |= {"num_attention_heads": 2, "patch_size": 14, "out_features": FOUR}
    keys = {"model_type": "upernet", "backbone_config": backbone, "hidden_size": 16}
    network = build("huggingface", 3, {"config": keys}).eval()
    assert network.stride == 28
    assert network.logits(torch.randn(1, 3, 56, 84)).shape == (1, 3, 4, 6)


@pytest.fixture(scope="module")
def saved(transformers, tmp_path_factory):
    """A folder that save_pretrained wrote: SegFormer of five classes, for images of 0 to 1."""
    torch.manual_seed(0)
    keys = {key: value for key, value in SEGFORMER.items() if key != "model_type"}
    config = transformers.SegformerConfig(**keys, num_labels=5)
    folder = tmp_path_factory.mktemp("models") / "segformer"
    transformers.SegformerForSemanticSegmentation(config).save_pretrained(folder)
    pixels = {"do_normalize": True, "image_mean": [0.0, 0.5, 0.5], "image_std": [1.0, 0.5, 0.25]}
    pixels |= {"image_processor_type": "SegformerImageProcessor", "do_flip_channel_order": True}
    (folder / "preprocessor_config.json").write_text(json.dumps(pixels))
    return folder


def test_a_folder_of_the_same_classes(saved, transformers, capsys):
    network = build("huggingface", 5, {"model": str(saved)}).eval()
    reference = transformers.SegformerForSemanticSegmentation.from_pretrained(saved).eval()
    assert same_state(network.model.state_dict(), reference.state_dict())
    images = torch.rand(1, 3, 64, 96)  # of 0 to 1, as both come to see them
    ours = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    theirs = torch.tensor([0.0, 0.5, 0.5]), torch.tensor([1.0, 0.5, 0.25])
    fed, expected = (
        (images - mean.view(3, 1, 1)) / std.view(3, 1, 1) for mean, std in (ours, theirs)
    )
    with torch.no_grad():
        logits = reference(expected.flip(1)).logits
        torch.testing.assert_close(network.logits(fed), logits, rtol=1e-4, atol=1e-5)
    count = len(list(reference.parameters()))
    assert f"segformer: {count} of {count} tensors taken\n" in capsys.readouterr().err


def test_a_folder_of_other_classes(saved, capsys):
    network = build("huggingface", 3, {"model": str(saved)})
    taken = network.model.state_dict()
    source = build("huggingface", 5, {"model": str(saved)}).model.state_dict()
    for name in taken:
        assert name.startswith("decode_head.classifier") or torch.equal(taken[name], source[name])
    assert taken["decode_head.classifier.weight"].shape == (3, 32, 1, 1)
    said = capsys.readouterr().err.splitlines()[0]
    count = len(list(network.parameters()))
    assert f": {count - 2} of {count} tensors taken; left random: decode_head.classifier." in said
    assert "decode_head.classifier.weight ([5, 32, 1, 1] there)" in said
    random = build("huggingface", 5, {"model": str(saved), "pretrained": False})
    assert not same_state(random.model.state_dict(), source)
    assert random.options == build("huggingface", 5, {"model": str(saved)}).options


def test_training_predicting_and_going_on_from_a_folder(saved, configure, vspw, tmp_path):
    """Weights files need the folder no more."""
    away = saved.rename(saved.with_name("away"))
    options = {"name": "huggingface", "preset": None, "model": str(away)}
    document = configure(network=options, train={"steps": 2})
    del document.network.options["preset"]
    path = train(document, "cpu")
    away.rename(saved)
    network, there = checkpoint.load_network(path)
    assert there.options["config"]["model_type"] == "segformer"
    assert there.options["bgr"] is True
    assert network.model.config.num_labels == 124
    store = tmp_path / "s.zarr"
    command = ["--weights", str(path), "--vspw", str(vspw), "--split", "val", "--out", str(store)]
    assert predict.main([*command, "--device", "cpu"]) == 0
    assert LogitStore(store).info.provenance["network"] == "huggingface"
    again = configure("again", network={**options, "model": str(saved), "start": str(path)})
    del again.network.options["preset"]
    assert same_state(Run(again, CPU).network.state_dict(), network.state_dict())


def test_what_cannot_be_had(tmp_path, saved, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    advice = "give a folder with config.json and model.safetensors, as save_pretrained writes them"
    with pytest.raises(StoreError, match=rf"nvidia/none cannot be had \(.*\); {advice}, or conn"):
        build("huggingface", 3, {"model": "nvidia/none"})
    with pytest.raises(StoreError, match=rf"cannot be had \(.*\); {advice}"):
        build("huggingface", 3, {"model": str(tmp_path)})
    # a pickle beside config.json is not opened
    (tmp_path / "config.json").write_bytes((saved / "config.json").read_bytes())
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(StoreError, match=rf"cannot be had \(.*safetensors.*\); {advice}"):
        build("huggingface", 3, {"model": str(tmp_path)})
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(InputError, match="model_type 'bert' is no model that segments images"):
        build("huggingface", 3, {"model": str(tmp_path)})


def test_code_of_a_folder_is_not_run(saved, tmp_path):
    document = json.loads((saved / "config.json").read_text())
    document |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Config"}}
    (tmp_path / "config.json").write_text(json.dumps(document))
    (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Config: pass\n")
    with pytest.raises(StoreError, match="cannot be had"):
        build("huggingface", 3, {"model": str(tmp_path)})
    assert not (tmp_path / "ran").exists()


def test_configurations_that_are_none():
    def refused(match, **options):
        with pytest.raises(InputError, match=match):
            build("huggingface", 3, options)

    refused("give one of model and config")
    refused("give one of model and config", model="a", config=SEGFORMER)
    refused(
        r"model_type 'segfromer' .*; did you mean 'segformer'\?", config={"model_type": "segfromer"}
    )
    refused(
        "model_type 'oneformer' is no model that segments images",
        config={"model_type": "oneformer"},
    )
    refused("no model_type; choose one of beit", config={})
    refused(r"has no key 'deths'; did you mean 'depths'\?", config={**SEGFORMER, "deths": 1})
    refused("no segformer of this configuration", config={**SEGFORMER, "depths": "many"})
    refused(r"config is 3; give a dict", config=3)
    refused("there is no option 'modle'; did you mean 'model'", modle="x")
