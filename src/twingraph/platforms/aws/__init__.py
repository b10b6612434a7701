"""What Lambda and Batch stand on: the account, objects that a call lends out, logs, functions, job definitions, jobs.

`account` is the way to AWS and says its refusals. `parcels` are a call's objects in the bucket, `log_lines` what it
printed. `functions` and `function_failures` belong to Lambda; `definitions`, `watch`, `job_failures` and `entry` to
Batch.
"""
