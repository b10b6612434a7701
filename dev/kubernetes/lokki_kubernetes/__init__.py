"""A small Kubernetes API server for tests, whose pods are real containers of the local Docker engine.

Real are the protocol (the official clients and kubectl talk to it), the official schemas that every manifest is held
against, and the containers, with the pod's image, command, environment, limits and volumes.

| Room | What it is |
|---|---|
| `server`, `protocol`, `request`, `certificate` | the verbs, HTTP over TLS, the faults that tests ask for |
| `store`, `resources`, `patch` | objects with versions, selectors and watches; what is served; patches |
| `schemas`, `rules`, `pod_rules`, `causes` | what a manifest must satisfy |
| `defaults` | what is filled in where one is silent |
| `jobs` | the controller that makes pods for jobs |
| `kubelet`, `pod`, `containers`, `projection`, `status` | pods, as containers |
| `recorder`, `errors` | events, and errors as an API server answers them |
"""
