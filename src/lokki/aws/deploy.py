"""Deploying a built flow: checks, a plan from CloudFormation, the uploads, and the change of the stack.

The steps are apart, so that whoever leads through them can ask in between. Nothing is changed before `carry_out`, but
that CloudFormation holds a change set, which leaving the `with` block removes again.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType

from lokki.aws import reasons
from lokki.aws.checks import check_machine, check_name, check_ours, missing_queue
from lokki.aws.client import Aws
from lokki.aws.images import Shipping, image_tag
from lokki.aws.live_code import renew
from lokki.aws.names import check_names, names_in
from lokki.aws.plan import Plan, compared, with_entries
from lokki.aws.recording import RECORD, settled
from lokki.aws.stacks import NEVER_CREATED, ONLY_PLANNED, ChangeSet, End, Event, Stack, State
from lokki.aws.templates import FUNCTION, Template
from lokki.aws.upload import LARGEST_SENT, Bucket, template_key
from lokki.builder.builder import Bundle
from lokki.builder.package import ZIP
from lokki.errors import AwsError, DeployError
from lokki.frozen import frozen

_GOOD = ("CREATE_COMPLETE", "UPDATE_COMPLETE")
_WHOLE = "lokki-"  # begins the names of change sets
Tell = Callable[[str], object]


@frozen
class Proposal:
    """What a deployment would do; `change_set` is None where CloudFormation could not be asked yet."""

    plan: Plan
    change_set: ChangeSet | None
    code_only: bool

    @property
    def nothing(self) -> bool:
        """Whether what is deployed is what was built."""
        return not self.plan.creates and (self.change_set is None or self.change_set.empty)


@frozen
class Deployed:
    """What a deployment did.

    Attributes:
        outputs: of the stack.
        functions: those that were given their code directly.
        recording: whether CloudFormation is still recording that.
    """

    outputs: Mapping[str, str]
    functions: tuple[str, ...] = ()
    recording: bool = False


class Deployer:
    """One deployment of a built flow.

    Args:
        build_dir: where the build was written to; images are built from there.
        name: of the stack.
        tell: hears what is being done.
        force: send everything, also what is there already, and change the whole stack rather than code alone.
        sleep: waits between two looks.
    """

    def __init__(
        self,
        aws: Aws,
        bundle: Bundle,
        build_dir: str,
        name: str,
        *,
        tell: Tell,
        force: bool = False,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self.name = name
        self.bucket = Bucket(aws, bundle.deployment.config.aws.artifact_bucket)
        self._aws = aws
        self._bundle = bundle
        self._tell = tell
        self._force = force
        self._sleep = sleep
        self._flow = bundle.deployment.graph.name
        self._stack = Stack(aws, name, DeployError, sleep)
        self._shipping = Shipping(aws, bundle, build_dir, tell)
        self._text = bundle.files["template.yaml"]
        self._state: State | None = None
        self._old: Template | None = None
        self._open: ChangeSet | None = None
        self._has_bucket = False
        self._began = ""  # what was set going in AWS, in words

    def __enter__(self) -> Deployer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._open is None:
            return
        change_set, self._open = self._open, None
        try:
            self._stack.forget(change_set, new=self._state is None or self._state.status == ONLY_PLANNED)
        except AwsError:  # what is told is why it was not executed
            empty = f", as does the empty stack {self.name!r}" if self._state is None else ""
            self._tell(f"The change set {change_set.id} could not be removed; it does nothing{empty}.")

    # --- before anything is changed

    def check(self) -> None:
        """Refuse, in one sentence, what would fail later: credentials, bucket, docker, the state of the stack."""
        check_name(self.name)
        _ = self._aws.account
        self._has_bucket = self.bucket.exists()
        self._shipping.check()
        self._state = self._settled()
        if self._state is not None and self._state.status == ONLY_PLANNED:  # it has neither tags nor a template yet
            self._tell(reasons.planned(self._state))
        elif self._state is not None:
            check_ours(self._stack, self._state, self._flow)
        self._check_names()
        deployment = self._bundle.deployment
        if deployment.jobs and (missing := missing_queue(self._aws, deployment.config.batch.job_queue)):
            self._tell(f"[WARNING] {missing}")

    @property
    def lacks_bucket(self) -> bool:
        """Whether the artifact bucket has to be created first."""
        return not self._has_bucket

    def make_bucket(self) -> None:
        """Create the artifact bucket."""
        self.bucket.make()
        self._has_bucket = True

    @property
    def remains(self) -> str:
        """What is left of a stack of this name that can only be removed; nothing if there is no such thing."""
        dead = self._state is not None and self._state.status in NEVER_CREATED
        return reasons.remains(self._state) if dead and self._state is not None else ""

    def clear(self) -> None:
        """Remove what is left of such a stack; unless somebody has begun something with it since it was looked at."""
        seen, self._state = self._state, self._stack.state()
        if seen is None or self._state is None:
            return
        if self._state != seen:
            raise DeployError(
                f"Stack {self.name!r} was changed since it was looked at ({self._state.status} now): deploy again."
            )
        after = self._stack.newest_event()
        self._began = self._going_on("removal")
        with self._told():
            self._stack.remove(seen.id)
            end = self._stack.watch(seen.id, after, lambda _: None)
        self._began = ""
        if end.state is not None:
            raise DeployError(reasons.failed(end, self.name, self._template({})))
        self._state = None

    def plan(self) -> Proposal:
        """What would change. CloudFormation is asked, where it can be."""
        fresh = self._fresh
        parameters = self._parameters()
        new = self._template(parameters)
        old = None if fresh else self._deployed()
        plan = compared(old, new)
        if self._is_same(old, new, plan):
            check_machine(self._aws, self._state)
            return Proposal(Plan(()), None, code_only=False)
        if self.remains or (self.lacks_bucket and len(self._text) > LARGEST_SENT):
            return Proposal(plan, None, code_only=False)
        fast = plan.code_only and not self._force
        change_set = self._proposed(RECORD if fast else _WHOLE, parameters, new=fresh)
        if change_set.empty:
            return Proposal(Plan((), plan.creates), change_set, code_only=False)
        whole = with_entries(plan, change_set.entries, new)
        return Proposal(whole, change_set, fast and whole.code_only)

    # --- the change

    def carry_out(self, proposal: Proposal) -> Deployed:
        """Do what was proposed, and wait until it is done."""
        with self._told():
            return self._carried_out(proposal)

    def standing(self) -> str:
        """What is going on in AWS, for somebody who leaves before the end."""
        return self._began or untouched(self.name)

    def _carried_out(self, proposal: Proposal) -> Deployed:
        new = self._template(self._parameters())
        self._ship(new)
        live = self._code_first(new) if proposal.code_only else ()
        recording = bool(live)
        if not proposal.nothing and proposal.change_set is not None:
            after = self._stack.newest_event()
            self._execute(proposal, proposal.change_set, live=bool(live))
            if not live:
                self._watched(proposal.change_set.stack_id, after, new)
                self._began = f"Stack {self.name!r} is deployed."
        if self._force and not proposal.plan.creates:
            self._tell("Giving all functions their code again ...")
            live = renew(self._aws, new, self._sleep)
        state = self._stack.state()
        self._began = ""
        if state is None:
            raise DeployError(reasons.gone(self.name))
        place = new.outputs.get("CodeLocation", {}).get(
            "Value", ""
        )  # the stack names the earlier one while it is updated
        return Deployed({**state.outputs, "CodeLocation": place}, live, recording)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """An error also says what is going on in AWS, or was done already."""
        try:
            yield
        except AwsError as error:
            if not self._began:
                raise
            raise DeployError(f"{error} {self._began}") from error

    def _going_on(self, work: str) -> str:
        watch = reasons.aws_command(self._aws, "describe-stack-events", self.name)
        return f"The {work} of stack {self.name!r} goes on in AWS. Watch it: {watch}"

    # --- checks

    @property
    def _fresh(self) -> bool:
        """Whether nothing is deployed that could be updated."""
        return self._state is None or self._state.status in (*NEVER_CREATED, ONLY_PLANNED)

    def _settled(self) -> State | None:
        """The state of the stack, once nothing is under way."""
        state = settled(self._aws, self._stack, DeployError, self._tell)
        if state is not None and (why := reasons.blocked(state, self._aws)):
            raise DeployError(why)
        return state

    def _check_names(self) -> None:
        """Refuse what CloudFormation would find out in the middle of a creation: a name that somebody else has."""
        names, had = names_in(self._template(self._parameters())), {} if self._fresh else names_in(self._deployed())
        names = {name: each for name, each in names.items() if name not in had}
        if names:
            check_names(self._aws, self.name, self._flow, names, self._stack.made if self._state else tuple)

    # --- templates

    def _parameters(self) -> dict[str, str]:
        return {**Template(self._text.decode()).parameters, "ImageTag": image_tag(self._bundle)}

    def _template(self, parameters: Mapping[str, str]) -> Template:
        return Template(self._text.decode(), {**self._pseudo(), **parameters})

    def _deployed(self) -> Template:
        assert self._state is not None
        if self._old is None:
            self._old = Template(self._stack.template(), {**self._pseudo(), **self._state.parameters})
        return self._old

    def _pseudo(self) -> dict[str, str]:
        aws = self._aws
        return {"AWS::Region": aws.region, "AWS::AccountId": aws.account, "AWS::Partition": aws.partition}

    def _is_same(self, old: Template | None, new: Template, plan: Plan) -> bool:
        """Whether nothing at all differs, so that CloudFormation need not be asked."""
        if old is None or self._state is None or self._state.status not in _GOOD or not self._state.ours:
            return False
        return not plan.changes and old.outputs == new.outputs and old.parameters == new.parameters

    def _as_argument(self) -> dict[str, str]:
        if len(self._text) <= LARGEST_SENT:
            return {"TemplateBody": self._text.decode()}
        key = template_key(self._bundle.deployment.root.replace("${FlowName}", self._flow), self._text)
        self.bucket.put(key, self._text, "application/yaml")
        return {"TemplateURL": self.bucket.url(key)}

    def _proposed(self, kind: str, parameters: Mapping[str, str], *, new: bool) -> ChangeSet:
        """A change set, which is removed again when this ends before it is executed."""
        name = f"{kind}{uuid.uuid4().hex[:12]}"
        tags = {"lokki:managed": "true", "lokki:flow-name": self._flow}
        try:
            self._open = self._stack.propose(name, self._as_argument(), parameters, tags, new=new)
        except AwsError as error:
            self._open = ChangeSet(name, "") if error.unsure else None
            if new and "already exists" in str(error):
                raise DeployError(
                    f"Stack {self.name!r} was created by somebody else meanwhile: deploy again."
                ) from error
            raise
        self._open = self._stack.examined(self._open)
        return self._open

    # --- steps of the change

    def _ship(self, new: Template) -> None:
        """Bring code to where AWS fetches it: images to their registry, the zip to the bucket."""
        self._shipping.ship(again=self._force)
        package = self._bundle.files.get(ZIP)
        functions = list(new.of(FUNCTION).values())
        if package is None or not functions:
            return
        key = functions[0].properties["Code"]["S3Key"]
        if self.bucket.put(key, package, "application/zip", again=self._force):
            self._tell(f"Uploaded the code: s3://{self.bucket.name}/{key}")
        else:
            self._tell(f"The code is in the bucket already: s3://{self.bucket.name}/{key}")

    def _code_first(self, new: Template) -> tuple[str, ...]:
        """New code for the functions themselves, which takes seconds; CloudFormation does the same again afterwards.

        It has to: its record of the stack names the code of each function. Were the record left behind, an update that
        fails would be rolled back to code older than what runs, and going back to the recorded code would be no
        change to CloudFormation. The change set that is executed next names the code that the functions have by then,
        so nobody need wait for it; the next deployment does, if it comes that soon. Should that update fail,
        CloudFormation puts its old code back and says UPDATE_ROLLBACK_COMPLETE with the old template, so the next plan
        shows the new code as a change once more.
        """
        self._began = (
            f"Functions of stack {self.name!r} are getting new code, some may have it: deploy again to finish."
        )
        try:
            live = renew(self._aws, new, self._sleep)
        except AwsError as error:
            self._tell(f"{error} CloudFormation changes the whole stack instead.")
            return ()
        self._began = (
            f"The functions of stack {self.name!r} have the new code, and CloudFormation does not know: deploy again."
        )
        return live

    def _execute(self, proposal: Proposal, change_set: ChangeSet, *, live: bool) -> None:
        work = "creation" if proposal.plan.creates else "update"
        before, self._began = self._began, self._going_on(work)
        try:
            self._stack.execute(change_set, f"{RECORD if live else _WHOLE}{uuid.uuid4().hex[:12]}")
        except AwsError as error:
            if error.unsure:
                before = f"It is not known whether AWS got so far: {self._began}"
            self._began = before
            state = self._looked_at(error)
            if not _executed(state, change_set):
                raise self._overtaken(error, state) from error
            self._began = self._going_on(work)
        self._open = None

    def _looked_at(self, error: AwsError) -> State | None:
        try:
            return self._stack.state()
        except AwsError:
            raise error from None

    def _overtaken(self, error: AwsError, state: State | None) -> AwsError:
        """Why a change set could not be executed: most likely somebody else was quicker."""
        if state is not None and state.busy:
            return DeployError(reasons.under_way(state, self._stack.work(state.id), self._aws))
        if state is None and not error.unsure:
            return DeployError(reasons.gone(self.name))
        if error.code in ("ChangeSetNotFound", "InvalidChangeSetStatus", "ValidationError"):
            return DeployError(f"Stack {self.name!r} was changed since the plan was made: deploy again. ({error})")
        return error

    def _watched(self, stack_id: str, after: str, names: Template) -> None:
        def tell(event: Event) -> None:
            known = names if self._old is None or event.logical in names.resources else self._old
            if line := reasons.told(event, known):
                self._tell(f"  {line}")

        end: End = self._stack.watch(stack_id, after, tell)
        self._began = ""
        if end.state is None or end.status.startswith("DELETE_"):
            raise DeployError(reasons.gone(self.name))
        if end.status not in _GOOD:
            raise DeployError(reasons.failed(end, self.name, names))


def untouched(stack: str) -> str:
    """That nothing was changed, for somebody who leaves before anything was begun."""
    return f"Nothing was changed: stack {stack!r} is as it was."


def _executed(state: State | None, change_set: ChangeSet) -> bool:
    """Whether the stack is what it is, or is becoming it, by this change set."""
    return state is not None and state.status != ONLY_PLANNED and state.change_set == change_set.id
