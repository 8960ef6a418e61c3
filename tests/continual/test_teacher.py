"""The frozen earlier self of a learner."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from continual.teacher import Teacher


class Student(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.base, self.norm, self.head = nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)
        self.drop = nn.Dropout(0.5)
        self.base.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.drop(self.norm(self.base(x))))


@pytest.fixture
def student() -> Student:
    torch.manual_seed(0)
    return Student()


def step(student: Student, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD((p for p in student.parameters() if p.requires_grad), lr=0.1)
    optimizer.zero_grad()
    student.train()
    torch.manual_seed(seed)  # of the dropout
    student(torch.randn(8, 3, generator=generator)).square().mean().backward()
    optimizer.step()


def test_a_copy_stays_what_the_student_was(student) -> None:
    teacher = Teacher(student, "task", decay=0.9)
    teacher.after_step()
    teacher.observe(100)
    assert not teacher.state_dict()["weights"]
    step(student, 1)
    x = torch.randn(5, 3)
    student.eval()
    before = student(x)
    teacher.end_experience()
    step(student, 2)
    assert torch.equal(teacher.model(x), before)
    assert not torch.equal(student.eval()(x), before)
    assert not teacher.model.training
    assert all(not p.requires_grad for p in teacher.model.parameters())


def test_frozen_weights_are_the_students_own(student) -> None:
    """So that a teacher of a large frozen tower costs nothing but what is trained."""
    teacher = Teacher(student, "task", decay=0.9)
    teacher.take()
    assert teacher.model.base.weight is student.base.weight
    assert teacher.model.head.weight is not student.head.weight
    assert set(teacher.state_dict()["weights"]) == {
        *("head.weight", "head.bias", "norm.weight", "norm.bias"),
        *("norm.running_mean", "norm.running_var", "norm.num_batches_tracked"),
    }


def test_a_running_mean_is_that_of_its_closed_form(student) -> None:
    teacher = Teacher(student, "ema", decay=0.75)
    seen = []
    for seed in range(4):
        step(student, seed)
        seen.append(student.head.weight.detach().double().clone())
        teacher.after_step()
    shares = [0.75**3, 0.25 * 0.75**2, 0.25 * 0.75, 0.25]
    wanted = torch.stack([s * w for s, w in zip(shares, seen, strict=True)]).sum(0)
    assert torch.allclose(teacher.model.head.weight.double(), wanted, atol=1e-6)
    assert teacher.model.norm.num_batches_tracked == student.norm.num_batches_tracked


def test_a_copy_is_taken_every_so_many_recordings(student) -> None:
    teacher = Teacher(student, 10, decay=0.9)
    taken = []
    for seed in range(5):
        step(student, seed)
        teacher.observe(4)
        teacher.end_experience()
        taken.append(None if teacher.model is None else teacher.model.head.weight.clone())
    assert taken[0] is taken[1] is None
    assert torch.equal(taken[2], taken[3])
    assert torch.equal(taken[3], taken[4])  # the count begins anew


@pytest.mark.parametrize("kind", ["task", "ema", 8])
def test_it_goes_on_from_its_state(student, kind) -> None:
    def advance(teacher: Teacher, model: Student, seed: int) -> None:
        step(model, seed)
        teacher.after_step()
        teacher.observe(4)
        if seed == 1:
            teacher.end_experience()

    teacher = Teacher(student, kind, decay=0.9)
    for seed in range(2):
        advance(teacher, student, seed)
    other = Student()
    other.load_state_dict(student.state_dict())
    again = Teacher(other, kind, decay=0.9)
    again.load_state_dict(teacher.state_dict())
    for seed in range(2, 5):
        advance(teacher, student, seed)
        advance(again, other, seed)
    x = torch.randn(5, 3)
    assert torch.equal(teacher.model(x), again.model(x))
    assert again.since == teacher.since


def test_a_state_without_a_teacher_is_none(student) -> None:
    teacher = Teacher(student, "task", decay=0.9)
    state = teacher.state_dict()
    teacher.take()
    teacher.load_state_dict(state)
    assert teacher.model is None
