"""The README.md of a published restorer: its licence, the base it needs, how it is used, how it was made."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from lit_restore.models.base import is_hub_id
from lit_restore.models.generator import OneStepGenerator

BUNDLED_LICENCE = "apache-2.0"
"""Of the bases that ship with this package."""


def public_name(base: str) -> str:
    """What others can call a base: a hub id or a bundled one as it is, of a folder of ours only the last name."""
    if base.startswith("bundled:") or (is_hub_id(base) and not Path(base).exists()):
        return base
    return Path(base).absolute().name


def model_card(generator: OneStepGenerator, name: str, *, base: str, licence: str | None) -> str:
    """Markdown with the header that the hub reads.

    Args:
        generator: the restorer, in any form.
        name: what ``--checkpoint`` and `Restorer.from_pretrained` take: a hub id or a folder.
        base: as `public_name` gives it.
        licence: identifier of the hub, e.g. "cc-by-nc-4.0"; None = that of a bundled base, otherwise not said.
    """
    config = generator.config
    on_hub, bundled = is_hub_id(base), base.startswith("bundled:")
    licence = licence or (BUNDLED_LICENCE if bundled else None)
    header = ["license: " + (licence or "other"), "library_name: lit_restore", "pipeline_tag: image-to-image"]
    header += [f"base_model: {base}", "base_model_relation: adapter"] if on_hub else []
    header += ["tags:", "- face-restoration", "- lora", "- lit_restore"]
    elsewhere = "" if on_hub or bundled else " --base FOLDER"
    given = "" if on_hub or bundled else ', base="FOLDER"'
    if bundled:
        needs = f"`{base}`, which comes with lit_restore"
    elif on_hub:
        needs = f"[`{base}`](https://huggingface.co/{base}), downloaded when first used"
    else:
        needs = f"a Stable-Diffusion-shaped one that its author keeps as `{base}`; say where yours is (`--base FOLDER`)"
    if licence is None:
        terms = "Not stated by the author. What was trained here also depends on the licences of base and photos."
    else:
        terms = f"{licence} for the files in here. The base has a licence of its own."
    trained = generator.origin.get("iteration")
    rows = {**asdict(config), "base": base, "base_fingerprint": generator.base_fingerprint}
    rows |= {"vae": config.vae and public_name(config.vae)}
    rows |= {"iterations": trained} if trained else {}
    table = "\n".join(f"| {key} | {_cell(value)} |" for key, value in rows.items())
    return f"""\
---
{chr(10).join(header)}
---

# {name.rstrip("/").split("/")[-1]}

A face restorer for photos, made with lit_restore: one diffusion step at {config.size_px} x {config.size_px} px, guided
by other photos of the same person. In here is what was trained (LoRA and a few layers, as safetensors in the layout of
peft), not the base.

## Use

```bash
lit_restore restore --input old.jpg --references anna/ --output restored.png --checkpoint {name}{elsewhere}
```

```python
from lit_restore.inference import Restorer

restorer = Restorer.from_pretrained("{name}"{given})
restorer.restore("old.jpg", references="anna/").save("restored.png")
```

What it invents where a photo shows nothing is a guess and no evidence of what somebody looked like.

## Base

Needs {needs}. Its fingerprint must be `{generator.base_fingerprint}`.

## Licence

{terms}

## Settings

| setting | value |
|---|---|
{table}
"""


def _cell(value: object) -> str:
    return "" if value is None else str(value).replace("|", "\\|").replace("\n", " ")
