"""The lines that a job or function wrote to CloudWatch: a stream, read on from where it was left."""

from __future__ import annotations

from typing import Any

from lokki.aws.client import code_of
from twingraph.platforms.aws.account import Account

_MOST_PAGES = 100  # each of at most 10,000 lines; what prints more than that is not read to its end
_LATER = ("ResourceNotFoundException", "ThrottlingException", "ServiceUnavailableException")


class Stream:
    """One stream of a log group.

    Args:
        account: the account that it is in.
        group: the name of the group.
        name: the name of the stream.
        since: the first millisecond.

    Attributes:
        refusal: why it cannot be read; empty if it can, perhaps later.
    """

    def __init__(self, account: Account, group: str, name: str, since: int = 0) -> None:
        self.group = group
        self.refusal = ""
        self._account = account
        self._name = name
        self._since = since
        self._next = ""

    def read(self) -> list[str]:
        """The lines since the last time."""
        from botocore.exceptions import BotoCoreError, ClientError

        lines: list[str] = []
        try:
            for _ in range(_MOST_PAGES):
                page = self._page()
                lines += [str(each["message"]).rstrip("\n") for each in page["events"]]
                if page["nextForwardToken"] == self._next:
                    break
                self._next = page["nextForwardToken"]
        except ClientError as error:  # what was printed is not worth a failure
            self.refusal = "" if code_of(error) in _LATER else str(error)
        except BotoCoreError as error:
            self.refusal = str(error)
        return lines

    def _page(self) -> Any:
        more: dict[str, Any] = {"nextToken": self._next} if self._next else {"startFromHead": True}
        if self._since:
            more["startTime"] = self._since
        return self._account.client("logs").get_log_events(logGroupName=self.group, logStreamName=self._name, **more)
