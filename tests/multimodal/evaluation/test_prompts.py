"""Templates and phrases: shipped files, label rules, and every fault in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from multimodal.errors import UserError
from multimodal.evaluation.prompts import (
    PHRASES,
    TEMPLATES,
    Prompts,
    label_words,
    load_prompts,
    shipped,
)
from multimodal.evaluation.protocols import PROTOCOLS
from multimodal.modalities.audio import AudioConfig
from multimodal.modalities.ecg import WORDS
from multimodal.modalities.speech import SpeechConfig
from multimodal.modalities.video import VideoConfig
from multimodal.modalities.xray import XrayConfig

ADAPTERS = {
    "audio": AudioConfig,
    "speech": SpeechConfig,
    "xray": XrayConfig,
    "video": VideoConfig,
}


def test_every_shipped_file_is_good_for_the_robustness_report() -> None:
    assert {"audio", "speech", "ecg", "xray", "video", "text"} <= set(shipped())
    protocols = {name for p in PROTOCOLS.values() for name in (p.templates, *p.by_dataset.values())}
    for name in set(shipped()) - (protocols - {"audio"}):
        templates = load_prompts(name).templates
        assert len([t for t in templates if t != "{}"]) >= 8
    files = [p for p in TEMPLATES.rglob("*") if p.is_file()]
    assert len(files) == len(shipped()) + len(shipped(PHRASES))


@pytest.mark.parametrize(
    ("modality", "name"),
    [
        ("audio", "Sea_waves"),
        ("speech", "turn_Light on"),
        ("xray", "PleuralThickening"),
        ("xray", "COVID-19"),
        ("video", "HighJump"),
        ("video", "brush_hair"),
    ],
)
def test_the_first_prompt_is_the_adapters(modality: str, name: str) -> None:
    first = load_prompts(modality).texts([name])[0][0]
    assert first == ADAPTERS[modality]().build().describe(name)[0]


def test_the_phrases_of_slurp_are_of_its_60_classes() -> None:
    prompts = load_prompts("speech_intent", "slurp_intent")
    names = list(prompts.phrases)
    assert len(names) == 60
    assert len({n.split("_")[0] for n in names}) == 18
    assert len({n.split("_", 1)[1] for n in names}) == 46
    texts = dict(zip(names, prompts.texts(names), strict=True))
    assert texts["alarm_set"][0] == "set an alarm"
    assert texts["iot_hue_lightoff"][1] == "Please turn off the lights."
    assert texts["iot_wemo_on"][0] == "turn on the smart plug"
    assert texts["lists_createoradd"][0] == "create a list or add to it"
    assert texts["email_sendemail"][0] == "send an email"
    mechanical = prompts.mechanical()
    assert mechanical.texts(["iot_hue_lightoff"])[0][0] == "iot hue lightoff"
    assert mechanical.hash != prompts.hash


def test_the_phrases_of_ecg_classes_are_the_adapters() -> None:
    phrases = load_prompts("ecg", "mitbih").phrases | load_prompts("ecg", "ptbxl").phrases
    assert phrases == WORDS


@pytest.mark.parametrize(
    ("name", "spaces", "acronyms", "underscores", "capitalised"),
    [
        ("Sea_waves", "sea waves", "sea waves", "sea_waves", "Sea waves"),
        ("AbdomenCT", "abdomen ct", "abdomen CT", "abdomen_ct", "Abdomen ct"),
        ("COVID-19", "covid-19", "COVID-19", "covid-19", "Covid-19"),
        ("HighJump", "high jump", "high jump", "high_jump", "High jump"),
        (" a  b ", "a b", "a b", "a_b", "A b"),
    ],
)
def test_label_rules(name, spaces, acronyms, underscores, capitalised) -> None:
    assert label_words(name, "spaces") == spaces
    assert label_words(name, "acronyms") == acronyms
    assert label_words(name, "underscores") == underscores
    assert label_words(name, "capitalised") == capitalised


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text("abcdef", min_size=1), min_size=1, max_size=6, unique=True), st.randoms())
def test_order_of_classes_changes_the_order_only(names: list[str], random) -> None:
    prompts = load_prompts("audio")
    texts = dict(zip(names, prompts.texts(names), strict=True))
    random.shuffle(names)
    assert prompts.texts(names) == [texts[name] for name in names]


def test_class_prompts_are_taken_whole() -> None:
    prompts = Prompts(
        templates=("a {}",), class_prompts={"dog": ("It barks.", "A dog."), "x": ("X",)}
    )
    assert prompts.texts(["x", "dog"]) == [("X",), ("It barks.", "A dog.")]
    assert prompts.mechanical().texts(["dog"]) == [("a dog",)]
    assert prompts.single("the {}").texts(["dog"]) == [("the dog",)]


def test_single_keeps_phrases_unless_it_is_given_a_label_rule() -> None:
    prompts = load_prompts("speech_intent", "slurp_intent")
    assert prompts.single("{}!").texts(["alarm_set"]) == [("set an alarm!",)]
    spelled = prompts.single("{}!", labels="underscores")
    assert spelled.texts(["alarm_set"]) == [("alarm_set!",)]


def test_the_hash_is_of_the_content(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("# mine\ntemplates:\n  - a {}\n")
    (tmp_path / "b.json").write_text('{"labels": "spaces", "templates": ["a {}"]}')
    (tmp_path / "c.yml").write_text("templates: ['b {}']")
    first, second, third = (load_prompts(tmp_path / n).hash for n in ("a.yaml", "b.json", "c.yml"))
    assert first == second != third
    assert len(first) == 16


def test_the_hashes_of_the_shipped_prompts() -> None:
    # A change of a shipped file changes results: it must be meant.
    assert load_prompts("audio").hash == "480aeaf770937bdf"
    assert load_prompts("speech_intent", "slurp_intent").hash == "43084c5ec5f9cfa1"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"templates": ()}, "at least 1"),
        ({"templates": ("A sound.",)}, "'A sound.' needs one placeholder {}"),
        ({"templates": ("{} and {}",)}, "needs one placeholder"),
        ({"templates": ("a {}", "a {}")}, "listed twice"),
        ({"phrases": {"dog": " "}}, "phrase of class 'dog' is empty"),
        ({"class_prompts": {"dog": ()}}, "class 'dog' has no prompt"),
        ({"class_prompts": {"dog": ("",)}}, "class 'dog' has no prompt, or an empty one"),
        ({"class_prompts": {"dog": ("a {}",)}}, "write it out"),
        ({"labels": "upper"}, "'spaces', 'acronyms', 'underscores' or 'capitalised'"),
        ({"template": "a {}"}, "Extra inputs"),
    ],
)
def test_bad_prompts_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Prompts(**{"templates": ("a {}",), **fields})
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "there are no class names"),
        (["a", "_"], "class 1 has the empty name '_'"),
        (["a", "b", "a"], "class name 'a' stands twice"),
        (["Dog_bark", "dog bark"], "'Dog_bark' and 'dog bark' have the same prompt"),
    ],
)
def test_bad_class_names_are_refused(names: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_prompts("audio").texts(names)


def test_classes_without_a_phrase_or_prompt_are_named() -> None:
    names = ["alarm_set", *(f"new_{i}" for i in range(7))]
    expected = r"phrases lack 7 of 8 classes: 'new_0', .*'new_4', \.\.\. \(it has .*\); add"
    with pytest.raises(UserError, match=expected):
        load_prompts("speech_intent", "slurp_intent").texts(names)
    prompts = Prompts(templates=("{}",), class_prompts={"dog": ("A dog.",)})
    with pytest.raises(UserError, match="class_prompts lack 1 of 2 classes: 'cat'; add"):
        prompts.texts(["dog", "cat"])


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ("templates: [A sound.]", r"templates: 'A sound\.' needs one placeholder"),
        ("phrases: {a: b}", "templates: Field required"),
        ("templates: ['{}']\ntone: warm", "tone: Extra inputs"),
        ("templates: a sound of {}", "templates: Input should be a valid"),
        ("templates:\n  - {}", r"templates\.0: Input should be a valid string"),
        ("templates: [2026-01-31]", "'2026-01-31' needs one placeholder"),
        ("templates: ['{}']\nphrases: {a: b, c: d, a: e}", "line 2: 'a' stands twice"),
        ("templates: [", "not valid YAML"),
        ("- a {}", "expected a mapping, found list"),
        ("? [a]\n: b", "not valid YAML"),
        ("", "expected a mapping, found NoneType"),
    ],
)
def test_faults_of_a_file_are_named_with_the_file(tmp_path, contents: str, message: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(contents)
    with pytest.raises(UserError, match=rf"mine\.yaml: .*{message}"):
        load_prompts(file)


def test_files_that_do_not_exist_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown template file 'audoi'; did you mean 'audio'"):
        load_prompts("audoi")
    with pytest.raises(UserError, match=r"unknown file of phrases 'slurp'.*slurp_intent"):
        load_prompts("audio", "slurp")
    with pytest.raises(UserError, match=r"none\.yaml: cannot read the prompts"):
        load_prompts(tmp_path / "none.yaml")
    words = tmp_path / "words.yaml"
    words.write_text("off: ''")
    with pytest.raises(
        UserError, match=r"speech\.yaml with .*words\.yaml: phrases: .*'off' is empty"
    ):
        load_prompts("speech", words)


def test_words_that_yaml_takes_for_truth_values_stay_words(tmp_path: Path) -> None:
    words = tmp_path / "words.yaml"
    words.write_text("on: yes\noff: no\n8: eight")
    prompts = load_prompts("speech", words)
    assert prompts.phrases == {"on": "yes", "off": "no", "8": "eight"}
