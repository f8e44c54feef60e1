# The watcher and the notifier, for a place beside the agents: docker/compose.yaml shows it.
FROM python:3.13-slim-bookworm AS build
WORKDIR /src
COPY . .
RUN python -m venv /opt/agentwatch \
    && /opt/agentwatch/bin/pip install --no-cache-dir --require-hashes --requirement requirements/run.txt \
    && /opt/agentwatch/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.13-slim-bookworm
# The user whose logs are read: give it the number of theirs with `--user` where that is another.
RUN useradd --uid 1000 --create-home agent && install --directory --owner=agent --mode=0700 /logs
COPY --from=build /opt/agentwatch /opt/agentwatch
ENV PATH=/opt/agentwatch/bin:$PATH PYTHONFAULTHANDLER=1 AGENT_WORK_LOG_DIR=/logs
USER 1000:1000
WORKDIR /home/agent
VOLUME /logs
HEALTHCHECK --interval=60s --timeout=10s --start-period=300s CMD ["agentwatch", "status", "--json"]
ENTRYPOINT ["agentwatch"]
CMD ["run", "--log-format", "json"]
