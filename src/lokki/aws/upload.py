"""What a deployment puts into the artifact bucket: each thing under a name made of its content, so once.

The bucket has to be in the region of the functions, because Lambda fetches code from there only.
"""

from __future__ import annotations

from hashlib import sha256

from lokki.aws.client import Aws, code_of, refusals
from lokki.errors import AwsError, DeployError, StoreError
from lokki.store.s3 import S3Store

LARGEST_SENT = 51_200  # bytes of a template that CloudFormation takes without a bucket
_NO_LOCATION = "us-east-1"  # the one region that a new bucket may not name


class Bucket:
    """The artifact bucket, which may not be there yet."""

    def __init__(self, aws: Aws, name: str) -> None:
        self.name = name
        self._aws = aws

    def exists(self) -> bool:
        """Whether the bucket is there; an error if it is not ours to use, or in another region."""
        from botocore.exceptions import ClientError

        with refusals(f"look at bucket {self.name!r}", DeployError):
            try:
                answer = self._aws.client("s3").head_bucket(Bucket=self.name)
            except ClientError as error:
                if code_of(error) in ("404", "NoSuchBucket"):
                    return False
                if code_of(error) in ("403", "AccessDenied"):
                    raise self._not_ours() from error
                if code_of(error) in ("301", "PermanentRedirect"):
                    raise self._elsewhere(_region(error.response)) from error
                raise
        region = answer.get("BucketRegion") or _region(answer)
        if region and region != self._aws.region:
            raise self._elsewhere(region)
        return True

    def make(self) -> None:
        """Create it; AWS encrypts what is in it and lets nobody else read it, unless told otherwise."""
        where = {} if self._aws.region == _NO_LOCATION else {"LocationConstraint": self._aws.region}
        given = {"CreateBucketConfiguration": where} if where else {}
        from botocore.exceptions import ClientError

        with refusals(f"create bucket {self.name!r}", DeployError):
            try:
                self._aws.client("s3").create_bucket(Bucket=self.name, **given)
            except ClientError as error:
                if (
                    code_of(error) != "BucketAlreadyOwnedByYou"
                ):  # by who was quicker, or by a request whose answer was lost
                    raise

    def has(self, key: str) -> bool:
        """Whether something lies at this key."""
        from botocore.exceptions import ClientError

        with refusals(f"look for s3://{self.name}/{key}", DeployError):
            try:
                self._aws.client("s3").head_object(Bucket=self.name, Key=key)
            except ClientError as error:
                if code_of(error) in ("404", "NoSuchKey"):
                    return False
                raise
        return True

    def put(self, key: str, data: bytes, content_type: str, *, again: bool = False) -> bool:
        """Bring something to its place, unless it is there; says whether it had to be sent."""
        if not again and self.has(key):
            return False
        store = S3Store(bucket=self.name, prefix="", client=self._aws.client("s3"))
        try:
            store.put_blob(key, data, content_type)
        except StoreError as error:
            raise DeployError(f"The upload failed, and nothing was deployed. {error}{self._unfinished(key)}") from error
        return True

    def _unfinished(self, key: str) -> str:
        """That parts of a large upload could not be removed again, and how to."""
        try:
            with refusals("look for unfinished uploads"):
                answer = self._aws.client("s3").list_multipart_uploads(Bucket=self.name, Prefix=key)
        except AwsError:  # who cannot be told must not be told wrongly
            return ""
        remove = f"aws s3api abort-multipart-upload --bucket {self.name} --key {key} --upload-id"
        return "".join(f" Parts of it are left: {remove} {each['UploadId']}" for each in answer.get("Uploads", ()))

    def url(self, key: str) -> str:
        """The address of a key, as CloudFormation takes it."""
        return f"{self._aws.client('s3').meta.endpoint_url.rstrip('/')}/{self.name}/{key}"

    def _elsewhere(self, region: str) -> DeployError:
        return DeployError(
            f"Bucket {self.name!r} is in {region or 'another region'}, and the flow would be deployed to "
            f"{self._aws.region}: Lambda fetches code from its own region only. Deploy with --region "
            f"{region or '...'}, or name another bucket in aws.artifact_bucket."
        )

    def _not_ours(self) -> DeployError:
        return DeployError(
            f"Bucket {self.name!r} exists, but these credentials may not use it: it belongs to another account, or "
            "s3:ListBucket is missing. Name another bucket in aws.artifact_bucket, or ask for the permission."
        )


def template_key(root: str, text: bytes) -> str:
    """Where a template lies, below a flow's part of the bucket."""
    return f"{root}/artifacts/templates/{sha256(text).hexdigest()[:16]}.yaml"


def _region(answer: object) -> str:
    meta = answer.get("ResponseMetadata", {}) if isinstance(answer, dict) else {}
    return str(meta.get("HTTPHeaders", {}).get("x-amz-bucket-region", ""))
