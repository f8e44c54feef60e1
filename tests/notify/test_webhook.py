"""Posts: signed, tried again, given up in the open, and never sent where they may not go."""

import asyncio
import json
import threading
import time
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from conftest import alert_line
from standardwebhooks import Webhook, WebhookVerificationError

from agentwatch.apps.channels import callback
from agentwatch.apps.posts import Posts
from agentwatch.core.notices import received
from agentwatch.notify.channel import Blocked, Delivered, NotSent, Refused, Unsure
from agentwatch.notify.outbox import NAME, Outbox
from agentwatch.notify.webhook import Webhooks, is_public, keys, signed
from agentwatch.settings import load

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105  # the convention's own example


class Receiver:
    """A web address on loopback. `answers` are the codes of the next answers; 200 when there are none."""

    def __init__(self):
        self.posts, self.answers, self.headers = [], [], {}
        self.delay_s = 0.0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                outer.posts.append((time.time(), self.path, {name.lower(): value for name, value in self.headers.items()}, body))
                time.sleep(outer.delay_s)
                self.send_response(outer.answers.pop(0) if outer.answers else 200)
                for name, value in outer.headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *arguments):
                """Quiet."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request, address):
                """A client that went away is no news."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/hook"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(5)

    def wait(self, number, timeout=20.0):
        until = time.time() + timeout
        while len(self.posts) < number:
            assert time.time() < until, f"{len(self.posts)} posts"
            time.sleep(0.02)
        return self.posts


@pytest.fixture
def receiver():
    made = Receiver()
    yield made
    made.close()


def post(url, *, allow_private=False, trusted="", timeout_s=5.0, headers=None):
    async def once():
        webhooks = Webhooks(timeout_s=timeout_s, allow_private=allow_private, trusted=trusted)
        try:
            return await webhooks.post(url, headers or {}, b"{}")
        finally:
            await webhooks.close()

    return asyncio.run(once())


def test_the_signature_is_the_one_of_the_convention():
    """Verified by its own library; a changed body, another id and an old time are not."""
    body, now = b'{"type":"alert.open"}', int(time.time())
    headers = signed(keys(SECRET), "id-1", now, body)
    assert Webhook(SECRET).verify(body, headers) == {"type": "alert.open"}
    for wrong in ((body + b" ", headers), (body, {**headers, "webhook-id": "id-2"}), (body, signed(keys(SECRET), "id-1", now - 3600, body))):
        with pytest.raises(WebhookVerificationError):
            Webhook(SECRET).verify(*wrong)


def test_while_a_key_is_replaced_both_sign():
    """Receivers that know either accept it."""
    other = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
    headers = signed(keys(f"{SECRET} {other}"), "id-1", int(time.time()), b"{}")
    for secret in (SECRET, other):
        Webhook(secret).verify(b"{}", headers)
    assert "webhook-signature" not in signed(keys(None), "id-1", 1, b"{}")
    assert keys("not base64!") == [b"not", b"base64!"]


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        pytest.param(204, Delivered, id="taken"),
        pytest.param(302, Refused, id="redirected"),
        pytest.param(400, Refused, id="refused"),
        pytest.param(410, Blocked, id="gone"),
        pytest.param(408, NotSent, id="too slow"),
        pytest.param(429, NotSent, id="too many"),
        pytest.param(503, NotSent, id="down"),
    ],
)
def test_each_answer_has_its_meaning(receiver, code, outcome):
    """What may pass is tried again, what will not is given up, nothing is followed."""
    receiver.answers.append(code)
    receiver.headers = {"location": "http://127.0.0.1:1/elsewhere", "retry-after": "7"}
    found = post(receiver.url, trusted=receiver.url)
    assert type(found) is outcome
    assert not isinstance(found, NotSent) or found.wait_s == 7.0
    assert len(receiver.posts) == 1


def test_no_answer_and_no_connection_are_told_apart(receiver):
    """The first may have arrived."""
    receiver.delay_s = 3
    assert isinstance(post(receiver.url, trusted=receiver.url, timeout_s=0.3), Unsure)
    assert isinstance(post("http://127.0.0.1:1/", allow_private=True), NotSent)
    assert isinstance(post("http://does-not-exist.invalid/"), NotSent)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://127.0.0.1/x",
        "file:///etc/passwd",
        "http://",
        "http://user:pw@127.0.0.1/",
        "http://127.0.0.1:99999/",
        "//x",
        "http://[::1",
        "http://xn--\u0301/",
        "http://a\x00b/",
        "http://127.0.0.1/\x7f",
    ],
)
def test_only_web_addresses_are_posted_to(url):
    """Whatever a run's file says."""
    assert isinstance(post(url, allow_private=True), Refused)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "0.0.0.0", "[::ffff:127.0.0.1]", "127.1", "2130706433"])  # noqa: S104
def test_private_addresses_are_refused_unless_configured(receiver, host):
    """In each way to write one; a metadata service and a router are out of reach."""
    url = f"http://{host}:{receiver.port}/"
    assert isinstance(post(url), Refused)
    assert receiver.posts == []
    if ":" not in host:
        assert isinstance(post(url, allow_private=True), Delivered)


@pytest.mark.parametrize(
    ("address", "expected"),
    [("8.8.8.8", True), ("10.0.0.1", False), ("172.16.3.4", False), ("192.168.1.1", False), ("169.254.169.254", False), ("100.64.0.1", False), ("224.0.0.1", False),
     ("2606:4700::1111", True), ("fe80::1%eth0", False), ("fc00::1", False), ("::ffff:10.0.0.1", False), ("::ffff:8.8.8.8", True), ("2002:7f00:1::", False), ("64:ff9b::7f00:1", False), ("64:ff9b::808:808", True),
     ("0.0.0.1", False), ("::127.0.0.1", False), ("::ffff:0:127.0.0.1", False), ("64:ff9b:1::a00:1", False), ("fec0::1", False), ("5f00::1", False), ("2001:0:a00:1::", False)],
)  # fmt: skip
def test_what_is_public(address, expected):
    """Neither private nor loopback, link-local, shared, reserved nor a group."""
    assert is_public(address) is expected


def test_what_the_settings_spell_out_is_allowed_there_and_nowhere_else(receiver):
    """A run's file may not reach another service of this machine because the web address of all alerts is one."""
    other = f"http://127.0.0.1:{receiver.port}/admin"
    assert isinstance(post(other, trusted="http://127.0.0.1:1/hook"), Refused)
    assert isinstance(post(other, trusted=receiver.url), Delivered)


@pytest.mark.parametrize("identity", ["日本", "x y", " x", "a\u0301", "🚀" * 40, "id-1.2~3"])
def test_whatever_an_alert_is_called_its_id_is_a_header(receiver, identity):
    """The same for the same alert, and the one that is signed."""
    headers = signed(keys(SECRET), identity, int(time.time()), b"{}")
    assert isinstance(post(receiver.url, trusted=receiver.url, headers=headers), Delivered)
    _, _, got, body = receiver.posts[0]
    Webhook(SECRET).verify(body, got)
    assert got["webhook-id"] == signed([], identity, 1, b"")["webhook-id"]
    assert identity != "id-1.2~3" or got["webhook-id"] == identity


def test_a_name_in_any_script_is_looked_up_as_the_net_writes_it(receiver):
    """It leads nowhere here, and raises nothing."""
    assert isinstance(post("http://bücher.invalid/x"), NotSent)
    assert isinstance(post(f"http://127.0.0.1:{receiver.port}/bücher?ü=1", allow_private=True), Delivered)


def test_the_name_stays_in_the_request_though_the_number_is_connected_to(receiver):
    """One address can serve many names."""
    post(f"http://localhost:{receiver.port}/a?b=c#d", allow_private=True)
    _, path, headers, _ = receiver.posts[0]
    assert (path, headers["host"]) == ("/a?b=c", f"localhost:{receiver.port}")


# ----------------------------------------------------------------------------------------------------------- as a program


@pytest.fixture
def hooked(place, receiver):
    """A notifier's environment with a web address and no chat."""
    place.environ.update(AGENTWATCH_TELEGRAM_TOKEN="", AGENTWATCH_TELEGRAM_CHATS="", AGENTWATCH_WEBHOOK_URL=receiver.url, AGENTWATCH_WEBHOOK_SECRET=SECRET)
    return place


def test_an_alert_is_posted_signed_and_with_its_id(hooked, receiver):
    """Type, time and the alert as the log has it; the id is the key by which a receiver knows a repeat."""
    hooked.start()
    hooked.write(alert_line(1, occurrences=4))
    ((_, path, headers, body),) = receiver.wait(1)
    assert path == "/hook"
    assert headers["webhook-id"] == headers["idempotency-key"] == "id-1"
    content = Webhook(SECRET).verify(body, headers)
    assert content["type"] == "alert.open"
    assert content["data"]["alert_id"] == "id-1"
    assert content["data"]["occurrences"] == 4


def test_what_fails_is_tried_again_with_the_same_id_and_the_next_waits_for_nothing_long(hooked, receiver):
    """After some seconds, with a new time and signature, until it is taken."""
    receiver.answers.append(503)
    hooked.start()
    hooked.write(alert_line(1))
    first, second = receiver.wait(2)
    assert first[2]["webhook-id"] == second[2]["webhook-id"]
    assert 2 <= second[0] - first[0] <= 8
    Webhook(SECRET).verify(second[3], second[2])


def test_what_is_refused_stands_in_the_dead_letter_file(hooked, receiver):
    """With the reason; what follows is posted."""
    receiver.answers.append(400)
    hooked.start()
    hooked.write(alert_line(1), alert_line(2))
    receiver.wait(2)
    dead = hooked.state / "notify.dead.jsonl"
    letters = [json.loads(text) for text in dead.read_text().splitlines()]
    assert [(letter["target"], letter["reason"], letter["alert"]["alert_id"]) for letter in letters] == [("webhook", "answered 400", "id-1")]
    assert dead.stat().st_mode & 0o777 == 0o600


def test_what_is_tried_for_too_long_is_given_up(hooked, receiver):
    """By the setting `webhook.give_up_h`."""
    receiver.answers += [503] * 9
    hooked.start("notify", AGENTWATCH_WEBHOOK_GIVE_UP_H="0.0001")
    hooked.write(alert_line(1))
    until = time.time() + 20
    while not (hooked.state / "notify.dead.jsonl").exists():
        assert time.time() < until
        time.sleep(0.05)
    assert 2 <= len(receiver.posts) <= 3


def test_a_run_has_an_address_of_its_own(hooked, receiver):
    """In `runs/<id>/callback`, which must be this user's alone; an address within this network only where that is configured."""
    folder = hooked.logs / "runs" / "run-7"
    folder.mkdir(parents=True)
    (folder / "callback").write_text(f"http://127.0.0.1:{receiver.port}/run\n")
    hooked.start("notify", AGENTWATCH_WEBHOOK_ALLOW_PRIVATE="yes")
    hooked.write(alert_line(1, run_id="run-7"))
    receiver.wait(1)
    (folder / "callback").chmod(0o600)
    hooked.write(alert_line(2, run_id="run-7"), alert_line(3, run_id="../../run-7"), alert_line(4))
    assert sorted((path, headers["webhook-id"]) for _, path, headers, _ in receiver.wait(5)) == [
        ("/hook", "id-1"), ("/hook", "id-2"), ("/hook", "id-3"), ("/hook", "id-4"), ("/run", "id-2"),
    ]  # fmt: skip


def test_what_goes_wrong_in_a_run_reaches_the_address_that_it_was_begun_with(hooked, receiver):
    """From `runs new --callback` and a program's log to the post, through the daemon and its notifier."""
    made = hooked.run("runs", "new", "--callback", f"http://127.0.0.1:{receiver.port}/run", "--name", "nightly")
    run_id = made.stdout.strip()
    hooked.start("run", "--with-notify", AGENTWATCH_SOURCES="none", AGENTWATCH_WEBHOOK_ALLOW_PRIVATE="yes", AGENTWATCH_WEBHOOK_URL="")
    with (hooked.logs / "runs" / run_id / "worker.log").open("a") as log:
        for second in range(4):
            log.write(f"{time.strftime('%Y-%m-%dT%H:%M', time.gmtime())}:0{second}Z ERROR cannot open the ledger\n")
    ((_, path, headers, body),) = receiver.wait(1)
    Webhook(SECRET).verify(body, headers)
    alert = json.loads(body)["data"]
    assert path == "/run"
    assert (alert["run_id"], alert["attempt_id"], alert["evidence"][0]["source"]) == (run_id, "worker", f"runs/{run_id}/worker.log")


@pytest.mark.parametrize("text", ["http://127.0.0.1:{}/a\nhttp://127.0.0.1:{}/b\n", "http://127.0.0.1:{}/" + "a" * 3000, ""])
def test_a_file_that_is_not_one_address_is_none(hooked, receiver, text):
    """Neither two lines put together nor the beginning of a long one is what somebody meant."""
    folder = hooked.logs / "runs" / "run-7"
    folder.mkdir(parents=True)
    (folder / "callback").touch(0o600)
    (folder / "callback").write_text(text.replace("{}", str(receiver.port)))
    assert callback(hooked.logs, "run-7") is None


def test_an_error_that_nobody_foresaw_keeps_no_other_alert_from_being_posted(tmp_path, monkeypatch):
    """It is told, and tried again as anything else that fails."""
    posts, outbox, reports = a_queue(tmp_path)
    tried = []

    async def post(self, url, headers, body):
        tried.append(headers["webhook-id"])
        if tried == ["id-1"]:
            raise RecursionError("unforeseen")
        return Delivered()

    monkeypatch.setattr(Webhooks, "post", post)
    serve(posts)
    assert (tried, outbox.posting_targets()) == (["id-1", "id-2", "id-1"], [])
    assert reports[0] == "webhook: RecursionError: unforeseen; trying again"


def test_a_clock_that_was_ahead_keeps_no_post_back_for_long(tmp_path, monkeypatch):
    """Tried a year too early by a wrong clock, an alert is posted again within the longest pause."""
    posts, outbox, _ = a_queue(tmp_path)

    async def post(self, url, headers, body):
        return Delivered()

    monkeypatch.setattr(Webhooks, "post", post)
    for _ in range(2):
        found, _ = outbox.next_post("webhook")
        outbox.try_post_again(found, time.time() + 365 * 86_400, time.time())
    serve(posts)
    assert outbox.posting_targets() == []


def a_queue(path):
    """Two alerts that wait to be posted, without a process around them."""
    outbox, _ = Outbox.open(path / NAME)
    loaded = load(cwd=path, environ={"AGENTWATCH_WEBHOOK_URL": "http://127.0.0.1:9/x"}, home=None)
    reports = []
    posts = Posts(loaded, outbox, path, path, {}, reports.append, time.time)
    for number in (1, 2):
        alert = received(alert_line(number), datetime.now(UTC))
        posts.enqueue(outbox.add(alert, time.time()), alert, time.time(), is_first=False)
    return posts, outbox, reports


def serve(posts):
    async def until_empty():
        await asyncio.wait_for(posts._serve("webhook"), 10)
        await posts.close()

    asyncio.run(until_empty())


def test_what_was_before_our_time_is_not_posted_however_much_it_is(hooked, receiver):
    """An alert log of many megabytes that is met for the first time."""
    hooked.write(*(alert_line(number, at_s=time.time() - 3 * 86_400) for number in range(5000)), alert_line("new"))
    assert hooked.path.stat().st_size > 2 << 20
    hooked.start()
    receiver.wait(1)
    assert [headers["webhook-id"] for _, _, headers, _ in receiver.posts] == ["id-new"]


def test_a_kill_loses_no_post(hooked, receiver):
    """What was not answered is posted again, under the same id."""
    receiver.delay_s = 5
    process = hooked.start()
    hooked.write(alert_line(1))
    receiver.wait(1)
    process.kill()
    process.wait(20)
    receiver.delay_s = 0
    hooked.start()
    assert {headers["webhook-id"] for _, _, headers, _ in receiver.wait(2)} == {"id-1"}
