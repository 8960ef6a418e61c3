"""Prompts of classes: templates and phrases are data files with a hash, never literals in code.

``load_prompts`` reads the files under ``templates/`` and users' own, YAML or JSON. Of templates::

    labels: spaces                            # how a class name becomes words; see Prompts
    templates: ["This is a sound of {}.", "A recording of {}."]
    class_prompts: {dog: ["A dog barks."]}    # optional: whole texts instead of templates

A file of phrases maps class names to words: ``alarm_set: set an alarm``.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator

from multimodal.errors import UserError, did_you_mean
from multimodal.modalities import SEVERAL, modality_of
from multimodal.registry import Config
from multimodal.yaml_limits import Limited, load

TEMPLATES = Path(__file__).parent / "templates"
PHRASES = TEMPLATES / "phrases"
SUFFIXES = (".yaml", ".yml", ".json")
PLACEHOLDER = "{}"

LabelRule = Literal["spaces", "acronyms", "underscores", "capitalised"]


class Prompts(Config):
    """templates: each with one {}, where the words of the class go; the single, training-style
    prompt first. The bare label is the template "{}".

    labels: class name -> words, which underscores, spaces and "HighJump" separate. spaces: words in
    lower case with spaces. acronyms: likewise, but words in capitals only ("COVID-19") stay.
    underscores: lower case with underscores. capitalised: as spaces, with a capital first.
    phrases: class name -> words, instead of the rule; none, or of every class.
    class_prompts: class name -> whole texts, instead of templates; none, or of every class.
    Phrases and prompts of other classes are no fault: a file may serve several sets of classes.
    """

    templates: tuple[str, ...] = Field(min_length=1)
    labels: LabelRule = "spaces"
    phrases: dict[str, str] = Field(default_factory=dict)
    class_prompts: dict[str, tuple[str, ...]] = Field(default_factory=dict)

    @field_validator("templates")
    @classmethod
    def _one_placeholder(cls, templates: tuple[str, ...]) -> tuple[str, ...]:
        for template in templates:
            if template.count(PLACEHOLDER) != 1:
                raise ValueError(f"{template!r} needs one placeholder {PLACEHOLDER} for the class")
            if templates.count(template) > 1:
                raise ValueError(f"{template!r} is listed twice")
        return templates

    @field_validator("phrases")
    @classmethod
    def _some_words(cls, phrases: dict[str, str]) -> dict[str, str]:
        for name, words in phrases.items():
            if not words.strip():
                raise ValueError(f"the phrase of class {name!r} is empty")
        return phrases

    @field_validator("class_prompts")
    @classmethod
    def _whole_texts(cls, prompts: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for name, texts in prompts.items():
            if not texts or not all(text.strip() for text in texts):
                raise ValueError(f"class {name!r} has no prompt, or an empty one")
            if any(PLACEHOLDER in text for text in texts):
                raise ValueError(f"a prompt of class {name!r} has a {PLACEHOLDER}: write it out")
        return prompts

    @property
    def hash(self) -> str:
        """16 hex digits: equal where the settings are, whatever the layout of the file."""
        canonical = json.dumps(self.dump(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    def texts(self, class_names: Sequence[str]) -> list[tuple[str, ...]]:
        """The prompts of each class, one a template, or its own; at least one each.

        UserError: no class names, one that is empty or stands twice, one that the phrases or class
        prompts lack, and two classes with the same prompts (names that differ by case, say).
        """
        self._check_names(class_names)
        texts = [
            self.class_prompts[name]
            if self.class_prompts
            else tuple(t.replace(PLACEHOLDER, self._words(name)) for t in self.templates)
            for name in class_names
        ]
        owners: dict[tuple[str, ...], str] = {}
        for name, own in zip(class_names, texts, strict=True):
            other = owners.setdefault(own, name)
            if other != name:
                raise UserError(
                    f"classes {other!r} and {name!r} have the same prompt {own[0]!r}; rename one, "
                    "or give them phrases."
                )
        return texts

    def words(self, class_names: Sequence[str]) -> list[str]:
        """What each class is called in a text; UserError as ``texts``."""
        self._check_names(class_names)
        return [self._words(name) for name in class_names]

    def single(self, template: str, *, labels: LabelRule | None = None) -> Prompts:
        """The same words in one template only; labels: by this rule instead of phrases."""
        fields: dict[str, Any] = {"templates": (template,), "class_prompts": {}}
        if labels is not None:
            fields |= {"labels": labels, "phrases": {}}
        return Prompts(**{**dict(self), **fields})

    def headline(self, *, ensemble: bool) -> Prompts:
        """Those that classify: of all templates, or of the first; class prompts as they are."""
        alone = not ensemble and not self.class_prompts
        return self.single(self.templates[0]) if alone else self

    def mechanical(self) -> Prompts:
        """The same templates and label rule without phrases and class prompts.

        Reported beside the phrases, so that nobody takes an effect of wording for one of the model.
        """
        return self.model_copy(update={"phrases": {}, "class_prompts": {}})

    def _words(self, class_name: str) -> str:
        return self.phrases[class_name] if self.phrases else label_words(class_name, self.labels)

    def _check_names(self, class_names: Sequence[str]) -> None:
        if not len(class_names):
            raise UserError("there are no class names; zero-shot classification needs them.")
        for number, name in enumerate(class_names):
            if not name.replace("_", " ").strip():
                raise UserError(f"class {number} has the empty name {name!r}; name every class.")
        twice = [name for name, count in Counter(class_names).items() if count > 1]
        if twice:
            raise UserError(f"the class name {twice[0]!r} stands twice; names must differ.")
        for kind, table in (("phrases", self.phrases), ("class_prompts", self.class_prompts)):
            missing = [name for name in class_names if name not in table] if table else []
            if missing:
                foreign = [name for name in table if name not in class_names]
                has = f" (it has {_shown(foreign)}, no class here)" if foreign else ""
                raise UserError(
                    f"{kind} lack {len(missing)} of {len(class_names)} classes: {_shown(missing)}"
                    f"{has}; add them, or use no {kind}."
                )


def _shown(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:5])) + ", ..." * (len(names) > 5)


def label_words(class_name: str, rule: LabelRule) -> str:
    """A class name as words, by a rule of ``Prompts.labels``."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])|_", " ", class_name).split()
    keep_capitals = rule == "acronyms"
    words = [word if keep_capitals and word.isupper() else word.lower() for word in words]
    if rule == "underscores":
        return "_".join(words)
    text = " ".join(words)
    return text[:1].upper() + text[1:] if rule == "capitalised" else text


def load_prompts(templates: str | Path, phrases: str | Path | None = None) -> Prompts:
    """The prompts of a template file and, if given, of a file of phrases.

    Both are names of files that Medley ships ("audio"; "slurp_intent") or paths that end in .yaml,
    .yml or .json. UserError names the file and what is wrong in it.
    """
    file = _find(templates, TEMPLATES, "template file")
    data = _mapping(file)
    if phrases is not None:
        words = _find(phrases, PHRASES, "file of phrases")
        data, file = {**data, "phrases": _mapping(words)}, f"{file} with {words}"
    try:
        return Prompts.parse(data)
    except ValidationError as error:
        problems = [
            f"{file}: {'.'.join(map(str, p['loc'])) or '(file)'}: "
            f"{p['msg'].removeprefix('Value error, ')}"
            for p in error.errors(include_url=False)
        ]
        raise UserError("\n".join(problems)) from error


def prompts_of(
    modality: str,
    class_names: Sequence[str],
    templates: str | None = None,
    phrases: str | None = None,
) -> list[tuple[str, ...]]:
    """The prompts of each class: of ``templates`` and ``phrases`` as ``load_prompts`` reads them.

    Without templates they are the modality's; classes of several modalities have each those of
    their own, without the modality's name. UserError: phrases of several modalities that have no
    templates.
    """
    if modality != SEVERAL or templates is not None:
        return load_prompts(templates or modality, phrases).texts(class_names)
    if phrases is not None:
        raise UserError(f"phrases={phrases!r}: of several modalities, give templates as well.")
    found: dict[str, tuple[str, ...]] = {}
    for part in dict.fromkeys(modality_of(name)[0] for name in class_names):
        names = [name for name in class_names if modality_of(name)[0] == part]
        texts = load_prompts(part).texts([modality_of(name)[1] for name in names])
        found |= dict(zip(names, texts, strict=True))
    return [found[name] for name in class_names]


def shipped(folder: Path = TEMPLATES) -> list[str]:
    """Names of the shipped template files, or of those in PHRASES; sorted."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def _find(name: str | Path, folder: Path, kind: str) -> Path:
    if str(name).endswith(SUFFIXES):
        return Path(name).expanduser()
    if str(name) not in shipped(folder):
        raise UserError(f"unknown {kind} {str(name)!r}{did_you_mean(str(name), shipped(folder))}")
    return folder / f"{name}.yaml"


def _mapping(file: Path) -> dict[str, Any]:
    try:
        data = load(file.read_text("utf-8"), _TextLoader)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: cannot read the prompts ({error}).") from error
    except UserError as error:
        raise UserError(f"{file}: {error}") from error
    if not isinstance(data, dict):
        raise UserError(
            f"{file}: expected a mapping, found {type(data).__name__}; write templates: [...], or "
            "in a file of phrases a line CLASS: words of each class."
        )
    return data


class _TextLoader(Limited, yaml.BaseLoader):
    """Everything is text, so that the words on, off, yes and no name classes; no key twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                line = key.start_mark.line + 1
                raise UserError(f"line {line}: {key.value!r} stands twice; keep one of them.")
            seen.add(key.value)
        return super().construct_mapping(node, deep)
