"""The Auto Scaling group that the instance is in."""

from typing import Any

from preheat.places import aws

REFUSED = "ValidationError"  # an error code


class Group:
    """The instance's group; `hook`: the name of its lifecycle hook for ending instances."""

    def __init__(self, client: Any, name: str, hook: str, instance: str) -> None:
        self._client, self._name, self._hook, self._instance = client, name, hook, instance

    def end_instance(self) -> None:
        """End this instance, and have the group want one fewer. Raises AwsError."""
        try:
            self._terminate(decrement=True)
        except aws.AwsError as error:
            if error.code != REFUSED:
                raise
            # It wants the least it may already, and has more instances than that.
            self._terminate(decrement=False)

    def complete_hook(self) -> None:
        """Tell the group that it need not wait for this instance any more. Raises AwsError."""
        with aws.errors("Auto Scaling CompleteLifecycleAction"):
            self._client.complete_lifecycle_action(
                AutoScalingGroupName=self._name,
                LifecycleHookName=self._hook,
                InstanceId=self._instance,
                LifecycleActionResult="CONTINUE",
            )

    def _terminate(self, *, decrement: bool) -> None:
        with aws.errors("Auto Scaling TerminateInstanceInAutoScalingGroup"):
            self._client.terminate_instance_in_auto_scaling_group(
                InstanceId=self._instance, ShouldDecrementDesiredCapacity=decrement
            )
