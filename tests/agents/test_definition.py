"""What can be an agent, and what its handlers accept."""

import datetime
import enum
import socket
import types
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import attrs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode import wire
from meshnode.agents import plain
from meshnode.agents.definition import (
    Agent,
    Application,
    Definition,
    Handler,
    agent,
    application_of,
    check_key,
    definition_of,
    handler,
)
from meshnode.errors import InvalidArgument, UnknownAgentType, UnknownMethod


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Point:
    x: int
    y: int = 0

    def __post_init__(self) -> None:
        if self.x < 0:
            raise LookupError("nothing there")


@dataclass
class Plain:
    n: int = 0
    tags: list[str] = field(default_factory=list)


@attrs.define
class Attrs:
    n: int = 0
    at: datetime.date | None = None


class Struct(msgspec.Struct):
    n: int = 0
    by_name: dict[str, Point] = {}


@agent("sample", state=Plain)
class Sample(Agent[Plain]):
    @handler
    async def typed(
        self,
        point: Point,
        colour: Colour = Colour.RED,
        *,
        at: datetime.datetime | None = None,
        data: bytes = b"",
        nested: dict[str, list[Point]] | None = None,
    ) -> Point:
        return point

    @handler(read_only=True)
    async def anything(self, value: Any) -> Any:
        return value

    @handler
    async def positional(self, a: int, /, b: int = 2) -> int:
        return a + b

    async def unmarked(self) -> None: ...


def handler_of(method: str) -> Handler:
    return definition_of(Sample).handler(method)


def bind(method: str, *positional: Any, **named: Any) -> dict[str, Any]:
    """What arrives at a handler of arguments that were sent."""
    plainly, by_name = wire.loads(plain.encode([positional, named], "an argument"))
    return dict(handler_of(method).bind(plainly, by_name).arguments)


# ---- arguments


def test_arguments_arrive_as_the_types_that_are_declared() -> None:
    at = datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.UTC)
    arrived = bind("typed", Point(1, 2), Colour.BLUE, at=at, data=b"\x00\xff", nested={"a": [Point(3)]})
    assert arrived == {
        "point": Point(1, 2),
        "colour": Colour.BLUE,
        "at": at,
        "data": b"\x00\xff",
        "nested": {"a": [Point(3)]},
    }


def test_arguments_come_by_position_or_by_name_and_defaults_stay() -> None:
    assert bind("typed", Point(1)) == bind("typed", point=Point(1)) == {"point": Point(1)}
    bound = handler_of("positional").bind([1], {"b": 5})
    assert (bound.args, bound.kwargs) == ((1, 5), {})


@pytest.mark.parametrize(
    ("positional", "named", "complaint"),
    [
        ((), {}, "missing a required argument: 'point'"),
        ((Point(1), Colour.RED, 3), {}, "too many positional arguments"),
        ((Point(1),), {"colours": 1}, "unexpected keyword argument 'colours'"),
        ((Point(1),), {"point": Point(2)}, "multiple values for argument 'point'"),
        ((5,), {}, r"argument 'point': Expected `object`, got `int`"),
        (({"x": "1"},), {}, r"argument 'point': Expected `int`, got `str` - at `\$.x`"),
        ((Point(1), "green"), {}, "argument 'colour': Invalid enum value 'green'"),
        ((Point(1),), {"at": "yesterday"}, "argument 'at': Invalid RFC3339"),
        ((Point(1),), {"data": "abcd"}, "argument 'data': Expected `bytes`, got `str`"),
        (({"x": -1},), {}, "argument 'point': nothing there"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_with_the_signature(
    positional: tuple[Any, ...], named: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(InvalidArgument, match=complaint) as caught:
        bind("typed", *positional, **named)
    assert str(caught.value).startswith("typed(point: ")


PLAIN_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.integers(0, 9), inner, max_size=3),
    max_leaves=10,
)


@given(PLAIN_VALUES)
def test_plain_values_cross_unchanged(value: object) -> None:
    assert bind("anything", value) == {"value": value}


@pytest.mark.parametrize(
    ("value", "arrives"),
    [
        ((1, 2), [1, 2]),
        (frozenset([3]), [3]),
        (bytearray(b"ab"), b"ab"),
        (Colour.RED, "red"),
        (uuid.UUID(int=1), str(uuid.UUID(int=1))),
        (Attrs(1, datetime.date(2024, 2, 29)), {"n": 1, "at": "2024-02-29"}),
    ],
)
def test_other_values_cross_as_plain_ones(value: object, arrives: object) -> None:
    assert wire.loads(plain.encode(value, "it")) == arrives


@pytest.mark.parametrize("value", [object(), 2**64, -(2**63) - 2**63 - 1, "\udcff", 1j])
def test_what_has_no_plain_form_is_named_where_it_is_made(value: object) -> None:
    with pytest.raises(InvalidArgument, match=r"an argument can't cross the mesh: .*Use numbers"):
        plain.encode_readable([value], "an argument")


def test_what_nobody_could_read_is_refused_where_it_is_made() -> None:
    deep: list[Any] = []
    for _ in range(2 * wire.DEPTH_MAX):
        deep = [deep]
    with pytest.raises(InvalidArgument, match="nesting depth"):
        plain.encode_readable(deep, "the state")
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(InvalidArgument, match="recursion"):
        plain.encode(loop, "the state")


def test_an_error_without_a_message_is_named_by_its_class() -> None:
    @dataclass
    class Silent:
        n: int = 0

        def __post_init__(self) -> None:
            raise LookupError

    with pytest.raises(InvalidArgument, match=r"^LookupError$"):
        plain.convert({}, Silent)


# ---- states


@pytest.mark.parametrize("state", [Plain, Attrs, Struct])
def test_a_state_is_a_dataclass_an_attrs_class_or_a_struct(state: Any) -> None:
    @agent("any", state=state)
    class Anything(Agent[Any]): ...

    definition = definition_of(Anything)
    assert definition.decode_state(b"") == state()
    changed = state()
    changed.n = 7
    assert definition.decode_state(plain.encode(changed, "the state")) == changed


def test_nested_classes_come_back_as_they_were() -> None:
    @agent("nested", state=Struct)
    class Nested(Agent[Struct]): ...

    state = Struct(1, {"a": Point(1, 2)})
    assert definition_of(Nested).decode_state(plain.encode(state, "the state")) == state


def test_each_new_state_is_its_own() -> None:
    definition = definition_of(Sample)
    definition.decode_state(b"").tags.append("x")
    assert definition.decode_state(b"").tags == []


def test_a_kept_state_gets_the_defaults_of_new_fields_and_loses_old_ones() -> None:
    assert definition_of(Sample).decode_state(wire.dumps({"n": 3, "gone": 1})) == Plain(3, [])


def test_a_kept_state_that_does_not_fit_says_what_and_the_way_out() -> None:
    with pytest.raises(
        InvalidArgument, match=r"'sample' does not fit Plain: Expected `int`, got `str` - at `\$.n`.*def"
    ):
        definition_of(Sample).decode_state(wire.dumps({"n": "3"}))


# ---- what can't be an agent


def declare(name: str = "x", state: Any = Plain, **members: Any) -> type:
    return agent(name, state=state)(types.new_class("Declared", (Agent,), exec_body=lambda body: body.update(members)))


@dataclass
class Unkept:
    sock: socket.socket | None = None


@dataclass
class Required:
    n: int


@dataclass
class Wrong:
    n: int = "text"  # type: ignore[assignment]


@dataclass
class Unreadable:
    by_name: dict[str, complex] = field(default_factory=dict)


@pytest.mark.parametrize("state", [Unkept, Required, Wrong, Unreadable, object, socket.socket])
def test_a_state_that_could_not_be_kept_is_refused_when_it_is_declared(state: Any) -> None:
    with pytest.raises(TypeError, match=r"agent type 'x': .* can't be a state: "):
        declare(state=state)


@pytest.mark.parametrize("name", ["", "a/b", "n" * 129, "a\nb"])
def test_a_name_is_short_and_has_no_slash(name: str) -> None:
    with pytest.raises(TypeError, match="1 to 128 printable characters and no '/'"):
        declare(name)


def test_only_a_class_of_agents_can_be_an_agent() -> None:
    with pytest.raises(TypeError, match=r"int is no agent: derive it from Agent\[Plain\]"):
        agent("x", state=Plain)(int)  # type: ignore[type-var]


async def untyped(self, n): ...  # type: ignore[no-untyped-def]
async def many(self: Any, *numbers: int) -> None: ...
async def options(self: Any, **options: int) -> None: ...
async def custom(self: Any, sock: socket.socket) -> None: ...
async def custom_inside(self: Any, socks: list[socket.socket]) -> None: ...
async def returns_custom(self: Any) -> dict[str, socket.socket]: ...  # type: ignore[empty-body]
async def callback(self: Any, then: Callable[[], None]) -> None: ...
async def _private(self: Any) -> None: ...
async def unknown(self: Any, n: "Nowhere") -> None: ...  # type: ignore[name-defined] # noqa: F821
def synchronous(self: Any) -> None: ...


@pytest.mark.parametrize(
    ("function", "complaint"),
    [
        (untyped, "Declared.untyped: parameter 'n' needs a type"),
        (many, r"Declared.many: \*numbers can't be checked; take a list or a dict instead"),
        (options, r"Declared.options: \*options can't be checked"),
        (custom, "Declared.custom: parameter 'sock': .*socket.* can't cross the mesh"),
        (custom_inside, "Declared.custom_inside: parameter 'socks': .* can't cross the mesh"),
        (returns_custom, "Declared.returns_custom: what it returns: .* can't cross the mesh"),
        (callback, "Declared.callback: parameter 'then': .* can't cross the mesh"),
        (_private, "Declared._private is a handler: its name must not begin with '_'"),
        (unknown, "Declared.unknown: name 'Nowhere' is not defined; its types must be known"),
        (synchronous, "Declared.synchronous is a handler: write it as 'async def'"),
    ],
)
def test_a_handler_that_could_not_be_called_is_refused_when_it_is_declared(function: Any, complaint: str) -> None:
    with pytest.raises(TypeError, match=complaint):
        declare(**{function.__name__: handler(function)})


# ---- definitions and applications


def test_only_marked_methods_can_be_called() -> None:
    assert set(definition_of(Sample).handlers) == {"typed", "anything", "positional"}
    assert handler_of("anything").is_read_only
    assert not handler_of("typed").is_read_only
    with pytest.raises(UnknownMethod, match="'sample' has no handler 'unmarked'; it has: anything, positional, typed"):
        handler_of("unmarked")


def test_a_derived_agent_type_has_the_handlers_of_its_base() -> None:
    @agent("derived", state=Plain)
    class Derived(Sample): ...

    class Undecorated(Sample): ...

    assert set(definition_of(Derived).handlers) == set(definition_of(Sample).handlers)
    with pytest.raises(TypeError, match=r"Undecorated is no agent type: decorate it with @agent"):
        definition_of(Undecorated)


def test_an_application_knows_its_types_by_name() -> None:
    application = Application([definition_of(Sample)])
    application.add(Sample)
    assert [definition.name for definition in application] == ["sample"]
    assert application.definition("sample").cls is Sample
    with pytest.raises(UnknownAgentType, match="no agent type 'other'; its application has: sample"):
        application.definition("other")
    with pytest.raises(UnknownAgentType, match="its application has: none"):
        Application().definition("other")


def test_two_classes_of_one_name_are_refused() -> None:
    other = declare("sample")
    with pytest.raises(TypeError, match=r"test_definition.Sample and .*Declared are both agent type 'sample'"):
        Application([definition_of(Sample), definition_of(other)])


def test_the_agents_of_a_module_are_its_decorated_classes() -> None:
    class Undecorated(Agent[Plain]): ...

    namespace = {"A": Sample, "Again": Sample, "B": Undecorated, "C": Plain, "Agent": Agent, "n": 1, "f": handler_of}
    found = list(application_of(namespace))
    assert found == [definition_of(Sample)]
    assert isinstance(found[0], Definition)


@pytest.mark.parametrize("key", ["", "k" * 513, 5, None, "\ud800"])
def test_what_can_be_no_key_is_refused(key: object) -> None:
    with pytest.raises(InvalidArgument, match=r"^key "):
        check_key(key)


@pytest.mark.parametrize("key", ["k", "k" * 512, "a/b", "日本\n"])
def test_any_other_text_is_a_key(key: str) -> None:
    check_key(key)
