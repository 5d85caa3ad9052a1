"""What sections of settings have in common: their keys and types are checked, and they are frozen."""

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from salt.words import problem_in_words


class Section(BaseModel):
    """Settings that the code knows by name; refuse any other."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


AnySection = TypeVar("AnySection", bound=Section)


class Component(BaseModel):
    """A choice: the class or function named by `_target_`, with its own hyper-parameters beside it."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True, populate_by_name=True)

    target: str = Field(alias="_target_", description="class or function to build; the keys beside it are its own")

    def node(self, *without: str) -> dict[str, Any]:
        """Return the plain node to build from, without keys that the class itself does not take."""
        return {k: v for k, v in self.model_dump(by_alias=True).items() if k not in without}


def checked(kind: type[AnySection], **values: Any) -> AnySection:
    """Return settings of a kind; raise a ValueError of one line if a value is not one of those expected."""
    try:
        return kind(**values)
    except ValidationError as error:
        raise ValueError("; ".join(problem_in_words(detail, kind) for detail in error.errors())) from None
