"""`pmtrain trace-shapes`: to the byte as the notes printed it, and its other formats."""

from __future__ import annotations

import json

import pytest

from pmtrain.models.trace import chinese


def test_text_is_the_notes_print_to_the_byte(run_process, reference):
    # A console that was opened in another encoding gets the same bytes.
    done = run_process("trace-shapes", env={"PYTHONIOENCODING": "gbk"})
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == (reference / "trace-resnet50-b10.txt").read_bytes()


def test_again_in_one_process_is_the_same(run_cli):
    options = ("trace-shapes", "--batch-size", "1", "--image-size", "32")
    first = run_cli(*options)
    assert first.exit_code == 0, first.stderr
    assert "\nconv2d_0 [1, 64, 16, 16] [64, 3, 7, 7] [ 64 ]\n" in first.stdout
    assert run_cli(*options).stdout == first.stdout


@pytest.mark.parametrize(
    ("layers", "counts"),
    [
        (18, "二二二二"),
        (34, "三四六三"),
        (50, "三四六三"),
        (101, ["三", "四", "二十三", "三"]),
        (152, ["三", "八", "三十六", "三"]),
    ],
)
def test_headings_count_their_own_blocks(run_cli, layers, counts):
    done = run_cli("trace-shapes", "--layers", layers, "-b", 1, "--image-size", 32)
    headings = [line for line in done.stdout.splitlines() if line.startswith("#")]
    kind, widths = ("bottleneck", (256, 512, 1024, 2048)) if layers >= 50 else ("basic", (64, 128, 256, 512))
    assert headings == [
        f"#第{stage}个模块 Cout={width} 包括{count}个残差块{kind}Block"
        for stage, width, count in zip("二三四五", widths, counts, strict=True)
    ]


def test_chinese_numerals():
    known = {1: "一", 8: "八", 10: "十", 12: "十二", 20: "二十", 23: "二十三", 36: "三十六", 99: "九十九"}
    assert {number: chinese(number) for number in known} == known


def test_json_totals_are_those_of_the_paper(run_cli):
    done = run_cli("trace-shapes", "--format", "json", "-b", 1)
    content = json.loads(done.stdout)
    # He et al. 2016 give 3.8e9 multiply-adds with the stride on the first 1x1; on the 3x3 it is 4.09e9.
    assert content["totals"] == {"parameters": 23_510_081, "macs": 4_087_138_304}
    assert [row["name"] for row in content["trace"][:3]] == ["conv2d_0", "max_pool2d_0", "conv2d_1"]
    assert content["trace"][-1]["input"] == [1, 2048]


def test_a_basic_block_is_printed_as_the_notes_print_a_bottleneck(run_cli):
    lines = run_cli("trace-shapes", "--layers", 18, "-b", 1, "--image-size", 64).stdout.splitlines()
    assert lines[:9] == [
        "layers= 18",
        "block= 0 depth[block]= 2 Cout=64",
        "basic[ 64 64 True",
        "basic[ 64 64 True",
        "create bnb 2",
        "block= 1 depth[block]= 2 Cout=128",
        "basic[ 128 128 False",
        "basic[ 128 128 True",
        "create bnb 2",
    ]
    start = lines.index("-----print basicBlock: 2")
    assert lines[start : start + 5] == [
        "-----print basicBlock: 2",
        "conv2d_5 [1, 128, 8, 8] [128, 64, 3, 3] [ 128 ]",
        "conv2d_6 [1, 128, 8, 8] [128, 128, 3, 3] [ 128 ]",
        "conv2d_7 [1, 128, 8, 8] [128, 64, 1, 1] [ 128 ]",
        "end block: [1, 128, 8, 8]",
    ]


@pytest.mark.parametrize(
    # torchvision's figures of its models, 1,814,073,344 and 3,663,761,408, with 1 class for their 1000.
    ("layers", "parameters", "macs"),
    [(18, 11_177_025, 1_813_561_856), (34, 21_285_185, 3_663_249_920)],
)
def test_json_totals_of_the_shallow_ones(run_cli, layers, parameters, macs):
    content = json.loads(run_cli("trace-shapes", "--layers", layers, "--format", "json", "-b", 1).stdout)
    assert content["totals"] == {"parameters": parameters, "macs": macs}


def test_table_has_a_row_a_layer_and_totals(run_cli):
    lines = run_cli("trace-shapes", "--format", "table", "-b", 1).stdout.splitlines()
    assert len([line for line in lines if line.startswith("conv2d_")]) == 53
    assert lines[-1].split() == ["total", "23,510,081", "4,087,138,304"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--layers", "20"), "18, 34, 50, 101, 152"),
        (("--format", "xml"), "text, table, json"),
        (("--image-size", "16"), "32"),
    ],
)
def test_bad_options_are_refused(run_cli, options, message):
    done = run_cli("trace-shapes", *options)
    assert done.exit_code in (1, 2)
    assert message in done.stderr
    assert done.stdout == ""
