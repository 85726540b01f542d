"""What decays, by name, in the networks as they are."""

from __future__ import annotations

import torch
from torch import nn

from fusion.models.registry import build
from fusion.models.training.optimiser import parameter_groups, undecayed

MICRO = {"preset": "micro"}


def last(names: set[str]) -> set[str]:
    """Ends of names: the parameter, after its module's own name where that says more."""
    return {name.rsplit(".", 1)[-1] for name in names}


def test_plain():
    network = build("plain", 3, MICRO)
    names = {name for name, _ in network.named_parameters()}
    assert names - undecayed(network) == {
        "stem.0.weight",
        *(f"stages.{k}.{j}.0.weight" for k in range(4) for j in range(2)),
        "mix.0.weight",
        "head.weight",
    }


def test_swin_upernet(transformers):
    network = build("swin-upernet", 3, MICRO)
    spared, names = undecayed(network), {name for name, _ in network.named_parameters()}
    assert last(spared) == {"weight", "bias", "relative_position_bias_table"}
    assert not [name for name in spared if name.endswith("weight") and "norm" not in name]
    decayed = names - spared
    assert not [name for name in decayed if "norm" in name or not name.endswith(".weight")]
    assert "model.backbone.swin.embeddings.patch_embeddings.projection.weight" in decayed
    assert "model.decode_head.classifier.weight" in decayed
    tables = [name for name in spared if name.endswith("relative_position_bias_table")]
    assert len(tables) == 3  # one a block


def test_maskformer(transformers):
    network = build("maskformer", 3, MICRO)
    spared, names = undecayed(network), {name for name, _ in network.named_parameters()}
    assert "model.model.transformer_module.queries_embedder.weight" in spared
    tables = [name for name in spared if name.endswith("relative_position_bias_table")]
    assert len(tables) == 3
    group_norms = {"decoder.fpn.stem.1.weight", "decoder.fpn.layers.0.proj.1.weight"}
    assert {f"model.model.pixel_level_module.{name}" for name in group_norms} <= spared
    decayed = names - spared
    assert {"model.class_predictor.weight", "model.mask_embedder.2.0.weight"} <= decayed
    assert not [name for name in decayed if "norm" in name or "embedder.weight" in name]


def test_positions_of_other_libraries_and_what_is_frozen():
    module = nn.Module()
    module.absolute_pos_embed = nn.Parameter(torch.zeros(1, 4, 8))
    module.position_embeddings = nn.Parameter(torch.zeros(1, 4, 8))
    module.cls_token = nn.Parameter(torch.zeros(1, 1, 8))
    module.level_embed = nn.Embedding(3, 8)
    module.mlp, module.frozen = nn.Linear(8, 8), nn.Linear(8, 8).requires_grad_(False)
    decaying, spared = parameter_groups(module, 0.01)
    assert (decaying["weight_decay"], spared["weight_decay"]) == (0.01, 0.0)
    assert [id(p) for p in decaying["params"]] == [id(module.mlp.weight)]
    assert len(spared["params"]) == 5
