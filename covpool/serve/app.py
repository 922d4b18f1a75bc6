"""The web application: a page, `GET /model`, and `POST /predict`.

    POST /predict                body: one picture, or multipart/form-data with files named `pictures`
    POST /predict?explain=true   the same, with the explanation map of each face
    POST /predict?detail=true    the same, with the points, the crop and the matrices of each face

Pictures are read in threads, one picture of a request after the other, so that a request does not wait for a larger one
before it. Every answer forbids the browser to load anything from elsewhere.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
from starlette.applications import Starlette
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from covpool.predict import Predictor
from covpool.predict.predictor import Finding
from covpool.serve.answers import Upload, answer, describe
from covpool.serve.limits import MAX_BYTES, MAX_PICTURES, MAX_SECONDS, Gate, Refused, check_origin

PAGE = Path(__file__).resolve().parent / "page"
#: File of the page -> its type.
FILES = {
    "index.html": "text/html; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class _InMemory(MultiPartParser):
    """Files of a request stay in memory: the default writes those above a megabyte to the disk."""

    spool_max_size = MAX_BYTES


def create_app(predictor: Predictor, workers: int) -> Starlette:
    """The application around a predictor.

    Args:
        predictor: the network, shared by all threads.
        workers: threads that read pictures.
    """
    pool = ThreadPoolExecutor(workers, thread_name_prefix="predict")
    gate = Gate()

    @asynccontextmanager
    async def lifespan(_):
        if predictor.model.has_matrices:
            pool.submit(_warm_up, predictor)
        yield
        pool.shutdown(wait=False, cancel_futures=True)

    def page(name: str):
        async def one(_: Request) -> Response:
            return FileResponse(PAGE / name, media_type=FILES[name], headers=HEADERS)

        return one

    async def model(_: Request) -> Response:
        return JSONResponse(describe(predictor), headers=HEADERS)

    async def predict(request: Request) -> Response:
        gate.check_rate(request.client.host if request.client else "")
        gate.enter()
        body = bytearray()
        try:
            await _receive(request, body, gate)
            uploads = await _uploads(request, bytes(body))
            explain, detail = (request.query_params.get(name) == "true" for name in ("explain", "detail"))
            loop, pictures = asyncio.get_running_loop(), []
            for upload in uploads:
                pictures.append(await loop.run_in_executor(pool, answer, predictor, upload, explain, detail))
            found = {"rows": [row for picture in pictures for row in picture.pop("rows")], "pictures": pictures}
            return JSONResponse(found, headers=HEADERS)
        finally:
            gate.leave(len(body))

    def guarded(endpoint):
        async def answered(request: Request) -> Response:
            try:
                check_origin(request.method, request.headers)
                return await endpoint(request)
            except Refused as error:
                headers = dict(HEADERS, **({"Retry-After": "1"} if error.status in (429, 503) else {}))
                return JSONResponse({"error": str(error)}, status_code=error.status, headers=headers)
            except ClientDisconnect:
                return Response(status_code=400)

        return answered

    routes = [Route(f"/{name}", guarded(page(name))) for name in FILES]
    routes += [
        Route("/", guarded(page("index.html"))),
        Route("/model", guarded(model)),
        Route("/predict", guarded(predict), methods=["POST"]),
    ]
    return Starlette(routes=routes, lifespan=lifespan)


def _warm_up(predictor: Predictor) -> None:
    """The first explanation reads the weights again, which takes seconds: not those of the first visitor."""
    side = predictor.model.image_size
    grey = np.full([side, side, 3], 128, np.uint8)
    grey[: side // 2] = 64
    predictor.score([Finding((0.0, 0.0, 1.0, 1.0), None, 0.0, grey)], explain=True)


async def _receive(request: Request, body: bytearray, gate: Gate) -> None:
    """Append the body of a request to `body`. Raises Refused (408, 413, 503)."""
    try:
        async with asyncio.timeout(MAX_SECONDS):
            async for chunk in request.stream():
                if len(body) + len(chunk) > MAX_BYTES:
                    raise Refused(413, f"expected a request of at most {MAX_BYTES // 10**6} MB, got a larger one")
                gate.take(len(chunk))
                body += chunk
    except TimeoutError:
        raise Refused(408, f"expected the whole request within {MAX_SECONDS} seconds") from None


async def _uploads(request: Request, body: bytes) -> list[Upload]:
    """The pictures of a request. Raises Refused (400, 413, 415)."""
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind == "multipart/form-data":

        async def stream():
            yield body

        try:
            form = await _InMemory(request.headers, stream(), max_files=MAX_PICTURES, max_fields=4).parse()
        except MultiPartException as error:
            raise Refused(400, f"the form can't be read: {error.message}") from None
        files = [each for each in form.getlist("pictures") if not isinstance(each, str)]
        uploads = [Upload(each.filename or "picture", await each.read()) for each in files]
    elif kind.startswith("image/") or kind in ("application/octet-stream", ""):
        uploads = [Upload("picture", body)] if body else []
    else:
        raise Refused(415, f"expected a picture or multipart/form-data, got {kind}")
    if not uploads:
        raise Refused(
            400, "expected one or more pictures, as files named `pictures` of a form or as the body, got none"
        )
    return uploads
