from __future__ import annotations

from dataclasses import replace

import pytest

from compress.profiling.report import document_of, picture_of
from compress.report import markdown, terminal
from compress.results import Estimate, Fastest, ProfileReport
from tests.profiling.reports import LAYERS, model, report, run
from tests.report.rendered import assert_rendered


def markdown_of(found: ProfileReport) -> str:
    return markdown.render(document_of(found))


def test_few_columns_are_one_table_and_many_are_one_for_each_model() -> None:
    runs = [run("onnxruntime", 0.001), run("openvino", 0.002)]
    few = markdown_of(report(model("student.onnx", *runs)))
    assert few.splitlines()[0] == "|  | student.onnx | student.onnx |"
    assert "| runtime | onnxruntime | openvino |" in few
    many = markdown_of(report(model("student.onnx", *runs), model("teacher.onnx", *runs)))
    assert many.startswith(
        "**student.onnx**\n\n|  | onnxruntime | openvino |\n| --- | ---: | ---: |"
    )
    assert "**teacher.onnx**" in many
    assert "| runtime" not in many


def test_every_figure_has_a_row_and_the_unknown_is_said() -> None:
    lines = markdown_of(report(model("m", run("onnxruntime", 0.00123)))).splitlines()
    cells = dict(line.strip("| ").split(" | ") for line in lines[2:] if line.count("|") == 3)
    assert cells["latency, median"] == "1.23 ms"
    assert cells["95% interval"] == "1.22 to 1.24 ms"
    assert cells["p90 (bound)"] == "not known"
    assert cells["MACs a second"] == "8.13 G"
    assert cells["share of peak"] == "90% (88%-93%)"
    assert "of it copies" not in cells
    assert "- MACs count convolutions and matrix products, but not 3 Relu" in lines


def test_copies_and_clocks_of_a_device_are_told() -> None:
    states = {"sm_clock_mhz": "1200 to 1980"}
    cuda = run("onnxruntime-cuda", 0.001, copies_s=0.0002, device=states)
    text = markdown_of(report(model("m", cuda)))
    assert "| of it copies | 200 us |" in text
    assert "- onnxruntime-cuda: sm_clock_mhz 1200 to 1980" in text


def test_the_fastest_is_named_or_said_not_to_be_shown() -> None:
    one = model("m.onnx", run("onnxruntime", 0.001), run("openvino", 0.0013))
    shown = Fastest("onnxruntime", {"openvino": Estimate(1.3, 1.2, 1.4)})
    assert (
        "- **fastest here: onnxruntime, for m.onnx, batch 1; openvino takes 1.30 times as long "
        "(1.20 to 1.40)**" in markdown_of(report(one, fastest=shown))
    )
    assert shown.to_dict()["shown"] is True
    tied = Fastest("onnxruntime", {"openvino": Estimate(1.01, 0.98, 1.03)})
    assert "perhaps the fastest here: onnxruntime" in markdown_of(report(one, fastest=tied))
    assert "(0.98 to 1.03), no difference shown" in markdown_of(report(one, fastest=tied))
    assert tied.to_dict()["no_difference_to"] == ["openvino"]


def test_a_speedup_is_told_for_each_runtime_that_ran_both() -> None:
    runs = [run("onnxruntime", 0.001), run("openvino", 0.002)]
    ratio = Estimate(4.0, 3.9, 4.1)
    both = report(
        model("s.onnx", *runs),
        model("t.onnx", *runs),
        speedup=ratio,
        speedups={"onnxruntime": ratio, "openvino": Estimate(5.0, 4.9, 5.1)},
    )
    told = [line for line in markdown_of(both).splitlines() if "speed-up" in line]
    assert told == [
        "- **speed-up: 4.00 times (95%: 3.90 to 4.10), s.onnx against t.onnx, onnxruntime fp32, "
        "batch 1, 2 threads**",
        "- **speed-up: 5.00 times (95%: 4.90 to 5.10), s.onnx against t.onnx, openvino fp32, "
        "batch 1, 2 threads**",
    ]


def test_layers_say_what_profiling_costs_and_what_could_not_be_matched() -> None:
    one = report(model("m", run("onnxruntime", 0.001)), layers=LAYERS)
    text = markdown_of(one)
    assert "| relu_1_nchwc | Conv | 300 us | 75.0% | 6.00 M | 20.0 G |" in text
    assert "| mean | ReduceMean | 100 us | 25.0% |  |  |" in text
    assert "| tiny | Gemm | below 1 us | 0.0% | 640 |  |" in text
    assert "takes 1.40 times as long as one without (95%: 1.30 to 1.50)" in text
    assert "The layers' MACs sum up to the model's: 6.00 M." in text
    left = replace(LAYERS, unmatched={"node_Conv_7": 2_000_000})
    text = markdown_of(replace(one, layers=left))
    assert "The layers have 6.00 M of 8.00 M MACs" in text
    assert "be assigned to a layer: node_Conv_7." in text


def test_the_whole_on_terminals_and_in_markdown() -> None:
    p90 = Estimate(0.0131, 0.013, 0.0149)
    runs = [
        run(name, 0.0123, p90=p90) for name in ("onnxruntime", "openvino", "torch", "torch-compile")
    ]
    names = [f"stages.{block}.convolution-with-a-long-name/of-its-own" for block in range(3)]
    layers = tuple(
        replace(layer, name=name, kind="Convolution brgconv_avx512_1x1_f32")
        for layer, name in zip(LAYERS.layers, names, strict=True)
    )
    both = report(
        model("s.onnx", *runs),
        model("t.onnx", *runs),
        layers=replace(LAYERS, layers=layers),
        warnings=("The precisions differ.",),
    )
    assert_rendered(document_of(both), "profile-four-runtimes")
    ratio = Estimate(4.0, 3.9, 4.1)
    two = report(
        model("student.onnx", runs[0]),
        model("teacher-of-a-name-that-is-longer-than-the-room.onnx", runs[0]),
        speedup=ratio,
        speedups={"onnxruntime": ratio},
    )
    assert_rendered(document_of(two), "profile-two-models")


@pytest.mark.parametrize(("width", "files"), [(80, 2), (120, 2), (60, 1)])
def test_the_table_fits_its_terminal(width: int, files: int) -> None:
    long = "a-rather-long-name-for-a-network-" * 3 + "v2.onnx"
    models = [model(name, run("onnxruntime", 0.001)) for name in (long, "s.onnx")[:files]]
    lines = terminal.text_of(document_of(report(*models)), width).splitlines()
    table = lines[: next(n for n, line in enumerate(lines) if "share of peak" in line) + 1]
    assert max(map(len, table)) <= width
    assert any("a-ra" in line and "v2.onnx" in line for line in table)
    assert len(table) == 18  # one line each, nothing wrapped
    rows = {line[:15].strip(): line for line in table}
    assert rows["latency, median"].split()[2:] == ["1.00", "ms"] * files  # nothing cut off
    assert rows["size"].split()[-1] == "MB"


def test_the_picture_shows_calls_and_what_they_buy() -> None:
    one = report(model("s.onnx", run("onnxruntime", 0.001)), model("t.onnx", run("openvino", 0.02)))
    latencies, costs = picture_of(one).charts
    assert latencies.x.logarithmic
    first = latencies.series[0]
    assert first.name == "s.onnx, onnxruntime (n = 100; 1 slower, up to 1.1 ms)"
    assert len(first.points) == 99
    assert [rule.x for rule in latencies.rules] == [1.0, 20.0]
    (point,) = costs.series[1].points
    assert point.x == Estimate(20.0, 19.8, 20.2)
    assert point.y == 1.0
    assert "2 threads" in picture_of(one).caption
