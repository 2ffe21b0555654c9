"""What the agent of a step said."""

from __future__ import annotations

from holdfast.domain.conversation import Conversation, Message, MessageRole
from holdfast.domain.step import Step
from holdfast.store import Connection, conversations, messages

# What is looked through for an agent's last words.
LAST_MESSAGES = 50


def last_words(connection: Connection, step: Step) -> str:
    """Gives what the agent of a step said last; nothing where none spoke."""
    return next(iter(words(connection, step)), "")


def words(connection: Connection, step: Step) -> tuple[str, ...]:
    """Gives what the agent of a step said, the last first, as far as it is at the end of the conversation."""
    head = conversations.head(connection, Conversation(step.plan_id, step.task_id)).message_id
    if head is None:
        return ()
    return tuple(each.content for each in messages.walk_back(connection, head, LAST_MESSAGES) if speaks(each, step))


def speaks(message: Message, step: Step) -> bool:
    spoken = message.role is MessageRole.ASSISTANT and not message.thought and not message.tool_calls
    return spoken and message.step_id == step.id
