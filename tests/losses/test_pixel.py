from __future__ import annotations

import pytest
import torch
from helpers import pictures

from lit_restore.errors import UserError
from lit_restore.losses.composite import LossConfig, RestorationLoss
from lit_restore.losses.ms_ssim import ms_ssim_loss
from lit_restore.losses.pixel import l1, l2


def test_closed_forms() -> None:
    restored, hq = torch.full((2, 3, 4, 4), 0.75), torch.full((2, 3, 4, 4), 0.5)
    assert l1(restored, hq).item() == 0.25
    assert l2(restored, hq).item() == 0.0625


@pytest.mark.parametrize("loss", [l1, l2])
def test_half_precision_is_widened_before_the_mean(loss) -> None:
    restored, hq = pictures(0, 4, 3, 64, 64).bfloat16(), pictures(1, 4, 3, 64, 64).bfloat16()
    assert loss(restored, hq).dtype == torch.float32
    assert torch.equal(loss(restored, hq), loss(restored.float(), hq.float()))


def test_total_is_the_weighted_sum_of_the_terms_in_use() -> None:
    restored, hq = pictures(0, 2, 3, 64, 64).requires_grad_(), pictures(1, 2, 3, 64, 64)
    total, terms = RestorationLoss(LossConfig(l1=2.0, ms_ssim=0.5, lpips=0.0))(restored, hq)
    assert set(terms) == {"l1", "ms_ssim"}
    assert terms["l1"].item() == l1(restored, hq).item()
    assert terms["ms_ssim"].item() == ms_ssim_loss(restored, hq).item()
    assert total.item() == pytest.approx(2 * terms["l1"].item() + 0.5 * terms["ms_ssim"].item(), rel=1e-6)
    total.backward()
    assert restored.grad.abs().sum() > 0
    assert not any(value.requires_grad for value in terms.values())


def test_paper_weights_are_the_default() -> None:
    config = LossConfig()
    assert (config.lpips, config.ms_ssim, config.l1, config.l2) == (5, 1, 0, 0)


@pytest.mark.parametrize("weights", [{"ms_ssim": 0.0}, {"l1": -1.0}])
def test_weights_that_cannot_be_meant_are_refused(weights: dict[str, float]) -> None:
    with pytest.raises(UserError, match="loss"):
        RestorationLoss(LossConfig(lpips=0.0, **weights))
