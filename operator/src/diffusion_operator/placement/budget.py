"""What the ResourceQuotas of the namespace leave to one deployment while its replicas are handed out."""

from __future__ import annotations

from diffusion_operator.inventory.quota import QuotaLimit, QuotaRoom


class Budget:
    """Counts GPUs and pods down; `blocked` is the limit that refused a replica, None while none did."""

    def __init__(self, room: QuotaRoom) -> None:
        self._gpu_limit = room.gpus[0] if room.gpus else None
        self._pod_limit = room.pods[0] if room.pods else None
        self._gpus = self._gpu_limit.allowed if self._gpu_limit else None
        self._pods = self._pod_limit.allowed if self._pod_limit else None
        self.blocked: QuotaLimit | None = None

    @property
    def gpus(self) -> int | None:
        """GPUs that are left, None without a limit."""
        return self._gpus

    def take(self, gpus_each: int, count: int) -> int:
        """Take up to `count` replicas; returns how many the quota allows."""
        allowed = count
        if self._gpus is not None and self._gpus // gpus_each < allowed:
            allowed, self.blocked = self._gpus // gpus_each, self._gpu_limit
        if self._pods is not None and self._pods < allowed:
            allowed, self.blocked = self._pods, self._pod_limit
        if self._gpus is not None:
            self._gpus -= gpus_each * allowed
        if self._pods is not None:
            self._pods -= allowed
        return allowed

    def allows(self, gpus_each: int) -> bool:
        """Whether one pod more could be created beside all that was taken."""
        return (self._gpus is None or self._gpus >= gpus_each) and (self._pods is None or self._pods >= 1)

    def refuse(self) -> None:
        """Nothing was asked for because not even one GPU is left."""
        self.blocked = self._gpu_limit if self._gpus is not None else self._pod_limit
