"""Lightning's command line, with omegaconf interpolation, our callbacks, and errors a person can act on."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_type_hints

import torch
import yaml
from jsonargparse import Namespace, set_parsing_settings
from omegaconf.errors import OmegaConfBaseException
from pytorch_lightning import LightningDataModule, LightningModule, Trainer
from pytorch_lightning.callbacks import ProgressBar
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from pytorch_lightning.utilities.exceptions import MisconfigurationException

# Imported so that configs can name them without their full path.
from lit_restore.callbacks.checkpoints import AtomicCheckpointIO, Checkpoints, last_checkpoint
from lit_restore.callbacks.images import ImageGrids  # noqa: F401
from lit_restore.callbacks.metrics import Metrics
from lit_restore.callbacks.predictions import Predictions
from lit_restore.callbacks.progress import IterationProgress
from lit_restore.callbacks.reference_study import ReferenceStudy, show_study, studied_iteration
from lit_restore.data.collate import collate
from lit_restore.data.datamodule import RestorationDataModule
from lit_restore.data.dataset import require_targets
from lit_restore.errors import UserError
from lit_restore.image import check_writable
from lit_restore.models.inference_form import cpu_computes_bfloat16
from lit_restore.quiet import hide_loading_bars, quiet_libraries
from lit_restore.training.autoencoder import AutoencoderModule  # noqa: F401
from lit_restore.training.config_errors import Group, explain, find_error, refuse_filled_groups
from lit_restore.training.config_sources import COMMAND_LINE, Source, read_sources
from lit_restore.training.denoiser import DenoiserModule  # noqa: F401
from lit_restore.training.recognition import RecognitionModule  # noqa: F401
from lit_restore.training.restoration import RestorationModule
from lit_restore.training.run_folder import (
    checkpoint_to_start_from,
    iteration_of,
    read_checkpoint,
    write_config,
)


def run(argv: Sequence[str], *, dry_run: bool = False) -> int:
    """Parse ``argv`` (command first) and do it; returns the exit code.

    Raises:
        UserError: anything the user can put right.
        KeyboardInterrupt: Ctrl-C; what was trained is saved.
    """
    command, *options = argv
    sources, schema = read_sources(options), _schema(command)
    refuse_filled_groups(sources, schema)
    with quiet_libraries():
        hide_loading_bars()
        set_parsing_settings(omegaconf_absolute_to_relative_paths=True)
        try:
            RestorationCLI(
                LightningModule,
                RestorationDataModule,
                subclass_mode_model=True,
                args=list(argv),
                dry_run=dry_run,
                # Only this mode resolves interpolations after all files and overrides are merged.
                parser_kwargs={"parser_mode": "omegaconf+", "prog": "lit_restore", "allow_abbrev": False},
                parser_class=Parser,
                save_config_callback=SaveConfig,
                trainer_defaults={"plugins": [{"class_path": class_path(AtomicCheckpointIO)}], "max_epochs": 1},
                # Modules make their own optimisers; a second place for the same settings would only mislead.
                auto_configure_optimizers=False,
            )
        except RefusedConfig as refused:
            raise explain(sources, schema, str(refused)) from None
        except OmegaConfBaseException as error:
            raise find_error(sources, schema) or _unresolved(error, sources) from None
        except ValueError as error:
            if wrapped := _wrapped_user_error(error):
                raise wrapped from None
            raise
        except torch.OutOfMemoryError as error:
            raise UserError(
                "out of GPU memory",
                found=str(error).split(". ")[0],
                fix="Lower data.batch_size (raise model.init_args.accumulate to keep the product), "
                "data.max_references or the size in pixels.",
            ) from None
    return 0


class RefusedConfig(Exception):
    """jsonargparse's own message."""


class Parser(LightningArgumentParser):
    """Leaves the explaining to `run`, which knows where every value came from."""

    def error(self, message: str, ex: Exception | None = None) -> None:
        raise RefusedConfig(message) from ex


class SaveConfig(SaveConfigCallback):
    """``config.yaml``, merged and resolved, in the run folder before anything else is."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit" and trainer.is_global_zero and not trainer.fast_dev_run:
            write_config(_dump(self.parser, self.config), Path(trainer.default_root_dir))


class RestorationCLI(LightningCLI):
    """Lightning's command line plus ``checkpoints.*`` options, automatic resuming and ``--dry-run``."""

    def __init__(self, *args: Any, dry_run: bool, **kwargs: Any) -> None:
        self.dry_run = dry_run
        super().__init__(*args, **kwargs)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_lightning_class_args(Checkpoints, "checkpoints")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        super().parse_arguments(parser, args)
        config = self.config[self.config.subcommand]
        self.run_folder = Path(config.trainer.default_root_dir or ".")
        if config.ckpt_path is not None:
            path = Path(config.ckpt_path)
            config.ckpt_path = str(last_checkpoint(path) if path.is_dir() else path)
            read_checkpoint(Path(config.ckpt_path))  # here, since Lightning opens it next
        _shorten_validation_interval(config)

    def before_instantiate_classes(self) -> None:
        """Find the checkpoint to start from, before anything large is loaded."""
        config = self.config[self.subcommand]
        if not self.dry_run and not config.trainer.fast_dev_run:
            check_writable(self.run_folder)
        self.start_from = None if config.ckpt_path is None else Path(config.ckpt_path)
        last = last_checkpoint(self.run_folder)
        if self.subcommand == "fit" and not config.trainer.fast_dev_run:
            values = yaml.safe_load(_dump(self._parser("fit"), config))
            self.start_from = checkpoint_to_start_from(self.run_folder, values)
        elif self.subcommand != "fit" and self.start_from is None and last.exists():
            self.start_from = last
        if self.start_from is not None:
            read_checkpoint(self.start_from)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        config = self.config_init[self.subcommand].trainer
        callbacks = list(config.callbacks) if isinstance(config.callbacks, list) else [config.callbacks]
        callbacks = [callback for callback in callbacks if callback is not None] + [Predictions()]
        if config.enable_progress_bar is not False and not any(isinstance(c, ProgressBar) for c in callbacks):
            callbacks.append(IterationProgress())
        kwargs["precision"] = _affordable_precision(config.precision, config.accelerator)
        # One line instead, see `_size_of`.
        kwargs["enable_model_summary"] = bool(config.enable_model_summary)
        if isinstance(config.val_check_interval, int):  # iterations, like all else; Lightning counts batches
            kwargs["val_check_interval"] = config.val_check_interval * getattr(self.model, "accumulate", 1)
        for callback in callbacks:
            if isinstance(callback, (Metrics, ReferenceStudy)):
                callback.load(self.model)  # Lightning would read the data first
        try:
            return super().instantiate_trainer(callbacks=callbacks, **kwargs)
        except (MisconfigurationException, ValueError, TypeError) as error:
            raise UserError("the trainer cannot be set up so", found=_one_line(error)) from None

    def fit(self, model: LightningModule, datamodule: LightningDataModule, **options: Any) -> None:
        """Train; an unfinished run of the same configuration continues where it stopped."""
        _refuse_other_side(model, datamodule)
        if self.dry_run:
            self._show_plan()
        elif self.start_from is None or not self._is_finished(self.start_from):
            if self.trainer.is_global_zero:
                print(_size_of(model))
                if self.start_from is not None:
                    iteration = iteration_of(read_checkpoint(self.start_from))
                    print(f"Continuing from iteration {iteration:,}: {self.start_from}")
            self._call(self.trainer.fit, **options)

    def validate(self, model: LightningModule, datamodule: LightningDataModule, **options: Any) -> None:
        """Measure on the validation people."""
        self._evaluate(self.trainer.validate, **options)

    def test(self, model: LightningModule, datamodule: LightningDataModule, **options: Any) -> None:
        """Measure on the test people."""
        self._evaluate(self.trainer.test, **options)

    def predict(self, model: LightningModule, datamodule: LightningDataModule, **options: Any) -> None:
        """Restore the test photos into files; to keep them all in memory as well would serve nobody."""
        self._evaluate(self.trainer.predict, **{**options, "return_predictions": False})

    def _evaluate(self, function: Callable, **options: Any) -> None:
        if self.dry_run:
            return self._show_plan()
        if self.trainer.is_global_zero:
            print(f"Checkpoint: {self._start()}")
        self._call(function, **options)
        measuring = self.subcommand in ("validate", "test")
        if measuring and not self.trainer.callback_metrics and self.trainer.is_global_zero:
            print(
                "Nothing was measured: add the callback Metrics (--trainer.callbacks+=Metrics) and photos to measure."
            )

    def _start(self) -> str:
        return str(self.start_from or ("the beginning" if self.subcommand == "fit" else "none, the untrained model"))

    def _call(self, function: Callable, **options: Any) -> None:
        """Call Lightning; its way out on Ctrl-C and what it wraps around our errors become what they were."""
        options["ckpt_path"] = self.start_from
        if options["weights_only"] is None:
            options["weights_only"] = True  # Lightning's own default would run code from the file
        try:
            function(self.model, datamodule=self.datamodule, **options)
        except SystemExit as stop:
            if isinstance(stop.__context__, KeyboardInterrupt):
                signal.signal(signal.SIGINT, signal.default_int_handler)
                raise KeyboardInterrupt from None
            raise
        except MisconfigurationException as error:
            raise UserError("the trainer cannot be set up so", found=_one_line(error)) from None
        except UserError as error:
            raise _from_worker(error) from None

    def _is_finished(self, checkpoint: Path) -> bool:
        """Whether nothing is left to do; if so, say so and show the result again."""
        iteration, limit = iteration_of(read_checkpoint(checkpoint)), self.model.max_iterations
        if iteration < limit:
            return False
        more = "For more, raise model.init_args.max_iterations and pass --ckpt_path."
        if checkpoint.resolve() != last_checkpoint(self.run_folder).resolve():
            raise UserError(
                "the checkpoint has all its iterations behind it", where=checkpoint, found=iteration, fix=more
            )
        study = any(isinstance(callback, ReferenceStudy) for callback in self.trainer.callbacks)
        output = getattr(self.model, "output", None)
        if (study and studied_iteration(self.run_folder) != iteration) or (output and not output.exists()):
            return False  # stopped between the last iteration and the end
        print(f"The run in {self.run_folder} has finished its {limit:,} iterations. {more}")
        if study:
            show_study(self.run_folder)
        return True

    def _show_plan(self) -> None:
        """What would happen, or why it would not. Data are prepared for it; the run folder stays as it is."""
        self.datamodule.prepare_data()
        self.datamodule.setup()
        if self.start_from is not None:
            checkpoint = read_checkpoint(self.start_from)
            self.model.on_load_checkpoint(checkpoint)
            self.model.load_state_dict(checkpoint["state_dict"])
        print(_size_of(self.model))
        for split, dataset in self.datamodule.datasets.items():
            people = len({photo.identity for photo in dataset.targets})
            print(f"{split + ' split:':12} {len(dataset):,} photos of {people:,} people")
        split = {"fit": "train", "validate": "val"}.get(self.subcommand, "test")
        dataset = self.datamodule.datasets[split]
        if split == "train":
            require_targets(dataset, split, ", ".join(self.datamodule.roots))
        size = self.datamodule.batch_size if split == "train" else self.datamodule.eval_batch_size
        batch = collate([dataset[index] for index in range(min(size, len(dataset)))]) if len(dataset) else {}
        for name, value in batch.items():
            if isinstance(value, torch.Tensor):
                print(f"{'batch:':12} {name} {tuple(value.shape)}")
        if self.subcommand == "fit":
            print(f"{'iterations:':12} {self.model.max_iterations:,}")
        print(f"{'start from:':12} {self._start()}")
        print(f"{'run folder:':12} {self.run_folder}")


def class_path(kind: type) -> str:
    """How a config names a class."""
    return f"{kind.__module__}.{kind.__qualname__}"


def _dump(parser: LightningArgumentParser, config: Namespace) -> str:
    return parser.dump(config, skip_none=False, skip_validation=True)


def _refuse_other_side(model: LightningModule, datamodule: LightningDataModule) -> None:
    """A restorer trains at the side it will restore at; its recipe says `size_px: ${model.init_args...}` for that."""
    if isinstance(model, RestorationModule) and datamodule.size_px != model.generator.config.size_px:
        raise UserError(
            "data and generator differ in size",
            where="data.size_px",
            expected=f"model.init_args.generator.size_px, {model.generator.config.size_px}",
            found=datamodule.size_px,
        )


def _shorten_validation_interval(config: Namespace) -> None:
    """A run shorter than the interval validates once, at its end; Lightning would refuse it."""
    interval, length = config.trainer.val_check_interval, config.model.init_args.get("max_iterations") or 0
    if interval == 0:
        raise UserError(
            "bad validation interval",
            where="trainer.val_check_interval",
            expected="a number of iterations, or a share of the training up to 1.0",
            found=interval,
            fix="trainer.limit_val_batches: 0 switches validation off.",
        )
    if isinstance(interval, int) and interval > length > 0:
        config.trainer.val_check_interval = 1.0


def _affordable_precision(precision: str | int | None, accelerator: str | object) -> str | int | None:
    """float32 in the place of bf16-mixed on a processor that only emulates bfloat16, dozens of times slower."""
    if precision not in ("bf16-mixed", "bf16") or not _trains_on_cpu(accelerator) or cpu_computes_bfloat16():
        return precision
    print("This processor has no bfloat16 arithmetic: computing in float32 (trainer.precision 32-true).")
    return "32-true"


def _trains_on_cpu(accelerator: str | object) -> bool:
    if accelerator == "auto":
        return not (torch.cuda.is_available() or torch.backends.mps.is_available())
    return accelerator == "cpu"


def fit_schema() -> dict[str, Any]:
    """Top-level key -> what belongs there, of the configuration of ``fit``."""
    return _schema("fit")


def _schema(command: str) -> dict[str, Any]:
    """Top-level key -> what belongs there."""
    hints = get_type_hints(getattr(Trainer, command))
    own = set(hints) - LightningCLI.subcommands()[command] - {"return"}
    return {
        "config": Any,
        "seed_everything": bool | int,
        "trainer": Group(Trainer),
        "model": LightningModule,
        "data": Group(RestorationDataModule),
        "checkpoints": Group(Checkpoints),
    } | {name: hints[name] for name in own}


def _unresolved(error: OmegaConfBaseException, sources: Sequence[Source]) -> UserError:
    key = (error.full_key or "").partition(".")[2]
    missing = re.search(r"resolved to '\w+\.([\w.]+)'", str(error))
    place = next((s.place(key) for s in reversed(sources) if s.holds(key)), None)
    if place == COMMAND_LINE:
        fix = "Interpolations like ${data.size_px} belong into a config file; give an option a plain value."
    else:
        fix = f"Name another key there, or give '{key}' a value."
    return UserError(
        f"the interpolation of '{key}' leads nowhere",
        where=place,
        found=f"no key '{missing.group(1)}'" if missing else str(error).splitlines()[0],
        fix=fix,
    )


def _wrapped_user_error(error: BaseException | None) -> UserError | None:
    """The `UserError` that jsonargparse wrapped, if it did, when it made an object."""
    while error is not None and not isinstance(error, UserError):
        error = error.__cause__
    return error


def _from_worker(error: UserError) -> UserError:
    """An error from a data worker arrives with the worker's traceback around it."""
    found = re.search(r"lit_restore\.errors\.UserError: (.*)", str(error), re.DOTALL)
    return UserError(found.group(1).strip()) if found else error


def _size_of(model: LightningModule) -> str:
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    total = sum(p.numel() for p in model.parameters())
    return f"{type(model).__name__}: {trained:,} of {total:,} parameters are trained"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
