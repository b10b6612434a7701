"""Components placed on platforms, composed into pipelines, and recorded in an execution graph."""
