"""The reader of MIMIC-CXR-JPG, on tiny copies of the official layout."""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multimodal.datasets import DATASETS
from multimodal.datasets.findings import COMPETITION
from multimodal.datasets.mimic_cxr import LABELS, MimicCxrConfig, section
from multimodal.datasets.splits import Unverified
from multimodal.errors import UserError
from multimodal.recordings import Manifest

# dicom, subject, study, split, view
IMAGES = [
    ("02aa804e-bde0afdd", "10000032", "50414267", "train", "PA"),
    ("174413ec-4ec4c1f7", "10000032", "50414267", "train", "LATERAL"),
    ("2a2277a9-b0ded155", "10000764", "57375967", "validate", "AP"),
    ("68b5c4b1-227d0485", "10000898", "50771383", "test", "PA"),
    ("3a3bd1c1-aaaa0001", "10000980", "59988438", "train", "LL"),
    ("3a3bd1c1-aaaa0002", "10000980", "59988438", "train", ""),
]
STUDIES = {
    "50414267": {"Edema": "1.0", "Atelectasis": "-1.0", "Fracture": "1.0"},
    "57375967": {"Cardiomegaly": "-1.0", "Edema": "0.0"},
    "50771383": {"No Finding": "1.0"},
}
REPORT = """                                 FINAL REPORT
 EXAMINATION:  CHEST (PA AND LAT)

 INDICATION:  ___F with ascites  // eval: infection

 FINDINGS:

 The lungs are clear.  Note: no
 effusion.

 IMPRESSION:

 No acute process.
"""


def table(path: Path, columns: list[str], rows: list[list[str]]) -> None:
    text = io.StringIO(newline="")
    csv.writer(text).writerows([columns, *rows])
    data = text.getvalue().encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def tables(root: Path, ending: str) -> None:
    start = f"{root}/mimic-cxr-2.0.0-"
    rows = [[d, study, s, split] for d, s, study, split, _ in IMAGES]
    table(Path(f"{start}split.csv{ending}"), ["dicom_id", "study_id", "subject_id", "split"], rows)
    rows = [[view, d, s, study] for d, s, study, _, view in IMAGES]
    columns = ["ViewPosition", "dicom_id", "subject_id", "study_id"]
    table(Path(f"{start}metadata.csv{ending}"), columns, rows)
    rows = [["1", study, *[found.get(n, "") for n in LABELS]] for study, found in STUDIES.items()]
    table(Path(f"{start}chexpert.csv{ending}"), ["subject_id", "study_id", *LABELS], rows)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    root = tmp_path / "mimic_cxr"
    root.mkdir()
    tables(root, ".gz")
    for dicom, subject, study, *_ in IMAGES:
        folder = root / f"files/p10/p{subject}/s{study}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{dicom}.jpg").write_text(dicom)
        folder.with_suffix(".txt").write_text(REPORT)
    return root


def positives(manifest: Manifest) -> dict[str, set[str]]:
    """First eight characters of the dicom id, or the whole of it -> names of its classes."""
    return {r.uid[-21:-4]: {manifest.class_names[c] for c in r.labels} for r in manifest}


def build(root: Path, **fields: object) -> Manifest:
    return MimicCxrConfig.parse(fields).build(root)


def test_rows(copy: Path) -> None:
    manifest = MimicCxrConfig().build(copy)
    assert DATASETS.config("mimic_cxr") is MimicCxrConfig
    assert (manifest.modality, manifest.class_names) == ("xray", COMPETITION)
    assert {r.uid: (r.split, r.group) for r in manifest} == {
        "files/p10/p10000032/s50414267/02aa804e-bde0afdd.jpg": ("train", "10000032"),
        "files/p10/p10000764/s57375967/2a2277a9-b0ded155.jpg": ("validation", "10000764"),
        "files/p10/p10000898/s50771383/68b5c4b1-227d0485.jpg": ("test", "10000898"),
    }
    first = manifest.recordings[0]
    assert (first.path, first.text, first.unknown) == (copy / first.uid, "", ())
    assert [manifest.class_names[c] for c in first.labels] == ["Edema"]
    assert manifest.version == "2.0.0; chexpert, u_zeros, blank = absent"


def test_views_and_studies_without_labels(copy: Path) -> None:
    lateral = build(copy, view="lateral")
    assert set(positives(lateral)) == {"174413ec-4ec4c1f7", "3a3bd1c1-aaaa0001"}
    everything = build(copy, view="all")
    assert len(everything) == len(IMAGES)
    for r in everything:
        known = r.group != "10000980"
        assert r.unknown == (() if known else tuple(range(5)))
        assert known or r.labels == ()


@pytest.mark.parametrize(
    ("policy", "first", "second"),
    [
        ("u_zeros", {"Edema"}, set()),
        ("u_ones", {"Edema", "Atelectasis"}, {"Cardiomegaly"}),
        ("u_map", {"Edema", "Atelectasis"}, set()),
        ("u_multi", {"Edema", "Atelectasis (uncertain)"}, {"Cardiomegaly (uncertain)"}),
        ("u_ignore", {"Edema"}, set()),
    ],
)
def test_policies(copy: Path, policy: str, first: set, second: set) -> None:
    manifest = build(copy, uncertain=policy)
    found = positives(manifest)
    assert found["02aa804e-bde0afdd"] == first
    assert found["2a2277a9-b0ded155"] == second
    unknown = {manifest.class_names[c] for r in manifest for c in r.unknown}
    assert unknown == ({"Atelectasis", "Cardiomegaly"} if policy == "u_ignore" else set())


def test_dropped_and_single_labels_and_classes(copy: Path) -> None:
    assert set(positives(build(copy, uncertain="u_drop"))) == {"68b5c4b1-227d0485"}
    single = build(copy, single_label=True, classes="all", uncertain="u_ones")
    assert set(positives(single)) == {"2a2277a9-b0ded155", "68b5c4b1-227d0485"}
    assert not build(copy, single_label=True, view="all").multi_label
    named = build(copy, classes=["Fracture", "Edema"])
    assert positives(named)["02aa804e-bde0afdd"] == {"Fracture", "Edema"}
    assert build(copy, classes="all").class_names == LABELS
    assert LABELS[:5] == (*COMPETITION[:4], "Enlarged Cardiomediastinum")


def test_plain_tables_and_another_labeler(copy: Path) -> None:
    before = positives(MimicCxrConfig().build(copy))
    tables(copy, "")
    assert positives(MimicCxrConfig().build(copy)) == before
    for path in copy.glob("*.gz"):
        path.unlink()
    assert positives(MimicCxrConfig().build(copy)) == before
    with pytest.raises(UserError, match=r"expected mimic-cxr.*; found files/, mimic-cxr-2"):
        build(copy, labeler="negbio")
    (copy / "mimic-cxr-2.0.0-chexpert.csv").rename(copy / "mimic-cxr-2.0.0-negbio.csv")
    assert positives(build(copy, labeler="negbio")) == before


def test_reports(copy: Path) -> None:
    assert (
        build(copy, texts="findings").recordings[0].text
        == "The lungs are clear. Note: no effusion."
    )
    assert build(copy, texts="impression").recordings[0].text == "No acute process."
    both = "The lungs are clear. Note: no effusion. No acute process."
    assert build(copy, texts="both").recordings[0].text == both
    for path in list((copy / "files").rglob("*.txt")):
        moved = copy / "mimic-cxr-reports" / path.relative_to(copy)
        moved.parent.mkdir(parents=True)
        path.rename(moved)
    assert build(copy, texts="both").recordings[0].text == both


def test_missing_and_damaged_reports(copy: Path) -> None:
    report = copy / "files/p10/p10000898/s50771383.txt"
    report.write_bytes(b"FINDINGS: \xff")
    with pytest.raises(UserError, match=rf"{report} cannot be read as UTF-8"):
        build(copy, texts="findings")
    report.unlink()
    with pytest.raises(UserError, match=rf"{report}: no such report; unpack mimic-cxr-reports"):
        build(copy, texts="both")
    found = build(copy, texts="both", allow_missing=True)
    assert [bool(r.text) for r in found] == [True, True, False]


def test_sections() -> None:
    assert section("no headings at all", ("FINDINGS",)) == ""
    joined = "FINDINGS AND IMPRESSION: clear.\nNOTIFICATION: none"
    assert section(joined, ("FINDINGS",)) == section(joined, ("IMPRESSION",)) == "clear."
    assert section("FINDINGS: of ___ ,\n at 5:30 ok", ("FINDINGS",)) == "of ___ , at 5:30 ok"


WORDS = st.lists(st.from_regex(r"[a-z0-9.]{1,8}", fullmatch=True), min_size=1, max_size=6)


@settings(max_examples=30, deadline=None)
@given(bodies=st.dictionaries(st.sampled_from(["FINDINGS", "IMPRESSION", "WET READ"]), WORDS))
def test_a_written_section_is_read_back(bodies: dict[str, list[str]]) -> None:
    report = ""
    for name, body in bodies.items():
        report += f"\n {name}:\n\n " + "\n ".join(body) + "\n"
    for name in ("FINDINGS", "IMPRESSION"):
        assert section(report, (name,)) == " ".join(bodies.get(name, []))


def test_expected_counts() -> None:
    counts = MimicCxrConfig(view="all").expected_counts() or {}
    assert sum(counts.values()) == 377_110
    assert all(isinstance(n, Unverified) for n in counts.values())
    assert MimicCxrConfig().expected_counts() is None
    assert MimicCxrConfig(view="all", allow_missing=True).expected_counts() is None


def test_missing_images_and_wrong_folders(copy: Path, tmp_path: Path) -> None:
    image = copy / "files/p10/p10000898/s50771383/68b5c4b1-227d0485.jpg"
    image.unlink()
    with pytest.raises(UserError, match=rf"{image}: listed but .*\(1 missing in all\)"):
        MimicCxrConfig().build(copy)
    assert len(MimicCxrConfig(allow_missing=True).build(copy)) == 2
    with pytest.raises(UserError, match=r"nowhere does not exist; expected .*metadata\.csv\.gz"):
        MimicCxrConfig().build(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"expected mimic-cxr-2\.0\.0.*; found mimic_cxr/\."):
        MimicCxrConfig().build(tmp_path)
    with pytest.raises(UserError, match="'Edemma' is unknown; did you mean 'Edema'"):
        build(copy, classes=["Edemma"])


@pytest.mark.parametrize(
    ("kind", "old", "new", "words"),
    [
        ("split", "validate", "valid", r"line 4: split 'valid' is none of train, validate, test"),
        ("split", "50414267", "../50414267", r"line 2: dicom_id, study_id or subject_id"),
        ("split", "02aa804e", "/02aa804e", r"line 2: dicom_id, study_id or subject_id"),
        ("split", "02aa804e", "02aa804f", r"line 2: dicom_id is not in the table of metadata"),
        ("metadata", "ViewPosition", "View", r"there is no column 'ViewPosition'"),
        ("chexpert", "Edema", "Oedema", r"there is no column 'Edema'; found subject_id"),
        ("chexpert", "-1.0", "maybe", r"line 2: Atelectasis is 'maybe'; it must be 1\.0"),
    ],
)
def test_damaged_tables(copy: Path, kind: str, old: str, new: str, words: str) -> None:
    path = copy / f"mimic-cxr-2.0.0-{kind}.csv.gz"
    text = gzip.decompress(path.read_bytes()).decode()
    assert old in text
    path.write_bytes(gzip.compress(text.replace(old, new, 1).encode()))
    with pytest.raises(UserError, match=words):
        MimicCxrConfig().build(copy)


def test_a_subject_in_two_splits_is_refused(copy: Path) -> None:
    path = copy / "mimic-cxr-2.0.0-split.csv.gz"
    text = gzip.decompress(path.read_bytes()).decode()
    lines = text.replace("10000032,train", "10000032,test", 1).encode()
    path.write_bytes(gzip.compress(lines))
    with pytest.raises(UserError, match=r"both sides of a split \(10000032\)"):
        build(copy, view="all")


def test_a_slash_parts_the_words_of_a_heading() -> None:
    assert section("FINDINGS/IMPRESSION: Lungs clear.", ("FINDINGS",)) == "Lungs clear."
