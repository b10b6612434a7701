"""A plugin that lets LocalStack do without containers what the project needs of AWS; `plugins` is where it enters.

| Room | What it is |
|---|---|
| `plugins` | what LocalStack finds |
| `executor` | Lambda functions as processes, from zips and from images |
| `environment`, `process`, `runtime_api` | an execution environment of Lambda: it knows nothing of LocalStack |
| `images` | what an image is on this machine: a folder, or an image of Docker |
| `batch`, `jobs`, `arrays`, `job_definition` | AWS Batch: its API, jobs, arrays of jobs, its resource in templates |
| `maps`, `children` | the distributed map of Step Functions, and the executions that it starts |
| `definitions` | what is read and checked of a state machine before LocalStack reads it |
| `stacks` | what events and removals of CloudFormation lack |
| `corrections` | what LocalStack accepts and does not do, and what it does slowly |
"""
