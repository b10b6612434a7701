"""Where components run: this process, a child process, a container, Kubernetes, Lambda, Batch.

`base` says what a platform is and has the one loop that waits for a call. Every platform but `local` sends the call as
an envelope (`twingraph.envelope`) that `worker` opens on the other side.
"""
