"""``lit_restore fit | validate | test | predict``: Lightning's command line with our modules in it."""

from __future__ import annotations

PURPOSES = {
    "fit": "Train. The same command continues an unfinished run exactly where it was.",
    "validate": "Measure on the validation people; without --ckpt_path the run folder's last checkpoint.",
    "test": "Measure on the test people; without --ckpt_path the run folder's last checkpoint.",
    "predict": "Restore the test photos into predictions/; without --ckpt_path with the run folder's last checkpoint.",
}

HELP = """usage: lit_restore {command} --config FILE [--config FILE ...] [--KEY VALUE ...]

{purpose}

  --config FILE      YAML; several are merged from left to right
  --KEY VALUE        override any key: --trainer.devices 2 --data.root people/ --model.max_iterations 100
                     (interpolations like ${{data.root}} in the config follow the override)
  --ckpt_path PATH   start from this checkpoint: a .ckpt file or a run folder
  --print_config     show the merged, resolved configuration, itself a config file, and stop
  --dry-run          prepare the data, build the model, show what would happen and stop
  --help-all         every key of trainer, data and checkpoints with type, default and meaning
  --model.help NAME  every key of a model, e.g. RestorationModule

Everything goes into the run folder, trainer.default_root_dir: config.yaml, checkpoints/, model/, images/.
Ctrl-C finishes the iteration and saves.

examples:
{examples}"""

EXAMPLES = {
    "fit": (
        "--config configs/quickstart.yaml",
        "--config configs/quickstart.yaml --trainer.default_root_dir runs/mine --data.root people/",
    ),
    "validate": ("--config runs/quickstart/config.yaml",),
    "test": ("--config runs/quickstart/config.yaml", "--config configs/quickstart.yaml --ckpt_path runs/quickstart"),
    "predict": ("--config runs/quickstart/config.yaml --data.root degraded_photos/ --data.layout lq_only",),
}


def main(argv: list[str]) -> int:
    """Run Lightning's command line; ``argv`` includes the command itself."""
    command, *options = argv
    if "-h" in options or "--help" in options:
        examples = "\n".join(f"  lit_restore {command} {example}" for example in EXAMPLES[command])
        print(HELP.format(command=command, purpose=PURPOSES[command], examples=examples))
        return 0
    dry_run = "--dry-run" in options
    options = [option for option in options if option != "--dry-run"]
    options = ["--help" if option == "--help-all" else option for option in options]
    from lit_restore.training.command_line import run

    return run([command, *options], dry_run=dry_run)
