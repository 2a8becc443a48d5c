"""What a source gives: a teacher, and what was found and assumed on the way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from compress.spec import Normalization
from compress.training.teacher import Teacher

TeacherT = TypeVar("TeacherT", bound=Teacher, covariant=True)


@dataclass(frozen=True)
class OpenedTeacher(Generic[TeacherT]):
    """A teacher that can be asked, however well it does.

    Attributes:
        teacher: itself.
        sha256: of what it was made of.
        tried: the normalisations that its own was chosen from.
        notes: what was found and assumed, in sentences.
        doubt: why it may not be what it was taken for, the end of a sentence.
    """

    teacher: TeacherT
    sha256: str
    tried: tuple[Normalization, ...]
    notes: tuple[str, ...]
    doubt: str
