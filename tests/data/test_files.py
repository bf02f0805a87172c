import csv
import json

import pyarrow as pa
import pytest
from pyarrow import parquet

from dedier_laplace.data.files import EMPTY_TEXT, NO_GOLD_LABEL, read_pairs
from dedier_laplace.errors import UserError

LABELS = ["entailment", "neutral", "contradiction"]
COLUMNS = {
    "premise": ["premise", "sentence1"],
    "hypothesis": ["hypothesis", "sentence2"],
    "label": ["gold_label", "label"],
}


def read(path):
    return list(read_pairs(path, COLUMNS, LABELS))


def write(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


def write_jsonl(path, *rows):
    return write(path, "".join(json.dumps(row) + "\n" for row in rows))


def row(label="neutral", premise="A man walks .", hypothesis="He moves ."):
    return {"sentence1": premise, "sentence2": hypothesis, "gold_label": label}


def test_multinli_jsonl_is_read(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", row("entailment") | {"genre": "fiction"}, row())
    assert read(path) == [
        {"premise": "A man walks .", "hypothesis": "He moves .", "label": number, "problem": ""}
        for number in (0, 1)
    ]


@pytest.mark.parametrize("ending", ["tsv", "txt"])
def test_stray_quotes_in_a_tsv_are_text(tmp_path, ending):
    text = (
        "index\tsentence1\tsentence2\tlabel1\tgold_label\n"
        '0\t"He said\tnothing" to her\tneutral\tcontradiction\n'
        '1\tone "\ttwo\tneutral\tentailment\n'
    )
    found = read(write(tmp_path / f"a.{ending}", text))
    assert [(r["premise"], r["hypothesis"], r["label"]) for r in found] == [
        ('"He said', 'nothing" to her', 2),
        ('one "', "two", 0),
    ]


def test_quoted_newlines_commas_and_quotes_in_a_csv_are_text(tmp_path):
    premise = 'One, two\n"three"'
    with (tmp_path / "a.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([["premise", "hypothesis", "label"], [premise, "x, y", "neutral"]])
    (found,) = read(tmp_path / "a.csv")
    assert (found["premise"], found["hypothesis"]) == (premise, "x, y")


def test_parquet_with_numbered_labels_is_read(tmp_path):
    table = pa.table(
        {"premise": ["a"] * 4, "hypothesis": ["b"] * 4, "label": pa.array([2, 0, -1, None])}
    )
    parquet.write_table(table, tmp_path / "a.parquet")
    found = read(tmp_path / "a.parquet")
    assert [r["label"] for r in found] == [2, 0, -1, -1]
    assert [r["problem"] for r in found] == ["", "", NO_GOLD_LABEL, NO_GOLD_LABEL]


@pytest.mark.parametrize(
    ("label", "number"),
    [("Entailment", 0), ("NEUTRAL", 1), (" contradiction ", 2), ("0", 0), ("2", 2), (1, 1)],
)
def test_labels_are_read_by_name_in_any_case_and_by_number(tmp_path, label, number):
    (found,) = read(write_jsonl(tmp_path / "a.jsonl", row(label)))
    assert (found["label"], found["problem"]) == (number, "")


@pytest.mark.parametrize("label", ["-", "-1", -1, "", None])
def test_rows_without_gold_label_are_flagged(tmp_path, label):
    (found,) = read(write_jsonl(tmp_path / "a.jsonl", row(label)))
    assert (found["label"], found["problem"]) == (-1, NO_GOLD_LABEL)


@pytest.mark.parametrize("texts", [("", "b"), ("a", "  "), (None, "b")])
def test_rows_with_an_empty_text_are_flagged(tmp_path, texts):
    (found,) = read(write_jsonl(tmp_path / "a.jsonl", row("neutral", *texts)))
    assert (found["label"], found["problem"]) == (1, EMPTY_TEXT)


def test_texts_stay_as_they_are(tmp_path):
    (found,) = read(write_jsonl(tmp_path / "a.jsonl", row("neutral", "  Ein  Märchen. ", "雪")))
    assert (found["premise"], found["hypothesis"]) == ("  Ein  Märchen. ", "雪")


def test_unknown_label_names_the_row_and_the_nearest_label(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", row(), row("entailmnt"))
    with pytest.raises(UserError, match=r"row 2: the label 'entailmnt' .* 'entailment'"):
        read(path)


def test_missing_column_lists_the_columns_found(tmp_path):
    path = write(tmp_path / "a.csv", "premise,claim,label\na,b,neutral\n")
    with pytest.raises(UserError, match=r"data\.columns\.hypothesis .* premise, claim, label"):
        read(path)


def test_unknown_ending_lists_the_known_ones(tmp_path):
    with pytest.raises(UserError, match=r"'\.xlsx' is unknown; use .*\.jsonl.*\.parquet"):
        read(write(tmp_path / "a.xlsx", "x"))


@pytest.mark.parametrize("bad", ['{"sentence1": ', '["a", "b"]'])
def test_bad_json_names_the_line(tmp_path, bad):
    path = write(tmp_path / "a.jsonl", f"{json.dumps(row())}\n\n{bad}\n")
    with pytest.raises(UserError, match="line 3 is not"):
        read(path)


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl"])
def test_byte_order_mark_and_windows_lines_are_accepted(tmp_path, ending):
    separator = {"csv": ",", "tsv": "\t"}.get(ending)
    if separator:
        lines = [separator.join(cells) for cells in (row().keys(), row().values())]
    else:
        lines = [json.dumps(row())]
    path = write(tmp_path / f"a.{ending}", "\r\n".join([*lines, ""]), "utf-8-sig")
    assert read(path) == [
        {"premise": "A man walks .", "hypothesis": "He moves .", "label": 1, "problem": ""}
    ]


@pytest.mark.parametrize(
    ("name", "content"), [("a.csv", b"premise\n\xff\xfe"), ("a.parquet", b"no parquet")]
)
def test_damaged_file_is_a_user_error_that_names_it(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=name):
        read(tmp_path / name)


def test_missing_file_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read(tmp_path / "absent.jsonl")
