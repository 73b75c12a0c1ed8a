"""A teacher that names classes, asked what its students are asked: what there was to learn from it."""

from __future__ import annotations

from torch import nn

from wisp.encoders.teacher import Teacher
from wisp.evaluate.answers import Answers
from wisp.evaluate.examiner import Examiner


def answers_of(teacher: Teacher, examiner: Examiner) -> Answers | None:
    """What a teacher takes the examiner's test images for, prepared as its own training did; None if it has no word.

    Args:
        teacher: is brought to the examiner's device.
        examiner: of the students; has test images.
    """
    if teacher.classifier is None:
        return None
    asking = Examiner(
        None,
        examiner.test,
        image_size=teacher.own.image_size,
        mean=teacher.own.mean,
        std=teacher.own.std,
        device=examiner.device,
        batch_size=examiner.batch_size,
    )
    return asking.answers(nn.Sequential(teacher.encoder, teacher.classifier).to(examiner.device))
