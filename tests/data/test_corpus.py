import csv
import json
import os
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Value

from dedier_laplace.config.data import Data
from dedier_laplace.data.corpus import SPLITS, load_corpus, unlabelled_pairs
from dedier_laplace.errors import UserError

LABELS = ["entailment", "neutral", "contradiction"]


def pairs(n, tag="", labels=LABELS):
    """Rows whose texts tell them apart; a third of the hypotheses are negated."""
    return [
        {
            "premise": f"premise {tag}{i}",
            "hypothesis": f"hypothesis {tag}{i}{' no' if i % 9 < 3 else ''}",
            "label": labels[i % len(labels)],
        }
        for i in range(n)
    ]


@pytest.fixture
def write(tmp_path):
    """Writes rows as JSON lines and gives the path."""

    def to_file(name, rows):
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return str(path)

    return to_file


def load(**data):
    return load_corpus(Data.model_validate({"corpus": "files", **data}), "negation")


def premises(corpus, split):
    return list(corpus.splits[split]["premise"])


def test_official_files_are_the_splits(write):
    files = {name: write(name, pairs(6, name)) for name in SPLITS}
    corpus = load(files=files)
    for name in SPLITS:
        assert premises(corpus, name) == [row["premise"] for row in pairs(6, name)]
        assert list(corpus.splits[name]["label"]) == [0, 1, 2, 0, 1, 2]
        assert list(corpus.splits[name]["id"]) == list(range(6))
    assert corpus.notes == ()
    assert corpus.label_names == tuple(LABELS)


def test_order_of_labels_in_the_config_is_the_numbering(write):
    files = {name: write(name, pairs(3, name)) for name in SPLITS}
    corpus = load(files=files, labels=LABELS[::-1])
    assert list(corpus.splits["train"]["label"]) == [2, 1, 0]


def test_groups_of_a_split_are_label_and_attribute(write):
    corpus = load(files={name: write(name, pairs(18, name)) for name in SPLITS})
    groups = corpus.groups("train", "negation")
    expected = Counter(
        f"{row['label']}, {'' if row['hypothesis'].endswith(' no') else 'no '}negation"
        for row in pairs(18)
    )
    assert dict(zip(groups.names, groups.sizes.tolist(), strict=True)) == expected


def test_missing_splits_are_carved_from_train_and_said_aloud(write):
    corpus = load(files={"train": write("train", pairs(900))}, carve=0.2)
    parts = [set(premises(corpus, name)) for name in SPLITS]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 900
    assert len(parts[2]) == 180
    assert len(parts[1]) == pytest.approx(0.2 * 720, abs=6)
    for name in ("validation", "test"):
        assert any(note.startswith(f"{name}: none given") for note in corpus.notes)


def test_carved_splits_have_the_groups_shares(write):
    corpus = load(files={"train": write("train", pairs(900))}, carve=0.2)
    shares = [corpus.groups(name, "negation").shares for name in SPLITS]
    for other in shares[1:]:
        np.testing.assert_allclose(other, shares[0], atol=0.01)


def test_given_split_is_not_carved(write):
    files = {"train": write("train", pairs(90)), "test": write("test", pairs(9, "t"))}
    corpus = load(files=files)
    assert premises(corpus, "test") == [row["premise"] for row in pairs(9, "t")]
    assert len(premises(corpus, "train")) + len(premises(corpus, "validation")) == 90


def test_carving_depends_on_its_seed_alone(write):
    files = {"train": write("train", pairs(90))}
    one, again, other = (premises(load(files=files, seed=seed), "test") for seed in (0, 0, 1))
    assert one == again != other


def test_sample_limits_are_upper_bounds_and_seeded(write):
    files = {name: write(name, pairs(30, name)) for name in SPLITS}
    sample = {"train": 10, "validation": 99}
    one, again, other = (load(files=files, sample=sample, seed=seed) for seed in (0, 0, 1))
    assert [len(one.splits[name]) for name in SPLITS] == [10, 30, 30]
    assert premises(one, "train") == premises(again, "train") != premises(other, "train")
    assert list(one.splits["train"]["id"]) == sorted(one.splits["train"]["id"])


def test_unusable_rows_are_dropped_and_counted(write):
    bad = [
        {"premise": "a", "hypothesis": "b", "label": "-"},
        {"premise": "", "hypothesis": "b", "label": "neutral"},
        {"premise": "c", "hypothesis": "d", "label": "-"},
    ]
    files = {name: write(name, pairs(3, name)) for name in SPLITS}
    files["train"] = write("train", [bad[0], *pairs(3), *bad[1:]])
    corpus = load(files=files)
    assert list(corpus.splits["train"]["id"]) == [1, 2, 3]
    assert corpus.dropped["train"] == {"no gold label": 2, "empty text": 1}
    assert corpus.dropped["test"] == {}
    assert "train: 2 of 6 rows dropped: no gold label." in corpus.notes
    assert "problem" not in corpus.splits["train"].column_names


def test_split_without_usable_rows_is_refused(write):
    files = {name: write(name, pairs(3, name)) for name in SPLITS}
    files["validation"] = write("validation", pairs(3, labels=["-"]))
    with pytest.raises(UserError, match="validation split has no usable row"):
        load(files=files)


def test_file_without_rows_is_refused(write):
    files = {name: write(name, pairs(3, name)) for name in SPLITS}
    files["test"] = write("test", [])
    with pytest.raises(UserError, match="no rows"):
        load(files=files)


def test_missing_file_names_path_and_key(write, tmp_path):
    files = {"train": write("train", pairs(9)), "test": str(tmp_path / "absent.jsonl")}
    with pytest.raises(UserError, match=r"absent\.jsonl \(data\.files\.test\) does not exist"):
        load(files=files)


def test_mistake_in_a_file_is_told_as_it_is_when_read_directly(write):
    with pytest.raises(UserError, match=r"row 2: the label 'neutrl' .*'neutral'"):
        load(files={"train": write("train", pairs(9, labels=["neutral", "neutrl"]))})


def test_changed_file_is_read_anew(write):
    files = {name: write(name, pairs(3, name)) for name in SPLITS}
    load(files=files)
    write("train", pairs(3, "changed "))
    assert premises(load(files=files), "train")[0] == "premise changed 0"


THEIRS = {"contradiction": "0", "entailment": "1", "neutral": "2"}


@pytest.fixture
def random_split(write, tmp_path):
    """Three official-style files and `metadata_random.csv` as Sagawa et al.'s script writes it."""
    rows = {
        "train": pairs(9, "a", [*LABELS, "-"]),
        "validation": pairs(5, "b", ["-", *LABELS]),
        "test": pairs(6, "c", [*LABELS, "-"]),
    }
    official = {
        name: [
            {"gold_label": r["label"], "sentence1": r["premise"], "sentence2": r["hypothesis"]}
            for r in rows[name]
        ]
        for name in SPLITS
    }
    files = {name: write(name, official[name]) for name in SPLITS}
    everything = [row for name in SPLITS for row in rows[name]]
    labelled = [(i, row) for i, row in enumerate(everything) if row["label"] != "-"]
    splits = [str(i % 3) for i in range(len(labelled))]
    with (tmp_path / "metadata_random.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["", "gold_label", "sentence2_has_negation", "split"])
        for (i, row), split in zip(labelled, splits, strict=True):
            negation = int(row["hypothesis"].endswith(" no"))
            writer.writerow([i, THEIRS[row["label"]], negation, split])
    expected = {
        name: [
            row["premise"] for (_, row), split in zip(labelled, splits, strict=True) if split == s
        ]
        for name, s in zip(SPLITS, "012", strict=True)
    }
    return files, expected, everything


def test_random_split_follows_the_metadata(random_split):
    files, expected, everything = random_split
    corpus = load(files=files, split="random")
    for name in SPLITS:
        assert premises(corpus, name) == expected[name]
        for row in corpus.splits[name]:
            assert everything[row["id"]]["premise"] == row["premise"]
            assert everything[row["id"]]["label"] == LABELS[row["label"]]


def test_random_split_knows_labels_by_name_whatever_our_order(random_split):
    files, expected, _ = random_split
    corpus = load(files=files, split="random", labels=LABELS[::-1])
    assert premises(corpus, "test") == expected["test"]


def test_metadata_of_other_files_is_refused(random_split, write):
    files, _, _ = random_split
    swapped = {**files, "train": files["test"], "test": files["train"]}
    with pytest.raises(UserError, match=r"does not fit data\.files"):
        load(
            files=swapped,
            split="random",
            metadata=f"{os.path.dirname(files['train'])}/metadata_random.csv",
        )


def test_metadata_that_is_too_short_is_refused(random_split, tmp_path):
    files, _, _ = random_split
    path = tmp_path / "metadata_random.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(UserError, match=r"does not fit data\.files"):
        load(files=files, split="random")


def test_random_split_without_metadata_or_without_all_files_is_refused(random_split, tmp_path):
    files, _, _ = random_split
    with pytest.raises(UserError, match="needs all three"):
        load(files={**files, "test": None}, split="random")
    (tmp_path / "metadata_random.csv").unlink()
    with pytest.raises(UserError, match=r"metadata_random\.csv cannot be read"):
        load(files=files, split="random")


def write_dataset(folder, names, label_names):
    """A data set folder as on the hub: Parquet, label numbers in an order of its own, a card."""
    folder.mkdir()
    features = Features(
        {
            "premise": Value("string"),
            "hypothesis": Value("string"),
            "label": ClassLabel(names=label_names),
        }
    )
    card = ["---", "configs:", "- config_name: default", "  data_files:"]
    for name in names:
        rows = [{**row, "label": label_names.index(row["label"])} for row in pairs(6, name)]
        rows[0]["label"] = -1
        Dataset.from_list(rows, features=features).to_parquet(folder / f"{name}.parquet")
        card += [f"  - split: {name}", f"    path: {name}.parquet"]
    (folder / "README.md").write_text("\n".join([*card, "---", ""]))
    return str(folder)


HUB_NAMES = ["train", "validation_matched", "validation_mismatched"]


def test_local_data_set_gives_labels_by_name(tmp_path):
    folder = write_dataset(tmp_path / "hub", HUB_NAMES, ["contradiction", "entailment", "neutral"])
    corpus = load(corpus="multinli", hub_name=folder)
    for ours, theirs in zip(SPLITS, HUB_NAMES, strict=True):
        assert premises(corpus, ours) == [row["premise"] for row in pairs(6, theirs)][1:]
        assert list(corpus.splits[ours]["label"]) == [1, 2, 0, 1, 2]
        assert corpus.dropped[ours] == {"no gold label": 1}


def test_data_set_without_train_is_refused(tmp_path):
    folder = write_dataset(tmp_path / "hub", ["test"], LABELS)
    with pytest.raises(UserError, match="no split named train"):
        load(corpus="multinli", hub_name=folder)


def test_folder_that_is_no_data_set_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="cannot be loaded"):
        load(corpus="multinli", hub_name=str(tmp_path))


SIZES = {"train": 300, "validation_per_group": 5, "test_per_group": 7, "unlabelled": 600}


def generated(seed=0, **settings):
    return Data.model_validate(
        {"corpus": "generated", "seed": seed, "generated": {**SIZES, **settings}}
    )


def texts(rows):
    return list(zip(rows["premise"], rows["hypothesis"], strict=True))


def test_generated_splits_are_seeded_and_disjoint():
    one, again, other = (load_corpus(generated(seed), "negation") for seed in (0, 0, 1))
    for name in SPLITS:
        assert one.splits[name][:] == again.splits[name][:]
        assert one.splits[name][:] != other.splits[name][:]
    everything = [pair for name in SPLITS for pair in texts(one.splits[name])]
    assert len(set(everything)) == len(everything) == 300 + 6 * 5 + 6 * 7


def test_generated_validation_and_test_are_balanced():
    corpus = load_corpus(generated(), "negation")
    assert corpus.groups("validation", "negation").sizes.tolist() == [5] * 6
    assert corpus.groups("test", "negation").sizes.tolist() == [7] * 6


def test_generated_train_has_the_configured_negation_rates():
    corpus = load_corpus(generated(train=900, negation_rate=0.7, minority_rate=0.1), "negation")
    groups = corpus.groups("train", "negation")
    for g in (1, 3, 5):
        rate = 0.7 if groups.labels[g] == "contradiction" else 0.1
        n = groups.sizes[g - 1] + groups.sizes[g]
        assert abs(groups.sizes[g] / n - rate) < 4 * (rate * (1 - rate) / n) ** 0.5


def test_generated_labels_follow_the_configs_order():
    given = load_corpus(generated(), "negation")
    data = generated().model_copy(update={"labels": LABELS[::-1]})
    reversed_ = load_corpus(data, "negation")
    for name in SPLITS:
        assert texts(reversed_.splits[name]) == texts(given.splits[name])
        ours = [reversed_.label_names[label] for label in reversed_.splits[name]["label"]]
        assert ours == [given.label_names[label] for label in given.splits[name]["label"]]


def test_generated_corpus_has_no_other_labels():
    with pytest.raises(UserError, match=r"data\.labels"):
        load_corpus(generated().model_copy(update={"labels": ["yes", "no"]}), "negation")


def test_unlabelled_pairs_are_negated_whatever_their_label():
    from dedier_laplace.data.attributes import make_groups, negation_attribute

    rows = unlabelled_pairs(generated(negation_rate=0.9, minority_rate=0.15))
    assert len(rows) == 600
    groups = make_groups(rows["label"], negation_attribute(rows["hypothesis"]), LABELS, "x")
    rate = (0.9 + 2 * 0.15) / 3
    for g in (1, 3, 5):
        n = groups.sizes[g - 1] + groups.sizes[g]
        assert abs(groups.sizes[g] / n - rate) < 4 * (rate * (1 - rate) / n) ** 0.5


def test_unlabelled_pairs_are_for_the_generated_corpus_alone():
    with pytest.raises(UserError, match="generated"):
        unlabelled_pairs(Data())


FINGERPRINTS = """
import sys, datasets
from dedier_laplace.config.data import Data
from dedier_laplace.data.corpus import load_corpus
datasets.config.HF_DATASETS_CACHE = sys.argv[2]
corpus = load_corpus(Data.model_validate_json(sys.argv[1]), "negation")
print([corpus.splits[name]._fingerprint for name in ("train", "validation", "test")])
"""


@pytest.mark.parametrize("corpus", ["generated", "files"])
def test_fingerprints_are_the_same_in_every_process(corpus, write, tmp_path):
    """Tokenized splits are cached under them."""
    if corpus == "generated":
        data = generated()
    else:
        files = {"train": write("train", pairs(90))}
        data = Data.model_validate({"corpus": "files", "files": files, "sample": {"train": 20}})
    found = []
    for hash_seed in ("1", "2"):
        command = [sys.executable, "-c", FINGERPRINTS, data.model_dump_json()]
        cache = str(tmp_path / f"cache{hash_seed}")
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        done = subprocess.run(
            [*command, cache], capture_output=True, text=True, check=True, env=environment
        )
        found.append(done.stdout)
    assert found[0] == found[1]
    assert found[0].count("'") == 6
