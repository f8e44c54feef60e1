"""Parquet in a store of objects: a real S3 server on loopback, and DuckDB's own way to it."""

import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path

import pytest

from agentwatch.store.parquet import NO_CREDENTIALS, secret

duckdb = pytest.importorskip("duckdb", reason="the extra `history` is not installed")

ROOT = Path(__file__).parents[2]
NOW = datetime.now(UTC)
OLD = "agent-metrics-20260201T000000.jsonl"
KEYS = {"AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "it's"}


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({}, "PROVIDER credential_chain"),
        ({"AWS_PROFILE": "p", "AWS_DEFAULT_REGION": "eu-west-3"}, "PROVIDER credential_chain, REGION 'eu-west-3'"),
        (KEYS, "PROVIDER config, KEY_ID 'AKID', SECRET 'it''s'"),
        (
            KEYS | {"AWS_SESSION_TOKEN": "t", "AWS_REGION": "a", "AWS_DEFAULT_REGION": "b"},
            "PROVIDER config, REGION 'a', KEY_ID 'AKID', SECRET 'it''s', SESSION_TOKEN 't'",
        ),
        ({"AWS_ENDPOINT_URL": "https://minio:9000/"}, "PROVIDER credential_chain, ENDPOINT 'minio:9000', URL_STYLE 'path', USE_SSL 'true'"),
        (
            {"AWS_ENDPOINT_URL": "https://all", "AWS_ENDPOINT_URL_S3": "http://[::1]:9"},
            "PROVIDER credential_chain, ENDPOINT '[::1]:9', URL_STYLE 'path', USE_SSL 'false'",
        ),
    ],
    ids=["nothing", "a profile", "keys", "a session in a region", "an address", "an address of S3 alone, without TLS"],
)
def test_the_environment_says_who_and_where(environ, said):
    """By the variables of AWS, whatever stands in them."""
    assert secret(environ) == f"CREATE SECRET (TYPE s3, {said})"


def extension(name):
    """The file of an extension of this DuckDB, as it was installed or as a package of PyPI brings it; None where there is none."""
    spec, version = find_spec(f"duckdb_extension_{name}"), f"v{duckdb.__version__}"
    packed = sorted(Path(spec.origin).parent.glob(f"extensions/{version}/{name}.duckdb_extension")) if spec is not None and spec.origin else []
    return next(iter([*packed, *(Path.home() / ".duckdb" / "extensions" / version).glob(f"*/{name}.duckdb_extension")]), None)


needs_a_server = pytest.mark.skipif(
    extension("httpfs") is None or find_spec("moto") is None,
    reason="DuckDB's extension httpfs (PyPI: duckdb-extension-httpfs, of DuckDB's own version) or moto[server] is not here",
)


class Server:
    """An S3 server with one bucket, which knows one key and refuses others."""

    def __init__(self, directory):
        environ = {**os.environ, "INITIAL_NO_AUTH_ACTION_COUNT": "4"}
        command = [sys.executable, "-m", "moto.server", "-p", "0"]
        self.log = directory / "server.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, env=environ, stdout=log, stderr=subprocess.PIPE)
        told = next(match for line in self.process.stderr if (match := re.search(rb"http://[\d.]+:\d+", line)))
        self.url = told[0].decode()
        self.keys = self._made()

    def _made(self):
        """A user who may do everything in S3, and the bucket: the four calls that need no key."""
        script = (
            "import boto3, json, sys\n"
            "def client(name): return boto3.client(name, endpoint_url=sys.argv[1], region_name='us-east-1', aws_access_key_id='x', aws_secret_access_key='x')\n"
            "iam = client('iam')\n"
            "iam.create_user(UserName='u')\n"
            "allowed = {'Version': '2012-10-17', 'Statement': [{'Effect': 'Allow', 'Action': 's3:*', 'Resource': '*'}]}\n"
            "iam.put_user_policy(UserName='u', PolicyName='p', PolicyDocument=json.dumps(allowed))\n"
            "client('s3').create_bucket(Bucket='bucket')\n"
            "key = iam.create_access_key(UserName='u')['AccessKey']\n"
            "print(key['AccessKeyId'], key['SecretAccessKey'])\n"
        )
        done = subprocess.run([sys.executable, "-c", script, self.url], capture_output=True, text=True, timeout=60, check=True)
        return dict(zip(KEYS, done.stdout.split(), strict=True))

    def end(self):
        self.process.terminate()
        self.process.communicate()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    running = Server(tmp_path_factory.mktemp("s3"))
    yield running
    running.end()


def row(attempt_id, days_ago, **fields):
    at = NOW - timedelta(days=days_ago)
    begun = at - timedelta(minutes=5)
    return {"timestamp": at.isoformat(), "attempt_id": attempt_id, "started_at": begun.isoformat(), "metrics": {"cost_usd": 1.5}, "format": "codex", **fields}


class Home:
    """Somebody with 300 sessions, of which 200 stand in a rotated file."""

    def __init__(self, base, server):
        self.logs = base / "logs"
        self.logs.mkdir()
        self.old = self.logs / OLD
        self.old.write_text("".join(json.dumps(row(f"a{number}'\u202e", 2 + number % 20)) + "\n" for number in range(200)))
        (self.logs / "agent-metrics.jsonl").write_text("".join(json.dumps(row(f"b{number}", number / 100)) + "\n" for number in range(100)))
        install = "import duckdb, sys; [duckdb.execute(f\"INSTALL '{path}'\") for path in sys.argv[1:]]"
        found = [path for name in ("httpfs", "aws") if (path := extension(name)) is not None]
        subprocess.run([sys.executable, "-c", install, *found], env={**os.environ, "HOME": str(base)}, check=True)
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(base),
            "PYTHONPATH": str(ROOT),
            "AGENTWATCH_SOURCES": "none",
            "AGENT_WORK_LOG_DIR": str(self.logs),
            "AGENTWATCH_REPORT_HISTORY": f"s3://bucket/{base.name}/of us",
            "AWS_ENDPOINT_URL": server.url,
            "AWS_EC2_METADATA_DISABLED": "true",
            **server.keys,
        }

    def run(self, *arguments, **environ):
        command = [sys.executable, "-m", "agentwatch", *arguments]
        environ = {name: value for name, value in {**self.environ, **environ}.items() if value is not None}
        return subprocess.run(command, cwd=self.logs, env=environ, capture_output=True, text=True, timeout=120, check=False)

    def summary(self, **environ):
        done = self.run("summary", "--days", "30", "--json", **environ)
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        return found["sessions"]["total"], found["cost_usd"]["total"], found["problems"]


@pytest.fixture
def home(tmp_path, server):
    return Home(tmp_path, server)


@needs_a_server
def test_what_was_compacted_is_read_from_the_store_of_objects(home):
    """The rotated file is gone, a newer line of a session counts, and what is compacted again replaces what was there."""
    expected = home.summary()
    assert expected == (300, 450.0, [])
    done = home.run("report", "--compact")
    assert (done.returncode, done.stdout) == (0, "")
    assert re.fullmatch(r"\d+ sessions of finished days in s3://bucket/\S+/of us\n", done.stderr)
    home.old.unlink()
    assert home.summary() == expected
    with (home.logs / "agent-metrics.jsonl").open("a") as file:
        file.write(json.dumps({**row("a7'\u202e", 9), "metrics": {"cost_usd": 11.5}}) + "\n")
    assert home.summary() == (300, 460.0, [])
    assert home.run("report", "--compact").returncode == 0
    assert home.summary() == (300, 460.0, [])


REFUSALS = {
    "a wrong secret": ({"AWS_SECRET_ACCESS_KEY": "wr0ng-secret"}, "SignatureDoesNotMatch"),
    "a key that nobody knows": ({"AWS_ACCESS_KEY_ID": "AKIDNOBODY"}, "InvalidAccessKeyId"),
    "a server that is gone": ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "Could not connect to server"),
    "a server without TLS": ({"AWS_ENDPOINT_URL": "127.0.0.1:{port}"}, "SSL"),
}


@needs_a_server
@pytest.mark.parametrize("refusal", REFUSALS)
def test_what_the_store_of_objects_refuses_is_told_and_read_from_the_files(home, server, refusal):
    """In words with the next step, without the secret; a report says that it did without."""
    assert home.run("report", "--compact").returncode == 0
    environ, reason = REFUSALS[refusal]
    environ = {name: value.format(port=server.url.rpartition(":")[2]) for name, value in environ.items()}
    done = home.run("report", "--compact", **environ)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.match(rf"error: `s3://bucket/.*`: .*{reason}.*\n\nhint: see docs/reports.md, Parquet\n$", done.stderr)
    assert not any(secret in done.stderr for secret in (server.keys["AWS_SECRET_ACCESS_KEY"], "wr0ng-secret"))
    total, usd, [problem] = home.summary(**environ)
    assert (total, usd) == (300, 450.0)
    assert re.match(rf"what was compacted is not used: `s3://bucket/.*{reason}", problem)


@needs_a_server
def test_a_bucket_that_is_not_there_is_told(home):
    """Nothing is noted as compacted: the files go on to be read."""
    done = home.run("report", "--compact", AGENTWATCH_REPORT_HISTORY="s3://nowhere/x")
    assert done.returncode == 1
    assert "NoSuchBucket" in done.stderr
    assert home.summary() == (300, 450.0, [])


@needs_a_server
@pytest.mark.skipif(extension("aws") is None, reason="DuckDB's extension aws (PyPI: duckdb-extension-aws) is not here")
def test_without_keys_a_profile_is_used_and_without_that_it_is_told(home, server, tmp_path):
    """As AWS's own programs find them."""
    nobody = dict.fromkeys(KEYS)
    done = home.run("report", "--compact", **nobody)
    assert (done.returncode, done.stderr.partition("`: ")[2].splitlines()[0]) == (1, NO_CREDENTIALS)
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text("[ours]\n" + "".join(f"{name.lower()} = {value}\n" for name, value in server.keys.items()))
    assert home.run("report", "--compact", **nobody, AWS_PROFILE="ours").returncode == 0
    home.old.unlink()
    assert home.summary(**nobody, AWS_PROFILE="ours") == (300, 450.0, [])


@pytest.mark.parametrize("location", ["gs://bucket/x", "https://127.0.0.1:9/x"])
def test_other_places_are_refused(tmp_path, location):
    """Before anything is loaded or asked."""
    (tmp_path / OLD).write_text(json.dumps(row("a", 3)) + "\n")
    environ = {**os.environ, "AGENTWATCH_REPORT_HISTORY": location, "AGENT_WORK_LOG_DIR": str(tmp_path), "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-m", "agentwatch", "report", "--compact"], cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.splitlines()[0]) == (1, f"error: `{location}` is neither a directory nor s3://BUCKET/PATH")


@pytest.mark.parametrize("location", ["s3://elsewhere/x", "https://127.0.0.1:9/x"])
def test_what_lies_in_the_directory_names_no_store_of_objects(tmp_path, location):
    """A cloned repository must not make us ask anybody, least of all with our keys."""
    (tmp_path / "agent-metrics.jsonl").write_text(json.dumps(row("a", 1)) + "\n")
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / "agent-metrics-compacted.json").write_text(json.dumps({"location": location, "files": {OLD: [1, 2**62]}}))
    environ = {**os.environ, **KEYS, "AGENTWATCH_SOURCES": "none", "AGENT_WORK_LOG_DIR": str(tmp_path), "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-m", "agentwatch", "summary", "--json"], cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    found = json.loads(done.stdout)
    assert (found["sessions"]["total"], found["problems"]) == (1, [f"what was compacted is not used: `report.history` does not say `{location}`"])
