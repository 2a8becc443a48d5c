"""A fixture for those who gate inside their tests.

It is there for who asks for it:

pytest_plugins = ["compress.gate.pytest_plugin"]    in conftest.py, or -p on the command line

def test_the_student_is_as_good_as_the_baseline(compress_check):
    compress_check("student.onnx")
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import pytest

from compress.gate.verdict import Outcome, Verdict


class CompressCheck(Protocol):
    """What the fixture gives."""

    def __call__(
        self,
        candidate: Path | str,
        baseline: Path | str = "compress-baseline.json",
        *,
        undecided: str = "fail",
        **request: Any,
    ) -> Verdict:
        """Fails the test unless the candidate passes.

        Args:
            candidate: an ONNX file.
            baseline: of the same task.
            undecided: "fail" or "skip" the test where a comparison is inconclusive.
            request: further fields of ``compress.gate.check.CheckRequest``, such as
                ``latency=LatencyRule(0.05)`` or ``budget_s=0.002``.
        """
        ...


@pytest.fixture
def compress_check() -> CompressCheck:
    """Judges a candidate beside a baseline, as ``compress check`` does."""
    # Here, so that a test run that gates nothing does not wait for torch.
    from compress.gate.check import CheckRequest, check
    from compress.gate.report import document_of
    from compress.report.terminal import text_of

    def run(
        candidate: Path | str,
        baseline: Path | str = "compress-baseline.json",
        *,
        undecided: str = "fail",
        **request: Any,
    ) -> Verdict:
        if undecided not in ("fail", "skip"):
            raise ValueError(f"undecided is '{undecided}'; it takes 'fail' or 'skip'.")
        verdict = check(CheckRequest(Path(candidate), Path(baseline), **request))
        said = text_of(document_of(verdict))
        if verdict.outcome is Outcome.INCONCLUSIVE and undecided == "skip":
            pytest.skip(said)
        if verdict.outcome is not Outcome.PASS:
            pytest.fail(said, pytrace=False)
        return verdict

    return run
