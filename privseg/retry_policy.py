"""Which faults of a DAG's task are worth another try; imported by DAG files only."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryRule

__all__ = ["RETRY_POLICY"]

# A fault of the data, the gate or the configuration does not go away by itself; a server or a disk may come back.
RETRY_POLICY = ExceptionRetryPolicy(
    rules=[
        RetryRule(
            exception=[f"privseg.errors.{name}" for name in ("DataError", "GateFailedError", "UsageError")],
            action=RetryAction.FAIL,
            reason="the same input would fail again",
        ),
        RetryRule(
            exception=[f"privseg.errors.{name}" for name in ("ServerUnavailableError", "StorageError")],
            action=RetryAction.RETRY,
            retry_delay=timedelta(minutes=2),
        ),
    ]
)
