"""The store in a bucket keeps the contract over HTTP; large values go in parts, and what S3 refuses is told plainly."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lokki.codec import SEAL_SIZE, Seal, digest, encode, read_seal
from lokki.errors import ConfigurationError, LocationError, StoreError
from lokki.store import S3Store, open_store
from tests.contracts.store import HERE, KEYS, NOISE, TAG, StoreContract, taken
from tests.listening import free_port
from tests.moto_server import CREDENTIALS, Asked, Relay, Reply, empty, refusal

KEY = KEYS[()]
PACK = "birds/runs/r1/flap/items.pack"
MEBIBYTE = 1 << 20
LARGE_NOISE = random.Random(9).randbytes(20 * MEBIBYTE)


def opened(url: str, bucket: str, prefix: str = "") -> S3Store:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        made = S3Store(url, bucket=bucket, prefix=prefix)
        assert list(made.keys("")) == []
    return made


# A client takes its time, so one store serves all tests of a kind.


@pytest.fixture(scope="module")
def direct(moto_server: str, s3: Any) -> Iterator[S3Store]:
    s3.create_bucket(Bucket="birds-direct")
    made = opened(moto_server, "birds-direct", "team/a")
    yield made
    made.close()
    s3.delete_bucket(Bucket="birds-direct")


@pytest.fixture(scope="module")
def relayed(relay_server: Relay, s3: Any) -> Iterator[S3Store]:
    s3.create_bucket(Bucket="birds-relayed")
    made = opened(relay_server.url, "birds-relayed")
    yield made
    made.close()
    s3.delete_bucket(Bucket="birds-relayed")


@pytest.fixture
def store(relayed: S3Store, relay: Relay, s3: Any, aws: None) -> Iterator[S3Store]:
    """A store that speaks to S3 through the relay."""
    yield relayed
    empty(s3, relayed.bucket)


class TestS3Store(StoreContract):
    many = 60

    @pytest.fixture
    def store(self, direct: S3Store, s3: Any) -> Iterator[S3Store]:
        self._s3 = s3
        yield direct
        direct.cleanup()

    def held(self, store: Any, key: str) -> bytes:
        data: bytes = self._s3.get_object(Bucket="birds-direct", Key=f"team/a/{key}")["Body"].read()
        return data

    def spoil(self, store: Any, key: str, data: bytes) -> None:
        self._s3.put_object(Bucket="birds-direct", Key=f"team/a/{key}", Body=data)

    def named(self, key: str) -> str:
        return f"s3://birds-direct/team/a/{key}"


def requests(relay: Relay) -> list[str]:
    """What was asked since the last call of this, without the name of the bucket."""
    asked = [f"{each.method} {each.path.split('/', 2)[-1]}" for each in relay.asked]
    relay.asked.clear()
    return asked


def ranges(relay: Relay) -> list[str]:
    return sorted(each.headers["Range"] for each in relay.asked if "Range" in each.headers)


# --- how it is opened


def test_a_store_is_opened_by_its_kind() -> None:
    store = open_store("s3", endpoint="http://127.0.0.1:9", bucket="birds", prefix="/team/", region="eu-north-1")
    assert isinstance(store, S3Store)
    assert store.shared
    copy = pickle.loads(pickle.dumps(store))
    for each in (store, copy):
        assert each.location(KEY) == f"s3://birds/team/{KEY}"
        assert (each.endpoint, each.bucket, each.prefix, each.region) == (
            "http://127.0.0.1:9",
            "birds",
            "team",
            "eu-north-1",
        )


def test_a_function_opens_it_by_its_environment_alone(aws: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOKKI_ARTIFACT_BUCKET", "birds")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:7")
    assert S3Store().endpoint == "http://127.0.0.1:7"
    monkeypatch.setenv("LOKKI_AWS_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("LOKKI_AWS_PREFIX", "team")
    monkeypatch.setenv("AWS_REGION", "eu-north-1")
    store = S3Store()
    assert (store.endpoint, store.bucket, store.prefix, store.region) == (
        "http://127.0.0.1:9",
        "birds",
        "team",
        "eu-north-1",
    )
    assert S3Store(prefix="").location(KEY) == f"s3://birds/{KEY}"


def test_without_a_bucket_the_key_to_set_is_named(aws: None) -> None:
    with pytest.raises(
        ConfigurationError, match=r"^aws\.artifact_bucket is not set: .* LOKKI_ARTIFACT_BUCKET"
    ) as caught:
        S3Store()
    assert caught.value.field == "aws.artifact_bucket"


def test_an_endpoint_that_is_no_address_is_a_mistake_in_the_configuration(aws: None) -> None:
    with pytest.raises(ConfigurationError, match=r"^aws\.endpoint must be an address .*, not 'loopback'") as caught:
        S3Store("loopback", bucket="birds").find(*HERE)
    assert caught.value.field == "aws.endpoint"


def test_the_sdk_is_loaded_when_s3_is_asked_and_not_before() -> None:
    program = """
        import sys
        from lokki.store import S3Store
        S3Store(bucket="birds").location("a/b")
        assert not {"boto3", "botocore"} & sys.modules.keys()
    """
    subprocess.run([sys.executable, "-c", "\n".join(map(str.strip, program.splitlines()))], check=True)


# --- what lies in the bucket


@pytest.mark.parametrize("size", [10, len(NOISE)])
def test_an_output_is_a_gzip_of_a_pickle_at_its_key(store: S3Store, s3: Any, size: int) -> None:
    value = {"at": (1, 2), "noise": NOISE[:size]}
    location = store.write(*HERE, value, tag=TAG)
    data = s3.get_object(Bucket=store.bucket, Key=location.removeprefix(f"s3://{store.bucket}/"))["Body"].read()
    assert pickle.loads(gzip.decompress(data)) == value
    assert read_seal(data[-SEAL_SIZE:]) == Seal(TAG, digest(encode(value)))


def test_a_small_value_is_one_request_either_way(store: S3Store, relay: Relay) -> None:
    store.write(*HERE, NOISE)
    assert requests(relay) == [f"PUT {KEY}"]
    assert store.load(*HERE) == NOISE
    assert store.find(*HERE) is not None
    assert store.span(KEY, 10, 20)[1] > len(NOISE)
    assert requests(relay) == [f"GET {KEY}"] * 3


def test_items_are_two_requests_and_come_back_when_one_is_wanted(store: S3Store, relay: Relay) -> None:
    items = store.write_items(*HERE, ["owl", "jay"])
    assert len(items) == 2
    assert requests(relay) == [f"PUT {PACK}", "PUT birds/runs/r1/flap/map_manifest.json"]
    assert taken(items) == ["owl", "jay"]
    assert requests(relay) == [f"GET {PACK}"]


def test_a_large_value_goes_up_in_parts_and_comes_down_in_ranges(store: S3Store, relay: Relay, s3: Any) -> None:
    store.write(*HERE, LARGE_NOISE)
    upload, *parts, done = requests(relay)
    assert (upload, len(parts)) == (f"POST {KEY}?uploads", 3)
    assert done.startswith(f"POST {KEY}?uploadId=")
    head = s3.head_object(Bucket=store.bucket, Key=KEY)
    assert head["ETag"].endswith('-3"')
    assert store.load(*HERE) == LARGE_NOISE
    assert ranges(relay) == sorted(
        ["bytes=0-8388607", "bytes=8388608-16777215", f"bytes=16777216-{head['ContentLength'] - 1}"]
    )


@pytest.mark.parametrize("size", [8 * MEBIBYTE - 1, 8 * MEBIBYTE, 8 * MEBIBYTE + 1, 16 * MEBIBYTE])
def test_a_blob_of_any_size_comes_back(store: S3Store, relay: Relay, size: int) -> None:
    store.put_blob("birds/artifacts/function.zip", LARGE_NOISE[:size], "application/zip")
    assert len(requests(relay)) == (1 if size <= 8 * MEBIBYTE else 4)
    assert store.blob("birds/artifacts/function.zip") == LARGE_NOISE[:size]
    assert len(relay.asked) == -(-size // (8 * MEBIBYTE))


@pytest.mark.parametrize("size", [1, 9 * MEBIBYTE])
def test_a_blob_has_the_type_that_it_is_given(store: S3Store, s3: Any, size: int) -> None:
    def kind(key: str) -> str:
        return str(s3.head_object(Bucket=store.bucket, Key=key)["ContentType"])

    store.put_blob("birds/artifacts/function.zip", LARGE_NOISE[:size], "application/zip")
    store.write_items(*HERE, [1])
    assert kind("birds/artifacts/function.zip") == "application/zip"
    assert kind("birds/runs/r1/flap/map_manifest.json") == "application/json"
    assert kind(PACK) == "application/octet-stream"


def test_parts_are_sent_while_the_value_is_still_being_made(store: S3Store, relay: Relay) -> None:
    sent = threading.Event()

    def told(asked: Asked) -> None:
        if "partNumber=1" in asked.path:
            sent.set()

    def values() -> Iterator[bytes]:
        yield LARGE_NOISE[: 9 * MEBIBYTE]
        yield LARGE_NOISE[: 9 * MEBIBYTE]
        assert sent.wait(60)
        yield b"the last"

    relay.instead = told
    assert store.write_items(*HERE, values())[2] == b"the last"


def test_a_value_that_fails_while_it_is_made_leaves_what_was_there_and_no_parts(store: S3Store, s3: Any) -> None:
    def values() -> Iterator[bytes]:
        yield LARGE_NOISE
        raise FileNotFoundError(2, "No such file or directory", "birds.csv")

    store.write_items(*HERE, ["before"])
    with pytest.raises(FileNotFoundError, match=r"birds\.csv"):
        store.write_items(*HERE, values())
    assert taken(store.items(*HERE)) == ["before"]
    assert s3.list_multipart_uploads(Bucket=store.bucket).get("Uploads", []) == []


@pytest.mark.parametrize("refused", ["partNumber=2", "uploads", "uploadId"])
def test_a_part_that_is_refused_leaves_what_was_there_and_no_parts(
    store: S3Store, relay: Relay, s3: Any, refused: str
) -> None:
    def answer(asked: Asked) -> Reply | None:
        return refusal(403, "AccessDenied") if refused in asked.path and asked.method != "DELETE" else None

    store.write(*HERE, "before")
    relay.instead = answer
    with pytest.raises(StoreError, match=rf"^{store.location(KEY)} cannot be written: access denied"):
        store.write(*HERE, LARGE_NOISE)
    assert store.load(*HERE) == "before"
    assert s3.list_multipart_uploads(Bucket=store.bucket).get("Uploads", []) == []


# --- reading while something happens


def test_a_value_that_is_replaced_while_it_is_read_is_never_mixed(store: S3Store, relay: Relay, s3: Any) -> None:
    other = LARGE_NOISE[::-1]
    replaced = threading.Event()

    def replace(asked: Asked) -> None:
        if asked.headers.get("Range") == "bytes=8388608-16777215" and not replaced.is_set():
            s3.put_object(Bucket=store.bucket, Key="birds/one", Body=other)
            replaced.set()

    store.put_blob("birds/one", LARGE_NOISE)
    relay.instead = replace
    assert store.blob("birds/one") == other
    assert replaced.is_set()


def test_a_value_that_is_replaced_again_and_again_is_told(store: S3Store, relay: Relay) -> None:
    store.put_blob("birds/one", LARGE_NOISE)
    relay.instead = lambda asked: refusal(412, "PreconditionFailed") if "If-Match" in asked.headers else None
    with pytest.raises(StoreError, match=rf"^{store.location('birds/one')} cannot be read: it was replaced each time"):
        store.blob("birds/one")


@pytest.mark.parametrize("size", [1_000, len(LARGE_NOISE)])
def test_what_breaks_off_is_asked_for_again(store: S3Store, relay: Relay, size: int) -> None:
    torn: list[str] = []

    def tear(asked: Asked) -> Reply | None:
        if asked.method != "GET" or len(torn) == 3:
            return None
        torn.append(asked.headers["Range"])
        return Reply(206, b"half", {"Content-Length": "1000", "Content-Range": f"bytes 0-999/{size}", "ETag": '"x"'})

    store.put_blob("birds/one", LARGE_NOISE[:size])
    relay.instead = tear
    assert store.blob("birds/one") == LARGE_NOISE[:size]
    assert len(torn) == 3


def test_what_always_breaks_off_is_told(store: S3Store, relay: Relay) -> None:
    relay.instead = lambda asked: Reply(206, b"half", {"Content-Length": "9", "Content-Range": "bytes 0-8/9"})
    with pytest.raises(StoreError, match=rf"^{store.location(KEY)} cannot be read: the connection broke \("):
        store.load(*HERE)


def test_a_part_that_is_shorter_than_it_should_be_is_told(store: S3Store, relay: Relay) -> None:
    store.put_blob("birds/one", LARGE_NOISE)
    relay.instead = lambda asked: Reply(206, b"short") if "If-Match" in asked.headers else None
    with pytest.raises(
        StoreError, match=rf"^{store.location('birds/one')} cannot be read: .*\(\d+ bytes are missing\)"
    ):
        store.blob("birds/one")


def test_a_server_that_knows_no_ranges_will_do(store: S3Store, relay: Relay) -> None:
    store.write(*HERE, "bird", tag=TAG)
    whole = store.blob(KEY)
    relay.instead = lambda asked: Reply(200, whole)
    assert store.span(KEY, 2, 5) == (whole[2:5], len(whole))
    assert store.find(*HERE) == (TAG, digest(encode("bird")))
    assert store.load(*HERE) == "bird"


@pytest.mark.parametrize("answer", [refusal(503, "SlowDown"), refusal(500, "InternalError")], ids=["slow", "internal"])
def test_a_passing_fault_of_s3_is_tried_again(store: S3Store, relay: Relay, answer: Reply) -> None:
    faults = [answer] * (2 if answer.status == 500 else 1)
    relay.instead = lambda asked: faults.pop() if faults else None
    store.write(*HERE, "bird")
    assert store.load(*HERE) == "bird"
    assert faults == []


# --- where values are loaded from


@pytest.mark.parametrize(
    "location",
    [
        f"s3://elsewhere/team/a/{KEY}",
        f"s3://birds/{KEY}",
        f"s3://birds/team/{KEY}",
        f"s3://birds/team/ab/{KEY}",
        f"s3://birds2/team/a/{KEY}",
    ],
)
def test_nothing_is_loaded_from_another_bucket_or_prefix(aws: None, location: str) -> None:
    store = S3Store("http://127.0.0.1:9", bucket="birds", prefix="team/a")
    with pytest.raises(LocationError, match=f"^{location} is not read: .* from s3://birds/team/a/, the") as caught:
        store.read(location)
    assert isinstance(caught.value, StoreError)
    assert caught.value.location == location


@pytest.mark.parametrize(
    "location",
    ["s3://", "s3://birds", "s3://birds/", f"s3:///{KEY}", f"http://birds/{KEY}", f"s3:/birds/{KEY}", f"S3://birds/{KEY}",
     "s3://birds/birds/runs/r1/flap/three/output.pkl.gz"],
)  # fmt: skip
def test_a_malformed_location_is_a_value_error(aws: None, location: str) -> None:
    with pytest.raises(ValueError, match=f"^'{location}' is not the location of an ") as caught:
        S3Store("http://127.0.0.1:9", bucket="birds").read(location)
    assert isinstance(caught.value, StoreError)
    assert caught.value.location == location


# --- what S3 refuses


def test_a_bucket_that_is_not_there_is_named_with_what_to_set(moto_server: str, aws: None) -> None:
    store = S3Store(moto_server, bucket="nobody-made-this")
    attempts: dict[str, Callable[[], Any]] = {
        "read": lambda: store.load(*HERE),
        "written": lambda: store.write(*HERE, 1),
        "listed": lambda: store.remove("birds", "r1"),
    }
    for verb, attempt in attempts.items():
        with pytest.raises(
            StoreError,
            match=rf"^s3://nobody-made-this/birds/runs/r1/\S* cannot be {verb}: there is no bucket 'nobody-made-this'; "
            r"create it, or name another one in aws\.artifact_bucket \(LOKKI_ARTIFACT_BUCKET\)\.$",
        ) as caught:
            attempt()
        assert caught.value.location.startswith("s3://nobody-made-this/birds/runs/r1/")
    with pytest.raises(StoreError, match="there is no bucket"):
        store.find(*HERE)
    store.close()


def test_denied_access_names_what_is_needed(store: S3Store, relay: Relay) -> None:
    store.write(*HERE, 1)
    relay.instead = lambda asked: refusal(403, "AccessDenied", "User is not authorized.")
    named = store.location(KEY)
    with pytest.raises(
        StoreError, match=rf"^{named} cannot be written: .*s3:PutObject there \(User is not auth"
    ) as caught:
        store.write(*HERE, 2)
    assert caught.value.location == named
    with pytest.raises(StoreError, match=rf"^{named} cannot be read: access denied, .*needs s3:GetObject there \("):
        store.load(*HERE)
    with pytest.raises(StoreError, match=r"^s3://\S+/birds/runs/r1/ cannot be listed: .*s3:ListBucket there"):
        store.remove("birds", "r1")


def test_denied_access_to_what_may_be_missing_is_nothing_found(store: S3Store, relay: Relay) -> None:
    relay.instead = lambda asked: refusal(403, "AccessDenied", "Access Denied")
    assert store.find(*HERE) is None
    assert store.items(*HERE) is None


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (
            refusal(301, "PermanentRedirect", Region="eu-north-1"),
            r"bucket '\S+' does not lie in us-east-1 but in eu-north-1; set aws\.region \(LOKKI_AWS_REGION\)",
        ),
        (refusal(400, "AuthorizationHeaderMalformed"), r"bucket '\S+' does not lie in us-east-1; set aws\.region"),
        (refusal(400, "ExpiredToken"), "the AWS credentials have expired; sign in again, or renew them"),
        (
            refusal(403, "InvalidAccessKeyId", "It does not exist."),
            r"S3 answered InvalidAccessKeyId \(It does not exist\)\.$",
        ),
    ],
    ids=["redirect", "region", "expired", "other"],
)
@pytest.mark.parametrize("how", ["load", "find"])
def test_a_refusal_says_what_to_do(store: S3Store, relay: Relay, answer: Reply, told: str, how: str) -> None:
    relay.instead = lambda asked: answer
    with pytest.raises(StoreError, match=rf"^{store.location(KEY)} cannot be read: {told}") as caught:
        getattr(store, how)(*HERE)
    assert caught.value.location == store.location(KEY)


def test_an_endpoint_that_does_not_answer_is_named(aws: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    endpoint = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(
        StoreError, match=rf"^s3://birds/{KEY} cannot be written: {endpoint} does not answer; check aws\.endpoint \("
    ):
        S3Store(endpoint, bucket="birds").write(*HERE, 1)


def test_without_credentials_it_says_so(moto_server: str, aws: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StoreError, match=rf"^s3://birds/{KEY} cannot be read: no AWS credentials were found; sign in"):
        S3Store(moto_server, bucket="birds").load(*HERE)


def test_a_profile_that_is_not_there_is_told(aws: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(StoreError, match=rf"^s3://birds/{KEY} cannot be read: .*profile \(nobody\) could not be found"):
        S3Store(bucket="birds").load(*HERE)


# --- letting go


def test_cleaning_up_removes_the_runs_it_wrote_and_nothing_else(store: S3Store, moto_server: str) -> None:
    other = S3Store(moto_server, bucket=store.bucket)
    other.write("birds", "r10", "flap", "of another process")
    other.write("birds", "r1", "glide", "of the same run")
    store.put_blob("birds/artifacts/lambdas/0/function.zip", b"zip")
    store.write(*HERE, 1)
    store.write("birds", "r2", "flap", 2, index=(1,))
    store.cleanup()
    left = ["birds/artifacts/lambdas/0/function.zip", "birds/runs/r10/flap/output.pkl.gz"]
    assert list(store.keys("")) == left
    store.cleanup()
    assert list(store.keys("")) == left
    other.close()


def test_more_than_a_page_is_listed_and_removed(store: S3Store, relay: Relay) -> None:
    def in_pages_of_three(asked: Asked) -> None:
        if "list-type=2" in asked.path:
            asked.path += "&max-keys=3"

    relay.instead = in_pages_of_three
    keys = [f"birds/runs/r1/flap/{at}/output.pkl.gz" for at in range(8)]
    for key in keys:
        store.put_blob(key, b"x")
    assert list(store.keys("birds/runs/r1")) == keys
    requests(relay)
    store.remove("birds", "r1")
    assert len(relay.asked) == 6
    assert list(store.keys("")) == []


def test_what_could_not_be_removed_is_named(store: S3Store, relay: Relay) -> None:
    inside = f"<Error><Key>{KEY}</Key><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
    partly = Reply(200, f"<DeleteResult>{inside}{inside.replace('flap', 'glide')}</DeleteResult>".encode())
    store.write(*HERE, 1)
    relay.instead = lambda asked: partly if asked.path.endswith("?delete") else None
    with pytest.raises(
        StoreError, match=rf"^{store.location(KEY)} cannot be removed: .*s3:DeleteObject there"
    ) as caught:
        store.remove("birds", "r1")
    assert caught.value.location == store.location(KEY)


def test_a_closed_store_can_be_used_again_and_another_process_can_use_a_copy(store: S3Store, moto_server: str) -> None:
    store.write(*HERE, LARGE_NOISE)
    store.close()
    assert store.load(*HERE) == LARGE_NOISE
    program = "import pickle, sys; print(len(pickle.load(sys.stdin.buffer).load('birds', 'r1', 'flap')))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=pickle.dumps(store),
        capture_output=True,
        check=True,
        env=dict(os.environ),
    )
    assert json.loads(done.stdout) == len(LARGE_NOISE)
