"""``lit_restore fit | validate | test | predict``: Lightning's command line with our modules in it."""

from __future__ import annotations

HELP = """usage: lit_restore {command} --config FILE [--config FILE ...] [--KEY VALUE ...]

  --config FILE         YAML; several are merged from left to right
  --KEY VALUE           override any key: --trainer.devices 2 --data.root people/ --model.max_iterations 100
                        (interpolations like ${{data.root}} in the config follow the override)
  --print_config        show the merged, resolved configuration and stop (put it last)
  --ckpt_path FILE      start from this checkpoint (.ckpt)
  --dry-run             build everything, show what would happen and stop
  --help-all            every key with its type, default and meaning

Everything goes into the run folder, trainer.default_root_dir: config.yaml, checkpoints/, model/, images/.
The same command on a folder with an unfinished run continues it exactly where it was.

example: lit_restore {command} --config configs/quickstart.yaml{extra}"""


def main(argv: list[str]) -> int:
    """Run Lightning's command line; ``argv`` includes the command itself."""
    command, *options = argv
    if "-h" in options or "--help" in options:
        fit = command == "fit"
        extra = " --trainer.default_root_dir runs/mine" if fit else " --ckpt_path runs/quickstart/checkpoints/last.ckpt"
        print(HELP.format(command=command, extra=extra))
        return 0
    dry_run = "--dry-run" in options
    options = [option for option in options if option != "--dry-run"]
    options = ["--help" if option == "--help-all" else option for option in options]
    from lit_restore.training.command_line import run

    return run([command, *options], dry_run=dry_run)
