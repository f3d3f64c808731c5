"""Approves what nodes may ask for, signs what is approved, and takes away what is over."""

from __future__ import annotations

import base64
from datetime import datetime, timedelta

from nodeport.api import certificates
from nodeport.api.certificates import SIGNERS, Wanted
from nodeport.api.meta import JsonObject, NamespacedName, is_being_deleted
from nodeport.api.resources import CERTIFICATE_SIGNING_REQUESTS, ENDPOINTS, NODES, SUBJECT_ACCESS_REVIEWS
from nodeport.api.status import NotFound
from nodeport.client.informer import Informer
from nodeport.client.rest import RestClient
from nodeport.controllers.certificates import reconcile
from nodeport.controllers.certificates.signing import Authority, lifetime, valid_until
from nodeport.controllers.loop import ReconcileLoop
from nodeport.kit.clock import Clock
from nodeport.kit.logs import get_logger

ROW = CERTIFICATE_SIGNING_REQUESTS
_log = get_logger(__name__)


class CertificateController:
    """``authority`` None: nothing is signed here."""

    def __init__(
        self, client: RestClient, *, requests: Informer, authority: Authority | None, clock: Clock
    ) -> None:
        self._client, self._requests, self._authority, self._clock = client, requests, authority, clock
        self.loop: ReconcileLoop[NamespacedName] = ReconcileLoop(
            "certificates", self.reconcile, clock=clock, informers=(requests,), workers=2
        )
        requests.subscribe(lambda change: self.loop.queue.add(NamespacedName.of(change.object)))

    async def run(self) -> None:
        await self.loop.run()

    async def reconcile(self, key: NamespacedName) -> timedelta | None:
        """After how long the request is to be taken away."""
        request = self._requests.get(key)
        if request is None or is_being_deleted(request):
            return None
        left = reconcile.keep_for(request, self._clock.now(), _end_of(request))
        if left <= timedelta():
            await self._client.delete(ROW, key.name, uid=request["metadata"]["uid"])
            return None
        if not certificates.is_decided(request):
            await self._approve(request)
        elif certificates.is_open_for_signing(request):
            await self._sign(request)
        return left

    async def _approve(self, request: JsonObject) -> None:
        wanted = certificates.wanted(certificates.parse(request["spec"]["request"]))
        for subresource in reconcile.approvers(request, wanted):
            answer = await self._client.create(SUBJECT_ACCESS_REVIEWS, reconcile.review(request, subresource))
            if answer["status"].get("allowed"):
                approved = reconcile.approved(request, subresource)
                await self._client.update(ROW, approved, subresource="approval")
                return
        if reconcile.asks_for_own_server(request, wanted):
            await self._approve_server(request, wanted)

    async def _approve_server(self, request: JsonObject, wanted: Wanted) -> None:
        nodes = (await self._client.list_all(NODES))["items"]
        if why := reconcile.serving_fault(wanted, nodes, await self._served_at()):
            name = request["metadata"]["name"]
            _log.warning("certificate signing request %s waits for an administrator: %s", name, why)
            return
        await self._client.update(ROW, reconcile.approved(request, reconcile.SERVER), subresource="approval")

    async def _served_at(self) -> set[str]:
        """The addresses of the API servers, as far as they tell them."""
        try:
            found = await self._client.get(ENDPOINTS, "kubernetes", "default")
        except NotFound:
            return set()
        return {each["ip"] for part in found.get("subsets") or () for each in part.get("addresses") or ()}

    async def _sign(self, request: JsonObject) -> None:
        spec = request["spec"]
        fault_of = SIGNERS.get(spec["signerName"])
        if self._authority is None or fault_of is None:
            return
        found, usages = certificates.parse(spec["request"]), spec.get("usages") or []
        if why := fault_of(certificates.wanted(found), usages):
            await self._client.update(ROW, reconcile.failed(request, why), subresource="status")
            return
        pem = self._authority.sign(found, usages, lifetime(spec.get("expirationSeconds")), self._clock.now())
        signed = {**(request.get("status") or {}), "certificate": base64.b64encode(pem).decode()}
        await self._client.update(ROW, {**request, "status": signed}, subresource="status")


def _end_of(request: JsonObject) -> datetime | None:
    text = (request.get("status") or {}).get("certificate")
    if not text:
        return None
    try:
        return valid_until(base64.b64decode(text))
    except ValueError:  # of a signer of its own, in a form of its own
        return None
