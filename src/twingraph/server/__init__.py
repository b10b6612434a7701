"""TwinGraph served: REST, WebSocket, schedules, and executions in processes of their own.

`app` builds the application, `routes` translate between it and `service`, which has the use cases. `processes` runs
executions, `live` tells who listens what happens in them.
"""
