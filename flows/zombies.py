"""Flow runs whose process is gone without a word: Prefect's server marks them as crashed.

`register` tells the server so, once. A flow run says every half minute that it is there; one that has
not for a minute and a half, and has not ended, is crashed. That frees what it held of concurrency
limits, and `quorumlab reconcile`, due by the clock, schedules its work again.
"""

from __future__ import annotations

from datetime import timedelta

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification

SILENCE_SECONDS = 90
"""Three times as long as between two signs of life, see PREFECT_FLOWS_HEARTBEAT_FREQUENCY in `services`."""
NAME = "quorumlab: flow runs whose process is gone"
BEAT = "prefect.flow-run.heartbeat"
ENDS = {f"prefect.flow-run.{end}" for end in ("Completed", "Failed", "Cancelled", "Crashed")}
MESSAGE = f"no sign of life for {SILENCE_SECONDS} seconds: its process is gone"


def automation() -> AutomationCore:
    """Return what the server is to do."""
    trigger = EventTrigger(
        after={BEAT},
        expect={BEAT, *ENDS},
        match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
        for_each={"prefect.resource.id"},
        posture=Posture.Proactive,
        threshold=1,
        within=timedelta(seconds=SILENCE_SECONDS),
    )
    action = ChangeFlowRunState(state=StateType.CRASHED, message=MESSAGE)
    return AutomationCore(name=NAME, trigger=trigger, actions=[action])


def register() -> None:
    """Register it with the server, in place of what was registered under its name."""
    with get_client(sync_client=True) as client:
        known = client.read_automations_by_name(NAME)
        for surplus in known[1:]:
            client.delete_automation(surplus.id)
        if known:
            client.update_automation(known[0].id, automation())
        else:
            client.create_automation(automation())
