"""The example inside the package: its images, and the teacher that goes with them."""

from __future__ import annotations

from compress.data.dataset import load_dataset
from compress.data.sources import embedded_teacher_path
from compress.pipelines.evaluate import evaluate


def test_the_embedded_teacher_is_as_good_as_its_page_says() -> None:
    data = load_dataset("default")
    assert len(data.train) + len(data.validation) >= 6000
    assert len(data.test) >= 2000
    assert data.input_shape == (1, 32, 32)
    found = evaluate(embedded_teacher_path(), data)
    assert found.name == "wrn-16-2"
    assert found.test >= 0.93
    page = embedded_teacher_path().with_name("README.md").read_text(encoding="utf-8")
    assert f"{100 * found.test:.2f}%" in page
