"""`pmtrain report`: one file that needs nothing else, with the figures of eval, for every reader and every screen."""

from __future__ import annotations

import json
import re
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from pmtrain.evaluation.report.page import HEADINGS
from pmtrain.evaluation.robustness.suite import SHIFTS
from pmtrain.metrics import MEASURES
from tests.conftest import QUICK

CLASS = "<script>alert('ill')</script> & co"  # a label is any text, and has to stay text
VOID = {"meta", "img", "br", "hr", "link", "input"}
INLINE = {"a", "strong", "code"}


class Page(HTMLParser):
    """The elements of a page in their order, each with its attributes and its text; markup that is unbalanced fails."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[list[str]] = []
        self.open: list[int] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.texts.append([])
        if tag not in VOID:
            self.open.append(len(self.elements) - 1)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.texts.append([])

    def handle_endtag(self, tag):
        assert self.elements[self.open[-1]][0] == tag
        if tag not in INLINE:
            self.handle_data(" ")
        self.open.pop()

    def handle_data(self, data):
        for number in self.open:
            self.texts[number].append(data)

    def all(self, *tags: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.elements if tag in tags]

    def text(self, tag: str, **attributes: str) -> str:
        wanted = {name.replace("_", "-"): value for name, value in attributes.items()}
        return next(
            " ".join("".join(text).split())
            for (name, has), text in zip(self.elements, self.texts, strict=True)
            if name == tag and wanted.items() <= has.items()
        )


@pytest.fixture(scope="module")
def data(small_set, tmp_path_factory) -> Path:
    """The small set as a table, with patients, a further column, and a class whose name is markup."""
    table = tmp_path_factory.mktemp("table") / "labels.csv"
    rows = ["path,label,split,patient,sex"]
    for number, file in enumerate(sorted(small_set.rglob("*.png"))):
        split, kind = file.parent.parent.name, file.parent.name
        label = f'"{CLASS}"' if kind == "sick" else "well"
        rows.append(f"{file},{label},{split},{split}-{number // 2},{'fm'[number % 2]}")
    table.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return table


def invoke(*arguments: object):
    from typer.testing import CliRunner

    from pmtrain.cli import app

    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory) -> tuple[Path, str]:
    """A finished run, which wrote its report itself, and what it said on stderr."""
    folder = tmp_path_factory.mktemp("reported") / "run & more"
    options = ("--data", data, "--positive", CLASS, "--epochs", 2, "--output", folder, *QUICK, "--report")
    return folder, invoke("train", *options).stderr


@pytest.fixture(scope="module")
def run(trained, checkpoint, tmp_path_factory) -> Path:
    """The same with weights whose scores differ, both classes being called wrongly now and then, and its report."""
    folder = shutil.copytree(trained[0], tmp_path_factory.mktemp("swapped") / "run & more")
    shutil.copy(checkpoint, folder / "best.pdparams")
    side = json.loads(checkpoint.with_suffix(".json").read_text(encoding="utf-8")) | {"class_names": ["well", CLASS]}
    (folder / "best.json").write_text(json.dumps(side), encoding="utf-8")
    assert invoke("report", folder).stdout == f"{folder / 'report.html'}\n"
    return folder


@pytest.fixture(scope="module")
def page(run) -> Page:
    return Page((run / "report.html").read_text(encoding="utf-8"))


def test_training_ends_with_its_report_and_one_line_about_it(trained):
    folder, said = trained
    assert said.splitlines()[-1] == f"report: {folder / 'report.html'}"
    assert "images, split:" not in said  # eval's own notices stay out of the training's
    assert not list(folder.glob("*.tmp"))
    Page((folder / "report.html").read_text(encoding="utf-8"))


def test_training_writes_the_report_that_the_command_would(trained):
    file = trained[0] / "report.html"
    pages = [file.read_text(encoding="utf-8")]
    invoke("report", trained[0])
    pages.append(file.read_text(encoding="utf-8"))
    first, second = (re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "", page) for page in pages)  # when it was made
    assert first == second


def test_it_has_the_figures_that_eval_writes(run_cli, run, page):
    done = run_cli("eval", run, "--workers", 0, "--batch-size", 4, "--output", "out")
    assert done.exit_code == 0, done.stderr
    written = json.loads(Path("out/metrics.json").read_text(encoding="utf-8"))
    measures, short = page.text("section", aria_labelledby="measures"), page.text("section", aria_labelledby="summary")
    assert len(written["metrics"]) == len(MEASURES)
    for name, measured in written["metrics"].items():
        value, interval = measured["value"], measured["interval"]
        figures = MEASURES[name].title + " "
        figures += f"undefined {measured['reason']}" if value is None else f"{value:.4f} "
        if value is not None and interval["low"] is not None:
            figures += f"{interval['low']:.3f} to {interval['high']:.3f}"
        assert figures in measures
        if name in ("auc", "sensitivity", "specificity") and value is not None:
            assert f"{MEASURES[name].title} {value:.4f} " in short
            if interval["low"] is not None and interval["low"] < interval["high"]:
                between = f"95 % CI {interval['low']:.3f} to {interval['high']:.3f}"
                assert f"{MEASURES[name].title} {value:.4f} {between}" in short
    positive = f"{written['positives']} {CLASS}, {written['negatives']} well"
    assert f"{written['images']} validation images, {written['patients']} patients: {positive}" in short
    assert written["exploratory"] and "EXPLORATORY" in short
    for reason in written["exploratory_reasons"]:
        assert reason[1:] in short
    assert "Not tested External data" in short
    assert "no shortcut baseline" in short
    assert "Subgroups" in short
    assert "bootstrap by patient (4)" in measures
    counts = written["confusion_matrix"]
    table = page.text("section", aria_labelledby="confusion")
    for row in (("tn", "fp"), ("fn", "tp")):
        shares = [counts[kind] / sum(counts[each] for each in row) for kind in row]
        assert " ".join(f"{counts[k]} {100 * s:.1f} % of class" for k, s in zip(row, shares, strict=True)) in table
    assert written["weights_sha256"] in page.text("section", aria_labelledby="again")
    assert written["data_fingerprint"] in page.text("section", aria_labelledby="data")


def test_every_section_is_there_with_what_the_run_left(run, page):
    assert [attributes["id"] for attributes in page.all("h2")] == list(HEADINGS)
    for name, title in HEADINGS.items():
        assert page.text("section", aria_labelledby=name).startswith(title)
    info = json.loads((run / "run.json").read_text(encoding="utf-8"))
    again = page.text("section", aria_labelledby="again")
    assert " ".join(info["command"].split()) in again
    for line in (run / "config.yaml").read_text(encoding="utf-8").splitlines():
        assert " ".join(line.split()) in again
    for name in ("numpy", "revision", "processor"):
        assert f"{name} {info['environment'][name]}" in again
    assert "training 6 6 12 50.0 %" in page.text("section", aria_labelledby="data")
    for row in (run / "metrics.csv").read_text(encoding="utf-8").splitlines()[1:]:
        _, train_loss, val_loss, *_ = row.split(",")
        assert f"{float(train_loss):.4f} {float(val_loss):.4f}" in page.text("section", aria_labelledby="training")
    checks = page.text("section", aria_labelledby="checks")
    assert checks.count("Not checked") == 1  # the shortcut baseline, with --no-shortcut
    assert "EXPLORATORY" in page.text("section", aria_labelledby="summary")
    assert "SYNTHETIC" not in "".join(map("".join, page.texts))


def test_a_reader_without_eyes_or_a_mouse_gets_it_all(page):
    assert page.all("html") == [{"lang": "en"}]
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))
    for attributes in page.all("img"):
        assert attributes["alt"].strip()
    assert len(page.all("svg")) == 7
    for attributes in page.all("svg"):
        assert attributes["role"] == "img"
        assert attributes["aria-label"].strip()
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.elements:
        assert set((attributes.get("aria-labelledby") or "").split()) <= set(ids)
        for name in ("href", "xlink:href"):
            if (attributes.get(name) or "").startswith("#"):
                assert attributes[name][1:] in ids


def test_nothing_is_loaded_and_nothing_runs(run, page):
    text = (run / "report.html").read_text(encoding="utf-8")
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & {tag for tag, _ in page.elements}
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")]
        assert (attributes.get("src") or "data:image/jpeg;base64,").startswith("data:image/jpeg;base64,")
        for name in ("href", "xlink:href"):
            target = attributes.get(name) or "#"
            assert target.startswith("#") or (tag == "a" and target.startswith("https://doi.org/"))
    assert "url(" not in re.sub(r"url\(#[\w-]+\)", "", text)
    assert "@import" not in text
    policy = next(m["content"] for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none';")
    assert len(text) < 3_000_000
    assert CLASS in page.text("h1")  # as text


def test_subgroups_errors_and_another_file_as_asked(run_cli, run):
    done = run_cli("report", run, "--group-by", "sex", "--errors", 2, "--n-boot", 100, "--output", "new/seite.html")
    assert done.exit_code == 0, done.stderr
    assert done.stdout == f"{Path('new/seite.html')}\n"
    page = Page(Path("new/seite.html").read_text(encoding="utf-8"))
    groups = page.text("section", aria_labelledby="subgroups")
    assert re.search(r"\bf 4 \d .*\bm 4 \d ", groups)
    assert len(page.all("img")) in (2, 4)
    again = page.text("section", aria_labelledby="again")
    assert "--group-by sex" in again
    assert "--n-boot 100" in again
    none = run_cli("report", run, "--errors", 0, "--output", "new/seite.html")
    assert none.exit_code == 0, none.stderr  # over the older one
    assert not Page(Path("new/seite.html").read_text(encoding="utf-8")).all("img")
    refused = run_cli("report", run, "--group-by", "camera")
    assert (refused.exit_code, refused.stdout) == (2, "")


def test_images_of_another_place_stand_beside_the_own(run_cli, run, data, page):
    assert "--external NAME=DATA" in page.text("section", aria_labelledby="external")
    options = ("--positive", CLASS, "--n-boot", 100, "--errors", 0, "--output", "page.html")
    done = run_cli("report", run, "--external", f"clinic b={data}", *options)
    assert done.exit_code == 0, done.stderr
    shown = Page(Path("page.html").read_text(encoding="utf-8"))
    section = shown.text("section", aria_labelledby="external")
    assert "Figure internal clinic b" in section
    # This one holds the run's own images, which must not pass for external ones in silence.
    assert "EXPLORATORY: the network was trained on 12 of these 20 images." in section
    assert "warning: external set clinic b: the network was trained on 12 of these 20 images, so" in done.stderr
    assert f"--external 'clinic b={data}'" in shown.text("section", aria_labelledby="again")
    assert "Images 8 (4 positive) 20 (10 positive)" in section  # its own validation images; all of the other set's
    assert "Other external data than clinic b" in shown.text("section", aria_labelledby="summary")
    assert json.loads(Path("page-external.json").read_text(encoding="utf-8"))["external"].keys() == {"clinic b"}
    assert Path("page-external.csv").read_text(encoding="utf-8").count("clinic b,20,10") == 7
    assert (run_cli("report", run, "--external", "nowhere").exit_code, Path("report.html").exists()) == (2, False)


@pytest.mark.slow
def test_curves_of_changed_images_as_asked(run, page, tmp_path):
    assert "Not tested" in page.text("section", aria_labelledby="shift")
    assert "Images changed as other cameras" in page.text("section", aria_labelledby="summary")
    invoke("report", run, "--shift", "stain", "--shift-severities", "5", "--output", tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    shown = Page(text).text("section", aria_labelledby="shift")
    assert "changed as other laboratories and scanners would change them, at severities 5." in shown
    assert all(change in shown for change in SHIFTS["stain"])
    assert "--shift stain --shift-severities 5" in text  # the command that makes the page again
    assert "Images changed as other cameras" not in Page(text).text("section", aria_labelledby="summary")


def test_synthetic_data_are_marked_everywhere(run_cli, run, data, tmp_path):
    folder = tmp_path / "drawn"
    folder.mkdir()
    shutil.copy(data, folder / "labels.csv")
    (folder / "SYNTHETIC.md").write_text("drawn by a program")
    options = ("--positive", CLASS, "--n-boot", 100, "--output", "page.html")
    done = run_cli("report", run, "--data", folder / "labels.csv", *options)
    assert done.exit_code == 0, done.stderr
    page = Page(Path("page.html").read_text(encoding="utf-8"))
    assert page.text("title").startswith("SYNTHETIC")
    assert "no clinical conclusion" in page.text("header")
    for (tag, _), text in zip(page.elements, page.texts, strict=True):
        assert tag != "svg" or "SYNTHETIC" in "".join(text)
    for name in ("measures", "confusion"):
        assert "SYNTHETIC" in page.text("section", aria_labelledby=name)


def test_what_other_checks_found_is_shown(run_cli, run, tmp_path, monkeypatch):
    from pmtrain.evaluation.report import page as page_module

    other = shutil.copytree(run, tmp_path / "other")
    info = json.loads((other / "run.json").read_text(encoding="utf-8"))
    info["leakage"] = {"policy": "warn", "exact_duplicates": 7, "patients": 0, "dropped": 0, "files": []}
    (other / "run.json").write_text(json.dumps(info), encoding="utf-8")
    as_report = page_module.as_report
    found = {"features": ["file size"], "auc": {"value": 0.71875, "low": 0.5, "high": 0.9}}
    monkeypatch.setattr(page_module, "as_report", lambda evaluation: as_report(evaluation) | {"shortcut": found})
    done = run_cli("report", other, "--n-boot", 100)
    assert done.exit_code == 0, done.stderr
    checks = Page((other / "report.html").read_text(encoding="utf-8")).text("section", aria_labelledby="checks")
    assert "Identical files in both 7" in checks
    assert "AUC 0.7188 (0.500 to 0.900)" in checks
    assert "Not checked" not in checks


def test_a_report_that_fails_leaves_the_run_as_good(run_cli, small_set, monkeypatch):
    from pmtrain.evaluation import report

    def fail(*_):
        raise RuntimeError("no pen")

    monkeypatch.setattr(report, "report", fail)
    done = run_cli("train", "--data", small_set, "--epochs", 1, "--output", "run", *QUICK, "--report")
    assert done.exit_code == 0, done.stderr
    assert "warning: the run is complete, but its report wasn't written: no pen" in done.stderr
    assert not Path("run/report.html").exists()


def test_what_is_no_run_and_a_run_without_weights_are_refused(run_cli, run, tmp_path):
    done = run_cli("report", tmp_path)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "not a run's folder" in done.stderr
    other = shutil.copytree(run, tmp_path / "stopped", ignore=shutil.ignore_patterns("best.*"))
    (other / "report.html").unlink()
    done = run_cli("report", other)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "this is a bug in pmtrain" not in done.stderr
    assert not (other / "report.html").exists()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Headless Chromium that logs what pages ask for."""
    selenium = pytest.importorskip("selenium.webdriver", reason="selenium isn't installed: no browser to look with")
    programs = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
    chromium = next(filter(None, map(shutil.which, programs)), None)
    driver = shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("no Chromium with its chromedriver on this machine: the page isn't looked at in a browser")
    options = selenium.ChromeOptions()
    options.binary_location = chromium
    profile = tmp_path_factory.mktemp("profile")
    flags = "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking"
    flags += f" disable-component-update disable-sync user-data-dir={profile}"
    for flag in flags.split():
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = selenium.Chrome(options=options, service=selenium.ChromeService(driver))
    yield browser
    browser.quit()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="the fixture looks for Chromium by its names on Linux and macOS")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_it_from_disk_with_no_request_and_no_complaint(browser, run, width, scheme):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500},
    )
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "screen", "features": features})
    browser.get_log("browser"), browser.get_log("performance")
    file = run / "report.html"
    browser.get(file.as_uri())
    assert browser.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    requests = [message["params"] for message in messages if message["method"] == "Network.requestWillBeSent"]
    # The browser's own start page may still be asking for something.
    asked = {request["request"]["url"] for request in requests if request["documentURL"] == file.as_uri()}
    assert {url for url in asked if not url.startswith("data:")} == {file.as_uri()}
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    lines = "return Array.from(document.querySelectorAll('.confusion th .whole')).map(w => w.getClientRects().length)"
    assert set(browser.execute_script(lines)) == {1}  # no word of a class name is broken
    assert browser.execute_script("return document.querySelector('.verdict').getBoundingClientRect().top") < 900
    for image in browser.find_elements("css selector", "img, svg"):
        box = image.rect
        assert box["width"] > 50
        assert box["x"] + box["width"] <= width + 1
    assert browser.execute_script("return Array.from(document.images).every(i => i.complete && i.naturalWidth > 0)")
    dark = browser.execute_script(
        "return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).every(c => c < 60)"
    )
    assert dark == (scheme == "dark")
