"""A person's own files: every row is a case or is listed with its line and the reason."""

import json
import logging
from pathlib import Path

import pytest

from medgrpo.data import load_cases, load_demonstrations
from medgrpo.data.files import LONGEST, Rejected, read_file
from medgrpo.errors import DataError

OWN = Path(__file__).parents[2] / "examples" / "own_cases.csv"


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_the_example_file_is_clean() -> None:
    report = read_file(OWN)
    assert report.rejected == ()
    assert {case.kind for case in report.cases} == {"diagnosis", "choice", "numeric"}
    assert {case.split for case in report.cases} >= {"train", "test"}
    assert len(report.preview) == 5
    assert len(load_cases(str(OWN), "test")) == sum(case.split == "test" for case in report.cases)


def test_bom_crlf_and_quoted_newlines(tmp_path: Path) -> None:
    rows = b'question,answer,split\r\n"first\r\nline two",Gout,test\r\nsecond,Gout,test\r\n'
    path = write(tmp_path, "a.csv", b"\xef\xbb\xbf" + rows)
    report = read_file(path)
    assert [case.question for case in report.cases] == ["first\r\nline two", "second"]
    assert report.rejected == ()


def test_every_bad_row_is_listed_with_its_line(tmp_path: Path) -> None:
    rows = [
        "id,question,answer,kind,unit,tolerance,options,split",
        "a,fine,Gout,,,,,train",  # line 2
        "b,,Gout,,,,,train",
        "c,no answer,,,,,,train",
        "a,same id,Gout,,,,,train",
        "d,fine,Gout,,,,,train",  # line 6: the same question as on line 2
        "e,bad kind,Gout,riddle,,,,train",
        "f,bad tolerance,12,numeric,mmol/L,NaN,,train",
        "g,bad number,twelve,numeric,mmol/L,1,,train",
        "h,negative tolerance,12,numeric,mmol/L,-1,,train",
        "i,bad split,Gout,,,,,dev",
        "j,bad options,A,choice,,,not json,train",
        'k,answer not an option,C,choice,,,"{""A"": ""x"", ""B"": ""y""}",train',
        "l,too few fields,Gout",
        "m,\0nul,Gout,,,,,train",
        f"n,{'x' * 100_000},Gout,,,,,train",
        'o,one option,A,choice,,,"{""A"": ""x""}",train',
    ]
    report = read_file(write(tmp_path, "bad.csv", "\n".join(rows)))
    assert [case.id for case in report.cases] == ["a"]
    reasons = {row.line: row.reason for row in report.rejected}
    assert sorted(reasons) == list(range(3, len(rows) + 1))
    expected = {
        3: "question is empty",
        4: "answer is empty",
        5: "the same id as on line 2",
        6: "the same question as on line 2",
        7: "kind 'riddle'",
        8: "tolerance 'NaN'",
        9: "not a number",
        10: "tolerance '-1'",
        11: "split 'dev'",
        12: "not JSON",
        13: "not one of the options A, B",
        14: "3 fields where the header has 8",
        15: "control characters",
        16: f"100,000 characters; at most {LONGEST:,}",
        17: "at least two options",
    }
    for line, words in expected.items():
        assert words in reasons[line], reasons[line]


def test_lines_are_counted_through_quoted_newlines(tmp_path: Path) -> None:
    report = read_file(write(tmp_path, "a.csv", 'question,answer\n"a\nb\nc",Gout\n,Gout\n'))
    assert report.rejected == (Rejected(5, "question is empty"),)


def test_wrong_encoding_is_a_bad_row_and_utf16_an_error(tmp_path: Path) -> None:
    path = write(tmp_path, "latin.csv", "question,answer\nplain,Gout\ncaf\xe9,Gout\n".encode("latin-1"))
    report = read_file(path)
    assert len(report.cases) == 1
    assert report.rejected[0].line == 3
    assert "not UTF-8" in report.rejected[0].reason
    with pytest.raises(DataError, match="UTF-16"):
        read_file(write(tmp_path, "wide.csv", "question,answer\na,b\n".encode("utf-16")))


def test_no_usable_row_is_an_error_that_lists_the_reasons(tmp_path: Path) -> None:
    empty = write(tmp_path, "empty.csv", "")
    assert read_file(empty).rejected == (Rejected(1, "the file has no rows"),)
    with pytest.raises(DataError, match=r"no row of .* can be used: line 1: the file has no rows"):
        load_cases(str(empty), "test")
    with pytest.raises(DataError, match="line 2: question is empty"):
        load_cases(str(write(tmp_path, "blank.jsonl", '\n{"question": " ", "answer": "x"}\n')), "test")


def test_rejected_rows_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path, "some.csv", "question,answer,split\na,Gout,test\n,Gout,test\n")
    with caplog.at_level(logging.WARNING):
        assert len(load_cases(str(path), "test")) == 1
    assert "1 rows rejected, 1 used. line 3: question is empty" in caplog.text


def test_column_mapping(tmp_path: Path) -> None:
    path = write(tmp_path, "german.csv", "Frage,Antwort,Gruppe\nWas?,Gout,test\n")
    with pytest.raises(DataError, match=r"no column 'question', 'answer'; it has 'Frage', 'Antwort', 'Gruppe'"):
        read_file(path)
    report = read_file(path, {"question": "Frage", "answer": "Antwort", "split": "Gruppe"})
    assert [(case.question, case.answer, case.split) for case in report.cases] == [("Was?", "Gout", "test")]
    with pytest.raises(DataError, match="unknown column names in the mapping: \\['quest'\\]"):
        read_file(path, {"quest": "Frage"})


def test_jsonl(tmp_path: Path) -> None:
    rows = [
        '{"question": "a", "answer": "B", "options": {"A": "x", "B": "y"}, "split": "test"}',
        "{broken",
        "[1]",
        '{"question": "b", "answer": 7, "kind": "numeric", "tolerance": NaN, "split": "test"}',
        '{"question": "c", "answer": 7.5, "kind": "numeric", "tolerance": 0.5, "split": "test"}',
        '{"question": "d \\u2028 e", "answer": "Gout", "aliases": ["podagra", "uric"], "split": "test"}',
        '{"question": "\\ud800", "answer": "Gout"}',
        "[" * 100_000,
    ]
    report = read_file(write(tmp_path, "a.jsonl", "\n".join(rows)))
    found = [(case.answer, case.kind) for case in report.cases]
    assert found == [("B", "choice"), ("7.5", "numeric"), ("Gout", "diagnosis")]
    assert report.cases[2].aliases == ("podagra", "uric")
    assert [row.line for row in report.rejected] == [2, 3, 4, 7, 8]


def test_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    table = pyarrow.table(
        {
            "question": ["a", None],
            "answer": ["B", "x"],
            "split": ["test", "test"],
            "options": [{"A": "x", "B": "y"}, None],
        }
    )
    path = tmp_path / "a.parquet"
    parquet.write_table(table, path)
    report = read_file(path)
    assert [case.options for case in report.cases] == [{"A": "x", "B": "y"}]
    assert report.rejected == (Rejected(2, "question is empty"),)
    with pytest.raises(DataError, match="not a readable Parquet file"):
        read_file(write(tmp_path, "b.parquet", b"PAR1"))


def test_rows_without_split_get_a_stable_one(tmp_path: Path) -> None:
    rows = "question,answer\n" + "".join(f"question {i},Gout\n" for i in range(400))
    splits = [case.split for case in read_file(write(tmp_path, "many.csv", rows)).cases]
    assert splits == [case.split for case in read_file(tmp_path / "many.csv").cases]
    assert 280 < splits.count("train") < 360
    assert {"validation", "test"} < set(splits)


def test_choice_answers_become_letters(tmp_path: Path) -> None:
    row = {"question": "q", "answer": "Y", "options": json.dumps({"A": "x", "B": "y"})}
    assert read_file(write(tmp_path, "c.jsonl", json.dumps(row))).cases[0].answer == "B"


def test_a_short_answer_that_names_no_condition_is_open(tmp_path: Path) -> None:
    """The diagnosis matcher could not tell "Vitamin C. Zinc." from "Vitamin C."; open text has to equal the reference."""
    rows = "question,answer,kind\na,Vitamin C,\nb,Serous otitis media,\nc,Vitamin C,diagnosis\n"
    kinds = [case.kind for case in read_file(write(tmp_path, "k.csv", rows)).cases]
    assert kinds == ["open", "diagnosis", "diagnosis"]


def test_missing_files_and_other_types(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no file"):
        read_file(tmp_path / "none.csv")
    with pytest.raises(DataError, match=r"not one of \.csv, \.jsonl, \.parquet"):
        read_file(write(tmp_path, "a.xlsx", ""))


def test_a_split_without_rows_and_demonstrations_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "question,answer,split\na,Gout,test\n")
    with pytest.raises(DataError, match="has no case in split 'hard'"):
        load_cases(str(path), "hard")
    with pytest.raises(DataError, match="a has no demonstrations"):
        load_demonstrations(str(path), "test")


def test_training_rows_that_copy_a_test_row_are_dropped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    story = "a long and winding story about a stone that hurt on its way down told in one breath"
    rows = f"question,answer,split\n{story},Gout,test\nBefore: {story}.,Gout,train\nsomething else,Gout,train\n"
    assert [case.question for case in load_cases(str(write(tmp_path, "a.csv", rows)), "train")] == ["something else"]
    assert "1 training cases left out, 1 overlap" in caplog.text
