"""Checkpoints as others publish them: their names written out here, loaded, all outputs compared.

Names: microsoft/Swin-Transformer models/swin_transformer.py; open-mmlab/mmsegmentation
mmseg/models/backbones/swin.py and decode_heads/uper_head.py; facebookresearch/MaskFormer and
Mask2Former, modeling/.
"""

from __future__ import annotations

import pytest
import torch

from fusion.errors import InputError
from fusion.models.networks import official
from fusion.models.training.architecture import Architecture
from fusion.models.training.run import Run
from fusion.models.training.start import start_from
from tests.models.tools import CPU, plain_weights, same_state

STAGES = 3  # of the preset micro, of one block each
pytestmark = pytest.mark.usefixtures("transformers")


def architecture(name, classes=("a", "b", "c"), tau=None):
    return Architecture(name, classes, {"preset": "micro"}, tau)


def random_network(name, seed=0, **changed):
    """All of its tensors are random, statistics and biases too, but for what follows from sizes."""
    torch.manual_seed(seed)
    network = architecture(name, **changed).build().eval()
    for key, tensor in network.state_dict().items():
        if tensor.is_floating_point() and "empty_weight" not in key:
            tensor.copy_(
                torch.rand_like(tensor) + 0.5
                if "var" in key
                else tensor + torch.randn_like(tensor) / 9
            )
    return network


def both(theirs, ours, state, out):
    for kind in ("weight", "bias"):
        if f"{ours}.{kind}" in state:
            out[f"{theirs}.{kind}"] = state[f"{ours}.{kind}"]


def stacked(theirs, ours, state, kind):
    return {theirs: torch.cat([state[ours.format(part, kind)] for part in "qkv"])}


def below(state, prefix):
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def authors_swin(state):
    """A SwinBackbone's state as microsoft/Swin-Transformer names it, norms of its outputs too."""
    out = {}
    both("patch_embed.proj", "swin.embeddings.patch_embeddings.projection", state, out)
    both("patch_embed.norm", "swin.embeddings.norm", state, out)
    for i in range(STAGES):
        ours, theirs = f"swin.encoder.layers.{i}.blocks.0", f"layers.{i}.blocks.0"
        both(f"{theirs}.norm1", f"{ours}.layernorm_before", state, out)
        both(f"{theirs}.norm2", f"{ours}.layernorm_after", state, out)
        both(f"{theirs}.attn.proj", f"{ours}.attention.o_proj", state, out)
        both(f"{theirs}.mlp.fc1", f"{ours}.mlp.fc1", state, out)
        both(f"{theirs}.mlp.fc2", f"{ours}.mlp.fc2", state, out)
        for kind in ("weight", "bias"):
            name = f"{ours}.attention.{{}}_proj.{{}}"
            out |= stacked(f"{theirs}.attn.qkv.{kind}", name, state, kind)
        table = "relative_position_bias_table"
        out[f"{theirs}.attn.{table}"] = state[f"{ours}.attention.relative_position_bias.{table}"]
        out[f"{theirs}.attn.relative_position_index"] = torch.zeros(16, 16, dtype=torch.long)
        out[f"{theirs}.attn_mask"] = torch.zeros(4, 16, 16)
        if i < STAGES - 1:
            both(
                f"layers.{i}.downsample.norm",
                f"swin.encoder.layers.{i}.downsample.norm",
                state,
                out,
            )
            merge = "downsample.reduction.weight"
            out[f"layers.{i}.{merge}"] = state[f"swin.encoder.layers.{i}.{merge}"]
        both(f"norm{i}", f"hidden_states_norms.stage{i + 1}", state, out)
    return out


def unfolded(tensor):
    """Channels of merged patches in the order that torch's Unfold gives."""
    width, out = tensor.shape[-1] // 4, torch.empty_like(tensor)
    for channel in range(width):
        for row in (0, 1):
            for column in (0, 1):
                ours = (2 * column + row) * width + channel
                out[..., 4 * channel + 2 * row + column] = tensor[..., ours]
    return out


def mmseg(network):
    state, out = network.state_dict(), {}
    changes = (
        ("layers.", "stages."),
        (".attn.", ".attn.w_msa."),
        (".mlp.fc1.", ".ffn.layers.0.0."),
        (".mlp.fc2.", ".ffn.layers.1."),
        ("patch_embed.proj.", "patch_embed.projection."),
    )
    for key, tensor in authors_swin(below(state, "model.backbone.")).items():
        for ours, theirs in changes:
            key = key.replace(ours, theirs) if theirs not in key else key
        out[f"backbone.{key}"] = unfolded(tensor) if "downsample" in key else tensor
    for key, tensor in state.items():
        if "_head." in key:
            key = key.removeprefix("model.").replace(".batch_norm.", ".bn.")
            out[key.replace(".classifier.", ".conv_seg.")] = tensor
    return {"meta": {"CLASSES": ["a", "b", "c"]}, "state_dict": out}


def maskformer_backbone(state):
    """MaskFormer's own Swin as a SwinBackbone."""
    out = {}
    for key, tensor in state.items():
        key = key.replace("model.", "swin.", 1) if key.startswith("model.") else key
        for ours, theirs in {
            "attention.self.query": "attention.q_proj",
            "attention.self.key": "attention.k_proj",
            "attention.self.value": "attention.v_proj",
            "attention.output.dense": "attention.o_proj",
            "attention.self.relative": "attention.relative_position_bias.relative",
            "intermediate.dense": "mlp.fc1",
            "output.dense": "mlp.fc2",
            "norms.0": "norms.stage1",
            "norms.1": "norms.stage2",
            "norms.2": "norms.stage3",
        }.items():
            key = key.replace(ours, theirs)
        out[key] = tensor
    return out


def with_norm(theirs, ours, state, out):
    """detectron2's convolutions hold their norm."""
    out[f"{theirs}.weight"] = state[f"{ours}.0.weight"]
    both(f"{theirs}.norm", f"{ours}.1", state, out)


def heads(state, out):
    """What MaskFormer and Mask2Former share."""
    both("sem_seg_head.predictor.class_embed", "class_predictor", state, out)
    module = "model.transformer_module.queries_embedder"
    both("sem_seg_head.predictor.query_embed", module, state, out)
    out["criterion.empty_weight"] = state["criterion.empty_weight"]
    theirs, ours = "sem_seg_head.pixel_decoder", "model.pixel_level_module.decoder"
    both(f"{theirs}.mask_features", f"{ours}.mask_projection", state, out)


def authors_maskformer(network):
    state, out = below(network.state_dict(), "model."), {}
    encoder = maskformer_backbone(below(state, "model.pixel_level_module.encoder."))
    out |= {f"backbone.{k}": v for k, v in authors_swin(encoder).items()}
    heads(state, out)
    theirs, ours = "sem_seg_head.pixel_decoder", "model.pixel_level_module.decoder.fpn"
    with_norm(f"{theirs}.layer_3", f"{ours}.stem", state, out)
    for level, place in ((2, 0), (1, 1)):  # from the finest there, from the coarsest here
        with_norm(f"{theirs}.layer_{level}", f"{ours}.layers.{place}.block", state, out)
        with_norm(f"{theirs}.adapter_{level}", f"{ours}.layers.{place}.proj", state, out)
    theirs, ours = "sem_seg_head.predictor", "model.transformer_module.decoder"
    both(f"{theirs}.transformer.decoder.norm", f"{ours}.layernorm", state, out)
    for k in range(3):
        both(f"{theirs}.mask_embed.layers.{k}", f"mask_embedder.{k}.0", state, out)
    for i in range(2):
        a, b = f"{theirs}.transformer.decoder.layers.{i}", f"{ours}.layers.{i}"
        for name, other in (("self_attn", "self_attn"), ("multihead_attn", "encoder_attn")):
            both(f"{a}.{name}.out_proj", f"{b}.{other}.o_proj", state, out)
            for kind in ("weight", "bias"):
                out |= stacked(
                    f"{a}.{name}.in_proj_{kind}", f"{b}.{other}.{{}}_proj.{{}}", state, kind
                )
        both(f"{a}.linear1", f"{b}.mlp.fc1", state, out)
        both(f"{a}.linear2", f"{b}.mlp.fc2", state, out)
        both(f"{a}.norm1", f"{b}.self_attn_layer_norm", state, out)
        both(f"{a}.norm2", f"{b}.encoder_attn_layer_norm", state, out)
        both(f"{a}.norm3", f"{b}.final_layer_norm", state, out)
    return {"model": out}


def first_release(network):
    """MaskFormer's before its pixel decoder had a name."""
    out = authors_maskformer(network)["model"]
    return {"model": {k.replace(".pixel_decoder.", "."): v for k, v in out.items()}}


def authors_mask2former(network):
    state, out = below(network.state_dict(), "model."), {}
    encoder = below(state, "model.pixel_level_module.encoder.")
    out |= {f"backbone.{k}": v for k, v in authors_swin(encoder).items()}
    heads(state, out)
    theirs, ours = "sem_seg_head.pixel_decoder", "model.pixel_level_module.decoder"
    with_norm(f"{theirs}.adapter_1", f"{ours}.adapter_1", state, out)
    with_norm(f"{theirs}.layer_1", f"{ours}.layer_1", state, out)
    for i in range(3):
        for j in range(2):
            both(f"{theirs}.input_proj.{i}.{j}", f"{ours}.input_projections.{i}.{j}", state, out)
    out[f"{theirs}.transformer.level_embed"] = state[f"{ours}.level_embed"]
    a, b = f"{theirs}.transformer.encoder.layers.0", f"{ours}.encoder.layers.0"
    for name in ("attention_weights", "output_proj", "sampling_offsets", "value_proj"):
        both(f"{a}.self_attn.{name}", f"{b}.self_attn.{name}", state, out)
    both(f"{a}.linear1", f"{b}.fc1", state, out)
    both(f"{a}.linear2", f"{b}.fc2", state, out)
    both(f"{a}.norm1", f"{b}.self_attn_layer_norm", state, out)
    both(f"{a}.norm2", f"{b}.final_layer_norm", state, out)
    theirs, ours = "sem_seg_head.predictor", "model.transformer_module"
    both(f"{theirs}.query_feat", f"{ours}.queries_features", state, out)
    both(f"{theirs}.level_embed", f"{ours}.level_embed", state, out)
    both(f"{theirs}.decoder_norm", f"{ours}.decoder.layernorm", state, out)
    for k in range(3):
        place = f"{ours}.decoder.mask_predictor.mask_embedder.{k}.0"
        both(f"{theirs}.mask_embed.layers.{k}", place, state, out)
    for i in range(2):
        layer = f"{ours}.decoder.layers.{i}"
        name = f"{theirs}.transformer_self_attention_layers.{i}"
        both(f"{name}.norm", f"{layer}.self_attn_layer_norm", state, out)
        both(f"{name}.self_attn.out_proj", f"{layer}.self_attn.out_proj", state, out)
        for kind in ("weight", "bias"):
            place = f"{layer}.self_attn.{{}}_proj.{{}}"
            out |= stacked(f"{name}.self_attn.in_proj_{kind}", place, state, kind)
        name = f"{theirs}.transformer_cross_attention_layers.{i}"
        both(f"{name}.norm", f"{layer}.cross_attn_layer_norm", state, out)
        both(f"{name}.multihead_attn.out_proj", f"{layer}.cross_attn.out_proj", state, out)
        for kind in ("weight", "bias"):
            cross = state[f"{layer}.cross_attn.in_proj_{kind}"]
            out[f"{name}.multihead_attn.in_proj_{kind}"] = cross
        name = f"{theirs}.transformer_ffn_layers.{i}"
        both(f"{name}.norm", f"{layer}.final_layer_norm", state, out)
        both(f"{name}.linear1", f"{layer}.fc1", state, out)
        both(f"{name}.linear2", f"{layer}.fc2", state, out)
    return {"model": out}


CASES = {
    "mmseg": ("swin-upernet", mmseg),
    "maskformer": ("maskformer", authors_maskformer),
    "maskformer of the first release": ("maskformer", first_release),
    "mask2former": ("mask2former", authors_mask2former),
}


@pytest.mark.parametrize("case", CASES)
def test_whole_networks_under_their_authors_names(case, tmp_path, capsys):
    name, named = CASES[case]
    source, target = random_network(name), random_network(name, seed=1)
    content = named(source)
    torch.save(content, tmp_path / "official.pth")
    start_from(target, architecture(name), tmp_path / "official.pth")
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        assert torch.equal(target.logits(images), source.logits(images))
    tensors = next(each for key, each in content.items() if key != "meta")
    count = sum(not key.endswith(("_index", "attn_mask")) for key in tensors)
    assert f"official.pth: matched {count} of {count} tensors; left as" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["swin-upernet", "maskformer", "mask2former"])
def test_a_published_backbone_in_every_family(name, tmp_path, capsys):
    source, target = random_network(name), random_network(name, seed=1)
    before = {key: tensor.clone() for key, tensor in target.state_dict().items()}
    place, of_maskformer = official.backbone(before)
    backbone = below(source.state_dict(), place)
    content = authors_swin(maskformer_backbone(backbone) if of_maskformer else backbone)
    content = {k: v for k, v in content.items() if not k.startswith(("norm0", "norm1", "norm2"))}
    mine = {k for k in content if not k.endswith(("_index", "attn_mask"))}
    content |= {"norm.weight": torch.zeros(64), "norm.bias": torch.ones(64)}
    content |= {"head.weight": torch.zeros(1000, 64), "head.bias": torch.zeros(1000)}
    torch.save({"model": content}, tmp_path / "swin.pth")
    start_from(target, architecture(name), tmp_path / "swin.pth")
    for key, tensor in target.state_dict().items():
        taken = key.startswith(place) and "norms." not in key and ".layernorm." not in key
        expected = source.state_dict() if taken else before
        if key.endswith("layernorm.weight") and key.startswith(place):
            assert not tensor.any()
        elif not (key.endswith("layernorm.bias") and key.startswith(place)):
            assert torch.equal(tensor, expected[key]), key
    err = capsys.readouterr().err
    assert (
        f"swin.pth: matched {len(mine) + 2} of {len(mine) + 4} tensors; left as they are: " in err
    )


def test_merged_patches_of_mmsegmentation(transformers):
    """Against its PatchMerging written out: unfold, norm, linear."""
    from transformers.models.swin.modeling_swin import SwinPatchMerging

    norm, linear = torch.nn.LayerNorm(12), torch.nn.Linear(12, 6, bias=False)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    maps = torch.randn(2, 3, 4, 6)
    expected = linear(norm(torch.nn.functional.unfold(maps, 2, stride=2).transpose(1, 2)))
    start = "backbone.stages.0"
    theirs = {
        f"{start}.blocks.0.attn.w_msa.proj.weight": torch.zeros(1),
        f"{start}.downsample.norm.weight": norm.weight,
        f"{start}.downsample.norm.bias": norm.bias,
        f"{start}.downsample.reduction.weight": linear.weight,
    }
    own = ["swin.embeddings.patch_embeddings.projection.weight"]
    found = official.renamed(theirs, official.recognised(theirs), own)
    layer = SwinPatchMerging(3)
    state = {k: v for parts in found.values() for k, v in parts.items() if "downsample" in k}
    layer.load_state_dict(below(state, "swin.encoder.layers.0.downsample."))
    outputs = layer(maps.flatten(2).transpose(1, 2), (4, 6))
    torch.testing.assert_close(outputs, expected)


@pytest.mark.parametrize("tau", [None, 0.5])
def test_other_classes_keep_the_last_layer(tmp_path, tau, capsys):
    source = random_network("mask2former", classes=("a", "b"))
    target = random_network("mask2former", seed=1, tau=tau)
    before = {key: tensor.clone() for key, tensor in target.state_dict().items()}
    torch.save(authors_mask2former(source), tmp_path / "w.pth")
    start_from(target, architecture("mask2former", tau=tau), tmp_path / "w.pth")
    kept = ("model.class_predictor.", "model.criterion.")
    for key, tensor in target.state_dict().items():
        expected = (
            before if key.startswith(kept) or "swin.layernorm" in key else source.state_dict()
        )
        assert torch.equal(tensor, expected[key]), key
    assert "model.class_predictor.weight" in capsys.readouterr().err


def test_the_last_layer_of_the_same_classes_is_taken_by_logit_adjustment(tmp_path):
    source = random_network("swin-upernet")
    target = random_network("swin-upernet", seed=1, tau=0.5)
    prior = target.get_buffer("model.decode_head.classifier.log_prior").clone()
    torch.save(mmseg(source), tmp_path / "w.pth")
    start_from(target, architecture("swin-upernet", tau=0.5), tmp_path / "w.pth")
    name = "model.decode_head.classifier.weight"
    assert torch.equal(target.get_parameter(name), source.get_parameter(name)[:, :, 0, 0])
    assert torch.equal(target.get_buffer("model.decode_head.classifier.log_prior"), prior)


def test_what_is_for_another_network(tmp_path):
    torch.save(authors_maskformer(random_network("maskformer")), tmp_path / "w.pth")
    target = random_network("swin-upernet")
    got = (
        r"start .*w\.pth, a checkpoint of MaskFormer of its authors, is not for SwinUPerNet: it "
        r"lacks \d+ \(model\.decode_head\.classifier\.weight, .*\), has \d+ unknown \(model\.c"
    )
    with pytest.raises(InputError, match=got):
        start_from(target, architecture("swin-upernet"), tmp_path / "w.pth")
    network, there = plain_weights(tmp_path / "plain")
    with pytest.raises(InputError, match="checkpoint on a Swin, which this network has none of"):
        start_from(network, there, tmp_path / "w.pth")
    content = mmseg(target)["state_dict"]
    content["backbone.patch_embed.projection.weight"] = torch.zeros(96, 3, 4, 4)
    torch.save(content, tmp_path / "w.pth")
    got = r"has 1 of another shape \(model\.backbone\.swin.* is \[96, 3, 4, 4\], expected \[16, 3"
    with pytest.raises(InputError, match=got):
        start_from(target, architecture("swin-upernet"), tmp_path / "w.pth")


def test_a_state_of_the_network_s_own_module(tmp_path, capsys):
    """As of somebody who trained the same module elsewhere, in data parallelism."""
    source, target = random_network("segformer"), random_network("segformer", seed=1)
    state = {f"module.{k}": v for k, v in source.model.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "w.pth")
    start_from(target, architecture("segformer"), tmp_path / "w.pth")
    assert same_state(target.state_dict(), source.state_dict())
    count = len(state)
    assert f"matched {count} of {count} tensors; none is left as it" in capsys.readouterr().err


def test_a_run_starts_from_a_published_checkpoint(configure, tmp_path, capsys):
    source = random_network("maskformer")
    torch.save(authors_maskformer(source), tmp_path / "w.pth")
    options = {"name": "maskformer", "preset": "micro", "start": str(tmp_path / "w.pth")}
    run = Run(configure(network=options), CPU)
    name = "model.model.transformer_module.queries_embedder.weight"
    assert torch.equal(run.network.get_parameter(name), source.get_parameter(name))
    assert "left as they are: " in capsys.readouterr().err
    assert run.network.model.config.num_labels == 124
