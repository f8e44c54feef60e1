"""`agentwatch` as it is, but that each event it judges is noted in the file that `NOTED` names, a line each. Run as `python -m tests.e2e.noting ARGUMENTS`."""

import json
import os

from agentwatch.apps import pipeline
from agentwatch.cli.main import main
from tests.formats.harness import plain, whole

_NOTED = os.open(os.environ["NOTED"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


class NotingEngine(pipeline.Engine):
    """The engine of the program. An event that is noted is judged right after."""

    def feed(self, source, scope, items, reader, out):
        def noted():
            for event, place, line in items:
                said = whole(event.data, line, reader)
                data = {name: plain(value) for name in said.__struct_fields__ if (value := getattr(said, name))}
                fields = [source, place, event.event_type, event.attempt_id, event.lane, None if event.inferred else event.timestamp.isoformat(), data]
                os.write(_NOTED, json.dumps(fields).encode() + b"\n")
                yield event, place, line

        super().feed(source, scope, noted(), reader, out)


pipeline.Engine = NotingEngine

if __name__ == "__main__":
    main()
