"""Tables with dates, and everything that may be wrong with them."""

import numpy as np
import pytest

from models.base import BadInput
from train.data.dated import dated
from train.data.files import File

GOOD = "date,a,b\n2020-01-01,1,2\n2020-01-02,3,4\n2020-01-03,5,6\n2020-01-04,7,8\n"


def table(text, **options):
    return dated(File("f.csv", text.encode() if isinstance(text, str) else text), **options)


def test_a_plain_table():
    found = table("\ufeff" + GOOD.replace("\n", "\r\n") + "\n")
    assert found.columns == ("a", "b")
    assert (found.step, found.season, found.filled) == ("1 day", 7, 0)
    np.testing.assert_array_equal(found.values, [[1, 2], [3, 4], [5, 6], [7, 8]])
    np.testing.assert_array_equal(table(GOOD, columns=("b",)).values[:, 0], [2, 4, 6, 8])


@pytest.mark.parametrize(
    ("dates", "step", "season"),
    [
        (["2020-01-01 00:00", "2020-01-01 00:15", "2020-01-01 00:30"], "15 minutes", 96),
        (["2020-01-01T00:00:00Z", "2020-01-01T01:00:00Z", "2020-01-01T02:00:00Z"], "1 hour", 24),
        (["2020-01-01", "2020-02-01", "2020-03-01", "2020-04-01"], "1 month", 12),
        (["2020-01-31", "2020-02-29", "2020-03-31", "2020-04-30"], "1 month", 12),
        (["2020-01-01", "2020-04-01", "2020-07-01"], "3 months", 4),
        (["2020-01-05", "2020-01-12", "2020-01-19"], "7 days", 1),
        (["2020-01-01 00:00:00", "2020-01-01 00:00:10", "2020-01-01 00:00:20"], "10 seconds", 1),
    ],
)
def test_steps_and_their_usual_seasons(dates, step, season):
    found = table("date,a\n" + "".join(f"{date},{i}\n" for i, date in enumerate(dates)))
    assert (found.step, found.season) == (step, season)


def test_other_dates_and_names():
    found = table("tag;x\n".replace(";", ",") + "01.02.20,1\n02.02.20,2\n", date="tag", date_format="%d.%m.%y")
    assert found.dates[1].day == 2


def test_missing_values_are_the_ones_before_where_that_is_wanted():
    text = GOOD.replace("3,4", "NA,4").replace("5,6", ",6")
    with pytest.raises(BadInput, match=r"f\.csv, line 3: the value of column 'a' is missing; take missing=previous"):
        table(text)
    found = table(text, missing="previous")
    np.testing.assert_array_equal(found.values[:, 0], [1, 1, 1, 7])
    assert found.filled == 2
    with pytest.raises(BadInput, match=r"line 2: the value of column 'a' is missing; start the file later"):
        table(GOOD.replace("1,2", "-,2"), missing="previous")


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ("", {}, "f.csv is empty"),
        ("\n\n", {}, "f.csv is blank"),
        (b"date,a\n2020-01-01,\xe9\n", {}, "f.csv is not UTF-8"),
        ("date,a\n2020-01-01,1\n", {}, "has 1 rows below its names; at least 2"),
        ("date\n2020-01-01\n2020-01-02\n", {}, "line 1: there must be a column of numbers"),
        (GOOD.replace("date", "Date"), {}, "unknown column 'date'; did you mean 'Date'"),
        (GOOD, {"columns": ("c",)}, "unknown column 'c'"),
        (GOOD, {"columns": ("date",)}, "a column of numbers beside the dates"),
        (GOOD.replace("a,b", "a,a"), {}, "line 1: every column needs a name of its own; 'a'"),
        (GOOD.replace("a,b", "a,"), {}, "line 1: every column needs a name of its own; ''"),
        (GOOD.replace("5,6", "5"), {}, "line 4 has 2 values; the first line names 3 columns"),
        (GOOD.replace("5,6", "5,6,7"), {}, "line 4 has 4 values"),
        (GOOD.replace("5,6", "5,six"), {}, "line 4, column 'b': 'six' is not a number"),
        (GOOD.replace("5,6", "5,inf"), {}, "line 4, column 'b': 'inf' is not finite"),
        (GOOD.replace("2020-01-03", "03/01/2020"), {}, "line 4: '03/01/2020' is not a date like 2016-07-01"),
        (GOOD, {"date_format": "%d.%m.%y"}, r"line 2: '2020-01-01' is not a date of the format %d\.%m\.%y"),
        (
            GOOD.replace("2020-01-03", "2020-01-02"),
            {},
            "line 4: the date 2020-01-02 00:00:00 is that of the line before",
        ),
        (GOOD.replace("2020-01-03", "2019-01-03"), {}, "line 4: the date 2019-01-03 00:00:00 is earlier"),
        (GOOD.replace("2020-01-04", "2020-01-07"), {}, "line 5: this row comes 4 days after .* most others 1 day"),
        (GOOD.replace("2020-01-03", "2020-01-03T00:00Z"), {}, "some dates have a time zone and some have none"),
        (GOOD.replace("5,6", '"5,6'), {}, "no line of CSV"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(text, options, words):
    with pytest.raises(BadInput, match=words) as error:
        table(text, **options)
    assert str(error.value).startswith("f.csv")
    assert "\n" not in str(error.value)


def test_a_month_that_is_left_out():
    months = [f"2020-{month:02}-01,{month}" for month in (1, 2, 3, 5, 6)]
    with pytest.raises(BadInput, match="line 5: this row comes 2 months after the one before it, most others 1 month"):
        table("\n".join(["date,a", *months]))
