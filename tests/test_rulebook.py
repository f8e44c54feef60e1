"""Rule files: the shipped ones hold what they say, and no file with a mistake keeps the others from being used."""

import os
import time
import tomllib
from pathlib import Path

import pytest

from agentwatch.core.linear import Pattern, Patterns
from agentwatch.core.rules import RuleError, Rules, check
from agentwatch.model import Severity
from agentwatch.rulebook import MOST_BYTES, Shelf, directories, read_file, shipped

SHIPPED = Shelf([shipped()]).read()
RULES = [one.rule for one in SHIPPED.rules]

GOOD = """
[[rule]]
id = "mine"
title = "Mine"
patterns = ['boom (?P<n>\\d+)']
severity = "low"
category = "own"
recommendation = "Look."
"""


def text(**more):
    """A good rule with some lines of it replaced."""
    fields = {line.partition(" = ")[0]: line for line in GOOD.strip().splitlines()[1:]} | {name: f"{name} = {value}" for name, value in more.items()}
    return "\n".join(["[[rule]]", *fields.values(), ""])


# ------------------------------------------------------------------------------------------------------------------- shipped


def test_at_least_sixty_rules_are_shipped_and_none_is_refused():
    """By topic, each with an id of its own."""
    assert SHIPPED.refused == ()
    assert len(RULES) >= 60
    assert len({rule.id for rule in RULES}) == len(RULES)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_a_shipped_rule_is_found_in_its_examples_and_nowhere_else(rule):
    """Each has texts in which it must and must not be found, and an advice that ends in a full stop."""
    assert rule.examples.match
    assert rule.examples.no_match
    check(rule)
    assert rule.recommendation.endswith((".", ")."))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_each_pattern_of_a_shipped_rule_earns_its_place(rule):
    """Among all rules together an example is a case of its own rule, or of one that is as severe and says more."""
    together = Rules(RULES)
    slot = "output" if rule.level == "any" else "error"
    if "program" not in rule.where:
        slot = rule.where[0]
    for example in rule.examples.match:
        match = together.find(slot, "plain-text", example)
        assert match is not None, example
        assert match.rule.id == rule.id or rule.general or _rank(match.rule) >= _rank(rule), f"{example!r} is a case of `{match.rule.id}`"


def _rank(rule):
    return list(Severity).index(rule.severity)


def test_no_shipped_rule_wakes_anybody_for_what_is_no_error():
    """High severity only where the record is an error."""
    assert [rule.id for rule in RULES if rule.severity is Severity.HIGH and rule.level != "error"] == []


@pytest.mark.parametrize(
    "piece", ["a", "connection ", "memory heap query ", "x=1 ", "'", "\\", "../", "1.", "error: ", "\n", "é", "timeout timed out ", "task agent worker "]
)
def test_all_shipped_rules_take_time_linear_in_the_text(piece):
    """Sixteen times the text takes about sixteen times as long, for the pass over all of them and for each alone."""
    automaton = Patterns(pattern for rule in RULES for pattern in rule.patterns)
    alone = [Pattern(pattern) for rule in RULES for pattern in rule.patterns]
    took = []
    for size in (4_000, 64_000):
        text = (piece * size)[:size].encode(errors="replace")
        automaton.matching(text)
        began = time.process_time()
        automaton.matching(text)
        for pattern in alone:
            pattern.search(text)
        took.append(time.process_time() - began)
    assert took[1] < 16 * 6 * max(took[0], 0.002)


def test_every_topic_that_was_promised_has_a_rule():
    """Those that the first users asked for by name."""
    wanted = {
        *("connection-refused", "connection-reset", "connection-timed-out", "dns-failure", "tls-certificate", "proxy-failure", "port-in-use"),
        *("js-type-error", "js-reference-error", "js-syntax-error", "node-uncaught-exception", "node-unhandled-rejection"),
        *("agent-creation-failed", "task-processor-shutdown", "database-connection-timeout", "database-query-failed", "database-deadlock"),
        *("database-too-many-connections", "out-of-memory", "heap-growing", "disk-full", "permission-denied", "rate-limited", "provider-overloaded"),
        *("quota-exhausted", "context-window-exceeded", "invalid-api-key", "git-push-rejected", "git-not-a-repository", "git-merge-conflict", "git-lock"),
        *("npm-failed", "pip-build-failed", "cargo-failed", "pytest-failed", "jest-failed", "typescript-error", "docker-daemon-missing"),
    }
    assert wanted - {rule.id for rule in RULES} == set()


# ------------------------------------------------------------------------------------------------------------------ mistakes

MISTAKES = {
    "no TOML": ("[[rule]\nid = 1", "not TOML: ", "line 1"),
    "nothing in it": ("", "there is no rule in it", ""),
    "one rule, not a list": ("[rule]\nid = 'a'", "there is no rule in it", ""),
    "something else in it": ("x = 1\n" + GOOD, "unknown key `x`", ""),
    "an unknown key": (text(patern="'x'"), "line 1, rule `mine`: object contains unknown field `patern`", ""),
    "no title": (GOOD.replace('title = "Mine"\n', ""), "line 2, rule `mine`: object missing required field `title`", ""),
    "no id": (GOOD.replace('id = "mine"\n', ""), "line 2, a rule without an id: object missing required field `id`", ""),
    "an id with a space": (text(id='"my rule"'), "line 1, rule `my rule`: `id`: ", "matching regex"),
    "no list of patterns": (text(patterns="'boom'"), "`patterns`: expected `array`, got `str`", ""),
    "no pattern at all": (text(patterns="[]"), "`patterns`: ", "length >= 1"),
    "a pattern that is none": (text(patterns="['(']"), "rule `mine`: `patterns`: not a regular expression: missing ): (", ""),
    "an unknown severity": (text(severity='"fatal"'), "`severity`: invalid enum value 'fatal'", ""),
    "a threshold of nothing": (text(threshold="0"), "`threshold`: ", ">= 1"),
    "an unknown place": (text(where="['shell']"), "`where[0]`: invalid enum value 'shell'", ""),
    "an example that fails": (text(examples="{match = ['bang']}"), "`examples.match`: it is not found in 'bang'", ""),
    "a rule that is no table": ("rule = [1]", "expected `object`, got `int`", ""),
    "an id twice": (GOOD + GOOD, "line 10, rule `mine`: there is another rule of this id in the file", ""),
    "deeply nested": ("x = " + "[" * 5000, "not TOML", ""),
}


@pytest.mark.parametrize(("content", "complaint", "also"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_file_with_a_mistake_is_refused_with_place_and_reason_and_the_others_go_on(tmp_path, content, complaint, also):
    """Line and rule are named; what stands in other files is used."""
    (tmp_path / "bad.toml").write_text(content)
    (tmp_path / "good.toml").write_text(GOOD.replace("mine", "other"))
    book = Shelf([tmp_path]).read()
    assert [one.rule.id for one in book.rules] == ["other"]
    (refused,) = book.refused
    assert refused.path == tmp_path / "bad.toml"
    assert complaint in refused.reason
    assert also in refused.reason


def test_what_is_no_file_of_text_is_refused_and_not_waited_for(tmp_path):
    """A FIFO without a writer, a directory, a link into nothing, a device, a file that is too large, one in another encoding."""
    os.mkfifo(tmp_path / "fifo.toml")
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "lost.toml").symlink_to(tmp_path / "nowhere")
    (tmp_path / "device.toml").symlink_to("/dev/zero")
    (tmp_path / "loop.toml").symlink_to(tmp_path / "loop.toml")
    (tmp_path / "large.toml").write_bytes(b"#" * (MOST_BYTES + 1))
    (tmp_path / "latin.toml").write_bytes(GOOD.replace("Look.", "Schau auf Größe.").encode("latin-1"))
    (tmp_path / "torn.toml").write_text(GOOD[:-20])
    book = Shelf([tmp_path]).read()
    assert book.rules == ()
    assert {one.path.name.partition(".")[0]: one.reason for one in book.refused} == {
        "fifo": "it is no regular file",
        "folder": "it is no regular file",
        "lost": "it cannot be opened: No such file or directory",
        "device": "it is no regular file",
        "loop": "it cannot be opened: Too many levels of symbolic links",
        "large": f"it has {MOST_BYTES + 1:,} bytes, and no file of rules has more than {MOST_BYTES:,}",
        "latin": "it is no UTF-8 text: byte 132",
        "torn": next(one.reason for one in book.refused if one.path.name == "torn.toml"),
    }


def test_a_link_to_a_file_a_byte_order_mark_and_any_language_are_read(tmp_path):
    """As people keep their settings."""
    (tmp_path / "elsewhere").write_text("\ufeff" + GOOD.replace("Look.", "看 Größe 😀"), "utf-8")
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "mine.toml").symlink_to(tmp_path / "elsewhere")
    (book,) = Shelf([tmp_path / "rules"]).read().rules
    assert book.rule.recommendation == "看 Größe 😀"


def test_hidden_files_and_other_endings_are_not_looked_at(tmp_path):
    """An editor's leftovers are no rules."""
    for name in (".mine.toml", "mine.toml~", "mine.toml.swp", "README.md"):
        (tmp_path / name).write_text("no rules")
    assert Shelf([tmp_path]).read() == ((), ())
    assert Shelf([tmp_path / "not there"]).read() == ((), ())


# ----------------------------------------------------------------------------------------------------------------- together


def test_a_rule_of_the_users_replaces_a_shipped_one_of_the_same_id(tmp_path):
    """So that severity and threshold can be set."""
    (tmp_path / "own.toml").write_text(GOOD.replace("mine", "disk-full"))
    book = Shelf([shipped(), tmp_path]).read()
    assert len(book.rules) == len(RULES)
    (mine,) = [one for one in book.rules if one.rule.id == "disk-full"]
    assert (mine.rule.title, mine.path.name) == ("Mine", "own.toml")


def test_of_two_files_of_the_users_that_share_an_id_the_later_one_is_refused(tmp_path):
    """Which of them was meant is not for us to say."""
    (tmp_path / "a.toml").write_text(GOOD)
    (tmp_path / "b.toml").write_text(GOOD)
    book = Shelf([tmp_path]).read()
    assert [one.path.name for one in book.rules] == ["a.toml"]
    assert [str(one) for one in book.refused] == [f"`{tmp_path}/b.toml`: there is a rule `mine` in `{tmp_path}/a.toml` already"]


def test_files_are_read_again_when_they_change_and_a_broken_one_keeps_its_rules(tmp_path):
    """An editor saves half a file now and then: what was good stays until it is good again, or gone."""
    path = tmp_path / "a.toml"
    shelf = Shelf([tmp_path])
    assert shelf.changed()
    assert shelf.read() == ((), ())
    assert not shelf.changed()
    path.write_text(GOOD)
    assert shelf.changed()
    assert [one.rule.title for one in shelf.read().rules] == ["Mine"]
    path.write_text(GOOD[:60])
    assert shelf.changed()
    book = shelf.read()
    assert [one.rule.title for one in book.rules] == ["Mine"]
    assert book.refused[0].reason.endswith("its rules stay as they were")
    path.write_text(GOOD.replace("Mine", "Other"))
    assert [one.rule.title for one in shelf.read().rules] == ["Other"]
    path.unlink()
    assert shelf.changed()
    assert shelf.read() == ((), ())


def test_rules_are_taken_from_the_users_own_directory_and_the_named_one(tmp_path):
    """By XDG's rules; a relative XDG_CONFIG_HOME is ignored, and nothing is taken from the working directory."""
    home = Path("/home/a")
    assert directories({}, home, []) == (shipped(), home / ".config" / "agentwatch" / "rules")
    assert directories({"XDG_CONFIG_HOME": "/x"}, home, [Path("/y")]) == (shipped(), Path("/x/agentwatch/rules"), Path("/y"))
    assert directories({"XDG_CONFIG_HOME": "x"}, None, []) == (shipped(),)


def test_the_example_of_the_documentation_is_a_rule_that_works(tmp_path):
    """What docs/rules.md shows can be copied."""
    page = (Path(__file__).parents[1] / "docs" / "rules.md").read_text()
    examples = [block.removeprefix("toml\n") for block in page.split("```")[1::2] if block.startswith("toml\n[[rule]]")]
    assert examples
    for number, example in enumerate(examples):
        path = tmp_path / f"{number}.toml"
        path.write_text(example)
        assert read_file(path)


def test_the_table_of_the_documentation_names_every_key():
    """And no other."""
    page = (Path(__file__).parents[1] / "docs" / "rules.md").read_text()
    keys = {row.split("`")[1] for row in page.splitlines() if row.startswith("| `")}
    assert keys == set(RULES[0].__struct_fields__)


def test_the_documentation_counts_the_rules_right():
    """In both places that say how many there are."""
    root = Path(__file__).parents[1]
    files = len(list(shipped().glob("*.toml")))
    assert f"{len(RULES)} rules are shipped, in {files} files" in (root / "docs" / "rules.md").read_text()
    assert f"the {len(RULES)} rules that are shipped" in (root / "README.md").read_text()


def test_rule_files_of_the_package_are_plain_to_read():
    """Each begins with a comment that says what it is about."""
    for path in shipped().glob("*.toml"):
        assert path.read_text().startswith("# "), path
        tomllib.loads(path.read_text())


def test_reading_raises_rule_errors_alone(tmp_path):
    """Whoever reads one file is told what is wrong with it."""
    with pytest.raises(RuleError):
        read_file(tmp_path / "missing.toml")
    long = tmp_path / "long.toml"
    long.write_text(f"[[rule]]\nid = {'9' * 10_000}")
    with pytest.raises(RuleError, match="not TOML"):
        read_file(long)
