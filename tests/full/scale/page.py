"""The scale suite's figures as a page for people."""

from __future__ import annotations

from typing import Any

SMALLER = """
**This was a smaller run than the 1,000 deployments that the limits are meant for**, on a machine that others
used at the same time. `DIFFUSION_SCALE_NODES` and `DIFFUSION_SCALE_DEPLOYMENTS` set its size.
"""


def page(document: dict[str, Any], concurrency: int) -> str:
    """docs/results/operator-scale.md."""
    measured, at_once = document["measured"], document["figures"]["atOnce"]
    rows = "\n".join(
        f"| {name} | {measured[name]} | {limit} | {'yes' if measured[name] <= limit else 'no'} |"
        for name, limit in document["limits"].items()
    )
    looks = at_once["reconcilesPerDeployment"]
    return f"""# The operator at scale

{document["deployments"]} deployments in {document["namespaces"]} namespaces on {document["nodes"]} KWOK nodes
of 8 GPUs. One machine of {document["cores"]} cores ran everything: API server, etcd, scheduler, controllers,
KWOK and the operator. One of its cores adds ten million numbers in Python in
{document["tenMillionAdditionsSeconds"]} s; load averages at the end were {document["loadAverage"]}.
Made by `make test-full SUITE=scale`; all figures are in `operator-scale.json`.
{SMALLER if document["deployments"] < 1000 else ""}
| figure | measured | limit | met |
|---|---|---|---|
{rows}

Until all were Ready the operator sent for each deployment {at_once["writesPerDeployment"]} writes
(5 children, statuses and {at_once["eventsPerDeployment"]} Events) and {at_once["readsPerDeployment"]} reads
in {looks} reconciles; the plain client sent only the 5 children. The other Events follow at their own pace,
10 a second. Where the API server is what is slow,
`timesPlainClient` follows the number of requests.

- `timesPlainClient`: apply to all pods Ready, divided by the time in which a plain client with the same
  concurrency ({concurrency}) and limits (200 requests per second, burst 400) applies the same children and
  sees them Ready, in the same run.
- `new…`: with all others at rest, from the watch event of a new `DiffusionDeployment` to the one of its
  Deployment.
- `memoryMiB`: highest resident memory with {document["figures"]["grown"]["pods"]} pods, of the process that
  saw them all come and of one that started with all of them there.
- `startSeconds`: start of the process to ready, with all of that in the cluster.

Some things are not as in production. KWOK pods run nothing, so a stub inside the operator's process answers
for `/v1/report`. Controller manager and scheduler of the test cluster have raised client limits (1,000
requests a second, burst 2,000). So that two cores carry a thousand nodes, for the plain client and for the
operator alike: nodes renew their Leases every 15 minutes and none is taken for lost before two hours
(`--node-monitor-grace-period=2h`); etcd, API server, controller manager and scheduler run with `GOGC=400`;
the scheduler looks at 5 % of the nodes that fit (`percentageOfNodesToScore`); the deprecated `Endpoints` are
not written beside the EndpointSlices; there is no audit log, no kube-proxy and no CoreDNS.
"""
