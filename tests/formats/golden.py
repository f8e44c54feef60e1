"""Every format's golden files: a session as its agent writes it, and beside it the events that it must give.

`python -m tests.formats.golden` writes the events anew after a change that is meant to alter them; read the diff.
"""

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import msgspec

from agentwatch.formats.registry import CONTAINERS, FORMATS
from tests.formats.harness import GOLDEN, decoded, lines_of
from tests.formats.wholes import NO_MEMORY, ORIGIN, asked, told

SOURCES = {
    "kimi": "sessions/wd_app_1/session_1/agents/main/wire.jsonl",
    "cline": "saoudrizwan.claude-dev/tasks/1770624000000/ui_messages.json",
    "openhands": "conversations/abc/events",
    "openhands-state": "conversations/abc/base_state.json",
}
"""What such a file is called: some formats say only by that whose it is."""

PROGRAMS = {"fluent-bit", "winston", "plain-text"}


@dataclass(frozen=True)
class Sample:
    """A golden file, or a folder of them."""

    format: str
    path: Path

    @property
    def kind(self):
        return CONTAINERS[self.format].kind if self.format in CONTAINERS else "lines"

    @property
    def source(self):
        return SOURCES.get(self.format, "runs/r1/worker.log" if self.format in PROGRAMS else "folder/session.jsonl")

    @property
    def events(self):
        name = self.path.name if self.path.is_dir() else self.path.stem
        return self.path.with_name(f"{name}.events.jsonl")

    def expected(self):
        """Read the events beside it."""
        return [json.loads(line) for line in self.events.read_text("utf-8").splitlines()]

    def steps(self):
        """Its parts in the order in which they were written: lines, elements of a document, files, statements."""
        match self.kind:
            case "folder":
                files = (CONTAINERS[self.format].files.fullmatch(path.name) for path in self.path.iterdir())
                return sorted((int(name[1]), (self.path / name[0]).read_bytes()) for name in files)
            case "database":
                return self.path.read_text("utf-8").splitlines()
            case "document":
                return elements(json.loads(self.path.read_bytes()))
        return lines_of(self.path)

    def told(self, cuts=()):
        """Say what is told where one looks after so many of its steps, each time with a new decoder, and at the end."""
        steps = self.steps()
        looks = [*cuts, len(steps)]
        return {"lines": self._lines, "folder": self._folder, "database": self._database, "document": self._document}[self.kind](steps, looks)

    def _lines(self, lines, looks):
        row, told_so_far, memory, start, offset = FORMATS[self.format], [], NO_MEMORY, 0, 0
        for look in looks:
            decoder = row.decoder(self.source, memory)
            told_so_far += decoded(lines[start:look], decoder, offset)
            memory = msgspec.Raw(msgspec.json.encode(decoder.memory))
            offset += sum(map(len, lines[start:look]))
            start = look
        return told_so_far

    def _folder(self, files, looks):
        starts = [0, *looks]
        return self._looks([files[start:end] for start, end in zip(starts, looks, strict=False)])

    def _document(self, steps, looks):
        if len(looks) == 1:
            return self._looks([self.path.read_bytes()])
        document = json.loads(self.path.read_bytes())
        return self._looks([cut_to(document, look, len(steps)) for look in looks])

    def _database(self, statements, looks):
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
            tables = sum(statement.startswith("CREATE") for statement in statements)

            def ask(questions):
                return asked(connection, questions)

            events, memory, start = [], NO_MEMORY, 0
            for look in (max(look, tables) for look in looks):
                for statement in statements[start:look]:
                    connection.execute(statement)
                start, rows = max(start, look), 1
                while rows:
                    more, memory, rows = told(self.format, ask, memory, self.origin)
                    events += more
            return events

    @property
    def origin(self):
        return ORIGIN._replace(source=self.source)

    def _looks(self, states):
        events, memory = [], NO_MEMORY
        for state in states:
            more, memory, _ = told(self.format, state, memory, self.origin)
            events += more
        return events


def elements(document):
    """The list in a document that grows; for one that has none, the document."""
    return document if isinstance(document, list) else document.get(_growing(document), [document])


def cut_to(document, count, whole):
    """Write the document as it was when it had so many elements; half a one where none of it grows. A run's totals and its end came with the last."""
    if isinstance(document, list):
        return json.dumps(document[:count]).encode()
    field = _growing(document)
    if field is None:
        return json.dumps(document).encode()[: None if count == whole else 10]
    is_run = count < whole and "exit_status" in document.get("info", {})
    return json.dumps({**document, field: document[field][:count]} | ({"info": {}} if is_run else {})).encode()


def _growing(document):
    return next((field for field in ("messages", "trajectory") if field in document), None)


def _files(name):
    if CONTAINERS.get(name) and CONTAINERS[name].kind == "folder":
        return (path for path in (GOLDEN / name).iterdir() if path.is_dir())
    return (path for path in (GOLDEN / name).iterdir() if path.suffix != ".md" and not path.name.endswith(".events.jsonl"))


SAMPLES = [Sample(name, path) for name in (*FORMATS, *CONTAINERS) for path in sorted(_files(name))]


def regenerate():
    """Write the events of all golden files anew."""
    for sample in SAMPLES:
        sample.events.write_text("".join(json.dumps(event, ensure_ascii=False) + "\n" for event in sample.told()), "utf-8")


if __name__ == "__main__":
    regenerate()
