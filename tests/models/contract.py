"""What every network must do.

    class TestMyNet(NetworkContract):
        name, options = "my-net", {"width": 8}

is what the tests of a network need, one of one's own (`module`) too.
"""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch

from fusion.errors import InputError
from fusion.models.registry import Network, build
from fusion.models.training import checkpoint
from fusion.models.training.adjustment import CosineClassifier
from fusion.models.training.architecture import Architecture
from fusion.models.training.losses import cross_entropy
from fusion.models.training.start import start_from
from fusion.models.tta import to_probabilities
from tests.models.tools import same_state

VOID = 255


class NetworkContract:
    """name, options, module: as in `registry.build`; options of the smallest size.

    values, cell: what the outputs are, and how many pixels of the image wide and high each is.
    per_class: prefixes of tensors, besides the last layer's, that have a row a class.
    """

    name: str
    options: ClassVar[dict] = {"preset": "micro"}
    module: str | None = None
    values, cell = "logits", 4
    per_class: tuple[str, ...] = ()

    def architecture(self, classes=("a", "b", "c"), tau: float | None = None) -> Architecture:
        return Architecture(self.name, classes, self.options, tau)

    def built(self, seed: int = 0, **changed) -> Network:
        torch.manual_seed(seed)
        return self.architecture(**changed).build(module=self.module)

    def images(self, network: Network, seed: int = 1) -> torch.Tensor:
        """[2, 3, H, W] of two multiples of the network's stride, a batch that training may see."""
        draw = torch.Generator().manual_seed(seed)
        return torch.randn(2, 3, 2 * network.stride, 3 * network.stride, generator=draw)

    def targets(self, images: torch.Tensor) -> torch.Tensor:
        """Three classes in stripes, the last rows void."""
        height, width = images.shape[-2:]
        stripes = torch.arange(width) * 3 // width
        targets = stripes.expand(len(images), height, width).clone()
        targets[:, -2:] = VOID
        return targets

    def loss(self, network: Network, void: bool = False) -> torch.Tensor:
        images = self.images(network)
        targets = self.targets(images)
        targets = torch.full_like(targets, VOID) if void else targets
        return network.train().loss(images, targets, cross_entropy)

    def test_outputs_have_a_grid_that_covers_the_image(self):
        network = self.built().eval()
        for images in (self.images(network), torch.randn(1, 3, network.stride, network.stride)):
            outputs = network.logits(images)
            assert outputs.shape[:2] == (len(images), 3)
            assert outputs.is_floating_point()
            assert images.shape[-2:] == tuple(self.cell * side for side in outputs.shape[-2:])

    def test_the_number_of_classes_is_the_number_of_channels(self):
        network = self.built(classes=("one", "two", "three", "four", "five")).eval()
        assert network.logits(self.images(network)).shape[1] == 5

    def test_outputs_are_what_values_says(self):
        network = self.built().eval()
        assert network.values == self.values
        outputs = network.logits(self.images(network)).detach()
        probabilities = to_probabilities(outputs, network.values)
        assert (probabilities > 0).all()
        torch.testing.assert_close(probabilities.sum(dim=1), torch.ones_like(outputs[:, 0]))
        assert network.values == "logits" or (outputs >= 0).all()

    def test_the_seed_makes_the_weights(self):
        assert same_state(self.built(5).state_dict(), self.built(5).state_dict())
        assert not same_state(self.built(5).state_dict(), self.built(6).state_dict())

    def test_evaluation_is_deterministic(self):
        network = self.built().eval()
        images = self.images(network)
        with torch.no_grad():
            assert torch.equal(network.logits(images), network(images))
            torch.testing.assert_close(network.logits(images[:1]), network.logits(images)[:1])

    def test_the_last_layer_has_a_row_a_class(self):
        three, four = self.built(), self.built(classes=("a", "b", "c", "d"))
        rows = [len(one.get_parameter(f"{one.classifier}.weight")) for one in (three, four)]
        assert 3 <= rows[0] == rows[1] - 1

    def test_the_last_layer_can_be_adjusted(self):
        network = self.built(tau=0.5)
        layer = network.get_submodule(network.classifier)
        assert isinstance(layer, CosineClassifier)
        outputs = network.eval().logits(self.images(network))
        torch.nn.init.normal_(layer.weight)
        assert not torch.equal(network.logits(self.images(network)), outputs)  # it is in use
        self.loss(network).backward()
        assert layer.weight.grad.any()

    def test_the_loss_is_finite_and_reaches_every_part(self):
        network = self.built()
        loss = self.loss(network)
        assert loss.ndim == 0
        assert torch.isfinite(loss)
        assert loss > 0
        loss.backward()
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        assert all(torch.isfinite(gradient).all() for gradient in gradients)
        assert network.get_parameter(f"{network.classifier}.weight").grad.any()
        first = next(network.parameters())
        assert first.grad is not None
        assert first.grad.any()

    def test_a_step_makes_the_loss_smaller(self):
        network = self.built()
        optimiser = torch.optim.AdamW(network.parameters(), 1e-3)
        losses = []
        for _ in range(5):
            torch.manual_seed(0)
            losses.append(self.loss(network))
            optimiser.zero_grad()
            losses[-1].backward()
            optimiser.step()
        assert losses[-1] < losses[0]

    def test_only_void_is_a_loss_of_zero(self):
        network = self.built()
        loss = self.loss(network, void=True)
        assert loss == 0
        loss.backward()
        assert not any(p.grad.any() for p in network.parameters() if p.grad is not None)

    def test_weights_survive_the_disk_bit_by_bit(self, tmp_path):
        network, path = self.built().eval(), tmp_path / "w"
        checkpoint.save_network(path, network, self.architecture())
        other, found = checkpoint.load_network(path, module=self.module)
        assert found == self.architecture()
        assert same_state(other.state_dict(), network.state_dict())
        with torch.no_grad():
            images = self.images(network)
            assert torch.equal(other.logits(images), network.logits(images))

    def test_starting_from_other_classes_leaves_the_last_layer(self, tmp_path, capsys):
        source, here = self.built(0, classes=("a", "b")), self.architecture()
        checkpoint.save_network(tmp_path / "w", source, self.architecture(("a", "b")))
        network, before = self.built(1), self.built(1).state_dict()
        start_from(network, here, tmp_path / "w")
        said = f"{tmp_path / 'w'}: of other classes; left as it is: {network.classifier}\n"
        assert said in capsys.readouterr().err
        kept = (f"{network.classifier}.", *self.per_class)
        for key, tensor in network.state_dict().items():
            expected = before if key.startswith(kept) else source.state_dict()
            assert torch.equal(tensor, expected[key]), key

    def test_an_option_that_it_lacks_is_named(self):
        with pytest.raises(InputError, match=rf"{self.name}.*widht"):
            build(self.name, 3, {**self.options, "widht": 1}, module=self.module)
