"""What a drafter answers: the shapes alone. Whether an answer fits is for the rules of plan files to say."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from holdfast.domain.plan import PhaseMode
from holdfast.domain.planfile import PhaseSpec, PlanFile, TaskSpec
from holdfast.domain.suggestions import SuggestionKind
from holdfast.domain.words import slug


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid")


class DraftTask(_Shape):
    """One task. Either `instructions` for a coding agent or `run`, a shell command; never both."""

    title: str = Field(description="A short line that says what is done.")
    key: str = Field("", description="Its name in depends_on: lower-case words joined by hyphens, unique in the plan.")
    instructions: str = Field(
        "", description="What a coding agent shall do, complete enough for one that knows nothing but the repository."
    )
    run: str = Field("", description="A shell command that does the task, where no agent is needed.")
    depends_on: list[str] = Field([], description="Keys of tasks, of this phase or an earlier one, it has to wait for.")
    verify: list[str] = Field([], description="Shell commands that succeed only if the task was done right.")
    agent: str = Field("", description="Leave empty, unless an agent was named to you.")

    def spec(self) -> TaskSpec:
        """Gives the task as plan files have it; a key is made of the title where there is none."""
        return TaskSpec(
            key=self.key.strip() or slug(self.title),
            title=self.title.strip(),
            instructions=self.instructions,
            run=self.run,
            agent=self.agent.strip(),
            depends_on=tuple(self.depends_on),
            verify=tuple(self.verify),
        )


class DraftPhase(_Shape):
    """Tasks that belong together; a phase begins when the one before it is done."""

    title: str = Field(description="A short line, unique in the plan.")
    mode: PhaseMode = Field(
        PhaseMode.SEQUENTIAL,
        description="sequential: one task after the other in one worktree. parallel: side by side, each in a worktree "
        "of its own, merged after it; only for tasks that do not touch the same lines. manual: a person starts each.",
    )
    tasks: Annotated[list[DraftTask], Field(min_length=1)]

    def spec(self) -> PhaseSpec:
        return PhaseSpec(title=self.title.strip(), mode=self.mode, tasks=tuple(task.spec() for task in self.tasks))


class DraftPlan(_Shape):
    """A whole plan."""

    title: str = Field(description="A short line that names the plan.")
    description: str = Field("", description="What will be true when it is done, and what was taken for granted.")
    phases: Annotated[list[DraftPhase], Field(min_length=1)]

    def spec(self) -> PlanFile:
        return PlanFile(
            title=self.title.strip(),
            description=self.description,
            phases=tuple(phase.spec() for phase in self.phases),
        )


class TaskChanges(_Shape):
    """What changes about a task; what is left out, or null, stays as it is."""

    title: str | None = None
    instructions: str | None = None
    run: str | None = None
    depends_on: list[str] | None = None
    verify: list[str] | None = None


class DraftSuggestion(_Shape):
    """One change to a plan. Which of the other fields it needs depends on its kind."""

    kind: SuggestionKind
    target: str = Field(
        description="add_task, reorder: the title of the phase. modify_task, break_down_task, retry_task, skip_task: "
        "the key of the task; the last two only for one that has failed. "
        "add_phase: the title of the phase it comes after, empty for the first place."
    )
    reasoning: str = Field(description="Why, in a sentence or two that a person can decide by.")
    task: DraftTask | None = Field(None, description="add_task: the new task.")
    after: str = Field("", description="add_task: the key of the task it comes after in its phase; empty for the end.")
    changes: TaskChanges | None = Field(None, description="modify_task, retry_task: what changes about it.")
    order: list[str] = Field([], description="reorder: the keys of all tasks of the phase in their new order.")
    phase: DraftPhase | None = Field(None, description="add_phase: the new phase with its tasks.")
    parts: list[DraftTask] = Field([], description="break_down_task: the smaller tasks that take its place.")


class DraftReview(_Shape):
    """What is suggested, the most useful first; none if the plan is good as it is."""

    suggestions: Annotated[list[DraftSuggestion], Field(max_length=50)]


class DraftAnswer(_Shape):
    """The answer to a question."""

    answer: str = Field(description="The whole answer, as Markdown.", min_length=1)
