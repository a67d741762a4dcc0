"""Lightning's command line, with omegaconf interpolation, our callbacks, and errors a person can act on."""

from __future__ import annotations

import logging
import re
import warnings
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import Namespace, set_parsing_settings
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback

from lit_restore.callbacks.checkpoints import AtomicCheckpointIO, Checkpoints, GracefulInterrupt
from lit_restore.data.datamodule import RestorationDataModule
from lit_restore.errors import UserError, nearest

# Imported so that configs can name them without their full path.
from lit_restore.training.autoencoder import AutoencoderModule  # noqa: F401
from lit_restore.training.denoiser import DenoiserModule  # noqa: F401
from lit_restore.training.recognition import RecognitionModule  # noqa: F401
from lit_restore.training.restoration import RestorationModule  # noqa: F401


def run(argv: list[str], *, dry_run: bool = False) -> int:
    """Parse ``argv`` (command first) and do it; returns the exit code."""
    _quiet()
    set_parsing_settings(omegaconf_absolute_to_relative_paths=True)
    RestorationCLI(
        LightningModule,
        RestorationDataModule,
        subclass_mode_model=True,
        args=argv,
        dry_run=dry_run,
        # Only this mode resolves interpolations after all files and overrides are merged.
        parser_kwargs={"parser_mode": "omegaconf+"},
        parser_class=Parser,
        save_config_callback=SaveConfig,
        trainer_defaults={"plugins": [{"class_path": class_path(AtomicCheckpointIO)}], "callbacks": [GracefulInterrupt()]},
    )
    return 0


class Parser(LightningArgumentParser):
    """Says which key is wrong and which one was probably meant, in one line."""

    def error(self, message: str, ex: Exception | None = None) -> None:
        text = " ".join(str(message).split())
        wrong = re.search(r"(?:[Kk]ey|[Oo]ption|argument[s]?:?)\s+'?(?:-{0,2})([\w.]+)'?", text)
        fix = nearest(wrong.group(1).split(".")[-1], self._leaf_names()) if wrong and "not" in text.lower() else None
        raise UserError(text[:400], fix=fix) from ex

    def _leaf_names(self) -> set[str]:
        return {action.dest.split(".")[-1] for action in self._actions}


class SaveConfig(SaveConfigCallback):
    """``config.yaml``, merged and resolved, beside the checkpoints in the run folder."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != "fit" or trainer.fast_dev_run or not trainer.is_global_zero:
            return
        folder = Path(trainer.default_root_dir)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.yaml").write_text(_dump(self.parser, self.config))


class RestorationCLI(LightningCLI):
    """Lightning's command line plus ``checkpoints.*`` options, automatic resuming and ``--dry-run``."""

    def __init__(self, *args: Any, dry_run: bool, **kwargs: Any) -> None:
        self.dry_run = dry_run
        super().__init__(*args, **kwargs)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_lightning_class_args(Checkpoints, "checkpoints")

    def before_fit(self) -> None:
        config = self.config[self.subcommand]
        if not self.dry_run and config.ckpt_path is None and not self.trainer.fast_dev_run:
            self.config_init[self.subcommand]["ckpt_path"] = self._unfinished_run()
        if self.dry_run:
            self._show_plan()

    before_validate = before_test = before_predict = lambda self: self._show_plan() if self.dry_run else None

    def _unfinished_run(self) -> str | None:
        """The run folder's last checkpoint, if it belongs to this very configuration."""
        folder = Path(self.trainer.default_root_dir)
        last = folder / "checkpoints" / "last.ckpt"
        if not last.exists():
            return None
        mine = yaml.safe_load(_dump(self._parser(self.subcommand), self.config[self.subcommand]))
        theirs = yaml.safe_load((folder / "config.yaml").read_text()) if (folder / "config.yaml").exists() else {}
        different = sorted(_differences(mine, theirs))
        if different:
            raise UserError(
                "the run folder holds a run of another configuration",
                where=folder,
                found=f"different {', '.join(different[:4])}" + (" ..." if len(different) > 4 else ""),
                fix="Choose another --trainer.default_root_dir, delete that folder, or pass --ckpt_path to continue it "
                "with the new settings.",
            )
        print(f"Continuing the run in {folder}")
        return str(last)

    def _show_plan(self) -> None:
        self.datamodule.prepare_data()
        self.datamodule.setup()
        trained = sum(p.numel() for p in self.model.parameters() if p.requires_grad)
        total = sum(p.numel() for p in self.model.parameters())
        print(f"model        {type(self.model).__name__}: {trained:,} of {total:,} parameters are trained")
        for split, dataset in self.datamodule.datasets.items():
            people = len({photo.identity for photo in dataset.targets})
            print(f"{split:13}{len(dataset):,} photos of {people:,} people")
        self.datamodule.trainer = self.trainer
        self.trainer.strategy._lightning_module = self.model
        batch = next(iter(self.datamodule.val_dataloader()), {})
        for name, value in batch.items():
            if isinstance(value, torch.Tensor):
                print(f"batch        {name}: {tuple(value.shape)}")
        print(f"iterations   {getattr(self.model, 'max_iterations', '?'):,}")
        print(f"run folder   {self.trainer.default_root_dir}")
        raise SystemExit(0)


def class_path(kind: type) -> str:
    """How a config names a class."""
    return f"{kind.__module__}.{kind.__qualname__}"


def _dump(parser: LightningArgumentParser, config: Namespace) -> str:
    return parser.dump(config, skip_none=False, skip_validation=True)


def _differences(mine: Any, theirs: Any, path: str = "") -> list[str]:
    """Keys whose values differ; how a run is watched (loggers, devices, progress) does not make it another run."""
    if path in ("config", "ckpt_path", "trainer.logger", "trainer.devices", "trainer.enable_progress_bar"):
        return []
    if isinstance(mine, dict) and isinstance(theirs, dict):
        keys = sorted(set(mine) | set(theirs))
        return [d for k in keys for d in _differences(mine.get(k), theirs.get(k), f"{path}.{k}" if path else k)]
    return [] if mine == theirs else [path]


def _quiet() -> None:
    """Silence what a user can do nothing about; our own warnings stay."""
    for pattern in (".*does not have many workers.*", ".*LeafSpec.*", ".*`isinstance.*", ".*lightning.pytorch.*"):
        warnings.filterwarnings("ignore", pattern)
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
