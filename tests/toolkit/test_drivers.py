# SPDX-License-Identifier: GPL-2.0-only
from pathlib import Path

import pytest

from toolkit import drivers
from toolkit.errors import UserError
from toolkit.event import FLAG, KIND
from toolkit.paths import PROBES
from toolkit.trace.schema import EVENT


@pytest.mark.parametrize("name", drivers.names())
def test_each_driver_is_whole(name: str) -> None:
    driver = drivers.load(name)
    source = driver.source.read_text()
    assert driver.name == name
    assert driver.states
    assert driver.regimes
    assert driver.regimes[-1].hooks == (), "the last regime takes what no other did"
    for hook in driver.hooks:
        for program in {hook.program, *hook.programs.values()}:
            assert f"int {program}(" in source or hook.at[0].startswith("btf:")
        assert hook.required or hook.missing, f"{hook.program}: say what is missing without it"
    programs = {hook.program for hook in driver.hooks}
    assert all(set(regime.hooks) <= programs for regime in driver.regimes)
    columns = {*(EVENT.names or ()), *FLAG}
    conditions = [condition for state in driver.states for condition in (*state.begin, *state.end)]
    conditions += [each for cause in driver.causes for each in (cause.when, cause.relief) if each]
    for condition in conditions:
        assert set(condition) <= columns
    for prefix, own in (("KIND", driver.events), ("FLAG", driver.flags)):
        assert all(f"{prefix}_{each.name}" in source for each in own)
    for field in driver.fields:
        macros = {f"{'OFF' if '.' in path else 'SIZE'}_{field.name}" for path in field.of}
        assert any(macro in source for macro in macros), f"{field.name} is not used"
    core = {field.name for field in drivers.core()[1]}
    assert not core & {field.name for field in driver.fields}, "core's macros are seen by all"


def test_declared_driver_is_one_without_c_that_knows_what_is_posted() -> None:
    of_any = drivers.of_any()
    for driver in map(drivers.load, drivers.names()):
        assert driver.by_polls == (driver.source == of_any.source)
        if not driver.ring:
            continue
        assert list(driver.directory.glob("*.c")) == []
        assert [state.name for state in driver.states] == ["starved", *(each.name for each in of_any.states)]
        assert {*of_any.unknown} - {*driver.unknown} == {"posted_min"}
        structs = {member.partition(".")[0] for member in driver.ring.members}
        assert len(structs) == 1, "one struct has them"
        assert not (driver.ring.count and driver.ring.mask)
        assert bool(driver.ring.napi) == (not driver.ring.functions)


def test_core_is_all_texts_of_its_directory() -> None:
    sources = drivers.core_sources()
    assert sorted(sources) == sorted((PROBES / "core").glob("*.c"))
    text = "".join(path.read_text() for path in sources)
    assert all(f"int {hook.program}(" in text for hook in drivers.core()[0])


def test_a_place_may_name_a_program_of_its_own() -> None:
    """A kernel's other function may have other arguments."""
    places = ["kprobe:new", {"place": "kprobe:old", "program": "old_in"}]
    (hook,) = drivers._hooks({"hook": [{"program": "new_in", "at": places, "required": True}]})
    assert hook.at == ("kprobe:new", "kprobe:old")
    assert [hook.program_at(place) for place in hook.at] == ["new_in", "old_in"]
    assert hook.required


def test_condition_names_become_numbers() -> None:
    states = {state.name: state for state in drivers.load("virtio_net").states}
    assert states["napi-off"].begin == ({"kind": {"eq": KIND["napi_off"]}, "in_worker": {"eq": 1}},)
    assert states["starved"].end == ({"posted_after": {"gt": 0, "ne": 0xFFFF}},)


def test_a_word_of_several_drivers_is_the_usual_one() -> None:
    assert drivers.word("deaf", ["aoe", "aoe"]) == "silent"
    assert drivers.word("deaf", ["aoe", "qlge"]) == drivers.word("deaf", ["e1001"]) == "deaf"


def test_unknown_driver_is_told_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"unknown driver 'e1001'; known are: .*virtio_net"):
        drivers.load("e1001")


def test_name_is_not_a_path(tmp_path: Path) -> None:
    (tmp_path / "driver.toml").write_text("")
    with pytest.raises(UserError, match="unknown driver"):
        drivers.load(str(tmp_path))
