"""A drafter behind a model's API: any provider that pydantic-ai knows, its key taken from the environment."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from holdfast.domain.conversation import TokenUsage
from holdfast.errors import Unavailable, UsageError, UserError
from holdfast.planner.drafting import Answer

if TYPE_CHECKING:
    from pydantic_ai.messages import ModelMessage, ModelResponse
    from pydantic_ai.models import Model
    from pydantic_ai.providers import Provider

TOOL = "answer"
# Of its own accord the client repeats what was turned away or cut off, waiting as long as the server asks.
RETRIES = 2


class ModelDrafter:
    """A `Drafter`: one conversation with the model `name` ("provider:model")."""

    def __init__(self, name: str, *, base_url: str = "", timeout_seconds: float, max_tokens: int) -> None:
        """Raises `UsageError` for a name that pydantic-ai does not know, `Unavailable` where a key is missing."""
        self.name = name
        self._timeout_seconds = timeout_seconds
        self._max_tokens = max_tokens
        self._model = _model(name, base_url)
        self._said: list[ModelMessage] = []
        self._open_call = ""

    async def __call__(self, prompt: str, schema: Mapping[str, Any]) -> Answer:
        from pydantic_ai.direct import model_request
        from pydantic_ai.models import ModelRequestParameters
        from pydantic_ai.settings import ModelSettings
        from pydantic_ai.tools import ToolDefinition

        told = "Gives your answer. Call it once, with all of it."
        tool = ToolDefinition(name=TOOL, parameters_json_schema=dict(schema), description=told)
        # Text is allowed, and read as well: some models cannot think and be forced to call a tool.
        parameters = ModelRequestParameters(output_mode="tool", output_tools=[tool], allow_text_output=True)
        settings = ModelSettings(
            max_tokens=self._max_tokens, timeout=self._timeout_seconds, max_retries=RETRIES, parallel_tool_calls=False
        )
        asked = [*self._said, self._request(prompt)]
        with _failures(self.name, self._timeout_seconds):
            async with self._model:
                response = await model_request(
                    self._model, asked, model_settings=settings, model_request_parameters=parameters
                )
        self._said = [*asked, response]
        self._refuse_cut_off(response)
        return Answer(self._text(response), _usage(response))

    def _request(self, prompt: str) -> ModelMessage:
        """What is said after a tool was called has to be the result of that call."""
        from pydantic_ai.messages import ModelRequest, ToolReturnPart, UserPromptPart

        if self._open_call:
            return ModelRequest([ToolReturnPart(tool_name=TOOL, content=prompt, tool_call_id=self._open_call)])
        return ModelRequest([UserPromptPart(prompt)])

    def _text(self, response: ModelResponse) -> str:
        calls = [call for call in response.tool_calls if call.tool_name == TOOL]
        self._open_call = calls[0].tool_call_id if calls else ""
        if not calls:
            return response.text or ""
        arguments = calls[0].args
        return arguments if isinstance(arguments, str) else json.dumps(arguments or {})

    def _refuse_cut_off(self, response: ModelResponse) -> None:
        if response.finish_reason == "content_filter":
            said = (response.text or "").strip()
            raise UserError(
                f"{self.name} refused to answer" + (f": {said[:500]}" if said else ""),
                hint="nothing was stored; say the request differently, or try another model with --model",
                code="model_refused",
            )
        if response.finish_reason == "length":
            raise UserError(
                f"the answer of {self.name} was cut off at {self._max_tokens} tokens",
                hint="allow more with HOLDFAST_PLANNER_MAX_TOKENS, or ask for less at a time",
                code="model_cut_off",
            )


def _model(name: str, base_url: str) -> Model:
    if not all(name.partition(":")):
        raise UsageError(f"{name!r} does not name a model", hint=_NAMES, code="model_unknown")
    try:
        from pydantic_ai.exceptions import UserError as BadModel
        from pydantic_ai.models import infer_model
        from pydantic_ai.providers import infer_provider, infer_provider_class
    except ImportError as error:
        raise Unavailable(f"pydantic-ai cannot be loaded: {error}", hint="install holdfast again") from error

    def provider(kind: str) -> Provider[Any]:
        # Not every provider has an address to set; those say so with a TypeError.
        made: Any = infer_provider_class(kind)
        return made(base_url=base_url) if base_url else infer_provider(kind)

    try:
        return infer_model(name, provider_factory=provider)
    except BadModel as error:
        missing_key = "key" in error.message.lower()
        if missing_key:
            raise Unavailable(error.message, hint="set it in the environment", code="model_key_missing") from error
        raise UsageError(error.message, hint=_NAMES, code="model_unknown") from error
    except ImportError as error:
        raise Unavailable(f"the provider of {name} is not installed: {error}", hint=_NAMES) from error
    except (TypeError, ValueError) as error:
        raise UsageError(f"the model {name!r} cannot be used: {error}", hint=_NAMES, code="model_unknown") from error


_NAMES = "name it as provider:model, e.g. anthropic:claude-opus-5, openai:gpt-6-sol, google:gemini-3.5-flash"


_THOUGHTS = ("reasoning_tokens", "thoughts_tokens", "thinking_tokens")


def _usage(response: ModelResponse) -> TokenUsage:
    used = response.usage
    # Each provider has its own name for them; all count them as output.
    thoughts = next((int(used.details[name]) for name in _THOUGHTS if name in used.details), 0)
    return TokenUsage(
        input_tokens=max(0, used.input_tokens - used.cache_read_tokens),
        output_tokens=max(0, used.output_tokens - thoughts),
        cached_tokens=used.cache_read_tokens,
        thought_tokens=thoughts,
    )


@contextmanager
def _failures(name: str, timeout_seconds: float) -> Generator[None]:
    """Turns whatever a provider's client raises into one error of ours; nothing was stored when it comes."""
    from pydantic_ai import exceptions as told

    try:
        yield
    except told.ModelAuthenticationError as error:
        raise Unavailable(
            f"{name} does not accept the key: {_said(error)}",
            hint="check the key in the environment; nothing was stored",
            code="model_key_refused",
        ) from error
    except (told.ModelRateLimitError, told.ModelUnavailableError, told.ModelQuotaExceededError) as error:
        raise Unavailable(
            f"{name} is busy or its quota is used up, after {RETRIES + 1} tries: {_said(error)}",
            hint="wait a little and try again, or try another model with --model; nothing was stored",
            code="model_busy",
        ) from error
    except (told.ModelTimeoutError, told.ModelRequestTimeout) as error:
        raise Unavailable(
            f"{name} did not answer within {timeout_seconds:g} s",
            hint="try again, or wait longer with HOLDFAST_PLANNER_TIMEOUT_SECONDS; nothing was stored",
            code="model_timeout",
        ) from error
    except told.ModelNotFoundError as error:
        raise UsageError(f"there is no model {name}: {_said(error)}", hint=_NAMES, code="model_unknown") from error
    except told.ModelContextWindowExceededError as error:
        raise UsageError(
            f"the request does not fit into the context of {name}",
            hint="tell it less of the project with HOLDFAST_PLANNER_CONTEXT_CHARACTERS",
            code="model_context",
        ) from error
    except told.ModelAPIError as error:
        raise _failed(name, error) from error
    except (told.UnexpectedModelBehavior, TypeError, AttributeError, LookupError, ValueError) as error:
        # The providers' clients build their objects of whatever a server says, and trip over it later.
        raise _failed(name, error) from error


def _failed(name: str, error: Exception) -> Unavailable:
    return Unavailable(
        f"{name} failed, or answered what cannot be read: {_said(error)}",
        hint="try again, or try another model with --model; nothing was stored",
        code="model_failed",
    )


def _said(error: Exception) -> str:
    return str(error)[:500]
