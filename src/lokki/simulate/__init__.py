"""Running what was built on this machine, without an AWS account: state machine, functions and Batch jobs."""
