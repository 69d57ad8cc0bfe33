"""The page in a real browser: nothing is fetched, nothing fails, everything is reached from the keyboard."""

import dataclasses
import io
import json
import shutil

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from experiments.registration import Registration
from experiments.report import across, write

pytestmark = pytest.mark.slow
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
COMMAND = "python -m experiments --experiment=architectures --preset=cpu --workdir=elsewhere"


@pytest.fixture(scope="module")
def browser():
    """Chromium, or a skip that says so: no download is made for it."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("NO CHROMIUM HERE: the page was not tested in a browser")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory, make_study, make_records):
    """A report with a failure, curves with a hole, and an arm whose name is awkward."""
    study = make_study(arms={"cnn": {}, "lstm": {}, "a <b>&amp; 'c', \"d\"": {}}, claims=())
    trials, curves = make_records(study, lost=[("lstm", 3, "diverged")])
    curves["train_loss"] = np.exp(-curves["step"] / 100)
    folder = tmp_path_factory.mktemp("study")
    write(folder, study, trials, curves, command=COMMAND)
    return folder / "report/index.html"


@pytest.fixture
def visit(browser, report):
    """Open the report; any request, message or error but for the file itself fails the test."""
    contexts = []

    def open_page(width=1440, scheme="light", script=True):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, java_script_enabled=script
        )
        contexts.append(context)
        page = context.new_page()
        page.seen = []
        page.on("request", lambda request: page.seen.append(request.url))
        page.on("console", lambda message: page.seen.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: page.seen.append(f"error: {error}"))
        page.goto(report.as_uri())
        return page

    yield open_page
    for context in contexts:
        for page in context.pages:
            fetched = [what for what in page.seen if not what.startswith("data:")]
            assert fetched == [report.as_uri()]
        context.close()


def arms(page):
    return page.eval_on_selector_all("#results tbody tr", "rows => rows.map(row => row.dataset.arm)")


@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_and_has_contrast(visit, width, scheme):
    page = visit(width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    page.locator("#results tbody tr").nth(1).locator("button").nth(2).click()
    assert page.evaluate("document.documentElement.scrollWidth") == width
    box = page.locator("dialog").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= width
    page.keyboard.press("Escape")
    ratios = page.evaluate(CONTRAST)
    assert len(ratios) > 20
    assert min(ratios.values()) >= 4.5, min(ratios.items(), key=lambda item: item[1])


CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgb = (colour) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = (colour) => {
    const part = (value) => (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    return 0.2126 * part(colour[0]) + 0.7152 * part(colour[1]) + 0.0722 * part(colour[2]);
  };
  const ground = (element) => {
    for (; element; element = element.parentElement) {
      const colour = rgb(getComputedStyle(element).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [255, 255, 255, 255];
  };
  const found = {};
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || !element.checkVisibility() || element.closest("script, dialog")) continue;
    const style = getComputedStyle(element), svg = element.namespaceURI.endsWith("svg");
    const [a, b] = [light(rgb(svg ? style.fill : style.color)), light(ground(element))].sort((x, y) => y - x);
    found[`${element.tagName} ${element.className.baseVal ?? element.className} ${element.textContent.trim()}`] =
      (a + 0.05) / (b + 0.05);
  }
  return found;
}"""


def test_the_table_sorts(visit):
    page = visit()
    original = arms(page)
    head = page.locator("#results thead th").nth(2)
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    values = page.eval_on_selector_all(
        "#results tbody tr", "rows => rows.map(row => Number(row.cells[2].dataset.value))"
    )
    assert values == sorted(values)
    head.locator("button").press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    assert arms(page)[0] == "cnn"
    page.locator("#results thead th").nth(3).locator("button").click()
    assert head.get_attribute("aria-sort") is None
    assert arms(page)[-1] == "mlp", "the baseline has no difference and stays last"
    page.locator("#results thead th").nth(3).locator("button").click()
    assert arms(page)[-1] == "mlp"
    page.locator("#results thead th").nth(3).locator("button").click()
    assert arms(page) == original


def test_a_number_tells_where_it_comes_from_by_keyboard_alone(visit):
    page = visit()
    first = page.locator("#results tbody button").first
    first.focus()
    assert page.locator("#results tbody button[tabindex='0']").count() == 1
    for key in ("ArrowDown", "ArrowDown", "ArrowRight", "ArrowRight", "ArrowRight", "Enter"):
        page.keyboard.press(key)
    dialog = page.locator("dialog")
    assert dialog.is_visible()
    assert page.locator("#origin-title").inner_text() == "lstm: difference"
    rows = page.eval_on_selector_all(
        "dialog tbody tr", "rows => rows.map(row => [...row.cells].map(cell => cell.innerText))"
    )
    assert len(rows) == 8
    assert rows[3][2] == "diverged at step 120"
    assert [rows[3][3], rows[3][5]] == ["\N{EN DASH}"] * 2
    difference = float(rows[0][3]) - float(rows[0][4])
    assert float(rows[0][5]) == pytest.approx(difference, abs=0.011)
    assert "model.name mlp -> lstm" in dialog.inner_text()
    command = page.locator("#origin-command")
    assert (
        command.inner_text()
        == "python -m experiments --experiment=architectures --preset=cpu --only=lstm --workdir=again"
    )
    page.locator("dialog tbody button").nth(2).press("Enter")
    assert "--only=lstm-s2 " in command.inner_text()
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
    focused = page.evaluate("document.activeElement.closest('tr').dataset.arm")
    assert focused == "lstm", "the focus returns to the number"


def test_awkward_names_are_only_text(visit):
    page = visit()
    name = "a <b>&amp; 'c', \"d\""
    assert arms(page)[-1] == name
    page.locator("#results tbody tr").last.locator("button").first.click()
    assert page.locator("#origin-title").inner_text().startswith(name)
    assert page.locator("dialog b").count() == 0


def test_curves_can_be_read_chosen_and_scaled(visit):
    page = visit()
    lines = lambda: page.eval_on_selector_all("#curves path.line", "lines => lines.map(line => line.dataset.arm)")  # noqa: E731
    assert lines()[:3] == ["mlp", "cnn", "lstm"]
    page.locator("#curves .arms button", has_text="cnn").click()
    assert "cnn" not in lines()
    assert page.locator("#curves .arms button", has_text="cnn").get_attribute("aria-pressed") == "false"
    stage = page.locator("#curves .chart")
    stage.hover(position={"x": 700, "y": 100})
    tip = page.locator("#curves .tip")
    assert tip.is_visible()
    step = int(tip.locator("strong").inner_text().split()[1])
    data = json.loads(page.locator("#data").text_content())
    curve = data["curves"]["arms"]["mlp"]["validation_accuracy"]
    mean = curve["mean"][curve["step"].index(step)]
    assert f"{mean * 100:.2f}" in tip.inner_text()
    stage.focus()
    page.keyboard.press("End")
    assert tip.locator("strong").inner_text() == "step 500"
    page.keyboard.press("ArrowLeft")
    assert "step 450" in page.locator("#curves [aria-live]").inner_text()
    for option in ("logX", "logY", "seeds", "whole"):
        page.locator(f"#curves input[data-option={option}]").check()
        paths = page.eval_on_selector_all("#curves path", "paths => paths.map(path => path.getAttribute('d')).join()")
        assert "NaN" not in paths
        assert "Infinity" not in paths
    assert page.locator("#curves path.seed").count() == 8 * 3
    page.locator("#curve-column").select_option("train_loss")
    assert "train loss" in page.locator("#curves .chart svg").text_content()
    page.locator("#curves .arms button", has_text="none").click()
    assert lines() == []
    page.locator("#curves .arms button", has_text="all").click()
    assert len(lines()) == 4


def test_the_colours_can_be_changed(visit):
    page = visit(scheme="light")
    ground = "getComputedStyle(document.body).backgroundColor"
    before = page.evaluate(ground)
    page.locator("#theme").press("Enter")
    assert page.evaluate(ground) != before
    assert page.locator("#theme").inner_text() == "Light colours"
    page.reload()
    page.seen.pop()
    assert page.evaluate(ground) != before, "the choice is remembered"


def test_it_reads_without_scripts(visit):
    page = visit(script=False)
    assert page.locator("#curves img").is_visible()
    assert not page.locator("#theme").is_visible()
    assert "97" in page.locator("#results").inner_text()


@pytest.fixture(scope="module")
def whole(tmp_path_factory, make_study, make_records):
    """A report of everything at once: tuning, registration, a grid, another seed."""
    folder = tmp_path_factory.mktemp("whole")
    arms = {f"width {width} rate {rate}": {} for width in (16, 32) for rate in (0.1, 0.2)}
    settings = {arm: arm.split()[1::2] for arm in arms}
    settings["mlp"] = settings.pop("width 32 rate 0.2")
    del arms["width 32 rate 0.2"]
    study = make_study(
        arms=arms,
        claims=(),
        factors=("model.width", "model.dropout_rate"),
        equivalence_margin=0.01,
        again=next(iter(arms)),
    )
    trials, curves = make_records(study)
    trials["model.width"] = [int(settings[arm][0]) for arm in trials["arm"]]
    trials["model.dropout_rate"] = [float(settings[arm][1]) for arm in trials["arm"]]
    tuning = {"trial": ["mlp-t0-s1000", "mlp-t1-s1000"], "arm": "mlp", "number": [0, 1], "seed": 1000, "status": "ok"}
    tuning |= {"value": [0.8, 0.9], "steps": 10, "optimizer.learning_rate": [0.1, 0.2]}
    pd.DataFrame(tuning).to_csv(folder / "tuning.csv", index=False)
    winner = {
        "winner": {"optimizer.learning_rate": 0.2},
        "value": 0.9,
        "edges": ["optimizer.learning_rate"],
        "trials": 2,
    }
    outcome = {"column": "validation_accuracy", "higher_is_better": True, "trials": 2, "steps": 10, "seeds": 1}
    outcome |= {"search": "sobol", "pruning": "none"}
    outcome["arms"] = {"mlp": winner, next(iter(arms)): {"winner": {}, "value": None, "edges": [], "trials": 0}}
    (folder / "tuning.json").write_text(json.dumps(outcome))
    registered = Registration(digest="ab" * 32, time="2026-01-01T00:00:00Z", arms=("mlp",), seeds=(0, 1))
    write(folder, study, trials, curves, command=COMMAND, registration=registered)
    return folder / "report/index.html"


@pytest.mark.parametrize("width", [390, 1440])
def test_a_report_of_everything_fits_and_says_it(browser, whole, width):
    context = browser.new_context(viewport={"width": width, "height": 900})
    page, seen = context.new_page(), []
    page.on("console", lambda message: seen.append(message.text))
    page.on("pageerror", lambda error: seen.append(str(error)))
    page.goto(whole.as_uri())
    assert seen == []
    assert page.evaluate("document.documentElement.scrollWidth") == width
    text = page.locator("body").inner_text()
    for said in (
        "at the edge",
        "sha256 abababababab",
        "as declared",
        "A/A",
        "equal?",
        "brighter is better",
        "Expected best",
    ):
        assert said in text
    assert "\N{DAGGER}" in page.locator("#results").inner_text()
    context.close()


@pytest.mark.parametrize("width", [390, 1440])
def test_several_studies_on_one_page(browser, tmp_path, make_study, make_records, width):
    folders = []
    for place, name in enumerate(("digits", "letters", "signs")):
        study = make_study(name=name, claims=())
        trials, _ = make_records(study)
        trials["test_accuracy"] -= 0.1 * place
        folder = tmp_path / name
        folder.mkdir()
        trials.to_csv(folder / "trials.csv", index=False)
        document = {"study": name, "preset": "cpu", "claim": "", "source": "", "baseline": "mlp", "seeds": [*range(8)]}
        document |= {"metric": dataclasses.asdict(study.metric), "arms": {"mlp": {}, **dict(study.arms)}}
        document["trials"] = trials[["trial", "config_hash"]].to_dict("records")
        (folder / "study.json").write_text(json.dumps(document))
        folders.append(str(folder))
    place = across.compare(folders, tmp_path / "out", Console(file=io.StringIO()), accept_mixed=False)
    context = browser.new_context(viewport={"width": width, "height": 900})
    page, seen = context.new_page(), []
    page.on("console", lambda message: seen.append(message.text))
    page.on("pageerror", lambda error: seen.append(str(error)))
    page.on("request", lambda request: seen.append(request.url) if not request.url.startswith("data:") else None)
    page.goto((place / "index.html").as_uri())
    assert seen == [(place / "index.html").as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth") == width
    button = page.locator("thead button").nth(4)
    button.click()
    button.click()
    assert page.locator("tbody tr").first.locator("th").inner_text().startswith("cnn")
    assert min(page.evaluate(CONTRAST).values()) >= 4.5
    context.close()
