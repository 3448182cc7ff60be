"""What an agent is: a class with a state, and handlers whose types are checked before a turn starts."""

import inspect
import random
import typing
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, overload

from meshnode import wire
from meshnode.agents import plain
from meshnode.errors import InvalidArgument, UnknownAgentType, UnknownMethod
from meshnode.identity import Epoch

S = TypeVar("S")
A = TypeVar("A", bound="Agent[Any]")
H = TypeVar("H", bound=Callable[..., Awaitable[Any]])

NAME_CHARACTERS_MAX = 128
KEY_CHARACTERS_MAX = 512

_MARK = "__meshnode_handler__"


class Surroundings(typing.Protocol):
    """What the node offers to a running turn.

    Clocks and chance are the node's: another node's differ, and a turn that runs again after a crash sees others than
    the first time. What has to stay the same goes into the state. An agent that takes them from here, rather than from
    `time` and `random`, can be simulated; ``trio.sleep`` and trio's timeouts it can use as they are.
    """

    @property
    def fencing_token(self) -> Epoch:
        """Grows with each new primary: hand it to external systems, so that they can refuse an older one."""
        ...

    @property
    def rng(self) -> random.Random:
        """Not for secrets."""
        ...

    def now(self) -> float:
        """Monotonic seconds from an arbitrary origin: for how long something takes within one turn."""
        ...

    def wall_clock(self) -> float:
        """Seconds since 1970-01-01 UTC; may jump, and be another on the next node. For people."""
        ...

    def ref(self, agent_type: type[A], key: str) -> A:
        """Another agent. A call through it is made once, even if this turn runs again after a crash."""
        ...

    async def predict(self, model: str, rows: Any) -> Any:
        """Rows of float32 through a published model, batched with those of others; probabilities come back."""
        ...


class Agent(Generic[S]):
    """Base class of agents. One turn at a time runs on an agent, on one node.

    Attributes:
        key: which of its type this is.
        state: kept when a handler returns, as it was before when it raises.
        node: what the node offers while a turn runs.
    """

    key: str
    state: S
    node: Surroundings


@dataclass(frozen=True, slots=True)
class Handler:
    """One method that can be called.

    Attributes:
        is_read_only: it changes no state and leaves no record; it sees all that was acknowledged before the call.
        types: of each parameter.
        returns: the type of what it returns.
    """

    name: str
    is_read_only: bool
    signature: inspect.Signature
    types: Mapping[str, Any]
    returns: Any

    def bind(self, positional: list[Any], named: dict[str, Any]) -> inspect.BoundArguments:
        """The arguments as the handler's types.

        Raises:
            InvalidArgument: too many, too few, unknown, or of another type.
        """
        try:
            bound = self.signature.bind(*positional, **named)
        except TypeError as error:
            raise InvalidArgument(f"{self.name}{self.signature}: {error}") from error
        for name, value in bound.arguments.items():
            try:
                bound.arguments[name] = plain.convert(value, self.types[name])
            except InvalidArgument as error:
                raise InvalidArgument(f"{self.name}{self.signature}: argument {name!r}: {error}") from error
        return bound


@dataclass(frozen=True, slots=True)
class Definition:
    """An agent type as a node runs it."""

    name: str
    cls: type[Agent[Any]]
    state: Any
    handlers: Mapping[str, Handler]

    def handler(self, method: str) -> Handler:
        """Raises UnknownMethod."""
        found = self.handlers.get(method)
        if found is None:
            known = ", ".join(sorted(self.handlers)) or "none"
            raise UnknownMethod(f"agent type {self.name!r} has no handler {method!r:.80}; it has: {known}")
        return found

    def decode_state(self, data: bytes) -> Any:
        """The state in ``data``; a new one for empty bytes.

        Raises:
            InvalidArgument: it does not fit the class, which must have changed incompatibly if the state was kept.
        """
        if not data:
            return self.state()
        try:
            return plain.convert(wire.loads(data), self.state)
        except (InvalidArgument, wire.WireError) as error:
            raise InvalidArgument(
                f"the state of an agent of type {self.name!r} does not fit {self.state.__name__}: {error}. "
                "Assign what the class declares; give new fields a default, and do not change the type of old ones"
            ) from error


class Application:
    """The agent types that a node offers.

    Raises:
        TypeError: two classes have one name.
    """

    def __init__(self, definitions: typing.Iterable[Definition] = ()) -> None:
        self._definitions: dict[str, Definition] = {}
        for definition in definitions:
            self.add(definition.cls)

    def add(self, cls: type[Agent[Any]]) -> None:
        """Offer the class as well. Raises as the constructor does."""
        definition = definition_of(cls)
        present = self._definitions.setdefault(definition.name, definition)
        if present is not definition:
            names = " and ".join(f"{other.__module__}.{other.__qualname__}" for other in (present.cls, cls))
            raise TypeError(f"{names} are both agent type {definition.name!r}: give one another name")

    def __iter__(self) -> typing.Iterator[Definition]:
        return iter(self._definitions.values())

    def definition(self, name: str) -> Definition:
        """Raises UnknownAgentType."""
        found = self._definitions.get(name)
        if found is None:
            known = ", ".join(sorted(self._definitions)) or "none"
            raise UnknownAgentType(f"the node has no agent type {name!r:.80}; its application has: {known}")
        return found


def application_of(namespace: Mapping[str, object]) -> Application:
    """All agent classes in a module's namespace."""
    return Application(
        definition_of(value)
        for value in namespace.values()
        if isinstance(value, type) and issubclass(value, Agent) and "__meshnode_definition__" in vars(value)
    )


def definition_of(cls: type[Agent[Any]]) -> Definition:
    """What `agent` made of the class.

    Raises:
        TypeError: it was not decorated.
    """
    definition = vars(cls).get("__meshnode_definition__")
    if not isinstance(definition, Definition):
        raise TypeError(f"{cls.__qualname__} is no agent type: decorate it with @agent(name, state=…)")
    return definition


def check_key(key: object) -> None:
    """Accept what can be the key of an agent.

    Raises:
        InvalidArgument: it can't.
    """
    if not isinstance(key, str) or not 1 <= len(key) <= KEY_CHARACTERS_MAX:
        raise InvalidArgument(f"key {key!r:.80}: a key is a string of 1 to {KEY_CHARACTERS_MAX} characters")
    try:
        key.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgument(f"key {key!r:.80}: character {error.start} has no UTF-8 form") from error


def agent(name: str, *, state: type[Any]) -> Callable[[type[A]], type[A]]:
    """Class decorator: an agent type under a name that is fixed for the life of the mesh.

    Args:
        state: a class that can be made without arguments and holds what the agents keep: a dataclass, an attrs class or
            a msgspec Struct of numbers, strings, bytes, lists, dicts, dates, enums and such classes again.

    Raises:
        TypeError: the name, the state or a handler's annotations can't be used; the message says why.
    """
    if not 1 <= len(name) <= NAME_CHARACTERS_MAX or not name.isprintable() or "/" in name:
        raise TypeError(f"agent type {name!r}: a name has 1 to {NAME_CHARACTERS_MAX} printable characters and no '/'")

    def decorate(cls: type[A]) -> type[A]:
        if not issubclass(cls, Agent):
            raise TypeError(f"{cls.__qualname__} is no agent: derive it from Agent[{state.__name__}]")
        try:
            plain.check_declared(state)
            plain.convert(wire.loads(plain.encode(state(), "a new one")), state)
        except (TypeError, InvalidArgument, wire.WireError) as error:
            raise TypeError(f"agent type {name!r}: {state!r} can't be a state: {error}") from error
        members = inspect.getmembers(cls, inspect.isfunction)
        handlers = {method: _handler(cls, function) for method, function in members if hasattr(function, _MARK)}
        cls.__meshnode_definition__ = Definition(name, cls, state, handlers)  # type: ignore[attr-defined]
        return cls

    return decorate


@overload
def handler(function: H, /) -> H: ...
@overload
def handler(*, read_only: bool = False) -> Callable[[H], H]: ...
def handler(function: H | None = None, /, *, read_only: bool = False) -> H | Callable[[H], H]:
    """Method decorator: callers may call it. Every parameter needs a type.

    What it raises is the end of the call: its caller gets an `AgentError`. Two kinds cross as they are, as long as the
    turn has made no call that may have changed another agent: a `CallerError` of its own, which refuses the call, and
    `Unavailable` from anywhere, which leaves no record: the call is tried again until its caller waits no longer.

    Args:
        read_only: it changes no state, and calls read-only handlers alone: others refuse, since it may run again.
    """

    def mark(function: H) -> H:
        setattr(function, _MARK, read_only)
        return function

    return mark if function is None else mark(function)


def _handler(cls: type[Agent[Any]], function: Callable[..., Any]) -> Handler:
    where = f"{cls.__qualname__}.{function.__name__}"
    if not inspect.iscoroutinefunction(function):
        raise TypeError(f"{where} is a handler: write it as 'async def'")
    if function.__name__.startswith("_"):
        raise TypeError(f"{where} is a handler: its name must not begin with '_'")
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except NameError as error:
        raise TypeError(f"{where}: {error}; its types must be known where the module is imported") from error
    signature = inspect.signature(function)
    parameters = list(signature.parameters.values())[1:]
    for parameter in parameters:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise TypeError(f"{where}: *{parameter.name} can't be checked; take a list or a dict instead")
        if parameter.name not in hints:
            raise TypeError(f"{where}: parameter {parameter.name!r} needs a type")
    for name, declared in hints.items():
        try:
            plain.check_declared(declared)
        except TypeError as error:
            what = "what it returns" if name == "return" else f"parameter {name!r}"
            raise TypeError(f"{where}: {what}: {error}") from error
    return Handler(
        name=function.__name__,
        is_read_only=getattr(function, _MARK),
        signature=signature.replace(parameters=parameters),
        types=hints,
        returns=hints.get("return", Any),
    )
