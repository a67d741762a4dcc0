"""The recipes of the bundled networks: each writes what the next one, and the restorer, can load."""

from __future__ import annotations

import copy
import math
import warnings
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from helpers import NOISE, pictures, tiny_generator
from pytorch_lightning import LightningModule
from small_training import people, trainer

from lit_restore.errors import UserError
from lit_restore.models.base import load_base
from lit_restore.models.recognition import load_recognizer
from lit_restore.training.autoencoder import COLOUR_AXES, CONTRAST, AutoencoderModule, balance_colours
from lit_restore.training.denoiser import DenoiserModule
from lit_restore.training.optim import OptimizerConfig
from lit_restore.training.pretraining import all_faces
from lit_restore.training.recognition import RecognitionModule, margin_logits
from lit_restore.training.taught_attention import TaughtFeatures


def train(module: LightningModule, cache: Path, folder: Path) -> LightningModule:
    data = people(cache, zero_reference_probability=0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer(folder).fit(module, data)
    return module


@pytest.fixture(scope="module")
def vae(people_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[AutoencoderModule, Path]:
    folder = tmp_path_factory.mktemp("vae")
    module = AutoencoderModule(str(folder / "vae"), widths=[8, 8, 16], latent_channels=4, max_iterations=2)
    return train(module, people_cache, folder / "run"), folder / "vae"


@pytest.fixture(scope="module")
def base(vae, people_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[DenoiserModule, Path]:
    folder = tmp_path_factory.mktemp("denoiser")
    module = DenoiserModule(
        str(folder / "base"),
        vae=str(vae[1]),
        widths=[16, 16, 16],
        head_channels=8,
        shared_probability=1.0,
        max_iterations=2,
    )
    return train(module, people_cache, folder / "run"), folder / "base"


def test_the_vae_is_written_with_the_scale_of_its_latents(vae) -> None:
    module, folder = vae
    written = AutoencoderKL.from_pretrained(folder)
    assert written.config.scaling_factor == round(1 / math.sqrt(module.latent_square.item()), 4)
    faces = pictures(0, 1, 3, 32, 32)
    with torch.no_grad():
        assert written.encode(faces).latent_dist.mean.shape == (1, 4, 8, 8)
        # What is written is the average, in half precision.
        torch.testing.assert_close(
            written.float()(faces).sample, module.average.float()(faces).sample, atol=2e-2, rtol=1e-2
        )


def test_the_latent_scale_is_a_moving_average_of_the_mean_square(people_cache: Path, tmp_path: Path) -> None:
    module = AutoencoderModule(str(tmp_path), widths=[8, 8], latent_channels=4)
    batch = {
        "hq": pictures(0, 2, 3, 32, 32),
        "references": pictures(1, 2, 1, 3, 32, 32),
        "reference_mask": torch.tensor([[True], [False]]),
    }
    with torch.no_grad():
        latent = module.network.encode(all_faces(batch)).latent_dist.mean
    module.loss(batch)
    assert len(latent) == 3  # two targets and the one real reference
    assert module.latent_square.item() == pytest.approx(0.99 + 0.01 * latent.square().mean().item(), rel=1e-5)


def test_colours_enter_the_vae_with_as_much_contrast_as_brightness() -> None:
    torch.testing.assert_close(COLOUR_AXES @ COLOUR_AXES.T, torch.eye(3))
    first = torch.nn.Conv2d(3, 5, 3, padding=1)
    before = copy.deepcopy(first)
    balance_colours(first)
    for axis, contrast in zip(COLOUR_AXES, CONTRAST, strict=True):
        picture = axis[None, :, None, None] * pictures(0, 1, 1, 8, 8)  # of this colour only
        torch.testing.assert_close(first(picture), before(contrast * picture), atol=1e-5, rtol=1e-5)


def test_the_vae_loss_of_a_uniform_colour_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = AutoencoderModule(str(tmp_path), widths=[8, 8], latent_channels=4, ms_ssim_weight=0.0, kl_weight=0.0)
    faces = torch.zeros(1, 3, 32, 32)
    error = 0.1 * COLOUR_AXES[0] - 0.2 * COLOUR_AXES[1] + 0.3 * COLOUR_AXES[2]
    decoded = type("Decoded", (), {"sample": faces + error[None, :, None, None]})
    monkeypatch.setattr(module.network, "decode", lambda latent: decoded)
    batch = {"hq": faces, "references": faces[:, None], "reference_mask": torch.zeros(1, 1, dtype=torch.bool)}
    assert module.loss(batch)[0].item() == pytest.approx(0.1 + 3 * 0.04 + 10 * 0.09, rel=1e-5)


def test_the_base_is_complete_and_carries_the_restorer(base) -> None:
    module, folder = base
    loaded = load_base(str(folder))
    torch.testing.assert_close(loaded.prompt_embedding, module.prompt)
    assert len(loaded.schedule) == 1000
    generator = tiny_generator(folder)
    assert len(generator.shared_layers) == module.num_shared == 4  # two up blocks of two layers
    with torch.no_grad():
        output = generator(pictures(0, 1, 3, 32, 32), pictures(1, 1, 2, 3, 32, 32), draw=NOISE)
    assert output.shape == (1, 3, 32, 32)


def without_landmarks(references: torch.Tensor) -> dict[str, torch.Tensor]:
    """Photos of people (B, R, 3, H, W); the target is the first of them, and no landmark is known."""
    people, count = references.shape[:2]
    return {
        "hq": references[:, 0],
        "references": references,
        "reference_mask": torch.ones(people, count, dtype=torch.bool),
        "landmarks": torch.zeros(people, 3, 2),
        "landmark_mask": torch.zeros(people, 3, dtype=torch.bool),
        "reference_landmarks": torch.zeros(people, count, 3, 2),
        "reference_landmark_mask": torch.zeros(people, count, 3, dtype=torch.bool),
    }


def test_references_learn_too_when_the_base_is_trained(base, people_cache: Path) -> None:
    """The features of the references carry gradients; in the restorer's training they do not."""
    module = base[0]
    features = module._features(without_landmarks(pictures(1, 1, 2, 3, 32, 32)), known=True)
    module.zero_grad()
    sum(key.sum() for key in features.keys).backward()
    layer = module.network.get_submodule("up_blocks.1.attentions.0.transformer_blocks.0.attn1")
    assert layer.to_k.weight.grad.abs().sum() > 0
    assert not any(p.grad is not None for p in module.vae.parameters())


def test_the_first_reference_is_the_one_whose_places_are_told(base) -> None:
    module, references = base[0], pictures(1, 1, 2, 3, 32, 32)
    both = module._features(without_landmarks(references), known=True)
    first = module._features(without_landmarks(references[:, :1]), known=True)
    for one, other in zip(both.values, first.values, strict=True):
        torch.testing.assert_close(one, other)
    assert both.keys[0].shape[1] == 1
    assert both.places.keys() == {key.shape[2] for key in both.keys}


def test_a_batch_with_nobody_to_look_at_is_learned_alone(base) -> None:
    """Half of the photos without a reference: nothing may be looked up in padding."""
    module, references = base[0], pictures(2, 2, 1, 3, 32, 32)
    batch = without_landmarks(references) | {"lq": references[:, 0]}
    assert list(module.loss(batch)[1]) != ["mse_alone"]
    batch["reference_mask"] = torch.tensor([[True], [False]])
    assert list(module.loss(batch)[1]) == ["mse_alone"]


@pytest.mark.parametrize("degraded", [0.0, 1.0])
def test_the_lesson_with_another_photo_is_the_error_of_the_clean_estimate(
    base, degraded: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that says which noise separates z_t from the clean latent has no error, whatever it starts from."""
    module = base[0]
    monkeypatch.setattr(module, "degraded_probability", degraded)
    monkeypatch.setattr("lit_restore.training.denoiser.place_loss", lambda probe, places: torch.zeros(()))
    batch = without_landmarks(pictures(2, 2, 1, 3, 32, 32))
    batch |= {"hq": pictures(0, 2, 3, 32, 32), "lq": pictures(1, 2, 3, 32, 32)}
    clean, off = module._latents_of(batch["hq"]), 0.1

    def perfect(noisy: torch.Tensor, steps: torch.Tensor, reference: object, probe: object = None) -> torch.Tensor:
        abar = module.schedule.alpha_bar[steps].view(-1, 1, 1, 1)
        return (noisy - abar.sqrt() * (clean + off)) / (1 - abar).sqrt()

    monkeypatch.setattr(module, "_unet", perfect)
    monkeypatch.setattr(module, "_features", lambda batch, known: TaughtFeatures())
    value, terms = module.loss(batch)
    assert value.item() == pytest.approx(off**2, rel=1e-3)
    assert any(name.startswith("mse_degraded" if degraded else "mse_noisy") for name in terms)


def test_each_face_is_encoded_once_by_the_base_recipe(base, monkeypatch: pytest.MonkeyPatch) -> None:
    module, faces = base[0], pictures(7, 3, 3, 32, 32)
    first = module._latents_of(faces)
    with torch.no_grad():
        expected = module.vae.encode(faces).latent_dist.mean * module.vae.config.scaling_factor
    torch.testing.assert_close(first, expected, atol=2e-3, rtol=2e-3)  # kept in half precision
    monkeypatch.setattr(module.vae, "encode", lambda images: pytest.fail("encoded again"))
    torch.testing.assert_close(module._latents_of(faces.flip(0)), first.flip(0), atol=0, rtol=0)


def test_the_recogniser_is_written_as_it_was_averaged(people_cache: Path, tmp_path: Path) -> None:
    module = RecognitionModule(str(tmp_path / "out"), widths=[4, 8], embedding=16, size_px=32, max_iterations=2)
    train(module, people_cache, tmp_path / "run")
    assert module.centres.shape == (4, 16)  # the training people
    faces = pictures(0, 3, 3, 32, 32)
    with torch.no_grad():
        written = load_recognizer(str(tmp_path / "out"))(faces)
        torch.testing.assert_close(written, module.average(faces), atol=5e-3, rtol=0)


def test_what_a_recipe_starts_from_is_not_there(vae, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such base folder: nowhere"):
        DenoiserModule(str(tmp_path), vae="nowhere")
    with pytest.raises(UserError, match="no such base folder: nowhere"):
        DenoiserModule(str(tmp_path), vae=str(vae[1]), init="nowhere")
    with pytest.raises(UserError, match="no such base folder: nowhere"):
        AutoencoderModule(str(tmp_path), init="nowhere")


@pytest.mark.parametrize("timesteps", [[], [249, 1000], [-1]])
def test_noise_levels_that_do_not_exist(vae, tmp_path: Path, timesteps: list[int]) -> None:
    with pytest.raises(UserError, match="no such noise level: shared_timesteps; expected 0 to 999"):
        DenoiserModule(str(tmp_path), vae=str(vae[1]), shared_timesteps=timesteps)


def test_a_recipe_goes_on_from_what_one_wrote(vae, base, tmp_path: Path) -> None:
    continued = AutoencoderModule(str(tmp_path), init=str(vae[1]))
    written = AutoencoderKL.from_pretrained(vae[1])
    for name, tensor in written.float().state_dict().items():
        assert torch.equal(continued.network.state_dict()[name], tensor), name
    assert all(p.requires_grad for p in continued.network.parameters())
    denoiser = DenoiserModule(str(tmp_path), vae=str(vae[1]), init=str(base[1]))
    denoiser.export(copy.deepcopy(denoiser.network), tmp_path / "again")
    assert str(base[1]) not in (tmp_path / "again" / "unet" / "config.json").read_text()
    for name, tensor in load_base(str(base[1])).unet.state_dict().items():
        assert torch.equal(denoiser.network.state_dict()[name], tensor), name
    assert all(p.requires_grad for p in denoiser.network.parameters())
    assert not any(p.requires_grad for p in denoiser.vae.parameters())


def test_nothing_is_written_before_the_end(people_cache: Path, tmp_path: Path) -> None:
    module = RecognitionModule(str(tmp_path / "out"), widths=[4, 8], embedding=16, size_px=32, max_iterations=5)
    trainer(tmp_path / "run", max_steps=2).fit(module, people(people_cache))
    assert module.iteration == 2
    assert not (tmp_path / "out").exists()


def test_the_average_follows_the_network(people_cache: Path, tmp_path: Path) -> None:
    module = RecognitionModule(str(tmp_path), widths=[4], embedding=8, size_px=32, ema_decay=0.2)
    start = copy.deepcopy(module.average.state_dict())
    with torch.no_grad():
        for parameter in module.network.parameters():
            parameter += 1
    for module.iteration in (1, 50):  # decays (1 + 1) / (10 + 1) and, from then on, the 0.2 asked for
        module._update_average()
    for name, parameter in module.average.named_parameters():
        torch.testing.assert_close(parameter, start[name] + 1 - 2 / 11 * 0.2, atol=1e-6, rtol=0)


def test_the_margin_is_added_to_the_true_angle_only() -> None:
    angles = torch.tensor([[0.5, 1.0, 2.0], [1.2, 0.3, 0.9]])
    logits = margin_logits(angles.cos(), torch.tensor([0, 2]), margin=0.3, scale=10.0)
    angles[0, 0] += 0.3
    angles[1, 2] += 0.3
    torch.testing.assert_close(logits, 10 * angles.cos())
    torch.testing.assert_close(margin_logits(angles.cos(), torch.tensor([0, 2]), 0.0, 1.0), angles.cos())


def test_the_margin_has_a_finite_gradient_at_a_perfect_match() -> None:
    cosine = torch.tensor([[1.0, -1.0]], requires_grad=True)
    margin_logits(cosine, torch.tensor([0]), margin=0.3, scale=24.0).sum().backward()
    assert torch.isfinite(cosine.grad).all()


def test_optimizers_of_a_recipe_own_the_network_and_not_the_average(tmp_path: Path) -> None:
    module = AutoencoderModule(str(tmp_path), widths=[8], optimizer=OptimizerConfig())
    (group,) = module.configure_optimizers().param_groups
    assert {id(p) for p in group["params"]} == {id(p) for p in module.network.parameters()}
