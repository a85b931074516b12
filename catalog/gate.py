"""What comes before Tiled sees a request: routes that it does not guard, endless bodies and subscribers to nothing are
turned away, and questions take turns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from fastapi.responses import JSONResponse

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]

#: Tiled 0.2.20 answers some of these without asking for a key (attributes of any node as Zarr, the graph of entities),
#: and LunchBox uses none.
CLOSED = ("/zarr", "/api/graphql", "/api/v1/webhooks")

#: More than any client of ours sends at once.
MAX_BODY_BYTES = 300_000_000

#: Questions: answers are small, and each is some milliseconds of the one thread that answers them all.
QUESTIONS = ("/api/v1/metadata", "/api/v1/search")
#: As many are answered at once; more of them would be done no earlier, and whatever is written would wait for all.
AT_ONCE = 2
#: s; after it a question goes on beside others, of which some take long.
PATIENCE = 0.5


class _TooLarge(Exception):
    pass


class Gate:
    """ASGI middleware: 404 for what is not served, 413 for a body that is too large; and the order of the others."""

    def __init__(self, app: Any, *, streams: bool) -> None:
        self._app = app
        self._streams = streams  # without a place for them, Tiled fails at the first subscriber
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            return await self._app(scope, receive, send)
        is_closed = scope["path"].startswith(CLOSED)
        if scope["type"] == "websocket":
            if is_closed or not self._streams:
                return await send({"type": "websocket.close", "code": 1008})
            return await self._app(scope, receive, send)
        if is_closed:
            return await JSONResponse({"detail": "LunchBox does not serve this."}, 404)(scope, receive, send)
        too_large = JSONResponse({"detail": f"A request has at most {MAX_BODY_BYTES} bytes; send less at once."}, 413)
        length = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if not length.isdigit() or int(length) > MAX_BODY_BYTES:
            return await too_large(scope, receive, send)
        received, is_answered = 0, False

        async def counted() -> _Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > MAX_BODY_BYTES:
                raise _TooLarge
            return message

        async def answer(message: _Message) -> None:
            nonlocal is_answered
            is_answered = True
            await send(message)

        app = self._in_turn if scope["method"] == "GET" and scope["path"].startswith(QUESTIONS) else self._app
        try:
            await app(scope, counted, answer)
        except _TooLarge:
            if not is_answered:
                await too_large(scope, receive, send)

    async def _in_turn(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        try:
            await asyncio.wait_for(self._turns.acquire(), PATIENCE)
        except TimeoutError:
            return await self._app(scope, receive, send)
        is_over = False

        async def answer(message: _Message) -> None:
            # Who reads the answer slowly keeps nobody waiting.
            nonlocal is_over
            if not is_over:
                is_over = True
                self._turns.release()
            await send(message)

        try:
            await self._app(scope, receive, answer)
        finally:
            if not is_over:
                self._turns.release()
