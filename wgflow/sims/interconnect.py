"""Time of messages between processes, by latency and bandwidth of the network between them."""

from __future__ import annotations

from typing import NamedTuple


class Interconnect(NamedTuple):
    """Network between ranks.

    Attributes
    ----------
    name : str
        As in a sentence.
    latency : float
        Seconds of an empty message.
    bandwidth : float
        Bytes per second of a long one.
    """

    name: str
    latency: float
    bandwidth: float

    def __str__(self) -> str:
        return f"{self.name} (assumed {1e6 * self.latency:.0f} µs, {self.bandwidth / 1e9:g} GB/s)"

    def message(self, size: float) -> float:
        """Seconds of a message of so many bytes."""
        return self.latency + size / self.bandwidth


# Assumed, from what these networks are sold as; nothing here was measured.
INFINIBAND = Interconnect("100 Gb/s InfiniBand", 2e-6, 12.5e9)
ETHERNET = Interconnect("10 Gb/s Ethernet", 5e-5, 1.25e9)
