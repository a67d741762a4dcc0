"""The ``cfg`` that the official code stores with its weights: nested fields, plain values.

Only ``model`` and ``data.resolution`` say something about the weights. The other fields are there because the official
code expects them; their values are those of its published configuration of the final model, whatever the weights were
trained with.
"""

from __future__ import annotations

import copy
from typing import Any

from lit_restore.models.generator import GeneratorConfig

_UNUSED_LOSSES = (
    "l2", "l1", "attn_reg", "clipsim", "dreamsim", "wavelets_loss", "latent_loss", "cycle", "pos_reg", "neg_reg",
    "facial_comp",
)  # fmt: skip

PUBLISHED: dict[str, dict[str, Any]] = {
    "compute": {"batch_size": 1, "test_batch_size": 1, "workers": 12, "test_workers": 12, "seed": 42},
    "optim": {
        "optim_name": "adamW",
        "learning_rate": 5e-4,
        "scheduler_type": "CONSTANT",
        "target_lr": 5e-4,
        "use_clip_grad": True,
        "clip_grad_max_norm": 1.0,
        "clip_grad_norm_type": 2,
        "weight_decay": 1e-2,
        "mixed_precision": True,
        "gradient_accumulation_steps": 4,
        "gradient_checkpointing": False,
        "gan_disc_type": "dinov2",
        "gan_loss_type": "multilevel_sigmoid_s",
        "lambda_gan": 0.5,
        "lambda_lpips": 5.0,
        "lambda_ssim": 1.0,
        "lambda_id_loss": 1.0,
        "lambda_landmark": 5000.0,
        **{f"lambda_{name}": 0.0 for name in _UNUSED_LOSSES},
        "compute_id_loss_between_identities": False,
        "lr_warmup_steps": 100,
        "lr_num_cycles": 1,
        "lr_power": 1.0,
        "adam_beta1": 0.9,
        "adam_beta2": 0.999,
        "adam_weight_decay": 1e-2,
        "adam_epsilon": 1e-8,
        "enable_xformers_memory_efficient_attention": False,
    },
    "data": {
        "dataset_type": "face_restore",
        "data_root": "",
        "val_data_root": "",
        "overfit": False,
        "test_leakage": True,
        "train_image_prep": "resized_crop_512",
        "test_image_prep": "resized_crop_512",
        "resolution": 512,
        "max_conditioning_images": 4,
        "augment_masks": False,
        "store_landmarks": False,
    },
    "model": {
        "net_type": "pix2pix_turbo",
        "use_pretrained": True,
        "condition_on_face_embeds": False,
        "concat_mask_and_landmarks": False,
        "noise_timestep": 249,
        "train_only_vae_encoder": False,
        "checkpoint_path": None,
        "use_shortcuts": False,
        "guidance_scale": 0.0,
        "train_reference_networks": False,
    },
    "log": {
        "exp_root": "experiments",
        "exp_name": "converted by lit_restore; of this cfg only model and data.resolution describe the weights",
        "allow_overwrite": True,
        "log2wandb": False,
        "val_vis_count": 50,
        "vis_attention": False,
    },
    "steps": {
        "max_steps": 50_000,
        "image_interval": 150,
        "metric_interval": 10,
        "val_interval": 250,
        "save_interval": 500,
    },
}


def cfg_of(config: GeneratorConfig, original: dict[str, Any] | None = None) -> dict[str, Any]:
    """What the official code would have stored for this generator.

    Args:
        original: the ``cfg`` of the file the generator was converted from; its other fields are kept.
    """
    cfg = copy.deepcopy(original or PUBLISHED)
    cfg.setdefault("model", {}).update(
        lora_rank_unet=config.lora_rank_unet,
        use_shared_attention=config.use_references,
        train_vae=config.lora_rank_vae > 0,
        use_adain=config.use_adain,
        train_input=config.keep_own_keys,
    )
    if config.lora_rank_vae or "lora_rank_vae" not in cfg["model"]:  # an unused rank may stay as it was
        cfg["model"]["lora_rank_vae"] = config.lora_rank_vae
    cfg.setdefault("data", {}).setdefault("resolution", config.size_px)
    if original is None:
        cfg["data"]["resolution"] = config.size_px
    return cfg
