"""Published face restorers, through spandrel's own loading, with random weights of the right shapes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers import pictures

from lit_restore.errors import UserError
from lit_restore.evaluation.face_networks import FaceNetwork

try:
    import spandrel
except ImportError:
    spandrel = None

with_spandrel = pytest.mark.skipif(spandrel is None, reason="spandrel is not installed")


@pytest.fixture(scope="module")
def restoreformer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from spandrel.architectures.RestoreFormer.__arch.restoreformer_arch import RestoreFormer

    torch.manual_seed(0)
    network = RestoreFormer(
        n_embed=16, embed_dim=32, ch=32, ch_mult=(1, 2), num_res_blocks=1, attn_resolutions=(16,), z_channels=32
    )
    path = tmp_path_factory.mktemp("weights") / "RestoreFormer.pth"
    torch.save(network.state_dict(), path)
    return path


@with_spandrel
def test_restoreformer_equals_spandrels_own_call(restoreformer: Path) -> None:
    """Its wrapper takes and gives [0, 1], the network [-1, 1]."""
    lq = pictures(1, 2, 3, 64, 64)
    method = FaceNetwork(restoreformer, size_px=64)
    restored = torch.stack(method({"lq": lq}))
    wrapper = spandrel.ModelLoader(torch.device("cpu")).load_from_file(restoreformer)
    expected = torch.cat([wrapper((photo[None] + 1) / 2) for photo in lq]) * 2 - 1
    assert torch.allclose(restored, expected, atol=1e-6)
    assert (method.name, method.protocol["architecture"]) == ("RestoreFormer", "RestoreFormer")


@with_spandrel
def test_size_is_checked_before_anything_is_restored(restoreformer: Path) -> None:
    with pytest.raises(UserError, match=r"RestoreFormer does not work at this size.*a multiple of 32"):
        FaceNetwork(restoreformer, size_px=72)


@with_spandrel
def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such checkpoint"):
        FaceNetwork(tmp_path / "none.pth", size_px=64)
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"not a checkpoint of a known face restorer.*--outputs"):
        FaceNetwork(tmp_path / "other.pth", size_px=64)
    (tmp_path / "cut.pth").write_bytes(b"PK rubbish")
    with pytest.raises(UserError, match="cannot be read"):
        FaceNetwork(tmp_path / "cut.pth", size_px=64)


@with_spandrel
@pytest.mark.slow
def test_gfpgan_takes_and_gives_minus_one_to_one_and_draws_the_same_noise_for_everybody(tmp_path: Path) -> None:
    from spandrel.architectures.GFPGAN.__arch.gfpganv1_clean_arch import GFPGANv1Clean

    torch.manual_seed(0)
    network = GFPGANv1Clean(input_is_latent=True, different_w=True, sft_half=True)
    torch.save(network.state_dict(), tmp_path / "gfpgan.pth")
    method = FaceNetwork(tmp_path / "gfpgan.pth", size_px=512)
    photo = pictures(1, 3, 512, 512)
    first, second = method({"lq": torch.stack([photo, photo])})
    assert torch.equal(first, second)
    with torch.inference_mode():
        torch.manual_seed(0)
        direct = network.eval()(photo[None])[0][0].clamp(-1, 1)
    assert torch.allclose(first, direct, atol=1e-5)


@pytest.mark.skipif(spandrel is not None, reason="spandrel is installed")
def test_without_spandrel_the_message_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"need the library spandrel.*lit_restore\[baselines\]"):
        FaceNetwork(tmp_path / "any.pth", size_px=512)
