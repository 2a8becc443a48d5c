from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from compress.training import kept as keeping
from compress.training.outputs import ComputedOutputs, OutputsByTeacher
from compress.training.runfolder import RunFolder
from compress.training.stopping import StopSignals
from tests.training.toy import OPTIONS, Listener, same, stripes, train


class Heard(Exception):
    """What the handler of these tests does."""


@pytest.fixture(autouse=True)
def handler() -> Iterator[None]:
    """SIGTERM raises ``Heard``, so that it does not end the tests."""

    def hear(*_: object) -> None:
        raise Heard

    before = signal.signal(signal.SIGTERM, hear)
    yield
    signal.signal(signal.SIGTERM, before)


def test_a_signal_waits_until_it_is_obeyed() -> None:
    noted = []
    with StopSignals() as stop:
        noted.append(stop.received)
        signal.raise_signal(signal.SIGTERM)
        noted.append(stop.received)
        with pytest.raises(Heard):
            stop.raise_signal()
        noted.append(stop.received)
    assert noted == [False, True, False]


def test_a_second_signal_acts_at_once() -> None:
    with StopSignals() as stop:
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(Heard):
            signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            stop.raise_signal()


def test_a_signal_that_nobody_looked_at_is_obeyed_at_the_end() -> None:
    with pytest.raises(Heard), StopSignals():
        signal.raise_signal(signal.SIGTERM)


def test_what_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with StopSignals() as stop:
            signal.raise_signal(signal.SIGINT)
            assert not stop.received
    finally:
        signal.signal(signal.SIGINT, before)


def test_handlers_are_given_back() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with StopSignals():
        assert signal.getsignal(signal.SIGTERM) is not before[0]
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_another_thread_can_train_too() -> None:
    done: list[bool] = []

    def work() -> None:
        with StopSignals() as stop:
            done.append(stop.received)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [False]


@pytest.mark.parametrize(
    ("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Heard)]
)
def test_a_training_is_saved_before_it_obeys(
    tmp_path: Path, number: signal.Signals, raised: type[BaseException]
) -> None:
    data = stripes()
    whole, _ = train(data)
    folder, listener = RunFolder(tmp_path, {}), Listener()

    def send(step: int) -> None:
        if step == 8:
            signal.raise_signal(number)

    with pytest.raises(raised):
        train(data, folder=folder, listener=listener, on_step=send)
    # The step in which the signal came is finished first.
    said = "step 3 of 6 of epoch 2 of 4"
    assert listener.messages == [f"Stopped after {said}; its state is saved."]
    resumed, _ = train(data, folder=folder, listener=listener)
    assert listener.messages[1] == f"Resuming after {said}."
    assert same(whole, resumed)


@pytest.mark.parametrize("views", [1, 2])
def test_a_training_stops_while_the_teacher_is_asked_about_all_images(
    tmp_path: Path, views: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, options = stripes(), replace(OPTIONS, views=views)
    monkeypatch.setattr(keeping, "EVALUATION_BATCH", 10)
    whole, _ = train(data, "kd", options=options)
    folder, listener = RunFolder(tmp_path, {}), Listener()
    ask = ComputedOutputs.__call__
    # Within the last view.
    parts, when = [0], 10 * (views - 1) + 3

    def send(source: ComputedOutputs, *given: Any) -> OutputsByTeacher:
        parts[0] += 1
        if parts[0] == when:
            signal.raise_signal(signal.SIGTERM)
        return ask(source, *given)

    monkeypatch.setattr(ComputedOutputs, "__call__", send)
    with pytest.raises(Heard):
        train(data, "kd", options=options, folder=folder, listener=listener)
    assert parts[0] == when
    said = f"epoch {views - 1} of 4"
    assert listener.messages == [f"Stopped after {said}; its state is saved."]
    resumed, _ = train(data, "kd", options=options, folder=folder, listener=listener)
    assert listener.messages[1] == f"Resuming after {said}."
    assert same(whole, resumed)
