import pytest
from datasets import Dataset

from dedier_laplace.data.generated import word_tokenizer
from dedier_laplace.data.tokens import INDEX, LABELS, content_fingerprint, lengths, tokenize

BERT = {"input_ids", "attention_mask", "token_type_ids"}
DISTILBERT = {"input_ids", "attention_mask"}


@pytest.fixture(scope="module")
def tokenizer():
    return word_tokenizer()


@pytest.fixture(scope="module")
def words(tokenizer):
    """Twelve words of the tokenizer's vocabulary."""
    special = set(tokenizer.all_special_tokens)
    return [word for word in sorted(tokenizer.get_vocab()) if word not in special][:12]


@pytest.fixture
def rows(words):
    return Dataset.from_dict(
        {
            "id": [7, 8, 9],
            "premise": [" ".join(words), words[0], words[1]],
            "hypothesis": [words[2], words[3], " ".join(words[:3])],
            "label": [2, 0, 1],
        }
    )


def test_samples_keep_their_own_length_their_label_and_place(rows, tokenizer):
    tokenized = tokenize(rows, tokenizer, 64, BERT)
    assert [len(ids) for ids in tokenized["input_ids"]] == [12 + 1 + 3, 5, 7]
    assert lengths(tokenized) == [16, 5, 7]
    assert all(tokenizer.pad_token_id not in ids for ids in tokenized["input_ids"])
    assert tokenized[LABELS][:] == [2, 0, 1]
    assert tokenized[INDEX][:] == [0, 1, 2]


def test_tokens_are_those_of_the_pair(rows, tokenizer, words):
    tokenized = tokenize(rows, tokenizer, 64, BERT)
    expected = ["[CLS]", words[0], "[SEP]", words[3], "[SEP]"]
    assert tokenizer.convert_ids_to_tokens(tokenized["input_ids"][1]) == expected
    assert tokenized["token_type_ids"][1] == [0, 0, 0, 1, 1]


def test_pairs_are_truncated_to_the_maximum_the_longer_text_first(rows, tokenizer):
    full, cut = tokenize(rows, tokenizer, 64, BERT), tokenize(rows, tokenizer, 8, BERT)
    assert lengths(cut) == [8, 5, 7]
    assert cut["input_ids"][0][-2:] == full["input_ids"][0][-2:]
    assert cut["input_ids"][1:] == full["input_ids"][1:]


def test_inputs_the_model_does_not_take_are_left_out(rows, tokenizer):
    assert set(tokenize(rows, tokenizer, 64, BERT).column_names) == BERT | {LABELS, INDEX}
    tokenized = tokenize(rows, tokenizer, 64, DISTILBERT)
    assert set(tokenized.column_names) == DISTILBERT | {LABELS, INDEX}


def changed(rows, column, value):
    values = list(rows[column])
    values[1] = value
    return rows.remove_columns(column).add_column(column, values)


def test_fingerprint_of_the_content_changes_with_a_token_or_a_label(rows, tokenizer, words):
    splits = [
        rows,
        changed(rows, "label", 1),
        changed(rows, "premise", words[5]),
        changed(rows, "hypothesis", words[3] + " " + words[3]),
        rows.select([1, 0, 2]),
        rows.select([0, 1]),
    ]
    found = {content_fingerprint(tokenize(split, tokenizer, 64, BERT)) for split in splits}
    assert len(found) == len(splits)


def test_fingerprint_of_the_content_depends_on_nothing_else(rows, tokenizer):
    first = content_fingerprint(tokenize(rows, tokenizer, 64, BERT))
    assert content_fingerprint(tokenize(changed(rows, "id", 99), tokenizer, 64, BERT)) == first
    assert content_fingerprint(tokenize(rows, tokenizer, 32, DISTILBERT)) == first
    reordered = tokenize(rows.select([2, 1, 0]), tokenizer, 64, BERT).select([2, 1, 0])
    assert content_fingerprint(reordered) == first


def test_fingerprint_tells_where_one_sample_ends(rows, tokenizer, words):
    """The same tokens in a row, divided otherwise between two samples."""
    tokenized = tokenize(rows, tokenizer, 64, BERT)
    ids = tokenized["input_ids"][:]
    moved = [ids[0], [*ids[1], ids[2][0]], ids[2][1:]]
    other = Dataset.from_dict({"input_ids": moved, LABELS: tokenized[LABELS][:]})
    assert content_fingerprint(other) != content_fingerprint(tokenized)
