"""YAML that people read, and that is read back as it was."""

from __future__ import annotations

import yaml


class _TextDumper(yaml.SafeDumper):  # type: ignore[misc]  # PyYAML has no types
    """Writes text that does not fit on a line, or cannot be seen, with escapes.

    PyYAML's other styles write the line breaks U+0085, U+2028 and U+2029 as they are, and its
    reader folds them.
    """


def _represent_text(dumper: _TextDumper, text: str) -> yaml.ScalarNode:
    style = None if text.isprintable() else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_TextDumper.add_representer(str, _represent_text)


def yaml_text(content: object) -> str:
    """Return a YAML document of YAML's own types, entries in their order."""
    text: str = yaml.dump(
        content, Dumper=_TextDumper, sort_keys=False, allow_unicode=True, width=100
    )
    return text
