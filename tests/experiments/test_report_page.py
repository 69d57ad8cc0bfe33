"""The page, the LaTeX table and the figures: what a person opens."""

import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.colors import to_hex

from experiments.report import drawing, figures, summarise, write
from experiments.report.latex import latex, latex_text
from experiments.report.page import page

COMMAND = "python -m experiments --experiment=architectures --config.model.width=512"
AWKWARD = "a_b <50%> & {c} #1 $x^2~\\"


class Page(HTMLParser):
    """Collects tags with their attributes and checks that they nest."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.texts = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "img", "br", "link", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.texts.append(data)

    def all(self, name):
        return [attributes for tag, attributes in self.tags if tag == name]


@pytest.fixture
def report(tmp_path, make_study, make_records):
    study = make_study()
    records = make_records(study, lost=[("lstm", 3, "diverged")])
    write(tmp_path, study, *records, command=COMMAND)
    return tmp_path / "report"


def test_the_page_stands_alone(report):
    text = (report / "index.html").read_text()
    parsed = Page(text)
    for _, attributes in parsed.tags:
        for name in ("src", "href", "srcset", "data", "action", "poster"):
            assert (attributes.get(name) or "data:").startswith(("data:", "#"))
    assert not re.search(r"@import|fetch\(|XMLHttpRequest|WebSocket|import\(", text)
    assert len(text) < 3_000_000


def test_the_page_can_be_read_by_everyone(report):
    parsed = Page((report / "index.html").read_text())
    assert parsed.all("html") == [{"lang": "en"}]
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in parsed.all("meta")
    assert all(image["alt"] for image in parsed.all("img"))
    assert len(parsed.all("img")) == 3
    assert len(parsed.all("h1")) == len(parsed.all("main")) == 1
    assert all("scope" in attributes for attributes in parsed.all("th"))
    # Each wide table scrolls by itself, also from the keyboard.
    wide = [attributes for attributes in parsed.all("div") if attributes.get("class") == "scroll"]
    assert len(wide) == len(parsed.all("table"))
    assert all(attributes["tabindex"] == "0" for attributes in wide)
    identifiers = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
    labels = {attributes["aria-labelledby"] for _, attributes in parsed.tags if "aria-labelledby" in attributes}
    assert len(identifiers) == len(set(identifiers))
    assert labels <= set(identifiers)


def test_the_page_says_the_verdict_first_and_how_it_was_run(report):
    text = " ".join(" ".join(Page((report / "index.html").read_text()).texts).split())
    text = text[text.index("How it was run") + 1 :]  # the list of the page's parts comes before them
    order = [
        "supported: The CNN",
        "to mlp, points",
        "Learning curves:",
        "Small dots are seeds",
        "Every seed",
        "diverged at step 120",
        COMMAND,
    ]
    places = [text.index(part) for part in order]
    assert places == sorted(places)
    for fact in ("0f3c9a1", "0.10.2", "sequential", "mnist_5000", "CC BY-SA 3.0", "5,000 digits", "model.width = 64"):
        assert fact in text


def test_the_page_escapes_everything(make_study, make_records):
    study = make_study(arms={"<script>alert(1)</script>": {"model.name": "<b>"}}, claims=(), notes=("<i>x</i>",))
    trials, curves = make_records(study)
    text = page(summarise(study, trials, command="<u>"), (), curves)
    body = re.sub(r"<script>\n\"use strict\".*?</script>", "", text, flags=re.DOTALL)
    assert not re.search(r"<(script|b|i|u)>", body)
    assert "alert(1)</script>" not in body
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in body


def awkward(make_study, make_records):
    study = make_study(arms={AWKWARD: {}, "cnn": {}}, claims=())
    trials, _ = make_records(study, lost=[(AWKWARD, 1, "diverged")])
    return summarise(study, trials, command=COMMAND)


def test_latex_escapes_names(make_study, make_records):
    text = latex(awkward(make_study, make_records))
    assert r"a\_b $<$50\%$>$ \& \{c\} \#1 \$x\textasciicircum{}2\textasciitilde{}\textbackslash{}" in text
    body = text[text.index(r"\toprule") : text.index(r"\bottomrule")]
    rows = [line for line in body.splitlines() if line.endswith(r"\\")]
    # Two lines for the head and for each of three arms, ten columns each.
    assert len(rows) == 8
    assert all(len(re.findall(r"(?<!\\)&", row)) == 9 for row in rows)
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")
    assert text.isascii()


def test_latex_keeps_plain_text():
    assert latex_text("learning rate 0.1") == "learning rate 0.1"


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX here")
def test_latex_compiles_with_a_plain_article(tmp_path, make_study, make_records):
    (tmp_path / "table.tex").write_text(latex(awkward(make_study, make_records)))
    head = r"\documentclass{article}\usepackage{booktabs}\begin{document}See Table~\ref{tab:architectures}."
    (tmp_path / "paper.tex").write_text(head + r"\input{table.tex}\end{document}")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-2000:]
    assert "Overfull" not in result.stdout


def test_png_and_pdf_have_the_promised_size(report):
    for name in ("learning_curves", "metric_by_parameters"):
        png = (report / f"figures/{name}.png").read_bytes()
        width = int.from_bytes(png[16:20], "big")
        assert width == 3.3 * 300
        pdf = (report / f"figures/{name}.pdf").read_bytes()
        assert b"CreationDate" not in pdf
        assert b"/Type3" not in pdf
        assert b"/CIDFontType2" in pdf


@pytest.fixture
def drawn(make_study, make_records):
    """The figures' axes for a study; within the figures' style."""

    def draw(*, lost=(), effects=None, **changes):
        study = make_study(**changes)
        trials, curves = make_records(study, lost=lost, effects=effects)
        summary = summarise(study, trials, command=COMMAND)
        return figures.learning_curves(summary, curves).axes[0], figures.metric_by_parameters(summary).axes[0], curves

    with drawing.style():
        yield draw


def test_curves_are_means_over_the_seeds_that_are_left(drawn):
    axes, _, curves = drawn(lost=[("lstm", 3, "diverged")])
    lines = {line.get_label(): line for line in axes.lines}
    assert list(lines) == ["mlp", "cnn", "lstm", "transformer"]
    expected = curves[curves["arm"] == "lstm"].groupby("step")["validation_accuracy"].mean()
    np.testing.assert_allclose(lines["lstm"].get_ydata(), expected)
    # Four bands of single steps, and bands of the whole curve of the three arms without a failure.
    assert len(axes.collections) == 4 + 3


def test_one_seed_has_no_band(drawn):
    axes, points, _ = drawn(seeds=1)
    assert all(
        np.isnan(path.vertices).any() or not path.vertices.size
        for band in axes.collections
        for path in band.get_paths()
    )
    assert np.isfinite(points.get_ylim()).all()


def test_every_seed_is_inside_the_figure(drawn):
    _, axes, _ = drawn(lost=[("lstm", 3, "diverged")])
    low, high = axes.get_ylim()
    dots = [line.get_ydata() for line in axes.lines if line.get_marker() == "."]
    assert sorted(map(len, dots)) == [7, 8, 8, 8]
    assert all(low < value < high for values in dots for value in values)
    assert axes.get_xscale() == "log"
    assert [text.get_text() for text in axes.texts] == ["mlp", "cnn", "lstm", "transformer"]


def test_names_do_not_cover_each_other(drawn):
    _, axes, _ = drawn(effects={"cnn": 0.945, "lstm": 0.945, "transformer": 0.944})
    boxes = [text.get_window_extent() for text in axes.texts]
    assert not any(a.overlaps(b) for index, a in enumerate(boxes) for b in boxes[:index])


def test_arms_of_one_size_stand_side_by_side(drawn):
    _, axes, _ = drawn(arms={"rate 0.1": {}, "rate 0.2": {}}, claims=())
    assert axes.get_xscale() == "linear"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["mlp", "rate 0.1", "rate 0.2"]
    assert axes.get_xlabel() == "670 k parameters each"


def test_nothing_finished(drawn, tmp_path, make_study, make_records):
    lost = [(arm, seed, "crashed") for arm in ("mlp", "cnn", "lstm", "transformer") for seed in range(8)]
    _, points, _ = drawn(lost=lost)
    assert [text.get_text() for text in points.texts] == ["no trial finished"]
    study = make_study()
    trials, curves = make_records(study, lost=lost)
    write(tmp_path, study, trials, curves.drop(columns="validation_accuracy"), command=COMMAND)
    assert (tmp_path / "report/index.html").exists()


def test_arms_differ_in_more_than_colour():
    arms = tuple(f"arm {index}" for index in range(20))
    looks = drawing.looks(arms)
    assert len({(look.color, look.marker) for look in looks.values()}) == 20
    assert len({str(look.line) for look in list(looks.values())[:5]}) == 5


def test_colours_stand_out_on_white():
    def luminance(colour):
        parts = [int(to_hex(colour)[index : index + 2], 16) / 255 for index in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return np.dot(linear, [0.2126, 0.7152, 0.0722])

    for look in drawing.looks(tuple("abcdefg")).values():
        assert 1.05 / (luminance(look.color) + 0.05) > 2


def test_the_callers_matplotlib_settings_are_left_alone(tmp_path, make_study, make_records):
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    study = make_study()
    write(tmp_path, study, *make_records(study), command=COMMAND)
    assert dict(mpl.rcParams) == before
