"""Keeps the sending link to one peer standing: dials, and dials again.

How long to wait before the next attempt:

* a link that stood for a while was lost: not at all. A peer whose process is gone refuses at once, and
  that is what tells the owner (`on_dial_refused`) without waiting for a heartbeat to stay out;
* an attempt failed, or a link was lost right after it stood: twice as long as before, from
  `_PAUSE_MS_MIN` up to `reconnect_ms_max`, times a random factor, so that nodes do not knock in step;
* something else shows that the peer's state has changed (`hasten`), or a link was ended since what it had
  said of this node holds no longer (`renew`): not at all.
"""

import asyncio
import ipaddress
import logging
import random
import socket
from collections.abc import Callable
from typing import Final, Generic

from respraft.peer.complaints import Complaints
from respraft.peer.handshake import REMOVED, Refusal
from respraft.peer.interface import Introduction, M, Receiver
from respraft.peer.link import SendingLink
from respraft.raft.message import NodeId

_PAUSE_MS_MIN: Final = 20
_STABLE_S: Final = 1.0
"""A link that stood this long was a good one; losing it earlier counts like a failed attempt."""

_LOG: Final = logging.getLogger("respraft.peer")


class Backoff:
    """How long to wait before dialling again, in milliseconds."""

    def __init__(self, *, rng: random.Random, pause_ms_max: int) -> None:
        """Begin with no failure."""
        self._rng = rng
        self._pause_ms_max = pause_ms_max
        self._failures = 0  # In a row.
        self._brief_links = 0  # In a row; outlives successful attempts.

    def after_failure(self) -> float:
        """An attempt came to nothing."""
        self._failures += 1
        return self._pause_ms(self._failures)

    def after_loss(self, stood_s: float) -> float:
        """A link was lost that had stood for `stood_s`."""
        self._failures = 0
        self._brief_links = 0 if stood_s >= _STABLE_S else self._brief_links + 1
        return self._pause_ms(self._brief_links)

    def _pause_ms(self, misfortunes: int) -> float:
        if misfortunes == 0:
            return 0.0
        pause_ms = min(self._pause_ms_max, _PAUSE_MS_MIN << min(misfortunes - 1, 20))
        return pause_ms * self._rng.uniform(0.5, 1.0)


class Dialer(Generic[M]):
    """The sending side of one peer."""

    def __init__(
        self,
        *,
        peer: NodeId,
        address: tuple[str, int],
        new_link: "Callable[[Dialer[M]], SendingLink[M]]",
        receiver: Receiver[M],
        complaints: Complaints,
        backoff: Backoff,
        connect_timeout_ms: int,
    ) -> None:
        """Prepare to dial `peer` at `address`; `new_link` makes the link of each attempt, for its owner."""
        self.up: SendingLink[M] | None = None
        """The link, while it stands."""
        self.ended_by_peer = False
        """The newest link that stood was ended by the other side."""
        self.attempts = 0
        self.errors = 0
        self.oks = 0
        self.up_at = -1.0
        """Loop time at which a link was last established; -1.0 before the first."""
        self.refusal = ""
        """Why the newest attempt was refused by either side; "" if it was not."""
        self._peer = peer
        self._address = address
        self._name = f"node {peer} at {address[0]}:{address[1]}"
        self._new_link = new_link
        self._receiver = receiver
        self._complaints = complaints
        self._backoff = backoff
        self._connect_timeout_ms = connect_timeout_ms
        self._link: SendingLink[M] | None = None  # Connected, standing or not yet.
        self._attempt: asyncio.Task[None] | None = None
        self._redial: asyncio.TimerHandle | None = None
        self._outdated: SendingLink[M] | None = None  # To be ended when it has come so far.
        self._stopped = False
        self._silent = False

    def dial(self) -> None:
        """Begin an attempt."""
        assert self._link is None and not self._stopped
        self._redial = None
        self.attempts += 1
        self._attempt = asyncio.get_running_loop().create_task(self._connect())

    def hasten(self) -> None:
        """End a pause between attempts, if there is one."""
        if self._redial is not None:
            self._redial.cancel()
            self.dial()

    @property
    def introduced(self) -> Introduction | None:
        """What this node has said of itself on the link, standing or not yet; None: there is none."""
        return self._link.handshake.own if self._link is not None else None

    def renew(self) -> None:
        """Have another link in place of this one, whose handshake says what is so by now."""
        self._outdated = self._link
        if self.up is not None:
            self.up.finish("it has said what is not so any more")

    def stop(self, reason: str) -> None:
        """Dial no more, and end the link. If it stood, the owner is told that it went down."""
        self._stop_dialling()
        if self._link is not None:
            self._link.end(reason)

    async def close(self, reason: str, wait_s: float) -> None:
        """Dial no more, and tell the owner nothing more. What was sent may leave within `wait_s`."""
        self._silent = True
        attempt = self._stop_dialling()
        if attempt is not None:
            await asyncio.wait([attempt])
        if (link := self._link) is not None:
            link.flush()
            link.finish(reason)
            _, waiting = await asyncio.wait([link.lost], timeout=wait_s)
            if waiting:
                link.abort()

    # --- LinkOwner

    def link_up(self, link: SendingLink[M]) -> None:
        """The peer has welcomed us."""
        assert link.peer is not None
        self.oks += 1
        self.up = link
        self.up_at = asyncio.get_running_loop().time()
        self.refusal = ""
        self.ended_by_peer = False
        _LOG.info(f"the link to {self._name} is up")
        peer = link.peer
        self._receiver.on_link_up(self._peer, peer.incarnation, peer.start_counter, peer.empty)
        if self._outdated is link:
            self.renew()

    def link_lost(self, link: SendingLink[M]) -> None:
        """Dial again, at once or after a while, and tell the owner what happened."""
        self._link = None
        outdated, self._outdated = self._outdated is link, None
        stood = self.up is link
        self.up = None
        if self._silent:
            return
        self.refusal = link.refusal.text if link.refusal is not None else ""
        if stood:
            self.ended_by_peer = link.ended_by_peer
            level = logging.INFO if outdated else logging.WARNING
            _LOG.log(level, f"the link to {self._name} is down: {link.reason}")
            stood_s = asyncio.get_running_loop().time() - self.up_at
            self._dial_after(0.0 if outdated else self._backoff.after_loss(stood_s))
            self._receiver.on_link_down(self._peer, by_peer=link.ended_by_peer)
        else:
            self._attempt_failed(link.reason, link.refusal)
        if link.refusal is not None and link.refusal.by_peer:
            removed = link.refusal.code == REMOVED
            self._receiver.on_refused(self._peer, link.refusal.text, removed=removed)

    # --- private

    async def _connect(self) -> None:
        error: OSError | None = None
        try:
            async with asyncio.timeout(self._connect_timeout_ms / 1000):
                await connect_to_any(self._begin_link, self._address)
        except OSError as failure:  # TimeoutError is one.
            error = failure
        finally:
            self._attempt = None
            connected = self._link is not None and self._link.connected
            if not connected:
                self._link = None  # Some event loops make the protocol before they connect.
        if error is None or connected or self._stopped:
            return  # What was connected once ends in `link_lost`.
        self.refusal = ""
        self._attempt_failed(str(error) or "no answer", None)
        if isinstance(error, ConnectionRefusedError):
            self._receiver.on_dial_refused(self._peer)

    def _begin_link(self) -> SendingLink[M]:
        self._link = self._new_link(self)
        return self._link

    def _attempt_failed(self, reason: str, refusal: Refusal | None) -> None:
        self.errors += 1
        if refusal is None:
            self._complaints.warn(f"{self._name} cannot be reached: {reason}")
        elif refusal.by_peer:
            self._complaints.warn(f"{self._name} refuses this node: {reason}")
        else:
            self._complaints.warn(f"{self._name} is refused: {reason}")
        self._dial_after(self._backoff.after_failure())

    def _stop_dialling(self) -> asyncio.Task[None] | None:
        self._stopped = True
        if self._redial is not None:
            self._redial.cancel()
            self._redial = None
        if self._attempt is not None:
            self._attempt.cancel()
        return self._attempt

    def _dial_after(self, pause_ms: float) -> None:
        if not self._stopped:
            self._redial = asyncio.get_running_loop().call_later(pause_ms / 1000, self.dial)


async def connect_to_any(new_protocol: Callable[[], asyncio.Protocol], address: tuple[str, int]) -> None:
    """Connect to the first address of a host that answers.

    Raises:
        ConnectionRefusedError: All of them refuse.
        OSError: None of them answers, and not all refuse.
    """
    loop = asyncio.get_running_loop()
    host, port = address
    errors: list[OSError] = []
    for numeric in await _resolve(host):
        try:
            await loop.create_connection(new_protocol, numeric, port)
            return
        except OSError as error:
            errors.append(error)
    raise min(errors, key=lambda error: isinstance(error, ConnectionRefusedError))


async def _resolve(host: str) -> list[str]:
    """Return the numeric addresses of `host`, without a detour if it is one."""
    try:
        return [str(ipaddress.ip_address(host))]
    except ValueError:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for _, _, _, _, address in found))
