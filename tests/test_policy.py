"""What may be said about a step or flow besides its code, and what each wrong thing is answered with."""

from __future__ import annotations

import math
from typing import Any

import pytest

from lokki.errors import GraphValidationError, LokkiError
from lokki.policy import NO_RETRY, Resources, RetryConfig, Schedule


def test_by_default_nothing_is_tried_again() -> None:
    assert RetryConfig() == RetryConfig(retries=0, delay=1.0, backoff=2.0, max_delay=60.0, exceptions=(Exception,))
    assert RetryConfig.of(None) == NO_RETRY == RetryConfig()


@pytest.mark.parametrize("exceptions", [ValueError, [ValueError], (ValueError,)])
def test_a_dict_says_the_same_as_a_retry_config(exceptions: Any) -> None:
    policy = RetryConfig(3, 0.5, 1.5, 10.0, (ValueError,))
    named = {"retries": 3, "delay": 0.5, "backoff": 1.5, "max_delay": 10.0, "exceptions": exceptions}
    assert RetryConfig.of(named) == policy
    assert RetryConfig.of(policy) is policy


@pytest.mark.parametrize(
    ("policy", "waits"),
    [
        (RetryConfig(), [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]),
        (RetryConfig(delay=5, backoff=1), [5, 5, 5]),
        (RetryConfig(delay=8, backoff=0.5), [8, 4, 2]),
        (RetryConfig(delay=90), [60]),
        (RetryConfig(delay=0), [0, 0, 0]),
    ],
)
def test_the_waits_grow_up_to_the_longest(policy: RetryConfig, waits: list[float]) -> None:
    assert [policy.wait(attempt) for attempt in range(len(waits))] == waits


@pytest.mark.parametrize(
    ("policy", "wait"),
    [
        (RetryConfig(), 60),
        (RetryConfig(backoff=2), 60),
        (RetryConfig(backoff=0.5), 0),
        (RetryConfig(delay=0), 0),
        (RetryConfig(delay=0, backoff=2), 0),
    ],
)
def test_no_attempt_number_is_too_large(policy: RetryConfig, wait: float) -> None:
    assert policy.wait(10**12) == wait


def test_an_error_of_a_named_type_or_a_type_derived_from_it_is_worth_a_retry() -> None:
    policy = RetryConfig(retries=1, exceptions=(OSError, LookupError))
    assert policy.matches(ConnectionResetError())
    assert policy.matches(KeyError())
    assert not policy.matches(ValueError())
    assert RetryConfig().matches(ValueError())
    assert not RetryConfig().matches(KeyboardInterrupt())


@pytest.mark.parametrize(
    ("field", "value", "error", "message"),
    [
        ("retries", -1, ValueError, "RetryConfig.retries must be 0 or more, not -1."),
        ("retries", 1.0, TypeError, "RetryConfig.retries takes a whole number, not 1.0."),
        ("retries", True, TypeError, "RetryConfig.retries takes a whole number, not True."),
        ("retries", "3", TypeError, "RetryConfig.retries takes a whole number, not '3'."),
        ("delay", -0.1, ValueError, "RetryConfig.delay must be 0 or more, not -0.1."),
        ("delay", math.nan, ValueError, "RetryConfig.delay takes a finite number, not nan."),
        ("delay", "1", TypeError, "RetryConfig.delay takes a number, not '1'."),
        ("delay", None, TypeError, "RetryConfig.delay takes a number, not None."),
        ("backoff", 0, ValueError, "RetryConfig.backoff must be more than 0, not 0."),
        ("backoff", -2.0, ValueError, "RetryConfig.backoff must be more than 0, not -2.0."),
        ("backoff", True, TypeError, "RetryConfig.backoff takes a number, not True."),
        ("max_delay", 0, ValueError, "RetryConfig.max_delay must be more than 0, not 0."),
        ("max_delay", -1, ValueError, "RetryConfig.max_delay must be more than 0, not -1."),
        ("max_delay", [], TypeError, r"RetryConfig.max_delay takes a number, not \[\]."),
        ("exceptions", ("ValueError",), TypeError, "exception types such as ValueError, not 'ValueError'"),
        ("exceptions", "ValueError", TypeError, "exception types such as ValueError, not 'ValueError'"),
        ("exceptions", (int,), TypeError, "exception types such as ValueError, not <class 'int'>"),
        ("exceptions", int, TypeError, "exception types such as ValueError, not <class 'int'>"),
        ("exceptions", ValueError(), TypeError, r"exception types such as ValueError, not ValueError\(\)"),
        ("exceptions", None, TypeError, "exception types such as ValueError, not None"),
    ],
)
def test_an_impossible_retry_is_refused_where_it_is_written(
    field: str, value: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        RetryConfig(**{field: value})
    assert isinstance(caught.value, LokkiError)
    with pytest.raises(error, match=message):
        RetryConfig.of({field: value}, "fetch")


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({"retrys": 3}, "no key 'retrys'; did you mean 'retries'?"),
        ({1: 3}, "no key 1."),
    ],
)
def test_an_unknown_key_of_a_retry_dict_is_named(value: Any, problem: str) -> None:
    with pytest.raises(GraphValidationError) as caught:
        RetryConfig.of(value, "fetch")
    known = "It takes retries, delay, backoff, max_delay, exceptions."
    assert str(caught.value) == f"Step 'fetch': retry= has {problem} {known}"


def test_a_number_is_no_retry_policy() -> None:
    with pytest.raises(TypeError, match=r"Step 'fetch': retry= takes a RetryConfig, a dict such as .*, not int."):
        RetryConfig.of(3, "fetch")  # type: ignore[arg-type]


def test_what_a_step_may_use_is_left_to_the_configuration_unless_it_is_said() -> None:
    assert Resources() == Resources("lambda", None, None, None)
    assert Resources("batch", vcpu=2, memory_mb=4096, timeout_seconds=60).memory_mb == 4096


@pytest.mark.parametrize(
    ("field", "value", "error", "message"),
    [
        ("job_type", "gpu", ValueError, "job_type must be 'lambda' or 'batch', not 'gpu'."),
        ("job_type", None, ValueError, "job_type must be 'lambda' or 'batch', not None."),
        *(
            (field, value, ValueError, f"{field} must be more than 0, not {value}.")
            for field in ("vcpu", "memory_mb", "timeout_seconds")
            for value in (0, -1)
        ),
        ("vcpu", 0.5, TypeError, "vcpu takes a whole number, not 0.5."),
        ("vcpu", True, TypeError, "vcpu takes a whole number, not True."),
        ("memory_mb", "512", TypeError, "memory_mb takes a whole number, not '512'."),
        ("timeout_seconds", 1.5, TypeError, "timeout_seconds takes a whole number, not 1.5."),
    ],
)
def test_impossible_resources_are_refused(field: str, value: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        Resources(**{field: value})
    assert str(caught.value) == message
    assert isinstance(caught.value, GraphValidationError)


@pytest.mark.parametrize(
    ("written", "aws"),
    [
        ("rate(1 minute)", "rate(1 minute)"),
        ("rate(5 minutes)", "rate(5 minutes)"),
        ("rate(1 hour)", "rate(1 hour)"),
        ("rate(12 hours)", "rate(12 hours)"),
        ("rate(1 day)", "rate(1 day)"),
        (" rate( 007  days ) ", "rate(7 days)"),
        # Six fields are AWS's own form and stay as they are.
        ("cron(0 12 * * ? *)", "cron(0 12 * * ? *)"),
        ("cron(0/15 8-17 ? * MON-FRI 2024-2030)", "cron(0/15 8-17 ? * MON-FRI 2024-2030)"),
        ("cron(0,30 0 1,15 jan,JUL ? *)", "cron(0,30 0 1,15 jan,JUL ? *)"),
        ("cron(0 18 L * ? *)", "cron(0 18 L * ? *)"),
        ("cron(0 18 LW * ? *)", "cron(0 18 LW * ? *)"),
        ("cron(0 18 31W 1-12/2 ? *)", "cron(0 18 31W 1-12/2 ? *)"),
        ("cron(0 18 ? * 6L *)", "cron(0 18 ? * 6L *)"),
        ("cron(0 18 ? * 2#1 *)", "cron(0 18 ? * 2#1 *)"),
        ("cron(0 18 ? * L *)", "cron(0 18 ? * L *)"),
        # Five fields are Unix's: no year, and Sunday is 0 or 7 there where it is 1 at AWS.
        ("cron(*/5 * * * *)", "cron(*/5 * * * ? *)"),
        ("cron(0 12 1 * *)", "cron(0 12 1 * ? *)"),
        ("cron(0 12 * * ?)", "cron(0 12 * * ? *)"),
        ("cron(0 12 ? * *)", "cron(0 12 ? * * *)"),
        ("cron(0 12 ? * ?)", "cron(0 12 ? * * *)"),
        ("cron(0 12 * * 0)", "cron(0 12 ? * 1 *)"),
        ("cron(0 12 * * 7)", "cron(0 12 ? * 1 *)"),
        ("cron(0 12 ? * 6)", "cron(0 12 ? * 7 *)"),
        ("cron(0 12 * * 1-5)", "cron(0 12 ? * 2-6 *)"),
        ("cron(0 12 * * 1-5/2)", "cron(0 12 ? * 2-6/2 *)"),
        ("cron(0 12 * * */2)", "cron(0 12 ? * */2 *)"),
        ("cron(0 12 * * 1,3,5)", "cron(0 12 ? * 2,4,6 *)"),
        ("cron(0 12 * * MON-FRI)", "cron(0 12 ? * MON-FRI *)"),
        ("cron(0 12 ? * 5L)", "cron(0 12 ? * 6L *)"),
        ("cron(0 12 ? * 1#3)", "cron(0 12 ? * 2#3 *)"),
        # A week that ends on Unix's day 7 starts with it at AWS, so such a range is spelled out.
        ("cron(0 12 * * 5-7)", "cron(0 12 ? * 6,7,1 *)"),
        ("cron(0 12 * * 3-7/2)", "cron(0 12 ? * 4,6,1 *)"),
        ("cron(0 12 * * 0-7)", "cron(0 12 ? * 1,2,3,4,5,6,7 *)"),
    ],
)
def test_a_schedule_is_spelled_as_aws_takes_it(written: str, aws: str) -> None:
    schedule = Schedule(written)
    assert schedule.aws == aws
    assert schedule.expression == written
    assert Schedule(aws).aws == aws


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("", "it is neither rate(...) nor cron(...)"),
        ("hourly", "it is neither rate(...) nor cron(...)"),
        ("rate(5 minutes", "it is neither rate(...) nor cron(...)"),
        ("Rate(5 minutes)", "it is neither rate(...) nor cron(...)"),
        ("rate()", "rate takes a number and minute(s), hour(s) or day(s)"),
        ("rate(minutes)", "rate takes a number and minute(s), hour(s) or day(s)"),
        ("rate(1.5 hours)", "rate takes a number and minute(s), hour(s) or day(s)"),
        ("rate(-1 hours)", "rate takes a number and minute(s), hour(s) or day(s)"),
        ("rate(2 weeks)", "rate takes a number and minute(s), hour(s) or day(s)"),
        ("rate(٣ days)", "rate takes a number and minute(s), hour(s) or day(s)"),
        ("rate(0 minutes)", "a rate is 1 or more"),
        ("rate(1 minutes)", "AWS wants 'minute' after 1 and 'minutes' after any other number"),
        ("rate(2 hour)", "AWS wants 'hour' after 1 and 'hours' after any other number"),
        ("cron()", "cron takes 5 or 6 fields, not 0"),
        ("cron(0 12 * *)", "cron takes 5 or 6 fields, not 4"),
        ("cron(0 0 12 * * ? *)", "cron takes 5 or 6 fields, not 7"),
        ("cron(60 12 * * ? *)", "'60' is not valid as minutes"),
        ("cron(*/0 12 * * ? *)", "'*/0' is not valid as minutes"),
        ("cron(? 12 * * ? *)", "'?' is not valid as minutes"),
        ("cron(5,, 12 * * ? *)", "'5,,' is not valid as minutes"),
        ("cron(² 12 * * ? *)", "'²' is not valid as minutes"),
        ("cron(0 24 * * ? *)", "'24' is not valid as hours"),
        ("cron(0 17-9 * * ? *)", "'17-9' is not valid as hours"),
        ("cron(0 12 0 * ? *)", "'0' is not valid as day of month"),
        ("cron(0 12 32 * ? *)", "'32' is not valid as day of month"),
        ("cron(0 12 45W * ? *)", "'45W' is not valid as day of month"),
        ("cron(0 12 ?,1 * ? *)", "'?,1' is not valid as day of month"),
        ("cron(0 12 1 13 ? *)", "'13' is not valid as month"),
        ("cron(0 12 1 JUNE ? *)", "'JUNE' is not valid as month"),
        ("cron(0 12 ? * 8 *)", "'8' is not valid as day of week"),
        ("cron(0 12 ? * 0 *)", "'0' is not valid as day of week"),
        ("cron(0 12 ? * 2#6 *)", "'2#6' is not valid as day of week"),
        ("cron(0 12 * * 8)", "'8' is not valid as day of week"),
        ("cron(0 12 * * ? 1969)", "'1969' is not valid as year"),
        ("cron(0 12 * * * *)", "exactly one of day of month and day of week must be '?'"),
        ("cron(0 12 ? * ? *)", "exactly one of day of month and day of week must be '?'"),
        ("cron(0 12 1 * 1)", "exactly one of day of month and day of week must be '?'"),
    ],
)
def test_a_schedule_that_aws_would_refuse_is_refused_at_once(written: str, why: str) -> None:
    with pytest.raises(GraphValidationError) as caught:
        Schedule(written)
    assert str(caught.value).startswith(f"The schedule {written!r} cannot be used: {why}. Write rate(5 minutes), or ")


def test_a_schedule_is_text() -> None:
    with pytest.raises(TypeError, match="schedule= takes text, not int"):
        Schedule(5)  # type: ignore[arg-type]
