"""The benchmarks' arithmetic and their command lines; what they measure is nobody's to assert."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from pmtrain.data.images.read import read_image

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"


@pytest.fixture
def turns(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from bench import turns

    return turns


def test_a_summary_holds_the_median_and_the_quartiles(turns):
    runner = turns.Runner("one", Path(sys.executable), {}, times=[5.0, 1.0, 3.0, 2.0, 4.0])
    row = turns.summary(runner)
    assert (row["median"], row["low"], row["high"], row["best"]) == (3.0, 2.0, 4.0, 1.0)
    assert turns.summary(turns.Runner("none", Path(sys.executable), {}, error="why"))["error"] == "why"


def test_a_ratio_compares_the_turns_of_one_round(turns):
    # The machine halves its speed after the first round; the runners' ratio stays.
    rows = [{"runner": "a", "times": [1.0, 2.0, 2.0]}, {"runner": "b", "times": [2.0, 4.0, 4.0]}]
    assert turns.ratio(rows, "a", ["b"]) == 0.5
    assert turns.ratio(rows, "a", ["missing"]) is None


def test_the_best_other_is_the_one_of_the_lowest_median(turns):
    rows = [{"runner": name, "times": [time]} for name, time in (("a", 3.0), ("b", 4.0), ("c", 2.0))]
    assert turns.ratio(rows, "a", ["b", "c"]) == 1.5


def test_a_table_is_markdown(turns):
    table = turns.table(
        [{"name": "x", "value": 2.5}], {"runner": lambda row: row["name"], "s": lambda row: row["value"]}
    )
    assert table.splitlines() == ["| runner | s   |", "|--------|-----|", "| x      | 2.5 |"]


@pytest.mark.parametrize("script", ["bench_train.py", "bench_eval.py", "bench_data.py", "bench_serve.py"])
def test_the_command_line_explains_itself_and_needs_the_standard_library_alone(script):
    command = [sys.executable, "-S", str(SCRIPTS / script), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    assert "--rounds" in done.stdout


def test_a_worker_says_what_failed(turns):
    runner = turns.Runner("no-such-runner", Path(sys.executable), {"work": "train", "warm": 0})
    runner.start()
    assert "no-such-runner" in runner.error
    runner.turn()
    assert runner.times == []


@pytest.fixture
def bench_data(turns):
    import bench_data

    return bench_data


def test_copies_are_the_photographs_and_no_two_are_the_same(bench_data, tmp_path):
    source, target = tmp_path / "照片", tmp_path / "copies"
    (source / "below").mkdir(parents=True)
    target.mkdir()
    pictures = {name: np.full((4, 4, 3), shade, np.uint8) for name, shade in (("a.png", 10), ("below/b.jpg", 200))}
    for name, picture in pictures.items():
        (source / name).write_bytes(cv2.imencode(Path(name).suffix, picture)[1].tobytes())
    assert bench_data.copy(source, target, 5) == 5
    copies = sorted(target.iterdir())
    assert len({path.read_bytes() for path in copies}) == 5
    shades = [int(read_image(path)[0, 0, 0]) for path in copies]
    assert shades == [10, 200, 10, 200, 10]


def test_synthetic_files_are_drawn_each_its_own(bench_data, tmp_path):
    assert bench_data.draw(tmp_path, 4) == 4
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 4
    assert all(read_image(path).shape == (96, 96, 3) for path in tmp_path.iterdir())


def test_loaders_are_compared_with_the_better_peer_and_with_decoding_alone(bench_data):
    def row(loader, epoch, seconds):
        return {"runner": f"{loader}-{epoch}", "loader": loader, "epoch": epoch, "times": [seconds]}

    rows = [row("pmtrain-notes", "first", 2.0), row("pmtrain-notes", "later", 0.5), row("decoding-notes", "first", 1.6)]
    rows += [row("torch-opencv", "first", 5.0), row("torch-pillow", "first", 4.0), row("torch-opencv", "later", 4.0)]
    assert list(bench_data.compare(rows).values()) == [2.0, 1.25, 8.0]


def test_a_loader_says_how_many_images_it_loaded_and_what_it_took(bench_data, turns, tmp_path):
    bench_data.draw(tmp_path, 7)
    scratch = tmp_path.parent / f"{tmp_path.name} scratch"
    scratch.mkdir()
    options = {"work": "load", "warm": 0, "images": str(tmp_path), "folder": str(scratch)}
    options |= {"workers": 0, "batch_size": 3, "image_size": 32}
    for name in ("pmtrain-notes-first", "pmtrain-notes-later"):
        runner = turns.Runner(name, Path(sys.executable), options)
        runner.start()
        if name.endswith("later"):  # which reads no photograph any more
            for path in tmp_path.iterdir():
                path.unlink()
        runner.turn()
        runner.close()
        assert list(scratch.iterdir()) == []
        assert (runner.error, runner.report["images"], len(runner.times)) == ("", 7, 1)
        assert runner.report.get("rss_mib", 1) > 0


def test_a_percentile_is_a_value_that_was_measured(turns):
    from bench_serve import percentile

    values = [float(number) for number in range(100, 0, -1)]
    assert [percentile(values, percent) for percent in (50, 95, 99, 100)] == [50, 95, 99, 100]
    assert percentile([3.0, 1.0], 50) == 1.0 and percentile([3.0, 1.0], 99) == 3.0


def test_a_ring_moves_each_byte_twice_less_its_own_share(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from bench_scale import ring

    assert ring(1, 100e6, 1e9, 1e-3) == 0
    # Of two, each sends a half and gets a half, twice: 100 MB at 1 GB/s, and two messages.
    assert ring(2, 100e6, 1e9, 1e-3) == pytest.approx(0.1 + 0.002)
    assert ring(4, 100e6, 1e9, 1e-3) == pytest.approx(0.15 + 0.006)


def test_strangers_of_every_drawn_kind_are_pictures_that_differ(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import bench_domain

    monkeypatch.setattr(bench_domain, "COUNT", 2)
    drawn = [kind for name, kind in bench_domain.KINDS.items() if name.endswith("SYNTHETIC")]
    assert len(drawn) >= 8
    for kind in drawn:
        first, second = kind.pictures()
        assert first.dtype == np.uint8 and first.ndim == 3 and first.shape[2] == 3
        assert (first != second).any()
    (part, *_) = bench_domain.parts([first], 3)
    assert part.shape[0] == part.shape[1] < first.shape[0]
