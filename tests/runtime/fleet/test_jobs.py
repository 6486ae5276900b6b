"""One recording, step by step, with others at work at the same time; S3 is moto's."""

import json
from pathlib import Path
from typing import Any

import pytest

from preheat.delivery import Recipe
from preheat.fleet.choices import Choices
from preheat.fleet.events import Upload
from preheat.fleet.jobs import ChangedError, GoneError, Job, Rules
from preheat.options import Options, UsageError
from preheat.places.results import TakenError
from preheat.places.s3 import Location
from preheat.places.s3errors import S3Error
from preheat.storage import InputError
from preheat.subtitles import Lines
from preheat.transcript import Segment, Transcript
from tests.runtime.places.conftest import NAME, Bucket

KEY = "in/a b.wav"
STEM = f"out/{KEY}"


@pytest.fixture
def rules(tmp_path: Path) -> Rules:
    """A fleet that writes txt, srt and json; its model exists by name alone."""
    (tmp_path / "model/echo").mkdir(parents=True)
    (tmp_path / "model/echo/config.json").touch()
    choices = Choices(formats=("txt", "srt", "json"))
    recipe = Recipe(choices.options, Lines(), False, tmp_path, "echo")
    return Rules(Location(NAME, "out/"), choices, recipe, lambda _: None)


def job(rules: Rules) -> Job:
    """A job on the recording."""
    return Job(Upload(Location(NAME, KEY)), rules)


def said(text: str) -> Transcript:
    """A transcript."""
    return Transcript("en", [Segment(0, 0.0, 1.0, text, [], 0.0, 0.0, 1.0, 0.0)])


def heard(job: Job) -> dict[str, str]:
    """The results, where what is said is what the file holds."""
    with job.fetch() as file:
        return job.texts(said(file.read().decode()))


def upload(bucket: Bucket, content: str, **metadata: str) -> None:
    """Write the recording."""
    bucket.client.put_object(Bucket=NAME, Key=KEY, Body=content.encode(), Metadata=metadata)


def results(bucket: Bucket) -> dict[str, str]:
    """The results by format."""
    return bucket.contents(f"{STEM}.")


def text(bucket: Bucket) -> tuple[str, str, str]:
    """What is said, by each of the formats."""
    found = results(bucket)
    return found["txt"].strip(), found["srt"].splitlines()[2], json.loads(found["json"])["text"]


def done(rules: Rules) -> Job:
    """Do a job from its beginning to its end."""
    found = job(rules)
    assert not found.look()
    found.deliver(heard(found), complete=True)
    assert found.settled()
    return found


def test_from_beginning_to_end(bucket: Bucket, rules: Rules) -> None:
    upload(bucket, "one")
    done(rules)
    assert sorted(results(bucket)) == ["json", "srt", "txt"] and text(bucket) == ("one", "one", "one")
    assert job(rules).look()  # there is nothing left to do
    noted = json.loads(bucket.get(f"{STEM}.json")["Metadata"]["transcribe"])
    assert noted["tags"] == {name: bucket.get(f"{STEM}.{name}")["ETag"] for name in ("txt", "srt")}


def test_what_is_cut_short_is_not_done_again(bucket: Bucket, rules: Rules) -> None:
    upload(bucket, "one")
    first = job(rules)
    first.look()
    first.deliver(heard(first), complete=False)
    assert first.settled() and job(rules).look()


def test_other_options_or_formats_or_another_model_make_other_results(bucket: Bucket, rules: Rules) -> None:
    upload(bucket, "one")
    done(rules)
    upload(bucket, "one", language="de")
    assert not job(rules).look()
    upload(bucket, "one", owner="me")
    assert job(rules).look()
    upload(bucket, "one", formats="tsv")
    assert not job(rules).look()


def test_formats_that_are_there_are_written_again(bucket: Bucket, rules: Rules) -> None:
    """Otherwise those that nobody asks for any more would be left of an older content."""
    upload(bucket, "one")
    done(rules)
    upload(bucket, "one", formats="tsv")
    done(rules)
    upload(bucket, "two", formats="txt")
    done(rules)
    assert text(bucket) == ("two", "two", "two") and "two" in results(bucket)["tsv"]


@pytest.mark.parametrize("size", [3, 9 << 20])
def test_replaced_while_it_is_fetched(size: int, bucket: Bucket, rules: Rules) -> None:
    """Whether it is fetched at once, or in ranges."""
    upload(bucket, "a" * size)
    first = job(rules)
    first.look()
    with first.fetch() as file:
        assert file.read() == b"a" * size
    upload(bucket, "b" * size)
    with pytest.raises(ChangedError):
        first.fetch()


def test_replaced_while_it_is_transcribed(bucket: Bucket, rules: Rules) -> None:
    upload(bucket, "one")
    first = job(rules)
    first.look()
    texts = heard(first)
    upload(bucket, "two")
    first.deliver(texts, complete=True)
    assert not first.settled()
    done(rules)
    assert text(bucket) == ("two", "two", "two")


def test_other_options_while_it_is_transcribed(bucket: Bucket, rules: Rules) -> None:
    """The same content, with other metadata."""
    upload(bucket, "one")
    first = job(rules)
    first.look()
    upload(bucket, "one", language="de")
    first.deliver(heard(first), complete=True)
    assert not first.settled()


def test_done_by_another_meanwhile(bucket: Bucket, rules: Rules) -> None:
    upload(bucket, "one")
    first = job(rules)
    first.look()
    done(rules)
    with pytest.raises(ChangedError):
        first.deliver(heard(first), complete=True)
    assert first.settled()


def test_a_late_worker_cannot_leave_parts_of_an_older_content(bucket: Bucket, rules: Rules) -> None:
    """Others have done the newer recording, and deleted its message: nobody would put it right."""
    upload(bucket, "one")
    late = job(rules)
    late.look()
    texts = heard(late)
    upload(bucket, "two")
    done(rules)
    for name in ("txt", "json"):
        with pytest.raises(TakenError):
            late.results.write(late.stem, name, texts[name], late.guard)
    assert text(bucket) == ("two", "two", "two")


def test_what_a_dead_worker_has_written_is_replaced(bucket: Bucket, rules: Rules) -> None:
    """Also in a format that is not asked for any more."""
    upload(bucket, "one", formats="txt,tsv")
    dead = job(rules)
    dead.look()
    for name in ("txt", "tsv"):
        dead.results.write(dead.stem, name, heard(dead)[name], dead.guard)
    upload(bucket, "two")
    done(rules)
    assert text(bucket) == ("two", "two", "two") and "two" in results(bucket)["tsv"]


def test_a_write_whose_answer_was_lost(bucket: Bucket, rules: Rules) -> None:
    """boto3 tries again, and is told that the format is there: the job begins anew, and replaces it."""
    upload(bucket, "one")
    first = job(rules)
    first.look()
    texts = heard(first)
    first.results.write(first.stem, "txt", texts["txt"], first.guard)
    with pytest.raises(ChangedError):
        first.deliver(texts, complete=True)
    assert not first.settled()
    first.look()
    first.deliver(texts, complete=True)
    assert first.settled() and text(bucket) == ("one", "one", "one")


def test_a_format_that_is_missing_is_noticed(bucket: Bucket, rules: Rules) -> None:
    upload(bucket, "one")
    done(rules)
    bucket.client.delete_object(Bucket=NAME, Key=f"{STEM}.srt")
    assert not job(rules).look()


def test_results_of_unknown_origin_are_replaced(bucket: Bucket, rules: Rules) -> None:
    upload(bucket, "one")
    bucket.put(f"{STEM}.json", b"{}")
    done(rules)
    assert text(bucket) == ("one", "one", "one")


def test_gone(bucket: Bucket, rules: Rules) -> None:
    with pytest.raises(GoneError):
        job(rules).look()
    upload(bucket, "one")
    first = job(rules)
    first.look()
    bucket.client.delete_object(Bucket=NAME, Key=KEY)
    with pytest.raises(GoneError):
        first.fetch()
    with pytest.raises(GoneError):
        first.settled()


def test_what_will_never_be_transcribed(bucket: Bucket, rules: Rules) -> None:
    upload(bucket, "")
    with pytest.raises(InputError, match="0 bytes"):
        job(rules).look()
    upload(bucket, "one", formats="doc")
    with pytest.raises(UsageError, match="no format 'doc'"):
        job(rules).look()


def refused(_: Options) -> None:
    """A model that knows no language."""
    raise UsageError("knows no language de")


def test_the_model_is_asked(bucket: Bucket, rules: Rules) -> None:
    upload(bucket, "one", language="de")
    with pytest.raises(UsageError, match="knows no language"):
        job(Rules(rules.output, rules.choices, rules.recipe, refused)).look()


def test_archived(bucket: Bucket, rules: Rules) -> None:
    bucket.client.put_object(Bucket=NAME, Key=KEY, Body=b"one", StorageClass="GLACIER")
    first = job(rules)
    first.look()
    with pytest.raises(S3Error, match="archived") as error:
        first.fetch()
    assert error.value.code == "InvalidObjectState"


def test_an_error_is_written_and_removed(bucket: Bucket, rules: Rules) -> None:
    upload(bucket, "one")
    first = job(rules)
    first.look()
    first.remove_error()
    first.put_error("is no recording; record it", {"fleet": "calls", "instance": "i-1"})
    written: dict[str, Any] = json.loads(bucket.contents()[f"{STEM}.error.json"])
    assert written.pop("time").startswith("20")
    assert written == {
        "recording": f"s3://{NAME}/{KEY}",
        "etag": bucket.get(KEY)["ETag"].strip('"'),
        "problem": "is no recording; record it",
        "fleet": "calls",
        "instance": "i-1",
    }
    first.remove_error()
    assert "error.json" not in results(bucket)
    first.put_error("is no recording; record it", {})
    upload(bucket, "two")
    with pytest.raises(ChangedError):
        first.remove_error()
    assert "error.json" in results(bucket)


def test_a_key_too_long_for_results_has_no_error_file(bucket: Bucket, rules: Rules) -> None:
    key = "a" * 1022
    bucket.put(key, b"one")
    long = Job(Upload(Location(NAME, key)), rules)
    with pytest.raises(InputError, match="longer than 1024"):
        long.look()
    long.put_error("its key is too long", {})
    assert list(bucket.contents()) == [key]
